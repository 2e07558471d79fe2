//! Opens paths that a process or a user named, and enters no FUSE file system that a program of another user serves.
//!
//! Each lookup, `stat(2)` and read there waits for that program. If it does not answer, not even SIGKILL ends the wait
//! (`request_wait_answer` of `fs/fuse/dev.c`), so neither a thread nor a child with a deadline would help. The kernel
//! resolves a path up to the next mount (`RESOLVE_NO_XDEV`, `openat2(2)`). From there on, a walk opens each component as a
//! handle (`O_PATH`), which asks no file system, and looks up its mount before it goes on.

use super::mounts::{Mount, MountTable};
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat, openat2, readlinkat};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;
use std::cell::RefCell;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};
use std::{fs, io};

/// The limit of links to follow for one path, which is the kernel's limit too (`path_resolution(7)`).
const MOST_LINKS: usize = 40;

/// The limit of components to resolve for one path, those of its links included. Each costs a system call.
const MOST_COMPONENTS: usize = 256;

/// How often to open a file again when a rename or mount elsewhere disturbs the kernel's resolution (`EAGAIN`).
const MOST_ATTEMPTS: usize = 8;

/// A handle of a file, which reads nothing.
const HANDLE: OFlag = OFlag::O_PATH.union(OFlag::O_CLOEXEC);

/// What a link at the end of a path stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LastLink {
    Target,
    Itself,
}

/// A file is on a file system that a program of another user serves.
#[derive(Debug, thiserror::Error)]
#[error("a program of {} serves its file system (FUSE), and need not answer", .0.map_or("a user".to_owned(), |uid| format!("uid {uid}")))]
struct ServedByUser(Option<u32>);

/// Whether an error means that a file is on a file system that a program of another user serves.
pub(crate) fn is_served_by_user(error: &io::Error) -> bool {
    error.get_ref().and_then(|inner| inner.downcast_ref::<ServedByUser>()).is_some()
}

/// Opens a handle (`O_PATH`) of a directory whose path the caller trusts.
pub(crate) fn open_root(path: &Path) -> io::Result<File> {
    Ok(nix::fcntl::open(path, HANDLE | OFlag::O_DIRECTORY, Mode::empty())?.into())
}

/// Opens a handle (`O_PATH`) of a file. The path and its links are resolved inside the root.
///
/// # Errors
/// The file is missing or out of reach, or on a file system that a program of another user serves.
pub(crate) fn open_in(root: &File, path: &Path, last_link: LastLink) -> io::Result<File> {
    let path = if path.as_os_str().is_empty() { Path::new("/") } else { path };
    let flags = if last_link == LastLink::Itself { HANDLE | OFlag::O_NOFOLLOW } else { HANDLE };
    let how = OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_XDEV);
    for _ in 0..MOST_ATTEMPTS {
        match openat2(root, path, how) {
            Ok(file) => return Ok(file.into()),
            Err(Errno::EAGAIN) => {}
            // Kernels before 5.6 lack the call, and old sandboxes refuse it.
            Err(Errno::EXDEV | Errno::ENOSYS | Errno::EPERM) => return Walk::new(root, last_link).open(path),
            Err(error) => return Err(error.into()),
        }
    }
    Err(Errno::EAGAIN.into())
}

/// Resolves links and `..` of a path inside the root. Keeps missing components as written.
///
/// # Errors
/// The path has too many links or components, an unreadable link, or leads to a file system that a program of another user
/// serves.
pub(crate) fn resolve_in(root: &File, path: &Path) -> io::Result<PathBuf> {
    let names = path.components().filter(|part| matches!(part, Component::Normal(_)));
    let plain = Path::new("/").join(names.collect::<PathBuf>());
    let is_plain =
        path.components().count() <= MOST_COMPONENTS && !path.components().any(|part| part == Component::ParentDir);
    if is_plain {
        let resolve = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_XDEV | ResolveFlag::RESOLVE_NO_SYMLINKS;
        // A missing file comes after its directories, which are no links.
        match openat2(root, &*plain, OpenHow::new().flags(HANDLE).resolve(resolve)) {
            Ok(_) | Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(plain),
            Err(_) => {}
        }
    }
    Walk::new(root, LastLink::Target).resolve(path)
}

