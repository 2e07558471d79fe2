//! The outcomes of operations, with their words in JSON.

use serde::{Serialize, Serializer};

/// An operation has nothing to do. This is no failure.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct NothingToDo(pub(crate) String);

/// The caller lacks the rights to see or change what was asked for.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct NoRights(pub(crate) String);

/// The operation requires root, and the caller is another user. The command line adds the command to type.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct RequiresRoot(pub(crate) String);

/// The context of an error that came after systemd had read the drop-in of this path.
#[derive(Debug, thiserror::Error)]
#[error("systemd has read {0}")]
pub(crate) struct DropInIsRead(pub(crate) String);

/// The outcome for the drop-in that `apply` writes and `revert` removes.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DropInOutcome {
    /// harden-why wrote the drop-in, and systemd holds its settings.
    Applied,
    /// The user declined.
    Declined,
    /// The user wanted only the plan.
    DryRun,
    /// The drop-in would be on a read-only file system.
    ReadOnly,
    /// There is nothing to apply: the settings changed since the denials, or hold the remedy already.
    Unchanged,
    /// harden-why removed the drop-in.
    Reverted,
    /// There is no drop-in to remove.
    Nothing,
}

/// The outcome of a rehearsal.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RehearsalOutcome {
    /// The rehearsal is over, and the unit has its own settings again.
    Rehearsed,
    /// The user declined.
    Declined,
    /// The user wanted only the plan.
    DryRun,
}

/// The outcome of a bisection.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BisectionOutcome {
    /// The lines are found.
    Found,
    /// The unit works with all lines in force.
    Works,
    /// The unit does not work with all lines lifted.
    NotHardening,
    /// The same lines lifted had different outcomes.
    Contradictory,
    /// The limit of restarts came first.
    Limit,
    /// The user declined.
    Declined,
    /// The user wanted only the plan.
    DryRun,
}

/// The outcome for the logging of refused calls.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RefusalLogOutcome {
    /// Logging is on.
    Started,
    /// Logging was on already, and has a new end.
    Extended,
    /// Another configuration had already turned logging on.
    OnByOthers,
    /// The user declined.
    Declined,
    /// Logging is off.
    Ended,
    /// harden-why did not turn logging on, so there is nothing to turn off.
    Nothing,
}

impl DropInOutcome {
    /// The word in JSON.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Declined => "declined",
            Self::DryRun => "dry-run",
            Self::ReadOnly => "read-only",
            Self::Unchanged => "unchanged",
            Self::Reverted => "reverted",
            Self::Nothing => "nothing",
        }
    }
}

impl RehearsalOutcome {
    /// The word in JSON.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Rehearsed => "rehearsed",
            Self::Declined => "declined",
            Self::DryRun => "dry-run",
        }
    }
}

impl BisectionOutcome {
    /// The word in JSON.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Found => "found",
            Self::Works => "works",
            Self::NotHardening => "not-hardening",
            Self::Contradictory => "contradictory",
            Self::Limit => "limit",
            Self::Declined => "declined",
            Self::DryRun => "dry-run",
        }
    }
}

impl RefusalLogOutcome {
    /// The word in JSON.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Extended => "extended",
            Self::OnByOthers => "others",
            Self::Declined => "declined",
            Self::Ended => "ended",
            Self::Nothing => "nothing",
        }
    }
}

impl Serialize for DropInOutcome {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl Serialize for RehearsalOutcome {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl Serialize for BisectionOutcome {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl Serialize for RefusalLogOutcome {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}
