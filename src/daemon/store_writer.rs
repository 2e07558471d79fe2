//! The only writer of the store. It runs on a separate thread, so a slow or full disk never delays the loop.

use super::store_owner::{PRUNE_ROWS, Retention, StoreOwner, UnsavedRehearsals, lock};
use crate::host::call_site_names::add_build_ids;
use crate::incidents::{
    Evicted, IncidentChange, IncidentKey, Recorded, RehearsalSpan, ReplacedFile, Store, StoreError,
};
use crate::outlet::client_requests::ForgetRequest;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// The writer prunes the store at the first write after this long.
const PRUNE_INTERVAL: Duration = Duration::from_hours(12);

/// The result of a job that the loop waits for.
#[derive(Debug)]
pub(super) enum JobResult {
    /// Changes were written, or could not be.
    Recorded(Written),
    /// A client's request to delete incidents of a unit, with the number of deleted incidents.
    Forgotten(ForgetRequest, Result<u64, StoreError>),
}

/// The result of writing changes.
#[derive(Debug)]
pub(super) struct Written {
    /// The changes of the job.
    pub(super) changes: Vec<IncidentChange>,
    /// The row of each change, in order.
    pub(super) rows: Result<Vec<Recorded>, StoreError>,
    /// The totals of the incidents that the store dropped, if they changed.
    pub(super) evicted: Option<Evicted>,
    /// A damaged or deleted store that was replaced for this job.
    pub(super) replaced: Option<ReplacedFile>,
}

/// A message to the thread.
#[derive(Debug)]
enum Job {
    Record(Vec<IncidentChange>),
    SetRetention(Retention),
    Forget(ForgetRequest),
    /// Saves what [`UnsavedRehearsals`] holds.
    SaveRehearsals,
    SubtractDeath(IncidentKey),
}

/// The loop's handle of the thread. Changes stay in memory until the results of all earlier jobs are known.
#[derive(Debug)]
pub(super) struct StoreWriter {
    jobs: Option<mpsc::Sender<Job>>,
    results: UnboundedReceiver<JobResult>,
    thread: Option<std::thread::JoinHandle<()>>,
    unsaved: UnsavedRehearsals,
    /// Whether the thread writes changes.
    is_recording: bool,
    /// How many requests to delete incidents wait for the thread.
    forgetting: usize,
}

impl StoreWriter {
    /// Starts the thread, which owns the store of a directory from here on. Without a store, the thread opens it later.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub(super) fn start(store: Option<Store>, dir: PathBuf, retention: Retention) -> std::io::Result<Self> {
        let owner = StoreOwner::new(store, dir, retention);
        let unsaved = Arc::clone(&owner.unsaved);
        let (jobs, inbox) = mpsc::channel();
        let (outbox, results) = unbounded_channel();
        let thread =
            std::thread::Builder::new().name("store".into()).spawn(move || write_all(owner, &inbox, &outbox))?;
        Ok(Self { jobs: Some(jobs), results, thread: Some(thread), unsaved, is_recording: false, forgetting: 0 })
    }

    /// Whether the result of a job is not known yet.
    pub(super) fn is_busy(&self) -> bool {
        self.is_recording || self.forgetting > 0
    }

    /// Whether the thread writes changes.
    pub(super) fn is_recording(&self) -> bool {
        self.is_recording
    }

    /// Sends changes to the thread. The writer must not be busy.
    pub(super) fn send(&mut self, changes: Vec<IncidentChange>) {
        if let Some(jobs) = &self.jobs {
            self.is_recording = jobs.send(Job::Record(changes)).is_ok();
        }
    }

    /// Sets which incidents the store keeps.
    pub(super) fn set_retention(&mut self, retention: Retention) {
        if let Some(jobs) = &self.jobs {
            // It fails if the thread has ended. Nothing is stored then.
            _ = jobs.send(Job::SetRetention(retention));
        }
    }

    /// Deletes the incidents of a unit after the job under way.
    pub(super) fn forget(&mut self, request: ForgetRequest) {
        if let Some(jobs) = &self.jobs {
            // If the thread has ended, the client gets the answer that the daemon is too busy.
            self.forgetting += usize::from(jobs.send(Job::Forget(request)).is_ok());
        }
    }

    /// Saves the rehearsals after the job under way.
    pub(super) fn save_rehearsals(&mut self, spans: Vec<RehearsalSpan>) {
        let waiting = lock(&self.unsaved).replace(spans);
        if let Some(jobs) = self.jobs.as_ref().filter(|_| waiting.is_none()) {
            // It fails if the thread has ended. Nothing is stored then.
            _ = jobs.send(Job::SaveRehearsals);
        }
    }

    /// Subtracts one sighting of a death without a record, after the job under way.
    pub(super) fn subtract_death(&mut self, key: IncidentKey) {
        if let Some(jobs) = &self.jobs {
            // It fails if the thread has ended. Nothing is stored then.
            _ = jobs.send(Job::SubtractDeath(key));
        }
    }

    /// Waits for the result of a job. Never returns while the writer is not busy.
    pub(super) async fn result(&mut self) -> JobResult {
        let Some(result) = self.results.recv().await else { return std::future::pending().await };
        match result {
            JobResult::Recorded(_) => self.is_recording = false,
            JobResult::Forgotten(..) => self.forgetting = self.forgetting.saturating_sub(1),
        }
        result
    }

    /// Ends the thread.
    pub(super) fn finish(mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the store's thread panicked");
        }
    }
}

