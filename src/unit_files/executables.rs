//! Maps a program to the units whose commands run it. This is the last resort, if no other source names a process's
//! unit.

use super::find::UnitFinder;
use super::passwd::Passwd;
use super::read_budget::ReadBudget;
use super::rooted::RootedTree;
use super::search::search_path;
use super::service_user::ServiceUser;
use crate::policy::Settings;
use crate::policy::exec_command::ExecCommand;
use crate::policy::launched::find_launched;
use crate::policy::program_path::{below_usr, is_task_of};
use crate::units::{Manager, UnitName};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// The directories in which systemd looks for a program given without a path
/// (`systemd-path search-binaries-default`).
pub(crate) const BINARIES: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// How a unit's command line names a program, most certain first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CommandMatch {
    /// As the program itself.
    Program,
    /// As an argument that a shell or a launcher executes: `sh -c 'exec foo'`, `nice foo`.
    Launched,
}

/// A unit that may have run a program.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Candidate {
    /// How its command line names the program.
    pub kind: CommandMatch,
    /// The unit's name, or the template's (`foo@.service`) if any of its instances may have run the program.
    pub unit: UnitName,
    /// Whether the command runs as root despite `User=` (`+`, `!` prefixes).
    pub elevated: bool,
}

/// The programs that the command lines of a manager's units name.
#[derive(Debug, Clone)]
pub struct ExecutableIndex {
    root: PathBuf,
    /// The candidates by path below `/usr`, both as written and with links resolved.
    paths: BTreeMap<PathBuf, Vec<Candidate>>,
    /// The candidates by program, as written.
    programs: BTreeMap<Box<str>, Vec<Candidate>>,
    users: BTreeMap<UnitName, ServiceUser>,
    /// Whether all unit files were read.
    is_complete: bool,
}

impl ExecutableIndex {
    /// Reads every unit file of a manager, within a [`ReadBudget`]. A program with specifiers (`%i`) matches no executable.
    #[must_use]
    pub fn load(root: &Path, manager: Manager, home: Option<&Path>) -> Self {
        Self::load_within(root, manager, home, &mut ReadBudget::new(manager))
    }

    fn load_within(root: &Path, manager: Manager, home: Option<&Path>, budget: &mut ReadBudget) -> Self {
        let (paths, programs, users) = Default::default();
        let mut index = Self { root: root.to_owned(), paths, programs, users, is_complete: false };
        index.fill(manager, home, budget);
        index.is_complete = !budget.is_exhausted();
        index
    }

    /// Adds the units of a manager until the budget is exhausted.
    fn fill(&mut self, manager: Manager, home: Option<&Path>, budget: &mut ReadBudget) {
        let root = self.root.clone();
        let tree = RootedTree::new(&root);
        let passwd = Passwd::load(&root);
        // Another user's home would let that user claim the process.
        let home = match manager {
            Manager::System => None,
            Manager::User(uid) => home.map(Path::to_path_buf).or_else(|| passwd.home_of_uid(uid)),
        };
        let finder = UnitFinder::new(tree, search_path(manager, home.as_deref()), budget);
        for name in finder.names() {
            if !budget.start_merge() {
                return;
            }
            let Some(mut files) = finder.find_unaliased(&name) else { continue };
            let Some((fragment, dropins)) = files.parse_within(tree, budget) else { return };
            let settings = Settings::new(&name, fragment.clone(), dropins.clone());
            for command in settings.commands() {
                self.add(tree, &name, command, budget);
            }
            let user = ServiceUser::parse(&passwd, fragment.iter().chain(&dropins), settings.section());
            self.users.insert(name, user);
        }
    }

    /// Whether all unit files were read. Otherwise, a unit that was not read can run any program.
    pub(crate) fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// Adds the programs of a command. Each counts against the budget.
    fn add(&mut self, tree: RootedTree<'_>, unit: &UnitName, command: &ExecCommand, budget: &mut ReadBudget) {
        let is = |kind| Candidate { kind, unit: unit.clone(), elevated: command.elevated };
        if !budget.start_merge() {
            return;
        }
        self.add_program(tree, &command.program, &is(CommandMatch::Program));
        let launches = is(CommandMatch::Launched);
        for program in find_launched(&command.program, &command.arguments) {
            if !budget.start_merge() {
                return;
            }
            self.add_program(tree, &program, &launches);
        }
    }

