//! The machine that a log came from, as far as the log, the command line and its unit files describe it.

use super::Host;
use super::executable_guess::{ExecutableGuesser, Task};
use crate::audit::{IdField, Record, UntrustedText};
use crate::unit_files;
use crate::unit_files::{CommandMatch, uid_of_user};
use crate::units::{Evidence, Manager, Rung, Unit, UnitName};
use std::path::{Path, PathBuf};

/// The machine of a log. It is not running here, so it has no processes to read.
#[derive(Debug, Default)]
pub struct LogHost {
    root: Option<PathBuf>,
    assumed_unit: Option<UnitName>,
    guesses: ExecutableGuesser,
}

impl LogHost {
    /// Creates a host from the root of the machine's unit files and the unit that the user assumes.
    #[must_use]
    pub fn new(root: Option<PathBuf>, assumed_unit: Option<UnitName>) -> Self {
        Self { root, assumed_unit, guesses: ExecutableGuesser::default() }
    }

    /// The unit that the user assumes. It belongs to the manager that has its unit file, by default the system manager.
    fn assumed_unit(&self, user: Option<u32>) -> Option<Unit> {
        let system = Unit { manager: Manager::System, name: self.assumed_unit.clone()? };
        let (Some(root), Some(uid)) = (&self.root, user) else { return Some(system) };
        let has_files = |unit: &Unit| unit_files::find(root, unit, None).fragment.is_some();
        let own = Unit { manager: Manager::User(uid), ..system.clone() };
        Some(if !has_files(&system) && has_files(&own) { own } else { system })
    }
}

impl Host for LogHost {
    const CAN_ANSWER_LATER: bool = false;

    /// The record holds all the evidence.
    fn evidence_key(&mut self, _: &Record<'_>) -> Option<u64> {
        Some(0)
    }

    fn collect_evidence(&mut self, record: &Record<'_>) -> Vec<Evidence> {
        let user = self.root.as_deref().and_then(|root| uid_of_record(root, record.uid));
        let assumed = self.assumed_unit(user).map(|unit| Evidence::Named(Rung::Told, unit));
        let guess = |exe: UntrustedText<'_>| {
            let (exe, comm) = (exe.decode(), record.comm.decode());
            let task = Task { exe: &exe, comm: &comm };
            let unit = self.guesses.guess_unit(self.root.as_deref()?, user, task, CommandMatch::Launched)?;
            Some(Evidence::Named(Rung::Executable, unit))
        };
        assumed.into_iter().chain(record.exe.and_then(guess)).collect()
    }
}

/// Returns a record's uid. A log can give the user's name instead (`ausearch -i`): this looks up the name in the root's
/// `/etc/passwd`, and returns [`Manager::SOME_USER`] for an unknown name.
fn uid_of_record(root: &Path, id: IdField<'_>) -> Option<u32> {
    match id {
        IdField::Number(uid) => Some(uid),
        IdField::Unset => None,
        IdField::Name(name) => Some(uid_of_user(root, name).unwrap_or(Manager::SOME_USER)),
    }
}
