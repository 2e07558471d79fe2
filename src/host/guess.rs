//! The last guess at a process's unit: the only one whose commands run its executable.

use super::unit_files::{self, Candidate, Match};
use crate::units::{Manager, Unit};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

/// How many executables are looked up; a log, or a process, can name any number.
const MOST_LOOKUPS: usize = 1024;

/// How long what unit files say is taken to be so.
const GOOD_FOR: Duration = Duration::from_mins(1);

/// What was looked for already: it takes reading all unit files.
#[derive(Debug, Default)]
pub(super) struct Guesses {
    known: HashMap<(Option<u32>, Vec<u8>), Option<Unit>>,
    since: Option<Instant>,
}

impl Guesses {
    /// The one unit, of the system's or a user's manager, whose commands run an executable, by the files
    /// below a root. `enough` is what must at least speak for it.
    pub(super) fn unit(&mut self, root: &Path, user: Option<u32>, exe: &[u8], enough: Match) -> Option<Unit> {
        if self.since.is_none_or(|since| since.elapsed() > GOOD_FOR) {
            self.known.clear();
            self.since = Some(Instant::now());
        }
        let key = (user, exe.to_vec());
        if let Some(known) = self.known.get(&key) {
            return known.clone();
        }
        let guess = only_unit(root, user, Path::new(OsStr::from_bytes(exe)), enough);
        if self.known.len() < MOST_LOOKUPS {
            self.known.insert(key, guess.clone());
        }
        guess
    }
}

/// The only unit that runs an executable as a program; failing that, and if that is enough, the only one
/// that names it in its arguments. Several are none: a wrong unit is worse.
fn only_unit(root: &Path, user: Option<u32>, exe: &Path, enough: Match) -> Option<Unit> {
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
    fn a_word_among_the_arguments_is_a_weaker_one() {
        let root = machine(&[("a.service", "/bin/sh -c 'exec a'"), ("t@.service", "/bin/t")]);
        assert_eq!(guess(&root, "/usr/bin/a", Match::Program), None);
        assert_eq!(guess(&root, "/usr/bin/a", Match::Argument).as_deref(), Some("a.service"));
        assert_eq!(guess(&root, "/bin/t", Match::Argument), None, "which instance, nobody knows");
    }

    #[test]
    fn what_was_looked_for_is_not_looked_for_again() {
        let root = machine(&[("a.service", "/usr/bin/a")]);
        let mut guesses = Guesses::default();
        let mut ask = |exe: &str| guesses.unit(root.path(), None, exe.as_bytes(), Match::Program).is_some();
        assert!(ask("/usr/bin/a"));
        fs::remove_file(root.path().join("etc/systemd/system/a.service")).unwrap();
        assert!(ask("/usr/bin/a"));
        for number in 0..2 * MOST_LOOKUPS {
            assert!(!ask(&format!("/{number}")));
        }
        assert_eq!(guesses.known.len(), MOST_LOOKUPS);
    }
}