/// Opens a handle (`O_PATH`) of a file of this machine, as [`open_in`] does.
pub(crate) fn open_handle(path: &Path, last_link: LastLink) -> io::Result<File> {
    open_in(&open_root(Path::new("/"))?, path, last_link)
}

/// Opens a handle (`O_PATH`) of the executable of a process, which may be on a mount that only the process sees.
pub(crate) fn open_executable(pid: u32) -> io::Result<File> {
    let link = Path::new("/proc").join(pid.to_string()).join("exe");
    let table = MountTable::read(&pid.to_string())?;
    table.holding(fs::read_link(&link)?.as_os_str().as_bytes()).map_or(Ok(()), check_mount)?;
    let file: File = nix::fcntl::open(&link, HANDLE, Mode::empty())?.into();
    let mount = mount_id(&file).and_then(|id| table.with_id(id));
    mount.ok_or(io::Error::from(Errno::ESTALE)).and_then(check_mount)?;
    Ok(file)
}

/// A walk to a file, component by component.
struct Walk<'a> {
    root: &'a File,
    last_link: LastLink,
    /// The names from the root to the place reached, with the handles of those that exist.
    place: Vec<(OsString, Option<File>)>,
    /// The components that are yet to be resolved, last one first.
    pending: Vec<OsString>,
    /// How many components and links the path had up to here.
    components: usize,
    links: usize,
    /// Why the first missing component is missing.
    missing: Option<io::Error>,
}

impl<'a> Walk<'a> {
    fn new(root: &'a File, last_link: LastLink) -> Self {
        let (place, pending) = Default::default();
        Self { root, last_link, place, pending, components: 0, links: 0, missing: None }
    }

    fn open(mut self, path: &Path) -> io::Result<File> {
        self.go(path)?;
        match (self.missing, self.place.pop()) {
            (Some(missing), _) => Err(missing),
            (None, Some((_, Some(file)))) => Ok(file),
            (None, _) => self.root.try_clone(),
        }
    }

    fn resolve(mut self, path: &Path) -> io::Result<PathBuf> {
        self.go(path)?;
        Ok(std::iter::once(OsStr::new("/")).chain(self.place.iter().map(|(name, _)| name.as_os_str())).collect())
    }

