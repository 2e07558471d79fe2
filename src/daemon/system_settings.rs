//! The settings of the system manager's units, as the manager and the files that it names have them now.
//!
//! Users' managers are not asked, since root would then open files that a user names.

use crate::host::unit_settings::{self, LoadedSettings};
use crate::kernel::heap;
use crate::syscalls::Groups;
use crate::systemd::libseccomp;
use crate::systemd::manager::Managers;
use crate::units::{Manager, Unit};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Semaphore;

/// How many threads read files. A read that hangs occupies its thread.
const MAX_READERS: usize = 6;

/// Why settings are unknown.
type Unread = Box<dyn std::error::Error + Send + Sync>;

/// The settings of the system manager's units.
#[derive(Debug)]
pub(super) struct SystemSettings {
    managers: Arc<Managers>,
    /// The embedded groups, by the systemd version that they stand in for. The daemon may run no program, so it cannot
    /// ask `systemd-analyze` for the groups of that version.
    groups: Mutex<Option<(String, Arc<Groups>)>>,
    readers: Arc<Semaphore>,
}

impl SystemSettings {
    /// Creates a reader that asks the system manager of `managers`.
    pub(super) fn new(managers: Arc<Managers>) -> Self {
        Self { managers, groups: Mutex::default(), readers: Arc::new(Semaphore::new(MAX_READERS)) }
    }

    /// Reads the settings of a unit, and works with them in a thread that may take its time.
    pub(super) async fn read<T: Send + 'static>(
        self: Arc<Self>,
        unit: Unit,
        work: impl FnOnce(&LoadedSettings, &Groups) -> T + Send + 'static,
    ) -> Result<T, Unread> {
        let manager = self.managers.connect(Manager::System).await?;
        let (facts, version) = tokio::join!(manager.unit_properties(&unit.name), manager.version());
        let (facts, version) = (facts?, version?);
        let reader = Arc::clone(&self.readers).try_acquire_owned()?;
        let read = move || {
            let _reader = reader;
            let groups = self.groups(version);
            let known = unit_settings::from_properties(&unit, facts, Path::new(""), &groups);
            let result = work(&known, &groups);
            drop(known);
            heap::trim();
            result
        };
        Ok(tokio::task::spawn_blocking(read).await?)
    }

    fn groups(&self, version: String) -> Arc<Groups> {
        let mut cached = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, groups)) = cached.as_ref().filter(|(known, _)| *known == version) {
            return Arc::clone(groups);
        }
        let groups = Groups::embedded().with_running_version(&version);
        let unresolved = libseccomp::unresolved(Path::new("/"), &groups).unwrap_or_default();
        let groups = Arc::new(groups.with_unresolved(unresolved));
        *cached = Some((version, Arc::clone(&groups)));
        groups
    }
}
