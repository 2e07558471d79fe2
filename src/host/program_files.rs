//! Reads the executables of a unit: those that its command lines name, and those in its records.
//!
//! The caller's own rights decide which files are readable. Size and time are limited, and any file may be hostile.
//! A file that the unit's processes could have written or swapped is no evidence, nor one outside the root directory
//! that they see.

mod libraries;
pub(super) mod limited_file;
mod read_cache;

use self::limited_file::{LimitedFile, ReadLimits};
use self::read_cache::{BuildKey, ReadProgram};
use crate::diagnosis::{Situation, is_before_exec};
use crate::incidents::Incident;
use crate::kernel::fuse_guard::{is_served_by_user, open_executable};
use crate::policy::ProgramSettings;
use crate::policy::launched::find_launched;
use crate::policy::program_path::below_usr;
use crate::programs::interpreter::{find_interpreter, is_interpreter};
use crate::programs::library_calls::{DEEPEST, ReachedCalls};
use crate::programs::{ElfFile, FileParts as _, Program, ProgramImage, UnreadReason};
use crate::unit_files::executables::BINARIES;
use crate::unit_files::regular_file;
use crate::unit_files::rooted::RootedTree;
use crate::units::Manager;
use std::ffi::OsStr;
use std::fs;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

/// The limit on programs of a unit.
const MOST_PROGRAMS: usize = 16;

/// The limit on the bytes read from all executables of a unit.
const MOST_BYTES: u64 = 256 << 20;

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
    read_programs_within(ReadLimits::new(MOST_BYTES, LONGEST), situation, manager, root, incidents);
}

fn read_programs_within(
    limits: ReadLimits,
    situation: &mut Situation,
    manager: Manager,
    root: &Path,
    incidents: &[Incident],
) {
    let settings = &situation.policy.settings;
    let mut reader = ProgramReader::new(root, manager, settings.program(), limits);
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

/// Reads one executable below a root, and follows its libraries to a depth. Takes its time: for measurements.
#[must_use]
pub fn read_executable(root: &Path, executable: &Path, deepest: u32) -> Option<Program> {
    const UNHURRIED: Duration = Duration::from_mins(1);
    let limits = ReadLimits::new(u64::MAX, UNHURRIED);
    let mut reader = ProgramReader::new(root, Manager::System, &ProgramSettings::default(), limits);
    reader.deepest = deepest;
    reader.add_command(executable.to_str()?);
    reader.programs.pop()
}

/// Reads executables until a limit is reached.
struct ProgramReader<'a> {
    root: &'a Path,
    /// The directory below the root that the unit's processes see as `/`; `None` if it is out of reach.
    own_root: Option<PathBuf>,
    /// The users whose files count: root, the owner of the root (a tree that was copied from another machine belongs to
    /// the user who copied it), and the user of a user's unit.
    trusted: Vec<u32>,
    programs: Vec<Program>,
    limits: Rc<ReadLimits>,
    /// How deep the functions of libraries are followed.
    deepest: u32,
}

/// A file that was opened for reading.
struct OpenedFile {
    /// The path, with links resolved.
    resolved: PathBuf,
    file: File,
    /// Whether only trusted users can write or swap it.
    is_protected: bool,
}

impl<'a> ProgramReader<'a> {
    fn new(root: &'a Path, manager: Manager, settings: &ProgramSettings, limits: ReadLimits) -> Self {
        let owner = fs::metadata(root).ok().map(|root| root.uid());
        let user = match manager {
            Manager::System => None,
            Manager::User(uid) => Some(uid),
        };
        Self {
            root,
            own_root: find_own_root(root, settings),
            trusted: std::iter::once(0).chain(owner).chain(user).collect(),
            programs: Vec::new(),
            limits: Rc::new(limits),
            deepest: DEEPEST,
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
            self.add(found.0.as_os_str().as_bytes(), Ok(found.1));
        }
    }

    /// Adds the executable of a record.
    fn add_recorded(&mut self, exe: &[u8], pid: u32) {
        let deleted = exe.strip_suffix(b" (deleted)");
        let path = deleted.unwrap_or(exe);
        if !path.starts_with(b"/") || self.has(path) {
            return;
        }
        // The kernel records a resolved path: a link is another file, which replaced the executable.
        let is_same = |file: &OpenedFile| below_usr(file.resolved.as_os_str().as_bytes()) == below_usr(exe);
        let by_path = || {
            if deleted.is_some() {
                return Err(UnreadReason::Replaced);
            }
            let file = self.open(Path::new(OsStr::from_bytes(exe)))?;
            if is_same(&file) { Ok(file) } else { Err(UnreadReason::Replaced) }
        };
        let file = self.open_running(exe, pid).map_or_else(by_path, Ok);
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

    /// The files that the unit's processes see.
    fn own_tree(&self) -> Option<RootedTree<'_>> {
        Some(RootedTree::new(self.root).with_inner_root(self.own_root.as_deref()?))
    }

