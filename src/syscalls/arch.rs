//! The `arch=` of a record: `AUDIT_ARCH_*` tokens (`linux/audit.h`).

/// An `AUDIT_ARCH_*` token, known or not; 0 if a log named an unknown architecture.
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
