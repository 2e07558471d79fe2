//! The kinds of evidence for a unit, and how sure each is.

use serde::Serialize;
use std::fmt;
use std::str::FromStr;

/// The kind of evidence for a unit, surest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rung {
    /// `/proc/PID/cgroup` of the process, read when its record arrived.
    OwnCgroup,
    /// The cgroup of the process, which a BPF program noted when the process died.
    ExitCgroup,
    /// systemd remembers the pid as that of the unit's main process.
    MainProcess,
    /// systemd remembers the pid as that of one of the unit's commands (`ExecStartPre=`, …).
    ControlProcess,
    /// The cgroup of the parent, read at the exit event of the process.
    ParentCgroup,
    /// The process descends from a process of the unit, which was rehearsed, and was moved elsewhere.
    Lineage,
    /// A journal entry of the same pid and boot names the unit.
    JournalEntry,
    /// The user named the unit of records for which the log names none.
    Assumed,
    /// The manager's journal shows a death of this kind at this time, in one unit only: a guess.
    ExitEntry,
    /// Exactly one unit's `ExecStart=` names the executable: a guess.
    Executable,
}

/// How sure an attribution is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Confidence {
    /// The kernel or systemd named the unit of this process.
    Certain,
    /// The evidence is about a related process, and only an unusual setup makes it wrong.
    Likely,
    /// The unit fits, and answers call it a guess.
    Guess,
}

impl Rung {
    /// Every rung, surest first.
    pub const ALL: [Self; 10] = [
        Self::OwnCgroup,
        Self::ExitCgroup,
        Self::MainProcess,
        Self::ControlProcess,
        Self::ParentCgroup,
        Self::Lineage,
        Self::JournalEntry,
        Self::Assumed,
        Self::ExitEntry,
        Self::Executable,
    ];

    /// The confidence in a unit with this kind of evidence.
    #[must_use]
    pub fn confidence(self) -> Confidence {
        match self {
            Self::OwnCgroup | Self::ExitCgroup | Self::MainProcess | Self::ControlProcess => Confidence::Certain,
            Self::ParentCgroup | Self::Lineage | Self::JournalEntry | Self::Assumed => Confidence::Likely,
            Self::ExitEntry | Self::Executable => Confidence::Guess,
        }
    }

    /// The stable form for the database, JSON and D-Bus.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Assumed => "given",
            Self::OwnCgroup => "own-cgroup",
            Self::ExitCgroup => "exit-cgroup",
            Self::MainProcess => "main-process",
            Self::ControlProcess => "control-process",
            Self::ParentCgroup => "parent-cgroup",
            Self::Lineage => "lineage",
            Self::JournalEntry => "journal-entry",
            Self::ExitEntry => "exit-entry",
            Self::Executable => "executable",
        }
    }

    /// The evidence in words, to complete "found by …".
    #[must_use]
    pub fn describe(self) -> &'static str {
        match self {
            Self::Assumed => "--assume-unit",
            Self::OwnCgroup => "its own cgroup",
            Self::ExitCgroup => "its own cgroup, which the kernel noted as it died",
            Self::MainProcess => "its pid, which systemd knows as the unit's main process",
            Self::ControlProcess => "its pid, which systemd knows as a command of the unit",
            Self::ParentCgroup => "the cgroup of its parent process",
            Self::Lineage => "its descent from a process of the rehearsed unit",
            Self::JournalEntry => "a journal entry of the same process",
            Self::ExitEntry => "its manager's log of a death at that time: a guess",
            Self::Executable => "its executable, which only this unit names: a guess",
        }
    }
}

impl fmt::Display for Rung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no rung.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("evidence that this version does not know")]
pub struct UnknownRung;

impl FromStr for Rung {
    type Err = UnknownRung;

    fn from_str(text: &str) -> Result<Self, UnknownRung> {
        Self::ALL.into_iter().find(|rung| rung.as_str() == text).ok_or(UnknownRung)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rungs_parse_from_their_text_and_are_sorted_surest_first() {
        for rung in Rung::ALL {
            assert_eq!(rung.as_str().parse(), Ok(rung));
            assert!(!rung.describe().is_empty());
        }
        assert!(Rung::ALL.is_sorted() && Rung::ALL.is_sorted_by_key(|rung| rung.confidence()));
        assert_eq!("Assumed".parse::<Rung>(), Err(UnknownRung));
    }
}
