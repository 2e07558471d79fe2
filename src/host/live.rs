//! This machine as it runs.

use super::Host;
use super::clock::{Clocks, ns_of_ticks};
use super::departed::Departed;
use super::exits::{Dying, Exit};
use super::guess::Guesses;
use super::procfs::Procfs;
use super::systemd::{Managers, SystemdError};
use super::unit_files::Match;
use crate::audit::{Action, Record, Stamp};
use crate::incidents::{Moment, Sample, Sighting};
use crate::units::{Evidence, Manager, Rung};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// How many user managers are asked about a process whose user is not known.
const MOST_USERS: usize = 32;

/// How far apart a process's start and a record can place the same moment, in nanoseconds: both clocks
/// tick every 10 ms at worst.
const SLACK_NS: i64 = 20_000_000;

/// How old the record of a process that the filter let live can be for its pid to be its own still, in
/// milliseconds: all other pids would have to be used up meanwhile.
const LATELY_MS: i64 = 100;

/// What the kernel's notice of a death led to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Told {
    /// When the process died, or was about to, in milliseconds since the epoch.
    pub at: i64,
    /// Whose it was.
    pub evidence: Vec<Evidence>,
}

/// This machine's `/proc`, notes of the dead, and service managers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LiveHost {
    procfs: Procfs,
    departed: Option<Arc<Departed>>,
    managers: Arc<Managers>,
    runtime: PathBuf,
    guesses: Arc<Mutex<Guesses>>,
}

impl LiveHost {
    /// With the managers to ask; `runtime` holds the users' runtime directories, usually `/run/user`.
    #[must_use]
    pub fn new(managers: Managers, runtime: &Path) -> Self {
        Self {
            procfs: Procfs::live(),
            departed: None,
            managers: Arc::new(managers),
            runtime: runtime.to_owned(),
            guesses: Arc::default(),
        }
    }

    /// And with the notes of the dead, where the kernel makes them.
    #[must_use]
    pub fn with_departed(self, departed: Option<Departed>) -> Self {
        Self { departed: departed.map(Arc::new), ..self }
    }

    /// What is known of a process that is about to die, and of its parent.
    #[must_use]
    pub fn on_dying(&self, dying: &Dying) -> Told {
        let clocks = Clocks::now();
        let at = clocks.millis_of_monotonic(dying.timestamp_ns);
        let own = self.own(dying.pid, at, clocks);
        // What the process says itself overrules what its parent does.
        let parent = if own.is_none() { self.parent(dying.parent, at, clocks) } else { None };
        Told { at, evidence: own.into_iter().chain(parent).collect() }
    }

    /// What is known of a process that just died.
    #[must_use]
    pub fn on_exit(&self, exit: &Exit) -> Told {
        let clocks = Clocks::now();
        let at = clocks.millis_of_monotonic(exit.timestamp_ns);
        let noted = self.noted(exit.pid, at);
        let parent = if noted.is_none() { self.parent(exit.parent, at, clocks) } else { None };
        Told { at, evidence: noted.into_iter().chain(parent).collect() }
    }

    /// What its own cgroup tells, if it lives and is the process that had the pid at a moment, in
    /// milliseconds since the epoch.
    fn own(&self, pid: u32, at: i64, clocks: Clocks) -> Option<Evidence> {
        self.cgroup_of(pid, at, clocks).map(Evidence::OwnCgroup).filter(Evidence::is_telling)
    }

    /// What the cgroup of its parent tells.
    fn parent(&self, parent: Option<u32>, at: i64, clocks: Clocks) -> Option<Evidence> {
        self.cgroup_of(parent?, at, clocks).map(Evidence::ParentCgroup).filter(Evidence::is_telling)
    }

    /// What was noted as it died.
    fn noted(&self, pid: u32, at: i64) -> Option<Evidence> {
        self.departed.as_ref()?.cgroup(pid, at).map(Evidence::ExitCgroup).filter(Evidence::is_telling)
    }

    /// The cgroup of the process that had a pid at a moment. One that started later is another, and one
    /// that still lives after its cgroup was read had it when it was.
    fn cgroup_of(&self, pid: u32, at: i64, clocks: Clocks) -> Option<Vec<u8>> {
        let cgroup = self.procfs.cgroup(pid)?;
        let started = ns_of_ticks(self.procfs.start_time(pid)?);
        (started <= clocks.boot_ns_of_millis(at).saturating_add(SLACK_NS)).then_some(cgroup)
    }

    /// The users whose managers may have run a process of this uid.
    fn users(&self, uid: &str) -> Vec<u32> {
        if let Ok(uid) = uid.parse() {
            return vec![uid];
        }
        let Ok(entries) = std::fs::read_dir(&self.runtime) else { return Vec::new() };
        entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).take(MOST_USERS).collect()
    }

    /// What the unit files of this machine say of an executable. Takes as long as it takes to read them.
    async fn guess(&self, sample: &Sample, exe: &[u8]) -> Option<Evidence> {
        let (guesses, exe, user) = (Arc::clone(&self.guesses), exe.to_vec(), sample.uid.parse().ok());
        let guess = move || {
            let mut guesses = guesses.lock().unwrap_or_else(PoisonError::into_inner);
            guesses.unit(Path::new("/"), user, &exe, Match::Program)
        };
        let unit = tokio::task::spawn_blocking(guess).await.ok()??;
        Some(Evidence::Named(Rung::Executable, unit))
    }

    async fn remembered(&self, manager: Manager, pid: u32, around: i64) -> Result<Vec<Evidence>, SystemdError> {
        let found = self.managers.of(manager).await?.remembered(pid, around).await?;
        Ok(found.into_iter().map(Into::into).collect())
    }
}

impl Host for LiveHost {
    fn glance(&mut self, record: &Record<'_>) -> Vec<Evidence> {
        let pid = record.pid;
        let Stamp::Millis(at) = record.stamp else { return Vec::new() };
        let clocks = Clocks::now();
        let found = if record.action.kills() || record.action == Action::Trap {
            // Dead already, most likely; what is gone after all has been noted meanwhile.
            self.noted(pid, at).or_else(|| self.own(pid, at, clocks)).or_else(|| self.noted(pid, at))
        } else if clocks.millis_since(at) <= LATELY_MS {
            let living = self.procfs.cgroup(pid).map(Evidence::OwnCgroup).filter(Evidence::is_telling);
            living.or_else(|| self.noted(pid, at))
        } else {
            self.own(pid, at, clocks).or_else(|| self.noted(pid, at))
        };
        found.into_iter().collect()
    }

    async fn ask(&self, sighting: &Sighting) -> Vec<Evidence> {
        // A process is remembered with its times alone: without one, the pid proves nothing.
        let Moment::At(around) = sighting.at else { return Vec::new() };
        let users = self.users(&sighting.sample.uid).into_iter().map(Manager::User);
        let mut evidence = Vec::new();
        for manager in std::iter::once(Manager::System).chain(users) {
            match self.remembered(manager, sighting.sample.pid, around).await {
                Ok(found) => evidence.extend(found),
                // Most users have no manager.
                Err(SystemdError::Absent { manager: Manager::User(_), .. }) => {}
                Err(error) => tracing::debug!(pid = sighting.sample.pid, "{manager}: {error}"),
            }
        }
        if evidence.is_empty() && !sighting.key.exe.is_empty() {
            evidence.extend(self.guess(&sighting.sample, &sighting.key.exe).await);
        }
        evidence
    }
}