    fn add_program(&mut self, tree: RootedTree<'_>, program: &str, candidate: &Candidate) {
        add_candidate(self.programs.entry(program.into()).or_default(), candidate);
        if program.starts_with('/') {
            self.add_path(tree, Path::new(program), candidate);
        } else if !program.contains('%') {
            for dir in BINARIES {
                self.add_path(tree, &Path::new(dir).join(program), candidate);
            }
        }
    }

    fn add_path(&mut self, tree: RootedTree<'_>, path: &Path, candidate: &Candidate) {
        let real = normalize(&tree.resolve(path).unwrap_or_else(|_| path.to_owned()));
        let path = normalize(path);
        if real != path {
            add_candidate(self.paths.entry(real).or_default(), candidate);
        }
        add_candidate(self.paths.entry(path).or_default(), candidate);
    }

    /// Returns each unit whose command lines name an executable, most certain first. This is a guess: a person or
    /// another unit can run the same program.
    #[must_use]
    pub fn candidates(&self, exe: &Path) -> Vec<Candidate> {
        let real = normalize(&RootedTree::new(&self.root).resolve(exe).unwrap_or_else(|_| exe.to_owned()));
        let paths = [normalize(exe), real];
        merge_by_unit(paths.iter().filter_map(|path| self.paths.get(path)).flatten())
    }

    /// Returns each unit whose command lines name the script that an interpreter runs, or the program that systemd is
    /// about to execute, as a task's name tells it.
    pub(crate) fn candidates_by_task(&self, exe: &[u8], comm: &[u8]) -> Vec<Candidate> {
        merge_by_unit(
            self.programs.iter().filter(|(program, _)| is_task_of(program, exe, comm)).flat_map(|(_, units)| units),
        )
    }

    /// Whether a process of the candidate unit can have this uid.
    #[must_use]
    pub fn can_have_uid(&self, candidate: &Candidate, uid: u32) -> bool {
        (candidate.elevated && uid == 0) || self.users.get(&candidate.unit).is_none_or(|user| user.can_have_uid(uid))
    }
}

/// Adds a unit to those of a program. A unit can name the same program in many commands.
fn add_candidate(known: &mut Vec<Candidate>, candidate: &Candidate) {
    match known.last_mut().filter(|last| last.unit == candidate.unit && last.kind == candidate.kind) {
        Some(last) => last.elevated |= candidate.elevated,
        None => known.push(candidate.clone()),
    }
}

/// Returns a path as it is below a merged `/usr`.
fn normalize(path: &Path) -> PathBuf {
    OsStr::from_bytes(&below_usr(path.as_os_str().as_bytes())).into()
}

