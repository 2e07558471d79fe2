//! Sightings of which systemd remembers nothing: the journal is asked about them, and once more a little later, since what
//! others write about a death takes them a while. By then more of their kin may have been seen as well.

use super::query_batch::Asks;
use crate::incidents::Sighting;
use crate::pipeline::Open;
use crate::units::{Evidence, Rung};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// When they are looked at again.
const AFTER: Duration = Duration::from_secs(2);

/// How many wait; more are left as they are.
const MOST: usize = 1024;

/// What is looked at, and what waits to be looked at again, in order.
#[derive(Default)]
pub(crate) struct Again {
    first: Asks,
    waiting: VecDeque<(Instant, Open)>,
    last: Asks,
}

/// How often what comes back was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Looked {
    /// Once.
    Once,
    /// For the last time.
    Twice,
}

impl Again {
    /// Takes a sighting to look at, or gives it back where there is no room.
    #[must_use]
    pub(crate) fn push(&mut self, open: Open) -> Option<Open> {
        if !self.first.has_room() {
            return Some(open);
        }
        self.first.push(open);
        None
    }

    /// Takes one to look at again later, or gives it back where there is no room.
    #[must_use]
    pub(crate) fn wait(&mut self, open: Open, now: Instant) -> Option<Open> {
        if self.waiting.len() >= MOST {
            return Some(open);
        }
        self.waiting.push_back((now + AFTER, open));
        None
    }

    /// Begins to look at all that is to be looked at by now. `ask` answers for each, in order.
    pub(crate) fn begin<F>(&mut self, now: Instant, ask: impl Fn(Vec<Sighting>) -> F)
    where
        F: Future<Output = Vec<Vec<Evidence>>> + Send + 'static,
    {
        while self.waiting.front().is_some_and(|(at, _)| *at <= now)
            && let Some((_, mut open)) = self.waiting.pop_front()
        {
            // It stood on what was not there as much as on what was.
            open.forget(Rung::ExitEntry);
            self.last.push(open);
        }
        self.first.begin(&ask);
        self.last.begin(&ask);
    }

    /// The sightings of a look, with what was learned about them; `None` while none is under way.
    pub(crate) async fn next(&mut self) -> Option<(Looked, Vec<Open>)> {
        tokio::select! {
            Some(seen) = self.first.next() => Some((Looked::Once, seen)),
            Some(seen) = self.last.next() => Some((Looked::Twice, seen)),
            else => None,
        }
    }

    /// When there is something to look at again.
    pub(crate) fn next_wake(&self) -> Option<Instant> {
        self.waiting.front().map(|(at, _)| *at)
    }

    /// Looks no further, and gives everything back.
    pub(crate) fn give_up(&mut self) -> Vec<Open> {
        let waiting = std::mem::take(&mut self.waiting).into_iter().map(|(_, open)| open);
        self.first.give_up().into_iter().chain(waiting).chain(self.last.give_up()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::query_batch::tests::{nothing, open, pids};
    use crate::units::{Manager, Unit};

    #[tokio::test]
    async fn each_is_looked_at_twice_at_most() {
        let (mut again, now) = (Again::default(), Instant::now());
        assert!(again.push(open(7)).is_none());
        again.begin(now, nothing);
        let (looked, mut seen) = again.next().await.unwrap();
        assert_eq!((looked, pids(&seen)), (Looked::Once, vec![7]));
        assert!(again.wait(seen.pop().unwrap(), now).is_none());
        again.begin(now, nothing);
        assert!(again.next().await.is_none());
        assert_eq!(again.next_wake(), Some(now + AFTER));
        again.begin(now + AFTER, nothing);
        let (looked, seen) = again.next().await.unwrap();
        assert_eq!((looked, pids(&seen)), (Looked::Twice, vec![7]));
        assert_eq!(again.next_wake(), None);
    }

    #[tokio::test]
    async fn the_second_look_takes_back_the_guess_of_the_first() {
        let unit = |name: &str| Unit { manager: Manager::System, name: name.parse().unwrap() };
        let guess = |name: &str| Evidence::Named(Rung::ExitEntry, unit(name));
        for (second, found) in [(vec![], None), (vec![guess("b.service")], Some(unit("b.service")))] {
            let (mut again, now) = (Again::default(), Instant::now());
            assert!(again.push(open(7)).is_none());
            let first = vec![vec![guess("a.service")]];
            again.begin(now, |_| std::future::ready(first.clone()));
            let (_, mut seen) = again.next().await.unwrap();
            assert_eq!(seen[0].attribution().map(|found| found.unit), Some(unit("a.service")));
            assert!(again.wait(seen.remove(0), now).is_none());
            let second = vec![second];
            again.begin(now + AFTER, |_| std::future::ready(second.clone()));
            let (_, seen) = again.next().await.unwrap();
            assert_eq!(seen[0].attribution().map(|found| found.unit), found);
        }
    }

    #[tokio::test]
    async fn what_is_given_up_is_given_back_and_bounded() {
        let (mut again, now) = (Again::default(), Instant::now());
        assert!(again.push(open(7)).is_none());
        again.begin(now, |_| std::future::pending());
        assert!(again.push(open(8)).is_none());
        for pid in 0..u32::try_from(MOST).unwrap() {
            assert!(again.wait(open(pid), now).is_none());
        }
        assert!(again.wait(open(9), now).is_some());
        assert_eq!(again.give_up().len(), MOST + 2);
    }
}
