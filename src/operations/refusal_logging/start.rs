//! Turns logging on, or makes it last longer.

use super::end::{ensure_idle, switch_off};
use super::log_switch::{FILE, LogSwitch, manager_text};
use super::marker::RefusalLogMarker;
use super::state::{find_other_cause, find_other_line, is_same_manager, user_config_dir};
use super::timer::{end_command, restart_timer, stop_timer};
use super::units::{LoggedUnit, UnitSelection, decide_restarts, restart_units, select_units};
use crate::audit::text::{escape, shown_path};
use crate::host::blind_spots;
use crate::host::blind_spots::BlindSpot;
use crate::incidents::local_time::LocalTime;
use crate::kernel::clock::now_millis;
use crate::operations::change_error::ChangeError;
use crate::operations::interruption::Interruption;
use crate::operations::local_machine::LocalMachine;
use crate::operations::outcome::RefusalLogOutcome;
use crate::operations::owner_marker::OwnerMarker;
use crate::operations::service_manager::{ServiceManager, ServiceManagers};
use crate::policy::manager_context::parse_major;
use crate::syscalls::Groups;
use crate::systemd::bus_address::BusAddress;
use crate::units::Manager;
use anyhow::{Context as _, bail, ensure};
use std::path::Path;
use std::time::Duration;

/// The first systemd with `ManagerEnvironment=`.
const FIRST_SYSTEMD: u32 = 248;

/// Logging to turn on.
#[derive(Debug)]
pub(crate) struct LoggingRequest {
    pub(crate) manager: Manager,
    pub(crate) units: UnitSelection,
    /// How long to log.
    pub(crate) duration: Duration,
    /// Whether all units keep running.
    pub(crate) no_restart: bool,
    /// The bus that the timer's command connects to.
    pub(crate) bus: BusAddress,
}

/// Whether there is anything to turn on.
pub(crate) enum LoggingPreparation<M: ServiceManagers> {
    /// Another configuration has turned logging on.
    OnByOthers { cause: String, units: Vec<LoggedUnit> },
    /// Nothing prevents logging.
    Ready(LoggingPlan<M>),
}

/// Logging that can be turned on.
pub(crate) struct LoggingPlan<M: ServiceManagers> {
    pub(crate) units: Vec<LoggedUnit>,
    connection: M::Connection,
    switch: LogSwitch,
    /// The marker of logging that is on already.
    before: Option<RefusalLogMarker>,
    manager_started: u64,
    duration: Duration,
    bus: BusAddress,
}

/// Checks whether logging can be turned on. Removes the files of logging that ended with an earlier manager.
///
/// # Errors
/// The error says what prevents logging.
pub(crate) async fn prepare<M: ServiceManagers>(
    machine: LocalMachine<'_, M>,
    request: LoggingRequest,
    groups: &Groups,
) -> anyhow::Result<LoggingPreparation<M>> {
    let LoggingRequest { manager, units, duration, no_restart, bus } = request;
    let connection = machine.connect(manager).await?;
    ensure_can_log(&connection, machine.root()).await?;
    let config = user_config_dir(manager, Some(&connection)).await;
    let config = config.as_deref();
    let switch = LogSwitch::new(machine, manager, config);
    let mut before = ensure_idle(&switch)?;
    if let Some(marker) = &before
        && !is_same_manager(Some(&connection), marker.manager_started).await
    {
        // A manager that started later does not log.
        switch.clear()?;
        before = None;
    }
    let mut units = select_units(machine, &connection, &units, groups).await?;
    if before.is_none() {
        if let Some(cause) = find_other_cause(machine, &switch, config, Some(&connection)).await {
            return Ok(LoggingPreparation::OnByOthers { cause, units });
        }
        ensure_takes_effect(machine, &switch, config)?;
    }
    decide_restarts(&mut units, no_restart);
    let manager_started = connection.started_at().await?;
    Ok(LoggingPreparation::Ready(LoggingPlan { units, connection, switch, before, manager_started, duration, bus }))
}

impl<M: ServiceManagers> LoggingPlan<M> {
    /// Returns the marker of the change, as of now.
    pub(crate) fn marker(&self) -> RefusalLogMarker {
        let since = self.before.as_ref().map_or_else(now_millis, |before| before.since);
        let until = now_millis().saturating_add(i64::try_from(self.duration.as_millis()).unwrap_or(i64::MAX));
        let manager_started = self.manager_started;
        RefusalLogMarker { since, until, manager_started, owner: OwnerMarker::current(), on: true }
    }

    /// Returns the outcome if nothing fails.
    pub(crate) fn outcome(&self) -> RefusalLogOutcome {
        if self.before.is_some() { RefusalLogOutcome::Extended } else { RefusalLogOutcome::Started }
    }

