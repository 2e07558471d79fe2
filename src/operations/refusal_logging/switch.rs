//! Where the switch of a manager is, and how it is thrown.
//!
//! The system's has a drop-in below `/run` for as long as it is on. A user's manager reads nothing that its user may
//! write but `~/.config/systemd/user.conf.d`, where a file would outlive the manager, and be another machine's as well
//! where the home is shared. So its drop-in is there for the moment of the reload only: a variable stays set once the
//! file is gone. What tells of it is in the runtime directory, which goes with the manager.

use super::marker::Record;
use crate::incidents::local_time::LocalTime;
use crate::operations::drop_in;
use crate::operations::drop_in::DropInError;
use crate::operations::interruption::Interruption;
use crate::systemd::manager::SystemdManager;
use crate::units::Manager;
use anyhow::Context as _;
use std::path::{Path, PathBuf};

/// Its file name: behind nearly every other.
pub(crate) const FILE: &str = "zz-harden-why-log-refusals.conf";

/// The place of a manager's switch.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) manager: Manager,
    /// What tells of it; the system manager's reads it.
    pub(crate) record: PathBuf,
    /// Where a user's manager reads it.
    pub(crate) lent: Option<PathBuf>,
}

impl Place {
    /// Of a manager, of a user's with the directory of its own configuration (`~/.config/systemd`).
    pub(crate) fn of(manager: Manager, config: Option<&Path>) -> Self {
        let record = match manager {
            Manager::System => PathBuf::from("/run/systemd/system.conf.d"),
            Manager::User(uid) => PathBuf::from(format!("/run/user/{uid}/harden-why")),
        };
        let lent = config.filter(|_| manager != Manager::System).map(|dir| dir.join("user.conf.d").join(FILE));
        Self { manager, record: record.join(FILE), lent }
    }

    /// The file that the manager reads.
    pub(crate) fn read_by_manager(&self) -> &Path {
        self.lent.as_deref().unwrap_or(&self.record)
    }

    /// What stands there.
    ///
    /// # Errors
    /// The file is somebody else's, or cannot be read.
    pub(crate) fn look(&self) -> Result<Option<Record>, DropInError> {
        Ok(drop_in::read(&self.record)?.and_then(|bytes| Record::parse(&bytes)))
    }

    /// Whether a file of ours is where the manager reads it, and nothing tells of it.
    pub(crate) fn is_astray(&self) -> bool {
        let there = |path: &Path| matches!(drop_in::read(path), Ok(Some(_)));
        self.lent.as_deref().is_some_and(there) || (there(&self.record) && matches!(self.look(), Ok(None)))
    }

    /// Notes down an exposure, which the manager reads next time.
    ///
    /// # Errors
    /// The place is somebody else's, or cannot be written; nothing was changed then.
    pub(crate) fn note(&self, record: &Record, clock: &LocalTime) -> Result<(), DropInError> {
        // The record is what is undone by, not what is undone.
        let _undo = drop_in::write(&self.record, &record.compose(clock, &self.undo()))?;
        Ok(())
    }

    /// Has the manager read what a record says.
    ///
    /// # Errors
    /// A file cannot be written, which is a [`DropInError`]; or the manager does not read it. A user's file is gone again
    /// in any case.
    pub(crate) async fn throw(
        &self,
        record: &Record,
        manager: &SystemdManager,
        clock: &LocalTime,
        interruption: Option<&mut Interruption>,
    ) -> anyhow::Result<()> {
        self.note(record, clock)?;
        let lent = match &self.lent {
            Some(path) => {
                // What a killed one left there is not to be put back.
                let _gone = drop_in::remove(path)?;
                Some(drop_in::write(path, &record.compose(clock, &self.undo()))?)
            }
            None => None,
        };
        let reload = async { Ok(manager.reload().await?) };
        let read = match interruption {
            Some(interruption) => interruption.or(reload).await,
            None => reload.await,
        };
        if let Some(lent) = lent {
            // By then the manager has read it: this is another error than one of writing.
            lent.undo().map_err(|error| anyhow::anyhow!("{error}"))?;
        }
        read.context("systemd does not read its files again")
    }

    /// Removes what tells of it, and what a killed one left unfinished.
    ///
    /// # Errors
    /// A file is somebody else's, or cannot be removed.
    pub(crate) fn clear(&self) -> Result<(), DropInError> {
        for path in self.lent.iter().chain([&self.record]) {
            path.parent().into_iter().for_each(drop_in::sweep);
            let _gone = drop_in::remove(path)?;
        }
        Ok(())
    }

    /// The command that undoes it.
    pub(crate) fn undo(&self) -> String {
        let user = if self.manager == Manager::System { "" } else { " --user" };
        format!("harden-why log-refusals --off{user}")
    }
}

/// The directory of a user's own configuration, by the variables of that user's manager.
pub(crate) fn config_dir(environment: &[String], home: &Path) -> PathBuf {
    let variable = |name: &str| {
        let value = environment.iter().find_map(|variable| variable.strip_prefix(name)?.strip_prefix('='));
        value.map(PathBuf::from).filter(|path| path.is_absolute())
    };
    let config = variable("XDG_CONFIG_HOME");
    config.unwrap_or_else(|| variable("HOME").unwrap_or_else(|| home.to_owned()).join(".config")).join("systemd")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_users_configuration_is_where_the_manager_looks() {
        let of = |environment: &[&str]| {
            let environment: Vec<String> = environment.iter().map(ToString::to_string).collect();
            config_dir(&environment, Path::new("/home/a"))
        };
        assert_eq!(of(&[]), Path::new("/home/a/.config/systemd"));
        assert_eq!(of(&["PATH=/bin", "HOME=/b"]), Path::new("/b/.config/systemd"));
        assert_eq!(of(&["HOME=/b", "XDG_CONFIG_HOME=/c"]), Path::new("/c/systemd"));
        assert_eq!(of(&["XDG_CONFIG_HOME=c"]), Path::new("/home/a/.config/systemd"));
    }
}
