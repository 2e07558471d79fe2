//! When the daemon stores incidents: new ones at once, counts within [`MAX_COUNT_LAG`]. After a failure it retries
//! later.

use super::config::Config;
use super::retry::Retry;
use super::status::SharedStatus;
use super::store_owner::Retention;
use super::store_writer::{JobResult, StoreWriter, Written};
use crate::incidents::{Fold, Folded, Incident, IncidentKey, Recorded, RehearsalSpan, StoreError, Stored};
use crate::outlet::client_requests::ForgetRequest;
use crate::outlet::wire::MAX_COUNT_LAG;
use std::time::{Duration, Instant};

/// The shortest time between two writes that a full memory causes.
const FULL_INTERVAL: Duration = Duration::from_millis(20);

/// How long records stay in the kernel's buffer at most, while memory is full of changes that the writer has not
/// stored. The buffer holds some 160,000 records (the kernel charges 832 bytes for each). A storm fills it in half a
/// second.
const MAX_HOLD: Duration = Duration::from_millis(100);

/// The wait after a first failure to write the store.
const FIRST_RETRY: Duration = Duration::from_secs(2);

/// How many changes one job stores. A new incident must not wait long for earlier changes.
const MAX_CHANGES: usize = 2 << 10;

/// The writer, and when it gets its next job.
pub(super) struct Storage {
    writer: StoreWriter,
    status: SharedStatus,
    /// When the next changes are due.
    flush_at: Option<Instant>,
    /// When to try again after a failure.
    retry: Retry,
    /// The earliest time of the next write that a full memory causes.
    full_flush_at: Option<Instant>,
    /// When the writer got its latest job.
    sent_at: Option<Instant>,
    /// The deaths to subtract once the result of the changes under way is known.
    subtracted: Vec<IncidentKey>,
    /// Whether a new store replaced one since the last changes that were stored.
    is_new_store: bool,
}

/// The result of a job.
#[must_use]
pub(super) enum WriteResult {
    /// The changes are stored.
    Stored {
        /// The incident of each change, in order.
        incidents: Vec<StoredIncident>,
        /// Whether a new store replaced one that was damaged or deleted. It reuses row numbers.
        is_new_store: bool,
    },
    /// No change is stored. The daemon tries them again later.
    Failed,
    /// A client's request to delete incidents has its answer.
    Answered,
}

/// An incident that was stored.
pub(super) struct StoredIncident {
    pub(super) stored: Stored,
    /// Whether the daemon had not stored it since its start.
    pub(super) is_first: bool,
    /// Whether it was not in the store before.
    pub(super) is_new: bool,
}

impl Storage {
    pub(super) fn new(writer: StoreWriter, status: SharedStatus) -> Self {
        Self {
            writer,
            status,
            flush_at: None,
            retry: Retry::new(FIRST_RETRY),
            full_flush_at: None,
            sent_at: None,
            subtracted: Vec::new(),
            is_new_store: false,
        }
    }

    /// Applies another configuration.
    pub(super) fn configure(&mut self, config: &Config) {
        self.writer.set_retention(Retention::from(config));
    }

    /// Schedules a change: a first sighting now, others within [`MAX_COUNT_LAG`].
    pub(super) fn schedule(&mut self, folded: Folded, now: Instant) {
        let by = match folded {
            Folded::First(_) => now,
            Folded::Again(_) => now + MAX_COUNT_LAG,
        };
        self.flush_at = Some(self.flush_at.map_or(by, |at| at.min(by)));
    }

    /// Stores the changes that are due.
    pub(super) fn poll(&mut self, fold: &mut Fold, now: Instant) {
        if self.may_try(now) && self.flush_at.is_some_and(|at| at <= now) {
            self.flush(fold);
        }
    }

    /// Stores changes if memory is full, so that the next incident can replace a stored one.
    pub(super) fn make_room(&mut self, fold: &mut Fold, now: Instant) {
        let has_rested = self.full_flush_at.is_none_or(|at| at <= now);
        if has_rested && self.may_try(now) && fold.is_full() {
            self.full_flush_at = Some(now + FULL_INTERVAL);
            self.flush(fold);
        }
    }

    fn may_try(&self, now: Instant) -> bool {
        self.retry.is_due(now)
    }

    /// Sends changes to the writer, unless it is busy.
    pub(super) fn flush(&mut self, fold: &mut Fold) {
        if self.writer.is_busy() {
            return;
        }
        let changes = fold.take_changes(MAX_CHANGES);
        // There may be more.
        self.flush_at = (changes.len() == MAX_CHANGES).then(Instant::now);
        // After a failure an empty job shows whether the store works again.
        if !changes.is_empty() || self.retry.is_failing() {
            self.sent_at = Some(Instant::now());
            self.writer.send(changes);
        }
    }

    /// Tells the writer to delete the incidents of a unit. Memory forgets them once the store has: a request that fails
    /// changes nothing.
    pub(super) fn forget(&mut self, request: ForgetRequest) {
        self.writer.forget(request);
    }

    /// Tells the writer to save the rehearsals.
    pub(super) fn save_rehearsals(&mut self, spans: Vec<RehearsalSpan>) {
        self.writer.save_rehearsals(spans);
    }

