//! The one writer of the store, on a thread of its own: a disk that is slow or full keeps nobody
//! from listening.

use crate::incidents::{Change, Recorded, Store, StoreError};
use std::sync::mpsc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// How long an incident that is not seen again is kept.
pub const KEPT: Duration = Duration::from_hours(90 * 24);

/// How many incidents are kept at most.
pub const MOST_ROWS: u32 = 100_000;

/// After how many written rows old ones are looked for.
const PRUNE_EVERY: usize = 10_000;

/// Changes come back.
#[derive(Debug)]
pub(super) struct Done {
    /// As they were sent.
    pub(super) changes: Vec<Change>,
    /// The row of each, in order.
    pub(super) rows: Result<Vec<Recorded>, StoreError>,
}

/// The sending end. One job is under way at a time; what comes meanwhile stays folded.
#[derive(Debug)]
pub(super) struct Writer {
    jobs: Option<mpsc::Sender<Vec<Change>>>,
    done: UnboundedReceiver<Done>,
    thread: Option<std::thread::JoinHandle<()>>,
    busy: bool,
}

impl Writer {
    /// Starts the thread, which owns the store from here on.
    ///
    /// # Errors
    /// No thread could be started.
    pub(super) fn start(store: Store) -> std::io::Result<Self> {
        let (jobs, inbox) = mpsc::channel();
        let (outbox, done) = unbounded_channel();
        let thread =
            std::thread::Builder::new().name("store".into()).spawn(move || write_all(store, &inbox, &outbox))?;
        Ok(Self { jobs: Some(jobs), done, thread: Some(thread), busy: false })
    }

    /// Whether a job is under way.
    pub(super) fn is_busy(&self) -> bool {
        self.busy
    }

    /// Sends changes to be stored. The caller waits until the writer is not busy.
    pub(super) fn send(&mut self, changes: Vec<Change>) {
        if let Some(jobs) = &self.jobs {
            self.busy = jobs.send(changes).is_ok();
        }
    }

    /// The changes under way, stored or not; never, while there are none.
    pub(super) async fn done(&mut self) -> Done {
        match self.done.recv().await {
            Some(done) => {
                self.busy = false;
                done
            }
            None => std::future::pending().await,
        }
    }

    /// Lets the thread end and waits for it.
    pub(super) fn finish(mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the store's thread panicked");
        }
    }
}

fn write_all(mut store: Store, inbox: &mpsc::Receiver<Vec<Change>>, outbox: &UnboundedSender<Done>) {
    let mut until_prune = 0;
    while let Ok(changes) = inbox.recv() {
        let mut rows = store.record(changes.iter().map(|change| &change.incident));
        // What is new matters more than what is oldest.
        if matches!(rows, Err(StoreError::Full { .. })) && store.make_room().unwrap_or(false) {
            tracing::warn!("the store was at its bound: its oldest incidents were forgotten");
            rows = store.record(changes.iter().map(|change| &change.incident));
        }
        if rows.is_ok() {
            until_prune = usize::saturating_sub(until_prune, changes.len());
        }
        if outbox.send(Done { changes, rows }).is_err() {
            return;
        }
        // After the answer, so that an alert never waits for it.
        if until_prune == 0 {
            until_prune = PRUNE_EVERY;
            prune(&mut store);
        }
    }
}

fn prune(store: &mut Store) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let oldest = i64::try_from(now.saturating_sub(KEPT).as_millis()).unwrap_or_default();
    match store.prune(oldest, MOST_ROWS) {
        Ok(0) => {}
        Ok(gone) => tracing::info!(gone, "old incidents were forgotten"),
        Err(error) => tracing::warn!("old incidents could not be forgotten: {error}"),
    }
}
