//! What happens to a denied call: an error or a kill.

use super::errno;
use super::unit_file::{Assignment, Origin};
use std::fmt;

/// What seccomp does to a denied call, weakest first. If several filters deny the call, the kernel takes the strongest
/// action (`seccomp(2)`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Effect {
    /// The kernel does not make the call and returns this error number. 0 looks like success.
    Errno(i32),
    /// The thread dies of SIGSYS.
    KillThread,
    /// The process dies of SIGSYS.
    Kill,
}

impl Effect {
    /// systemd's number for `kill` in `SystemCallErrorNumber` on D-Bus (`SECCOMP_ERROR_NUMBER_KILL`).
    pub const KILL_ON_BUS: i32 = i32::MAX - 1;

    /// Parses `kill`, an error's name or its number.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text == "kill" { Some(Self::Kill) } else { errno::parse(text).map(Self::Errno) }
    }

    /// The strength of the action. All errors are equally strong.
    #[must_use]
    pub fn severity(self) -> u8 {
        match self {
            Self::Errno(_) => 0,
            Self::KillThread => 1,
            Self::Kill => 2,
        }
    }

    /// Whether the kernel takes `other`, the action of a filter installed later, when both filters deny a call.
    #[must_use]
    pub(crate) fn yields_to(self, other: Self) -> bool {
        other.severity() >= self.severity()
    }
}

/// The effective `SystemCallErrorNumber=`: what happens to calls that `SystemCallFilter=` denies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefaultEffect {
    /// Kill, unless a line gives an error number.
    pub effect: Effect,
    /// The line that gives it; `None` if no line does.
    pub origin: Option<Origin>,
}

impl Default for DefaultEffect {
    fn default() -> Self {
        Self { effect: Effect::Kill, origin: None }
    }
}

impl DefaultEffect {
    /// Applies one line. Returns false if systemd ignores the line.
    pub(crate) fn apply(&mut self, line: &Assignment) -> bool {
        let effect = if line.value.is_empty() { Some(Effect::Kill) } else { Effect::parse(&line.value) };
        match effect {
            None | Some(Effect::Errno(0)) => false,
            Some(effect) => {
                *self = Self { effect, origin: Some(line.origin.clone()) };
                true
            }
        }
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Errno(number) => match errno::name(*number) {
                Some(name) => f.write_str(&name),
                None => write!(f, "error {number}"),
            },
            Self::KillThread => f.write_str("kill thread"),
            Self::Kill => f.write_str("kill"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stronger_effect_or_later_error_decides() {
        assert!(Effect::Errno(1).yields_to(Effect::Kill));
        assert!(!Effect::Kill.yields_to(Effect::Errno(1)));
        assert!(Effect::KillThread.yields_to(Effect::Kill));
        assert!(Effect::Errno(38).yields_to(Effect::Errno(1)));
    }

    #[test]
    fn effect_is_displayed_as_unit_files_write_it() {
        for text in ["kill", "EPERM", "ENOSYS"] {
            assert_eq!(Effect::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Effect::parse("4000").unwrap().to_string(), "error 4000");
        assert_eq!(Effect::parse("KILL"), None);
    }
}
