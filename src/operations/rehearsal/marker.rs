//! A rehearsal's drop-in is also its ledger: whoever finds it knows whose it is, and what to put back.
//!
//! It has one of two names. Under the first systemd reads it; under the second it takes no notice of it, and the unit
//! perhaps runs on without its own settings. It goes last, so that at no moment there is something to put back and
//! nothing that says so.

use crate::kernel::procfs::Procfs;
use crate::systemd::manager::UnitProperties;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// The second name: over. systemd reads `.conf` alone.
const OVER: &str = "zzzz-harden-why-rehearsal.over";

/// How a line begins that tells whose it is.
const OWNER: &str = "# Owner: ";

/// How a line begins that tells how the unit was before.
const BEFORE: &str = "# Before: ";

/// The other name of the drop-in.
pub(crate) fn over(path: &Path) -> PathBuf {
    path.with_file_name(OVER)
}

/// What a drop-in tells of its rehearsal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ledger {
    /// The client's pid, and when it started, in clock ticks since boot.
    owner: Option<(u32, u64)>,
    /// Whether the unit was running before.
    pub(crate) ran: bool,
    /// Of the unit's start before.
    invocation: Option<[u8; 16]>,
}

impl Ledger {
    /// Of a rehearsal by this process.
    pub(crate) fn ours(before: &UnitProperties) -> Self {
        let pid = std::process::id();
        Self {
            owner: Procfs::live().start_time(pid).map(|started| (pid, started)),
            ran: before.is_running(),
            invocation: before.invocation_id,
        }
    }

    /// The lines, to stand before the settings.
    pub(crate) fn lines(&self) -> String {
        let mut lines = String::new();
        // Writing to a String cannot fail.
        if let Some((pid, started)) = self.owner {
            let _ = writeln!(lines, "{OWNER}{pid} {started}");
        }
        let invocation =
            self.invocation.map_or_else(|| "-".to_owned(), |id| format!("{:032x}", u128::from_be_bytes(id)));
        let _ = writeln!(lines, "{BEFORE}{} {invocation}", if self.ran { "running" } else { "stopped" });
        lines
    }

    /// Of a drop-in. What cannot be read is as if the unit had run, and its owner were gone: that puts back most.
    pub(crate) fn read(drop_in: &[u8]) -> Self {
        let text = String::from_utf8_lossy(drop_in);
        let of = |key| text.lines().find_map(|line| line.strip_prefix(key)?.split_once(' '));
        let before = of(BEFORE);
        Self {
            owner: of(OWNER).and_then(|(pid, started)| Some((pid.parse().ok()?, started.parse().ok()?))),
            ran: before.is_none_or(|(state, _)| state != "stopped"),
            invocation: before.and_then(|(_, id)| Some(u128::from_str_radix(id, 16).ok()?.to_be_bytes())),
        }
    }

    /// The pid of the client, if it still lives.
    pub(crate) fn living_owner(&self) -> Option<u32> {
        let (pid, started) = self.owner?;
        Procfs::live().is_running(pid, started).then_some(pid)
    }

    /// Whether what runs of the unit can have been started without its own settings.
    pub(crate) fn was_started_since(&self, now: &UnitProperties) -> bool {
        now.is_running() && (now.invocation_id.is_none() || now.invocation_id != self.invocation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ledger_is_read_as_it_was_written() {
        let own = Procfs::live().start_time(std::process::id()).unwrap();
        for (ran, invocation) in [(true, Some([7; 16])), (false, None), (false, Some([0; 16]))] {
            let ledger = Ledger { owner: Some((std::process::id(), own)), ran, invocation };
            let read = Ledger::read(format!("# Written by harden-why\n{}[Service]\n", ledger.lines()).as_bytes());
            assert_eq!(read, ledger);
            assert_eq!(read.living_owner(), Some(std::process::id()));
        }
        let another = Ledger { owner: Some((std::process::id(), own + 1)), ran: true, invocation: None };
        assert_eq!(another.living_owner(), None, "its pid is another's by now");
    }

    #[test]
    fn what_cannot_be_read_puts_back_most() {
        for text in ["", "# Owner: x y\n# Before: \n", "# Owner: 1\n# Before: perhaps zz\n", "\u{0}\n[Service]\n"] {
            let ledger = Ledger::read(text.as_bytes());
            assert_eq!(ledger, Ledger { owner: None, ran: true, invocation: None }, "{text:?}");
            assert_eq!(ledger.living_owner(), None);
        }
    }
}