/// Sorts candidates, most certain first, and lists each unit once.
fn merge_by_unit<'a>(found: impl Iterator<Item = &'a Candidate>) -> Vec<Candidate> {
    let mut found: Vec<&Candidate> = found.collect();
    found.sort_unstable_by(|one, other| (one.kind, &one.unit).cmp(&(other.kind, &other.unit)));
    let mut units: Vec<Candidate> = Vec::new();
    for candidate in found {
        match units.iter_mut().find(|known| known.unit == candidate.unit) {
            Some(known) => known.elevated |= candidate.elevated,
            None => units.push(candidate.clone()),
        }
    }
    units
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn executable_leads_to_units_that_name_it() {
        let root = tempfile::tempdir().unwrap();
        let units = root.path().join("usr/lib/systemd/system");
        let etc = root.path().join("etc/systemd/system");
        for dir in [&units, &etc, &root.path().join("usr/bin")] {
            fs::create_dir_all(dir).unwrap();
        }
        fs::write(root.path().join("usr/bin/foo"), "").unwrap();
        symlink("usr/bin", root.path().join("bin")).unwrap();
        symlink("/usr/lib/systemd/system/a.service", etc.join("alias.service")).unwrap();
        for (name, command) in [
            ("a", "-/bin/foo --bar"),
            ("b", "/bin/sh -c 'exec foo; true'"),
            ("c", "foo"),
            ("d@", "/usr/bin/%i"),
            ("e", "/usr/bin/foobar food"),
            ("f", "install -d -o foo /usr/bin/foo"),
            ("g", "/bin/sh -c 'echo foo'"),
        ] {
            fs::write(units.join(format!("{name}.service")), format!("[Service]\nExecStart={command}\n")).unwrap();
        }
        let found: Vec<String> = ExecutableIndex::load(root.path(), Manager::System, None)
            .candidates(Path::new("/usr/bin/foo"))
            .into_iter()
            .map(|candidate| format!("{} {:?}", candidate.unit, candidate.kind))
            .collect();
        assert_eq!(found, ["a.service Program", "c.service Program", "b.service Launched"]);
    }

    /// 2,000 units of a user with 512 drop-ins for all of them: a million merges without a budget.
    #[test]
    fn files_of_many_units_are_opened_once_and_within_the_budget() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("home/a/.config/systemd/user");
        std::fs::create_dir_all(dir.join("service.d")).unwrap();
        let write_units = |numbers: std::ops::Range<u32>| {
            for number in numbers {
                std::fs::write(dir.join(format!("u{number}.service")), "[Service]\nExecStart=/bin/u\n").unwrap();
            }
        };
        write_units(0..300);
        let home = Some(Path::new("/home/a"));
        let load =
            |manager, home, budget: &mut ReadBudget| ExecutableIndex::load_within(root.path(), manager, home, budget);
        let small = load(Manager::User(7), home, &mut ReadBudget::without_deadline(Manager::User(7)));
        assert!(small.is_complete(), "300 units alone are within the budget");
        write_units(300..2_000);
        for number in 0..512 {
            let text = format!("[Service]\n{}", "Environment=A=1\n".repeat(2_500));
            std::fs::write(dir.join(format!("service.d/{number}.conf")), text).unwrap();
        }
        let mut budget = ReadBudget::without_deadline(Manager::User(7));
        let index = load(Manager::User(7), home, &mut budget);
        assert!(!index.is_complete());
        assert!(budget.opened() <= 513, "{}", budget.opened());
        assert!(load(Manager::System, None, &mut ReadBudget::without_deadline(Manager::System)).is_complete());
    }

    /// A root with files in `/home/a/.config/systemd/user`, the home of uid 7.
    fn home_of_user() -> (tempfile::TempDir, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("home/a/.config/systemd/user");
        fs::create_dir_all(&dir).unwrap();
        fs::create_dir_all(root.path().join("etc")).unwrap();
        fs::write(root.path().join("etc/passwd"), "a:x:7:7::/home/a:/bin/sh\n").unwrap();
        (root, dir)
    }

    fn load_of_user(root: &Path, uid: u32) -> ExecutableIndex {
        let mut budget = ReadBudget::without_deadline(Manager::User(uid));
        ExecutableIndex::load_within(root, Manager::User(uid), None, &mut budget)
    }

    #[test]
    fn unit_that_repeats_command_is_one_candidate_within_the_budget() {
        let (root, dir) = home_of_user();
        let count =
            |index: &ExecutableIndex| index.paths.values().chain(index.programs.values()).map(Vec::len).sum::<usize>();
        fs::write(dir.join("few.service"), format!("[Service]\nExecStart={}a\n", "a ; ".repeat(500))).unwrap();
        let few = load_of_user(root.path(), 7);
        assert!(few.is_complete());
        assert_eq!(few.candidates(Path::new("/usr/bin/a")).len(), 1);
        assert!(count(&few) <= BINARIES.len() + 1, "{}", count(&few));
        let lines = format!("ExecStart={}a\n", "a ; ".repeat(500)).repeat(40);
        fs::write(dir.join("many.service"), format!("[Service]\n{lines}")).unwrap();
        assert!(!load_of_user(root.path(), 7).is_complete());
    }

    #[test]
    fn links_of_user_count_against_the_budget() {
        let (root, dir) = home_of_user();
        for number in 0..10_000 {
            symlink("/none/x.service", dir.join(format!("l{number}.service"))).unwrap();
        }
        assert!(!load_of_user(root.path(), 7).is_complete());
    }

    #[test]
    fn unit_files_of_other_user_do_not_count_for_unknown_uid() {
        let (root, dir) = home_of_user();
        fs::write(dir.join("x.service"), "[Service]\nExecStart=/bin/x\n").unwrap();
        let units = |uid| load_of_user(root.path(), uid).candidates(Path::new("/bin/x")).len();
        assert_eq!((units(7), units(8)), (1, 0));
    }
}
