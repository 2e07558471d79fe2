//! Whether what a unit's settings permit today was denied by what they said before.
//!
//! A process keeps the filter of its start. So what counts is what changed since then, and a change helps only a
//! process that starts after it.

use crate::policy::Policy;
use std::path::PathBuf;

/// How late a file's time can be, in milliseconds: the kernel takes it from a clock that it advances at its ticks, which are
/// up to 10 ms apart (`CONFIG_HZ`) and come late on a busy machine; 5 ms late were seen with ticks of 4 ms.
const FILE_CLOCK_LAG: i64 = 20;

/// When a unit's settings changed, and when it was started. Times are milliseconds since the epoch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct History {
    /// The files and directories that say what its settings are, each with its latest change.
    pub changes: Vec<FileChange>,
    /// The manager has not yet read the latest of them.
    pub pending: bool,
    /// When its latest main process started.
    pub started: Option<i64>,
    /// Whether that still runs.
    pub running: bool,
    /// When the machine was booted: no process is older.
    pub booted: i64,
}

/// A change of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileChange {
    /// Which; a directory where files came or went.
    pub path: PathBuf,
    /// When.
    pub at: i64,
}

/// Settings that permit what earlier ones may have denied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fixed {
    /// When they were changed.
    pub at: i64,
    /// The drop-in without which the call would still be denied; `None` where that cannot be told.
    pub by: Option<PathBuf>,
    /// For whom.
    pub takes: TakesEffect,
}

/// When changed settings take effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TakesEffect {
    /// They are in effect.
    Now,
    /// Once the manager rereads its files.
    AfterReload,
    /// For processes that start from now on: a running process was started before the change.
    AtNextStart,
}

/// What is known about changes of the settings since a denial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum SettingsChange {
    /// The settings were changed.
    Changed(Fixed),
    /// The settings were not changed.
    Unchanged,
    /// The settings may have been changed: the denied process started before the latest start, at an unknown time.
    Unknown,
}

