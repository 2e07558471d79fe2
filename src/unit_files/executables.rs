//! Which units run a program: a last resort where nothing else says whose process it was.

use super::names::Names;
use super::rooted::Tree;
use super::service_user::Account;
use super::{find_among, parse, search};
use crate::policy::Settings;
use crate::policy::exec_command::ExecCommand;
use crate::policy::launched::find_launched;
use crate::units::{Manager, UnitName};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Where systemd looks for a program given without a path (`systemd-path search-binaries-default`).
const BINARIES: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// How a unit's command lines name a program, surest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Match {
    /// It is the program of a command.
    Program,
    /// A shell or a launcher is told to execute it, as in `sh -c 'exec foo'` or `nice foo`.
    Launched,
}

/// A unit that may have run a program.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Candidate {
    /// What speaks for it.
    pub kind: Match,
    /// Its name; of a template the template's (`foo@.service`), since any instance may have run it.
    pub unit: UnitName,
    /// Whether it runs it as root whatever its `User=` is.
    pub elevated: bool,
}

/// What the command lines of a manager's units name, read once and asked often.
#[derive(Debug, Clone)]
pub struct Executables {
    root: PathBuf,
    /// By path: as written, and without links.
    paths: BTreeMap<PathBuf, Vec<Candidate>>,
    accounts: BTreeMap<UnitName, Account>,
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
        let mut found = Self { root: root.to_owned(), paths: BTreeMap::new(), accounts: BTreeMap::new() };
        for home in homes {
            let mut search = search::path(manager, home.as_deref());
            let names = Names::read(tree, &mut search, &mut Vec::new());
            for name in names.all().filter_map(|name| name.parse::<UnitName>().ok()) {
                let mut files = find_among(tree, &names, &search, name.as_str(), Vec::new());
                // Its other names are found too; one is enough.
                let main =
                    files.fragment.as_ref().and_then(|path| path.file_name()).is_some_and(|file| file == name.as_str());
                if !main || found.accounts.contains_key(&name) {
                    continue;
                }
                let (fragment, dropins) = parse(tree, &mut files);
                let settings = Settings::new(&name, fragment.clone(), dropins.clone());
                for command in settings.commands() {
                    found.add(tree, &name, command);
                }
                found.accounts.insert(name, Account::new(tree, fragment.iter().chain(&dropins), settings.section()));
            }
        }
        found
    }

    fn add(&mut self, tree: Tree<'_>, unit: &UnitName, command: &ExecCommand) {
        let is = |kind| Candidate { kind, unit: unit.clone(), elevated: command.elevated };
        self.add_program(tree, &command.program, &is(Match::Program));
        let launches = is(Match::Launched);
        for program in find_launched(&command.program, &command.arguments) {
            self.add_program(tree, &program, &launches);
        }
    }

    fn add_program(&mut self, tree: Tree<'_>, program: &str, candidate: &Candidate) {
        if program.starts_with('/') {
            self.add_path(tree, Path::new(program), candidate);
        } else if !program.contains('%') {
            for dir in BINARIES {
                self.add_path(tree, &Path::new(dir).join(program), candidate);
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
        let mut found: Vec<Candidate> =
            [exe, &real].into_iter().filter_map(|path| self.paths.get(path)).flatten().cloned().collect();
        found.sort_unstable_by(|one, other| (one.kind, &one.unit).cmp(&(other.kind, &other.unit)));
        let mut units: Vec<Candidate> = Vec::new();
        for candidate in found {
            match units.iter_mut().find(|known| known.unit == candidate.unit) {
                Some(known) => known.elevated |= candidate.elevated,
                None => units.push(candidate),
            }
        }
        units
    }

    /// Whether a process of this uid can be a unit's, by its `User=`.
    #[must_use]
    pub fn may_be(&self, candidate: &Candidate, uid: u32) -> bool {
        (candidate.elevated && uid == 0) || self.accounts.get(&candidate.unit).is_none_or(|account| account.may_be(uid))
    }
}
