//! Opens all files below a root. The kernel resolves symbolic links inside the root (`openat2(2)`,
//! `RESOLVE_IN_ROOT`), so no link leads out of it, even if another process swaps files during the read. No path leads
//! into a file system that a program of another user serves ([`fuse_guard`]).
//!
//! `tests/house.rs` refuses reads of files below a root in other modules.

use super::regular_file;
use crate::audit::text::escape;
use crate::kernel::fuse_guard::{self, LastLink};
use crate::policy::FileNote;
use nix::fcntl::{OFlag, openat, readlinkat};
use nix::sys::stat::Mode;
use std::fs::{File, Metadata};
use std::io::{ErrorKind, Read as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};
use std::{fs, io};

/// The size limit of a file, in bytes. Reading a larger file fails.
pub(crate) const LARGEST_FILE: u64 = 1024 * 1024;

/// The limit of entries to read from a directory.
const MOST_ENTRIES: usize = 20_000;

/// The files below a root. All paths are paths inside the root.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RootedTree<'a> {
    root: &'a Path,
    /// The directory inside the root that is this tree's own root.
    inner: &'a Path,
}

/// The kind of a directory entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EntryKind {
    File,
    Link,
    Other,
}

impl<'a> RootedTree<'a> {
    pub(crate) fn new(root: &'a Path) -> Self {
        Self { root, inner: Path::new("") }
    }

