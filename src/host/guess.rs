//! The last guess at a process's unit: the only one whose commands run its executable.

use super::unit_files::{Candidate, Executables, Match};
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
pub(super) struct Guesses {
    known: HashMap<Manager, Executables>,
    since: Option<Instant>,
}

impl Guesses {
    /// The one unit, of the system's or a user's manager, whose commands run an executable, by the files
    /// below a root. `enough` is what must at least speak for it.
    pub(super) fn unit(&mut self, root: &Path, user: Option<u32>, exe: &[u8], enough: Match) -> Option<Unit> {
        let mut all: Vec<(Manager, Candidate)> = Vec::new();
        for manager in std::iter::once(Manager::System).chain(user.map(Manager::User)) {
            all.extend(self.candidates(root, manager, exe).into_iter().map(|candidate| (manager, candidate)));
        }
        only_unit(&all, enough)
    }

    /// Whether a unit's commands run an executable as a program; of an instance its template's.
    pub(super) fn runs(&mut self, root: &Path, unit: &Unit, exe: &[u8]) -> bool {
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

/// The only unit that runs an executable as a program; failing that, and if that is enough, the only one
/// that names it in its arguments. Several are none: a wrong unit is worse.
fn only_unit(all: &[(Manager, Candidate)], enough: Match) -> Option<Unit> {
    let only = |kind: Match| {
        let mut fitting = all.iter().filter(|(_, candidate)| candidate.kind == kind);
        match (fitting.next(), fitting.next()) {
            (Some(one), None) => Some(one),
            _ => None,
        }
    };
    let named = all.iter().any(|(_, candidate)| candidate.kind == Match::Program);
    let (manager, candidate) = only(if named { Match::Program } else { enough })?;
    // Which instance of a template it was, nothing tells.
    let is_template = candidate.unit.as_str().contains("@.");
    (!is_template).then(|| Unit { manager: *manager, name: candidate.unit.clone() })
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
        Some(Guesses::default().unit(root.path(), None, exe.as_bytes(), enough)?.name.to_string())
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
            Guesses::default().runs(root.path(), &unit, exe.as_bytes())
        };
        assert!(runs("a.service", "/usr/bin/a") && runs("t@1.service", "/bin/t"));
        assert!(!runs("b.service", "/usr/bin/a") && !runs("a.service", "/bin/t") && !runs("b.service", "/bin/b"));
    }

    #[test]
    fn a_word_among_the_arguments_is_a_weaker_one() {
        let root = machine(&[("a.service", "/bin/sh -c 'exec a'"), ("t@.service", "/bin/t")]);
        assert_eq!(guess(&root, "/usr/bin/a", Match::Program), None);
        assert_eq!(guess(&root, "/usr/bin/a", Match::Argument).as_deref(), Some("a.service"));
        assert_eq!(guess(&root, "/bin/t", Match::Argument), None, "which instance, nobody knows");
    }

    #[test]
    fn unit_files_are_not_read_for_every_question() {
        let root = machine(&[("a.service", "/usr/bin/a")]);
        let mut guesses = Guesses::default();
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
