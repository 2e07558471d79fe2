//! The ABI of a call: which numbering it uses, and (ABI, number) ↔ name.

use super::arch::Arch;
use super::table;
use super::table::CallTable;
use std::collections::HashMap;
use std::fmt;
use std::sync::OnceLock;

/// `__X32_SYSCALL_BIT` (`asm/unistd.h`): set in the number of every x32 call.
const X32_BIT: u32 = 0x4000_0000;

/// `__NR_OABI_SYSCALL_BASE` (`asm/unistd.h`): added to the number of every call of ARM's old ABI.
const OABI_BASE: u32 = 0x0090_0000;

/// `__NR_SYSCALL_MASK` (`asm/unistd.h`): the bits of a number below the old ABI's base.
const OABI_MASK: u32 = 0x000f_ffff;

/// What the program knows about an ABI.
struct Facts {
    arch: Arch,
    name: &'static str,
    /// The name that systemd's `seccomp_arch_to_string()` returns.
    systemd_name: Option<&'static str>,
    table: &'static CallTable,
}

/// Defines [`Abi`], one row per ABI: its token, its name, systemd's name, its table of calls, and the target
/// that uses it. The program does not build for a target without a row.
macro_rules! abis {
    ($($(#[$doc:meta])+ $abi:ident: $arch:ident, $name:literal, $systemd:expr, $table:ident $(, $target:meta)?;)+) => {
        /// A system call ABI: a numbering of calls. One token can stand for two (x86-64 and x32).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Abi {
            $($(#[$doc])+ $abi,)+
        }

        impl Abi {
            const ALL: &'static [Self] = &[$(Self::$abi),+];

            const fn facts(self) -> Facts {
                match self {
                    $(Self::$abi => {
                        Facts { arch: Arch::$arch, name: $name, systemd_name: $systemd, table: table::$table }
                    })+
                }
            }
        }

        $($(#[cfg($target)] const NATIVE: Abi = Abi::$abi;)?)+
        #[cfg(not(any($($($target,)?)+)))]
        compile_error!("the system calls of this architecture are unknown");
    };
}

abis! {
    /// 64-bit x86.
    X86_64: X86_64, "x86_64", Some("x86-64"), X86_64, all(target_arch = "x86_64", target_pointer_width = "64");
    /// 64-bit x86 with 32-bit pointers.
    X32: X86_64, "x32", Some("x32"), X32, all(target_arch = "x86_64", target_pointer_width = "32");
    /// 32-bit x86.
    I386: I386, "i386", Some("x86"), I386, target_arch = "x86";
    /// 64-bit ARM.
    Aarch64: AARCH64, "aarch64", Some("arm64"), AARCH64, target_arch = "aarch64";
    /// 32-bit ARM, little-endian.
    Arm: ARM, "arm", Some("arm"), ARM, all(target_arch = "arm", target_endian = "little");
    /// 32-bit ARM, big-endian.
    ArmEb: ARMEB, "arm-be", None, ARM, all(target_arch = "arm", target_endian = "big");
    /// 32-bit PowerPC.
    Ppc: PPC, "ppc", Some("ppc"), PPC, target_arch = "powerpc";
    /// 64-bit PowerPC, big-endian.
    Ppc64: PPC64, "ppc64", Some("ppc64"), PPC64, all(target_arch = "powerpc64", target_endian = "big");
    /// 64-bit PowerPC, little-endian.
    Ppc64Le: PPC64LE, "ppc64le", Some("ppc64-le"), PPC64, all(target_arch = "powerpc64", target_endian = "little");
    /// 31-bit s390.
    S390: S390, "s390", Some("s390"), S390;
    /// 64-bit s390.
    S390X: S390X, "s390x", Some("s390x"), S390X, target_arch = "s390x";
    /// 32-bit RISC-V.
    Riscv32: RISCV32, "riscv32", None, RISCV32, target_arch = "riscv32";
    /// 64-bit RISC-V.
    Riscv64: RISCV64, "riscv64", Some("riscv64"), RISCV64, target_arch = "riscv64";
    /// 64-bit `LoongArch`.
    Loongarch64: LOONGARCH64, "loongarch64", Some("loongarch64"), LOONGARCH64, target_arch = "loongarch64";
    /// 32-bit MIPS (o32), big-endian.
    Mips: MIPS, "mips", Some("mips"), MIPS_O32,
        all(any(target_arch = "mips", target_arch = "mips32r6"), target_endian = "big");
    /// 32-bit MIPS (o32), little-endian.
    MipsEl: MIPSEL, "mipsel", Some("mips-le"), MIPS_O32,
        all(any(target_arch = "mips", target_arch = "mips32r6"), target_endian = "little");
    /// 64-bit MIPS (n64), big-endian.
    Mips64: MIPS64, "mips64", Some("mips64"), MIPS_N64,
        all(any(target_arch = "mips64", target_arch = "mips64r6"), target_endian = "big", target_pointer_width = "64");
    /// 64-bit MIPS (n64), little-endian.
    MipsEl64: MIPSEL64, "mipsel64", Some("mips64-le"), MIPS_N64,
        all(
            any(target_arch = "mips64", target_arch = "mips64r6"), target_endian = "little", target_pointer_width = "64"
        );
    /// 64-bit MIPS with 32-bit pointers (n32), big-endian.
    Mips64N32: MIPS64N32, "mips64n32", Some("mips64-n32"), MIPS_N32,
        all(any(target_arch = "mips64", target_arch = "mips64r6"), target_endian = "big", target_pointer_width = "32");
    /// 64-bit MIPS with 32-bit pointers (n32), little-endian.
    MipsEl64N32: MIPSEL64N32, "mipsel64n32", Some("mips64-le-n32"), MIPS_N32,
        all(
            any(target_arch = "mips64", target_arch = "mips64r6"), target_endian = "little", target_pointer_width = "32"
        );
    /// 32-bit PA-RISC.
    Parisc: PARISC, "parisc", Some("parisc"), PARISC;
    /// 64-bit PA-RISC.
    Parisc64: PARISC64, "parisc64", Some("parisc64"), PARISC64;
    /// Motorola 68000.
    M68k: M68K, "m68k", None, M68K, target_arch = "m68k";
    /// `SuperH`, big-endian.
    Sh: SH, "sheb", None, SH;
    /// `SuperH`, little-endian.
    ShEl: SHEL, "shel", None, SH;
    /// 32-bit SPARC.
    Sparc: SPARC, "sparc", None, SPARC, target_arch = "sparc";
    /// 64-bit SPARC.
    Sparc64: SPARC64, "sparc64", None, SPARC64, target_arch = "sparc64";
}

/// Spellings other than [`Abi::name`] and [`Abi::systemd_name`].
///
/// `ausearch -i` writes `armeb` for *little-endian* ARM. libseccomp's `sh` is little-endian, too.
const OTHER_SPELLINGS: &[(&str, Abi)] = &[
    ("amd64", Abi::X86_64),
    ("i486", Abi::I386),
    ("i586", Abi::I386),
    ("i686", Abi::I386),
    ("armeb", Abi::Arm),
    // Debian's names of its two ports.
    ("armel", Abi::Arm),
    ("armhf", Abi::Arm),
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
    /// Returns every ABI.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::ALL.iter().copied()
    }

    /// Returns the ABI that this program itself uses.
    #[must_use]
    pub const fn native() -> Self {
        NATIVE
    }

    /// Returns the token in records of this ABI.
    #[must_use]
    pub const fn arch(self) -> Arch {
        self.facts().arch
    }

    /// Returns a unique name: that of `ausearch -i`, else systemd's or libseccomp's.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.facts().name
    }

    /// Returns the name in `SystemCallArchitectures=` (`systemd.exec(5)`); `None` if systemd has none.
    ///
    /// systemd 252 and 262 read these names, except that 252 lacks `loongarch64`.
    #[must_use]
    pub(crate) const fn systemd_name(self) -> Option<&'static str> {
        self.facts().systemd_name
    }

    /// Returns the native ABI of the kernel that recorded a call of this ABI. `compat` is the record's field: whether
    /// the call was a 32-bit one on a 64-bit kernel (`audit_seccomp` prints `in_compat_syscall()`). `None` without the
    /// field, if both kinds of kernel have the ABI.
    #[must_use]
    pub fn native_of_kernel(self, compat: Option<bool>) -> Option<Self> {
        // No kernel has x32 or n32 as its only ABI, and a kernel without CONFIG_X86_X32_ABI records x32 as compat=0.
        let wide = match self {
            Self::X32 => return Some(Self::X86_64),
            Self::Mips64N32 => return Some(Self::Mips64),
            Self::MipsEl64N32 => return Some(Self::MipsEl64),
            Self::I386 => Self::X86_64,
            Self::Arm | Self::ArmEb => Self::Aarch64,
            Self::Ppc => Self::Ppc64,
            Self::S390 => Self::S390X,
            Self::Riscv32 => Self::Riscv64,
            Self::Mips => Self::Mips64,
            Self::MipsEl => Self::MipsEl64,
            Self::Parisc => Self::Parisc64,
            Self::Sparc => Self::Sparc64,
            _ => return Some(self),
        };
        compat.map(|compat| if compat { wide } else { self })
    }

    /// Finds an ABI by any name that `ausearch -i`, systemd, `uname -m`, libseccomp or Debian uses.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::all()
            .find(|abi| abi.name() == name || abi.systemd_name() == Some(name))
            .or_else(|| OTHER_SPELLINGS.iter().find(|(spelling, _)| *spelling == name).map(|(_, abi)| *abi))
    }

    /// Returns the name of a call; `None` for a number that the kernel does not know.
    #[must_use]
    pub fn call_name(self, number: u32) -> Option<&'static str> {
        match self {
            Self::X32 => find_name(table::X32, number & !X32_BIT),
            Self::Arm | Self::ArmEb if number & !OABI_MASK == OABI_BASE => {
                find_name(table::ARM_OABI, number & OABI_MASK).or_else(|| find_name(table::ARM, number & OABI_MASK))
            }
            _ => find_name(self.facts().table, number),
        }
    }

    /// Returns the number that a record has for a call.
    #[must_use]
    pub fn call_number(self, name: &str) -> Option<u32> {
        static NUMBERS: [OnceLock<HashMap<&str, u32>>; Abi::ALL.len()] = [const { OnceLock::new() }; Abi::ALL.len()];
        NUMBERS.get(self as usize)?.get_or_init(|| self.numbers_by_name()).get(name).copied()
    }

    fn numbers_by_name(self) -> HashMap<&'static str, u32> {
        let old = match self {
            Self::Arm | Self::ArmEb => table::ARM_OABI,
            _ => &[],
        };
        let old = old.iter().map(|(number, name)| (*name, number | OABI_BASE));
        // The present table comes last, so that its numbers stay.
        old.chain(self.calls().map(|(number, name)| (name, number))).collect()
    }

    /// Returns every call of this ABI with the number that a record has, sorted by number.
    pub fn calls(self) -> impl Iterator<Item = (u32, &'static str)> {
        let bit = if self == Self::X32 { X32_BIT } else { 0 };
        self.facts().table.iter().map(move |(number, name)| (number | bit, *name))
    }
}

