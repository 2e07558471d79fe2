//! The calls of a rehearsal that is over. The daemon stores the last calls with a delay, and may be restarting.

use super::feed::{RehearsalFeed, RehearsalObserver};
use crate::incidents::Incident;
use crate::outlet::wire::MAX_COUNT_LAG;
use crate::units::UnitName;
use std::time::Duration;

/// How long the daemon may take to store a call: twice its interval, to allow for its other work.
const STORE_DELAY: Duration = if cfg!(test) { Duration::ZERO } else { MAX_COUNT_LAG.saturating_mul(2) };

/// How many times to read the feed again if it fails at the end.
const RETRIES: usize = 5;

/// Reads the calls once more, after the daemon had time to store the last calls.
///
/// # Errors
/// The feed still fails after several reads.
pub(super) async fn read_last_calls(
    feed: &mut impl RehearsalFeed,
    observer: &mut impl RehearsalObserver,
) -> anyhow::Result<Vec<Incident>> {
    // The first read gives the daemon what the tap saw last, and the next one finds it stored.
    let mut calls = feed.calls().await;
    let mut has_reported = calls.is_ok();
    for _ in 0..=RETRIES {
        tokio::time::sleep(STORE_DELAY).await;
        calls = feed.calls().await;
        if has_reported && calls.is_ok() {
            break;
        }
        // The daemon may be restarting.
        has_reported |= calls.is_ok();
    }
    let calls = calls?;
    observer.show_calls(&calls);
    Ok(calls)
}

/// Adds to the error of a feed where to find the calls of the unit `name` later.
pub(super) fn ask_later(error: anyhow::Error, name: &UnitName) -> anyhow::Error {
    let argument = name.to_argument();
    error.context(format!("the calls cannot be queried now; 'harden-why {argument}' shows them later"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operations::fake_manager::{FakeMachine, denial};
    use crate::operations::rehearsal::fake_rehearsal::{FakeFeed, FakeObserver};

    #[test]
    fn feed_that_fails_for_a_while_still_reports_the_calls() {
        let fake = FakeMachine::running();
        let mut feed = FakeFeed { calls: vec![denial(&fake.unit)], failures: 4, ..FakeFeed::default() };
        let calls = fake.run(read_last_calls(&mut feed, &mut FakeObserver::default())).unwrap();
        assert_eq!(calls.unwrap().len(), 1);
    }
}
