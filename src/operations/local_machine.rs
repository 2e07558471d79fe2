//! The machine that an operation changes: its files, its service managers, and the calling user.

use super::service_manager::{ServiceManager as _, ServiceManagers};
use crate::host::unit_settings;
use crate::host::unit_settings::LoadedSettings;
use crate::syscalls::Groups;
use crate::systemd::manager::{SystemdError, UnitProperties};
use crate::units::{Manager, Unit};
use std::path::{Path, PathBuf};

/// A file system root, the managers that read it, and the caller's uid.
#[derive(Debug)]
pub(crate) struct LocalMachine<'a, M> {
    managers: &'a M,
    root: &'a Path,
    uid: u32,
}

impl<M> Clone for LocalMachine<'_, M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M> Copy for LocalMachine<'_, M> {}

/// Returns the path by which this process reaches a path of the machine with this root directory.
pub(crate) fn resolve_below(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

impl<'a, M: ServiceManagers> LocalMachine<'a, M> {
    /// This machine, as the calling user.
    pub(crate) fn new(managers: &'a M) -> Self {
        Self { managers, root: Path::new("/"), uid: nix::unistd::geteuid().as_raw() }
    }

    /// A machine with its files below `root`, as user `uid`.
    #[cfg(test)]
    pub(crate) fn with_root(managers: &'a M, root: &'a Path, uid: u32) -> Self {
        Self { managers, root, uid }
    }

    /// Returns the uid of the caller.
    pub(crate) fn uid(&self) -> u32 {
        self.uid
    }

    /// Returns the root directory of the machine's paths.
    pub(crate) fn root(&self) -> &'a Path {
        self.root
    }

    /// Returns the path by which this process reaches a path of the machine.
    pub(crate) fn resolve(&self, path: &Path) -> PathBuf {
        resolve_below(self.root, path)
    }

    /// Connects to a manager.
    ///
    /// # Errors
    /// The manager does not run, denies access or does not answer.
    pub(crate) async fn connect(&self, manager: Manager) -> Result<M::Connection, SystemdError> {
        self.managers.connect(manager).await
    }

    /// Returns the unit's settings in force, including a rehearsal's drop-in.
    pub(crate) async fn settings_in_force(&self, unit: &Unit, groups: &Groups) -> LoadedSettings {
        let properties = match self.connect(unit.manager).await {
            Ok(manager) => manager.unit_properties(&unit.name).await,
            Err(error) => Err(error),
        };
        self.settings_from_answer(unit, properties, groups)
    }

    /// Returns the unit's settings in force for its manager's answer.
    pub(crate) fn settings_from_answer(
        &self,
        unit: &Unit,
        answer: Result<UnitProperties, SystemdError>,
        groups: &Groups,
    ) -> LoadedSettings {
        let mut known = unit_settings::from_answer(unit, answer, groups);
        if let Some(situation) = &mut known.situation {
            situation.drop_in = self.resolve(&situation.drop_in);
        }
        known
    }

    /// Returns the unit's own settings for its manager's answer.
    pub(crate) fn own_settings_from_answer(
        &self,
        unit: &Unit,
        answer: Result<UnitProperties, SystemdError>,
        groups: &Groups,
    ) -> LoadedSettings {
        unit_settings::without_rehearsal(unit, self.settings_from_answer(unit, answer, groups), groups)
    }

    /// Returns the unit's own settings, without a rehearsal's drop-in.
    pub(crate) async fn own_settings(&self, unit: &Unit, groups: &Groups) -> LoadedSettings {
        unit_settings::without_rehearsal(unit, self.settings_in_force(unit, groups).await, groups)
    }
}