/// What changed for a call that was denied at times from the first to the last. `denies` says whether a policy would have
/// done what was seen, and `without` gives the policy without a drop-in.
pub(super) fn since(
    (first, last): (i64, i64),
    history: &History,
    without: impl Fn(&PathBuf) -> Policy,
    denies: impl Fn(&Policy) -> bool,
) -> SettingsChange {
    let renewed = history.started.is_some_and(|started| started > last);
    // What was denied later than the latest start was, as far as can be told, denied to what was started then; what was
    // denied earlier, to something that was there at the first denial.
    let start = if renewed { first.min(last) } else { history.started.unwrap_or(last) };
    let mut since: Vec<&FileChange> = history.changes.iter().filter(|change| change.at > start).collect();
    since.sort_by_key(|change| std::cmp::Reverse(change.at));
    let by = since.iter().find(|change| denies(&without(&change.path)));
    let newest = since.first().filter(|newest| !renewed || newest.at > last);
    let Some(at) = by.or(newest).map(|change| change.at) else {
        let earliest = if last < history.booted { i64::MIN } else { history.booted };
        let older = |change: &FileChange| change.at > earliest && change.at <= last;
        return if renewed && history.changes.iter().any(older) {
            SettingsChange::Unknown
        } else {
            SettingsChange::Unchanged
        };
    };
    let runs_older = history.running && history.started.is_some_and(|started| started < at + FILE_CLOCK_LAG);
    let takes = match () {
        () if history.pending => TakesEffect::AfterReload,
        () if runs_older || (last > at && !renewed) => TakesEffect::AtNextStart,
        () => TakesEffect::Now,
    };
    SettingsChange::Changed(Fixed { at, by: by.map(|change| change.path.clone()), takes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Settings, UnitFile};
    use crate::syscalls::groups::GroupSource;
    use crate::syscalls::{Abi, Groups};
    use std::path::Path;

    /// A policy whose drop-in `fix` allows what was denied.
    fn policy(with: bool) -> Policy {
        let groups = Groups::parse("@known\n    read\n    mount\n", GroupSource::Host("252".into())).unwrap();
        let file = |name: &str, value: &str| {
            UnitFile::parse(Path::new(name), format!("[Service]\nSystemCallFilter={value}\n").as_bytes())
        };
        let dropins = if with { vec![file("fix", "mount")] } else { Vec::new() };
        let settings = Settings::new(&"x.service".parse().unwrap(), Some(file("x.service", "read")), dropins);
        Policy::new(settings, Abi::X86_64, &groups)
    }

    /// What changed at which time, with the latest start.
    fn told(last: i64, changes: &[(&str, i64)], started: Option<i64>, running: bool, pending: bool) -> Option<Fixed> {
        match told_of(last, last, changes, started, running, pending) {
            SettingsChange::Changed(fixed) => Some(fixed),
            SettingsChange::Unchanged => None,
            SettingsChange::Unknown => panic!("untold"),
        }
    }

    fn told_of(
        first: i64,
        last: i64,
        changes: &[(&str, i64)],
        started: Option<i64>,
        running: bool,
        pending: bool,
    ) -> SettingsChange {
        let changes = changes.iter().map(|(path, at)| FileChange { path: path.into(), at: *at }).collect();
        let history = History { changes, pending, started, running, booted: 30 };
        let denies = |policy: &Policy| policy.filter.as_ref().is_some_and(|filter| !filter.permits("mount"));
        since((first, last), &history, |path| policy(path != Path::new("fix")), denies)
    }

    fn fixed(at: i64, by: Option<&str>, takes: TakesEffect) -> Fixed {
        Fixed { at, by: by.map(Into::into), takes }
    }

    #[test]
    fn what_changed_after_the_denial_fixed_it() {
        let files = [("x.service", 10), ("fix", 50)];
        assert_eq!(told(40, &files, None, false, false), Some(fixed(50, Some("fix"), TakesEffect::Now)));
        assert_eq!(told(40, &files, Some(80), true, false), Some(fixed(50, Some("fix"), TakesEffect::Now)));
        assert_eq!(told(60, &files, Some(55), true, false), None, "denied to a process that started after the change");
        assert_eq!(told(60, &files, None, false, false), None);
    }

    #[test]
    fn a_process_that_started_before_the_change_has_to_start_anew() {
        let files = [("x.service", 10), ("fix", 50)];
        assert_eq!(told(40, &files, Some(30), true, false), Some(fixed(50, Some("fix"), TakesEffect::AtNextStart)));
        assert_eq!(told(70, &files, Some(30), true, false), Some(fixed(50, Some("fix"), TakesEffect::AtNextStart)));
        assert_eq!(
            told(70, &files, Some(30), false, false),
            Some(fixed(50, Some("fix"), TakesEffect::AtNextStart)),
            "it died of it"
        );
        assert_eq!(told(40, &files, Some(30), false, false), Some(fixed(50, Some("fix"), TakesEffect::Now)));
        assert_eq!(told(20, &files, Some(30), true, false), Some(fixed(50, Some("fix"), TakesEffect::AtNextStart)));
        assert_eq!(
            told(40, &files, Some(55), true, false),
            Some(fixed(50, Some("fix"), TakesEffect::AtNextStart)),
            "the file may have been changed after the start, by a clock that is late"
        );
    }

    #[test]
    fn what_was_denied_to_an_earlier_start_may_be_older_than_the_change() {
        let files = [("x.service", 10), ("fix", 50)];
        let renewed = |first, last, files: &[_]| told_of(first, last, files, Some(80), true, false);
        let effect = SettingsChange::Changed(fixed(50, Some("fix"), TakesEffect::Now));
        assert_eq!(renewed(40, 60, &files), effect, "denied before the change and after it, to what was there before");
        assert_eq!(renewed(55, 60, &files), SettingsChange::Unknown, "to what may have been started before");
        assert_eq!(renewed(40, 60, &[("x.service", 10)]), SettingsChange::Unchanged, "before the machine was");
        assert_eq!(
            renewed(20, 25, &[("x.service", 10)]),
            SettingsChange::Unknown,
            "by what ran before the machine was booted"
        );
        assert_eq!(
            renewed(40, 60, &[("x.service", 55)]),
            SettingsChange::Unknown,
            "a unit file cannot be thought away"
        );
    }

    #[test]
    fn what_is_not_read_yet_takes_effect_later() {
        assert_eq!(
            told(40, &[("fix", 50)], Some(30), true, true),
            Some(fixed(50, Some("fix"), TakesEffect::AfterReload))
        );
    }

    #[test]
    fn what_fixed_it_is_named_where_it_can_be_told() {
        assert_eq!(told(40, &[("x.service", 50)], None, false, false), Some(fixed(50, None, TakesEffect::Now)));
        let both = [("fix", 45), ("x.service", 50)];
        assert_eq!(
            told(40, &both, None, false, false),
            Some(fixed(45, Some("fix"), TakesEffect::Now)),
            "not the newest change"
        );
        assert_eq!(told(40, &[], None, false, false), None);
    }
}