    /// Opens a file as the unit's processes see it.
    fn open(&self, path: &Path) -> Result<OpenedFile, UnreadReason> {
        let tree = self.own_tree().ok_or(UnreadReason::OutOfReach)?;
        let opened = || -> io::Result<OpenedFile> {
            let resolved = tree.resolve(path)?;
            let file = tree.open(path)?;
            let is_protected = self.is_protected(&file.metadata()?) && self.is_path_protected(tree, path);
            Ok(OpenedFile { resolved, file, is_protected })
        };
        opened().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => UnreadReason::Missing,
            io::ErrorKind::PermissionDenied => UnreadReason::NotPermitted,
            _ if is_served_by_user(&error) => UnreadReason::ServedByUser,
            _ => UnreadReason::Unusable,
        })
    }

    /// Opens the executable of a running process, which may be in a file system of its own.
    fn open_running(&self, exe: &[u8], pid: u32) -> Option<OpenedFile> {
        let resolved =
            fs::read_link(format!("/proc/{pid}/exe")).ok().filter(|_| self.root == Path::new("/") && pid != 0)?;
        (resolved.as_os_str().as_bytes() == exe).then_some(())?;
        let handle = open_executable(pid).ok()?;
        let file = regular_file::reopen(&handle, || Err(io::ErrorKind::NotFound.into())).ok()?;
        let is_protected = self.is_protected(&file.metadata().ok()?);
        Some(OpenedFile { resolved, file, is_protected })
    }

    /// Searches the directories in which systemd and shells look for a program. Returns its path, without links resolved.
    fn search(&self, name: &str) -> Option<(PathBuf, OpenedFile)> {
        let paths = BINARIES.iter().map(|directory| Path::new(directory).join(name));
        paths
            .filter(|_| !name.is_empty() && !name.contains('/'))
            .find_map(|path| Some((path.clone(), self.open(&path).ok()?)))
    }

    fn add(&mut self, path: &[u8], file: Result<OpenedFile, UnreadReason>) {
        let program = match file {
            Ok(file) => self.read(path, file),
            Err(reason) => Program::new(path, ProgramImage::Unread(reason)),
        };
        let build = |image: &ProgramImage| match image {
            ProgramImage::Native(file) | ProgramImage::Interpreter(file) => file.build_id.clone(),
            _ => None,
        };
        let (build_id, known) = (build(&program.image), self.programs.iter().map(|program| build(&program.image)));
        let is_known =
            self.has(&program.path) || (build_id.is_some() && known.into_iter().any(|known| known == build_id));
        if !is_known {
            self.programs.push(program);
        }
    }

    /// Reads an executable. For a script, reads its interpreter.
    fn read(&mut self, path: &[u8], mut opened: OpenedFile) -> Program {
        let mut path: Box<[u8]> = path.into();
        let mut is_general = false;
        for _ in 0..MOST_INTERPRETERS {
            let mut start = vec![0; usize::try_from(SCRIPT_START).unwrap_or_default()];
            let length = opened.file.read_at(&mut start, 0).unwrap_or_default();
            let named = find_interpreter(start.get(..length).unwrap_or_default()).filter(|_| opened.is_protected);
            let Some((interpreter, arguments)) = named else { break };
            let launched = || find_launched(interpreter, &arguments).into_iter().next();
            let by_name = interpreter.ends_with("/env").then(launched).flatten();
            let found = match &by_name {
                Some(name) if name.starts_with('/') => self.open(Path::new(name)),
                Some(name) => self.search(name).map(|(_, file)| file).ok_or(UnreadReason::Missing),
                None => self.open(Path::new(interpreter)),
            };
            path = by_name.as_deref().unwrap_or(interpreter).as_bytes().into();
            opened = match found {
                Ok(found) => found,
                Err(reason) => return Program::new(path, ProgramImage::Unread(reason)),
            };
            is_general = true;
        }
        let OpenedFile { resolved, file, is_protected } = opened;
        if !is_protected {
            return Program::new(path, ProgramImage::Unread(UnreadReason::Replaceable));
        }
        is_general |= is_interpreter(&path) || is_interpreter(resolved.as_os_str().as_bytes());
        let ReadProgram { file, reached } = match self.read_linked(file, &resolved, !is_general) {
            Ok(read) => read,
            Err(reason) => return Program::new(path, ProgramImage::Unread(reason)),
        };
        let image = match file {
            file if is_general => ProgramImage::Interpreter(file),
            file if file.is_static && file.imports.is_empty() && file.numbers.is_empty() => ProgramImage::Static,
            file => ProgramImage::Native(file),
        };
        Program { path, image, libraries: reached.libraries, unread_libraries: reached.unread }
    }

    /// Reads an executable, and what it reaches through its libraries if they count. A build that this process has read
    /// before is not read again, unless a library was not read to its end.
    fn read_linked(&self, file: File, resolved: &Path, with_libraries: bool) -> Result<ReadProgram, UnreadReason> {
        let metadata = file.metadata().map_err(|_| UnreadReason::Unusable)?;
        let mut parts = LimitedFile::new(file, metadata.len(), Rc::clone(&self.limits));
        let build_id = ElfFile::read_build_id(&mut parts);
        let roots = (self.root.to_owned(), self.own_root.clone().unwrap_or_default());
        let key = build_id.map(|id| BuildKey::new(id, &metadata, roots, with_libraries.then_some(self.deepest)));
        if let Some(known) = key.as_ref().and_then(read_cache::find) {
            return Ok(known);
        }
        let Some((file, linkage)) = ElfFile::read(&mut parts) else {
            return Err(if parts.is_exhausted() { UnreadReason::Unreached } else { UnreadReason::Unusable });
        };
        let reached = if with_libraries { self.read_libraries(resolved, &linkage) } else { ReachedCalls::default() };
        let read = ReadProgram { file, reached };
        if let Some(key) = key.filter(|_| read.reached.unread.is_empty()) {
            read_cache::add(key, &read);
        }
        Ok(read)
    }
}

/// Returns the directory below a root that a unit's processes see as `/`; `None` for an image, and for a directory that is unknown.
fn find_own_root(root: &Path, program: &ProgramSettings) -> Option<PathBuf> {
    if program.has_root_image {
        return None;
    }
    let Some(path) = program.root_directory.as_deref() else { return Some(PathBuf::new()) };
    let is_known = path.starts_with('/') && !path.contains('%');
    is_known.then(|| RootedTree::new(root).resolve(Path::new(path)).ok()).flatten()
}

#[cfg(test)]
mod tests;
