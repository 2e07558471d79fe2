//! The one writer of the store, on a thread of its own: a disk that is slow or full keeps nobody
//! from listening.

use crate::incidents::{Evicted, IncidentChange, Recorded, ReplacedFile, Store, StoreError};
use crate::kernel::clock::now_millis;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// What is kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Retention {
    /// How long an incident that is not seen again is kept.
    pub(super) keep: Duration,
    /// How many incidents are kept at most.
    pub(super) most: u32,
}

/// After how many written rows old ones are looked for, and after how long at the next write.
const PRUNE_EVERY: usize = 10_000;
const PRUNE_AFTER: Duration = Duration::from_hours(12);

/// Changes come back.
#[derive(Debug)]
pub(super) struct Done {
    /// As they were sent.
    pub(super) changes: Vec<IncidentChange>,
    /// The row of each, in order.
    pub(super) rows: Result<Vec<Recorded>, StoreError>,
    /// What had to give way so far, where that is known.
    pub(super) forgotten: Option<Evicted>,
    /// A store that was found damaged, or gone, and replaced meanwhile.
    pub(super) set_aside: Option<ReplacedFile>,
}

/// What the writer is told to do.
#[derive(Debug)]
enum Job {
    Record(Vec<IncidentChange>),
    Keep(Retention),
}

/// The sending end. One record of changes is under way at a time; what comes meanwhile stays folded.
#[derive(Debug)]
pub(super) struct Writer {
    jobs: Option<mpsc::Sender<Job>>,
    done: UnboundedReceiver<Done>,
    thread: Option<std::thread::JoinHandle<()>>,
    busy: bool,
}

impl Writer {
    /// Starts the thread, which owns the store of this directory from here on; without one, it is opened once it can be.
    ///
    /// # Errors
    /// No thread could be started.
    pub(super) fn start(store: Option<Store>, dir: PathBuf, retention: Retention) -> std::io::Result<Self> {
        let keeper = Keeper { dir, retention, store, forgotten: None, gone: None, set_aside: None };
        let (jobs, inbox) = mpsc::channel();
        let (outbox, done) = unbounded_channel();
        let thread =
            std::thread::Builder::new().name("store".into()).spawn(move || write_all(keeper, &inbox, &outbox))?;
        Ok(Self { jobs: Some(jobs), done, thread: Some(thread), busy: false })
    }

    /// Whether a job is under way.
    pub(super) fn is_busy(&self) -> bool {
        self.busy
    }

    /// Sends changes to be stored. The caller waits until the writer is not busy.
    pub(super) fn send(&mut self, changes: Vec<IncidentChange>) {
        if let Some(jobs) = &self.jobs {
            self.busy = jobs.send(Job::Record(changes)).is_ok();
        }
    }