    fn go(&mut self, path: &Path) -> io::Result<()> {
        self.add(path)?;
        while let Some(part) = self.pending.pop() {
            match Path::new(&part).components().next() {
                Some(Component::RootDir) => self.place.clear(),
                Some(Component::ParentDir) => _ = self.place.pop(),
                Some(Component::Normal(name)) => self.enter(name)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn add(&mut self, path: &Path) -> io::Result<()> {
        self.components += path.components().count();
        if self.components > MOST_COMPONENTS {
            return Err(Errno::ENAMETOOLONG.into());
        }
        self.pending.extend(path.components().rev().map(|part| part.as_os_str().to_owned()));
        Ok(())
    }

    fn enter(&mut self, name: &OsStr) -> io::Result<()> {
        let directory = self.place.last().map_or(Some(self.root), |(_, file)| file.as_ref());
        let file = match directory.map(|directory| open_child(directory, name)) {
            Some(Ok(file)) => Some(file),
            Some(Err(error)) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                self.missing.get_or_insert(error);
                None
            }
            Some(Err(error)) => return Err(error),
            None => None,
        };
        let is_followed = self.last_link == LastLink::Target || !self.pending.is_empty();
        // An empty path reads the link that the handle is (`readlink(2)`); any other file is ENOENT.
        let target = file.as_ref().filter(|_| is_followed).map(|file| readlinkat(file, ""));
        match target {
            Some(Ok(target)) => {
                self.links += 1;
                if self.links > MOST_LINKS { Err(Errno::ELOOP.into()) } else { self.add(Path::new(&target)) }
            }
            Some(Err(error)) if error != Errno::ENOENT && error != Errno::EINVAL => Err(error.into()),
            _ => {
                self.place.push((name.to_owned(), file));
                Ok(())
            }
        }
    }
}

/// Opens a handle of a directory's entry; of a link itself.
fn open_child(directory: &File, name: &OsStr) -> io::Result<File> {
    let flags = HANDLE | OFlag::O_NOFOLLOW;
    match openat2(directory, name, OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_NO_XDEV)) {
        Ok(file) => return Ok(file.into()),
        Err(Errno::EXDEV | Errno::ENOSYS | Errno::EPERM) => {}
        Err(error) => return Err(error.into()),
    }
    // With audit rules, opening a handle reads an extended attribute of the file (`audit_copy_fcaps` of
    // `kernel/auditsc.c`), so a look at the mounts comes before it as well.
    with_mounts(|mounts| {
        let parent = fs::read_link(format!("/proc/self/fd/{}", directory.as_raw_fd()))?;
        mounts.holding(parent.join(name).as_os_str().as_bytes()).map_or(Ok(()), check_mount)
    })?;
    let open = |flags: OFlag| io::Result::Ok(File::from(openat(directory, name, flags, Mode::empty())?));
    let file = open(flags)?;
    if !check_child_mount(&file, directory)? {
        return Ok(file);
    }
    // A request for a directory makes the kernel mount the file system that belongs there.
    let file = open(flags | OFlag::O_DIRECTORY)?;
    check_child_mount(&file, directory)?;
    Ok(file)
}

/// Checks the mount of an entry if it is not the directory's. Returns whether it is one for automounts.
fn check_child_mount(file: &File, directory: &File) -> io::Result<bool> {
    with_mounts(|mounts| {
        let id = mount_id(file);
        if id == mount_id(directory) {
            return Ok(false);
        }
        // A mount that is in no table any more is gone.
        let mount = id.and_then(|id| mounts.with_id(id)).ok_or(Errno::ESTALE)?;
        check_mount(mount)?;
        Ok(mount.fs_type == b"autofs")
    })
    .map(Option::unwrap_or_default)
}

fn check_mount(mount: &Mount) -> io::Result<()> {
    let is_own = |uid: u32| uid == 0 || uid == nix::unistd::geteuid().as_raw();
    let uid = mount.super_value("user_id").and_then(|uid| uid.parse().ok());
    let is_fuse = mount.fs_type == b"fuse" || mount.fs_type == b"fuseblk" || mount.fs_type.starts_with(b"fuse.");
    if is_fuse && !uid.is_some_and(is_own) { Err(io::Error::other(ServedByUser(uid))) } else { Ok(()) }
}

/// Returns the mount of an open file (`proc_pid_fdinfo(5)`).
fn mount_id(file: &File) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd())).ok()?;
    text.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok())
}

/// The mounts of this thread, and the file that reports changes to them (`proc_pid_mounts(5)`).
struct WatchedMounts {
    file: File,
    table: MountTable,
}

thread_local! {
    static MOUNTS: RefCell<Option<WatchedMounts>> = const { RefCell::new(None) };
}

/// Calls a function with the present mounts of this thread; `None` without `/proc`, where they are unknown.
fn with_mounts<T>(function: impl FnOnce(&MountTable) -> io::Result<T>) -> io::Result<Option<T>> {
    MOUNTS.with_borrow_mut(|known| {
        if !known.as_ref().is_some_and(is_current) {
            let open = || {
                let file = File::open("/proc/thread-self/mountinfo")?;
                Ok::<_, io::Error>(WatchedMounts { table: MountTable::read_from(&file)?, file })
            };
            *known = match open() {
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
                opened => Some(opened?),
            };
        }
        known.as_ref().map(|known| function(&known.table)).transpose()
    })
}

