//! One SECCOMP record (audit type 1326), borrowed from the bytes it was parsed from.
//!
//! Fields and their order: `audit_seccomp` in the kernel's `kernel/auditsc.c`.

use super::text::UntrustedText;
use std::fmt;
use std::str::FromStr;

/// The audit message type of a SECCOMP record (`AUDIT_SECCOMP`, `linux/audit.h`).
pub(crate) const SECCOMP: u16 = 1326;

/// `SIGSYS` on every architecture but MIPS, Alpha and SPARC (`signal(7)`).
pub(crate) const SIGSYS: i32 = 31;

/// The longest name of a thread, in bytes (`TASK_COMM_LEN` without its NUL).
pub(crate) const COMM_LENGTH: usize = 15;

/// One SECCOMP record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// The time when the kernel wrote it.
    pub stamp: Stamp<'a>,
    /// The event's serial number; 0 if the dialect lacks it.
    pub serial: u64,
    /// Login uid, which `su` does not change; [`IdField::Unset`] for services.
    pub auid: IdField<'a>,
    /// Real uid of the task.
    pub uid: IdField<'a>,
    /// Real gid of the task.
    pub gid: IdField<'a>,
    /// Audit session; [`IdField::Unset`] for services.
    pub session: IdField<'a>,
    /// LSM label of the task (`subj=`); `None` without an active LSM.
    pub subject: Option<&'a [u8]>,
    /// Thread group id in the *initial* PID namespace.
    pub pid: u32,
    /// Name of the *thread* that made the call, up to 15 bytes.
    pub comm: UntrustedText<'a>,
    /// Path of the executable; `None` for `(null)`, a task without an mm.
    pub exe: Option<UntrustedText<'a>>,
    /// The signal that the filter raised; 0 for actions without a signal.
    pub signal: i32,
    /// The architecture of the call.
    pub arch: ArchField<'a>,
    /// The call. Any number is possible: the process chose it.
    pub call: CallField<'a>,
    /// Whether it is a 32-bit call on a 64-bit kernel; `None` if the log left out the field.
    pub compat: Option<bool>,
    /// Instruction pointer of the call.
    pub ip: u64,
    /// The action of the filter.
    pub action: Action,
}

/// The time of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stamp<'a> {
    /// Milliseconds since the epoch.
    Millis(i64),
    /// A date as `ausearch -i` or `journalctl` printed it, in the reader's locale: for display only.
    Printed(&'a [u8]),
    /// The dialect has no time.
    Unknown,
}

/// A uid, gid or session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdField<'a> {
    /// The kernel's number.
    Number(u32),
    /// The name that `ausearch -i` printed, resolved on the machine where it ran.
    Name(&'a [u8]),
    /// `4294967295` or `unset`.
    Unset,
}

/// `arch=` in either spelling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArchField<'a> {
    /// `AUDIT_ARCH_*` token (`linux/audit.h`).
    Token(u32),
    /// The name that `ausearch -i` printed, as `x86_64`.
    Name(&'a [u8]),
}

/// `syscall=` in either spelling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallField<'a> {
    /// The number that the process passed.
    Number(u32),
    /// The name that `ausearch -i` printed.
    Name(&'a [u8]),
}

/// The action of a seccomp filter (`SECCOMP_RET_*`, `seccomp(2)`), from `code=`.
///
/// A record does not have the errno of [`Action::Errno`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    /// SIGSYS killed the process.
    KillProcess,
    /// SIGSYS killed the thread.
    KillThread,
    /// One of the two above: `ausearch -i` prints `kill` for both.
    Kill,
    /// The process received a SIGSYS that it can catch.
    Trap,
    /// The call failed with an errno.
    Errno,
    /// A supervisor process decided.
    UserNotif,
    /// A tracer decided.
    Trace,
    /// The kernel logged the call and allowed it.
    Log,
    /// A code that this version does not know.
    Other(u32),
}

impl Action {
    /// Returns the action of a numeric `code=`.
    #[must_use]
    pub fn from_code(code: u32) -> Self {
        match code {
            0x8000_0000 => Self::KillProcess,
            0x0000_0000 => Self::KillThread,
            0x0003_0000 => Self::Trap,
            0x0005_0000 => Self::Errno,
            0x7fc0_0000 => Self::UserNotif,
            0x7ff0_0000 => Self::Trace,
            0x7ffc_0000 => Self::Log,
            other => Self::Other(other),
        }
    }

    /// Returns the numeric `code=`; `None` for [`Action::Kill`], which has two.
    #[must_use]
    pub fn code(self) -> Option<u32> {
        Some(match self {
            Self::KillProcess => 0x8000_0000,
            Self::KillThread => 0x0000_0000,
            Self::Kill => return None,
            Self::Trap => 0x0003_0000,
            Self::Errno => 0x0005_0000,
            Self::UserNotif => 0x7fc0_0000,
            Self::Trace => 0x7ff0_0000,
            Self::Log => 0x7ffc_0000,
            Self::Other(code) => code,
        })
    }

    /// Parses a word of the kernel, or of `ausearch -i` (auparse's `seccomp_code.h`).
    #[must_use]
    pub(crate) fn from_word(word: &[u8]) -> Option<Self> {
        Some(match word {
            b"kill_process" | b"kill-process" => Self::KillProcess,
            b"kill_thread" | b"kill-thread" => Self::KillThread,
            b"kill" => Self::Kill,
            b"trap" => Self::Trap,
            b"errno" => Self::Errno,
            b"user_notif" | b"user-notif" => Self::UserNotif,
            b"trace" => Self::Trace,
            b"log" => Self::Log,
            _ => return None,
        })
    }

    /// Whether the action kills the process or thread.
    #[must_use]
    pub(crate) fn is_kill(self) -> bool {
        matches!(self, Self::KillProcess | Self::KillThread | Self::Kill)
    }

    /// Whether the action refuses the call, unlike [`Action::Log`].
    #[must_use]
    pub(crate) fn is_denial(self) -> bool {
        self != Self::Log
    }
}

/// The error for text that is no action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a decision of a seccomp filter that this version knows")]
pub struct UnknownAction;

/// Parses the output of [`Display`](fmt::Display).
impl FromStr for Action {
    type Err = UnknownAction;

    fn from_str(word: &str) -> Result<Self, UnknownAction> {
        let action = match word.strip_prefix("code 0x") {
            Some(digits) => u32::from_str_radix(digits, 16).ok().map(Self::Other),
            None => Self::from_word(word.as_bytes()),
        };
        action.ok_or(UnknownAction)
    }
}

/// Prints the kernel's own word, as in `/proc/sys/kernel/seccomp/actions_avail`.
impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::KillProcess => "kill_process",
            Self::KillThread => "kill_thread",
            Self::Kill => "kill",
            Self::Trap => "trap",
            Self::Errno => "errno",
            Self::UserNotif => "user_notif",
            Self::Trace => "trace",
            Self::Log => "log",
            Self::Other(code) => return write!(f, "code {code:#x}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_action_is_parsed_from_its_own_output() {
        for code in [0x8000_0000, 0, 0x0003_0000, 0x0005_0000, 0x7fc0_0000, 0x7ff0_0000, 0x7ffc_0000, 7] {
            let action = Action::from_code(code);
            assert_eq!(action.to_string().parse(), Ok(action));
            assert_eq!(action.code(), Some(code));
        }
        assert_eq!(Action::Kill.to_string().parse(), Ok(Action::Kill));
        for word in ["", "code 7", "KILL", "code 0x"] {
            assert_eq!(word.parse::<Action>(), Err(UnknownAction), "{word}");
        }
    }
}
