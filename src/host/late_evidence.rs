//! Evidence that arrives after the record: from the service managers, from the journal, and as a guess from unit files.

use super::blind_spots::{BlindSpot, no_journal};
use super::executable_guess::{ExecutableGuesser, Task};
use crate::incidents::{Moment, Sample, Sighting};
use crate::kernel::clock::Clocks;
use crate::kernel::heap;
use crate::systemd::journal;
use crate::systemd::journal::{DeathEntries, JournalReadError, JournalReader};
use crate::systemd::manager::{Managers, PastProcess, PidAtTime, SystemdError};
use crate::unit_files::CommandMatch;
use crate::units::{Evidence, Manager, Rung, Unit};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{Instant, timeout_at};

/// The limit of user managers to ask about a process with an unknown user.
const MOST_USERS: usize = 32;

/// How long the guesses for one query may take. Every user's unit files can be slow to read.
const LONGEST_GUESSES: Duration = Duration::from_secs(10);

/// How long a search of the journal may take, with the reads of unit files that it needs.
const LONGEST_SEARCH: Duration = Duration::from_secs(10);

/// The sources of late evidence.
#[derive(Debug)]
pub(crate) struct LateEvidence {
    managers: Arc<Managers>,
    guesses: Arc<Mutex<ExecutableGuesser>>,
    journal: Arc<Mutex<JournalReader>>,
    /// Why the last read of the journal failed, if it did.
    journal_error: std::sync::Mutex<Option<JournalReadError>>,
    /// Whether the last read of unit files took too long.
    are_files_slow: AtomicBool,
}

impl LateEvidence {
    /// Creates the sources from the managers to ask.
    #[must_use]
    pub(crate) fn new(managers: Managers) -> Self {
        let managers = Arc::new(managers);
        let (guesses, journal) = (Arc::default(), Arc::default());
        let (journal_error, are_files_slow) = Default::default();
        Self { managers, guesses, journal, journal_error, are_files_slow }
    }

    /// The managers to ask.
    #[must_use]
    pub(crate) fn managers(&self) -> Arc<Managers> {
        Arc::clone(&self.managers)
    }

    /// Asks the managers about each sighting's process, and guesses from unit files if they do not know the process.
    /// Returns the evidence in the order of the sightings.
    pub(crate) async fn collect(&self, sightings: &[Sighting]) -> Vec<Vec<Evidence>> {
        self.collect_within(sightings, LONGEST_GUESSES).await
    }

    /// Does what [`LateEvidence::collect`] does, with a limit on the time for guesses. Further sightings get no guess.
    async fn collect_within(&self, sightings: &[Sighting], longest: Duration) -> Vec<Vec<Evidence>> {
        let remembered = self.past_processes(sightings).await;
        let until = Instant::now() + longest;
        let clocks = Clocks::now();
        let mut answers = Vec::new();
        for sighting in sightings {
            let (pid, at) = (sighting.sample.pid, &sighting.at);
            let fits = |process: &&PastProcess| {
                // A user manager can claim any pid, so it counts for that user's processes only.
                let may = match process.unit.manager {
                    Manager::System => true,
                    Manager::User(uid) => self.users(&sighting.sample.uid).contains(&uid),
                };
                let had = |at: i64| !clocks.is_future(at) && process.had(pid, at);
                may && matches!(at, Moment::At(around) if had(*around))
            };
            let mut evidence: Vec<Evidence> = remembered.iter().filter(fits).cloned().map(Into::into).collect();
            if evidence.is_empty() && !sighting.key.exe.is_empty() && Instant::now() < until {
                evidence.extend(self.guess_from_unit_files(&sighting.sample, &sighting.key.exe, until).await);
            }
            answers.push(evidence);
        }
        answers
    }

    /// Reads the journal for each sighting's process. Returns the evidence in the order of the sightings.
    pub(crate) async fn collect_from_journal(&self, sightings: Vec<Sighting>) -> Vec<Vec<Evidence>> {
        let nothing = vec![Vec::new(); sightings.len()];
        let (Some(since), Some(boot)) = (journal::earliest_entry_time(&sightings), journal::boot_id()) else {
            return nothing;
        };
        let until = Instant::now() + LONGEST_SEARCH;
        let read = run_until(until, &self.journal, move |journal| journal.entries(&boot, since)).await;
        match read.map_err(JournalReadError::Io).flatten() {
            Ok(entries) => {
                self.set_journal_error(None);
                self.find_in_entries(entries, sightings, until).await
            }
            Err(error) => {
                self.set_journal_error(Some(error));
                nothing
            }
        }
    }