    /// Turns logging on, restarts the units, and returns the marker.
    ///
    /// # Errors
    /// Another process changed the logging, which stays as that process left it.
    ///
    /// Or a file cannot be written, the manager does not answer, or a signal came. Either logging is off then, or the
    /// error says how to turn it off.
    pub(crate) async fn start(
        &mut self,
        machine: LocalMachine<'_, M>,
        clock: &LocalTime,
        interruption: &mut Interruption,
    ) -> anyhow::Result<RefusalLogMarker> {
        let Self { switch, before, .. } = self;
        // Another process may have changed the logging while the user answered.
        let unchanged = ensure_idle(switch)? == *before;
        let manager = manager_text(switch.manager);
        ensure!(unchanged, "another harden-why has changed {manager} in the meantime: try again");
        let marker = self.marker();
        if let Err(error) = self.switch_on(&marker, clock, interruption).await {
            return Err(self.undo(machine, &marker, error, clock, interruption).await);
        }
        restart_units(&self.connection, &mut self.units, interruption).await;
        Ok(marker)
    }

    /// Turns logging on. The timer starts first, so that logging ends even if this process is killed.
    async fn switch_on(
        &self,
        marker: &RefusalLogMarker,
        clock: &LocalTime,
        interruption: &mut Interruption,
    ) -> Result<(), ChangeError> {
        let Self { switch, connection, duration, bus, .. } = self;
        let extends = switch.read().map_err(ChangeError::before_read)?.is_some();
        if extends {
            // The owner in the marker shows later processes that the change is incomplete.
            switch.write(marker, clock).map_err(ChangeError::before_read)?;
        }
        let command = end_command(bus, connection.manager())?;
        restart_timer(connection, *duration, &command).await.context("systemd rejects the timer that would end it")?;
        if !extends {
            switch.set(marker, connection, clock, Some(interruption)).await?;
        }
        let complete = switch.write(&RefusalLogMarker { owner: None, ..marker.clone() }, clock);
        Ok(complete.map_err(anyhow::Error::new)?)
    }

    /// Turns logging off after a failure. Returns the failure, with what is left.
    async fn undo(
        &self,
        machine: LocalMachine<'_, M>,
        marker: &RefusalLogMarker,
        why: ChangeError,
        clock: &LocalTime,
        interruption: &mut Interruption,
    ) -> anyhow::Error {
        let Self { switch, connection, before, .. } = self;
        let (is_unread, why) = (before.is_none() && matches!(why, ChangeError::Unread(_)), why.into_error());
        let undone = if is_unread {
            // The manager has not read any file.
            async { Ok(stop_timer(connection).await?) }.await.and_then(|()| Ok(switch.clear()?))
        } else {
            switch_off(machine, switch, connection, Some(marker), clock, Some(interruption)).await
        };
        match undone {
            Ok(()) if is_unread => why,
            Ok(()) => why.context("logging is off again"),
            Err(more) => {
                why.context(format!("and logging cannot be switched off again ({more:#}): {}", switch.undo_command()))
            }
        }
    }
}

/// Checks that the manager knows `ManagerEnvironment=`, and that the kernel logs refused calls.
async fn ensure_can_log(manager: &impl ServiceManager, root: &Path) -> anyhow::Result<()> {
    let version = manager.version().await?;
    ensure!(
        parse_major(&version).is_none_or(|major| major >= FIRST_SYSTEMD),
        "systemd {} cannot log refused calls (this requires {FIRST_SYSTEMD}): use 'harden-why rehearse UNIT' or \
        'harden-why tap UNIT'",
        escape(version.as_bytes())
    );
    let hides_refusals =
        |spot: &BlindSpot| spot.id == "audit-off" || (spot.id == "actions-not-logged" && spot.what.contains("errno"));
    if let Some(spot) = blind_spots::find_blind_spots(root).into_iter().find(hides_refusals) {
        bail!("the kernel would log no refused call: {spot}");
    }
    Ok(())
}

/// Checks that no other file hides the drop-in or overrides it.
fn ensure_takes_effect<M: ServiceManagers>(
    machine: LocalMachine<'_, M>,
    switch: &LogSwitch,
    config: Option<&Path>,
) -> anyhow::Result<()> {
    let hiding = machine.resolve(Path::new("/etc/systemd/system.conf.d")).join(FILE);
    ensure!(
        switch.manager != Manager::System || hiding.symlink_metadata().is_err(),
        "{} hides the drop-in that log-refusals writes below /run: move it away first",
        shown_path(&hiding)
    );
    let Some(line) = find_other_line(machine, switch, config) else { return Ok(()) };
    let name = line.origin.path.file_name().unwrap_or_default();
    ensure!(
        // Drop-ins apply in the order of their names, after the main file.
        line.origin.path.parent().is_none_or(|dir| dir.extension() != Some("d".as_ref())) || name < FILE,
        "{} overrides the drop-in that log-refusals writes: remove that line first",
        line.origin
    );
    Ok(())
}

#[cfg(test)]
mod tests;
