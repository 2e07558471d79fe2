//! Reads the executables of a unit: those that its command lines name, and those in its records.
//!
//! The caller's own rights decide which files are readable. Size and time are limited, and any file may be hostile.
//! A file that the unit's processes could have written or swapped is no evidence, nor one outside the root directory
//! that they see.

use crate::diagnosis::{Situation, is_before_exec};
use crate::incidents::Incident;
use crate::policy::launched::find_launched;
use crate::policy::program_path::below_usr;
use crate::policy::{ProgramSettings, Settings};
use crate::programs::interpreter::{find_interpreter, is_interpreter};
use crate::programs::{ElfFile, FileParts, Program, ProgramImage};
use crate::unit_files::executables::BINARIES;
use crate::unit_files::regular_file;
use crate::unit_files::rooted::RootedTree;
use crate::units::Manager;
use std::ffi::OsStr;
use std::fs;
use std::fs::{File, Metadata};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The limit on programs of a unit.
const MOST_PROGRAMS: usize = 16;

/// The limit on the bytes read from all executables of a unit.
const MOST_BYTES: u64 = 64 << 20;

/// The time after which no further part of a file is read.
const LONGEST: Duration = Duration::from_millis(300);

/// The part of a script that can hold its first line (`BINPRM_BUF_SIZE` of `linux/binfmts.h`).
const SCRIPT_START: u64 = 256;

/// The longest chain of scripts that interpret scripts.
const MOST_INTERPRETERS: usize = 3;

/// The permission bits that let others than the owner write a file.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// The permission bits of a directory in which anyone can swap a file, and the bit that prevents it (`inode(7)`).
const WRITABLE_BY_ANYONE: u32 = 0o002;
const STICKY: u32 = 0o1000;

/// The limit of links from a path to its file.
const MOST_LINKS: usize = 40;

/// Reads the executables of a unit into its situation: of the files below `root`, and of the unit's running processes if
/// `root` is this machine's.
pub(crate) fn read_programs(situation: &mut Situation, manager: Manager, root: &Path, incidents: &[Incident]) {
    let settings = &situation.policy.settings;
    let mut reader = ProgramReader::new(root, manager, settings);
    for command in settings.commands().iter().filter(|one| one.key.starts_with("ExecStart") && !one.privileged) {
        let launched = find_launched(&command.program, &command.arguments);
        for program in std::iter::once(&*command.program).chain(launched.iter().map(String::as_str)) {
            reader.add_command(program);
        }
    }
    for incident in incidents.iter().filter(|incident| !is_before_exec(incident)) {
        reader.add_recorded(&incident.key.exe, incident.sample.pid);
    }
    situation.programs = reader.programs;
}

/// Reads executables until a limit is reached.
struct ProgramReader<'a> {
    root: &'a Path,
    /// The directory that the unit's processes see as `/`; `None` if it is out of reach.
    own_root: Option<PathBuf>,
    /// The users whose files count: root, the owner of the root (a tree that was copied from another machine belongs to
    /// the user who copied it), and the user of a user's unit.
    trusted: Vec<u32>,
    programs: Vec<Program>,
    limits: ReadLimits,
}

/// A file that was opened for reading.
struct OpenedFile {
    /// The path, with links resolved.
    resolved: PathBuf,
    file: File,
    /// Whether only trusted users can write or swap it.
    is_protected: bool,
}

/// How much may still be read.
struct ReadLimits {
    bytes: u64,
    until: Instant,
}

impl<'a> ProgramReader<'a> {
    fn new(root: &'a Path, manager: Manager, settings: &Settings) -> Self {
        let owner = fs::metadata(root).ok().map(|root| root.uid());
        let user = match manager {
            Manager::System => None,
            Manager::User(uid) => Some(uid),
        };
        Self {
            root,
            own_root: find_own_root(root, settings.program()),
            trusted: std::iter::once(0).chain(owner).chain(user).collect(),
            programs: Vec::new(),
            limits: ReadLimits { bytes: MOST_BYTES, until: Instant::now() + LONGEST },
        }
    }

    /// Adds a program that a command line names, by path or by name.
    fn add_command(&mut self, program: &str) {
        if program.contains(['%', '$']) || self.has(program.as_bytes()) {
            return;
        }
        if program.starts_with('/') {
            let file = self.open(Path::new(program));
            self.add(program.as_bytes(), file);
        } else if let Some(found) = self.search(program)
            && !self.has(found.0.as_os_str().as_bytes())
        {
            self.add(found.0.as_os_str().as_bytes(), Some(found.1));
        }
    }

