//! The process that is changing a unit or a manager, recorded in a comment line of the drop-in.

use crate::kernel::procfs::Procfs;
use std::fmt;

/// The prefix of the line.
const PREFIX: &str = "# Owner: ";

/// A process. Its start time distinguishes it from a later process with the same pid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OwnerMarker {
    pid: u32,
    /// In clock ticks since boot.
    start_time: u64,
}

impl OwnerMarker {
    /// The calling process; `None` if `/proc` does not show it.
    pub(crate) fn current() -> Option<Self> {
        let pid = std::process::id();
        Some(Self { pid, start_time: Procfs::live().start_time(pid)? })
    }

    /// Parses the value of an owner line.
    pub(crate) fn parse(value: &str) -> Option<Self> {
        let (pid, start_time) = value.split_once(' ')?;
        Some(Self { pid: pid.parse().ok()?, start_time: start_time.parse().ok()? })
    }

    /// Returns the value of the owner line of a drop-in.
    pub(crate) fn find_line(drop_in: &str) -> Option<&str> {
        drop_in.lines().find_map(|line| line.strip_prefix(PREFIX))
    }

    /// Returns the pid if the process still runs.
    pub(crate) fn living_owner(self) -> Option<u32> {
        Procfs::live().is_running(self.pid, self.start_time).then_some(self.pid)
    }
}

/// The comment line, without a line feed.
impl fmt::Display for OwnerMarker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{} {}", self.pid, self.start_time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_owner_line_parses_to_the_same_owner() {
        let owner = OwnerMarker::current().unwrap();
        let text = format!("# Written by harden-why\n{owner}\n[Service]\n");
        assert_eq!(OwnerMarker::find_line(&text).and_then(OwnerMarker::parse), Some(owner));
    }

    #[test]
    fn malformed_owner_line_parses_to_none() {
        for value in ["", "1", "x y", "1 x", " 1", "1 2 3"] {
            assert_eq!(OwnerMarker::parse(value), None, "{value:?}");
        }
        assert_eq!(OwnerMarker::find_line("[Service]\nOwner: 1 2\n"), None);
    }

    #[test]
    fn reused_pid_is_not_the_living_owner() {
        let owner = OwnerMarker::current().unwrap();
        assert_eq!(owner.living_owner(), Some(std::process::id()));
        assert_eq!(OwnerMarker { start_time: owner.start_time + 1, ..owner }.living_owner(), None);
    }
}
