//! Finds out whether a manager logs refused calls now, and which configuration turned the logging on.

use super::log_switch::LogSwitch;
use crate::audit::text::shown_path;
use crate::host::unit_settings;
use crate::incidents::Moment;
use crate::incidents::local_time::LocalTime;
use crate::operations::local_machine::LocalMachine;
use crate::operations::service_manager::{ServiceManager, ServiceManagers};
use crate::policy::manager_variable::{ManagerVariable, VariableEffect, VariableLine, parse_variable};
use crate::unit_files;
use crate::units::Manager;
use std::fs;
use std::path::{Path, PathBuf};

/// What turned the logging on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LoggingCause {
    /// `log-refusals`. Times are in milliseconds since the epoch.
    HardenWhy { since: i64, until: i64 },
    /// A line of a configuration file, or the kernel command line.
    Others(String),
}

/// A manager that logs refused calls, with the cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ActiveLogging {
    pub(crate) manager: Manager,
    pub(crate) cause: LoggingCause,
}

impl ActiveLogging {
    /// Finds out whether a manager logs refused calls.
    pub(crate) async fn find<M: ServiceManagers>(machine: LocalMachine<'_, M>, manager: Manager) -> Option<Self> {
        let connection = machine.connect(manager).await.ok();
        let config = user_config_dir(manager, connection.as_ref()).await;
        let switch = LogSwitch::new(machine, manager, config.as_deref());
        if let Ok(Some(marker)) = switch.read()
            && marker.on
            && is_same_manager(connection.as_ref(), marker.manager_started).await
        {
            let cause = LoggingCause::HardenWhy { since: marker.since, until: marker.until };
            return Some(Self { manager, cause });
        }
        let other = find_other_cause(machine, &switch, config.as_deref(), connection.as_ref()).await?;
        Some(Self { manager, cause: LoggingCause::Others(other) })
    }

    /// Returns when the logging began and ends, or which other configuration turned it on.
    pub(crate) fn when(&self, clock: &LocalTime) -> String {
        match &self.cause {
            LoggingCause::HardenWhy { since, until } => {
                let shown = |millis: &i64| clock.show(&Moment::At(*millis)).unwrap_or_default();
                format!("since {}, until {}", shown(since), shown(until))
            }
            LoggingCause::Others(other) => format!("switched on by {other}"),
        }
    }
}

/// Returns whether the manager started at this time, in microseconds since the epoch.
///
/// Without a connection or an answer the result is `true`: only a known other manager lets a marker be removed.
pub(crate) async fn is_same_manager(connection: Option<&impl ServiceManager>, started_at: u64) -> bool {
    match connection {
        Some(connection) => connection.started_at().await.map_or(true, |now| now == started_at),
        None => true,
    }
}

/// Returns the directory of a user's own configuration; `None` for the system manager.
pub(crate) async fn user_config_dir(manager: Manager, connection: Option<&impl ServiceManager>) -> Option<PathBuf> {
    let Manager::User(_) = manager else { return None };
    let environment = match connection {
        Some(connection) => connection.environment().await.unwrap_or_default(),
        None => Vec::new(),
    };
    Some(unit_files::config_dir(&environment, &unit_settings::home_dir(manager)))
}

/// Finds the line of another configuration file that sets the logging, even if the manager has not read it yet.
pub(crate) fn find_other_line<M: ServiceManagers>(
    machine: LocalMachine<'_, M>,
    switch: &LogSwitch,
    config: Option<&Path>,
) -> Option<VariableLine> {
    let variable = ManagerVariable::LogSeccomp;
    unit_files::find_variable_line(machine.root(), switch.manager, config, variable, Some(switch.path_for_manager()))
}

/// Finds the other configuration that turned the logging on.
pub(crate) async fn find_other_cause<M: ServiceManagers>(
    machine: LocalMachine<'_, M>,
    switch: &LogSwitch,
    config: Option<&Path>,
    connection: Option<&M::Connection>,
) -> Option<String> {
    let Some(line) = find_other_line(machine, switch, config) else {
        // The kernel passes variables that it does not know to PID 1.
        let path = machine.resolve(Path::new("/proc/cmdline"));
        let cmdline = fs::read_to_string(path).ok().filter(|_| switch.manager == Manager::System)?;
        let is_on = parse_variable(&cmdline, ManagerVariable::LogSeccomp) == Some(VariableEffect::On);
        return is_on.then(|| "the kernel command line".to_owned());
    };
    let loaded_at = match connection {
        Some(connection) => connection.units_loaded_at().await.ok(),
        None => None,
    };
    let is_older = |loaded_at| unit_files::is_older(machine.root(), &line.origin.path, loaded_at);
    let is_on = line.sets == VariableEffect::On && loaded_at.and_then(is_older) != Some(false);
    is_on.then(|| format!("{}:{}", shown_path(&line.origin.path), line.origin.line))
}
