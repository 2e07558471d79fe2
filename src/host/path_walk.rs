//! Finds where a path of another process leads on the host, link by link.
//!
//! The process chose the path, so the walk mounts nothing and waits for no file system that a user's program serves.

use crate::kernel::fuse_guard::{LastLink, open_handle};
use crate::kernel::mounts::MountTable;
use nix::fcntl::readlinkat;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

/// How many links a path can have (`MAXSYMLINKS`, `include/linux/namei.h`).
const MOST_LINKS: usize = 40;

/// What a walk needs to know.
pub(crate) struct PathWalk<'a> {
    pub(crate) host_mounts: &'a MountTable,
    /// The process and the thread that named the path: `/proc/self` means them.
    pub(crate) pid: u32,
    pub(crate) tid: u32,
}

/// Where a path leads.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct LocatedPath {
    /// The path with its links resolved as far as the host has them.
    pub(crate) place: PathBuf,
    /// The links on the way.
    pub(crate) links: Vec<PathBuf>,
    /// Whether it leads through `/proc/self` or `/proc/thread-self`.
    pub(crate) is_own_entry: bool,
    /// Whether it leads to a file system that the walk does not enter, or that fails.
    pub(crate) is_unread: bool,
}

impl PathWalk<'_> {
    /// Follows an absolute path; with `keeps_last_link`, a link at its end stands for itself. Returns `None` for a circle.
    pub(crate) fn locate(&self, path: &Path, keeps_last_link: bool) -> Option<LocatedPath> {
        // A slash at the end asks for what the link leads to.
        let keeps_last_link = keeps_last_link && !path.as_os_str().as_bytes().ends_with(b"/");
        let mut pending = reversed_names(path);
        let mut found = LocatedPath { place: PathBuf::from("/"), ..LocatedPath::default() };
        while let Some(name) = pending.pop() {
            if name == ".." {
                found.place.pop();
                continue;
            }
            let next = found.place.join(&name);
            if let Some(own) = self.own_entry(&next) {
                found.place = own;
                found.is_own_entry = true;
                continue;
            }
            found.is_unread = found.is_unread || self.is_foreign(&next);
            let is_kept = found.is_unread || keeps_last_link && pending.is_empty();
            let target = if is_kept { Ok(None) } else { read_link(&next) };
            found.is_unread = found.is_unread || target.is_err();
            let target = target.unwrap_or_default();
            // The links of a process to its pipes and sockets lead nowhere.
            match target.filter(|target| !found.is_own_entry || target.is_absolute()) {
                None => found.place = next,
                Some(_) if found.links.len() >= MOST_LINKS => return None,
                Some(target) => {
                    if target.is_absolute() {
                        found.place = PathBuf::from("/");
                    }
                    pending.append(&mut reversed_names(&target));
                    found.links.push(next);
                }
            }
        }
        Some(found)
    }

    fn own_entry(&self, path: &Path) -> Option<PathBuf> {
        let process = Path::new("/proc").join(self.pid.to_string());
        match path.to_str()? {
            "/proc/self" => Some(process),
            "/proc/thread-self" => Some(process.join("task").join(self.tid.to_string())),
            _ => None,
        }
    }

    /// Whether a lookup at a path would mount a file system, or ask a program of a user, as far as the mounts are known.
    fn is_foreign(&self, path: &Path) -> bool {
        self.host_mounts.holding(path.as_os_str().as_bytes()).is_none_or(|mount| {
            mount.point != b"/" && (mount.fs_type == b"autofs" || mount.fs_type.starts_with(b"fuse"))
        })
    }
}

