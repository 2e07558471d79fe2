//! The last guess at a process's unit: the only one whose commands run its executable.

use crate::policy::launched::is_shell;
use crate::unit_files::{Candidate, Executables, Match};
use crate::units::{Manager, Unit};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

/// How many users' unit files are kept; a log, or a process, can be anybody's.
const MOST_USERS: usize = 64;

/// How long what unit files say is taken to be so.
const GOOD_FOR: Duration = Duration::from_mins(1);

/// What the unit files say, which takes reading all of them.
#[derive(Debug, Default)]
pub(crate) struct ExecutableGuesser {
    known: HashMap<Manager, Executables>,
    since: Option<Instant>,
}

impl ExecutableGuesser {
    /// The one unit, of the system's or a user's manager, whose commands run an executable, by the files
    /// below a root. `user` is whose process it was; `enough` is what must at least speak for the unit.
    ///
    /// Never by a shell: anything starts one.
    pub(crate) fn unit(&mut self, root: &Path, user: Option<u32>, exe: &[u8], enough: Match) -> Option<Unit> {
        if str::from_utf8(exe).is_ok_and(is_shell) {
            return None;
        }
        let mut all: Vec<(Manager, Candidate)> = Vec::new();
        for manager in std::iter::once(Manager::System).chain(user.map(Manager::User)) {
            all.extend(self.candidates(root, manager, exe).into_iter().map(|candidate| (manager, candidate)));
        }
        let (manager, candidate) = only_one(&all, enough)?;
        let uid = user.filter(|uid| *uid != Manager::SOME_USER);
        let may_be = |uid| self.known.get(manager).is_none_or(|known| known.may_be(candidate, uid));
        let may = *manager != Manager::System || uid.is_none_or(may_be);
        may.then(|| Unit { manager: *manager, name: candidate.unit.clone() })
    }

    /// Whether a unit's commands run an executable as a program; of an instance its template's.
    pub(crate) fn runs(&mut self, root: &Path, unit: &Unit, exe: &[u8]) -> bool {
        let template = unit.name.template();
        let is_its = |name: &str| name == unit.name.as_str() || template.as_deref() == Some(name);
        let candidates = self.candidates(root, unit.manager, exe);
        candidates.iter().any(|candidate| candidate.kind == Match::Program && is_its(candidate.unit.as_str()))
    }

    fn candidates(&mut self, root: &Path, manager: Manager, exe: &[u8]) -> Vec<Candidate> {
        if self.known.len() > MOST_USERS || self.since.is_none_or(|since| since.elapsed() > GOOD_FOR) {
            self.known.clear();
            self.since = Some(Instant::now());
        }
        let executables = self.known.entry(manager).or_insert_with(|| Executables::read(root, manager, None));
        executables.of(Path::new(OsStr::from_bytes(exe)))
    }
}