    /// Adds the executable of a record.
    fn add_recorded(&mut self, exe: &[u8], pid: u32) {
        let path = exe.strip_suffix(b" (deleted)").unwrap_or(exe);
        if !path.starts_with(b"/") || self.has(path) {
            return;
        }
        // The kernel records a resolved path: a link is another file, which replaced the executable.
        let is_same = |file: &OpenedFile| below_usr(file.resolved.as_os_str().as_bytes()) == below_usr(exe);
        let by_path = || self.open(Path::new(OsStr::from_bytes(exe))).filter(is_same);
        let file = self.open_running(exe, pid).or_else(by_path);
        self.add(path, file);
    }

    fn has(&self, path: &[u8]) -> bool {
        self.programs.len() >= MOST_PROGRAMS || self.programs.iter().any(|program| *program.path == *path)
    }

    /// Whether only trusted users can write a file.
    fn is_protected(&self, file: &Metadata) -> bool {
        self.trusted.contains(&file.uid()) && file.mode() & WRITABLE_BY_OTHERS == 0
    }

    /// Whether only trusted users can swap a directory or link of a path, from the root to the file.
    fn is_path_protected(&self, tree: RootedTree<'_>, path: &Path) -> bool {
        let mut path = path.to_owned();
        for _ in 0..MOST_LINKS {
            let are_protected = path.ancestors().all(|part| self.is_entry_protected(tree, part));
            let Some(parent) = path.parent().filter(|_| are_protected) else { return false };
            match (tree.read_link(&path), tree.resolve(parent)) {
                (Ok(None), _) => return true,
                (Ok(Some(target)), Ok(parent)) => path = parent.join(target),
                _ => return false,
            }
        }
        false
    }

    fn is_entry_protected(&self, tree: RootedTree<'_>, path: &Path) -> bool {
        let Some((parent, name)) = path.parent().zip(path.file_name()) else { return true };
        let Ok(parent) = tree.resolve(parent) else { return false };
        tree.symlink_metadata(&parent.join(name)).is_ok_and(|entry| {
            let can_be_swapped = entry.is_dir() && entry.mode() & (WRITABLE_BY_ANYONE | STICKY) == WRITABLE_BY_ANYONE;
            self.trusted.contains(&entry.uid()) && !can_be_swapped
        })
    }

    /// Opens a file as the unit's processes see it.
    fn open(&self, path: &Path) -> Option<OpenedFile> {
        let tree = RootedTree::new(self.own_root.as_deref()?);
        let resolved = tree.resolve(path).ok()?;
        let file = tree.open(path).ok()?;
        let is_protected = self.is_protected(&file.metadata().ok()?) && self.is_path_protected(tree, path);
        Some(OpenedFile { resolved, file, is_protected })
    }

    /// Opens the executable of a running process, which may be in a file system of its own.
    fn open_running(&self, exe: &[u8], pid: u32) -> Option<OpenedFile> {
        let link = PathBuf::from(format!("/proc/{pid}/exe"));
        let resolved = fs::read_link(&link).ok().filter(|_| self.root == Path::new("/") && pid != 0)?;
        (resolved.as_os_str().as_bytes() == exe).then_some(())?;
        let file = regular_file::open(&link).ok()?;
        let is_protected = self.is_protected(&file.metadata().ok()?);
        Some(OpenedFile { resolved, file, is_protected })
    }

    /// Searches the directories in which systemd and shells look for a program. Returns its path, without links resolved.
    fn search(&self, name: &str) -> Option<(PathBuf, OpenedFile)> {
        let paths = BINARIES.iter().map(|directory| Path::new(directory).join(name));
        paths
            .filter(|_| !name.is_empty() && !name.contains('/'))
            .find_map(|path| Some((path.clone(), self.open(&path)?)))
    }

