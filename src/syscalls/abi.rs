//! The ABI a call was made in: which numbering, and (ABI, number) ↔ name.

use super::arch::Arch;
use super::table;
use super::table::Table;
use std::fmt;

/// `__X32_SYSCALL_BIT` (`asm/unistd.h`): set in the number of every x32 call.
const X32_BIT: u32 = 0x4000_0000;

/// `__NR_OABI_SYSCALL_BASE` (`asm/unistd.h`): added to the number of every call of ARM's old ABI.
const OABI_BASE: u32 = 0x0090_0000;

/// `__NR_SYSCALL_MASK` (`asm/unistd.h`): what the old ABI's base leaves free.
const OABI_MASK: u32 = 0x000f_ffff;

/// A system call ABI: a numbering of calls. One token can stand for two (x86-64 and x32).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Abi {
    /// 64-bit x86.
    X86_64,
    /// 64-bit x86 with 32-bit pointers.
    X32,
    /// 32-bit x86.
    I386,
    /// 64-bit ARM.
    Aarch64,
    /// 32-bit ARM, little-endian.
    Arm,
    /// 32-bit ARM, big-endian.
    ArmEb,
    /// 32-bit PowerPC.
    Ppc,
    /// 64-bit PowerPC, big-endian.
    Ppc64,
    /// 64-bit PowerPC, little-endian.
    Ppc64Le,
    /// 31-bit s390.
    S390,
    /// 64-bit s390.
    S390X,
    /// 32-bit RISC-V.
    Riscv32,
    /// 64-bit RISC-V.
    Riscv64,
    /// 64-bit `LoongArch`.
    Loongarch64,
    /// 32-bit MIPS (o32), big-endian.
    Mips,
    /// 32-bit MIPS (o32), little-endian.
    MipsEl,
    /// 64-bit MIPS (n64), big-endian.
    Mips64,
    /// 64-bit MIPS (n64), little-endian.
    MipsEl64,
    /// 64-bit MIPS with 32-bit pointers (n32), big-endian.
    Mips64N32,
    /// 64-bit MIPS with 32-bit pointers (n32), little-endian.
    MipsEl64N32,
    /// 32-bit PA-RISC.
    Parisc,
    /// 64-bit PA-RISC.
    Parisc64,
    /// Motorola 68000.
    M68k,
    /// `SuperH`, big-endian.
    Sh,
    /// `SuperH`, little-endian.
    ShEl,
    /// 32-bit SPARC.
    Sparc,
    /// 64-bit SPARC.
    Sparc64,
}

/// What is known of an ABI.
struct Facts {
    arch: Arch,
    name: &'static str,
    /// systemd's `seccomp_arch_to_string()`.
    systemd: Option<&'static str>,
    table: &'static Table,
}

/// Spellings beyond [`Abi::name`] and [`Abi::systemd_name`].
///
/// `armeb` is how `ausearch -i` writes *little-endian* ARM, and libseccomp's `sh` is little-endian too.
const OTHER_SPELLINGS: &[(&str, Abi)] = &[
    ("amd64", Abi::X86_64),
    ("i486", Abi::I386),
    ("i586", Abi::I386),
    ("i686", Abi::I386),
    ("armeb", Abi::Arm),
    ("armv5tejl", Abi::Arm),
    ("armv5tel", Abi::Arm),
    ("armv6l", Abi::Arm),
    ("armv7l", Abi::Arm),
    ("armv8l", Abi::Arm),
    ("armv5teb", Abi::ArmEb),
    ("armv6b", Abi::ArmEb),
    ("armv7b", Abi::ArmEb),
    ("armv8b", Abi::ArmEb),
    ("aarch64_be", Abi::Aarch64),
    ("mips64el", Abi::MipsEl64),
    ("powerpc", Abi::Ppc),
    ("powerpc64", Abi::Ppc64),
    ("powerpc64le", Abi::Ppc64Le),
    ("sh", Abi::ShEl),
    ("sh4", Abi::ShEl),
    ("sh4a", Abi::ShEl),
    ("sh4eb", Abi::Sh),
    ("sh4aeb", Abi::Sh),
];

impl Abi {
    const ALL: [Self; 27] = [
        Self::X86_64,
        Self::X32,
        Self::I386,
        Self::Aarch64,
        Self::Arm,
        Self::ArmEb,
        Self::Ppc,
        Self::Ppc64,
        Self::Ppc64Le,
        Self::S390,
        Self::S390X,
        Self::Riscv32,
        Self::Riscv64,
        Self::Loongarch64,
        Self::Mips,
        Self::MipsEl,
        Self::Mips64,
        Self::MipsEl64,
        Self::Mips64N32,
        Self::MipsEl64N32,
        Self::Parisc,
        Self::Parisc64,
        Self::M68k,
        Self::Sh,
        Self::ShEl,
        Self::Sparc,
        Self::Sparc64,
    ];

