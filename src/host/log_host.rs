//! The machine a log came from: known by the log itself, by what the person says, and by its unit files.

use super::Host;
use super::executable_guess::ExecutableGuesser;
use crate::audit::{IdField, Record};
use crate::unit_files;
use crate::unit_files::Match;
use crate::units::{Evidence, Manager, Rung, Unit, UnitName};
use std::path::{Path, PathBuf};

/// A machine that cannot be asked any more.
#[derive(Debug, Default)]
pub struct LogHost {
    root: Option<PathBuf>,
    told: Option<UnitName>,
    guesses: ExecutableGuesser,
}

impl LogHost {
    /// With the unit the person named, and the root below which its unit files are.
    #[must_use]
    pub fn new(root: Option<PathBuf>, told: Option<UnitName>) -> Self {
        Self { root, told, guesses: ExecutableGuesser::default() }
    }

    /// The unit the person named, of the manager that has files of it.
    fn told(&self, user: Option<u32>) -> Option<Unit> {
        let system = Unit { manager: Manager::System, name: self.told.clone()? };
        let (Some(root), Some(uid)) = (&self.root, user) else { return Some(system) };
        let has_files = |unit: &Unit| unit_files::find(root, unit, None).fragment.is_some();
        let own = Unit { manager: Manager::User(uid), ..system.clone() };
        Some(if !has_files(&system) && has_files(&own) { own } else { system })
    }
}

impl Host for LogHost {
    const ANSWERS: bool = false;

    /// All there is to know is in the record.
    fn context(&mut self, _: &Record<'_>) -> Option<u64> {
        Some(0)
    }

    fn glance(&mut self, record: &Record<'_>) -> Vec<Evidence> {
        let user = self.root.as_deref().and_then(|root| user_of(root, record.uid));
        if let Some(unit) = self.told(user) {
            return vec![Evidence::Named(Rung::Told, unit)];
        }
        let (Some(exe), Some(root)) = (record.exe, &self.root) else { return Vec::new() };
        let guess = self.guesses.unit(root, user, &exe.decode(), Match::Launched);
        guess.map(|unit| Evidence::Named(Rung::Executable, unit)).into_iter().collect()
    }
}

/// The uid of a record whose user may have a manager. A name stands for the uid that the root's
/// `/etc/passwd` gives it; for one that is not there, [`Manager::SOME_USER`].
fn user_of(root: &Path, id: IdField<'_>) -> Option<u32> {
    match id {
        IdField::Number(uid) => Some(uid),
        IdField::Unset => None,
        IdField::Name(name) => {
            let passwd = std::fs::read(root.join("etc/passwd")).unwrap_or_default();
            let line = passwd
                .split(|&byte| byte == b'\n')
                .find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(b":")));
            let uid = line.and_then(|line| line.split(|&byte| byte == b':').nth(2));
            Some(uid.and_then(|uid| std::str::from_utf8(uid).ok()?.parse().ok()).unwrap_or(Manager::SOME_USER))
        }
    }
}
