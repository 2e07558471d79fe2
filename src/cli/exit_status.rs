//! The exit status of `harden-why`: the one table that answers and errors are mapped to.

use crate::cli::args::since::BadTime;
use crate::incidents::StoreError;
use crate::kernel::tap::TapError;
use crate::operations::drop_in::DropInError;
use crate::operations::outcome::{NoRights, NothingToDo, RequiresRoot};
use crate::systemd::manager::SystemdError;
use crate::units::BadUnitName;
use std::error::Error;
use std::io;
use std::process::ExitCode;

/// How an invocation ended. Of several results, the greatest counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ExitStatus {
    /// The verb answered or did its work, or there was nothing left to do.
    Done,
    /// The verb answered, and found denials or a check that fails: 1 with `--exit-code`, otherwise 0.
    Found,
    /// The verb failed, or the user declined.
    Failed,
    /// The arguments are invalid.
    Usage,
    /// The caller lacks the rights to see or change what was asked for.
    NoRights,
    /// There is no such unit.
    NoSuchUnit,
}

/// An argument is invalid in a way that the parser of the arguments cannot see.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct UsageError(pub(crate) String);

/// Nothing is known by a name, or a process or a path has no unit.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct UnknownUnitError(pub(crate) String);

impl ExitStatus {
    /// Returns the number for the shell.
    pub(crate) fn code(self, exit_code_of_findings: bool) -> ExitCode {
        ExitCode::from(match self {
            Self::Done => 0,
            Self::Found => u8::from(exit_code_of_findings),
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NoRights => 3,
            Self::NoSuchUnit => 4,
        })
    }

    /// Returns the status of a verb that ended with an error.
    pub(crate) fn from_error(error: &anyhow::Error) -> Self {
        // Contexts are no sources: only a downcast of the whole finds them.
        if error.is::<NothingToDo>() {
            return Self::Done;
        }
        if error.is::<UsageError>() {
            return Self::Usage;
        }
        if error.is::<NoRights>() || requires_root(error) {
            return Self::NoRights;
        }
        if error.is::<UnknownUnitError>() {
            return Self::NoSuchUnit;
        }
        error.chain().find_map(Self::from_cause).unwrap_or(Self::Failed)
    }

    fn from_cause(cause: &(dyn Error + 'static)) -> Option<Self> {
        if cause.is::<BadUnitName>() || cause.is::<BadTime>() {
            return Some(Self::Usage);
        }
        if let Some(SystemdError::NoSuchUnit(_)) = cause.downcast_ref() {
            return Some(Self::NoSuchUnit);
        }
        let is_denied = matches!(cause.downcast_ref(), Some(SystemdError::AccessDenied(_)))
            || matches!(cause.downcast_ref(), Some(DropInError::NotAllowed { .. }))
            || cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::PermissionDenied);
        is_denied.then_some(Self::NoRights)
    }
}

/// Whether an error would not occur to root.
pub(crate) fn requires_root(error: &anyhow::Error) -> bool {
    let is_such = |cause: &(dyn Error + 'static)| {
        matches!(cause.downcast_ref(), Some(StoreError::Unreadable { .. }))
            || matches!(cause.downcast_ref(), Some(TapError::NotAllowed))
    };
    error.is::<RequiresRoot>() || error.chain().any(is_such)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::UnitName;
    use anyhow::Context as _;

    #[test]
    fn error_below_contexts_decides_the_status() {
        let name: UnitName = "a.service".parse().unwrap();
        let below = |error: anyhow::Error| ExitStatus::from_error(&error.context("inner").context("outer"));
        assert_eq!(below(SystemdError::NoSuchUnit(name).into()), ExitStatus::NoSuchUnit);
        assert_eq!(below(SystemdError::TimedOut.into()), ExitStatus::Failed);
        assert_eq!(below(SystemdError::AccessDenied(String::new()).into()), ExitStatus::NoRights);
        assert_eq!(below(io::Error::from_raw_os_error(libc::EACCES).into()), ExitStatus::NoRights);
        assert_eq!(below(io::Error::from_raw_os_error(libc::ENOENT).into()), ExitStatus::Failed);
        assert_eq!(below(NoRights(String::new()).into()), ExitStatus::NoRights);
        assert_eq!(below(RequiresRoot(String::new()).into()), ExitStatus::NoRights);
        assert_eq!(below(TapError::NotAllowed.into()), ExitStatus::NoRights);
        assert_eq!(below(UsageError(String::new()).into()), ExitStatus::Usage);
        assert_eq!(below(NothingToDo(String::new()).into()), ExitStatus::Done);
        let invalid = UnitName::from_user("a b").with_context(|| "no unit").map(drop);
        assert_eq!(invalid.map_err(|error| ExitStatus::from_error(&error)), Err(ExitStatus::Usage));
    }

    #[test]
    fn worst_status_is_the_greatest() {
        assert!(ExitStatus::Done < ExitStatus::Found && ExitStatus::Found < ExitStatus::Failed);
        assert!(ExitStatus::Usage < ExitStatus::NoRights && ExitStatus::NoRights < ExitStatus::NoSuchUnit);
    }
}