    #[rustfmt::skip]
    const fn facts(self) -> Facts {
        use table as t;
        const fn facts(arch: Arch, name: &'static str, systemd: Option<&'static str>, table: &'static Table) -> Facts {
            Facts { arch, name, systemd, table }
        }
        match self {
            Self::X86_64 => facts(Arch::X86_64, "x86_64", Some("x86-64"), t::X86_64),
            Self::X32 => facts(Arch::X86_64, "x32", Some("x32"), t::X32),
            Self::I386 => facts(Arch::I386, "i386", Some("x86"), t::I386),
            Self::Aarch64 => facts(Arch::AARCH64, "aarch64", Some("arm64"), t::AARCH64),
            Self::Arm => facts(Arch::ARM, "arm", Some("arm"), t::ARM),
            Self::ArmEb => facts(Arch::ARMEB, "arm-be", None, t::ARM),
            Self::Ppc => facts(Arch::PPC, "ppc", Some("ppc"), t::PPC),
            Self::Ppc64 => facts(Arch::PPC64, "ppc64", Some("ppc64"), t::PPC64),
            Self::Ppc64Le => facts(Arch::PPC64LE, "ppc64le", Some("ppc64-le"), t::PPC64),
            Self::S390 => facts(Arch::S390, "s390", Some("s390"), t::S390),
            Self::S390X => facts(Arch::S390X, "s390x", Some("s390x"), t::S390X),
            Self::Riscv32 => facts(Arch::RISCV32, "riscv32", None, t::RISCV32),
            Self::Riscv64 => facts(Arch::RISCV64, "riscv64", Some("riscv64"), t::RISCV64),
            Self::Loongarch64 => facts(Arch::LOONGARCH64, "loongarch64", Some("loongarch64"), t::LOONGARCH64),
            Self::Mips => facts(Arch::MIPS, "mips", Some("mips"), t::MIPS_O32),
            Self::MipsEl => facts(Arch::MIPSEL, "mipsel", Some("mips-le"), t::MIPS_O32),
            Self::Mips64 => facts(Arch::MIPS64, "mips64", Some("mips64"), t::MIPS_N64),
            Self::MipsEl64 => facts(Arch::MIPSEL64, "mipsel64", Some("mips64-le"), t::MIPS_N64),
            Self::Mips64N32 => facts(Arch::MIPS64N32, "mips64n32", Some("mips64-n32"), t::MIPS_N32),
            Self::MipsEl64N32 => facts(Arch::MIPSEL64N32, "mipsel64n32", Some("mips64-le-n32"), t::MIPS_N32),
            Self::Parisc => facts(Arch::PARISC, "parisc", Some("parisc"), t::PARISC),
            Self::Parisc64 => facts(Arch::PARISC64, "parisc64", Some("parisc64"), t::PARISC64),
            Self::M68k => facts(Arch::M68K, "m68k", None, t::M68K),
            Self::Sh => facts(Arch::SH, "sheb", None, t::SH),
            Self::ShEl => facts(Arch::SHEL, "shel", None, t::SH),
            Self::Sparc => facts(Arch::SPARC, "sparc", None, t::SPARC),
            Self::Sparc64 => facts(Arch::SPARC64, "sparc64", None, t::SPARC64),
        }
    }

    /// Every ABI.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter()
    }

    /// The ABI of calls that this program itself makes.
    #[must_use]
    pub const fn native() -> Self {
        NATIVE
    }

    /// The token that records of this ABI carry.
    #[must_use]
    pub const fn arch(self) -> Arch {
        self.facts().arch
    }

    /// Our name: `ausearch -i`'s where it has one, else systemd's or libseccomp's; unique.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.facts().name
    }

    /// The name for `SystemCallArchitectures=` (`systemd.exec(5)`; read by 252 and 262, except that 252 lacks
    /// `loongarch64`); `None` where systemd has none.
    #[must_use]
    pub const fn systemd_name(self) -> Option<&'static str> {
        self.facts().systemd
    }

    /// The ABI of a name, in any spelling of `ausearch -i`, systemd, `uname -m` or libseccomp.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::all()
            .find(|abi| abi.name() == name || abi.systemd_name() == Some(name))
            .or_else(|| OTHER_SPELLINGS.iter().find(|(spelling, _)| *spelling == name).map(|(_, abi)| *abi))
    }

    /// The name of a number as a record has it; `None` for a number that the kernel does not know.
    #[must_use]
    pub fn call_name(self, number: u32) -> Option<&'static str> {
        match self {
            Self::X32 => look_up(table::X32, number & !X32_BIT),
            Self::Arm | Self::ArmEb if number & !OABI_MASK == OABI_BASE => {
                look_up(table::ARM_OABI, number & OABI_MASK).or_else(|| look_up(table::ARM, number & OABI_MASK))
            }
            _ => look_up(self.facts().table, number),
        }
    }

    /// The number of a name, as a record has it.
    #[must_use]
    pub fn call_number(self, name: &str) -> Option<u32> {
        let number = |table: &Table| table.iter().find(|(_, known)| *known == name).map(|(number, _)| *number);
        match self {
            Self::X32 => number(table::X32).map(|number| number | X32_BIT),
            Self::Arm | Self::ArmEb => {
                number(table::ARM).or_else(|| number(table::ARM_OABI).map(|number| number | OABI_BASE))
            }
            _ => number(self.facts().table),
        }
    }

    /// Every call of this ABI by number, as a record has it.
    pub fn calls(self) -> impl Iterator<Item = (u32, &'static str)> {
        let bit = if self == Self::X32 { X32_BIT } else { 0 };
        self.facts().table.iter().map(move |(number, name)| (number | bit, *name))
    }
}