    fn add(&mut self, path: &[u8], file: Option<OpenedFile>) {
        let (path, image) = match file {
            Some(file) => self.read(path, file),
            None => (path.into(), ProgramImage::Unread),
        };
        let build = |image: &ProgramImage| match image {
            ProgramImage::Native(file) | ProgramImage::Interpreter(file) => file.build_id.clone(),
            _ => None,
        };
        let (build_id, known) = (build(&image), self.programs.iter().map(|program| build(&program.image)));
        let is_known = self.has(&path) || (build_id.is_some() && known.into_iter().any(|known| known == build_id));
        if !is_known {
            self.programs.push(Program { path, image });
        }
    }

    /// Reads an executable. For a script, reads its interpreter.
    fn read(&mut self, path: &[u8], mut opened: OpenedFile) -> (Box<[u8]>, ProgramImage) {
        let mut path: Box<[u8]> = path.into();
        let mut is_general = false;
        for _ in 0..MOST_INTERPRETERS {
            let mut start = vec![0; usize::try_from(SCRIPT_START).unwrap_or_default()];
            let length = opened.file.read_at(&mut start, 0).unwrap_or_default();
            let named = find_interpreter(start.get(..length).unwrap_or_default()).filter(|_| opened.is_protected);
            let Some((interpreter, argument)) = named else { break };
            let by_name = argument.filter(|_| interpreter.ends_with("/env"));
            let found = match by_name {
                Some(name) => self.search(name).map(|(_, file)| file),
                None => self.open(Path::new(interpreter)),
            };
            path = by_name.unwrap_or(interpreter).as_bytes().into();
            let Some(found) = found else { return (path, ProgramImage::Unread) };
            opened = found;
            is_general = true;
        }
        let OpenedFile { resolved, file, is_protected } = opened;
        if !is_protected {
            return (path, ProgramImage::Unread);
        }
        is_general |= is_interpreter(&path) || is_interpreter(resolved.as_os_str().as_bytes());
        let length = file.metadata().map_or(0, |metadata| metadata.len());
        let image =
            match ElfFile::read(&mut LimitedFile { file, length, limits: &mut self.limits, is_too_large: false }) {
                Some(file) if is_general => ProgramImage::Interpreter(file),
                Some(file) if file.is_static && file.imports.is_empty() => ProgramImage::Static,
                Some(file) => ProgramImage::Native(file),
                None => ProgramImage::Unread,
            };
        (path, image)
    }
}

/// Returns the directory that a unit's processes see as `/`; `None` for an image, and for a directory that is unknown.
fn find_own_root(root: &Path, program: &ProgramSettings) -> Option<PathBuf> {
    if program.has_root_image {
        return None;
    }
    let Some(path) = program.root_directory.as_deref() else { return Some(root.to_owned()) };
    let tree = RootedTree::new(root);
    let is_known = path.starts_with('/') && !path.contains('%');
    is_known.then(|| tree.inner_root(Path::new(path)).ok()).flatten()
}

/// A file that is read within limits.
struct LimitedFile<'a> {
    file: File,
    length: u64,
    limits: &'a mut ReadLimits,
    /// Whether a part was refused because too many bytes were read before.
    is_too_large: bool,
}

