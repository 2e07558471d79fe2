//! Compares denials with changes of the unit's settings: whether a call that the settings permit now was denied by
//! earlier settings, and whether a call that they deny was denied since they changed.
//!
//! A process keeps the filter that it started with. So only changes since its start count, and a change affects only
//! processes that start after it.

use crate::policy::Policy;
use std::path::{Path, PathBuf};

/// How far a file's time can lag behind, in milliseconds. The kernel takes the time from a clock that advances only at
/// timer ticks. Ticks are up to 10 ms apart (`CONFIG_HZ`), and late on a busy machine: a lag of 5 ms was measured with
/// ticks of 4 ms.
const FILE_CLOCK_LAG: i64 = 20;

/// When a unit's settings changed, and when it was started. Times are milliseconds since the epoch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct History {
    /// The files and directories that hold the settings, each with its latest change.
    pub changes: Vec<FileChange>,
    /// Whether the manager has not reread the files since the latest change.
    pub pending: bool,
    /// When the manager last reread all files. `None` if that is unknown, or if no change is pending.
    pub loaded: Option<i64>,
    /// When the unit's latest main process started. `None` also between a start and its main process: systemd resets the
    /// time (`service_start` in `src/core/service.c`), then runs `ExecStartPre=`.
    pub started: Option<i64>,
    /// When the unit last left the state `inactive` or `failed`: no process of its latest run is older.
    pub activated: Option<i64>,
    /// Whether that process still runs.
    pub running: bool,
    /// When the machine booted: no process is older.
    pub booted: i64,
}

impl History {
    /// Whether the manager has not read a changed file, so that no process started with it.
    fn is_unread(&self, change: &FileChange) -> bool {
        self.pending && self.loaded.is_some_and(|loaded| change.at > loaded)
    }
}

/// The latest change of a file or directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileChange {
    /// The file, or the directory to which files were added or from which they were removed.
    pub path: PathBuf,
    /// The time of the change.
    pub at: i64,
}

/// Settings that permit a call that earlier settings may have denied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fixed {
    /// When the settings were changed; `None` if the times of the files mean nothing.
    pub at: Option<i64>,
    /// The drop-in without which the settings would still deny the call; `None` if it is unknown.
    pub by: Option<PathBuf>,
    /// When the settings take effect.
    pub takes: TakesEffect,
}

/// A change of settings that deny a call, or may. No process that started after the change is known to be denied it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaterChange {
    /// When the file was changed.
    pub at: i64,
    /// The changed file.
    pub path: PathBuf,
    /// When the change takes effect.
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

/// Returns how the settings changed since a call was denied. The call was denied first and last at these times.
/// `denies` says whether a policy denies the call as recorded, and `without` returns the policy without a drop-in.
pub(super) fn find_change(
    (first, last): (i64, i64),
    history: &History,
    without: impl Fn(&PathBuf) -> Policy,
    denies: impl Fn(&Policy) -> bool,
) -> SettingsChange {
    // Without a known start, the process existed at the first denial.
    let known_start = find_start(last, history);
    let start = known_start.unwrap_or(first.min(last));
    let mut newest_first: Vec<&FileChange> =
        history.changes.iter().filter(|change| change.at > start || history.is_unread(change)).collect();
    newest_first.sort_by_key(|change| std::cmp::Reverse(change.at));
    let by = newest_first.iter().find(|change| denies(&without(&change.path)));
    let newest = newest_first.first().filter(|newest| known_start.is_some() || newest.at > last);
    let Some(at) = by.or(newest).map(|change| change.at) else {
        let earliest = if last < history.booted { i64::MIN } else { history.booted };
        let is_between = |change: &FileChange| change.at > earliest && change.at <= last;
        return if known_start.is_none() && history.changes.iter().any(is_between) {
            SettingsChange::Unknown
        } else {
            SettingsChange::Unchanged
        };
    };
    let takes = find_effect(at, (last, known_start), history);
    SettingsChange::Changed(Fixed { at: Some(at), by: by.map(|change| change.path.clone()), takes })
}

/// Returns the latest change of settings that may be newer than the start of the process that was last denied the call.
/// `decides` says whether a file holds settings that decide the call, and `is_ours` whether harden-why wrote it.
pub(super) fn find_later_change(
    last: i64,
    history: &History,
    decides: impl Fn(&Path) -> bool,
    is_ours: impl Fn(&Path) -> bool,
) -> Option<LaterChange> {
    let known_start = find_start(last, history);
    // Without a known start, the process may be older than any change. That counts only for a remedy: another remedy
    // would be a guess on top of it.
    let may_be_later = |change: &&FileChange| {
        let after = |start| change.at > start;
        history.is_unread(change) || known_start.map_or_else(|| after(last) || is_ours(&change.path), after)
    };
    let mut newest_first: Vec<&FileChange> = history.changes.iter().filter(may_be_later).collect();
    newest_first.sort_by_key(|change| std::cmp::Reverse(change.at));
    let FileChange { path, at } = newest_first.into_iter().find(|change| decides(&change.path))?;
    let takes = find_effect(*at, (last, known_start), history);
    Some(LaterChange { at: *at, path: path.clone(), takes })
}

