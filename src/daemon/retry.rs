//! When to try again after failures in a row: each wait is twice as long as the one before, up to a limit.

use std::time::{Duration, Instant};

/// The limit on a wait.
const LONGEST: Duration = Duration::from_mins(1);

/// The next attempt at something that can fail.
#[derive(Debug)]
pub(super) struct Retry {
    /// The wait after the first failure.
    first: Duration,
    /// After a failure: when to try again, and the wait before that attempt.
    next: Option<(Instant, Duration)>,
}

impl Retry {
    /// Creates a state without failures. `first` is the wait after the first one.
    pub(super) const fn new(first: Duration) -> Self {
        Self { first, next: None }
    }

    /// Whether the last attempt failed.
    pub(super) fn is_failing(&self) -> bool {
        self.next.is_some()
    }

    /// Whether an attempt is due: after a success, always.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.at().is_none_or(|at| at <= now)
    }

    /// Returns when to try again; `None` after a success.
    pub(super) fn at(&self) -> Option<Instant> {
        self.next.map(|(at, _)| at)
    }

    /// Notes a failure. Returns the wait before the next attempt.
    pub(super) fn fail(&mut self, now: Instant) -> Duration {
        let wait = self.next.map_or(self.first, |(_, wait)| (2 * wait).min(LONGEST));
        self.next = Some((now + wait, wait));
        wait
    }

    /// Notes a success. Returns whether the attempt before had failed.
    pub(super) fn succeed(&mut self) -> bool {
        self.next.take().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_limit_and_start_again_after_a_success() {
        let start = Instant::now();
        let mut retry = Retry::new(Duration::from_secs(10));
        assert!(retry.is_due(start) && !retry.is_failing() && !retry.succeed());
        let mut waits = || retry.fail(start).as_secs();
        assert_eq!([waits(), waits(), waits(), waits(), waits()], [10, 20, 40, 60, 60]);
        assert!(retry.is_failing() && !retry.is_due(start) && retry.is_due(start + LONGEST));
        assert!(retry.succeed() && retry.at().is_none());
        assert_eq!(retry.fail(start), Duration::from_secs(10));
    }
}