impl FileParts for LimitedFile<'_> {
    fn read_part(&mut self, offset: u64, length: usize) -> Option<Vec<u8>> {
        let size = u64::try_from(length).ok()?;
        let is_inside = offset.checked_add(size).is_some_and(|end| end <= self.length);
        if !is_inside || self.is_exhausted() {
            return None;
        }
        let Some(left) = self.limits.bytes.checked_sub(size) else {
            self.is_too_large = true;
            return None;
        };
        self.limits.bytes = left;
        let mut part = vec![0; length];
        self.file.read_exact_at(&mut part, offset).ok()?;
        Some(part)
    }

    fn is_exhausted(&self) -> bool {
        self.is_too_large || Instant::now() > self.limits.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Policy, UnitFile};
    use crate::syscalls::{Abi, Groups};
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    /// Reads the programs of a unit with these lines below a root that has the test's own executable as `/usr/bin/own`.
    fn programs(root: &Path, lines: &str, exes: &[&str]) -> Vec<Program> {
        programs_under(Manager::System, root, lines, exes)
    }

    fn programs_under(manager: Manager, root: &Path, lines: &str, exes: &[&str]) -> Vec<Program> {
        let file = UnitFile::parse(Path::new("x.service"), format!("[Service]\n{lines}\n").as_bytes());
        let settings = Settings::new(&"x.service".parse().unwrap(), Some(file), Vec::new());
        let policy = Policy::new(settings, &Groups::embedded().with_native(Abi::X86_64));
        let drop_in = PathBuf::from("/etc/systemd/system/x.service.d/zz-harden-why.conf");
        let mut situation = Situation { policy, drop_in, history: None, programs: Vec::new() };
        let mut reader = ProgramReader::new(root, manager, &situation.policy.settings);
        for exe in exes {
            reader.add_recorded(exe.as_bytes(), 0);
        }
        let recorded = reader.programs;
        read_programs(&mut situation, manager, root, &[]);
        situation.programs.into_iter().chain(recorded).collect()
    }

    fn machine() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for dir in ["usr/bin", "usr/sbin", "srv/jail/usr/bin", "tmp"] {
            fs::create_dir_all(root.path().join(dir)).unwrap();
        }
        symlink("usr/bin", root.path().join("bin")).unwrap();
        let own = std::env::current_exe().unwrap();
        for path in ["usr/bin/own", "srv/jail/usr/bin/jailed", "usr/bin/python3.11", "tmp/evil"] {
            fs::copy(&own, root.path().join(path)).unwrap();
            fs::set_permissions(root.path().join(path), fs::Permissions::from_mode(0o755)).unwrap();
        }
        root
    }

    fn describe(programs: &[Program]) -> Vec<String> {
        let kind = |image: &ProgramImage| match image {
            ProgramImage::Native(file) if file.imports.contains("socket") => "native",
            ProgramImage::Native(_) => "empty",
            ProgramImage::Interpreter(_) => "interpreter",
            ProgramImage::Static => "static",
            ProgramImage::Unread => "unread",
        };
        programs.iter().map(|one| format!("{} {}", String::from_utf8_lossy(&one.path), kind(&one.image))).collect()
    }

    #[test]
    fn executable_is_read_below_the_root_by_path_and_by_name() {
        let root = machine();
        assert_eq!(describe(&programs(root.path(), "ExecStart=/bin/own -x", &[])), ["/bin/own native"]);
        assert_eq!(describe(&programs(root.path(), "ExecStart=own", &[])), ["/usr/bin/own native"]);
        assert_eq!(describe(&programs(root.path(), "ExecStart=/bin/missing", &[])), ["/bin/missing unread"]);
        assert_eq!(describe(&programs(root.path(), "ExecStart=+/bin/own\nExecReload=/bin/own", &[])), [""; 0]);
        let shell = programs(root.path(), "ExecStart=/bin/sh -c 'exec own'", &[]);
        assert_eq!(describe(&shell), ["/bin/sh unread", "/usr/bin/own native"]);
    }

    #[test]
    fn executable_is_read_in_the_root_directory_of_the_unit() {
        let root = machine();
        let lines = "RootDirectory=/srv/jail\nExecStart=/usr/bin/jailed";
        assert_eq!(describe(&programs(root.path(), lines, &[])), ["/usr/bin/jailed native"]);
        assert_eq!(describe(&programs(root.path(), "ExecStart=/usr/bin/jailed", &[])), ["/usr/bin/jailed unread"]);
    }

    #[test]
    fn file_outside_the_units_root_is_no_evidence() {
        let root = machine();
        for setting in
            ["RootImage=/srv/x.raw", "RootDirectory=/srv/jail", "RootDirectory=/srv/%i", "RootDirectory=jail"]
        {
            let lines = format!("{setting}\nExecStart=/usr/bin/own\nExecStartPre=own");
            let found = describe(&programs(root.path(), &lines, &["/usr/bin/python3.11"]));
            assert_eq!(found, ["/usr/bin/own unread", "/usr/bin/python3.11 unread"], "{setting}");
        }
        fs::write(root.path().join("srv/jail/usr/bin/script"), "#!/usr/bin/own\n").unwrap();
        let script = programs(root.path(), "RootDirectory=/srv/jail\nExecStart=/usr/bin/script", &[]);
        assert_eq!(describe(&script), ["/usr/bin/own unread"]);
    }

    #[test]
    fn command_that_the_units_user_can_write_or_swap_is_no_evidence() {
        let root = machine();
        let home = root.path().join("home/u");
        fs::create_dir_all(&home).unwrap();
        symlink("/usr/bin/own", home.join("link")).unwrap();
        fs::copy(root.path().join("tmp/evil"), home.join("app")).unwrap();
        fs::write(root.path().join("usr/bin/script"), "#!/home/u/app\n").unwrap();
        let kinds = |manager| {
            ["app", "link"].map(|name| {
                describe(&programs_under(manager, root.path(), &format!("ExecStart=/home/u/{name}"), &[])).concat()
            })
        };
        assert_eq!(kinds(Manager::System), ["/home/u/app native", "/home/u/link native"]);
        fs::set_permissions(&home, fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(kinds(Manager::System), ["/home/u/app unread", "/home/u/link unread"]);
        fs::set_permissions(&home, fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(home.join("app"), fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(kinds(Manager::System), ["/home/u/app unread", "/home/u/link native"]);
        assert_eq!(describe(&programs(root.path(), "ExecStart=/usr/bin/script", &[])), ["/home/u/app unread"]);
        if nix::unistd::geteuid().is_root() {
            fs::set_permissions(home.join("app"), fs::Permissions::from_mode(0o755)).unwrap();
            for path in [home.join("app"), home.join("link")] {
                std::os::unix::fs::lchown(path, Some(1234), None).unwrap();
            }
            assert_eq!(kinds(Manager::System), ["/home/u/app unread", "/home/u/link unread"]);
            assert_eq!(kinds(Manager::User(1234)), ["/home/u/app native", "/home/u/link native"]);
        }
    }

    #[test]
    fn recorded_executable_that_was_replaced_is_no_evidence() {
        let root = machine();
        symlink("/usr/bin/own", root.path().join("usr/bin/link")).unwrap();
        for exe in ["/usr/bin/link", "/usr/bin/link (deleted)", "/usr/bin/own (deleted)"] {
            let path = exe.strip_suffix(" (deleted)").unwrap_or(exe);
            assert_eq!(describe(&programs(root.path(), "", &[exe])), [format!("{path} unread")], "{exe}");
        }
        assert_eq!(describe(&programs(root.path(), "", &["/bin/own"])), ["/bin/own native"]);
    }

    #[test]
    fn script_leads_to_its_interpreter() {
        let root = machine();
        fs::write(root.path().join("usr/bin/own-script"), "#!/usr/bin/own\n").unwrap();
        let own = programs(root.path(), "ExecStart=/usr/bin/own-script", &[]);
        assert_eq!(describe(&own), ["/usr/bin/own interpreter"], "whatever runs a script is one");
        symlink("python3.11", root.path().join("usr/bin/python3")).unwrap();
        fs::write(root.path().join("usr/bin/script"), "#!/usr/bin/env python3\n").unwrap();
        fs::write(root.path().join("usr/bin/loop"), "#!/usr/bin/loop\n").unwrap();
        assert_eq!(describe(&programs(root.path(), "ExecStart=/usr/bin/script", &[])), ["python3 interpreter"]);
        assert_eq!(describe(&programs(root.path(), "ExecStart=/usr/bin/loop", &[])), ["/usr/bin/loop unread"]);
    }

    #[test]
    fn recorded_executable_that_others_can_write_is_no_evidence() {
        let root = machine();
        fs::set_permissions(root.path().join("tmp/evil"), fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(describe(&programs(root.path(), "", &["/usr/bin/own"])), ["/usr/bin/own native"]);
        assert_eq!(describe(&programs(root.path(), "", &["/tmp/evil"])), ["/tmp/evil unread"]);
        assert_eq!(describe(&programs(root.path(), "", &["relative", ""])), [""; 0]);
        if nix::unistd::geteuid().is_root() {
            fs::set_permissions(root.path().join("tmp/evil"), fs::Permissions::from_mode(0o755)).unwrap();
            std::os::unix::fs::chown(root.path().join("tmp/evil"), Some(1234), None).unwrap();
            assert_eq!(describe(&programs(root.path(), "", &["/tmp/evil"])), ["/tmp/evil unread"]);
        }
    }

    #[test]
    fn file_that_is_no_program_is_unread() {
        let root = machine();
        fs::write(root.path().join("usr/bin/text"), "no ELF file").unwrap();
        nix::unistd::mkfifo(&root.path().join("usr/bin/pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        for name in ["text", "pipe"] {
            let found = programs(root.path(), &format!("ExecStart=/usr/bin/{name}"), &[]);
            assert_eq!(describe(&found), [format!("/usr/bin/{name} unread")]);
        }
    }
}
