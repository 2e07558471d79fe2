//! What can still be learned of processes that are gone: from the service managers that ran them, as a guess from
//! unit files, and from the journal.

use super::executable_guess::ExecutableGuesser;
use crate::incidents::{Moment, Sample, Sighting};
use crate::kernel::clock::Clocks;
use crate::systemd::journal;
use crate::systemd::journal::{Journal, JournalError};
use crate::systemd::manager::{Managers, PastProcess, PidAtTime, SystemdError};
use crate::unit_files::CommandMatch;
use crate::units::{Evidence, Manager, Rung, Unit};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use tokio::task::JoinSet;

/// How many user managers are asked about a process whose user is not known.
const MOST_USERS: usize = 32;

/// Whom to ask.
#[derive(Debug)]
pub struct LateEvidence {
    managers: Arc<Managers>,
    guesses: Arc<Mutex<ExecutableGuesser>>,
    journal: Arc<Journal>,
    /// Why the journal tells nothing, said once.
    journal_error: OnceLock<JournalError>,
}

impl LateEvidence {
    /// With the managers to ask.
    #[must_use]
    pub fn new(managers: Managers) -> Self {
        let managers = Arc::new(managers);
        let (guesses, journal) = (Arc::default(), Arc::default());
        Self { managers, guesses, journal, journal_error: OnceLock::new() }
    }

    /// The managers that are asked.
    #[must_use]
    pub fn managers(&self) -> Arc<Managers> {
        Arc::clone(&self.managers)
    }

    /// What is learned of each sighting's process, in order.
    pub async fn collect(&self, sightings: &[Sighting]) -> Vec<Vec<Evidence>> {
        let remembered = self.past_processes(sightings).await;
        let clocks = Clocks::now();
        let mut answers = Vec::new();
        for sighting in sightings {
            let (pid, at) = (sighting.sample.pid, &sighting.at);
            let fits = |process: &&PastProcess| {
                // A user's manager can claim any pid: it is believed of that user's processes alone.
                let may = match process.unit.manager {
                    Manager::System => true,
                    Manager::User(uid) => self.users(&sighting.sample.uid).contains(&uid),
                };
                let had = |at: i64| !clocks.is_future(at) && process.had(pid, at);
                may && matches!(at, Moment::At(around) if had(*around))
            };
            let mut evidence: Vec<Evidence> = remembered.iter().filter(fits).cloned().map(Into::into).collect();
            if evidence.is_empty() && !sighting.key.exe.is_empty() {
                evidence.extend(self.guess(&sighting.sample, &sighting.key.exe).await);
            }
            answers.push(evidence);
        }
        answers
    }

    /// What the journal tells of each sighting's process, in order.
    pub async fn collect_from_journal(&self, sightings: Vec<Sighting>) -> Vec<Vec<Evidence>> {
        let nothing = vec![Vec::new(); sightings.len()];
        let (Some(since), Some(boot)) = (journal::earliest(&sightings), journal::boot()) else { return nothing };
        let (journal, guesses) = (Arc::clone(&self.journal), Arc::clone(&self.guesses));
        let look = move || {
            let entries = journal.entries(&boot, since)?;
            let runs = |unit: &Unit, exe: &[u8]| {
                guesses.lock().unwrap_or_else(PoisonError::into_inner).unit_runs(Path::new("/"), unit, exe)
            };
            Ok(sightings.iter().map(|sighting| journal::evidence(&entries, sighting, runs)).collect())
        };
        match tokio::task::spawn_blocking(look).await {
            Ok(Ok(told)) => told,
            Ok(Err(error)) => {
                if self.journal_error.get().is_none() {
                    tracing::warn!("{error}");
                }
                let _ = self.journal_error.set(error);
                nothing
            }
            Err(error) => {
                tracing::error!("a look into the journal broke off: {error}");
                nothing
            }
        }
    }

    /// Why the journal told nothing when it was first asked, if it did not.
    #[must_use]
    pub fn journal_error(&self) -> Option<&JournalError> {
        self.journal_error.get()
    }

    /// The users whose managers may have run a process of this uid.
    fn users(&self, uid: &str) -> Vec<u32> {
        if let Ok(uid) = uid.parse() {
            return vec![uid];
        }
        self.managers.users(MOST_USERS)
    }

    /// What each manager remembers of the processes that it may have run.
    async fn past_processes(&self, sightings: &[Sighting]) -> Vec<PastProcess> {
        let mut wanted: BTreeMap<Manager, Vec<PidAtTime>> = BTreeMap::new();
        for sighting in sightings {
            // A process is remembered with its times alone: without one, the pid proves nothing.
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
                Err(error) => tracing::error!("a question to systemd broke off: {error}"),
            }
        }
        found
    }

    /// What the unit files of this machine say of an executable. Takes as long as it takes to read them.
    async fn guess(&self, sample: &Sample, exe: &[u8]) -> Option<Evidence> {
        let (guesses, exe, user) = (Arc::clone(&self.guesses), exe.to_vec(), sample.uid.parse().ok());
        let guess = move || {
            let mut guesses = guesses.lock().unwrap_or_else(PoisonError::into_inner);
            guesses.guess_unit(Path::new("/"), user, &exe, CommandMatch::Program)
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
