//! Cleans up after a harden-why that was killed.

use super::local_machine::LocalMachine;
use super::refusal_logging::recover::StaleLogging;
use super::rehearsal::recover::StaleRehearsal;
use super::service_manager::ServiceManagers;
use super::unfinished_files::remove_all_unfinished;
use super::{refusal_logging, rehearsal};
use crate::host::unit_settings::home_dir;
use crate::unit_files::{persistent_dir, runtime_dir};
use crate::units::Manager;

/// A change that a killed process left incomplete.
#[derive(Debug)]
pub(crate) enum StaleChange {
    /// A unit without its own settings.
    Rehearsal(StaleRehearsal),
    /// Logging of refusals that should be off.
    Logging(StaleLogging),
}

/// Finds stale rehearsals and stale logging, and deletes the unfinished files of every operation.
///
/// Every verb does this, so it reads only a few directories and calls no manager.
pub(crate) fn find_stale<M: ServiceManagers>(machine: LocalMachine<'_, M>) -> Vec<StaleChange> {
    for manager in [Manager::System, Manager::User(machine.uid())] {
        for dir in [persistent_dir(manager, &home_dir(manager)), runtime_dir(manager)] {
            remove_all_unfinished(&machine.resolve(&dir));
        }
    }
    let rehearsals = rehearsal::recover::find_stale(machine).into_iter().map(StaleChange::Rehearsal);
    let logging = refusal_logging::recover::find_stale(machine).into_iter().map(StaleChange::Logging);
    rehearsals.chain(logging).collect()
}

impl StaleChange {
    /// Undoes the change. Returns a sentence about what was done, or what is left to do.
    ///
    /// harden-whyd's start waits for this, so the caller limits the time.
    pub(crate) async fn recover<M: ServiceManagers>(self, machine: LocalMachine<'_, M>) -> String {
        match self {
            Self::Rehearsal(stale) => stale.recover(machine).await,
            Self::Logging(stale) => stale.recover(machine).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operations::fake_manager::FakeMachine;

    #[test]
    fn unfinished_files_are_deleted_by_the_cleanup_alone() {
        let fake = FakeMachine::running();
        // No process can have this pid: it is above the kernel's limit (PID_MAX_LIMIT).
        let unfinished = ["etc", "run"].map(|dir| format!("{dir}/systemd/system/x.service.d/.harden-why.4194399"));
        for path in &unfinished {
            fake.write(path, "");
        }
        let before = fake.snapshot();
        assert!(rehearsal::recover::find_known(fake.machine()).is_empty());
        assert_eq!(fake.snapshot(), before);
        assert!(find_stale(fake.machine()).is_empty());
        assert!(!fake.snapshot().has_file_below("x.service.d"));
    }
}
