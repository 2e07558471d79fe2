//! Turns logging off.

use super::log_switch::{LogSwitch, manager_text};
use super::marker::RefusalLogMarker;
use super::state::{find_other_cause, find_other_line, user_config_dir};
use super::timer::stop_timer;
use super::units::reason_to_spare;
use crate::host::unit_settings::load_manager_context;
use crate::incidents::local_time::LocalTime;
use crate::kernel::clock::now_millis;
use crate::operations::change_error::ChangeError;
use crate::operations::interruption::Interruption;
use crate::operations::local_machine::LocalMachine;
use crate::operations::owner_marker::OwnerMarker;
use crate::operations::service_manager::{ServiceManager, ServiceManagers};
use crate::policy::manager_variable::VariableEffect;
use crate::syscalls::Groups;
use crate::units::{Manager, UnitName};
use anyhow::{Context as _, bail};

/// The result of turning logging off.
#[must_use]
#[derive(Debug)]
pub(crate) enum TurnedOff {
    /// Logging is off. These units have processes that keep logging until they restart.
    Ended { still_logging: Vec<UnitName> },
    /// harden-why had not turned it on; perhaps another configuration did.
    Nothing { other_cause: Option<String> },
}

/// Turns logging off for a manager.
///
/// # Errors
/// Another process is changing the logging, or the manager does not answer.
pub(crate) async fn turn_off<M: ServiceManagers>(
    machine: LocalMachine<'_, M>,
    manager: Manager,
    groups: &Groups,
    clock: &LocalTime,
    interruption: &mut Interruption,
) -> anyhow::Result<TurnedOff> {
    let connection = machine.connect(manager).await?;
    let config = user_config_dir(manager, Some(&connection)).await;
    let switch = LogSwitch::new(machine, manager, config.as_deref());
    let before = ensure_idle(&switch)?;
    if before.is_none() && !switch.has_stray_file() {
        let other_cause = find_other_cause(machine, &switch, config.as_deref(), Some(&connection)).await;
        return Ok(TurnedOff::Nothing { other_cause });
    }
    switch_off(machine, &switch, &connection, before.as_ref(), clock, Some(interruption)).await?;
    let still_logging = match before {
        Some(before) => find_still_logging(&connection, before.since, groups).await,
        None => Vec::new(),
    };
    Ok(TurnedOff::Ended { still_logging })
}

/// Returns the marker, and checks that no process is changing the logging.
///
/// # Errors
/// Another process is changing the logging, or the marker cannot be read.
pub(crate) fn ensure_idle(switch: &LogSwitch) -> anyhow::Result<Option<RefusalLogMarker>> {
    let marker = switch.read()?;
    let owner = marker.as_ref().and_then(|marker| marker.owner);
    if let Some(pid) = owner.and_then(OwnerMarker::living_owner) {
        let manager = manager_text(switch.manager);
        bail!("another harden-why (pid {pid}) is changing {manager}: wait for it");
    }
    Ok(marker)
}

/// Turns logging off and removes its files. The order of the steps lets a later process finish after a kill.
///
/// # Errors
/// The manager does not answer, or a signal came. The marker stays, so that the next harden-why finishes, unless only
/// the last reload failed.
pub(crate) async fn switch_off<M: ServiceManagers>(
    machine: LocalMachine<'_, M>,
    switch: &LogSwitch,
    manager: &M::Connection,
    before: Option<&RefusalLogMarker>,
    clock: &LocalTime,
    interruption: Option<&mut Interruption>,
) -> anyhow::Result<()> {
    let manager_started = manager.started_at().await?;
    let (since, until) = before.map_or_else(|| (now_millis(), now_millis()), |before| (before.since, before.until));
    // Without a file that sets it to 0, the variable would keep its value.
    // A recovery is one step of a process that goes on with other work, so its pid says nothing about the logging. Without
    // an owner the time limit counts, and a failed recovery is repeated by the next process.
    let (owner, until) = match interruption {
        Some(_) => (OwnerMarker::current(), until),
        None => (None, until.min(now_millis())),
    };
    let off = RefusalLogMarker { since, until, manager_started, owner, on: false };
    switch.set(&off, manager, clock, interruption).await.map_err(ChangeError::into_error)?;
    stop_timer(manager).await?;
    switch.clear()?;
    let config = user_config_dir(switch.manager, Some(manager)).await;
    let other_line = find_other_line(machine, switch, config.as_deref());
    if other_line.is_some_and(|line| line.sets == VariableEffect::On) {
        // Another file turns logging on as well. A reload puts it into force again.
        manager.reload().await.context("systemd does not reload its files")?;
    }
    Ok(())
}

/// Returns the units whose processes started under a filter that logs. They keep that filter until they restart.
async fn find_still_logging(manager: &impl ServiceManager, since: i64, groups: &Groups) -> Vec<UnitName> {
    let Ok((units, _)) = manager.list_loaded_units().await else { return Vec::new() };
    let started_since = |micros: u64| i64::try_from(micros / 1000).is_ok_and(|millis| millis >= since);
    let context = load_manager_context(manager.manager());
    let mut names: Vec<UnitName> = units
        .iter()
        .filter(|unit| unit.is_running() && reason_to_spare(unit).is_none())
        .filter(|unit| unit.exec_main_start_us.is_some_and(started_since))
        .filter(|unit| !unit.policy(context.clone(), groups).loggable_directives().is_empty())
        .map(|unit| unit.id.clone())
        .collect();
    names.sort_unstable();
    names
}
