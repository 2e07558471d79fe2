//! This machine as it runs.

use super::Host;
use super::procfs::Procfs;
use super::systemd::{Managers, SystemdError};
use crate::audit::Record;
use crate::incidents::{Moment, Sighting};
use crate::units::{Evidence, Manager};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How many user managers are asked about a process whose user is not known.
const MOST_USERS: usize = 32;

/// This machine's `/proc` and service managers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LiveHost {
    procfs: Procfs,
    managers: Arc<Managers>,
    runtime: PathBuf,
}

impl LiveHost {
    /// With the managers to ask; `runtime` holds the users' runtime directories, usually `/run/user`.
    #[must_use]
    pub fn new(managers: Managers, runtime: &Path) -> Self {
        Self { procfs: Procfs::live(), managers: Arc::new(managers), runtime: runtime.to_owned() }
    }

    /// What a process's cgroup tells, to be read while it lives.
    #[must_use]
    pub fn own_evidence(&self, pid: u32) -> Option<Evidence> {
        self.procfs.cgroup(pid).map(Evidence::OwnCgroup)
    }

    /// What the cgroup of its parent tells, to be read at once when it dies.
    #[must_use]
    pub fn parent_evidence(&self, parent: Option<u32>) -> Option<Evidence> {
        self.procfs.cgroup(parent?).map(Evidence::ParentCgroup)
    }

    /// The users whose managers may have run a process of this uid.
    fn users(&self, uid: &str) -> Vec<u32> {
        if let Ok(uid) = uid.parse() {
            return vec![uid];
        }
        let Ok(entries) = std::fs::read_dir(&self.runtime) else { return Vec::new() };
        entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).take(MOST_USERS).collect()
    }

    async fn remembered(&self, manager: Manager, pid: u32, around: i64) -> Result<Vec<Evidence>, SystemdError> {
        let found = self.managers.of(manager).await?.remembered(pid, around).await?;
        Ok(found.into_iter().map(Into::into).collect())
    }
}

impl Host for LiveHost {
    const ANSWERS: bool = true;

    fn context(&mut self, _: &Record<'_>) -> Option<u64> {
        None
    }

    fn glance(&mut self, record: &Record<'_>) -> Vec<Evidence> {
        self.own_evidence(record.pid).into_iter().collect()
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
        evidence
    }
}
