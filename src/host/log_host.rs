//! The machine that a log came from, as far as the log, the command line and its unit files describe it.

use super::Host;
use super::executable_guess::{ExecutableGuesser, Task};
use crate::audit::{IdField, Record, UntrustedText};
use crate::unit_files;
use crate::unit_files::{CommandMatch, Passwd};
use crate::units::{Evidence, Manager, Rung, Unit, UnitName};
use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::path::PathBuf;

/// How many deaths of one log are kept apart. Further ones of the same program and call count as one incident.
const MAX_SINGLE_DEATHS: usize = 2048;

/// For how many users of one log the assumed unit's manager is remembered.
const MAX_USERS: usize = 2048;

/// The machine of a log. It is not running here, so it has no processes to read.
#[derive(Debug, Default)]
pub struct LogHost {
    root: Option<PathBuf>,
    assumed_unit: Option<UnitName>,
    guesses: ExecutableGuesser,
    /// The users of the root, read once for all records.
    users: OnceCell<Passwd>,
    /// The assumed unit by user: finding it reads files.
    assumed: RefCell<HashMap<Option<u32>, Unit>>,
    /// How many more deaths are kept apart, so that each can get a unit of its own.
    single_deaths: usize,
}

impl LogHost {
    /// Creates a host from the root of the machine's unit files and the unit that the user assumes.
    #[must_use]
    pub fn new(root: Option<PathBuf>, assumed_unit: Option<UnitName>) -> Self {
        Self { root, assumed_unit, single_deaths: MAX_SINGLE_DEATHS, ..Self::default() }
    }

    /// Returns the uid that a sample states, as a number or by name; [`Manager::SOME_USER`] for an unknown name.
    pub(crate) fn find_user(&self, uid: &str) -> Option<u32> {
        let by_name = || self.users()?.uid_of_user(uid.as_bytes());
        let known = uid.parse().ok().or_else(by_name);
        known.or_else(|| (!uid.is_empty()).then_some(Manager::SOME_USER))
    }

    /// Guesses the unit of a task from the unit files below the root.
    pub(crate) fn guess(&mut self, user: Option<u32>, exe: &[u8], comm: &[u8]) -> Option<Evidence> {
        let task = Task { exe, comm };
        let unit = self.guesses.guess_unit(self.root.as_deref()?, user, task, CommandMatch::Launched)?;
        Some(Evidence::Named(Rung::Executable, unit))
    }

    /// The users of the root; `None` without a root.
    fn users(&self) -> Option<&Passwd> {
        let root = self.root.as_deref()?;
        Some(self.users.get_or_init(|| Passwd::load(root)))
    }

    /// The unit that the user assumes. It belongs to the manager that has its unit file, by default the system manager.
    pub(crate) fn assumed_unit(&self, user: Option<u32>) -> Option<Unit> {
        let name = self.assumed_unit.as_ref()?;
        if let Some(unit) = self.assumed.borrow().get(&user) {
            return Some(unit.clone());
        }
        let unit = self.find_assumed_unit(name, user);
        let mut assumed = self.assumed.borrow_mut();
        if assumed.len() < MAX_USERS {
            assumed.insert(user, unit.clone());
        }
        Some(unit)
    }

    fn find_assumed_unit(&self, name: &UnitName, user: Option<u32>) -> Unit {
        let system = Unit { manager: Manager::System, name: name.clone() };
        let (Some(root), Some(uid)) = (&self.root, user) else { return system };
        let has_files = |unit: &Unit| unit_files::find(root, unit, None).fragment.is_some();
        let own = Unit { manager: Manager::User(uid), ..system.clone() };
        if !has_files(&system) && has_files(&own) { own } else { system }
    }
}

impl Host for LogHost {
    /// The record holds all the evidence, but later lines may report the death of its process.
    fn evidence_key(&mut self, record: &Record<'_>) -> Option<u64> {
        let dies = self.single_deaths > 0 && record.action.is_kill();
        Some(if dies { 1 + u64::from(record.pid) } else { 0 })
    }

    fn collect_evidence(&mut self, record: &Record<'_>) -> Vec<Evidence> {
        if record.action.is_kill() {
            self.single_deaths = self.single_deaths.saturating_sub(1);
        }
        let user = self.users().and_then(|users| uid_of_record(users, record.uid));
        let assumed = self.assumed_unit(user).map(|unit| Evidence::Named(Rung::Assumed, unit));
        let guess = |exe: UntrustedText<'_>| self.guess(user, &exe.decode(), &record.comm.decode());
        assumed.into_iter().chain(record.exe.and_then(guess)).collect()
    }
}

/// Returns a record's uid. A log can give the user's name instead (`ausearch -i`): this looks up the name in the root's
/// `/etc/passwd`, and returns [`Manager::SOME_USER`] for an unknown name.
fn uid_of_record(users: &Passwd, id: IdField<'_>) -> Option<u32> {
    match id {
        IdField::Number(uid) => Some(uid),
        IdField::Unset => None,
        IdField::Name(name) => Some(users.uid_of_user(name).unwrap_or(Manager::SOME_USER)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn users_and_assumed_unit_of_root_are_read_once_for_all_records() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("etc/systemd/user")).unwrap();
        fs::write(root.path().join("etc/passwd"), "a:x:1000:1000::/home/a:/bin/sh\n").unwrap();
        fs::write(root.path().join("etc/systemd/user/x.service"), "[Service]\nExecStart=/bin/x\n").unwrap();
        let host = LogHost::new(Some(root.path().to_owned()), Some("x.service".parse().unwrap()));
        let ask = || (host.find_user("a"), host.assumed_unit(Some(1000)).map(|unit| unit.manager));
        let first = ask();
        assert_eq!(first, (Some(1000), Some(Manager::User(1000))));
        fs::remove_dir_all(root.path().join("etc")).unwrap();
        for _ in 0..300 {
            assert_eq!(ask(), first);
        }
    }

    #[test]
    fn passwd_that_is_pipe_or_leads_out_of_root_has_no_users() {
        let host_files = tempfile::tempdir().unwrap();
        let outside = host_files.path().join("passwd");
        fs::write(&outside, "a:x:1000:1000::/home/a:/bin/sh\n").unwrap();
        let passwd = host_files.path().join("root/etc/passwd");
        fs::create_dir_all(passwd.parent().unwrap()).unwrap();
        let user = || LogHost::new(Some(host_files.path().join("root")), None).find_user("a");
        for target in [outside.as_path(), std::path::Path::new("../../passwd"), std::path::Path::new("/dev/zero")] {
            std::os::unix::fs::symlink(target, &passwd).unwrap();
            assert_eq!(user(), Some(Manager::SOME_USER), "{target:?}");
            fs::remove_file(&passwd).unwrap();
        }
        nix::unistd::mkfifo(&passwd, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(user(), Some(Manager::SOME_USER));
    }
}
