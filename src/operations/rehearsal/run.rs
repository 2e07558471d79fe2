//! A rehearsal from its first change to the last one undone.

use super::feed::{RehearsalFeed, RehearsalObserver};
use super::plan::RehearsalPlan;
use super::session::{RehearsalSession, Restoration};
use super::watch::{RehearsalEnd, watch};
use crate::incidents::Incident;
use crate::operations::interruption::Interruption;
use crate::operations::local_machine::LocalMachine;
use crate::operations::service_manager::ServiceManagers;
use crate::outlet::wire::MAX_COUNT_LAG;
use anyhow::Context as _;
use std::time::Duration;
use tokio::time::Instant;

/// How long the daemon may take to store a call: its interval, and as much again for its other work.
const STORE_DELAY: Duration = MAX_COUNT_LAG.saturating_mul(2);

/// How often the feed is read again where it fails at the end.
const RETRIES: usize = 5;

/// A rehearsal that is over; the unit has its own settings again.
#[must_use]
#[derive(Debug)]
pub(crate) struct FinishedRehearsal {
    pub(crate) end: RehearsalEnd,
    pub(crate) took: Duration,
    pub(crate) restoration: Restoration,
    pub(crate) calls: Vec<Incident>,
}

/// Rehearses a unit.
///
/// # Errors
/// The rehearsal failed, and the unit has its own settings again; or the error says that `harden-why restore` brings
/// them back.
pub(crate) async fn rehearse<M: ServiceManagers>(
    machine: LocalMachine<'_, M>,
    plan: &RehearsalPlan,
    feed: &mut impl RehearsalFeed,
    observer: &mut impl RehearsalObserver,
    interruption: &mut Interruption,
) -> anyhow::Result<FinishedRehearsal> {
    let begun = Instant::now();
    let mut session = match RehearsalSession::open(machine, plan).await {
        Ok(session) => session,
        Err(error) => {
            feed.end().await;
            return Err(error);
        }
    };
    observer.start();
    let end = match interruption.or(session.start()).await {
        Ok(()) => watch(plan, session.manager(), feed, observer, interruption).await,
        Err(error) => Err(error),
    };
    let took = begun.elapsed();
    let restored = session.close(interruption).await;
    feed.end().await;
    let name = plan.unit.name.as_str();
    let finished = match (end, restored) {
        (Ok(end), Ok(restoration)) => read_last_calls(name, &restoration, feed, observer)
            .await
            .map(|calls| FinishedRehearsal { end, took, restoration, calls }),
        (Err(error), Ok(restoration)) => {
            Err(error.context(restoration.describe(name).trim_end_matches('.').to_owned()))
        }
        (Ok(_), Err(error)) => Err(error),
        (Err(why), Err(error)) => Err(error.context(format!("{why:#}"))),
    };
    observer.finish();
    finished
}

/// Reads the calls once more, after the daemon had time to store the last ones.
async fn read_last_calls(
    name: &str,
    restoration: &Restoration,
    feed: &mut impl RehearsalFeed,
    observer: &mut impl RehearsalObserver,
) -> anyhow::Result<Vec<Incident>> {
    tokio::time::sleep(STORE_DELAY).await;
    let mut calls = feed.calls().await;
    for _ in 0..RETRIES {
        if calls.is_ok() {
            break;
        }
        // The daemon may be restarting.
        tokio::time::sleep(STORE_DELAY).await;
        calls = feed.calls().await;
    }
    let calls = calls.with_context(|| {
        format!(
            "{} What was seen cannot be asked for now; 'harden-why {name}' tells it later",
            restoration.describe(name)
        )
    })?;
    observer.show_calls(&calls);
    Ok(calls)
}
