//! The machine a log came from: known by the log itself, by what the person says, and by its unit files.

use super::Host;
use super::unit_files::{self, Candidate, Match};
use crate::audit::{Id, Record};
use crate::incidents::Sighting;
use crate::units::{Evidence, Manager, Rung, Unit, UnitName};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// How many executables are looked up; a log can hold any number.
const MOST_LOOKUPS: usize = 1024;

/// A machine that cannot be asked any more.
#[derive(Debug, Default)]
pub struct LogHost {
    root: Option<PathBuf>,
    told: Option<UnitName>,
    /// The unit of an executable run by a user, once it was looked for.
    guesses: HashMap<(Option<u32>, Vec<u8>), Option<Unit>>,
}

impl LogHost {
    /// With the unit the person named, and the root below which its unit files are.
    #[must_use]
    pub fn new(root: Option<PathBuf>, told: Option<UnitName>) -> Self {
        Self { root, told, guesses: HashMap::new() }
    }

    /// The unit the person named, of the manager that has files of it.
    fn told(&self, user: Option<u32>) -> Option<Unit> {
        let system = Unit { manager: Manager::System, name: self.told.clone()? };
        let (Some(root), Some(uid)) = (&self.root, user) else { return Some(system) };
        let has_files = |unit: &Unit| unit_files::find(root, unit, None).fragment.is_some();
        let own = Unit { manager: Manager::User(uid), ..system.clone() };
        Some(if !has_files(&system) && has_files(&own) { own } else { system })
    }

    /// The one unit whose commands run an executable.
    fn guess(&mut self, user: Option<u32>, exe: &[u8]) -> Option<Unit> {
        let root = self.root.as_deref()?;
        let key = (user, exe.to_vec());
        if let Some(known) = self.guesses.get(&key) {
            return known.clone();
        }
        let guess = only_unit(root, user, Path::new(OsStr::from_bytes(exe)));
        if self.guesses.len() < MOST_LOOKUPS {
            self.guesses.insert(key, guess.clone());
        }
        guess
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
        let Some(exe) = record.exe else { return Vec::new() };
        let guess = self.guess(user, &exe.decode());
        guess.map(|unit| Evidence::Named(Rung::Executable, unit)).into_iter().collect()
    }

    /// A log answers no questions.
    async fn ask(&self, _: &Sighting) -> Vec<Evidence> {
        Vec::new()
    }
}

/// The only unit that runs an executable as a program; failing that, the only one that names it in its
/// arguments. Several are none: a wrong unit is worse.
fn only_unit(root: &Path, user: Option<u32>, exe: &Path) -> Option<Unit> {
    let of = |manager| {
        let found = unit_files::find_by_executable(root, manager, None, exe);
        found.into_iter().map(move |candidate| (manager, candidate))
    };
    let all: Vec<(Manager, Candidate)> =
        of(Manager::System).chain(user.map(Manager::User).into_iter().flat_map(of)).collect();
    let only = |kind: Match| {
        let mut fitting = all.iter().filter(|(_, candidate)| candidate.kind == kind);
        match (fitting.next(), fitting.next()) {
            (Some(one), None) => Some(one),
            _ => None,
        }
    };
    let named = all.iter().any(|(_, candidate)| candidate.kind == Match::Program);
    let (manager, candidate) = if named { only(Match::Program) } else { only(Match::Argument) }?;
    // Which instance of a template it was, nothing tells.
    let is_template = candidate.unit.as_str().contains("@.");
    (!is_template).then(|| Unit { manager: *manager, name: candidate.unit.clone() })
}

/// The uid of a record whose user may have a manager. A name stands for the uid that the root's
/// `/etc/passwd` gives it; for one that is not there, [`Manager::SOME_USER`].
fn user_of(root: &Path, id: Id<'_>) -> Option<u32> {
    match id {
        Id::Number(uid) => Some(uid),
        Id::Unset => None,
        Id::Name(name) => {
            let passwd = std::fs::read(root.join("etc/passwd")).unwrap_or_default();
            let line = passwd
                .split(|&byte| byte == b'\n')
                .find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(b":")));
            let uid = line.and_then(|line| line.split(|&byte| byte == b':').nth(2));
            Some(uid.and_then(|uid| std::str::from_utf8(uid).ok()?.parse().ok()).unwrap_or(Manager::SOME_USER))
        }
    }
}
