//! Turns off logging whose time is over, or whose `log-refusals` was killed.

use super::end::switch_off;
use super::log_switch::{LogSwitch, manager_text};
use super::marker::RefusalLogMarker;
use super::state::{is_same_manager, user_config_dir};
use crate::host::unit_settings;
use crate::incidents::local_time::LocalTime;
use crate::kernel::clock::now_millis;
use crate::operations::local_machine::LocalMachine;
use crate::operations::permission::root_command;
use crate::operations::service_manager::ServiceManagers;
use crate::unit_files;
use crate::units::Manager;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::fs;
use std::os::unix::fs::MetadataExt as _;

/// Why logging is stale, as part of a sentence.
const KILLED: &str = "was left by a harden-why that was killed";
const OVERDUE: &str = "was over";

/// Logging that should be off.
#[derive(Debug)]
pub(crate) struct StaleLogging {
    manager: Manager,
    marker: Option<RefusalLogMarker>,
    why: &'static str,
}

/// Finds the stale logging of the system manager and of the caller's own manager.
pub(crate) fn find_stale<M: ServiceManagers>(machine: LocalMachine<'_, M>) -> Vec<StaleLogging> {
    let managers = [Manager::System, Manager::User(machine.uid())];
    managers.into_iter().filter_map(|manager| find_for(machine, manager)).collect()
}

fn find_for<M: ServiceManagers>(machine: LocalMachine<'_, M>, manager: Manager) -> Option<StaleLogging> {
    // Every verb does this and nearly always finds nothing, so this does not wait for a manager.
    let variable = |name: &&str| Some(format!("{name}={}", std::env::var(name).ok()?));
    let environment: Vec<String> = ["XDG_CONFIG_HOME", "HOME"].iter().filter_map(variable).collect();
    let home = unit_settings::home_dir(manager);
    let config = unit_files::config_dir(&environment, &home);
    // `sudo` can leave the caller's `HOME`: what another user put there is none of the caller's.
    let is_own = fs::metadata(&config).is_ok_and(|dir| dir.uid() == machine.uid());
    let config = if is_own { config } else { unit_files::config_dir(&[], &home) };
    let switch = LogSwitch::new(machine, manager, Some(&config));
    let marker = switch.read().ok().flatten();
    let why = match &marker {
        Some(marker) => match marker.owner {
            Some(owner) => owner.living_owner().is_none().then_some(KILLED),
            None => (marker.until <= now_millis()).then_some(OVERDUE),
        },
        None => switch.has_stray_file().then_some(KILLED),
    }?;
    Some(StaleLogging { manager, marker, why })
}

impl StaleLogging {
    /// Turns the logging off. Returns a sentence about what was done, or what is left to do.
    pub(crate) async fn recover<M: ServiceManagers>(self, machine: LocalMachine<'_, M>) -> String {
        let what = format!("the logging of refusals for {} {}", manager_text(self.manager), self.why);
        if self.manager == Manager::System && machine.uid() != 0 {
            return format!("{what}: the next harden-why of root ends it ({})", root_command("harden-why restore"));
        }
        match self.turn_off(machine).await {
            Ok(done) => format!("{what}; {done}"),
            Err(error) => format!("{what}, and cannot be ended: {error:#}; try again: harden-why restore"),
        }
    }

    async fn turn_off<M: ServiceManagers>(&self, machine: LocalMachine<'_, M>) -> anyhow::Result<&'static str> {
        let Self { manager, marker, .. } = self;
        let connection = machine.connect(*manager).await?;
        let config = user_config_dir(*manager, Some(&connection)).await;
        let switch = LogSwitch::new(machine, *manager, config.as_deref());
        if let Some(marker) = marker
            && !is_same_manager(Some(&connection), marker.manager_started).await
        {
            switch.clear()?;
            return Ok("the manager restarted, so it was off already");
        }
        let clock = LocalTime { now: Some(Timestamp::now()), zone: TimeZone::system() };
        // With a signal handler, a signal would no longer end the program, although its verb is still to come.
        switch_off(machine, &switch, &connection, marker.as_ref(), &clock, None).await?;
        Ok("it is off now")
    }
}