    /// Finds the evidence for each sighting in entries of the journal. If the unit files cannot be read until a moment,
    /// returns the evidence that needs none.
    async fn find_in_entries(
        &self,
        entries: DeathEntries,
        sightings: Vec<Sighting>,
        until: Instant,
    ) -> Vec<Vec<Evidence>> {
        let certain =
            sightings.iter().map(|sighting| journal::find_evidence(&entries, sighting, |_, _| false)).collect();
        let find = move |guesses: &mut ExecutableGuesser| {
            let mut runs = |unit: &Unit, exe: &[u8]| guesses.unit_runs(Path::new("/"), unit, exe);
            let found =
                sightings.iter().map(|sighting| journal::find_evidence(&entries, sighting, &mut runs)).collect();
            drop(entries);
            heap::trim();
            found
        };
        self.read_unit_files(until, find).await.unwrap_or(certain)
    }

    /// Why the journal cannot be read, as a sentence; `None` if the last read succeeded.
    #[must_use]
    pub(crate) fn journal_blind_spot(&self) -> Option<BlindSpot> {
        self.journal_error.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(no_journal)
    }

    fn set_journal_error(&self, error: Option<JournalReadError>) {
        let mut known = self.journal_error.lock().unwrap_or_else(PoisonError::into_inner);
        match (&*known, &error) {
            (None, Some(error)) => tracing::warn!("{error}"),
            (Some(_), None) => tracing::info!("the journal can be read again"),
            _ => {}
        }
        *known = error;
    }

    /// The users whose managers may have run a process of this uid; if the uid is unknown, all users up to the limit.
    fn users(&self, uid: &str) -> Vec<u32> {
        if let Ok(uid) = uid.parse() {
            return vec![uid];
        }
        self.managers.users(MOST_USERS)
    }

    /// Asks each manager for the processes that it may have run.
    async fn past_processes(&self, sightings: &[Sighting]) -> Vec<PastProcess> {
        let mut wanted: BTreeMap<Manager, Vec<PidAtTime>> = BTreeMap::new();
        for sighting in sightings {
            // Without a time, a pid proves nothing: pids are reused.
            let Moment::At(around) = sighting.at else { continue };
            let users = self.users(&sighting.sample.uid).into_iter().map(Manager::User);
            for manager in std::iter::once(Manager::System).chain(users) {
                wanted.entry(manager).or_default().push(PidAtTime { pid: sighting.sample.pid, at: around });
            }
        }
        let mut answers = JoinSet::new();
        for (manager, wanted) in wanted {
            let managers = Arc::clone(&self.managers);
            answers.spawn(async move { (manager, ask_one(&managers, manager, &wanted).await) });
        }
        let mut found = Vec::new();
        while let Some(answer) = answers.join_next().await {
            match answer {
                Ok((_, Ok(processes))) => found.extend(processes),
                // Most users have no manager.
                Ok((Manager::User(_), Err(SystemdError::Unreachable { .. }))) => {}
                Ok((manager, Err(error))) => tracing::debug!("{manager}: {error}"),
                Err(error) => tracing::error!("a query to systemd failed: {error}"),
            }
        }
        found
    }

    /// Guesses the unit of an executable from this machine's unit files. Reads the files if they are not cached.
    async fn guess_from_unit_files(&self, sample: &Sample, exe: &[u8], until: Instant) -> Option<Evidence> {
        let (exe, comm, user) = (exe.to_vec(), sample.comm.clone(), sample.uid.parse().ok());
        let guess = move |guesses: &mut ExecutableGuesser| {
            guesses.guess_unit(Path::new("/"), user, Task { exe: &exe, comm: &comm }, CommandMatch::Program)
        };
        let unit = self.read_unit_files(until, guess).await.flatten()?;
        Some(Evidence::Named(Rung::Executable, unit))
    }

