//! (ABI, number) ↔ name.

use super::arch::Arch;

/// A call in the ABI it was made in.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Call {
    /// The record's architecture.
    pub arch: Arch,
    /// Which call.
    pub id: CallId,
}

/// Which call: any number is possible, since the process chose it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CallId {
    /// As the record gave it.
    Number(u32),
    /// As an interpreted log gave it, where no number of that architecture has the name.
    Name(Box<str>),
}
