//! What an exposure is, as the comments of its drop-in tell it: since when, until when, and who is switching it.

use crate::incidents::local_time::LocalTime;
use crate::kernel::procfs::Procfs;
use crate::operations::drop_in;
use crate::policy::seccomp_logging::VARIABLE;

/// How the comments begin.
const SINCE: &str = "# Since: ";
const UNTIL: &str = "# Until: ";
const MANAGER: &str = "# Manager: ";
const OWNER: &str = "# Owner: ";

/// A process that does something, told apart from a later one of its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Switcher {
    pub(crate) pid: u32,
    /// In clock ticks since boot.
    started: u64,
}

impl Switcher {
    /// Ourselves.
    pub(crate) fn me() -> Option<Self> {
        let pid = std::process::id();
        Some(Self { pid, started: Procfs::live().start_time(pid)? })
    }

    /// Whether it still runs.
    pub(crate) fn lives(self) -> bool {
        Procfs::live().is_running(self.pid, self.started)
    }
}

/// An exposure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    /// In milliseconds since the epoch.
    pub(crate) since: i64,
    /// When it ends by itself, in milliseconds since the epoch.
    pub(crate) until: i64,
    /// When the manager was started, in microseconds since the epoch: another one knows nothing of it.
    pub(crate) manager: u64,
    /// Who is at it; `None` once it is whole.
    pub(crate) switcher: Option<Switcher>,
    /// `false` while it is being ended.
    pub(crate) on: bool,
}

impl Record {
    /// The drop-in.
    pub(crate) fn compose(&self, clock: &LocalTime, undo: &str) -> Vec<u8> {
        let Self { since, until, manager, switcher, on } = self;
        let switcher =
            switcher.map_or_else(String::new, |Switcher { pid, started }| format!("{OWNER}{pid} {started}\n"));
        let content = format!(
            "{SINCE}{since}\n{UNTIL}{until}\n{MANAGER}{manager}\n{switcher}[Manager]\nManagerEnvironment={VARIABLE}={}\n",
            u8::from(*on)
        );
        drop_in::compose(&content, &clock.today(), "so that calls refused with an error are recorded", undo)
            .into_bytes()
    }

    /// What a drop-in of ours tells; `None` if it is none of these.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let text = str::from_utf8(bytes).ok()?;
        let after = |key: &str| text.lines().find_map(|line| line.strip_prefix(key));
        let switcher = match after(OWNER) {
            Some(switcher) => {
                let (pid, started) = switcher.split_once(' ')?;
                Some(Switcher { pid: pid.parse().ok()?, started: started.parse().ok()? })
            }
            None => None,
        };
        Some(Self {
            since: after(SINCE)?.parse().ok()?,
            until: after(UNTIL)?.parse().ok()?,
            manager: after(MANAGER)?.parse().ok()?,
            switcher,
            on: after("ManagerEnvironment=")?.ends_with('1'),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::UnitFile;
    use crate::policy::seccomp_logging::{SeccompLogging, last_seccomp_log_line};
    use jiff::tz::TimeZone;
    use std::path::Path;

    #[test]
    fn a_drop_in_is_its_own_record() {
        let clock = LocalTime { now: None, zone: TimeZone::UTC };
        let switcher = Switcher::me();
        for (on, switcher) in [(true, None), (true, switcher), (false, switcher)] {
            let record = Record { since: 1_795_456_064_000, until: 1_795_459_664_000, manager: 7, switcher, on };
            let bytes = record.compose(&clock, "harden-why log-refusals --off");
            assert_eq!(Record::parse(&bytes), Some(record));
            // systemd reads the same.
            let file = UnitFile::parse(Path::new("/a.conf"), &bytes);
            let sets = if on { SeccompLogging::On } else { SeccompLogging::Off };
            assert_eq!((file.notes.len(), last_seccomp_log_line([&file]).map(|switch| switch.sets)), (0, Some(sets)));
        }
    }

    #[test]
    fn what_is_no_record_is_none() {
        for bytes in [&b""[..], b"\xff", b"# Since: 1\n# Until: x\n", b"# Since: 1\n# Until: 2\n# Manager: 3\n"] {
            assert_eq!(Record::parse(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn who_is_gone_does_not_live() {
        let me = Switcher::me().unwrap();
        assert!(me.lives());
        assert!(!Switcher { started: me.started + 1, ..me }.lives());
    }
}