    /// Reads unit files in a thread. Returns `None` if that takes too long.
    async fn read_unit_files<T: Send + 'static>(
        &self,
        until: Instant,
        read: impl FnOnce(&mut ExecutableGuesser) -> T + Send + 'static,
    ) -> Option<T> {
        let outcome = run_until(until, &self.guesses, read).await;
        let was_slow = self.are_files_slow.swap(outcome.is_err(), Ordering::Relaxed);
        outcome
            .inspect_err(|error| {
                if !was_slow {
                    tracing::warn!("cannot find units by their files, so some stay unknown: {error}");
                }
            })
            .ok()
    }
}

/// Runs a function that blocks on the disk in a thread, and waits for it until a moment. A disk or a user's home can hang: the
/// function then keeps the value locked, so that at most one thread hangs.
async fn run_until<S: Send + 'static, T: Send + 'static>(
    until: Instant,
    value: &Arc<Mutex<S>>,
    work: impl FnOnce(&mut S) -> T + Send + 'static,
) -> io::Result<T> {
    let run = async {
        let mut value = Arc::clone(value).lock_owned().await;
        spawn_blocking(move || work(&mut value)).await
    };
    let finished =
        timeout_at(until, run).await.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no answer in time"))?;
    finished.map_err(|error| {
        tracing::error!("a search for units failed: {error}");
        io::Error::other(error)
    })
}

async fn ask_one(
    managers: &Managers,
    manager: Manager,
    wanted: &[PidAtTime],
) -> Result<Vec<PastProcess>, SystemdError> {
    managers.connect(manager).await?.past_processes(wanted).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Action;
    use crate::incidents::{Denial, IncidentEvent, IncidentKey, SightingSource};
    use crate::syscalls::{Arch, Call};
    use crate::systemd::journal::DeathEntry;
    use std::sync::mpsc::channel;

    fn sighting(action: Action) -> Sighting {
        let event = IncidentEvent::Denial(Denial { call: Call::numbered(Arch::X86_64, 1), action });
        let key = IncidentKey { unit: None, event, exe: b"/a".to_vec(), source: SightingSource::Audit };
        Sighting { key, rung: None, at: Moment::At(100_000), sample: Sample { pid: 7, ..Sample::default() } }
    }

    fn sources() -> LateEvidence {
        LateEvidence::new(Managers::with_paths("unix:path=/nonexistent", "/nonexistent"))
    }

    /// A time that a test waits for what does not come.
    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(50)
    }

    #[tokio::test]
    async fn guess_that_takes_too_long_gives_no_evidence() {
        let sources = sources();
        let _hanging = Arc::clone(&sources.guesses).lock_owned().await;
        let sightings = [sighting(Action::Errno), sighting(Action::Errno)];
        let collected = sources.collect_within(&sightings, Duration::from_millis(50));
        let answers = tokio::time::timeout(Duration::from_secs(30), collected).await.unwrap();
        assert_eq!(answers, [[], []]);
    }

    #[tokio::test]
    async fn hanging_read_of_unit_files_leaves_the_evidence_of_the_journal_alone() {
        let sources = sources();
        let unit = |name: &str| Unit { manager: Manager::System, name: name.parse().unwrap() };
        let dump = DeathEntry { at: 100_500, unit: unit("dumped.service"), pid: Some(7) };
        let exit = DeathEntry { at: 100_500, unit: unit("ended.service"), pid: None };
        let other = Sighting { sample: Sample { pid: 8, ..Sample::default() }, ..sighting(Action::KillProcess) };
        let sightings = vec![sighting(Action::KillProcess), other];
        let entries = DeathEntries { found: vec![dump, exit], whole_until: Some(200_000) };
        let (release, is_released) = channel::<()>();
        let hang = run_until(soon(), &sources.guesses, move |_| {
            let _ = is_released.recv();
        });
        assert_eq!(hang.await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        let found = sources.find_in_entries(entries, sightings, soon()).await;
        assert_eq!(found, [vec![Evidence::Named(Rung::JournalEntry, unit("dumped.service"))], Vec::new()]);
        drop(release);
        let work = run_until(Instant::now() + Duration::from_secs(30), &sources.guesses, |_| 7);
        assert_eq!(work.await.unwrap(), 7, "it works again");
    }

    #[test]
    fn journal_that_can_be_read_again_is_no_blind_spot() {
        let sources = sources();
        sources.set_journal_error(Some(JournalReadError::None));
        assert_eq!(sources.journal_blind_spot().map(|spot| spot.id), Some("no-journal"));
        sources.set_journal_error(None);
        assert_eq!(sources.journal_blind_spot(), None);
    }
}
