//! The rehearsal itself: calls are shown as they come, until somebody or something ends it.

use super::daemon_feed::Heard;
use super::preflight::Plan;
use crate::incidents::Incident;
use crate::operations::interruption::Interruption;
use crate::systemd::manager::{SystemdError, UnitState};
use anyhow::{Context as _, ensure};
use std::time::{Duration, Instant};

/// How often the unit is looked at.
const LOOK: Duration = Duration::from_millis(250);

/// How often the daemon is asked, which stores what it hears once a second.
const ASK: Duration = Duration::from_secs(1);

/// How long a manager may say nothing.
const SILENT: Duration = Duration::from_secs(30);

/// What ended it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ended {
    /// A signal of this name.
    Signal(&'static str),
    /// Its time was over.
    Time,
    /// No new call came any more.
    Idle,
    /// The unit came to its end.
    Unit(UnitState),
}

impl Ended {
    /// In JSON.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Signal(_) => "interrupted",
            Self::Time => "time",
            Self::Idle => "idle",
            Self::Unit(_) => "unit-ended",
        }
    }
}

/// Shows a rehearsal's progress to whoever started it.
pub(crate) trait Observer {
    /// Shows the calls so far. Returns whether one of them is new.
    fn calls(&mut self, calls: &[Incident]) -> bool;

    /// Shows that time has passed.
    fn tick(&self);

    /// Shows a message.
    fn say(&self, message: &str);
}

/// Watches until the end.
///
/// # Errors
/// The manager does not answer any more, or the unit was not started at all.
pub(crate) async fn watch(
    plan: &Plan,
    heard: &mut Heard,
    show: &mut impl Observer,
    interruption: &mut Interruption,
) -> anyhow::Result<Ended> {
    let Plan { unit, manager, limits, .. } = plan;
    let begun = Instant::now();
    let (mut answered, mut asked, mut latest_new) = (begun, begun, begun);
    let mut deaf = false;
    loop {
        tokio::select! {
            biased;
            name = interruption.next() => return Ok(Ended::Signal(name)),
            () = tokio::time::sleep(LOOK) => {}
        }
        match manager.unit_state(&unit.name).await {
            Ok(state) if is_over(&state) => {
                ensure!(!state.unmet, "{} was not started, since its conditions are not met", unit.name);
                return Ok(Ended::Unit(state));
            }
            Ok(_) => answered = Instant::now(),
            Err(error @ SystemdError::NoSuchUnit(_)) => return Err(error.into()),
            Err(error) if answered.elapsed() > SILENT => return Err(error).context("the manager is silent"),
            Err(_) => {}
        }
        if asked.elapsed() >= ASK {
            let calls = tokio::select! {
                biased;
                name = interruption.next() => return Ok(Ended::Signal(name)),
                calls = heard.calls() => calls,
            };
            match calls {
                Ok(calls) => {
                    if show.calls(&calls) {
                        latest_new = Instant::now();
                    }
                    deaf = false;
                }
                Err(error) if !deaf => {
                    show.say(&format!("harden-whyd does not answer now, so calls are shown later: {error:#}"));
                    deaf = true;
                }
                Err(_) => {}
            }
            asked = Instant::now();
        }
        show.tick();
        if limits.time.is_some_and(|time| begun.elapsed() >= time) {
            return Ok(Ended::Time);
        }
        if limits.idle.is_some_and(|idle| latest_new.elapsed() >= idle) {
            return Ok(Ended::Idle);
        }
    }
}

/// Whether nothing of it runs any more, nor will by itself.
fn is_over(state: &UnitState) -> bool {
    let ended = matches!(state.outcome.active_state.as_str(), "inactive" | "failed");
    !state.busy && (ended || state.sub_state == "exited")
}
