//! Cleans up after a harden-why that was killed.

use super::drop_in;
use super::local_machine::LocalMachine;
use super::refusal_logging::recover::StaleLogging;
use super::rehearsal::recover::StaleRehearsal;
use super::service_manager::ServiceManagers;
use super::{refusal_logging, rehearsal};
use crate::host::unit_settings::home_dir;
use crate::unit_files::persistent_dir;
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
        let dir = machine.resolve(&persistent_dir(manager, &home_dir(manager)));
        drop_in::remove_all_unfinished(&dir);
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
