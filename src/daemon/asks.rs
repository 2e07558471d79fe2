//! Questions to systemd that are under way, each about one sighting, which is kept whatever
//! becomes of the question.

use crate::pipeline::Open;
use crate::units::Evidence;
use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use tokio::task::{Id, JoinSet};

/// How many questions are asked at a time: each is many to systemd, which has other work.
const AT_ONCE: usize = 8;

/// How many processes are asked about, or wait for their turn; more are left without a unit.
const MOST: usize = 1024;

/// A question yet to be asked: nothing happens before it is polled.
type Question = Pin<Box<dyn Future<Output = Vec<Evidence>> + Send>>;

/// What is being asked.
#[derive(Default)]
pub(super) struct Asks {
    questions: JoinSet<Vec<Evidence>>,
    about: HashMap<Id, Open>,
    waiting: VecDeque<(Open, Question)>,
}

impl Asks {
    /// Whether one more may be asked.
    pub(super) fn has_room(&self) -> bool {
        self.about.len() + self.waiting.len() < MOST
    }

    /// Whether nothing is being asked.
    pub(super) fn is_empty(&self) -> bool {
        self.about.is_empty()
    }

    /// Asks a question about a sighting.
    pub(super) fn start(&mut self, about: Open, question: impl Future<Output = Vec<Evidence>> + Send + 'static) {
        self.waiting.push_back((about, Box::pin(question)));
        self.start_waiting();
    }

    fn start_waiting(&mut self) {
        while self.about.len() < AT_ONCE
            && let Some((about, question)) = self.waiting.pop_front()
        {
            let id = self.questions.spawn(question).id();
            self.about.insert(id, about);
        }
    }

    /// A sighting with what was learned about it; `None` while nothing is being asked.
    pub(super) async fn next(&mut self) -> Option<Open> {
        let (id, learned) = match self.questions.join_next_with_id().await? {
            Ok(answered) => answered,
            Err(error) => {
                tracing::error!("a question to systemd broke off: {error}");
                (error.id(), Vec::new())
            }
        };
        let mut open = self.about.remove(&id)?;
        self.start_waiting();
        open.learn(learned);
        Some(open)
    }

    /// Asks no further, and gives what was asked about.
    pub(super) fn give_up(&mut self) -> Vec<Open> {
        self.questions.abort_all();
        let waiting = self.waiting.drain(..).map(|(open, _)| open);
        waiting.chain(self.about.drain().map(|(_, open)| open)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::incidents::Moment;
    use crate::units::{Manager, Rung, Unit};

    fn open() -> Open {
        Open::silent_death(7, Moment::At(1), Vec::new())
    }

    #[tokio::test]
    async fn an_answer_is_learned() {
        let mut asks = Asks::default();
        let unit = Unit { manager: Manager::System, name: "a.service".parse().unwrap() };
        let learned = vec![Evidence::Named(Rung::MainProcess, unit.clone())];
        asks.start(open(), async { learned });
        assert_eq!(asks.next().await.unwrap().close().unwrap().key.unit, Some(unit));
        assert!(asks.is_empty() && asks.next().await.is_none());
    }

    #[tokio::test]
    async fn a_question_that_breaks_off_loses_no_sighting() {
        let mut asks = Asks::default();
        asks.start(open(), async { panic!("as a test") });
        assert_eq!(asks.next().await.unwrap().close_anyway().sample.pid, 7);
        assert!(asks.is_empty());
    }

    #[tokio::test]
    async fn one_is_asked_after_the_other() {
        let mut asks = Asks::default();
        for _ in 0..3 * AT_ONCE {
            asks.start(open(), async { Vec::new() });
            assert!(asks.about.len() <= AT_ONCE);
        }
        for _ in 0..3 * AT_ONCE {
            assert!(asks.next().await.is_some());
        }
        assert!(asks.is_empty() && asks.next().await.is_none());
    }

    #[tokio::test]
    async fn what_is_given_up_is_given_back() {
        let mut asks = Asks::default();
        while asks.has_room() {
            asks.start(open(), std::future::pending());
        }
        assert_eq!(asks.give_up().len(), MOST);
        assert!(asks.is_empty() && asks.has_room());
    }
}
