//! Whether calls that a manager's units are refused with an error are recorded now, and by whose doing.

use super::switch::{Place, config_dir};
use crate::audit::text::shown_path;
use crate::host::unit_settings;
use crate::incidents::Moment;
use crate::incidents::local_time::{LocalTime, moment};
use crate::policy::seccomp_logging::{SeccompLogLine, SeccompLogging, parse_seccomp_logging};
use crate::systemd::manager::{Managers, SystemdManager};
use crate::unit_files;
use crate::units::Manager;
use serde::Serialize;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// Whose doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum By {
    /// `log-refusals`, in milliseconds since the epoch.
    HardenWhy { since: i64, until: i64 },
    /// A line of a configuration file, or the kernel's command line.
    Others(String),
}

/// A manager that has refusals recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Recording {
    pub(crate) manager: Manager,
    pub(crate) by: By,
}

/// The same, for JSON.
#[derive(Debug, Serialize)]
pub(crate) struct RecordingView {
    /// `system`, or `user:UID`.
    manager: String,
    /// Whether calls refused with an error are recorded, of processes started since; null where it is not known.
    on: Option<bool>,
    /// `harden-why`, or the file and line that switch it on.
    by: Option<String>,
    since: Option<String>,
    /// When it ends by itself.
    until: Option<String>,
}

impl Recording {
    /// Of a manager; `None` where refusals leave no record.
    pub(crate) async fn of(managers: &Managers, manager: Manager) -> Option<Self> {
        let running = managers.connect(manager).await.ok();
        let config = config_of(manager, running.as_ref()).await;
        let place = Place::of(manager, config.as_deref());
        if let Ok(Some(record)) = place.look()
            && record.on
            && is_same(running.as_ref(), record.manager).await
        {
            return Some(Self { manager, by: By::HardenWhy { since: record.since, until: record.until } });
        }
        let by = others(&place, config.as_deref(), running.as_ref()).await?;
        Some(Self { manager, by: By::Others(by) })
    }

    /// Since when and until when, as far as it is known, or whose doing it is.
    pub(crate) fn when(&self, clock: &LocalTime) -> String {
        match &self.by {
            By::HardenWhy { since, until } => {
                let shown = |millis: &i64| clock.show(&Moment::At(*millis)).unwrap_or_default();
                format!("since {}, until {}", shown(since), shown(until))
            }
            By::Others(by) => format!("since {by} switched it on"),
        }
    }
}

impl RecordingView {
    pub(crate) fn new(manager: Manager, recording: Option<&Recording>) -> Self {
        let (by, since, until) = match recording.map(|recording| &recording.by) {
            Some(By::HardenWhy { since, until }) => {
                (Some("harden-why".to_owned()), moment(&Moment::At(*since)), moment(&Moment::At(*until)))
            }
            Some(By::Others(by)) => (Some(by.clone()), None, None),
            None => (None, None, None),
        };
        Self { manager: manager.to_string(), on: Some(recording.is_some()), by, since, until }
    }

    /// Of a manager that does not answer.
    pub(crate) fn unknown(manager: Manager) -> Self {
        Self { manager: manager.to_string(), on: None, by: None, since: None, until: None }
    }
}

/// Whether the manager is the one that a record is about; one that does not answer is taken for it.
pub(crate) async fn is_same(running: Option<&SystemdManager>, started: u64) -> bool {
    match running {
        Some(running) => running.started_at().await.is_ok_and(|now| now == started),
        None => true,
    }
}

/// The directory of a user's own configuration; none of the system's.
pub(crate) async fn config_of(manager: Manager, running: Option<&SystemdManager>) -> Option<PathBuf> {
    let Manager::User(_) = manager else { return None };
    let environment = match running {
        Some(running) => running.environment().await.unwrap_or_default(),
        None => Vec::new(),
    };
    Some(config_dir(&environment, &unit_settings::home_dir(manager)))
}

/// What a line of somebody else's says of the switch, whether it is read yet or not.
pub(crate) fn others_say(place: &Place, config: Option<&Path>) -> Option<SeccompLogLine> {
    unit_files::seccomp_logging(Path::new("/"), place.manager, config, Some(place.read_by_manager()))
}

/// What of somebody else's switched it on.
pub(crate) async fn others(place: &Place, config: Option<&Path>, running: Option<&SystemdManager>) -> Option<String> {
    let Some(switch) = others_say(place, config) else {
        // What the kernel does not know it gives to PID 1.
        let line = fs::read_to_string("/proc/cmdline").ok().filter(|_| place.manager == Manager::System)?;
        return (parse_seccomp_logging(&line) == Some(SeccompLogging::On))
            .then(|| "the kernel command line".to_owned());
    };
    let read = match running {
        Some(running) => running.units_loaded_at().await.ok(),
        None => None,
    };
    let on = switch.sets == SeccompLogging::On && read.is_none_or(|read| is_older(&switch.origin.path, read));
    on.then(|| format!("{}:{}", shown_path(&switch.origin.path), switch.origin.line))
}

/// Whether a file was last written before a time in microseconds since the epoch.
fn is_older(path: &Path, micros: u64) -> bool {
    let changed = fs::metadata(path).and_then(|file| file.modified()).ok();
    let changed = changed.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    changed.is_none_or(|changed| changed.as_micros() <= u128::from(micros))
}
