//! Guesses a process's unit as the only one whose commands run its executable.

use crate::policy::launched::is_shell;
use crate::unit_files::{Candidate, CommandMatch, ExecutableIndex};
use crate::units::{Manager, Unit, UnitName};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

/// The limit of user managers in the cache: a log can have records of any number of users.
const MOST_USERS: usize = 64;

/// How long unit files stay cached.
const CACHE_TIME: Duration = Duration::from_mins(1);

/// A task, as a record describes it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Task<'a> {
    /// The executable's path.
    pub(crate) exe: &'a [u8],
    /// The thread's name.
    pub(crate) comm: &'a [u8],
}

/// Guesses units from the managers' unit files. The first guess reads all of a manager's unit files and caches them.
#[derive(Debug, Default)]
pub(crate) struct ExecutableGuesser {
    indexes: HashMap<Manager, ExecutableIndex>,
    since: Option<Instant>,
}

impl ExecutableGuesser {
    /// Returns the only unit of the system manager, or of the manager of `user`, whose commands run a task's executable,
    /// or the script that the thread's name shows.
    ///
    /// `user` is the uid of the process, and `weakest` the weakest accepted match. A shell matches no unit by its
    /// executable, since any program can start a shell.
    pub(crate) fn guess_unit(
        &mut self,
        root: &Path,
        user: Option<u32>,
        task: Task<'_>,
        weakest: CommandMatch,
    ) -> Option<Unit> {
        let mut all: Vec<(Manager, Candidate)> = Vec::new();
        // `user` is the process's own user, so no other user's files prevent this guess.
        let managers: Vec<Manager> = std::iter::once(Manager::System).chain(user.map(Manager::User)).collect();
        for &manager in &managers {
            let index = self.index(root, manager);
            if !index.is_complete() {
                return None;
            }
            let named = index.candidates_by_task(task.exe, task.comm);
            all.extend(named.into_iter().map(|candidate| (manager, candidate)));
        }
        if all.is_empty() && !str::from_utf8(task.exe).is_ok_and(is_shell) {
            for &manager in &managers {
                let named = self.candidates(root, manager, task.exe);
                all.extend(named.into_iter().map(|candidate| (manager, candidate)));
            }
        }
        let (manager, candidate) = single_candidate(&all, weakest)?;
        let uid = user.filter(|uid| *uid != Manager::SOME_USER);
        let is_possible = *manager != Manager::System
            || uid.is_none_or(|uid| self.index(root, *manager).can_have_uid(candidate, uid));
        is_possible.then(|| Unit { manager: *manager, name: candidate.unit.clone() })
    }

    /// Whether a command of the unit, or of its template, has the executable as its program.
    pub(crate) fn unit_runs(&mut self, root: &Path, unit: &Unit, exe: &[u8]) -> bool {
        let template = unit.name.template_name();
        let is_its = |name: &UnitName| *name == unit.name || template.as_ref() == Some(name);
        let candidates = self.candidates(root, unit.manager, exe);
        candidates.iter().any(|candidate| candidate.kind == CommandMatch::Program && is_its(&candidate.unit))
    }

    fn candidates(&mut self, root: &Path, manager: Manager, exe: &[u8]) -> Vec<Candidate> {
        self.index(root, manager).candidates(Path::new(OsStr::from_bytes(exe)))
    }

    fn index(&mut self, root: &Path, manager: Manager) -> &ExecutableIndex {
        if self.indexes.len() > MOST_USERS || self.since.is_none_or(|since| since.elapsed() > CACHE_TIME) {
            self.indexes.clear();
            self.since = Some(Instant::now());
        }
        self.indexes.entry(manager).or_insert_with(|| ExecutableIndex::load(root, manager, None))
    }
}

