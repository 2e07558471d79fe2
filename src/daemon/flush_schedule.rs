//! When what is folded is stored: what is new at once, counts once a second, and what could not be stored again later.

use super::writer::{Done, Retention, Writer};
use crate::incidents::{Fold, Folded, Incident, IncidentChange, Recorded, StoreError, Stored};
use crate::outlet::wire::MAX_COUNT_LAG;
use std::time::{Duration, Instant};

/// How often a full memory is stored at most.
const FULL_FLUSH: Duration = Duration::from_millis(20);

/// How long records are left to the kernel's buffer at most, while memory is full of what the writer has not stored.
/// The buffer holds some 160,000 records (832 bytes each, as the kernel counts them), half a second of a storm.
const HOLD: Duration = Duration::from_millis(100);

/// When what could not be stored is tried again at first, and at last.
const RETRY: Duration = Duration::from_secs(2);
const RETRY_LATE: Duration = Duration::from_mins(1);

/// How many changes are stored at once: what is new must not wait long for what came before.
const MOST_CHANGES: usize = 2 << 10;

/// The writer, and when it gets its next job.
pub(crate) struct Storing {
    writer: Writer,
    /// When changes are to be stored.
    flush_at: Option<Instant>,
    /// Not before, and how long until the time after that: the store failed.
    retry: Option<(Instant, Duration)>,
    /// Not before: what was in a full memory was just stored.
    full_flush_at: Option<Instant>,
    /// When the writer got its latest job.
    sent_at: Option<Instant>,
}

/// What became of a job.
pub(crate) enum Outcome {
    /// Everything is stored.
    Stored {
        /// Each incident, in order.
        incidents: Vec<JustStored>,
        /// The store failed before.
        again: bool,
    },
    /// Nothing is; it is tried again later.
    Failed(StoreError),
}

/// An incident that was stored.
pub(crate) struct JustStored {
    pub(crate) stored: Stored,
    /// It is new since our start.
    pub(crate) is_first: bool,
    /// It is new in the store.
    pub(crate) is_new: bool,
}

impl Storing {
    pub(crate) fn by(writer: Writer) -> Self {
        Self { writer, flush_at: None, retry: None, full_flush_at: None, sent_at: None }
    }

    /// Something else is kept from now on.
    pub(crate) fn keep(&mut self, retention: Retention) {
        self.writer.keep(retention);
    }

    /// Takes note of a change that is to be stored.
    pub(crate) fn changed(&mut self, folded: Folded, now: Instant) {
        let by = match folded {
            Folded::First(_) => now,
            Folded::Again(_) => now + MAX_COUNT_LAG,
        };
        self.flush_at = Some(self.flush_at.map_or(by, |at| at.min(by)));
    }

    /// Stores what is due.
    pub(crate) fn tend(&mut self, fold: &mut Fold, now: Instant) {
        if self.may_try(now) && self.flush_at.is_some_and(|at| at <= now) {
            self.store(fold);
        }
    }

    /// A new incident would make an old one give way: what that has to tell is stored before, if that is possible.
    pub(crate) fn make_room(&mut self, fold: &mut Fold, now: Instant) {
        let rested = self.full_flush_at.is_none_or(|at| at <= now);
        if rested && self.may_try(now) && fold.is_full() {
            self.full_flush_at = Some(now + FULL_FLUSH);
            self.store(fold);
        }
    }

    fn may_try(&self, now: Instant) -> bool {
        self.retry.is_none_or(|(at, _)| at <= now)
    }

    /// Has the writer store changes, if it is not at some already.
    pub(crate) fn store(&mut self, fold: &mut Fold) {
        if self.writer.is_busy() {
            return;
        }
        let changes = fold.take_changes(MOST_CHANGES);
        // There may be more.
        self.flush_at = (changes.len() == MOST_CHANGES).then(Instant::now);
        // One that failed is tried also with nothing to store: then it is known that it works again.
        if !changes.is_empty() || self.retry.is_some() {
            self.sent_at = Some(Instant::now());
            self.writer.send(changes);
        }
    }

    /// Whether the writer is at it.
    pub(crate) fn is_busy(&self) -> bool {
        self.writer.is_busy()
    }

    /// What the writer has done; never, while it does nothing.
    pub(crate) async fn done(&mut self) -> Done {
        self.writer.done().await
    }

    /// Takes note of that.
    pub(crate) fn took(
        &mut self,
        fold: &mut Fold,
        changes: Vec<IncidentChange>,
        rows: Result<Vec<Recorded>, StoreError>,
    ) -> Outcome {
        let rows = match rows {
            Ok(rows) => rows,
            Err(error) => {
                self.failed(&error);
                fold.put_back(changes);
                return Outcome::Failed(error);
            }
        };
        let again = self.retry.take().is_some();
        let incidents = changes.into_iter().zip(rows).map(|(change, Recorded { id, count, new })| JustStored {
            stored: Stored { id, incident: Incident { count, ..change.incident } },
            is_first: change.first,
            is_new: new,
        });
        Outcome::Stored { incidents: incidents.collect(), again }
    }

    /// Takes note that the store failed, and is to be tried again.
    pub(crate) fn failed(&mut self, error: &StoreError) {
        if self.retry.is_none() {
            tracing::error!("{error}; incidents are kept in memory and stored as soon as possible");
        }
        let now = Instant::now();
        let wait = self.retry.map_or(RETRY, |(_, wait)| (2 * wait).min(RETRY_LATE));
        self.retry = Some((now + wait, wait));
        self.flush_at = Some(now);
    }

    /// Until when records are better off in the kernel's buffer: memory is full of what is not stored yet, and the
    /// writer is at it.
    pub(crate) fn holds_until(&self, fold: &Fold) -> Option<Instant> {
        let until = self.sent_at.filter(|_| self.writer.is_busy()).map(|at| at + HOLD)?;
        (fold.can_lose_sightings() && Instant::now() < until).then_some(until)
    }

    /// When there is something to store. While the writer is busy, its answer wakes the loop.
    pub(crate) fn next_wake(&self) -> Option<Instant> {
        let at = self.flush_at.filter(|_| !self.writer.is_busy())?;
        Some(self.retry.map_or(at, |(retry, _)| at.max(retry)))
    }

    /// Lets the writer end.
    pub(crate) fn finish(self) {
        self.writer.finish();
    }
}
