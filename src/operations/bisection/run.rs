//! Runs a bisection, from its first change until every change is undone.

use super::check::TrialOutcome;
use super::plan::BisectionPlan;
use crate::diagnosis::bisection::{BisectionResult, BisectionStep, Trials};
use crate::host::unit_processes::{UnitProcess, still_running};
use crate::operations::interruption::Interruption;
use crate::operations::local_machine::LocalMachine;
use crate::operations::rehearsal::session::{RehearsalSession, Restoration, explain_failure, name_survivors};
use crate::operations::service_manager::ServiceManagers;
use anyhow::bail;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::Instant;

/// Shows a bisection's progress to the user.
pub(crate) trait BisectionObserver {
    /// Shows that a trial begins: its number, and the lines that are lifted.
    fn show_trial(&mut self, number: usize, lifted: &BTreeSet<usize>);

    /// Shows whether the unit worked, and what is known if it did not.
    fn show_outcome(&mut self, outcome: &TrialOutcome);

    /// Shows that the unit is stopped, and gets its own settings back.
    fn show_end(&mut self);
}

/// A bisection that is over; the unit has its own settings again.
#[must_use]
#[derive(Debug)]
pub(crate) struct FinishedBisection {
    pub(crate) end: BisectionEnd,
    /// What is known of the latest failure, in words.
    pub(crate) detail: Option<String>,
    /// The number of restarts under a drop-in.
    pub(crate) restarts: usize,
    pub(crate) took: Duration,
    pub(crate) restoration: Restoration,
    /// The processes that outlive the bisection. They run without some of the unit's own settings until they end.
    pub(crate) survivors: Vec<UnitProcess>,
}

/// How the search ended.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BisectionEnd {
    /// With a result.
    Result(BisectionResult),
    /// At the limit of restarts. Lifting these lines helps; fewer may be enough.
    Limit(BTreeSet<usize>),
}

/// Bisects a unit's hardening.
///
/// # Errors
/// The bisection failed, or a signal came. Either the unit has its own settings again, or the error says how to bring
/// them back.
pub(crate) async fn bisect<M: ServiceManagers>(
    machine: LocalMachine<'_, M>,
    plan: &BisectionPlan,
    observer: &mut impl BisectionObserver,
    interruption: &mut Interruption,
) -> anyhow::Result<FinishedBisection> {
    let begun = Instant::now();
    let first = plan.target.compose(&plan.settings(&BTreeSet::new()));
    let mut session = RehearsalSession::open(machine, &plan.target, &first).await?;
    let (mut trials, mut detail) = (Trials::default(), None);
    let end = run_trials(&mut session, plan, (&mut trials, &mut detail), observer, interruption).await;
    let took = begun.elapsed();
    observer.show_end();
    let processes = session.stop(false, interruption).await;
    let restored = match session.restore().await {
        Ok(unit) => unit.finish(false, interruption).await,
        Err(error) => Err(error),
    };
    match (end, restored) {
        (Ok(end), Ok(restoration)) => {
            let survivors = still_running(processes);
            Ok(FinishedBisection { end, detail, restarts: trials.len(), took, restoration, survivors })
        }
        (Ok(_), Err(error)) => Err(name_survivors(error, processes)),
        (Err(error), restored) => Err(explain_failure(error, restored, &plan.target.unit.name, processes)),
    }
}

/// Runs the trials that the search needs, up to the limit.
async fn run_trials<M: ServiceManagers>(
    session: &mut RehearsalSession<'_, M>,
    plan: &BisectionPlan,
    (trials, detail): (&mut Trials, &mut Option<String>),
    observer: &mut impl BisectionObserver,
    interruption: &mut Interruption,
) -> anyhow::Result<BisectionEnd> {
    let count = plan.hardening.lines().len();
    loop {
        let lifted = match trials.next_step(count) {
            BisectionStep::End(result) => return Ok(BisectionEnd::Result(result)),
            BisectionStep::Try(lifted) => lifted,
        };
        if trials.len() >= plan.most
            && let Some(helps) = trials.fewest_that_work()
        {
            return Ok(BisectionEnd::Limit(helps.clone()));
        }
        observer.show_trial(trials.len() + 1, &lifted);
        session.rewrite(&plan.target.compose(&plan.settings(&lifted)))?;
        let trial = async {
            let start = session.start(|held| plan.confirm(&lifted, held)).await?;
            plan.check.try_unit(session.manager(), &plan.target.unit.name, start).await
        };
        let outcome = interruption.or(trial).await?;
        observer.show_outcome(&outcome);
        // Hardening can hide the command, but not if none is left.
        if outcome.lacks_command && lifted.len() == count {
            bail!("{}", outcome.detail.unwrap_or_default());
        }
        if !outcome.works {
            *detail = outcome.detail;
        }
        trials.add(lifted, outcome.works);
    }
}

#[cfg(test)]
mod tests;