fn write_all(mut owner: StoreOwner, inbox: &mpsc::Receiver<Job>, outbox: &UnboundedSender<JobResult>) {
    owner.prune();
    let (mut written, mut pruned) = (0, Instant::now());
    while let Ok(job) = inbox.recv() {
        let mut changes = match job {
            Job::Record(changes) => changes,
            Job::SetRetention(retention) => {
                owner.retention = retention;
                owner.prune();
                continue;
            }
            Job::Forget(request) => {
                let outcome = owner.forget(request.unit.as_ref());
                if outbox.send(JobResult::Forgotten(request, outcome)).is_err() {
                    return;
                }
                continue;
            }
            Job::SaveRehearsals => {
                owner.save_rehearsals();
                continue;
            }
            Job::SubtractDeath(key) => {
                owner.subtract_death(&key);
                continue;
            }
        };
        let sites = changes.iter_mut().filter_map(|change| change.incident.sample.call_site.as_deref_mut());
        add_build_ids(sites, Path::new("/"));
        // A small store is pruned more often, so that it stays small.
        let max_rows = PRUNE_ROWS.min(usize::try_from(owner.retention.max_incidents / 4).unwrap_or(PRUNE_ROWS));
        let is_just_opened = owner.store.is_none();
        let rows = owner.record(&changes);
        if rows.is_ok() {
            written += changes.len();
        }
        let is_due = is_just_opened || written >= max_rows || pruned.elapsed() >= PRUNE_INTERVAL;
        let (evicted, replaced) = (owner.evicted.take(), owner.replaced.take());
        if outbox.send(JobResult::Recorded(Written { changes, rows, evicted, replaced })).is_err() {
            return;
        }
        // Pruning follows the answer, so no alert waits for the pruning.
        if is_due && owner.store.is_some() {
            (written, pruned) = (0, Instant::now());
            owner.prune();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn rehearsals_that_change_faster_than_the_disk_wait_once() {
        let span = |from| {
            let unit =
                crate::units::Unit { manager: crate::units::Manager::System, name: "x.service".parse().unwrap() };
            RehearsalSpan { unit, from, until: None, logins: BTreeSet::new(), scopes: BTreeSet::new() }
        };
        let (jobs, inbox) = mpsc::channel();
        let (_, results) = unbounded_channel();
        let unsaved = UnsavedRehearsals::default();
        let waiting = Arc::clone(&unsaved);
        let mut writer =
            StoreWriter { jobs: Some(jobs), results, thread: None, unsaved, is_recording: false, forgetting: 0 };
        for from in 0..1_000 {
            writer.save_rehearsals(vec![span(from)]);
        }
        writer.finish();
        assert_eq!(inbox.iter().count(), 1);
        let waiting = lock(&waiting).take().unwrap();
        assert_eq!(waiting.iter().map(|span| span.from).collect::<Vec<_>>(), [999], "the latest state alone");
    }
}
