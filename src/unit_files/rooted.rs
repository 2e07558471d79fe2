//! A file tree below a root: symbolic links are followed inside it and never lead out.

use super::regular_file;
use std::io::{ErrorKind, Read as _};
use std::path::{Component, Path, PathBuf};
use std::{fs, io};

/// As many links are followed for one path as the kernel follows (`path_resolution(7)`).
const MOST_LINKS: usize = 40;

/// A larger unit file is not read.
pub(crate) const LARGEST_FILE: u64 = 1024 * 1024;

/// A directory's further entries are not read.
const MOST_ENTRIES: usize = 20_000;

/// A tree.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tree<'a> {
    root: &'a Path,
}

/// What a name in a directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Link,
    Other,
}

impl<'a> Tree<'a> {
    pub(crate) fn new(root: &'a Path) -> Self {
        Self { root }
    }

    /// Where a path of the tree is in the machine's own file system, links not followed.
    pub(crate) fn outside(self, path: &Path) -> PathBuf {
        let parts = path.components().filter(|part| matches!(part, Component::Normal(_)));
        parts.fold(self.root.to_path_buf(), |path, part| path.join(part))
    }

    /// The path without links and `..`; what does not exist is taken as it stands.
    pub(crate) fn chase(self, path: &Path) -> io::Result<PathBuf> {
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
                    if let Some(target) = self.link(&done)? {
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

    /// The target of a link; `None` for anything else, and for what is not there.
    pub(crate) fn link(self, path: &Path) -> io::Result<Option<PathBuf>> {
        match fs::read_link(self.outside(path)) {
            Ok(target) => Ok(Some(target)),
            Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::NotFound) => Ok(None),
            Err(error) if error.kind() == ErrorKind::NotADirectory => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A directory's names that are UTF-8, and what they are; none if it is not there.
    pub(crate) fn list(self, dir: &Path) -> io::Result<Vec<(String, Kind)>> {
        let entries = match fs::read_dir(self.outside(&self.chase(dir)?)) {
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
                kind if kind.is_file() => Kind::File,
                kind if kind.is_symlink() => Kind::Link,
                _ => Kind::Other,
            };
            names.push((name, kind));
        }
        names.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        Ok(names)
    }

    /// A regular file's bytes; `/dev/null` has none, in whatever tree.
    pub(crate) fn read(self, path: &Path) -> io::Result<Vec<u8>> {
        let path = self.chase(path)?;
        if path == Path::new("/dev/null") {
            return Ok(Vec::new());
        }
        let file = regular_file::open(&self.outside(&path))?;
        let mut bytes = Vec::new();
        file.take(LARGEST_FILE + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > LARGEST_FILE {
            return Err(io::Error::new(ErrorKind::FileTooLarge, "larger than 1 MiB"));
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_stay_inside_the_root_and_end() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir_all(root.join("usr/lib")).unwrap();
        symlink("usr/lib", root.join("lib")).unwrap();
        symlink("/../../../etc/passwd", root.join("usr/lib/out")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        let tree = Tree::new(root);
        assert_eq!(tree.chase(Path::new("/lib/x")).unwrap(), Path::new("/usr/lib/x"));
        assert_eq!(tree.chase(Path::new("/lib/out")).unwrap(), Path::new("/etc/passwd"));
        assert_eq!(tree.chase(Path::new("/../..")).unwrap(), Path::new("/"));
        assert!(tree.chase(Path::new("/loop")).is_err());
        assert_eq!(tree.read(Path::new("/lib/out")).unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[test]
    fn only_regular_files_of_bounded_size_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::write(root.join("large"), vec![b'x'; 1024 * 1024 + 1]).unwrap();
        fs::write(root.join("limit"), vec![b'x'; 1024 * 1024]).unwrap();
        nix::unistd::mkfifo(&root.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        symlink("/dev/null", root.join("null")).unwrap();
        let tree = Tree::new(root);
        assert!(tree.read(Path::new("/large")).is_err());
        assert_eq!(tree.read(Path::new("/limit")).unwrap().len(), 1024 * 1024);
        assert!(tree.read(Path::new("/fifo")).is_err());
        assert!(tree.read(Path::new("/")).is_err());
        assert_eq!(tree.read(Path::new("/null")).unwrap(), b"");
    }
}
