//! Which units run a program: a last resort where nothing else says whose process it was.

use super::names::Names;
use super::tree::Tree;
use super::{find_among, read, search};
use crate::policy::command::Command;
use crate::units::{Manager, UnitName};
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its name; of a template the template's (`foo@.service`), since any instance may have run it.
    pub unit: UnitName,
    /// What speaks for it.
    pub kind: Match,
}

/// The units whose command lines name an executable, the surest first. A guess: a program may be run
/// by hand or by any other unit. Commands with specifiers (`%i`) in the program do not count.
#[must_use]
pub fn find_by_executable(root: &Path, manager: Manager, home: Option<&Path>, exe: &Path) -> Vec<Candidate> {
    let tree = Tree::new(root);
    let homes: Vec<Option<PathBuf>> = match manager {
        Manager::System => vec![None],
        Manager::User(uid) => search::homes(tree, uid, home).into_iter().map(Some).collect(),
    };
    let wanted = Wanted::new(tree, exe);
    let mut found: Vec<Candidate> = Vec::new();
    for home in homes {
        let mut search = search::path(manager, home.as_deref());
        let names = Names::read(tree, &mut search, &mut Vec::new());
        for name in names.all().filter_map(|name| name.parse::<UnitName>().ok()) {
            let files = find_among(tree, &names, &search, name.as_str(), Vec::new());
            // Its other names are found too; one is enough.
            let main =
                files.fragment.as_ref().and_then(|path| path.file_name()).is_some_and(|file| file == name.as_str());
            if !main || found.iter().any(|candidate| candidate.unit == name) {
                continue;
            }
            let loaded = read(tree, &name, files);
            if let Some(kind) = loaded.settings.commands().iter().filter_map(|command| wanted.by(command)).min() {
                found.push(Candidate { unit: name, kind });
            }
        }
    }
    found.sort_by(|a, b| (a.kind, &a.unit).cmp(&(b.kind, &b.unit)));
    found
}

struct Wanted<'a> {
    tree: Tree<'a>,
    exe: PathBuf,
    real: PathBuf,
}

impl<'a> Wanted<'a> {
    fn new(tree: Tree<'a>, exe: &Path) -> Self {
        Self { tree, exe: exe.to_path_buf(), real: tree.chase(exe).unwrap_or_else(|_| exe.to_path_buf()) }
    }

    fn by(&self, command: &Command) -> Option<Match> {
        if !command.program.contains('%') && self.is_program(&command.program) {
            return Some(Match::Program);
        }
        let base = self.exe.file_name()?.to_str()?;
        // The words of `sh -c '…'` are words too.
        let mut words =
            command.arguments.iter().flat_map(|word| word.split(|c: char| c.is_whitespace() || ";&|()\"'".contains(c)));
        let named = words.any(|word| word == base || (word.starts_with('/') && self.is(Path::new(word))));
        named.then_some(Match::Argument)
    }

    fn is_program(&self, program: &str) -> bool {
        if program.starts_with('/') {
            return self.is(Path::new(program));
        }
        BINARIES.iter().any(|dir| self.is(&Path::new(dir).join(program)))
    }

    fn is(&self, path: &Path) -> bool {
        path == self.exe || self.tree.chase(path).is_ok_and(|real| real == self.real)
    }
}