/// Returns the candidate if there is exactly one and its match is strong enough. Several candidates give no answer: a
/// wrong unit is worse than none.
fn single_candidate(all: &[(Manager, Candidate)], weakest: CommandMatch) -> Option<&(Manager, Candidate)> {
    let [only] = all else { return None };
    // A template does not say which of its instances ran the program.
    (only.1.kind <= weakest && !only.1.unit.is_template()).then_some(only)
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

    fn task(exe: &str) -> Task<'_> {
        Task { exe: exe.as_bytes(), comm: b"" }
    }

    #[test]
    fn script_and_task_before_exec_are_guessed_by_name() {
        let root = machine(&[
            ("rotate.service", "/usr/local/bin/rotate.sh"),
            ("date.service", "/bin/date"),
            ("py.service", "/usr/bin/python3 /opt/x.py"),
        ]);
        let guess = |exe: &str, comm: &str| {
            let task = Task { exe: exe.as_bytes(), comm: comm.as_bytes() };
            let unit = ExecutableGuesser::default().guess_unit(root.path(), None, task, CommandMatch::Program);
            unit.map(|unit| unit.name.to_string())
        };
        assert_eq!(guess("/usr/bin/bash", "rotate.sh").as_deref(), Some("rotate.service"));
        assert_eq!(guess("/usr/bin/python3", "rotate.sh").as_deref(), Some("rotate.service"), "not py.service");
        assert_eq!(guess("/usr/lib/systemd/systemd", "(date)").as_deref(), Some("date.service"));
        assert_eq!(guess("/usr/bin/bash", "other.sh"), None);
        assert_eq!(guess("/usr/lib/systemd/systemd", "(other)"), None);
    }

    #[test]
    fn executable_below_merged_usr_matches_without_link_in_root() {
        let root = machine(&[("a.service", "/bin/a"), ("b.service", "/usr/lib/b/b")]);
        assert_eq!(guess(&root, "/usr/bin/a", CommandMatch::Program).as_deref(), Some("a.service"));
        assert_eq!(guess(&root, "/lib/b/b", CommandMatch::Program).as_deref(), Some("b.service"));
    }

    fn guess(root: &tempfile::TempDir, exe: &str, weakest: CommandMatch) -> Option<String> {
        Some(ExecutableGuesser::default().guess_unit(root.path(), None, task(exe), weakest)?.name.to_string())
    }

    #[test]
    fn executable_of_one_unit_is_guessed_and_of_two_is_not() {
        let root = machine(&[("a.service", "/usr/bin/a -x"), ("b.service", "/bin/b"), ("c.service", "/bin/b")]);
        assert_eq!(guess(&root, "/usr/bin/a", CommandMatch::Program).as_deref(), Some("a.service"));
        assert_eq!(guess(&root, "/bin/b", CommandMatch::Program), None);
        assert_eq!(guess(&root, "/bin/d", CommandMatch::Program), None);
    }

    #[test]
    fn unit_runs_programs_of_its_commands_only() {
        let root =
            machine(&[("a.service", "/usr/bin/a -x"), ("t@.service", "/bin/t"), ("b.service", "/bin/sh /bin/b")]);
        let runs = |unit: &str, exe: &str| {
            let unit = Unit { manager: Manager::System, name: unit.parse().unwrap() };
            ExecutableGuesser::default().unit_runs(root.path(), &unit, exe.as_bytes())
        };
        assert!(runs("a.service", "/usr/bin/a") && runs("t@1.service", "/bin/t"));
        assert!(!runs("b.service", "/usr/bin/a") && !runs("a.service", "/bin/t") && !runs("b.service", "/bin/b"));
    }

    #[test]
    fn launched_program_matches_only_if_launched_is_accepted() {
        let root = machine(&[("a.service", "/bin/sh -c 'exec a'"), ("t@.service", "/bin/t")]);
        assert_eq!(guess(&root, "/usr/bin/a", CommandMatch::Program), None);
        assert_eq!(guess(&root, "/usr/bin/a", CommandMatch::Launched).as_deref(), Some("a.service"));
        assert_eq!(guess(&root, "/bin/t", CommandMatch::Launched), None, "the instance is unknown");
        assert_eq!(
            guess(&root, "/opt/a", CommandMatch::Launched),
            None,
            "/opt is no directory that programs are looked up in"
        );
        assert_eq!(guess(&root, "/bin/sh", CommandMatch::Launched), None, "anything starts a shell");
    }

    #[test]
    fn word_that_is_data_is_no_program() {
        let root = machine(&[
            ("man-db.service", "+install -d -o man -g man -m 0755 /var/cache/man\nExecStart=find /x -type f"),
            ("apt-daily.service", "/usr/lib/apt/apt.systemd.daily update /usr/bin/path"),
        ]);
        for exe in ["/usr/bin/man", "/usr/bin/update", "/usr/bin/f", "/usr/bin/path"] {
            assert_eq!(guess(&root, exe, CommandMatch::Launched), None, "{exe}");
        }
    }

    #[test]
    fn unit_that_launches_program_counts_as_second_candidate() {
        let root = machine(&[("a.service", "/bin/a"), ("b.service", "/bin/sh -c 'a; b'")]);
        assert_eq!(guess(&root, "/bin/a", CommandMatch::Program), None);
        assert_eq!(guess(&root, "/bin/b", CommandMatch::Launched).as_deref(), Some("b.service"));
    }

    #[test]
    fn process_of_other_user_gets_no_guess() {
        let root = machine(&[("a.service", "/bin/a\nUser=7"), ("b.service", "+/bin/b\nExecStop=/bin/c\nUser=7")]);
        let guessed = |exe: &str, uid| {
            ExecutableGuesser::default().guess_unit(root.path(), uid, task(exe), CommandMatch::Program).is_some()
        };
        assert!(
            guessed("/bin/a", Some(7))
                && !guessed("/bin/a", Some(0))
                && !guessed("/bin/a", Some(1000))
                && guessed("/bin/a", None)
        );
        assert!(guessed("/bin/c", Some(7)) && !guessed("/bin/c", Some(0)), "ExecStop= has no + prefix");
        assert!(guessed("/bin/b", Some(7)) && guessed("/bin/b", Some(0)) && !guessed("/bin/b", Some(1000)));
        assert!(guessed("/bin/a", Some(Manager::SOME_USER)), "unknown user name");
    }

    #[test]
    fn uid_counts_whatever_other_users_are_cached() {
        let root = machine(&[("a.service", "/bin/a\nUser=7")]);
        let mut guesses = ExecutableGuesser::default();
        let task = Task { exe: b"/usr/lib/systemd/systemd", comm: b"(a)" };
        for uid in 1_000..1_000 + 2 * u32::try_from(MOST_USERS).unwrap() {
            assert_eq!(guesses.guess_unit(root.path(), Some(uid), task, CommandMatch::Program), None, "{uid}");
        }
        assert!(guesses.guess_unit(root.path(), Some(7), task, CommandMatch::Program).is_some());
    }

    #[test]
    fn unit_files_are_cached_for_bounded_number_of_users() {
        let root = machine(&[("a.service", "/usr/bin/a")]);
        let mut guesses = ExecutableGuesser::default();
        let mut ask = |exe: &str| guesses.guess_unit(root.path(), None, task(exe), CommandMatch::Program).is_some();
        assert!(ask("/usr/bin/a"));
        fs::remove_file(root.path().join("etc/systemd/system/a.service")).unwrap();
        assert!(ask("/usr/bin/a"));
        assert!(!ask("/usr/bin/b"));
        for uid in 0..3 * u32::try_from(MOST_USERS).unwrap() {
            let _ = guesses.guess_unit(root.path(), Some(uid), task("/usr/bin/a"), CommandMatch::Program);
        }
        assert!(guesses.indexes.len() <= MOST_USERS + 2);
    }
}
