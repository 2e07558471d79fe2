//! The comments of a rehearsal's drop-in: the rehearsing process, and the state to restore.
//!
//! The drop-in has one of two names. systemd reads the first name and ignores the second. While the file has the second
//! name, the unit may still run without its own settings. harden-why removes the file last, so that a file marks every
//! unit that needs restoring.

use crate::audit::Note;
use crate::audit::text::{join, quote_arguments};
use crate::host::unit_settings::BISECTION_LINE;
use crate::operations::owner_marker::OwnerMarker;
use crate::operations::service_manager::ServiceManager;
use crate::systemd::manager::{UnitJob, UnitProperties};
use crate::units::UnitName;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// The second name. systemd reads only `.conf` files.
const DISARMED: &str = "zzzz-harden-why-rehearsal.over";

/// The prefix of the line that says whether the unit ran before.
const BEFORE: &str = "# Before: ";

/// The prefix of the line that lists the units to start again at the end.
const INTERRUPTED: &str = "# Interrupted: ";

/// Returns the path of a drop-in under its second name.
pub(crate) fn disarmed_path(path: &Path) -> PathBuf {
    path.with_file_name(DISARMED)
}

/// What runs a unit under a temporary drop-in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activity {
    /// One run that blocks no call.
    Rehearsal,
    /// Several runs, each without some of the unit's hardening.
    Bisection,
}

impl Activity {
    /// The verb of harden-why.
    pub(crate) fn verb(self) -> &'static str {
        match self {
            Self::Rehearsal => "rehearse",
            Self::Bisection => "bisect",
        }
    }

    /// The past participle of the verb.
    pub(crate) fn participle(self) -> &'static str {
        match self {
            Self::Rehearsal => "rehearsed",
            Self::Bisection => "bisected",
        }
    }

    /// The present participle of the verb.
    pub(crate) fn gerund(self) -> &'static str {
        match self {
            Self::Rehearsal => "rehearsing",
            Self::Bisection => "bisecting",
        }
    }

    /// The noun.
    pub(crate) fn plain_noun(self) -> &'static str {
        match self {
            Self::Rehearsal => "rehearsal",
            Self::Bisection => "bisection",
        }
    }

    /// The noun with its article.
    pub(crate) fn noun(self) -> String {
        format!("a {}", self.plain_noun())
    }
}

/// The facts that a drop-in records about its rehearsal or bisection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RehearsalMarker {
    pub(crate) activity: Activity,
    owner: Option<OwnerMarker>,
    /// Whether the unit ran before.
    pub(crate) ran: bool,
    /// The unit's invocation ID before the rehearsal.
    invocation: Option<[u8; 16]>,
    /// The units that ran before, that jobs of the unit stop, and that run again at the end.
    interrupted: Vec<UnitName>,
}

impl RehearsalMarker {
    /// The marker of an activity of this process. `before` holds the unit's earlier properties, `interrupted` the running
    /// units that the activity stops for a while.
    pub(crate) fn new(activity: Activity, before: &UnitProperties, interrupted: Vec<UnitName>) -> Self {
        let (ran, invocation) = (before.is_running(), before.invocation_id);
        Self { activity, owner: OwnerMarker::current(), ran, invocation, interrupted }
    }

    /// Returns the comment lines, which precede the settings.
    pub(crate) fn lines(&self) -> String {
        let mut lines = String::new();
        // Writing to a String cannot fail.
        if self.activity == Activity::Bisection {
            let _ = writeln!(lines, "{BISECTION_LINE}");
        }
        if let Some(owner) = self.owner {
            let _ = writeln!(lines, "{owner}");
        }
        let invocation =
            self.invocation.map_or_else(|| "-".to_owned(), |id| format!("{:032x}", u128::from_be_bytes(id)));
        let _ = writeln!(lines, "{BEFORE}{} {invocation}", if self.ran { "running" } else { "stopped" });
        if !self.interrupted.is_empty() {
            let names: Vec<&str> = self.interrupted.iter().map(UnitName::as_str).collect();
            let _ = writeln!(lines, "{INTERRUPTED}{}", names.join(" "));
        }
        lines
    }

