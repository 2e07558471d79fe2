//! The comments of the drop-in that turns logging on: its start, its end, and the process that is changing it.

use crate::incidents::local_time::LocalTime;
use crate::operations::drop_in;
use crate::operations::owner_marker::OwnerMarker;
use crate::policy::manager_variable::ManagerVariable;

/// The prefixes of the comments.
const SINCE: &str = "# Since: ";
const UNTIL: &str = "# Until: ";
const MANAGER: &str = "# Manager: ";

/// The state of the logging of refusals, as a drop-in records it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RefusalLogMarker {
    /// In milliseconds since the epoch.
    pub(crate) since: i64,
    /// When logging ends by itself, in milliseconds since the epoch.
    pub(crate) until: i64,
    /// When the manager was started, in microseconds since the epoch. A manager started later does not log.
    pub(crate) manager_started: u64,
    /// The process that is changing the logging; `None` once the change is complete.
    pub(crate) owner: Option<OwnerMarker>,
    /// `false` while a process turns logging off.
    pub(crate) on: bool,
}

impl RefusalLogMarker {
    /// Returns the text of the drop-in. `undo` is the command that turns logging off.
    pub(crate) fn compose(&self, clock: &LocalTime, undo: &str) -> Vec<u8> {
        let Self { since, until, manager_started, owner, on } = self;
        let owner = owner.map_or_else(String::new, |owner| format!("{owner}\n"));
        let content = format!(
            "{SINCE}{since}\n{UNTIL}{until}\n{MANAGER}{manager_started}\n{owner}[Manager]\n\
             ManagerEnvironment={}={}\n",
            ManagerVariable::LogSeccomp.name(),
            u8::from(*on)
        );
        drop_in::compose(&content, &clock.today(), "to log calls that fail with an error", undo).into_bytes()
    }

    /// Parses a drop-in; `None` if it does not have these comments.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let text = str::from_utf8(bytes).ok()?;
        let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key));
        let owner = match OwnerMarker::find_line(text) {
            Some(line) => Some(OwnerMarker::parse(line)?),
            None => None,
        };
        Some(Self {
            since: value(SINCE)?.parse().ok()?,
            until: value(UNTIL)?.parse().ok()?,
            manager_started: value(MANAGER)?.parse().ok()?,
            owner,
            on: value("ManagerEnvironment=")?.ends_with('1'),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::UnitFile;
    use crate::policy::manager_variable::{VariableEffect, last_variable_line};
    use jiff::tz::TimeZone;
    use std::path::Path;

    #[test]
    fn composed_drop_in_parses_to_the_same_marker_and_sets_the_variable() {
        let clock = LocalTime { now: None, zone: TimeZone::UTC };
        let owner = OwnerMarker::current();
        for (on, owner) in [(true, None), (true, owner), (false, owner)] {
            let marker =
                RefusalLogMarker { since: 1_795_456_064_000, until: 1_795_459_664_000, manager_started: 7, owner, on };
            let bytes = marker.compose(&clock, "harden-why log-refusals --off");
            assert_eq!(RefusalLogMarker::parse(&bytes), Some(marker));
            let file = UnitFile::parse(Path::new("/a.conf"), &bytes);
            let sets = if on { VariableEffect::On } else { VariableEffect::Off };
            assert_eq!(
                (file.notes.len(), last_variable_line([&file], ManagerVariable::LogSeccomp).map(|line| line.sets)),
                (0, Some(sets))
            );
        }
    }

    #[test]
    fn drop_in_without_the_comments_parses_to_none() {
        for bytes in [&b""[..], b"\xff", b"# Since: 1\n# Until: x\n", b"# Since: 1\n# Until: 2\n# Manager: 3\n"] {
            assert_eq!(RefusalLogMarker::parse(bytes), None, "{bytes:?}");
        }
    }
}
