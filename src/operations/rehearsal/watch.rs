//! Watches a rehearsed unit and shows its calls, until the user, a limit or the unit ends the rehearsal.

use super::feed::{RehearsalFeed, RehearsalObserver};
use super::plan::RehearsalPlan;
use crate::operations::interruption::Interruption;
use crate::operations::requested_start::RequestedStart;
use crate::operations::service_manager::ServiceManager;
use crate::systemd::manager::active_state;
use crate::systemd::manager::{SystemdError, UnitState};
use anyhow::Context as _;
use std::pin::pin;
use std::time::Duration;
use tokio::time::Instant;

/// How often to read the unit's state.
const STATE_INTERVAL: Duration = Duration::from_millis(if cfg!(test) { 1 } else { 250 });

/// How often to read the feed. The daemon stores incidents once a second.
const FEED_INTERVAL: Duration = Duration::from_millis(if cfg!(test) { 4 } else { 1_000 });

/// How long a manager may fail to answer.
const SILENCE_LIMIT: Duration = Duration::from_secs(30);

/// The reason for a rehearsal's end.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RehearsalEnd {
    /// A signal of this name.
    Signal(&'static str),
    /// The time limit.
    Time,
    /// No new call for the given time.
    Idle,
    /// The unit ended by itself.
    Unit(UnitState),
}

impl RehearsalEnd {
    /// The word in JSON.
    pub(crate) fn as_str(&self) -> &'static str {
        match self {
            Self::Signal(_) => "interrupted",
            Self::Time => "time",
            Self::Idle => "idle",
            Self::Unit(_) => "unit-ended",
        }
    }
}

/// Watches the unit until the rehearsal ends.
///
/// # Errors
/// The manager no longer answers, no longer knows the unit, or did not start it.
pub(crate) async fn watch(
    plan: &RehearsalPlan,
    start: RequestedStart,
    manager: &impl ServiceManager,
    feed: &mut impl RehearsalFeed,
    observer: &mut impl RehearsalObserver,
    interruption: &mut Interruption,
) -> anyhow::Result<RehearsalEnd> {
    let (unit, limits) = (&plan.target.unit, &plan.limits);
    let begun = Instant::now();
    let (mut answered, mut last_read, mut latest_new) = (begun, begun, begun);
    let mut feed_fails = false;
    loop {
        tokio::select! {
            biased;
            name = interruption.next() => return Ok(RehearsalEnd::Signal(name)),
            () = tokio::time::sleep(STATE_INTERVAL) => {}
        }
        match manager.unit_state(&unit.name).await {
            Ok(state) if has_ended(&state) => {
                start.ensure_happened(manager, &unit.name, &state).await?;
                return Ok(RehearsalEnd::Unit(state));
            }
            Ok(_) => answered = Instant::now(),
            Err(error @ SystemdError::NoSuchUnit(_)) => return Err(error.into()),
            Err(error) if answered.elapsed() > SILENCE_LIMIT => return Err(error).context("the manager is silent"),
            Err(_) => {}
        }
        if last_read.elapsed() >= FEED_INTERVAL {
            let mut reading = pin!(feed.calls());
            let calls = tokio::select! {
                biased;
                name = interruption.next() => {
                    // The feed may have given the daemon what the tap saw, and would count it twice. The last read shows
                    // the calls, and reports an error.
                    let _ = reading.await;
                    return Ok(RehearsalEnd::Signal(name));
                }
                calls = &mut reading => calls,
            };
            match calls {
                Ok(calls) => {
                    if observer.show_calls(&calls) {
                        latest_new = Instant::now();
                    }
                    feed_fails = false;
                }
                Err(error) if !feed_fails => {
                    observer.say(&format!("harden-whyd does not answer now, so calls are shown later: {error:#}"));
                    feed_fails = true;
                }
                Err(_) => {}
            }
            last_read = Instant::now();
        }
        observer.tick();
        if limits.time.is_some_and(|time| begun.elapsed() >= time) {
            return Ok(RehearsalEnd::Time);
        }
        if limits.idle.is_some_and(|idle| latest_new.elapsed() >= idle) {
            return Ok(RehearsalEnd::Idle);
        }
    }
}

/// Returns whether the unit runs no processes and will start none by itself.
fn has_ended(state: &UnitState) -> bool {
    !state.busy && (active_state::has_ended(&state.outcome.active_state) || state.sub_state == "exited")
}