    /// The root.
    pub(crate) fn root(self) -> &'a Path {
        self.root
    }

    /// The files below a directory inside the root.
    pub(crate) fn with_inner_root(self, inner: &'a Path) -> Self {
        Self { inner, ..self }
    }

    /// Converts a path inside the root to a path on this machine, without following links. Drops `..`.
    fn host_path(self, path: &Path) -> PathBuf {
        let parts = self.inner.components().chain(path.components());
        let names = parts.filter(|part| matches!(part, Component::Normal(_)));
        names.fold(self.root.to_path_buf(), |path, part| path.join(part))
    }

    fn open_root(self) -> io::Result<File> {
        let root = fuse_guard::open_root(self.root)?;
        if self.inner.as_os_str().is_empty() {
            Ok(root)
        } else {
            fuse_guard::open_in(&root, self.inner, LastLink::Target)
        }
    }

    /// Opens a handle of a file, which reads nothing (`O_PATH`).
    fn open_handle(self, path: &Path, last_link: LastLink) -> io::Result<File> {
        fuse_guard::open_in(&self.open_root()?, path, last_link)
    }

    /// Resolves links and `..`. Keeps missing components as written.
    ///
    /// # Errors
    /// The path has too many links or components, or an unreadable link.
    pub(crate) fn resolve(self, path: &Path) -> io::Result<PathBuf> {
        fuse_guard::resolve_in(&self.open_root()?, path)
    }

    /// The target of a link; `None` for any other file, and for a missing one.
    pub(crate) fn read_link(self, path: &Path) -> io::Result<Option<PathBuf>> {
        // An empty path reads the link that the handle is (`readlink(2)`); any other file is ENOENT.
        let read = self.open_handle(path, LastLink::Itself).and_then(|link| Ok(readlinkat(&link, "")?.into()));
        match read {
            Ok(target) => Ok(Some(target)),
            Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::NotFound) => Ok(None),
            Err(error) if error.kind() == ErrorKind::NotADirectory => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The metadata of a file, or of a link itself.
    pub(crate) fn symlink_metadata(self, path: &Path) -> io::Result<Metadata> {
        self.open_handle(path, LastLink::Itself)?.metadata()
    }

    /// Whether a directory exists.
    pub(crate) fn is_dir(self, path: &Path) -> bool {
        self.open_handle(path, LastLink::Target).and_then(|file| file.metadata()).is_ok_and(|file| file.is_dir())
    }

    /// Opens a regular file for reading.
    ///
    /// # Errors
    /// `InvalidInput` for any other kind of file, without opening it; otherwise the error of `openat2(2)`.
    pub(crate) fn open(self, path: &Path) -> io::Result<File> {
        let handle = self.open_handle(path, LastLink::Target)?;
        regular_file::reopen(&handle, || {
            let resolved = self.resolve(path)?;
            let (Some(parent), Some(name)) = (resolved.parent(), resolved.file_name()) else {
                return Err(ErrorKind::InvalidInput.into());
            };
            let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            Ok(openat(self.open_handle(parent, LastLink::Target)?, name, flags, Mode::empty())?.into())
        })
    }

    /// The entries of a directory whose names are UTF-8, sorted; none if the directory is missing.
    pub(crate) fn list(self, dir: &Path) -> io::Result<Vec<(String, EntryKind)>> {
        let open = || -> io::Result<File> {
            let handle = self.open_handle(dir, LastLink::Target)?;
            Ok(openat(&handle, ".", OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?.into())
        };
        let opened = match open() {
            Ok(opened) => opened,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return Ok(Vec::new());
            }
            Err(error) => return Err(error),
        };
        // The path of the open directory: no other process can swap it.
        let entries = fs::read_dir(format!("/proc/self/fd/{}", opened.as_raw_fd()))
            .or_else(|_| fs::read_dir(self.host_path(&self.resolve(dir)?)))?;
        let mut names = Vec::new();
        for entry in entries.take(MOST_ENTRIES) {
            let entry = entry?;
            let (Ok(name), Ok(kind)) = (entry.file_name().into_string(), entry.file_type()) else { continue };
            let kind = match kind {
                kind if kind.is_file() => EntryKind::File,
                kind if kind.is_symlink() => EntryKind::Link,
                _ => EntryKind::Other,
            };
            names.push((name, kind));
        }
        names.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        Ok(names)
    }

    /// The first bytes of a regular file. `/dev/null` is empty below every root, even one without that file.
    pub(crate) fn read_start(self, path: &Path, most: u64) -> io::Result<Vec<u8>> {
        let file = match self.open(path) {
            Ok(file) => file,
            Err(_) if self.resolve(path).is_ok_and(|path| path == Path::new("/dev/null")) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        file.take(most).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// The bytes of a regular file.
    pub(crate) fn read(self, path: &Path) -> io::Result<Vec<u8>> {
        let bytes = self.read_start(path, LARGEST_FILE + 1)?;
        if bytes.len() as u64 > LARGEST_FILE {
            return Err(io::Error::new(ErrorKind::FileTooLarge, "larger than 1 MiB"));
        }
        Ok(bytes)
    }
}

/// Whether systemd reads a file of this name as a drop-in. systemd skips hidden files.
pub(crate) fn is_dropin(file: &str) -> bool {
    file.strip_suffix(".conf").is_some() && !file.starts_with('.')
}

/// A note that a file or directory cannot be read.
pub(crate) fn unreadable(path: &Path, error: &io::Error) -> FileNote {
    FileNote::without_line(format!("cannot read {}: {error}", escape(path.as_os_str().as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn link_resolution_stays_inside_root_and_ends() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir_all(root.join("usr/lib")).unwrap();
        symlink("usr/lib", root.join("lib")).unwrap();
        symlink("/../../../etc/passwd", root.join("usr/lib/out")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        let tree = RootedTree::new(root);
        assert_eq!(tree.resolve(Path::new("/lib/x")).unwrap(), Path::new("/usr/lib/x"));
        assert_eq!(tree.resolve(Path::new("/lib/out")).unwrap(), Path::new("/etc/passwd"));
        assert_eq!(tree.resolve(Path::new("/../..")).unwrap(), Path::new("/"));
        assert!(tree.resolve(Path::new("/loop")).is_err());
        let deep = Path::new("/").join("a/".repeat(1_980));
        assert_eq!(tree.resolve(&deep).unwrap_err().raw_os_error(), Some(libc::ENAMETOOLONG));
        assert_eq!(tree.resolve(Path::new("/lib/none/../none/./x")).unwrap(), Path::new("/usr/lib/none/x"));
        assert_eq!(tree.read(Path::new("/lib/out")).unwrap_err().kind(), ErrorKind::NotFound);
    }

    /// As on `NixOS`, where `/etc/systemd/system` is a link to `/etc/static/systemd/system`.
    #[test]
    fn link_below_linked_directory_is_read_inside_root() {
        let host = tempfile::tempdir().unwrap();
        let (root, outside) = (host.path().join("root"), host.path().join("outside"));
        for dir in [root.join("etc"), root.join(outside.strip_prefix("/").unwrap()), outside.clone()] {
            fs::create_dir_all(dir).unwrap();
        }
        symlink(&outside, root.join("etc/units")).unwrap();
        symlink("/host", outside.join("x.service")).unwrap();
        let tree = RootedTree::new(&root);
        let read = || tree.read_link(Path::new("/etc/units/x.service")).unwrap();
        assert_eq!(read(), None);
        symlink("/inside", root.join(outside.strip_prefix("/").unwrap()).join("x.service")).unwrap();
        assert_eq!(read(), Some("/inside".into()));
        assert_eq!(tree.read_link(Path::new("/etc/units")).unwrap(), Some(outside));
        assert_eq!(tree.read_link(Path::new("/etc")).unwrap(), None);
    }

    #[test]
    fn read_accepts_only_regular_files_up_to_1_mib() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::write(root.join("large"), vec![b'x'; 1024 * 1024 + 1]).unwrap();
        fs::write(root.join("limit"), vec![b'x'; 1024 * 1024]).unwrap();
        nix::unistd::mkfifo(&root.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        symlink("/dev/null", root.join("null")).unwrap();
        let tree = RootedTree::new(root);
        assert!(tree.read(Path::new("/large")).is_err());
        assert_eq!(tree.read(Path::new("/limit")).unwrap().len(), 1024 * 1024);
        assert!(tree.read(Path::new("/fifo")).is_err());
        assert!(tree.read(Path::new("/")).is_err());
        assert_eq!(tree.read(Path::new("/null")).unwrap(), b"");
    }

    #[test]
    fn link_to_host_file_or_endless_device_is_not_followed() {
        let host = tempfile::tempdir().unwrap();
        fs::write(host.path().join("secret"), "host").unwrap();
        fs::create_dir(host.path().join("root")).unwrap();
        let root = host.path().join("root");
        symlink(host.path().join("secret"), root.join("absolute")).unwrap();
        symlink("../secret", root.join("relative")).unwrap();
        symlink("/dev/zero", root.join("endless")).unwrap();
        for tree in [RootedTree::new(&root), RootedTree::new(Path::new("/"))] {
            let name = |file: &str| if tree.root == root { Path::new("/").join(file) } else { root.join(file) };
            let refused = |file: &str| tree.read(&name(file)).unwrap_err().kind();
            assert!(matches!(refused("endless"), ErrorKind::NotFound | ErrorKind::InvalidInput));
            if tree.root == root {
                assert_eq!((refused("absolute"), refused("relative")), (ErrorKind::NotFound, ErrorKind::NotFound));
            }
        }
    }

    #[test]
    fn directory_swapped_for_link_during_reads_never_leads_out() {
        let host = tempfile::tempdir().unwrap();
        let (root, beyond) = (host.path().join("root"), host.path().join("outside"));
        for dir in [root.join("a"), beyond.clone()] {
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join("file"), if dir == beyond { "outside" } else { "inside" }).unwrap();
        }
        symlink(&beyond, root.join("b")).unwrap();
        // How often the reader must meet each of the two.
        let most: usize = std::env::var("HARDEN_WHY_SWAPS").map_or(50, |count| count.parse().unwrap());
        let is_done = std::sync::atomic::AtomicBool::new(false);
        let (mut inside, mut refused, mut outside) = (0, 0, 0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_done.load(std::sync::atomic::Ordering::Relaxed) {
                    // The directory and the link change places in one step (`renameat2(2)`, `RENAME_EXCHANGE`).
                    let exchange = nix::fcntl::RenameFlags::RENAME_EXCHANGE;
                    nix::fcntl::renameat2(
                        nix::fcntl::AT_FDCWD,
                        &root.join("a"),
                        nix::fcntl::AT_FDCWD,
                        &root.join("b"),
                        exchange,
                    )
                    .unwrap();
                }
            });
            while (inside < most || refused < most) && outside == 0 {
                match RootedTree::new(&root).read(Path::new("/a/file")).as_deref() {
                    Ok(b"inside") => inside += 1,
                    Ok(_) => outside += 1,
                    Err(_) => refused += 1,
                }
            }
            is_done.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        assert_eq!(outside, 0, "after {inside} reads inside and {refused} refused ones");
    }
}
