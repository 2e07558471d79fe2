//! How an operation ended, as JSON and pages name it.

use serde::{Serialize, Serializer};

/// There is nothing to do, which is no failure.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct NothingToDo(pub(crate) String);

/// What became of the drop-in that `apply` writes and `revert` removes.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DropInOutcome {
    /// The drop-in is written, and systemd holds what it says.
    Applied,
    /// The user declined.
    Declined,
    /// Only the plan was asked for.
    DryRun,
    /// The drop-in is removed.
    Reverted,
    /// There is no drop-in to remove.
    Nothing,
}

/// What became of a rehearsal.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RehearsalOutcome {
    /// The unit was rehearsed, and has its own settings again.
    Rehearsed,
    /// The user declined.
    Declined,
    /// Only the plan was asked for.
    DryRun,
}

/// What became of the logging of refused calls.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RefusalLogOutcome {
    /// Logging is on.
    Started,
    /// Logging was on, and ends later than before.
    Extended,
    /// Another configuration already turned it on.
    OnByOthers,
    /// The user declined.
    Declined,
    /// Logging is off.
    Ended,
    /// harden-why did not turn it on, so there is nothing to turn off.
    Nothing,
}

impl DropInOutcome {
    /// The word in JSON.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Declined => "declined",
            Self::DryRun => "dry-run",
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

impl Serialize for RefusalLogOutcome {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}