fn is_current(known: &WatchedMounts) -> bool {
    // Each change is reported once for each open file.
    let mut files = [PollFd::new(known.file.as_fd(), PollFlags::POLLPRI)];
    poll(&mut files, PollTimeout::ZERO) == Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::mounts::is_in_chroot;
    use nix::sched::{CloneFlags, unshare};
    use std::ffi::CString;
    use std::fs::OpenOptions;
    use std::os::unix::fs::symlink;

    fn mount(kind: &str, point: &Path, flags: libc::c_ulong, options: &str) {
        let c = |bytes: &[u8]| CString::new(bytes).unwrap();
        let (kind, point, options) = (c(kind.as_bytes()), c(point.as_os_str().as_bytes()), c(options.as_bytes()));
        // SAFETY: all strings end with a zero byte and outlive the call.
        let status =
            unsafe { libc::mount(kind.as_ptr(), point.as_ptr(), kind.as_ptr(), flags, options.as_ptr().cast()) };
        assert_eq!(status, 0, "{point:?}: {}", io::Error::last_os_error());
    }

    fn serve(point: &Path, uid: u32) -> File {
        let device = OpenOptions::new().read(true).write(true).open("/dev/fuse").unwrap();
        let (fd, flags) = (device.as_raw_fd(), libc::MS_NOSUID | libc::MS_NODEV);
        mount("fuse", point, flags, &format!("fd={fd},rootmode=40000,user_id={uid},group_id=0,allow_other"));
        device
    }

    fn unmount(point: &Path) {
        let point = CString::new(point.as_os_str().as_bytes()).unwrap();
        // SAFETY: the string ends with a zero byte and outlives the call.
        assert_eq!(unsafe { libc::umount2(point.as_ptr(), libc::MNT_DETACH) }, 0);
    }

    /// Runs a function in a mount namespace of its own, whose mounts no other test sees.
    fn with_own_mounts(function: impl FnOnce() + Send + 'static) {
        if !nix::unistd::geteuid().is_root() || !Path::new("/dev/fuse").exists() {
            return println!("skipped: only root mounts, and only where the kernel has FUSE");
        }
        let run = || {
            unshare(CloneFlags::CLONE_NEWNS).unwrap();
            mount("none", Path::new("/"), libc::MS_REC | libc::MS_PRIVATE, "");
            function();
        };
        std::thread::spawn(run).join().unwrap();
    }

    #[test]
    fn mount_that_appears_later_is_not_entered() {
        if is_in_chroot() {
            return;
        }
        with_own_mounts(|| {
            let dir = tempfile::tempdir().unwrap();
            let (point, other) = (dir.path().join("a/served"), dir.path().join("a/other"));
            for directory in [&point, &other] {
                fs::create_dir_all(directory).unwrap();
                fs::write(directory.join("file"), "").unwrap();
            }
            mount("tmpfs", &other, 0, "");
            fs::write(other.join("file"), "").unwrap();
            symlink("../served/file", other.join("link")).unwrap();
            let root = open_root(dir.path()).unwrap();
            let (file, link) = (Path::new("a/served/file"), Path::new("/a/other/link"));
            let opened = |path: &Path| open_in(&root, path, LastLink::Target).map(drop);
            let resolved = |path: &Path| resolve_in(&root, path);
            for path in [file, link] {
                opened(path).unwrap();
                assert_eq!(resolved(path).unwrap(), Path::new("/a/served/file"));
            }
            let device = serve(&point, 65_534);
            for path in [file, link, Path::new("a/served"), Path::new("a/other/../served/none/x")] {
                let errors = [opened(path).unwrap_err(), resolved(path).map(drop).unwrap_err()];
                assert!(errors.iter().all(is_served_by_user), "{path:?}: {errors:?}");
            }
            assert!(is_served_by_user(&open_handle(&point, LastLink::Target).unwrap_err()));
            opened(Path::new("a/other/file")).unwrap();
            unmount(&point);
            drop(device);
            opened(link).unwrap();
            // This process's own, as an encrypted home is a user's own.
            let device = serve(&point, 0);
            opened(Path::new("a/served")).unwrap();
            unmount(&point);
            unmount(&other);
            drop(device);
        });
    }
}
