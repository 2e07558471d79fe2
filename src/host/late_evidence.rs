//! Evidence that arrives after the record: from the service managers, from the journal, and as a guess from unit files.

use super::executable_guess::{ExecutableGuesser, Task};
use crate::incidents::{Moment, Sample, Sighting};
use crate::kernel::clock::Clocks;
use crate::kernel::heap;
use crate::systemd::journal;
use crate::systemd::journal::{JournalReadError, JournalReader};
use crate::systemd::manager::{Managers, PastProcess, PidAtTime, SystemdError};
use crate::unit_files::CommandMatch;
use crate::units::{Evidence, Manager, Rung, Unit};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

/// The limit of user managers to ask about a process with an unknown user.
const MOST_USERS: usize = 32;

/// How long the guesses for one query may take. Every user's unit files can be slow to read.
const LONGEST_GUESSES: Duration = Duration::from_secs(10);

/// The sources of late evidence.
#[derive(Debug)]
pub(crate) struct LateEvidence {
    managers: Arc<Managers>,
    guesses: Arc<Mutex<ExecutableGuesser>>,
    journal: Arc<JournalReader>,
    /// The first error of reading the journal. harden-why logs it once.
    journal_error: OnceLock<JournalReadError>,
}

impl LateEvidence {
    /// Creates the sources from the managers to ask.
    #[must_use]
    pub(crate) fn new(managers: Managers) -> Self {
        let managers = Arc::new(managers);
        let (guesses, journal) = (Arc::default(), Arc::default());
        Self { managers, guesses, journal, journal_error: OnceLock::new() }
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
                let guess = self.guess_from_unit_files(&sighting.sample, &sighting.key.exe);
                evidence.extend(timeout_at(until, guess).await.ok().flatten());
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
        let (journal, guesses) = (Arc::clone(&self.journal), Arc::clone(&self.guesses));
        let look = move || {
            let entries = journal.entries(&boot, since)?;
            let runs = |unit: &Unit, exe: &[u8]| {
                guesses.lock().unwrap_or_else(PoisonError::into_inner).unit_runs(Path::new("/"), unit, exe)
            };
            let found = sightings.iter().map(|sighting| journal::find_evidence(&entries, sighting, runs)).collect();
            drop(entries);
            heap::trim();
            Ok(found)
        };
        match tokio::task::spawn_blocking(look).await {
            Ok(Ok(evidence)) => evidence,
            Ok(Err(error)) => {
                if self.journal_error.get().is_none() {
                    tracing::warn!("{error}");
                }
                let _ = self.journal_error.set(error);
                nothing
            }
            Err(error) => {
                tracing::error!("a search of the journal failed: {error}");
                nothing
            }
        }
    }

    /// The first error of reading the journal.
    #[must_use]
    pub(crate) fn journal_error(&self) -> Option<&JournalReadError> {
        self.journal_error.get()
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
    async fn guess_from_unit_files(&self, sample: &Sample, exe: &[u8]) -> Option<Evidence> {
        let (guesses, exe, user) = (Arc::clone(&self.guesses), exe.to_vec(), sample.uid.parse().ok());
        let comm = sample.comm.clone();
        let guess = move || {
            let mut guesses = guesses.lock().unwrap_or_else(PoisonError::into_inner);
            guesses.guess_unit(Path::new("/"), user, Task { exe: &exe, comm: &comm }, CommandMatch::Program)
        };
        let unit = tokio::task::spawn_blocking(guess).await.ok()??;
        Some(Evidence::Named(Rung::Executable, unit))
    }
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
    use std::sync::mpsc::channel;

    #[tokio::test]
    async fn guess_that_takes_too_long_gives_no_evidence() {
        let root = tempfile::tempdir().unwrap();
        let sources = LateEvidence::new(Managers::with_paths("unix:path=/nonexistent", root.path()));
        let event = IncidentEvent::Denial(Denial { call: Call::numbered(Arch::X86_64, 1), action: Action::Errno });
        let key = IncidentKey { unit: None, event, exe: b"/a".to_vec(), source: SightingSource::Audit };
        let sighting =
            Sighting { key, rung: None, at: Moment::Unknown, sample: Sample { pid: 7, ..Sample::default() } };
        let guesses = Arc::clone(&sources.guesses);
        let ((locked, is_locked), (release, is_released)) = (channel(), channel::<()>());
        std::thread::spawn(move || {
            let _guard = guesses.lock().unwrap();
            locked.send(()).unwrap();
            let _ = is_released.recv();
        });
        is_locked.recv().unwrap();
        let sightings = [sighting.clone(), sighting];
        let collected = sources.collect_within(&sightings, Duration::from_millis(50));
        let answers = tokio::time::timeout(Duration::from_secs(30), collected).await.unwrap();
        assert_eq!(answers, [[], []]);
        drop(release);
    }
}
