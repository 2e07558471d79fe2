//! The drop-in of a manager's configuration that turns the logging of refusals on and off.
//!
//! For the system manager, the drop-in stays below `/run` while logging is on.
//!
//! A user manager reads only one directory that its user can write: `~/.config/systemd/user.conf.d`. A file there would
//! outlive the manager and, in a shared home, reach other machines. So this file exists only during the reload; the
//! variable stays set after its removal. The marker is in the runtime directory, which goes away with the manager.

use super::marker::RefusalLogMarker;
use crate::incidents::local_time::LocalTime;
use crate::operations::change_error::{ChangeError, or_signal};
use crate::operations::drop_in;
use crate::operations::drop_in::{DropInError, Undo};
use crate::operations::interruption::Interruption;
use crate::operations::local_machine::{LocalMachine, resolve_below};
use crate::operations::reread::reload;
use crate::operations::service_manager::{ServiceManager, ServiceManagers};
use crate::operations::unfinished_files::remove_unfinished;
use crate::units::Manager;
use std::path::{Path, PathBuf};

/// The file name. It sorts after nearly every other name.
pub(crate) const FILE: &str = "zz-harden-why-log-refusals.conf";

/// The files that turn one manager's logging on and off.
#[derive(Debug, Clone)]
pub(crate) struct LogSwitch {
    pub(crate) manager: Manager,
    root: PathBuf,
    /// The file with the marker. The system manager reads it.
    marker_path: PathBuf,
    /// The file that a user manager reads.
    lent_path: Option<PathBuf>,
}

impl LogSwitch {
    /// The switch of a manager. `config` is the directory of a user's own configuration (`~/.config/systemd`).
    pub(crate) fn new<M: ServiceManagers>(
        machine: LocalMachine<'_, M>,
        manager: Manager,
        config: Option<&Path>,
    ) -> Self {
        let dir = match manager {
            Manager::System => PathBuf::from("/run/systemd/system.conf.d"),
            Manager::User(uid) => PathBuf::from(format!("/run/user/{uid}/harden-why")),
        };
        let lent_path = config.filter(|_| manager != Manager::System).map(|dir| dir.join("user.conf.d").join(FILE));
        Self { manager, root: machine.root().to_owned(), marker_path: dir.join(FILE), lent_path }
    }

    /// Returns the file that the manager reads, as a path below the root.
    pub(crate) fn path_for_manager(&self) -> &Path {
        self.lent_path.as_deref().unwrap_or(&self.marker_path)
    }

    /// Reads the marker.
    ///
    /// # Errors
    /// Another program's file has this name, or the file cannot be read.
    pub(crate) fn read(&self) -> Result<Option<RefusalLogMarker>, DropInError> {
        Ok(drop_in::read(&self.resolve(&self.marker_path))?.and_then(|bytes| RefusalLogMarker::parse(&bytes)))
    }

    /// Returns whether a killed process left the file for a user manager, or a file without a valid marker.
    pub(crate) fn has_stray_file(&self) -> bool {
        let exists = |path: &Path| matches!(drop_in::read(&self.resolve(path)), Ok(Some(_)));
        self.lent_path.as_deref().is_some_and(exists) || (exists(&self.marker_path) && matches!(self.read(), Ok(None)))
    }

    /// Writes the marker. The system manager reads it at its next reload.
    ///
    /// # Errors
    /// Another program's file has this name, or the file cannot be written. Nothing is changed in either case.
    pub(crate) fn write(&self, marker: &RefusalLogMarker, clock: &LocalTime) -> Result<(), DropInError> {
        let bytes = marker.compose(clock, &self.undo_command());
        // The marker itself says what to undo.
        drop_in::write(&self.resolve(&self.marker_path), &bytes).map(Undo::keep)
    }

    /// Writes the files and reloads the manager, which reads them.
    ///
    /// # Errors
    /// A file cannot be written, the manager does not reread its files, or the file for a user manager cannot be removed
    /// afterwards.
    pub(crate) async fn set(
        &self,
        marker: &RefusalLogMarker,
        manager: &impl ServiceManager,
        clock: &LocalTime,
        interruption: Option<&mut Interruption>,
    ) -> Result<(), ChangeError> {
        let lent = self.write_all(marker, clock).map_err(ChangeError::before_read)?;
        let reloaded = match interruption {
            Some(interruption) => or_signal(reload(manager), interruption).await,
            None => reload(manager).await,
        };
        if let Some(lent) = lent {
            lent.undo().map_err(anyhow::Error::new)?;
        }
        reloaded
    }

    /// Writes the marker, and the file for a user manager.
    fn write_all(&self, marker: &RefusalLogMarker, clock: &LocalTime) -> Result<Option<Undo>, DropInError> {
        self.write(marker, clock)?;
        let Some(path) = self.lent_path.as_deref().map(|path| self.resolve(path)) else { return Ok(None) };
        // The undo must not restore a file that a killed process left.
        drop_in::remove(&path)?.into_iter().for_each(Undo::keep);
        drop_in::write(&path, &marker.compose(clock, &self.undo_command())).map(Some)
    }

    /// Removes the files, and the unfinished files of killed processes.
    ///
    /// # Errors
    /// A file belongs to another program, or cannot be removed.
    pub(crate) fn clear(&self) -> Result<(), DropInError> {
        for path in self.lent_path.iter().chain([&self.marker_path]) {
            let path = self.resolve(path);
            path.parent().into_iter().for_each(remove_unfinished);
            drop_in::remove(&path)?.into_iter().for_each(Undo::keep);
        }
        Ok(())
    }

    /// Returns the command that turns logging off.
    pub(crate) fn undo_command(&self) -> String {
        let user = if self.manager == Manager::System { "" } else { " --user" };
        format!("harden-why log-refusals --off{user}")
    }

    fn resolve(&self, path: &Path) -> PathBuf {
        resolve_below(&self.root, path)
    }
}

/// Returns the name of a manager for use in a sentence.
pub(crate) fn manager_text(manager: Manager) -> String {
    match manager {
        Manager::System => "the system manager".to_owned(),
        Manager::User(uid) => format!("the user manager of uid {uid}"),
    }
}
