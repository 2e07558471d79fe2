//! Which incidents have reached their age limit, if the clock can be wrong.
//!
//! A clock that is ahead for one start must not end the history. Unless a time server has set the clock, the present is
//! the latest sighting at the start of the daemon, and the time since then.

use std::ops::Range;
use std::time::{Duration, Instant};

/// The start of 2020, in milliseconds since the epoch. No correct clock shows an earlier time to this program: a machine
/// without a battery starts in 1970, or with the time of its system's build.
const EARLIEST: i64 = 1_577_836_800_000;

/// The present, as far as it is known.
#[derive(Debug, Default)]
pub(super) struct AgeLimit {
    /// The latest sighting at the start, and when that was.
    start: Option<(i64, Instant)>,
}

impl AgeLimit {
    /// Returns the times of sightings that are too old. `latest` returns the latest sighting in the store.
    pub(super) fn aged(
        &mut self,
        now: i64,
        is_synchronized: bool,
        max_age: Duration,
        latest: impl FnOnce() -> Option<i64>,
    ) -> Range<i64> {
        if self.start.is_none() {
            self.start = latest().map(|latest| (latest, Instant::now()));
        }
        let millis = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        let lived = self.start.map(|(latest, at)| latest.saturating_add(millis(at.elapsed())));
        let present = if is_synchronized { Some(now) } else { lived.map(|lived| lived.min(now)) };
        let oldest = present.map_or(0, |present| present.saturating_sub(millis(max_age)));
        EARLIEST..oldest.max(EARLIEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400_000;
    const NOW: i64 = EARLIEST + 2_000 * DAY;
    const MAX_AGE: Duration = Duration::from_hours(24 * 30);

    fn oldest(limit: &mut AgeLimit, now: i64, is_synchronized: bool, latest: i64) -> i64 {
        limit.aged(now, is_synchronized, MAX_AGE, || Some(latest)).end
    }

    #[test]
    fn clock_ahead_at_start_ages_nothing_that_was_young() {
        let mut limit = AgeLimit::default();
        let by_latest = oldest(&mut limit, NOW + 90 * DAY, false, NOW);
        assert!((NOW - 30 * DAY..NOW - 29 * DAY).contains(&by_latest));
        let after_new_denial = oldest(&mut limit, NOW + 90 * DAY, false, NOW + 90 * DAY);
        assert!((NOW - 30 * DAY..NOW - 29 * DAY).contains(&after_new_denial), "a new denial with the wrong time");
        assert_eq!(oldest(&mut limit, NOW + DAY, true, NOW), NOW - 29 * DAY, "once the clock is right");
    }

    #[test]
    fn sighting_with_the_time_of_an_unset_clock_does_not_age() {
        for synchronized in [true, false] {
            let aged = AgeLimit::default().aged(NOW, synchronized, MAX_AGE, || Some(NOW));
            assert!(!aged.contains(&0) && !aged.contains(&DAY) && aged.contains(&(NOW - 31 * DAY)), "{aged:?}");
        }
        assert!(AgeLimit::default().aged(DAY, false, MAX_AGE, || Some(DAY)).is_empty(), "the clock is unset now");
        assert!(AgeLimit::default().aged(NOW, false, MAX_AGE, || None).is_empty(), "an empty store");
    }
}
