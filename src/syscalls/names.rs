//! One call, told by number or by name.

use super::abi::Abi;
use super::arch::Arch;
use crate::audit::text::Escaped;
use std::fmt;

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
    /// As an interpreted log gave it, where no number of that architecture has the name; empty where the
    /// log's word cannot be trusted.
    Name(Box<str>),
}

impl Call {
    /// A call by its number, as a record has it.
    #[must_use]
    pub fn numbered(arch: Arch, number: u32) -> Self {
        Self { arch, id: CallId::Number(number) }
    }

    /// A call by its name: its number, where the architecture has a call of that name, so that the same call
    /// told in either way is the same.
    #[must_use]
    pub fn named(arch: Arch, name: &str) -> Self {
        match arch.abi(None).and_then(|abi| abi.call_number(name)) {
            Some(number) => Self::numbered(arch, number),
            None => Self { arch, id: CallId::Name(name.into()) },
        }
    }

    /// A call in the words of `ausearch -i`.
    ///
    /// A number that has no name there reads `unknown-syscall(9999)`. Where the architecture has none
    /// (`unknown-elf-type(c0000102)`), the name is the number's in the table of the machine that ran ausearch
    /// (seen with audit 3.0.9): a different call, so the word is dropped.
    #[must_use]
    pub fn interpreted(arch: &[u8], call: &[u8]) -> Self {
        let foreign = arch.starts_with(b"unknown-elf-type(");
        let arch = Arch::from_name(arch).unwrap_or(Arch(0));
        let call = String::from_utf8_lossy(call);
        let number = call.strip_prefix("unknown-syscall(").and_then(|rest| rest.strip_suffix(')')).unwrap_or(&call);
        let number = number.parse::<u32>().ok().or_else(|| number.parse::<i32>().ok().map(i32::cast_unsigned));
        match number {
            Some(number) => Self::numbered(arch, number),
            None if foreign => Self { arch, id: CallId::Name(Box::default()) },
            None => Self::named(arch, &call),
        }
    }

    /// The name. One that is in no table is a log's own word: escape it before it is shown.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match &self.id {
            CallId::Number(number) => self.abi()?.call_name(*number),
            CallId::Name(name) => Some(name.as_ref()).filter(|name| !name.is_empty()),
        }
    }

    /// The number, as a record has it.
    #[must_use]
    pub fn number(&self) -> Option<u32> {
        match self.id {
            CallId::Number(number) => Some(number),
            CallId::Name(_) => None,
        }
    }

    /// The ABI the call was made in; `None` for an architecture that is not known.
    #[must_use]
    pub fn abi(&self) -> Option<Abi> {
        self.arch.abi(self.number())
    }
}

/// The name, escaped; the number where there is none, signed as the kernel's `syscall=` is.
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
    fn a_call_is_the_same_by_name_and_by_number() {
        assert_eq!(Call::named(Arch::X86_64, "socket"), Call::numbered(Arch::X86_64, 41));
        assert_eq!(Call::interpreted(b"x86_64", b"socket"), Call::numbered(Arch::X86_64, 41));
        assert_eq!(Call::interpreted(b"i386", b"socketcall"), Call::numbered(Arch::I386, 102));
        assert_eq!(Call::numbered(Arch::I386, 102).name(), Some("socketcall"));
    }

    #[test]
    fn a_name_of_no_table_stays_and_is_shown_escaped() {
        let call = Call::named(Arch::X86_64, "so\x1b[2Jcket");
        assert_eq!(call.number(), None);
        assert_eq!(call.abi(), Some(Abi::X86_64));
        assert_eq!(call.to_string(), "so\\x1b[2Jcket");
        assert_eq!(Call::named(Arch(0), "socket").to_string(), "socket");
    }

    #[test]
    fn unknown_numbers_are_shown_as_the_kernel_writes_them() {
        let shown = |number| Call::numbered(Arch::X86_64, number).to_string();
        assert_eq!(shown(9999), "unknown call 9999");
        assert_eq!(shown(u32::MAX), "unknown call -1");
        assert_eq!(Call::numbered(Arch(1), 41).to_string(), "unknown call 41");
        assert_eq!(Call::interpreted(b"x86_64", b"unknown-syscall(-1)"), Call::numbered(Arch::X86_64, u32::MAX));
    }

    #[test]
    fn x32_calls_are_told_by_bit_30() {
        let call = Call::interpreted(b"x86_64", b"unknown-syscall(1073741825)");
        assert_eq!((call.abi(), call.name()), (Some(Abi::X32), Some("write")));
    }

    #[test]
    fn a_name_from_another_machines_table_is_not_believed() {
        let call = Call::interpreted(b"unknown-elf-type(c0000102)", b"getcwd");
        assert_eq!((call.abi(), call.name(), call.number()), (Some(Abi::Loongarch64), None, None));
        assert_eq!(call.to_string(), "unknown call");
    }
}