/// Returns the target of a link; `None` if there is no link. The table of mounts may be older than a mount of a user.
///
/// # Errors
/// It is unknown whether there is a link.
fn read_link(path: &Path) -> io::Result<Option<PathBuf>> {
    let target = open_handle(path, LastLink::Itself).and_then(|file| Ok(readlinkat(file, "")?));
    match target {
        Ok(target) => Ok(Some(target.into())),
        // The kernel answers ENOENT for what is no link, and EINVAL before Linux 2.6.39 and for some file systems.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::EINVAL)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns the names of a path, the last one first.
fn reversed_names(path: &Path) -> Vec<OsString> {
    let mut names: Vec<OsString> = path
        .components()
        .filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir))
        .map(|part| AsRef::<OsStr>::as_ref(&part).to_owned())
        .collect();
    names.reverse();
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    const MOUNTS: &[u8] = b"1 0 254:0 / / rw - ext4 x rw\n2 1 0:9 / /net rw - autofs x rw\n\
        3 1 0:10 / /home/me/sftp rw - fuse.sshfs x rw\n";

    fn walk(path: &Path, keeps_last_link: bool) -> Option<LocatedPath> {
        let host_mounts = MountTable::parse(MOUNTS);
        PathWalk { host_mounts: &host_mounts, pid: 7, tid: 8 }.locate(path, keeps_last_link)
    }

    fn place(path: &Path) -> PathBuf {
        walk(path, false).unwrap().place
    }

    #[test]
    fn links_are_resolved_in_what_exists_and_the_rest_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(directory.path()).unwrap();
        fs::create_dir(root.join("real")).unwrap();
        symlink("real", root.join("link")).unwrap();
        symlink(root.join("link"), root.join("second")).unwrap();
        symlink("circle", root.join("circle")).unwrap();
        assert_eq!(place(&root.join("link/new/file")), root.join("real/new/file"));
        assert_eq!(place(&root.join("real/../second/./x")), root.join("real/x"));
        assert_eq!(place(Path::new("/nonexistent/../..")), Path::new("/"));
        assert_eq!(walk(&root.join("circle"), false), None);
        let located = walk(&root.join("second"), false).unwrap();
        assert_eq!(located.links, [root.join("second"), root.join("link")]);
    }

    #[test]
    fn last_link_stands_for_itself_where_the_call_keeps_it() {
        let directory = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(directory.path()).unwrap();
        symlink("/etc", root.join("link")).unwrap();
        let kept = |path: &str| walk(&root.join(path), true).unwrap().place;
        assert_eq!(kept("link"), root.join("link"));
        assert_eq!([kept("link/"), kept("link/x")], [PathBuf::from("/etc"), PathBuf::from("/etc/x")]);
    }

    #[test]
    fn own_entries_are_those_of_the_process() {
        for (path, expected) in [
            ("/proc/self/status", "/proc/7/status"),
            ("/proc/./self/fd/3", "/proc/7/fd/3"),
            ("/proc/thread-self/comm", "/proc/7/task/8/comm"),
        ] {
            let located = walk(Path::new(path), false).unwrap();
            assert!(located.is_own_entry, "{path}");
            assert_eq!(located.place, Path::new(expected));
        }
        let pid = std::process::id();
        let file = tempfile::NamedTempFile::new().unwrap();
        let link = format!("/dev/fd/{}", std::os::fd::AsRawFd::as_raw_fd(file.as_file()));
        let host_mounts = MountTable::parse(MOUNTS);
        let located = PathWalk { host_mounts: &host_mounts, pid, tid: pid }.locate(Path::new(&link), false).unwrap();
        assert!(located.is_own_entry);
        assert_eq!(located.place, fs::canonicalize(file.path()).unwrap());
        assert!(!walk(Path::new("/proc/1/status"), false).unwrap().is_own_entry);
    }

    #[test]
    fn file_systems_that_mount_or_wait_are_not_entered() {
        for path in ["/net/host/x", "/home/me/sftp", "/home/me/sftp/a/b"] {
            let located = walk(Path::new(path), false).unwrap();
            assert_eq!((located.place.as_path(), located.is_unread), (Path::new(path), true), "{path}");
        }
        assert!(!walk(Path::new("/home/me/x"), false).unwrap().is_unread);
        let unknown = MountTable::default();
        let located = PathWalk { host_mounts: &unknown, pid: 7, tid: 8 }.locate(Path::new("/etc/passwd"), false);
        assert!(located.unwrap().is_unread, "the mounts cannot be read");
    }
}
