//! What a denied call comes to.

use super::errno;
use std::fmt;

/// What seccomp does to a call it does not let pass, weakest first: the strongest of several
/// filters' actions is taken (`seccomp(2)`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Effect {
    /// The call is not made and returns this error number; 0 looks like success.
    Errno(i32),
    /// The thread dies of SIGSYS.
    KillThread,
    /// The process dies of SIGSYS.
    Kill,
}

impl Effect {
    /// systemd's number for `kill` in `SystemCallErrorNumber` on D-Bus (`SECCOMP_ERROR_NUMBER_KILL`).
    pub const KILL_ON_BUS: i32 = i32::MAX - 1;

    /// Reads `kill`, an error's name or its number.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text == "kill" { Some(Self::Kill) } else { errno::parse(text).map(Self::Errno) }
    }

    /// How strong it is: one error is as strong as another.
    #[must_use]
    pub fn severity(self) -> u8 {
        match self {
            Self::Errno(_) => 0,
            Self::KillThread => 1,
            Self::Kill => 2,
        }
    }

    /// Whether `other` decides when both filters deny: the stronger, and among equally strong ones
    /// the one installed later.
    #[must_use]
    pub(crate) fn yields_to(self, other: Self) -> bool {
        other.severity() >= self.severity()
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
    fn the_stronger_decides_and_of_two_errors_the_later() {
        assert!(Effect::Errno(1).yields_to(Effect::Kill));
        assert!(!Effect::Kill.yields_to(Effect::Errno(1)));
        assert!(Effect::KillThread.yields_to(Effect::Kill));
        assert!(Effect::Errno(38).yields_to(Effect::Errno(1)));
    }

    #[test]
    fn effects_read_as_written_in_unit_files() {
        for text in ["kill", "EPERM", "ENOSYS"] {
            assert_eq!(Effect::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Effect::parse("4000").unwrap().to_string(), "error 4000");
        assert_eq!(Effect::parse("KILL"), None);
    }
}
