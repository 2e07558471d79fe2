//! Which units run a program: a last resort where nothing else says whose process it was.

use super::names::Names;
use super::tree::Tree;
use super::{find_among, read, search};
use crate::policy::command::Command;
use crate::units::{Manager, UnitName};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// Where systemd looks for a program given without a path (`systemd-path search-binaries-default`).
const BINARIES: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// How a unit's command lines name a program, surest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Match {
    /// It is the program of a command.
    Program,
    /// It is, by path or bare name, a word of a command's arguments, as in `sh -c 'exec foo'`.
    Argument,
}

/// A unit that may have run a program.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Candidate {
    /// What speaks for it.
    pub kind: Match,
    /// Its name; of a template the template's (`foo@.service`), since any instance may have run it.
    pub unit: UnitName,
}

/// What the command lines of a manager's units name, read once and asked often.
#[derive(Debug, Clone)]
pub struct Executables {
    root: PathBuf,
    /// By path: as written, and without links.
    paths: BTreeMap<PathBuf, Vec<Candidate>>,
    /// By a word of the arguments that is no path.
    words: BTreeMap<Box<str>, Vec<Candidate>>,
}

impl Executables {
    /// Reads every unit file of a manager. Commands with specifiers (`%i`) in the program do not count.
    #[must_use]
    pub fn read(root: &Path, manager: Manager, home: Option<&Path>) -> Self {
        let tree = Tree::new(root);
        let homes: Vec<Option<PathBuf>> = match manager {
            Manager::System => vec![None],
            Manager::User(uid) => search::homes(tree, uid, home).into_iter().map(Some).collect(),
        };
        let mut found = Self { root: root.to_owned(), paths: BTreeMap::new(), words: BTreeMap::new() };
        let mut seen: Vec<UnitName> = Vec::new();
        for home in homes {
            let mut search = search::path(manager, home.as_deref());
            let names = Names::read(tree, &mut search, &mut Vec::new());
            for name in names.all().filter_map(|name| name.parse::<UnitName>().ok()) {
                let files = find_among(tree, &names, &search, name.as_str(), Vec::new());
                // Its other names are found too; one is enough.
                let main =
                    files.fragment.as_ref().and_then(|path| path.file_name()).is_some_and(|file| file == name.as_str());
                if !main || seen.contains(&name) {
                    continue;
                }
                for command in read(tree, &name, files).settings.commands() {
                    found.add(tree, &name, command);
                }
                seen.push(name);
            }
        }
        found
    }

    fn add(&mut self, tree: Tree<'_>, unit: &UnitName, command: &Command) {
        let program = Candidate { kind: Match::Program, unit: unit.clone() };
        if command.program.starts_with('/') {
            self.add_path(tree, Path::new(&*command.program), &program);
        } else if !command.program.contains('%') {
            for dir in BINARIES {
                self.add_path(tree, &Path::new(dir).join(&*command.program), &program);
            }
        }
        let argument = Candidate { kind: Match::Argument, unit: unit.clone() };
        // The words of `sh -c '…'` are words too.
        let parts = |word: &'_ str| -> Vec<String> {
            word.split(|c: char| c.is_whitespace() || ";&|()\"'".contains(c)).map(str::to_owned).collect()
        };
        for word in command.arguments.iter().flat_map(|word| parts(word)).filter(|word| !word.is_empty()) {
            if word.starts_with('/') {
                self.add_path(tree, Path::new(&word), &argument);
            } else {
                self.words.entry(word.into()).or_default().push(argument.clone());
            }
        }
    }

    fn add_path(&mut self, tree: Tree<'_>, path: &Path, candidate: &Candidate) {
        let real = tree.chase(path).unwrap_or_else(|_| path.to_owned());
        if real != path {
            self.paths.entry(real).or_default().push(candidate.clone());
        }
        self.paths.entry(path.to_owned()).or_default().push(candidate.clone());
    }

    /// The units whose command lines name an executable, the surest first, each once. A guess: a program may be
    /// run by hand or by any other unit.
    #[must_use]
    pub fn of(&self, exe: &Path) -> Vec<Candidate> {
        let real = Tree::new(&self.root).chase(exe).unwrap_or_else(|_| exe.to_owned());
        let base = exe.file_name().map(OsStr::as_bytes).and_then(|base| str::from_utf8(base).ok());
        let by_path = [exe, &real].into_iter().filter_map(|path| self.paths.get(path));
        let by_word = base.and_then(|base| self.words.get(base));
        let mut found: Vec<Candidate> = by_path.chain(by_word).flatten().cloned().collect();
        found.sort_unstable();
        let mut units: Vec<UnitName> = Vec::new();
        found.retain(|candidate| {
            let new = !units.contains(&candidate.unit);
            units.extend(new.then(|| candidate.unit.clone()));
            new
        });
        found
    }
}
