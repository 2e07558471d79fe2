//! The names of cgroups by their ids, which on a unified hierarchy are the inodes of their directories.

use super::program::LEVELS;
use crate::units::{Placement, cgroup};
use std::collections::HashMap;
use std::ffi::{CString, OsStr};
use std::fs;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{DirEntryExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

/// How many names are remembered. An id is not used again, and what it names is not renamed.
const REMEMBERED: usize = 4096;
/// How many entries of a directory are looked at: anybody with a delegated cgroup can make any number.
const MOST_ENTRIES: usize = 10_000;

/// The unified hierarchy, as far as this process's namespace shows it.
#[derive(Debug)]
pub(super) struct Tree {
    mount: PathBuf,
    root: u64,
    names: HashMap<u64, Box<[u8]>>,
}

impl Tree {
    /// Where it is mounted, by `proc/self/mountinfo` below a root; the names of what runs are learned.
    pub(super) fn find(root: &Path) -> Option<Self> {
        Self::at(unified_mount(root)?)
    }

    fn at(mount: PathBuf) -> Option<Self> {
        let root = fs::metadata(&mount).ok()?.ino();
        let mut tree = Self { mount, root, names: HashMap::new() };
        tree.learn_slices();
        Some(tree)
    }

    /// Learns the names of all units that have a cgroup now: it may be gone when their processes are.
    fn learn_slices(&mut self) {
        let mut slices = vec![Vec::new()];
        while let Some(path) = slices.pop() {
            for (id, name) in self.children(&path) {
                if self.names.len() >= REMEMBERED / 2 {
                    return;
                }
                if name.ends_with(b".slice") {
                    slices.push([&path[..], b"/", &name].concat());
                }
                self.names.insert(id, name);
            }
        }
    }

    /// The path of a cgroup from its ancestors' ids, the topmost first, and its own; zeros follow. It ends
    /// where the unit is told. What is not there any more may have been noted as it was removed. `None` if
    /// it was not, or is not to be seen here.
    pub(super) fn path(&mut self, ids: &[u64], removed: impl Fn(u64) -> Option<CString>) -> Option<Vec<u8>> {
        let own = ids.iter().position(|&id| id == self.root)?;
        let below = ids.get(own + 1..)?;
        let mut path = Vec::new();
        for &id in below.iter().take_while(|&&id| id != 0) {
            if !self.names.contains_key(&id) {
                self.look(&path, id, &removed);
            }
            let name = self.names.get(&id)?;
            path.push(b'/');
            path.extend_from_slice(name);
            if is_told(&path) {
                return Some(path);
            }
        }
        // A path cut short would be another.
        let whole = ids.len() < LEVELS || ids.last() == Some(&0);
        if path.is_empty() {
            path.push(b'/');
        }
        whole.then_some(path)
    }

    /// Looks for an id in a directory, and remembers all that are there.
    fn look(&mut self, path: &[u8], wanted: u64, removed: impl Fn(u64) -> Option<CString>) {
        let mut found = self.children(path);
        if found.iter().all(|(id, _)| *id != wanted) {
            let name = removed(wanted).map(CString::into_bytes).filter(|name| !name.is_empty());
            found.extend(name.map(|name| (wanted, name.into())));
        }
        if self.names.len() + found.len() > REMEMBERED {
            self.names.clear();
        }
        self.names.extend(found);
    }

    /// The cgroups in a cgroup.
    fn children(&self, path: &[u8]) -> Vec<(u64, Box<[u8]>)> {
        let path = self.mount.join(OsStr::from_bytes(path.strip_prefix(b"/").unwrap_or(path)));
        let entries = fs::read_dir(path).into_iter().flatten().take(MOST_ENTRIES).flatten();
        let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        directories.map(|entry| (entry.ino(), entry.file_name().into_vec().into())).collect()
    }
}

/// Whether whatever is below belongs to the same unit: something that is no unit's name would not change it.
fn is_told(path: &[u8]) -> bool {
    matches!(cgroup::place_path(&[path, b"/."].concat()), Placement::Unit(_))
}

/// Where the unified hierarchy is mounted from its root on, by `proc/self/mountinfo` below a root.
pub(in super::super) fn unified_mount(root: &Path) -> Option<PathBuf> {
    let mounts = fs::read(root.join("proc/self/mountinfo")).ok()?;
    let mount = mounts.split(|&byte| byte == b'\n').find_map(mounted)?;
    Some(root.join(mount.strip_prefix("/").ok()?))
}

/// Where a line of mountinfo (`proc_pid_mountinfo(5)`) mounts the unified hierarchy from its root on.
fn mounted(line: &[u8]) -> Option<PathBuf> {
    let text = std::str::from_utf8(line).ok()?;
    let (mount, source) = text.split_once(" - ")?;
    let mut fields = mount.split(' ').skip(3);
    let (root, target) = (fields.next()?, fields.next()?);
    // Where a blank or a backslash is escaped, it is nobody's usual place.
    (source.starts_with("cgroup2 ") && root == "/" && !target.contains('\\')).then(|| target.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hierarchy of directories, with the ids along a path.
    fn hierarchy(paths: &[&str]) -> (tempfile::TempDir, Tree) {
        let root = tempfile::tempdir().unwrap();
        for path in paths {
            fs::create_dir_all(root.path().join(path)).unwrap();
        }
        let tree = Tree::at(root.path().to_owned()).unwrap();
        (root, tree)
    }

    fn ids(root: &Path, path: &str) -> Vec<u64> {
        let mut at = root.to_owned();
        let mut ids = vec![fs::metadata(&at).unwrap().ino()];
        for name in Path::new(path) {
            at.push(name);
            ids.push(fs::metadata(&at).unwrap().ino());
        }
        ids.resize(LEVELS.max(ids.len()), 0);
        ids
    }

    fn nothing(_: u64) -> Option<CString> {
        None
    }

    #[test]
    fn ids_are_a_path_down_to_the_unit() {
        let user = "user.slice/user-7.slice/user@7.service/app.slice/b.service";
        let (root, mut tree) = hierarchy(&["system.slice/a.service/sshd.service/x", user, "lxc/y"]);
        for (path, expected) in [
            ("system.slice/a.service", "/system.slice/a.service"),
            ("system.slice/a.service/sshd.service/x", "/system.slice/a.service"),
            (user, "/user.slice/user-7.slice/user@7.service/app.slice/b.service"),
            ("user.slice", "/user.slice"),
            ("lxc/y", "/lxc/y"),
            ("", "/"),
        ] {
            assert_eq!(tree.path(&ids(root.path(), path), nothing).as_deref(), Some(expected.as_bytes()), "{path}");
        }
    }

    #[test]
    fn a_namespace_begins_at_its_root() {
        let (root, mut tree) = hierarchy(&["system.slice/a.service"]);
        let mut inside = ids(root.path(), "system.slice/a.service");
        inside.splice(0..0, [u64::MAX, u64::MAX - 1]);
        assert_eq!(tree.path(&inside, nothing).as_deref(), Some(&b"/system.slice/a.service"[..]));
        assert_eq!(tree.path(&[u64::MAX; LEVELS], nothing), None, "another's");
        assert_eq!(tree.path(&[0; LEVELS], nothing), None);
    }

    #[test]
    fn a_cgroup_that_is_gone_is_known_if_it_was_seen() {
        let (root, mut tree) = hierarchy(&["system.slice/a.service"]);
        fs::create_dir(root.path().join("system.slice/late.service")).unwrap();
        let [early, late] = ["system.slice/a.service", "system.slice/late.service"].map(|path| {
            let ids = ids(root.path(), path);
            fs::remove_dir(root.path().join(path)).unwrap();
            ids
        });
        assert_eq!(tree.path(&early, nothing).as_deref(), Some(&b"/system.slice/a.service"[..]));
        assert_eq!(tree.path(&late, nothing), None, "and nothing is made up");
        assert_eq!(tree.path(&late, |_| Some(c"".into())), None);
        let noted = |id| late.contains(&id).then(|| c"late.service".into());
        assert_eq!(tree.path(&late, noted).as_deref(), Some(&b"/system.slice/late.service"[..]));
    }

    #[test]
    fn a_path_too_deep_to_be_noted_is_not_cut_short() {
        let deep: Vec<String> = (0..LEVELS).map(|level| format!("{level}.slice")).collect();
        let deep = format!("{}/a.service", deep.join("/"));
        let (root, mut tree) = hierarchy(&[&deep]);
        assert_eq!(tree.path(&ids(root.path(), &deep)[..LEVELS], nothing), None);
        let below = format!("a.service/{}", "x/".repeat(2 * LEVELS));
        let (root, mut tree) = hierarchy(&[&below]);
        assert_eq!(tree.path(&ids(root.path(), &below)[..LEVELS], nothing).as_deref(), Some(&b"/a.service"[..]));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (root, mut tree) = hierarchy(&[]);
        for number in 0..REMEMBERED + 100 {
            fs::create_dir(root.path().join(format!("{number}.slice"))).unwrap();
            if number % 1000 == 0 {
                let path = tree.path(&ids(root.path(), &format!("{number}.slice")), nothing);
                assert_eq!(path, Some(format!("/{number}.slice").into_bytes()));
                assert!(tree.names.len() <= REMEMBERED);
            }
        }
    }

    #[test]
    fn the_mount_is_found_wherever_it_is() {
        let v2 = b"25 24 0:22 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate";
        assert_eq!(mounted(v2), Some("/sys/fs/cgroup".into()));
        let hybrid = b"30 29 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw";
        assert_eq!(mounted(hybrid), Some("/sys/fs/cgroup/unified".into()));
        for other in [
            &b"31 29 0:27 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids"[..],
            b"25 24 0:22 /system.slice/a.service /mnt rw - cgroup2 cgroup2 rw",
            b"25 24 0:22 / /a\\040b rw - cgroup2 cgroup2 rw",
            b"",
            b"\xff",
        ] {
            assert_eq!(mounted(other), None);
        }
    }
}
