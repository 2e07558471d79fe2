//! A file tree below a root. This module resolves symbolic links inside the root, so they never lead out of it.

use super::regular_file;
use crate::audit::text::escape;
use crate::policy::FileNote;
use std::io::{ErrorKind, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};
use std::{fs, io};

/// The limit of links to follow for one path, which is the kernel's limit too (`path_resolution(7)`).
const MOST_LINKS: usize = 40;

/// The size limit of a file, in bytes. Reading a larger file fails.
pub(crate) const LARGEST_FILE: u64 = 1024 * 1024;

/// The limit of entries to read from a directory.
const MOST_ENTRIES: usize = 20_000;

/// The files below a root. All paths are paths inside the root.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RootedTree<'a> {
    root: &'a Path,
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
        Self { root }
    }

    /// Converts a path inside the root to a path on this machine, without following links. Drops `..`.
    pub(crate) fn host_path(self, path: &Path) -> PathBuf {
        let parts = path.components().filter(|part| matches!(part, Component::Normal(_)));
        parts.fold(self.root.to_path_buf(), |path, part| path.join(part))
    }

    /// Resolves links and `..`. Keeps missing components as written.
    ///
    /// # Errors
    /// The path has too many links or an unreadable link.
    pub(crate) fn resolve(self, path: &Path) -> io::Result<PathBuf> {
        let mut done = PathBuf::from("/");
        let mut todo: Vec<PathBuf> = vec![path.to_path_buf()];
        let mut links = 0;
        while let Some(path) = todo.pop() {
            let mut parts = path.components();
            let Some(part) = parts.next() else { continue };
            todo.push(parts.as_path().to_path_buf());
            match part {
                Component::RootDir => done = PathBuf::from("/"),
                Component::ParentDir => {
                    done.pop();
                }
                Component::Normal(name) => {
                    done.push(name);
                    if let Some(target) = self.read_link(&done)? {
                        links += 1;
                        if links > MOST_LINKS {
                            return Err(io::Error::from_raw_os_error(libc::ELOOP));
                        }
                        done.pop();
                        todo.push(target);
                    }
                }
                Component::CurDir | Component::Prefix(_) => {}
            }
        }
        Ok(done)
    }

    /// The target of a link; `None` for any other file, and for a missing one.
    pub(crate) fn read_link(self, path: &Path) -> io::Result<Option<PathBuf>> {
        match fs::read_link(self.host_path(path)) {
            Ok(target) => Ok(Some(target)),
            Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::NotFound) => Ok(None),
            Err(error) if error.kind() == ErrorKind::NotADirectory => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The entries of a directory whose names are UTF-8, sorted; none if the directory is missing.
    pub(crate) fn list(self, dir: &Path) -> io::Result<Vec<(String, EntryKind)>> {
        let entries = match fs::read_dir(self.host_path(&self.resolve(dir)?)) {
            Ok(entries) => entries,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return Ok(Vec::new());
            }
            Err(error) => return Err(error),
        };
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
        let path = self.resolve(path)?;
        if path == Path::new("/dev/null") {
            return Ok(Vec::new());
        }
        let file = regular_file::open(&self.host_path(&path))?;
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
        assert_eq!(tree.read(Path::new("/lib/out")).unwrap_err().kind(), ErrorKind::NotFound);
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
}
