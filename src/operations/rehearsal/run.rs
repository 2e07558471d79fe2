//! Runs a rehearsal, from its first change until every change is undone; with a follow-up, until the unit is stopped.

use super::feed::{RehearsalFeed, RehearsalObserver};
use super::last_calls::{ask_later, read_last_calls};
use super::plan::RehearsalPlan;
use super::session::{RehearsalSession, Restoration, StoppedUnit, explain_failure, name_survivors};
use super::watch::{RehearsalEnd, watch};
use crate::host::unit_processes::{UnitProcess, still_running};
use crate::incidents::Incident;
use crate::operations::interruption::Interruption;
use crate::operations::local_machine::LocalMachine;
use crate::operations::service_manager::ServiceManagers;
use crate::policy::Policy;
use anyhow::anyhow;
use std::time::Duration;
use tokio::time::Instant;

/// A rehearsal that is over; the unit has its own settings again.
#[must_use]
#[derive(Debug)]
pub(crate) struct FinishedRehearsal {
    pub(crate) end: RehearsalEnd,
    pub(crate) took: Duration,
    pub(crate) restoration: Restoration,
    pub(crate) calls: Vec<Incident>,
    /// The processes that outlive the rehearsal. They run without the unit's own settings until they end.
    pub(crate) survivors: Vec<UnitProcess>,
}

impl FinishedRehearsal {
    /// Adds to a later error how the unit `name` is left, what is left to do, and which processes outlive the rehearsal.
    pub(crate) fn explain(&self, error: anyhow::Error, name: &str) -> anyhow::Error {
        error.context(self.restoration.describe_fully(name, &self.survivors))
    }
}

/// A run that is over, with its unit stopped.
pub(super) struct RunOutcome<'a, M: ServiceManagers> {
    pub(super) end: RehearsalEnd,
    pub(super) took: Duration,
    /// The unit's processes before its stop.
    pub(super) processes: Vec<UnitProcess>,
    pub(super) unit: StoppedUnit<'a, M>,
}

/// Rehearses a unit.
///
/// # Errors
/// The rehearsal failed. Either the unit has its own settings again, or the error says how to bring them back.
pub(crate) async fn rehearse<M: ServiceManagers>(
    machine: LocalMachine<'_, M>,
    plan: &RehearsalPlan,
    feed: &mut impl RehearsalFeed,
    observer: &mut impl RehearsalObserver,
    interruption: &mut Interruption,
) -> anyhow::Result<FinishedRehearsal> {
    let run = run_until_stopped(machine, plan, feed, observer, interruption).await?;
    let (name, RunOutcome { end, took, processes, unit }) = (&plan.target.unit.name, run);
    let restored = unit.finish(false, interruption).await;
    feed.end().await;
    let finished = match restored {
        Ok(restoration) => match read_last_calls(feed, observer).await {
            Ok(calls) => Ok(FinishedRehearsal { end, took, restoration, calls, survivors: still_running(processes) }),
            Err(error) => Err(explain_failure(ask_later(error, name), Ok(restoration), name, processes)),
        },
        Err(error) => Err(name_survivors(error, processes)),
    };
    observer.finish();
    finished
}

/// Runs the unit under the rehearsal's settings, stops it, and puts its own settings into force.
///
/// # Errors
/// The run failed. Either the unit has its earlier state again, or the error says how to bring its own settings back.
pub(super) async fn run_until_stopped<'a, M: ServiceManagers>(
    machine: LocalMachine<'a, M>,
    plan: &'a RehearsalPlan,
    feed: &mut impl RehearsalFeed,
    observer: &mut impl RehearsalObserver,
    interruption: &mut Interruption,
) -> anyhow::Result<RunOutcome<'a, M>> {
    let begun = Instant::now();
    let mut session = match RehearsalSession::open(machine, &plan.target, &plan.text()).await {
        Ok(session) => session,
        Err(error) => {
            feed.end().await;
            return Err(error);
        }
    };
    observer.start();
    let confirm = |policy: &Policy| {
        let verified = plan.rehearsal.verify(policy, &plan.target.loaded.groups);
        verified.map_err(|call| anyhow!("systemd's filter does not treat {call} as a rehearsal requires"))
    };
    let end = match interruption.or(session.start(confirm)).await {
        Ok(start) => watch(plan, start, session.manager(), feed, observer, interruption).await,
        Err(error) => Err(error),
    };
    let took = begun.elapsed();
    observer.show_end();
    let processes = session.stop(plan.reloads, interruption).await;
    let failure = match (end, session.restore().await) {
        (Ok(end), Ok(unit)) => return Ok(RunOutcome { end, took, processes, unit }),
        (Ok(_), Err(why)) => name_survivors(why, processes),
        (Err(error), unit) => {
            let restored = match unit {
                Ok(unit) => unit.finish(false, interruption).await,
                Err(why) => Err(why),
            };
            explain_failure(error, restored, &plan.target.unit.name, processes)
        }
    };
    feed.end().await;
    observer.finish();
    Err(failure)
}

#[cfg(test)]
mod tests;
