//! The architecture a record names: `AUDIT_ARCH_*` tokens (`linux/audit.h`).

use super::abi::{Abi, X32_BIT};
use std::fmt;

/// An `AUDIT_ARCH_*` token, known or not; 0 where a log named none that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Arch(pub u32);

/// The tokens, named as in `linux/audit.h`: ELF machine, bit 31 for 64 bits, bit 30 for
/// little-endian, bit 29 for the MIPS n32 convention.
#[expect(missing_docs, reason = "the names are the header's own")]
impl Arch {
    pub const X86_64: Self = Self(0xc000_003e);
    pub const I386: Self = Self(0x4000_0003);
    pub const AARCH64: Self = Self(0xc000_00b7);
    pub const ARM: Self = Self(0x4000_0028);
    pub const ARMEB: Self = Self(0x28);
    pub const PPC: Self = Self(0x14);
    pub const PPC64: Self = Self(0x8000_0015);
    pub const PPC64LE: Self = Self(0xc000_0015);
    pub const S390: Self = Self(0x16);
    pub const S390X: Self = Self(0x8000_0016);
    pub const RISCV32: Self = Self(0x4000_00f3);
    pub const RISCV64: Self = Self(0xc000_00f3);
    pub const LOONGARCH64: Self = Self(0xc000_0102);
    pub const MIPS: Self = Self(0x8);
    pub const MIPSEL: Self = Self(0x4000_0008);
    pub const MIPS64: Self = Self(0x8000_0008);
    pub const MIPSEL64: Self = Self(0xc000_0008);
    pub const MIPS64N32: Self = Self(0xa000_0008);
    pub const MIPSEL64N32: Self = Self(0xe000_0008);
    pub const PARISC: Self = Self(0xf);
    pub const PARISC64: Self = Self(0x8000_000f);
    pub const M68K: Self = Self(0x4);
    pub const SH: Self = Self(0x2a);
    pub const SHEL: Self = Self(0x4000_002a);
    pub const SPARC: Self = Self(0x2);
    pub const SPARC64: Self = Self(0x8000_002b);
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
