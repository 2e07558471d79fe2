//! The machine that a log came from, as far as the log, the command line and its unit files describe it.

use super::Host;
use super::executable_guess::{ExecutableGuesser, Task};
use crate::audit::{IdField, Record, UntrustedText};
use crate::unit_files;
use crate::unit_files::{CommandMatch, uid_of_user};
use crate::units::{Evidence, Manager, Rung, Unit, UnitName};
use std::path::{Path, PathBuf};

/// How many deaths of one log are kept apart. Further ones of the same program and call count as one incident.
const MAX_SINGLE_DEATHS: usize = 2048;

/// The machine of a log. It is not running here, so it has no processes to read.
#[derive(Debug, Default)]
pub struct LogHost {
    root: Option<PathBuf>,
    assumed_unit: Option<UnitName>,
    guesses: ExecutableGuesser,
    /// How many more deaths are kept apart, so that each can get a unit of its own.
    single_deaths: usize,
}

impl LogHost {
    /// Creates a host from the root of the machine's unit files and the unit that the user assumes.
    #[must_use]
    pub fn new(root: Option<PathBuf>, assumed_unit: Option<UnitName>) -> Self {
        Self { root, assumed_unit, guesses: ExecutableGuesser::default(), single_deaths: MAX_SINGLE_DEATHS }
    }

    /// Returns the uid that a sample states, as a number or by name; [`Manager::SOME_USER`] for an unknown name.
    pub(crate) fn find_user(&self, uid: &str) -> Option<u32> {
        let by_name = || self.root.as_deref().and_then(|root| uid_of_user(root, uid.as_bytes()));
        let known = uid.parse().ok().or_else(by_name);
        known.or_else(|| (!uid.is_empty()).then_some(Manager::SOME_USER))
    }

    /// Guesses the unit of a task from the unit files below the root.
    pub(crate) fn guess(&mut self, user: Option<u32>, exe: &[u8], comm: &[u8]) -> Option<Evidence> {
        let task = Task { exe, comm };
        let unit = self.guesses.guess_unit(self.root.as_deref()?, user, task, CommandMatch::Launched)?;
        Some(Evidence::Named(Rung::Executable, unit))
    }

    /// The unit that the user assumes. It belongs to the manager that has its unit file, by default the system manager.
    pub(crate) fn assumed_unit(&self, user: Option<u32>) -> Option<Unit> {
        let system = Unit { manager: Manager::System, name: self.assumed_unit.clone()? };
        let (Some(root), Some(uid)) = (&self.root, user) else { return Some(system) };
        let has_files = |unit: &Unit| unit_files::find(root, unit, None).fragment.is_some();
        let own = Unit { manager: Manager::User(uid), ..system.clone() };
        Some(if !has_files(&system) && has_files(&own) { own } else { system })
    }
}

impl Host for LogHost {
    /// Later lines of the log may name the unit of a process that died.
    const CAN_ANSWER_LATER: bool = true;

    /// The record holds all the evidence, but later lines may report the death of its process.
    fn evidence_key(&mut self, record: &Record<'_>) -> Option<u64> {
        let dies = self.single_deaths > 0 && record.action.is_kill();
        Some(if dies { 1 + u64::from(record.pid) } else { 0 })
    }

    fn collect_evidence(&mut self, record: &Record<'_>) -> Vec<Evidence> {
        if record.action.is_kill() {
            self.single_deaths = self.single_deaths.saturating_sub(1);
        }
        let user = self.root.as_deref().and_then(|root| uid_of_record(root, record.uid));
        let assumed = self.assumed_unit(user).map(|unit| Evidence::Named(Rung::Told, unit));
        let guess = |exe: UntrustedText<'_>| self.guess(user, &exe.decode(), &record.comm.decode());
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