/// The name of a number.
fn look_up(table: &'static Table, number: u32) -> Option<&'static str> {
    let index = table.binary_search_by_key(&number, |(number, _)| *number).ok()?;
    table.get(index).map(|(_, name)| *name)
}

/// The ABI this program is built for: one constant per target, and no program for a target without.
macro_rules! native {
    ($($abi:ident: $target:meta;)+) => {
        $(#[cfg($target)] const NATIVE: Abi = Abi::$abi;)+
        #[cfg(not(any($($target),+)))]
        compile_error!("the system calls of this architecture are not known");
    };
}

native! {
    X86_64: all(target_arch = "x86_64", target_pointer_width = "64");
    X32: all(target_arch = "x86_64", target_pointer_width = "32");
    I386: target_arch = "x86";
    Aarch64: target_arch = "aarch64";
    Arm: all(target_arch = "arm", target_endian = "little");
    ArmEb: all(target_arch = "arm", target_endian = "big");
    Ppc: target_arch = "powerpc";
    Ppc64: all(target_arch = "powerpc64", target_endian = "big");
    Ppc64Le: all(target_arch = "powerpc64", target_endian = "little");
    S390X: target_arch = "s390x";
    Riscv32: target_arch = "riscv32";
    Riscv64: target_arch = "riscv64";
    Loongarch64: target_arch = "loongarch64";
    Mips: all(any(target_arch = "mips", target_arch = "mips32r6"), target_endian = "big");
    MipsEl: all(any(target_arch = "mips", target_arch = "mips32r6"), target_endian = "little");
    Mips64: all(any(target_arch = "mips64", target_arch = "mips64r6"), target_endian = "big", target_pointer_width = "64");
    MipsEl64: all(any(target_arch = "mips64", target_arch = "mips64r6"), target_endian = "little", target_pointer_width = "64");
    Mips64N32: all(any(target_arch = "mips64", target_arch = "mips64r6"), target_endian = "big", target_pointer_width = "32");
    MipsEl64N32: all(any(target_arch = "mips64", target_arch = "mips64r6"), target_endian = "little", target_pointer_width = "32");
    M68k: target_arch = "m68k";
    Sparc: target_arch = "sparc";
    Sparc64: target_arch = "sparc64";
}

impl Arch {
    /// The token of calls that this program itself makes.
    #[must_use]
    pub const fn native() -> Self {
        Abi::native().arch()
    }

    /// The ABI of a call. The number tells x32 from x86-64, which share a token; -1, which libseccomp and
    /// systemd count as x86-64's (a tracer writes it to skip a call), has bit 30 too.
    #[must_use]
    pub fn abi(self, number: Option<u32>) -> Option<Abi> {
        match number {
            Some(number) if self == Self::X86_64 && number & X32_BIT != 0 && number != u32::MAX => Some(Abi::X32),
            _ => Abi::all().find(|abi| abi.arch() == self),
        }
    }

    /// The name as `ausearch -i` writes it, or, of the architectures it does not know, systemd's or libseccomp's.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        self.abi(None).map(Abi::name)
    }

    /// The token of a name, in any spelling of `ausearch -i`, systemd, `uname -m` or libseccomp.
    ///
    /// `unknown-elf-type(c0000102)` is how `ausearch -i` writes a token that it has no name for. With it comes a
    /// call name that is not to be trusted: see [`Call::interpreted`](super::Call::interpreted).
    #[must_use]
    pub fn from_name(name: &[u8]) -> Option<Self> {
        let name = str::from_utf8(name).ok()?;
        match name.strip_prefix("unknown-elf-type(") {
            Some(token) => u32::from_str_radix(token.strip_suffix(')')?, 16).ok().map(Self),
            None => Abi::from_name(name).map(Abi::arch),
        }
    }
}

/// The name of the architecture, or its token where it is not known.
impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "unknown architecture {:#x}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn x32_numbers_carry_bit_30() {
        assert_eq!(Abi::X32.call_name(X32_BIT + 512), Some("rt_sigaction"));
        assert_eq!(Abi::X32.call_number("rt_sigaction"), Some(X32_BIT + 512));
    }

    #[test]
    fn each_abi_numbers_its_calls_in_its_own_way() {
        let numbers = |name| [Abi::X86_64, Abi::I386, Abi::Aarch64, Abi::MipsEl].map(|abi| abi.call_number(name));
        assert_eq!(numbers("openat"), [Some(257), Some(295), Some(56), Some(4288)]);
        assert_eq!(numbers("open"), [Some(2), Some(5), None, Some(4005)]);
        assert_eq!(Abi::Mips64N32.call_name(6000), Some("read"));
        assert_eq!(Abi::Mips64N32.call_name(0), None);
        assert_eq!(Abi::S390.call_name(102), Some("socketcall"));
        assert_eq!(Abi::S390.call_number("setxattrat"), Some(463), "newer than the last header of that ABI");
    }

    #[test]
    fn arm_has_private_and_old_numbers() {
        assert_eq!(Abi::Arm.call_name(0x000f_0002), Some("cacheflush"));
        assert_eq!(Abi::ArmEb.call_number("set_tls"), Some(0x000f_0005));
        assert_eq!(Abi::Arm.call_name(OABI_BASE + 4), Some("write"));
        assert_eq!(Abi::Arm.call_name(OABI_BASE + 13), Some("time"));
        assert_eq!(Abi::Arm.call_name(OABI_BASE + 0x000f_0002), Some("cacheflush"));
        assert_eq!(Abi::Arm.call_name(13), None);
        assert_eq!(Abi::Arm.call_number("time"), Some(OABI_BASE + 13));
    }

    #[test]
    fn every_call_is_found_by_its_number_and_its_name() {
        for abi in Abi::all() {
            let calls: Vec<_> = abi.calls().collect();
            assert!(calls.len() > 300 && calls.is_sorted_by(|(a, _), (b, _)| a < b), "{}", abi.name());
            for (number, name) in calls {
                assert_eq!((abi.call_name(number), abi.call_number(name)), (Some(name), Some(number)));
            }
            assert_eq!([9999, 0x7fff_ffff, u32::MAX].map(|number| abi.call_name(number)), [None; 3]);
        }
    }

    #[test]
    fn every_abi_has_its_own_name_and_every_name_leads_back() {
        let names: BTreeSet<&str> = Abi::all().map(Abi::name).collect();
        assert_eq!(names.len(), Abi::ALL.len());
        for abi in Abi::all() {
            assert_eq!(Abi::from_name(abi.name()), Some(abi));
            assert_eq!(abi.systemd_name().map(Abi::from_name), abi.systemd_name().map(|_| Some(abi)));
        }
        for (spelling, _) in OTHER_SPELLINGS {
            assert!(Abi::all().all(|abi| abi.name() != *spelling && abi.systemd_name() != Some(spelling)));
        }
    }

    #[test]
    fn x32_is_x86_64_with_bit_30() {
        assert_eq!(Arch::X86_64.abi(None), Some(Abi::X86_64));
        assert_eq!(Arch::X86_64.abi(Some(41)), Some(Abi::X86_64));
        assert_eq!(Arch::X86_64.abi(Some(X32_BIT + 41)), Some(Abi::X32));
        assert_eq!(Arch::X86_64.abi(Some(u32::MAX)), Some(Abi::X86_64));
        assert_eq!(Arch::I386.abi(Some(X32_BIT + 41)), Some(Abi::I386));
    }

    #[test]
    fn a_token_has_a_name_and_a_name_a_token() {
        for abi in Abi::all().filter(|abi| *abi != Abi::X32) {
            assert_eq!(abi.arch().abi(None), Some(abi));
            assert_eq!(Arch::from_name(abi.name().as_bytes()), Some(abi.arch()));
        }
        assert_eq!(Arch::from_name(b"x32"), Some(Arch::X86_64));
        assert_eq!(Arch::from_name(b"unknown-elf-type(c0000102)"), Some(Arch::LOONGARCH64));
        assert_eq!(Arch::from_name(b"armeb"), Some(Arch::ARM), "ausearch's word for 40000028");
        for unknown in [&b""[..], b"\xff", b"pdp11", b"unknown-elf-type(", b"unknown-elf-type()"] {
            assert_eq!(Arch::from_name(unknown), None);
        }
        assert_eq!(Arch::I386.to_string(), "i386");
        assert_eq!(Arch(0xdead_beef).to_string(), "unknown architecture 0xdeadbeef");
        assert_eq!(Arch::native().abi(Some(0)).map(Abi::arch), Some(Arch::native()));
    }
}