fn find_name(table: &'static CallTable, number: u32) -> Option<&'static str> {
    let index = table.binary_search_by_key(&number, |(number, _)| *number).ok()?;
    table.get(index).map(|(_, name)| *name)
}

impl Arch {
    /// Returns the token of calls that this program itself makes.
    #[must_use]
    pub const fn native() -> Self {
        Abi::native().arch()
    }

    /// Returns the ABI of a call; `None` for an unknown token.
    ///
    /// x32 and x86-64 share a token, and the number tells them apart. -1 has x32's bit 30, too, but libseccomp and
    /// systemd count it as x86-64's: a tracer writes it to skip a call.
    #[must_use]
    pub fn abi(self, number: Option<u32>) -> Option<Abi> {
        match number {
            Some(number) if self == Self::X86_64 && number & X32_BIT != 0 && number != u32::MAX => Some(Abi::X32),
            _ => Abi::all().find(|abi| abi.arch() == self),
        }
    }

    /// Returns the name that `ausearch -i` prints, else systemd's or libseccomp's.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        self.abi(None).map(Abi::name)
    }

    /// Finds a token by any name that `ausearch -i`, systemd, `uname -m`, libseccomp or Debian uses.
    ///
    /// `ausearch -i` prints a token without a name as `unknown-elf-type(c0000102)`. The call name next to it is wrong:
    /// see [`Call::interpreted`](super::Call::interpreted).
    #[must_use]
    pub fn from_name(name: &[u8]) -> Option<Self> {
        let name = str::from_utf8(name).ok()?;
        match name.strip_prefix("unknown-elf-type(") {
            Some(token) => u32::from_str_radix(token.strip_suffix(')')?, 16).ok().map(Self),
            None => Abi::from_name(name).map(Abi::arch),
        }
    }
}

