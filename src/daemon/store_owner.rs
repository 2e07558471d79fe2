//! The thread that writes the store: its store, and what it does with it.

use super::age_limit::AgeLimit;
use super::config::Config;
use crate::incidents::{
    Evicted, IncidentChange, IncidentKey, Recorded, RehearsalSpan, ReplacedFile, Store, StoreError,
};
use crate::kernel::clock::{is_synchronized, now_millis};
use crate::systemd::journal::boot_id;
use crate::units::Unit;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The writer prunes the store after this many rows.
pub(super) const PRUNE_ROWS: usize = 10_000;

/// Which incidents the store keeps.
#[derive(Debug, Clone, Copy)]
pub(super) struct Retention {
    /// How long the store keeps an incident that is not seen again.
    max_age: Duration,
    /// How many incidents the store keeps.
    pub(super) max_incidents: u32,
}

impl From<&Config> for Retention {
    fn from(config: &Config) -> Self {
        Self { max_age: config.max_age, max_incidents: config.max_stored }
    }
}

/// The rehearsals to save next. Clients can begin and end rehearsals faster than a disk writes, so only the latest state
/// waits.
pub(super) type UnsavedRehearsals = Arc<Mutex<Option<Vec<RehearsalSpan>>>>;

pub(super) fn lock(unsaved: &UnsavedRehearsals) -> MutexGuard<'_, Option<Vec<RehearsalSpan>>> {
    unsaved.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The thread's state: the store, and changes to report with the next answer.
#[derive(Debug)]
pub(super) struct StoreOwner {
    dir: PathBuf,
    pub(super) retention: Retention,
    /// `None` while no store can be opened.
    pub(super) store: Option<Store>,
    pub(super) evicted: Option<Evicted>,
    /// A store that was deleted, until another replaces it.
    deleted: Option<ReplacedFile>,
    pub(super) replaced: Option<ReplacedFile>,
    age_limit: AgeLimit,
    pub(super) unsaved: UnsavedRehearsals,
}

impl StoreOwner {
    /// Takes the store of a directory. Without one, opens it at the first write.
    pub(super) fn new(store: Option<Store>, dir: PathBuf, retention: Retention) -> Self {
        Self {
            dir,
            retention,
            store,
            evicted: None,
            deleted: None,
            replaced: None,
            age_limit: AgeLimit::default(),
            unsaved: UnsavedRehearsals::default(),
        }
    }

    /// Takes the store, or opens it if it is not open or was removed.
    fn take_store(&mut self) -> Result<Store, StoreError> {
        // Other programs must find an incident before its alert, so a deleted store is replaced before the write.
        if let Some(store) = self.store.take_if(Store::was_removed) {
            self.deleted = Some(store.close_removed());
        }
        if let Some(store) = self.store.take() {
            return Ok(store);
        }
        let (store, aside) = Store::open_or_replace(&self.dir)?;
        self.replaced = aside.or(self.deleted.take());
        self.evicted = store.evicted().ok();
        Ok(store)
    }

    /// Deletes the incidents of a unit, or (`None`) those of processes whose unit is unknown. Returns their number.
    pub(super) fn forget(&mut self, unit: Option<&Unit>) -> Result<u64, StoreError> {
        self.take_store().and_then(|store| self.store.insert(store).forget_unit(unit))
    }

    /// Saves the rehearsals. After a failure, a restarted daemon does not know the processes that outlived them.
    pub(super) fn save_rehearsals(&mut self) {
        let Some(spans) = lock(&self.unsaved).take() else { return };
        let Some(boot) = boot_id() else { return };
        let saved = self.take_store().and_then(|store| self.store.insert(store).save_rehearsals(&boot, &spans));
        if let Err(error) = saved {
            tracing::warn!("the rehearsals cannot be saved for a later daemon: {error}");
        }
    }

    /// Subtracts one sighting of a death without a record.
    pub(super) fn subtract_death(&mut self, key: &IncidentKey) {
        let outcome = self.take_store().and_then(|store| self.store.insert(store).subtract_death(key));
        if let Err(error) = outcome {
            tracing::warn!("a death without a record that has one after all stays stored: {error}");
        }
    }

    pub(super) fn record(&mut self, changes: &[IncidentChange]) -> Result<Vec<Recorded>, StoreError> {
        let store = self.take_store()?;
        let store = self.store.insert(store);
        let incidents = || changes.iter().map(|change| &change.incident);
        match store.record(incidents()) {
            // New incidents matter more than the oldest.
            Err(full @ StoreError::Full { .. }) => {
                if !store.make_room()? {
                    return Err(full);
                }
                tracing::warn!("the store was full: removed its oldest and rarest incidents");
                self.evicted = store.evicted().ok();
                store.record(incidents())
            }
            Err(error @ StoreError::Damaged { .. }) => {
                // The damaged store is closed before its file is renamed. It would otherwise use the log of the new
                // store.
                self.store = None;
                let (new, aside) = Store::replace_damaged(&self.dir, error)?;
                self.evicted = Some(Evicted::default());
                self.replaced = Some(aside);
                self.store.insert(new).record(incidents())
            }
            rows => rows,
        }
    }