    /// Subtracts a sighting of a death without a record, in memory or in the store.
    pub(super) fn subtract_death(&mut self, fold: &mut Fold, key: &IncidentKey) {
        if fold.subtract(key) {
            return;
        }
        if self.writer.is_recording() {
            // The changes under way may have it. If they fail, they return to memory.
            self.subtracted.push(key.clone());
        } else {
            self.writer.subtract_death(key.clone());
        }
    }

    /// Whether the writer has a job.
    pub(super) fn is_busy(&self) -> bool {
        self.writer.is_busy()
    }

    /// Waits for the result of a job of the writer. Never returns while it has none.
    pub(super) async fn job_result(&mut self) -> JobResult {
        self.writer.result().await
    }

    /// Handles the result of a job.
    pub(super) fn on_job_result(&mut self, fold: &mut Fold, result: JobResult) -> WriteResult {
        match result {
            JobResult::Recorded(written) => self.on_written(fold, written),
            JobResult::Forgotten(request, outcome) => {
                answer_forget_request(fold, request, outcome);
                WriteResult::Answered
            }
        }
    }

    /// Updates the status and the schedule. Puts changes that failed back into memory.
    fn on_written(&mut self, fold: &mut Fold, written: Written) -> WriteResult {
        let Written { changes, rows, evicted, replaced } = written;
        let subtracted = std::mem::take(&mut self.subtracted);
        if let Some(evicted) = evicted {
            self.status.lock().set_evicted(evicted);
        }
        if let Some(replaced) = replaced {
            self.status.on_store_replaced(&replaced);
            self.is_new_store = true;
        }
        let rows = match rows {
            Ok(rows) => rows,
            Err(error) => {
                self.on_failure(&error);
                fold.put_back(changes);
                for key in &subtracted {
                    self.subtract_death(fold, key);
                }
                return WriteResult::Failed;
            }
        };
        if self.retry.succeed() {
            tracing::info!("the store is writable again");
            self.status.lock().store_error = None;
        }
        let incidents = changes.into_iter().zip(rows).map(|(change, Recorded { id, count, new })| {
            let subtracted = subtracted.iter().filter(|key| **key == change.incident.key).count() as u64;
            let incident = Incident { count: count.saturating_sub(subtracted), ..change.incident };
            StoredIncident { stored: Stored { id, incident }, is_first: change.first, is_new: new }
        });
        let incidents = incidents.filter(|one| one.stored.incident.count > 0).collect();
        for key in subtracted {
            self.writer.subtract_death(key);
        }
        WriteResult::Stored { incidents, is_new_store: std::mem::take(&mut self.is_new_store) }
    }

    /// Reports that the store failed, and schedules the next attempt.
    pub(super) fn on_failure(&mut self, error: &StoreError) {
        if !self.retry.is_failing() {
            tracing::error!("{error}; incidents are kept in memory and stored as soon as possible");
        }
        let now = Instant::now();
        self.retry.fail(now);
        self.flush_at = Some(now);
        self.status.lock().store_error = Some(error.to_string());
    }

    /// Returns until when the loop should leave records in the kernel's buffer. `None` unless memory is full of changes
    /// that are not stored, and the writer has been busy for less than [`MAX_HOLD`].
    pub(super) fn holds_until(&self, fold: &Fold) -> Option<Instant> {
        let until = self.sent_at.filter(|_| self.writer.is_busy()).map(|at| at + MAX_HOLD)?;
        (fold.can_lose_sightings() && Instant::now() < until).then_some(until)
    }

    /// Returns when the next write is due. `None` while the writer is busy, because its answer wakes the loop.
    pub(super) fn next_wake(&self) -> Option<Instant> {
        let at = self.flush_at.filter(|_| !self.writer.is_busy())?;
        Some(self.retry.at().map_or(at, |retry| at.max(retry)))
    }

    /// Stores all changes and waits for the results. Stops at the first failure.
    pub(super) async fn flush_all(&mut self, fold: &mut Fold) -> Vec<WriteResult> {
        let mut results = Vec::new();
        loop {
            self.flush(fold);
            if !self.is_busy() {
                return results;
            }
            let result = self.job_result().await;
            let result = self.on_job_result(fold, result);
            let has_failed = matches!(result, WriteResult::Failed);
            results.push(result);
            if has_failed {
                return results;
            }
        }
    }

    /// Ends the writer.
    pub(super) fn finish(self) {
        self.writer.finish();
    }
}

/// Forgets in memory what the store has deleted for a client, and answers the client.
fn answer_forget_request(fold: &mut Fold, request: ForgetRequest, outcome: Result<u64, StoreError>) {
    let whose = request
        .unit
        .as_ref()
        .map_or_else(|| "processes of unknown units".to_owned(), |unit| format!("{} ({})", unit.name, unit.manager));
    let outcome = match outcome {
        Ok(deleted) => {
            let gone = deleted.saturating_add(fold.forget_unit(request.unit.as_ref()));
            if gone > 0 {
                let uid = request.uid;
                tracing::info!("uid {uid} dismissed the denials of {whose}: {gone} incidents are forgotten");
            }
            Ok(gone)
        }
        Err(error) => {
            tracing::warn!("the denials of {whose} could not be forgotten: {error}");
            Err(error.to_string())
        }
    };
    request.finish(outcome);
}

#[cfg(test)]
mod tests;