/// Prints the name of the architecture, or the token if it is unknown.
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
    fn native_abi_follows_from_compat_flag_of_record() {
        for (abi, compat, native) in [
            (Abi::Aarch64, Some(false), Some(Abi::Aarch64)),
            (Abi::Arm, Some(false), Some(Abi::Arm)),
            (Abi::Arm, Some(true), Some(Abi::Aarch64)),
            (Abi::Arm, None, None),
            (Abi::I386, Some(true), Some(Abi::X86_64)),
            (Abi::X32, Some(true), Some(Abi::X86_64)),
            (Abi::X32, Some(false), Some(Abi::X86_64)),
            (Abi::Mips64N32, Some(true), Some(Abi::Mips64)),
            (Abi::Riscv64, None, Some(Abi::Riscv64)),
            (Abi::S390, Some(true), Some(Abi::S390X)),
        ] {
            assert_eq!(abi.native_of_kernel(compat), native, "{} {compat:?}", abi.name());
        }
    }

    #[test]
    fn x32_call_number_has_bit_30() {
        assert_eq!(Abi::X32.call_name(X32_BIT + 512), Some("rt_sigaction"));
        assert_eq!(Abi::X32.call_number("rt_sigaction"), Some(X32_BIT + 512));
    }

    #[test]
    fn same_call_in_other_abi_has_other_number() {
        let numbers = |name| [Abi::X86_64, Abi::I386, Abi::Aarch64, Abi::MipsEl].map(|abi| abi.call_number(name));
        assert_eq!(numbers("openat"), [Some(257), Some(295), Some(56), Some(4288)]);
        assert_eq!(numbers("open"), [Some(2), Some(5), None, Some(4005)]);
        assert_eq!(Abi::Mips64N32.call_name(6000), Some("read"));
        assert_eq!(Abi::Mips64N32.call_name(0), None);
        assert_eq!(Abi::S390.call_name(102), Some("socketcall"));
        assert_eq!(Abi::S390.call_number("setxattrat"), Some(463), "newer than that ABI's last header");
    }

    #[test]
    fn arm_private_and_old_abi_numbers_have_names() {
        assert_eq!(Abi::Arm.call_name(0x000f_0002), Some("cacheflush"));
        assert_eq!(Abi::ArmEb.call_number("set_tls"), Some(0x000f_0005));
        assert_eq!(Abi::Arm.call_name(OABI_BASE + 4), Some("write"));
        assert_eq!(Abi::Arm.call_name(OABI_BASE + 13), Some("time"));
        assert_eq!(Abi::Arm.call_name(OABI_BASE + 0x000f_0002), Some("cacheflush"));
        assert_eq!(Abi::Arm.call_name(13), None);
        assert_eq!(Abi::Arm.call_number("time"), Some(OABI_BASE + 13));
    }

    #[test]
    fn every_call_of_every_abi_is_found_by_number_and_name() {
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
    fn every_abi_has_unique_name_that_leads_back_to_it() {
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
    fn x86_64_token_with_bit_30_in_number_is_x32() {
        assert_eq!(Arch::X86_64.abi(None), Some(Abi::X86_64));
        assert_eq!(Arch::X86_64.abi(Some(41)), Some(Abi::X86_64));
        assert_eq!(Arch::X86_64.abi(Some(X32_BIT + 41)), Some(Abi::X32));
        assert_eq!(Arch::X86_64.abi(Some(u32::MAX)), Some(Abi::X86_64));
        assert_eq!(Arch::I386.abi(Some(X32_BIT + 41)), Some(Abi::I386));
    }

    #[test]
    fn every_token_has_name_that_leads_back_to_it() {
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