    pub(super) fn prune(&mut self) {
        let Some(store) = &mut self.store else { return };
        let now = now_millis();
        let latest = || store.latest_sighting(now).ok().flatten();
        let aged = self.age_limit.aged(now, is_synchronized(), self.retention.max_age, latest);
        match store.prune(aged, self.retention.max_incidents) {
            Ok(0) => {}
            Ok(gone) => {
                tracing::info!(gone, "removed old incidents");
                self.evicted = store.evicted().ok();
            }
            Err(error) => tracing::warn!("cannot remove old incidents: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Action;
    use crate::incidents::store::{FILE, MAX_FILE, MAX_LOG};
    use crate::incidents::{Denial, Incident, IncidentEvent, IncidentKey, Moment, Query, Sample, SightingSource};
    use crate::syscalls::{Arch, Call};
    use std::collections::BTreeSet;
    use std::path::Path;

    const MINUTE: i64 = 60_000;

    /// A change of an incident seen in a minute of the last 24 hours.
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

    fn owner(dir: &Path) -> StoreOwner {
        let retention = Retention::from(&Config::default());
        let store = Some(Store::open(dir).unwrap());
        StoreOwner::new(store, dir.into(), retention)
    }

    /// The stored events, as another program reads them.
    fn stored(dir: &Path) -> Vec<IncidentEvent> {
        let stored = Store::open_read_only(dir).unwrap().incidents(&Query::default()).unwrap();
        stored.into_iter().map(|stored| stored.incident.key.event).collect()
    }

    #[test]
    fn store_deleted_in_use_is_replaced() {
        let temp = tempfile::tempdir().unwrap();
        let (dir, other) = (temp.path().join("state"), temp.path().join("other"));
        let mut owner = owner(&dir);
        let changes: Vec<IncidentChange> = (0..4).map(|number| change(number, 1, 1)).collect();
        let event = |number: usize| changes[number].incident.key.event.clone();
        let log = dir.join(format!("{FILE}-wal"));
        owner.record(&changes[..1]).unwrap();
        assert!(owner.replaced.is_none() && log.exists());

        for file in std::fs::read_dir(&dir).unwrap() {
            std::fs::remove_file(file.unwrap().path()).unwrap();
        }
        assert!(owner.record(&changes[1..2]).unwrap()[0].new);
        let gone = owner.replaced.take().unwrap();
        assert!(gone.path.is_none() && matches!(gone.error, StoreError::Removed { .. }), "{gone:?}");
        assert_eq!(stored(&dir), [event(1)]);

        // Only the log is deleted: no incident is lost.
        std::fs::remove_file(&log).unwrap();
        owner.record(&changes[2..3]).unwrap();
        assert!(owner.replaced.take().is_some());
        assert_eq!(stored(&dir).len(), 2);

        // Another store takes its place, such as an older copy.
        drop(Store::open(&other).unwrap());
        std::fs::rename(other.join(FILE), dir.join(FILE)).unwrap();
        owner.record(&changes[3..]).unwrap();
        assert!(owner.replaced.take().is_some());
        assert_eq!(stored(&dir), [event(3)]);
        owner.record(&changes[3..]).unwrap();
        assert!(owner.replaced.is_none());

        // A store that cannot be replaced yet is reported once it can.
        std::fs::remove_dir_all(&dir).unwrap();
        std::fs::write(&dir, "").unwrap();
        assert!(owner.record(&changes[..1]).is_err() && owner.replaced.is_none());
        std::fs::remove_file(&dir).unwrap();
        owner.record(&changes[..1]).unwrap();
        assert!(owner.replaced.is_some());
        assert_eq!(stored(&dir), [event(0)]);
    }

    #[test]
    fn waiting_rehearsals_are_saved_once() {
        let temp = tempfile::tempdir().unwrap();
        let mut owner = owner(temp.path());
        let unit = crate::units::Unit { manager: crate::units::Manager::System, name: "x.service".parse().unwrap() };
        let span = RehearsalSpan { unit, from: 999, until: None, logins: BTreeSet::new(), scopes: BTreeSet::new() };
        *lock(&owner.unsaved) = Some(vec![span]);
        owner.save_rehearsals();
        assert!(lock(&owner.unsaved).is_none());
        let saved = owner.store.unwrap().rehearsals(&boot_id().unwrap()).unwrap();
        assert_eq!(saved.iter().map(|span| span.from).collect::<Vec<_>>(), [999]);
    }

    #[test]
    fn store_stays_within_bounds_during_a_day_of_storm() {
        let temp = tempfile::tempdir().unwrap();
        let config = Config::default();
        let mut owner = owner(temp.path());
        let (mut largest, mut number, mut written) = (0, 1_000, 0);
        // The loop may write more in a minute, but this much reaches the bounds, too.
        for minute in 0..24 * 60 {
            let new = (0..100).map(|offset| change(number + offset, minute, 1));
            let frequent = (0..50).map(|call| change(call, minute, 1_000_000));
            let changes: Vec<IncidentChange> = new.chain(frequent).collect();
            number += 100;
            owner.record(&changes).unwrap();
            written += changes.len();
            if written >= PRUNE_ROWS {
                written = 0;
                owner.prune();
            }
            largest = largest.max(size(temp.path()));
        }
        owner.prune();
        assert!(largest < MAX_FILE + 2 * MAX_LOG, "{largest} bytes");
        let store = owner.store.unwrap();
        let stored = store.incidents(&Query::default()).unwrap();
        assert_eq!(stored.len(), usize::try_from(config.max_stored).unwrap());
        let frequent = stored.iter().filter(|stored| stored.incident.count == 24 * 60 * 1_000_000).count();
        assert_eq!(frequent, 50, "what goes on all day is not crowded out, and every count of it is exact");
        let evicted = owner.evicted.unwrap().incidents;
        assert_eq!(stored.len() as u64 + evicted, u64::from(number - 1_000) + 50, "all are accounted for");
        println!("{} MB at most in {FILE} and its log", largest / 1_000_000);
    }
}
