//! Sightings that systemd is asked about, in rounds: whatever has come together by the time a round is over is asked
//! about in the next. So a storm of dead processes is no storm of questions, and none waits for more than two rounds.

use crate::incidents::Sighting;
use crate::pipeline::Open;
use crate::units::Evidence;
use tokio::task::JoinSet;

/// How many sightings are asked about, or wait for their round; more are left without a unit.
const MOST: usize = 4096;

/// What is being asked. A sighting is kept whatever becomes of the question.
#[derive(Default)]
pub(crate) struct Asks {
    waiting: Vec<Open>,
    asked: Vec<Open>,
    /// The round under way, if any.
    round: JoinSet<Vec<Vec<Evidence>>>,
}

impl Asks {
    /// Whether one more may be asked about.
    pub(crate) fn has_room(&self) -> bool {
        self.waiting.len() + self.asked.len() < MOST
    }

    /// Whether there is nothing to ask about.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.asked.is_empty()
    }

    /// Takes a sighting to ask about.
    pub(crate) fn push(&mut self, open: Open) {
        self.waiting.push(open);
    }

    /// Begins a round with all that waits, unless one is under way. `ask` answers for each, in order.
    pub(crate) fn begin<F>(&mut self, ask: impl FnOnce(Vec<Sighting>) -> F)
    where
        F: Future<Output = Vec<Vec<Evidence>>> + Send + 'static,
    {
        if self.round.is_empty() && !self.waiting.is_empty() {
            self.asked = std::mem::take(&mut self.waiting);
            self.round.spawn(ask(self.asked.iter().map(|open| open.sighting().clone()).collect()));
        }
    }

    /// The sightings of a round with what was learned about them; `None` while none is under way.
    pub(crate) async fn next(&mut self) -> Option<Vec<Open>> {
        let learned = match self.round.join_next().await? {
            Ok(learned) => learned,
            Err(error) => {
                tracing::error!("a question to systemd broke off: {error}");
                Vec::new()
            }
        };
        let mut answered = std::mem::take(&mut self.asked);
        for (open, evidence) in answered.iter_mut().zip(learned) {
            open.learn(evidence);
        }
        Some(answered)
    }

    /// Asks no further, and gives what was asked about.
    pub(crate) fn give_up(&mut self) -> Vec<Open> {
        self.round.abort_all();
        let asked = std::mem::take(&mut self.asked);
        asked.into_iter().chain(std::mem::take(&mut self.waiting)).collect()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::incidents::Moment;
    use crate::units::{Manager, Rung, Unit};

    pub(crate) fn open(pid: u32) -> Open {
        Open::silent_death(pid, Moment::At(1), Vec::new())
    }

    pub(crate) fn pids(opens: &[Open]) -> Vec<u32> {
        opens.iter().map(|open| open.sighting().sample.pid).collect()
    }

    pub(crate) async fn nothing(sightings: Vec<Sighting>) -> Vec<Vec<Evidence>> {
        vec![Vec::new(); sightings.len()]
    }

    #[tokio::test]
    async fn each_learns_its_own_answer() {
        let mut asks = Asks::default();
        let unit = Unit { manager: Manager::System, name: "a.service".parse().unwrap() };
        asks.push(open(7));
        asks.push(open(8));
        let learned = vec![Vec::new(), vec![Evidence::Named(Rung::MainProcess, unit.clone())]];
        asks.begin(|sightings| async move {
            assert_eq!(sightings.len(), 2);
            learned
        });
        let mut answered = asks.next().await.unwrap();
        assert_eq!(answered.pop().unwrap().attribution().map(|found| found.unit), Some(unit));
        assert!(answered.pop().unwrap().attribution().is_none());
        assert!(asks.is_empty() && asks.next().await.is_none());
    }

    #[tokio::test]
    async fn a_question_that_breaks_off_loses_no_sighting() {
        let mut asks = Asks::default();
        asks.push(open(7));
        asks.begin(|_| async { panic!("as a test") });
        assert_eq!(pids(&asks.next().await.unwrap()), [7]);
        assert!(asks.is_empty());
    }

    #[tokio::test]
    async fn what_comes_during_a_round_is_asked_about_in_the_next() {
        let mut asks = Asks::default();
        asks.push(open(7));
        asks.begin(nothing);
        for pid in 8..11 {
            asks.push(open(pid));
            asks.begin(nothing);
        }
        assert_eq!(pids(&asks.next().await.unwrap()), [7]);
        asks.begin(nothing);
        assert_eq!(pids(&asks.next().await.unwrap()), [8, 9, 10]);
        asks.begin(nothing);
        assert!(asks.is_empty() && asks.next().await.is_none());
    }

    #[tokio::test]
    async fn what_is_given_up_is_given_back() {
        let mut asks = Asks::default();
        asks.push(open(0));
        asks.begin(|_| std::future::pending());
        while asks.has_room() {
            asks.push(open(1));
        }
        assert_eq!(asks.give_up().len(), MOST);
        assert!(asks.is_empty() && asks.has_room());
    }
}