    /// Something else is kept from now on.
    pub(super) fn keep(&mut self, retention: Retention) {
        if let Some(jobs) = &self.jobs {
            // It fails when the thread is gone, which shows with the next changes.
            _ = jobs.send(Job::Keep(retention));
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

fn write_all(mut keeper: Keeper, inbox: &mpsc::Receiver<Job>, outbox: &UnboundedSender<Done>) {
    keeper.prune();
    let (mut written, mut pruned) = (0, Instant::now());
    while let Ok(job) = inbox.recv() {
        let changes = match job {
            Job::Record(changes) => changes,
            Job::Keep(retention) => {
                keeper.retention = retention;
                keeper.prune();
                continue;
            }
        };
        // Few are kept where few are wanted. In one that could not be opened before, what is old was not looked for.
        let every = PRUNE_EVERY.min(usize::try_from(keeper.retention.most / 4).unwrap_or(PRUNE_EVERY));
        let begins = keeper.store.is_none();
        let rows = keeper.record(&changes);
        if rows.is_ok() {
            written += changes.len();
        }
        let due = begins || written >= every || pruned.elapsed() >= PRUNE_AFTER;
        let (forgotten, set_aside) = (keeper.forgotten.take(), keeper.set_aside.take());
        if outbox.send(Done { changes, rows, forgotten, set_aside }).is_err() {
            return;
        }
        // After the answer, so that an alert never waits for it.
        if due && keeper.store.is_some() {
            (written, pruned) = (0, Instant::now());
            keeper.prune();
        }
    }
}

/// The thread's end: the store, and what is to be told with the next answer.
#[derive(Debug)]
struct Keeper {
    dir: PathBuf,
    retention: Retention,
    /// None while no store can be opened.
    store: Option<Store>,
    forgotten: Option<Evicted>,
    /// A store that was taken away, until there is another.
    gone: Option<ReplacedFile>,
    set_aside: Option<ReplacedFile>,
}

impl Keeper {
    fn record(&mut self, changes: &[IncidentChange]) -> Result<Vec<Recorded>, StoreError> {
        // What is told must be where others find it.
        if let Some(store) = self.store.take_if(Store::was_removed) {
            self.gone = Some(store.close_removed());
        }
        let store = if let Some(store) = self.store.take() {
            store
        } else {
            let (store, aside) = Store::open_or_replace(&self.dir)?;
            self.set_aside = aside.or(self.gone.take());
            self.forgotten = store.evicted().ok();
            store
        };
        let store = self.store.insert(store);
        let incidents = || changes.iter().map(|change| &change.incident);
        match store.record(incidents()) {
            // What is new matters more than what is oldest.
            Err(full @ StoreError::Full { .. }) => {
                if !store.make_room()? {
                    return Err(full);
                }
                tracing::warn!("the store was at its bound: its oldest and rarest incidents were forgotten");
                self.forgotten = store.evicted().ok();
                store.record(incidents())
            }
            Err(error @ StoreError::Damaged { .. }) => {
                // Closed, before it is renamed: it would take the new one's log for its own.
                self.store = None;
                let (anew, aside) = Store::replace_damaged(&self.dir, error)?;
                self.forgotten = Some(Evicted::default());
                self.set_aside = Some(aside);
                self.store.insert(anew).record(incidents())
            }
            rows => rows,
        }
    }

    fn prune(&mut self) {
        let Some(store) = &mut self.store else { return };
        let keep = i64::try_from(self.retention.keep.as_millis()).unwrap_or(i64::MAX);
        let oldest = now_millis().saturating_sub(keep).max(0);
        match store.prune(oldest, self.retention.most) {
            Ok(0) => {}
            Ok(gone) => {
                tracing::info!(gone, "old incidents were forgotten");
                self.forgotten = store.evicted().ok();
            }
            Err(error) => tracing::warn!("old incidents could not be forgotten: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Action;
    use crate::daemon::config::Config;
    use crate::incidents::store::{FILE, MAX_FILE, MAX_LOG};
    use crate::incidents::{Denial, Incident, IncidentEvent, IncidentKey, Moment, Query, Sample, SightingSource};
    use crate::syscalls::{Arch, Call};
    use std::path::Path;

    const MINUTE: i64 = 60_000;

    /// A change for an incident seen in a minute of a day long ago enough for all of it to be past, and not too old.
    fn change(number: u32, minute: i64, count: u64) -> IncidentChange {
        let at = Moment::At(now_millis() - (24 * 60 - minute) * MINUTE);
        let call = Call::numbered(Arch::native(), number);
        let key = IncidentKey {
            unit: None,
            event: IncidentEvent::Denial(Denial { call, action: Action::Errno }),
            exe: vec![b'x'; 200],
            source: SightingSource::Audit,
        };
        let incident = Incident { key, rung: None, count, first: at.clone(), last: at, sample: Sample::default() };
        IncidentChange { incident, first: count == 1 }
    }

    fn size(dir: &Path) -> u64 {
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
    }

    fn keeper(dir: &Path) -> Keeper {
        let config = Config::default();
        let retention = Retention { keep: config.keep, most: config.most_stored };
        let store = Some(Store::open(dir).unwrap());
        Keeper { dir: dir.into(), retention, store, forgotten: None, gone: None, set_aside: None }
    }

    /// The calls that are stored, as anybody finds them.
    fn stored(dir: &Path) -> Vec<IncidentEvent> {
        let stored = Store::open_read_only(dir).unwrap().incidents(&Query::default()).unwrap();
        stored.into_iter().map(|stored| stored.incident.key.event).collect()
    }

    #[test]
    fn a_store_that_is_taken_away_at_work_is_begun_anew() {
        let temp = tempfile::tempdir().unwrap();
        let (dir, other) = (temp.path().join("state"), temp.path().join("other"));
        let mut keeper = keeper(&dir);
        let changes: Vec<IncidentChange> = (0..4).map(|number| change(number, 1, 1)).collect();
        let event = |number: usize| changes[number].incident.key.event.clone();
        let log = dir.join(format!("{FILE}-wal"));
        keeper.record(&changes[..1]).unwrap();
        assert!(keeper.set_aside.is_none() && log.exists());

        for file in std::fs::read_dir(&dir).unwrap() {
            std::fs::remove_file(file.unwrap().path()).unwrap();
        }
        assert!(keeper.record(&changes[1..2]).unwrap()[0].new);
        let gone = keeper.set_aside.take().unwrap();
        assert!(gone.path.is_none() && matches!(gone.error, StoreError::Removed { .. }), "{gone:?}");
        assert_eq!(stored(&dir), [event(1)]);

        // The log alone: nothing of it is lost.
        std::fs::remove_file(&log).unwrap();
        keeper.record(&changes[2..3]).unwrap();
        assert!(keeper.set_aside.take().is_some());
        assert_eq!(stored(&dir).len(), 2);

        // Another one in its place, such as an older copy.
        drop(Store::open(&other).unwrap());
        std::fs::rename(other.join(FILE), dir.join(FILE)).unwrap();
        keeper.record(&changes[3..]).unwrap();
        assert!(keeper.set_aside.take().is_some());
        assert_eq!(stored(&dir), [event(3)]);
        keeper.record(&changes[3..]).unwrap();
        assert!(keeper.set_aside.is_none());

        // What cannot be begun anew yet is told once it can.
        std::fs::remove_dir_all(&dir).unwrap();
        std::fs::write(&dir, "").unwrap();
        assert!(keeper.record(&changes[..1]).is_err() && keeper.set_aside.is_none());
        std::fs::remove_file(&dir).unwrap();
        keeper.record(&changes[..1]).unwrap();
        assert!(keeper.set_aside.is_some());
        assert_eq!(stored(&dir), [event(0)]);
    }

    #[test]
    fn a_day_of_storm_stays_within_the_bounds() {
        let temp = tempfile::tempdir().unwrap();
        let config = Config::default();
        let mut keeper = keeper(temp.path());
        let (mut largest, mut number, mut written) = (0, 1_000, 0);
        // What the loop writes at most in a minute is more, but the bounds are reached all the same.
        for minute in 0..24 * 60 {
            let new = (0..100).map(|offset| change(number + offset, minute, 1));
            let frequent = (0..50).map(|call| change(call, minute, 1_000_000));
            let changes: Vec<IncidentChange> = new.chain(frequent).collect();
            number += 100;
            keeper.record(&changes).unwrap();
            written += changes.len();
            if written >= PRUNE_EVERY {
                written = 0;
                keeper.prune();
            }
            largest = largest.max(size(temp.path()));
        }
        keeper.prune();
        assert!(largest < MAX_FILE + 2 * MAX_LOG, "{largest} bytes");
        let store = keeper.store.unwrap();
        let stored = store.incidents(&Query::default()).unwrap();
        assert_eq!(stored.len(), usize::try_from(config.most_stored).unwrap());
        let frequent = stored.iter().filter(|stored| stored.incident.count == 24 * 60 * 1_000_000).count();
        assert_eq!(frequent, 50, "what goes on all day is not crowded out, and every count of it is exact");
        let forgotten = keeper.forgotten.unwrap().incidents;
        assert_eq!(stored.len() as u64 + forgotten, u64::from(number - 1_000) + 50, "all are accounted for");
        println!("{} MB at most in {FILE} and its log", largest / 1_000_000);
    }
}
