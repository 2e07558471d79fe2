//! The ABI a call was made in: `AUDIT_ARCH_*` tokens (`linux/audit.h`) and their names.

/// An `AUDIT_ARCH_*` token, known or not; 0 where a log named none that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Arch(pub u32);

/// A system call ABI: a numbering of calls. One token can stand for two (x86-64 and x32).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Abi {
    /// 64-bit x86.
    X86_64,
}
