//! One call, identified by number or by name.

use super::abi::Abi;
use super::arch::Arch;
use crate::audit::text::Escaped;
use std::fmt;

/// A call in the ABI it was made in.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Call {
    /// The record's architecture.
    pub arch: Arch,
    /// The call.
    pub id: CallId,
}

/// Identifies a call. Any number is possible: the process chose it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CallId {
    /// The number in the record.
    Number(u32),
    /// The name in an interpreted log, if the architecture has no call of that name; empty if the log's name is
    /// unreliable.
    Name(Box<str>),
}

impl Call {
    /// Identifies a call by the number in a record.
    #[must_use]
    pub fn numbered(arch: Arch, number: u32) -> Self {
        Self { arch, id: CallId::Number(number) }
    }

    /// Identifies a call by name, as its number if the architecture has a call of that name.
    ///
    /// So the same call is equal, whether a record has its number or its name.
    #[must_use]
    pub fn named(arch: Arch, name: &str) -> Self {
        match arch.abi(None).and_then(|abi| abi.call_number(name)) {
            Some(number) => Self::numbered(arch, number),
            None => Self { arch, id: CallId::Name(name.into()) },
        }
    }

    /// Identifies a call by the words of `ausearch -i`.
    ///
    /// `ausearch` prints a number without a name as `unknown-syscall(9999)`. For an unknown architecture
    /// (`unknown-elf-type(c0000102)`), it looks the number up in the table of its own machine (seen with audit 3.0.9).
    /// That name is of a different call, so it is dropped.
    #[must_use]
    pub(crate) fn interpreted(arch: &[u8], call: &[u8]) -> Self {
        let is_unknown_arch = arch.starts_with(b"unknown-elf-type(");
        let arch = Arch::from_name(arch).unwrap_or(Arch(0));
        let call = String::from_utf8_lossy(call);
        let number = call.strip_prefix("unknown-syscall(").and_then(|rest| rest.strip_suffix(')')).unwrap_or(&call);
        let number = number.parse::<u32>().ok().or_else(|| number.parse::<i32>().ok().map(i32::cast_unsigned));
        match number {
            Some(number) => Self::numbered(arch, number),
            None if is_unknown_arch => Self { arch, id: CallId::Name(Box::default()) },
            None => Self::named(arch, &call),
        }
    }

    /// Returns the name. A name from a log may be in no table: escape it before showing it.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match &self.id {
            CallId::Number(number) => self.abi()?.call_name(*number),
            CallId::Name(name) => Some(name.as_ref()).filter(|name| !name.is_empty()),
        }
    }

    /// Returns the number that a record has.
    #[must_use]
    pub fn number(&self) -> Option<u32> {
        match self.id {
            CallId::Number(number) => Some(number),
            CallId::Name(_) => None,
        }
    }

    /// Returns the ABI of the call; `None` for an unknown architecture.
    #[must_use]
    pub fn abi(&self) -> Option<Abi> {
        self.arch.abi(self.number())
    }
}

/// Prints the name, escaped, or else the number, signed as in the kernel's `syscall=`.
impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.name(), self.number()) {
            (Some(name), _) => Escaped(name.as_bytes()).fmt(f),
            (None, Some(number)) => write!(f, "unknown call {}", number.cast_signed()),
            (None, None) => f.write_str("unknown call"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn call_by_name_equals_call_by_number() {
        assert_eq!(Call::named(Arch::X86_64, "socket"), Call::numbered(Arch::X86_64, 41));
        assert_eq!(Call::interpreted(b"x86_64", b"socket"), Call::numbered(Arch::X86_64, 41));
        assert_eq!(Call::interpreted(b"i386", b"socketcall"), Call::numbered(Arch::I386, 102));
        assert_eq!(Call::numbered(Arch::I386, 102).name(), Some("socketcall"));
    }

    #[test]
    fn unknown_name_is_kept_and_printed_escaped() {
        let call = Call::named(Arch::X86_64, "so\x1b[2Jcket");
        assert_eq!(call.number(), None);
        assert_eq!(call.abi(), Some(Abi::X86_64));
        assert_eq!(call.to_string(), "so\\x1b[2Jcket");
        assert_eq!(Call::named(Arch(0), "socket").to_string(), "socket");
    }

    #[test]
    fn unknown_number_is_printed_as_kernel_prints_it() {
        let shown = |number| Call::numbered(Arch::X86_64, number).to_string();
        assert_eq!(shown(9999), "unknown call 9999");
        assert_eq!(shown(u32::MAX), "unknown call -1");
        assert_eq!(Call::numbered(Arch(1), 41).to_string(), "unknown call 41");
        assert_eq!(Call::interpreted(b"x86_64", b"unknown-syscall(-1)"), Call::numbered(Arch::X86_64, u32::MAX));
    }

    #[test]
    fn interpreted_number_with_bit_30_is_x32_call() {
        let call = Call::interpreted(b"x86_64", b"unknown-syscall(1073741825)");
        assert_eq!((call.abi(), call.name()), (Some(Abi::X32), Some("write")));
    }

    #[test]
    fn interpreted_name_of_unknown_architecture_is_dropped() {
        let call = Call::interpreted(b"unknown-elf-type(c0000102)", b"getcwd");
        assert_eq!((call.abi(), call.name(), call.number()), (Some(Abi::Loongarch64), None, None));
        assert_eq!(call.to_string(), "unknown call");
    }
}
