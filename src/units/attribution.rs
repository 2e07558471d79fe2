//! Evidence about whose process it was, weighed into one verdict.

use super::name::Unit;

/// How a unit was found, surest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rung {
    /// The person asking said so.
    Told,
    /// `/proc/PID/cgroup` of the process itself, read when its record arrived.
    OwnCgroup,
    /// systemd remembers the pid as the unit's main process.
    MainProcess,
    /// systemd remembers the pid as one of the unit's commands (`ExecStartPre=`, …).
    ControlProcess,
    /// The cgroup of its parent, read at its exit event.
    ParentCgroup,
    /// A journal entry of the same pid and boot names the unit.
    JournalEntry,
    /// The executable is the one of exactly one unit's `ExecStart=`: a guess.
    Executable,
}

/// How sure an attribution is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Confidence {
    /// The kernel or systemd said so of this very process.
    Certain,
    /// Said of a process so close that only an unusual set-up makes it wrong.
    Likely,
    /// Fits, and is shown as a guess.
    Guess,
}

/// One thing learned about a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Evidence {
    /// The bytes of `/proc/PID/cgroup`.
    OwnCgroup(Vec<u8>),
    /// The bytes of the parent's.
    ParentCgroup(Vec<u8>),
    /// A unit named by something other than a cgroup.
    Named(Rung, Unit),
}

/// Whose process it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribution {
    /// The unit.
    pub unit: Unit,
    /// What it stands on.
    pub rung: Rung,
}