    /// Parses the comments of a drop-in. An unreadable line counts as "the unit ran, and its owner is gone", since
    /// that restores the most.
    pub(crate) fn parse(drop_in: &[u8]) -> Self {
        let text = String::from_utf8_lossy(drop_in);
        let before = text.lines().find_map(|line| line.strip_prefix(BEFORE)?.split_once(' '));
        let interrupted = text.lines().find_map(|line| line.strip_prefix(INTERRUPTED)).unwrap_or_default();
        let is_bisection = text.lines().any(|line| line == BISECTION_LINE);
        Self {
            activity: if is_bisection { Activity::Bisection } else { Activity::Rehearsal },
            owner: OwnerMarker::find_line(&text).and_then(OwnerMarker::parse),
            ran: before.is_none_or(|(state, _)| state != "stopped"),
            invocation: before.and_then(|(_, id)| Some(u128::from_str_radix(id, 16).ok()?.to_be_bytes())),
            interrupted: interrupted.split(' ').filter_map(|name| name.parse().ok()).collect(),
        }
    }

    /// Returns the pid of the rehearsing process if it still runs.
    pub(crate) fn living_owner(&self) -> Option<u32> {
        self.owner.and_then(OwnerMarker::living_owner)
    }

    /// Returns the job that a unit of a killed rehearsal needs once its own settings are in force again: it ends processes
    /// that started without them, and starts a unit that ran before. `None` if the unit needs neither.
    pub(crate) fn restoring_job(&self, now: &UnitProperties) -> Option<UnitJob> {
        let is_new_run = now.invocation_id.is_none() || now.invocation_id != self.invocation;
        match (self.ran, now.is_running()) {
            (true, true) => is_new_run.then_some(UnitJob::Restart),
            (true, false) => Some(UnitJob::Restart),
            (false, true) => is_new_run.then_some(UnitJob::Stop),
            (false, false) => None,
        }
    }

    /// Starts the units that jobs of the unit `name` stopped, once that unit is as before. A unit that runs stays as it is.
    /// Returns a note about those whose start systemd rejects.
    pub(crate) async fn start_interrupted(&self, name: &UnitName, manager: &impl ServiceManager) -> Option<Note> {
        let (mut rejected, mut why) = (Vec::new(), None);
        for unit in &self.interrupted {
            if let Err(error) = manager.start_job(unit, UnitJob::Start).await {
                rejected.push(unit.as_str());
                why = why.or(Some(error));
            }
        }
        let start = manager.manager().systemctl(&format!("start {}", quote_arguments(rejected.iter().copied())));
        let which = join(rejected.into_iter().map(str::to_owned));
        why.map(|why| {
            let text = format!("{which} stopped because of {name} and cannot be started again: {why} ({start})");
            Note::new("interrupted-not-started", text)
        })
    }

    /// Notes which units stay stopped because the unit `name` runs now, as it did not before.
    pub(crate) fn note_interrupted(&self, name: &UnitName) -> Option<Note> {
        let which = join(self.interrupted.iter().map(ToString::to_string));
        let text = format!("{name} runs now, and what conflicts with it stays stopped: {which}");
        (!self.ran && !self.interrupted.is_empty()).then(|| Note::new("conflicting-units-stopped", text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_marker_parses_to_the_same_marker() {
        use Activity::{Bisection, Rehearsal};
        let states = [(Rehearsal, true, Some([7; 16])), (Rehearsal, false, None), (Bisection, false, Some([0; 16]))];
        for (activity, ran, invocation) in states {
            let interrupted =
                if ran { vec!["y@1.service".parse().unwrap(), "z.service".parse().unwrap()] } else { Vec::new() };
            let marker = RehearsalMarker { activity, owner: OwnerMarker::current(), ran, invocation, interrupted };
            let text = format!("# Written by harden-why\n{}[Service]\n", marker.lines());
            let parsed = RehearsalMarker::parse(text.as_bytes());
            assert_eq!(parsed, marker);
            assert_eq!(parsed.living_owner(), Some(std::process::id()));
        }
    }

    #[test]
    fn malformed_marker_restores_most() {
        for text in ["", "# Owner: x y\n# Before: \n", "# Owner: 1\n# Before: perhaps zz\n", "\u{0}\n[Service]\n"] {
            let marker = RehearsalMarker::parse(text.as_bytes());
            let most = RehearsalMarker {
                activity: Activity::Rehearsal,
                owner: None,
                ran: true,
                invocation: None,
                interrupted: Vec::new(),
            };
            assert_eq!(marker, most, "{text:?}");
            assert_eq!(marker.living_owner(), None);
        }
    }
}