/// Returns a time before which the process that was denied a call at `last` did not start; `None` if that is unknown.
fn find_start(last: i64, history: &History) -> Option<i64> {
    // A denial after the latest start probably affected the process of that start.
    let known = |start: Option<i64>| start.filter(|start| *start <= last);
    known(history.started).or_else(|| known(history.activated))
}

/// Returns when a change takes effect. The call was denied last at this time, to a process of this start.
fn find_effect(at: i64, (last, known_start): (i64, Option<i64>), history: &History) -> TakesEffect {
    let runs_older = history.running && history.started.is_some_and(|started| started < at + FILE_CLOCK_LAG);
    match () {
        () if history.pending => TakesEffect::AfterReload,
        () if runs_older || (last > at && known_start.is_some()) => TakesEffect::AtNextStart,
        () => TakesEffect::Now,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Settings, UnitFile};
    use crate::syscalls::groups::GroupSource;
    use crate::syscalls::{Abi, Groups};

    /// A policy with or without the drop-in `fix`, which allows the denied call.
    fn policy(with: bool) -> Policy {
        let groups = Groups::parse("@known\n    read\n    mount\n", GroupSource::Host("252".into())).unwrap();
        let file = |name: &str, value: &str| {
            UnitFile::parse(Path::new(name), format!("[Service]\nSystemCallFilter={value}\n").as_bytes())
        };
        let dropins = if with { vec![file("fix", "mount")] } else { Vec::new() };
        let settings = Settings::new(&"x.service".parse().unwrap(), Some(file("x.service", "read")), dropins);
        Policy::new(settings, &groups.with_native(Abi::X86_64))
    }

    /// Returns the fix among these changes, for a denial at `last`.
    fn find_fix(
        last: i64,
        changes: &[(&str, i64)],
        started: Option<i64>,
        running: bool,
        pending: bool,
    ) -> Option<Fixed> {
        match find(last, last, changes, started, running, pending) {
            SettingsChange::Changed(fixed) => Some(fixed),
            SettingsChange::Unchanged => None,
            SettingsChange::Unknown => panic!("unknown"),
        }
    }

    fn find(
        first: i64,
        last: i64,
        changes: &[(&str, i64)],
        started: Option<i64>,
        running: bool,
        pending: bool,
    ) -> SettingsChange {
        let changes = changes.iter().map(|(path, at)| FileChange { path: path.into(), at: *at }).collect();
        let history = History { changes, pending, started, running, booted: 30, ..History::default() };
        let denies = |policy: &Policy| policy.filter.as_ref().is_some_and(|filter| !filter.permits("mount"));
        find_change((first, last), &history, |path| policy(path != Path::new("fix")), denies)
    }

    fn fixed(at: i64, by: Option<&str>, takes: TakesEffect) -> Fixed {
        Fixed { at: Some(at), by: by.map(Into::into), takes }
    }

    #[test]
    fn change_after_denial_fixed_it() {
        let files = [("x.service", 10), ("fix", 50)];
        assert_eq!(find_fix(40, &files, None, false, false), Some(fixed(50, Some("fix"), TakesEffect::Now)));
        assert_eq!(find_fix(40, &files, Some(80), true, false), Some(fixed(50, Some("fix"), TakesEffect::Now)));
        assert_eq!(
            find_fix(60, &files, Some(55), true, false),
            None,
            "denied to a process that started after the change"
        );
    }

    #[test]
    fn denial_without_known_start_may_be_older_than_change() {
        let files = [("x.service", 10), ("fix", 50)];
        let starting = |first, last| find(first, last, &files, None, false, false);
        let effect = SettingsChange::Changed(fixed(50, Some("fix"), TakesEffect::Now));
        assert_eq!(starting(40, 60), effect, "a crash loop during apply, between the drop-in and the reload");
        assert_eq!(starting(60, 60), SettingsChange::Unknown, "the process may have started before the change");
    }

    #[test]
    fn change_takes_effect_at_next_start_of_process_that_started_before_it() {
        let files = [("x.service", 10), ("fix", 50)];
        assert_eq!(find_fix(40, &files, Some(30), true, false), Some(fixed(50, Some("fix"), TakesEffect::AtNextStart)));
        assert_eq!(find_fix(70, &files, Some(30), true, false), Some(fixed(50, Some("fix"), TakesEffect::AtNextStart)));
        assert_eq!(
            find_fix(70, &files, Some(30), false, false),
            Some(fixed(50, Some("fix"), TakesEffect::AtNextStart)),
            "the process died"
        );
        assert_eq!(find_fix(40, &files, Some(30), false, false), Some(fixed(50, Some("fix"), TakesEffect::Now)));
        assert_eq!(find_fix(20, &files, Some(30), true, false), Some(fixed(50, Some("fix"), TakesEffect::AtNextStart)));
        assert_eq!(
            find_fix(40, &files, Some(55), true, false),
            Some(fixed(50, Some("fix"), TakesEffect::AtNextStart)),
            "the clock of file times lags, so the change may be later than the start"
        );
    }

    #[test]
    fn denial_before_latest_start_may_be_older_than_change() {
        let files = [("x.service", 10), ("fix", 50)];
        let restarted = |first, last, files: &[_]| find(first, last, files, Some(80), true, false);
        let effect = SettingsChange::Changed(fixed(50, Some("fix"), TakesEffect::Now));
        assert_eq!(restarted(40, 60, &files), effect, "denied before the change and after it, to the older process");
        assert_eq!(restarted(55, 60, &files), SettingsChange::Unknown, "to a process that may have started before");
        assert_eq!(
            restarted(40, 60, &[("x.service", 10)]),
            SettingsChange::Unchanged,
            "the change is older than the boot"
        );
        assert_eq!(
            restarted(20, 25, &[("x.service", 10)]),
            SettingsChange::Unknown,
            "denied to a process of an earlier boot"
        );
        assert_eq!(
            restarted(40, 60, &[("x.service", 55)]),
            SettingsChange::Unknown,
            "the policy without a unit file is not known"
        );
    }

    #[test]
    fn unread_change_takes_effect_after_reload() {
        assert_eq!(
            find_fix(40, &[("fix", 50)], Some(30), true, true),
            Some(fixed(50, Some("fix"), TakesEffect::AfterReload))
        );
    }

    #[test]
    fn drop_in_that_fixed_it_is_named_if_known() {
        assert_eq!(find_fix(40, &[("x.service", 50)], None, false, false), Some(fixed(50, None, TakesEffect::Now)));
        let both = [("fix", 45), ("x.service", 50)];
        assert_eq!(
            find_fix(40, &both, None, false, false),
            Some(fixed(45, Some("fix"), TakesEffect::Now)),
            "not the newest change"
        );
        assert_eq!(find_fix(40, &[], None, false, false), None);
    }

    /// Returns the path and the effect of a later change of `x.service`, or of `fix`, a remedy.
    fn find_later(last: i64, started: Option<i64>, activated: Option<i64>) -> Option<(&'static str, TakesEffect)> {
        let change = |path: &str, at| FileChange { path: path.into(), at };
        let changes = vec![change("x.service", 50), change("fix", 60), change("x.service.d", 90)];
        let history = History { changes, started, activated, running: true, booted: 30, ..History::default() };
        let decides = |path: &Path| path != Path::new("x.service.d");
        let change = find_later_change(last, &history, decides, |path| path == Path::new("fix"))?;
        let path = if change.path == Path::new("fix") { "fix" } else { "x.service" };
        Some((path, change.takes))
    }

    #[test]
    fn denial_of_process_older_than_change_is_before_change() {
        let later = Some(("fix", TakesEffect::AtNextStart));
        assert_eq!(find_later(55, Some(40), None), later);
        assert_eq!(find_later(70, Some(40), None), later, "a process keeps the filter of its start");
        assert_eq!(find_later(55, Some(85), Some(84)), Some(("fix", TakesEffect::Now)));
        assert_eq!(find_later(85, Some(80), None), None);
    }

    #[test]
    fn denial_without_known_start_is_before_change_of_remedy_only() {
        assert_eq!(find_later(65, None, None), Some(("fix", TakesEffect::Now)));
        assert_eq!(find_later(65, None, Some(62)), None, "ExecStartPre= of the latest run");
        let history =
            |path: &str| History { changes: vec![FileChange { path: path.into(), at: 60 }], ..History::default() };
        let find = |last, path| find_later_change(last, &history(path), |_| true, |path| path == Path::new("fix"));
        assert_eq!(find(65, "x.service"), None);
        assert!(find(55, "x.service").is_some() && find(65, "fix").is_some());
    }
}
