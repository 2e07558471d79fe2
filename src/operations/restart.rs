//! Restarts a unit, and watches whether it comes up.

use super::interruption::Interruption;
use super::local_machine::LocalMachine;
use super::requested_start::RequestedStart;
use super::service_manager::{START_PATIENCE, ServiceManager, ServiceManagers};
use crate::systemd::manager::active_state::is_active;
use crate::systemd::manager::{SystemdError, UnitJob, UnitOutcome, UnitState};
use crate::units::{Unit, UnitName};
use anyhow::Context as _;
use std::time::{Duration, Instant};

/// The time between two looks at a unit that starts.
const STEP: Duration = Duration::from_millis(250);

/// How long a unit has to stay up. systemd calls a `Type=simple` service active before its program runs.
const SETTLING: Duration = Duration::from_secs(if cfg!(test) { 0 } else { 2 });

/// A unit after its restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RestartedUnit {
    pub(crate) outcome: UnitOutcome,
    /// Whether the unit runs, or did its work.
    pub(crate) is_up: bool,
}

/// Restarts a unit, so that it runs with its drop-in.
///
/// # Errors
/// The manager refuses or does not answer, systemd did not start the unit, or a signal came. The drop-in stays.
pub(crate) async fn restart<M: ServiceManagers>(
    machine: LocalMachine<'_, M>,
    unit: &Unit,
    interruption: &mut Interruption,
) -> anyhow::Result<RestartedUnit> {
    let mut is_requested = false;
    let restart = async {
        let (name, manager) = (&unit.name, machine.connect(unit.manager).await?);
        let start = RequestedStart::prepare(&manager, name).await.ok();
        // A signal can end the wait for the answer.
        is_requested = true;
        let answer = manager.start_job(name, UnitJob::Restart).await;
        is_requested = !answer.as_ref().is_err_and(SystemdError::is_refusal);
        answer?;
        let restarted = watch(&manager, name).await?;
        let state = manager.unit_state(name).await?;
        // A unit that failed was started, and a job that takes too long may still start it.
        let start = start.filter(|_| !state.busy && restarted.outcome.active_state != "failed");
        Ok(match start {
            Some(start) => start.ensure_happened(&manager, name, &state).await.map(|()| restarted),
            None => Ok(restarted),
        })
    };
    interruption.or(restart).await.with_context(|| {
        if is_requested {
            format!("{} restarts, and it is unknown whether it comes up (see {})", unit.name, unit.systemctl("status"))
        } else {
            format!("{} was not restarted (run {})", unit.name, unit.systemctl("restart"))
        }
    })?
}

/// Watches a unit that starts, until it failed, has stayed up for a while, or takes too long.
async fn watch(manager: &impl ServiceManager, name: &UnitName) -> anyhow::Result<RestartedUnit> {
    let deadline = Instant::now() + START_PATIENCE;
    loop {
        match manager.wait_for_job(name, STEP).await {
            Err(SystemdError::TimedOut) if Instant::now() < deadline => {}
            Ok(_) | Err(SystemdError::TimedOut) => break,
            Err(error) => return Err(error.into()),
        }
    }
    let settled = Instant::now() + SETTLING;
    let first = latest_start(manager, name).await;
    loop {
        let UnitState { outcome, .. } = manager.unit_state(name).await?;
        let has_ended_well = outcome.active_state == "inactive" && has_come_up(&outcome);
        // The denial of a unit that failed takes a moment to be stored.
        if has_ended_well || Instant::now() >= settled {
            let starts_again = first.is_some() && latest_start(manager, name).await.is_some_and(|id| Some(id) != first);
            let is_up = has_come_up(&outcome) && !starts_again;
            return Ok(RestartedUnit { outcome, is_up });
        }
        tokio::time::sleep(STEP).await;
    }
}

/// Returns the id of the latest start, which differs for each automatic restart.
async fn latest_start(manager: &impl ServiceManager, name: &UnitName) -> Option<[u8; 16]> {
    manager.unit_properties(name).await.ok()?.invocation_id
}

/// Whether a unit runs, or did its work and ended.
fn has_come_up(outcome: &UnitOutcome) -> bool {
    let has_succeeded = || outcome.result.as_deref().is_none_or(|result| result == "success");
    is_active(&outcome.active_state) || (outcome.active_state == "inactive" && has_succeeded())
}