/// The only unit whose commands name an executable, if what speaks for it is enough. Several are none: a wrong
/// unit is worse.
fn only_one(all: &[(Manager, Candidate)], enough: Match) -> Option<&(Manager, Candidate)> {
    let [only] = all else { return None };
    // Which instance of a template it was, nothing tells.
    let is_template = only.1.unit.as_str().contains("@.");
    (only.1.kind <= enough && !is_template).then_some(only)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn machine(units: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (name, start) in units {
            let directory = root.path().join("etc/systemd/system");
            fs::create_dir_all(&directory).unwrap();
            fs::write(directory.join(name), format!("[Service]\nExecStart={start}\n")).unwrap();
        }
        root
    }

    fn guess(root: &tempfile::TempDir, exe: &str, enough: Match) -> Option<String> {
        Some(ExecutableGuesser::default().unit(root.path(), None, exe.as_bytes(), enough)?.name.to_string())
    }

    #[test]
    fn only_one_unit_is_a_guess() {
        let root = machine(&[("a.service", "/usr/bin/a -x"), ("b.service", "/bin/b"), ("c.service", "/bin/b")]);
        assert_eq!(guess(&root, "/usr/bin/a", Match::Program).as_deref(), Some("a.service"));
        assert_eq!(guess(&root, "/bin/b", Match::Program), None);
        assert_eq!(guess(&root, "/bin/d", Match::Program), None);
    }

    #[test]
    fn a_unit_runs_what_its_commands_name() {
        let root =
            machine(&[("a.service", "/usr/bin/a -x"), ("t@.service", "/bin/t"), ("b.service", "/bin/sh /bin/b")]);
        let runs = |unit: &str, exe: &str| {
            let unit = Unit { manager: Manager::System, name: unit.parse().unwrap() };
            ExecutableGuesser::default().runs(root.path(), &unit, exe.as_bytes())
        };
        assert!(runs("a.service", "/usr/bin/a") && runs("t@1.service", "/bin/t"));
        assert!(!runs("b.service", "/usr/bin/a") && !runs("a.service", "/bin/t") && !runs("b.service", "/bin/b"));
    }

    #[test]
    fn what_is_launched_is_a_weaker_one() {
        let root = machine(&[("a.service", "/bin/sh -c 'exec a'"), ("t@.service", "/bin/t")]);
        assert_eq!(guess(&root, "/usr/bin/a", Match::Program), None);
        assert_eq!(guess(&root, "/usr/bin/a", Match::Launched).as_deref(), Some("a.service"));
        assert_eq!(guess(&root, "/bin/t", Match::Launched), None, "which instance, nobody knows");
        assert_eq!(guess(&root, "/opt/a", Match::Launched), None, "it is not where programs are looked for");
        assert_eq!(guess(&root, "/bin/sh", Match::Launched), None, "anything starts a shell");
    }

    #[test]
    fn a_word_that_is_data_is_none() {
        let root = machine(&[
            ("man-db.service", "+install -d -o man -g man -m 0755 /var/cache/man\nExecStart=find /x -type f"),
            ("apt-daily.service", "/usr/lib/apt/apt.systemd.daily update /usr/bin/path"),
        ]);
        for exe in ["/usr/bin/man", "/usr/bin/update", "/usr/bin/f", "/usr/bin/path"] {
            assert_eq!(guess(&root, exe, Match::Launched), None, "{exe}");
        }
    }

    #[test]
    fn another_unit_that_launches_it_makes_two() {
        let root = machine(&[("a.service", "/bin/a"), ("b.service", "/bin/sh -c 'a; b'")]);
        assert_eq!(guess(&root, "/bin/a", Match::Program), None);
        assert_eq!(guess(&root, "/bin/b", Match::Launched).as_deref(), Some("b.service"));
    }

    #[test]
    fn a_process_of_another_user_is_not_the_units() {
        let root = machine(&[("a.service", "/bin/a\nUser=7"), ("b.service", "+/bin/b\nExecStop=/bin/c\nUser=7")]);
        let of = |exe: &str, uid| {
            ExecutableGuesser::default().unit(root.path(), uid, exe.as_bytes(), Match::Program).is_some()
        };
        assert!(of("/bin/a", Some(7)) && !of("/bin/a", Some(0)) && !of("/bin/a", Some(1000)) && of("/bin/a", None));
        assert!(of("/bin/c", Some(7)) && !of("/bin/c", Some(0)), "it is not run as root");
        assert!(of("/bin/b", Some(7)) && of("/bin/b", Some(0)) && !of("/bin/b", Some(1000)));
        assert!(of("/bin/a", Some(Manager::SOME_USER)), "a name that is not known");
    }

    #[test]
    fn unit_files_are_not_read_for_every_question() {
        let root = machine(&[("a.service", "/usr/bin/a")]);
        let mut guesses = ExecutableGuesser::default();
        let mut ask = |exe: &str| guesses.unit(root.path(), None, exe.as_bytes(), Match::Program).is_some();
        assert!(ask("/usr/bin/a"));
        fs::remove_file(root.path().join("etc/systemd/system/a.service")).unwrap();
        assert!(ask("/usr/bin/a"));
        assert!(!ask("/usr/bin/b"));
        for uid in 0..3 * u32::try_from(MOST_USERS).unwrap() {
            let _ = guesses.unit(root.path(), Some(uid), b"/usr/bin/a", Match::Program);
        }
        assert!(guesses.known.len() <= MOST_USERS + 2);
    }
}
