//! The names of cgroups by their ids, which on a unified hierarchy are the inodes of their directories.
//!
//! The kernel would turn an id into its directory at once (`open_by_handle_at(2)`), but for that it wants
//! `CAP_DAC_READ_SEARCH`, which opens every file. So directories are read, within bounds that nobody can move.

use super::name_cache::{Name, OTHER, SYSTEM, Share, children};
use super::program::LEVELS;
use crate::units::{Manager, Placement, Unplaced, cgroup};
use std::collections::HashMap;
use std::ffi::{CString, OsStr};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// How many owners have a share, besides the system's manager.
const OWNERS: usize = 32;

/// The unified hierarchy, as far as this process's namespace shows it.
#[derive(Debug)]
pub(crate) struct Tree {
    mount: PathBuf,
    root: u64,
    /// Of the slices at the top, which the system's manager alone makes, and of what is in them.
    system: Share,
    /// Of what is below other cgroups, by the id of the topmost of these.
    others: HashMap<u64, Share>,
}

impl Tree {
    /// Where it is mounted, by `proc/self/mountinfo` below a root; the names of what runs are learned.
    pub(crate) fn find(root: &Path) -> Option<Self> {
        Self::at(unified_mount(root)?)
    }

    fn at(mount: PathBuf) -> Option<Self> {
        let root = fs::metadata(&mount).ok()?.ino();
        let mut tree = Self { mount, root, system: Share::new(&SYSTEM, Instant::now()), others: HashMap::new() };
        tree.learn_slices();
        Some(tree)
    }

    /// Learns the names of all units of the system's manager that have a cgroup now: it may be gone when their processes
    /// are.
    fn learn_slices(&mut self) {
        let mut slices = vec![Vec::new()];
        while let Some(path) = slices.pop() {
            let Ok((found, _)) = children(&self.directory(&path)) else { continue };
            for (id, name) in found {
                if self.system.len() >= SYSTEM.names / 2 {
                    return;
                }
                if is_systems(&name) {
                    slices.push([&path[..], b"/", &name].concat());
                }
                self.system.insert(id, Some(name));
            }
        }
    }

    /// The path of a cgroup from its ancestors' ids, the topmost first, and its own; zeros follow. It ends
    /// where the unit is told. What is not there any more may have been noted as it was removed. `None` if
    /// it was not, or is not to be seen here, or would cost too much to look for; below a user's manager the path
    /// ends with that instead.
    pub(crate) fn path(
        &mut self,
        ids: &[u64],
        removed: impl Fn(u64) -> Option<CString>,
        now: Instant,
    ) -> Option<Vec<u8>> {
        let own = ids.iter().position(|&id| id == self.root)?;
        let below = ids.get(own + 1..)?;
        let (mut path, mut owner, mut users) = (Vec::new(), None, None);
        // Of whose user's manager it is is told all the same.
        let cut = |mut path: Vec<u8>, users: Option<usize>| {
            path.truncate(users?);
            Some(path)
        };
        for &id in below.iter().take_while(|&&id| id != 0) {
            let Some(name) = self.name(owner, &path, id, &removed, now) else { return cut(path, users) };
            if owner.is_none() && !is_systems(&name) {
                owner = Some(id);
            }
            path.push(b'/');
            path.extend_from_slice(&name);
            if is_told(&path) {
                return Some(path);
            }
            if is_users(&path) {
                users = Some(path.len());
            }
        }
        // A path cut short would be another.
        if ids.len() >= LEVELS && ids.last() != Some(&0) {
            return cut(path, users);
        }
        if path.is_empty() {
            path.push(b'/');
        }
        Some(path)
    }

    /// The name of a cgroup in another, at the owner's cost.
    fn name(
        &mut self,
        owner: Option<u64>,
        parent: &[u8],
        id: u64,
        removed: impl Fn(u64) -> Option<CString>,
        now: Instant,
    ) -> Option<Name> {
        let removed = || removed(id).filter(|name| !name.is_empty()).map(|name| Name::from(name.into_bytes()));
        let directory = self.directory(parent);
        let share = self.share(owner, now);
        let known = share.get(id);
        if let Some(Some(name)) = known {
            return Some(name.clone());
        }
        let unknown = known.is_none();
        // Where it is noted, nothing has to be read. It can be removed while we look for it.
        let noted = removed().or_else(|| {
            if unknown {
                share.look(&directory, id, now);
            }
            share.get(id).cloned().flatten().or_else(removed)
        });
        let name = noted?;
        share.insert(id, Some(name.clone()));
        Some(name)
    }

    fn share(&mut self, owner: Option<u64>, now: Instant) -> &mut Share {
        let Some(owner) = owner else { return &mut self.system };
        if self.others.len() >= OWNERS && !self.others.contains_key(&owner) {
            // One that could read much begins anew with little more.
            let richest = self.others.iter().max_by_key(|(_, share)| share.left(now)).map(|(id, _)| *id);
            richest.and_then(|id| self.others.remove(&id));
        }
        self.others.entry(owner).or_insert_with(|| Share::new(&OTHER, now))
    }

    fn directory(&self, path: &[u8]) -> PathBuf {
        self.mount.join(OsStr::from_bytes(path.strip_prefix(b"/").unwrap_or(path)))
    }
}

/// Whether the system's manager alone makes what is in there: its slices, but not users' (`user@.service(5)`), who can log
/// in any number of times.
fn is_systems(name: &[u8]) -> bool {
    name.ends_with(b".slice") && !name.starts_with(b"user-")
}

/// Whether whatever is below belongs to the same unit: something that is no unit's name would not change it.
fn is_told(path: &[u8]) -> bool {
    matches!(cgroup::place_path(&[path, b"/."].concat()), Placement::Unit(_))
}

/// Whether it is the cgroup of a user's manager.
fn is_users(path: &[u8]) -> bool {
    matches!(cgroup::place_path(path), Placement::None(Unplaced::Manager(Manager::User(_))))
}

/// Where the unified hierarchy is mounted from its root on, by `proc/self/mountinfo` below a root.
pub(crate) fn unified_mount(root: &Path) -> Option<PathBuf> {
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
    use std::time::Duration;

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

    /// Makes directories, and gives the ids along each path.
    fn make(root: &Path, paths: &[String]) -> Vec<Vec<u64>> {
        let all = paths.iter().map(|path| {
            fs::create_dir(root.join(path)).unwrap();
            ids(root, path)
        });
        all.collect()
    }

    fn look(tree: &mut Tree, ids: &[u64], removed: impl Fn(u64) -> Option<CString>) -> Option<Vec<u8>> {
        tree.path(ids, removed, Instant::now())
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
            assert_eq!(
                look(&mut tree, &ids(root.path(), path), nothing).as_deref(),
                Some(expected.as_bytes()),
                "{path}"
            );
        }
    }

    #[test]
    fn a_namespace_begins_at_its_root() {
        let (root, mut tree) = hierarchy(&["system.slice/a.service"]);
        let mut inside = ids(root.path(), "system.slice/a.service");
        inside.splice(0..0, [u64::MAX, u64::MAX - 1]);
        assert_eq!(look(&mut tree, &inside, nothing).as_deref(), Some(&b"/system.slice/a.service"[..]));
        assert_eq!(look(&mut tree, &[u64::MAX; LEVELS], nothing), None, "another's");
        assert_eq!(look(&mut tree, &[0; LEVELS], nothing), None);
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
        assert_eq!(look(&mut tree, &early, nothing).as_deref(), Some(&b"/system.slice/a.service"[..]));
        assert_eq!(look(&mut tree, &late, nothing), None, "and nothing is made up");
        assert_eq!(look(&mut tree, &late, |_| Some(c"".into())), None);
        let noted = |id| late.contains(&id).then(|| c"late.service".into());
        assert_eq!(look(&mut tree, &late, noted).as_deref(), Some(&b"/system.slice/late.service"[..]));
    }

    #[test]
    fn a_path_too_deep_to_be_noted_is_not_cut_short() {
        let deep: Vec<String> = (0..LEVELS).map(|level| format!("{level}.slice")).collect();
        let deep = format!("{}/a.service", deep.join("/"));
        let (root, mut tree) = hierarchy(&[&deep]);
        assert_eq!(look(&mut tree, &ids(root.path(), &deep)[..LEVELS], nothing), None);
        let below = format!("a.service/{}", "x/".repeat(2 * LEVELS));
        let (root, mut tree) = hierarchy(&[&below]);
        assert_eq!(look(&mut tree, &ids(root.path(), &below)[..LEVELS], nothing).as_deref(), Some(&b"/a.service"[..]));
    }

    #[test]
    fn all_of_a_few_thousand_units_are_told() {
        let (root, mut tree) = hierarchy(&["system.slice"]);
        let now = Instant::now();
        let names: Vec<String> = (0..5_000).map(|number| format!("system.slice/{number}.service")).collect();
        let all = make(root.path(), &names);
        let before = tree.system.left(now);
        for (ids, name) in all.iter().zip(&names) {
            assert_eq!(tree.path(ids, nothing, now), Some(format!("/{name}").into_bytes()));
        }
        assert!(before - tree.system.left(now) < 6_000, "they are read once");
    }

    #[test]
    fn any_number_of_siblings_costs_no_more_than_their_owners_share() {
        let user = "user.slice/user-7.slice/user@7.service/app.slice";
        let (root, mut tree) = hierarchy(&["system.slice/early.service", user]);
        let now = Instant::now();
        let early = ids(root.path(), "system.slice/early.service");
        fs::remove_dir(root.path().join("system.slice/early.service")).unwrap();
        let names: Vec<String> = (0..OTHER.names + 500).map(|number| format!("{user}/{number}.service")).collect();
        let siblings = make(root.path(), &names);
        let (mut found, manager) = (0, "/user.slice/user-7.slice/user@7.service");
        for (ids, name) in siblings.iter().zip(&names) {
            let path = String::from_utf8(tree.path(ids, nothing, now).unwrap()).unwrap();
            found += usize::from(path[1..] == **name);
            assert!(path[1..] == **name || path == manager, "{path}: never another's");
        }
        // As many readings as fit into the share.
        assert!((20..60).contains(&found), "{found}");
        assert_eq!(tree.path(&siblings[0], nothing, now).as_deref(), Some(format!("/{}", names[0]).as_bytes()), "kept");
        let last = siblings.last().unwrap();
        assert_eq!(tree.path(last, nothing, now).as_deref(), Some(manager.as_bytes()));
        let noted = |id| last.contains(&id).then(|| c"noted.service".into());
        let noted = tree.path(last, noted, now).unwrap();
        assert!(noted.ends_with(b"/noted.service"), "which costs nothing");
        let (other, later) = (siblings.len() - 2, now + Duration::from_secs(1));
        let found = tree.path(&siblings[other], nothing, later);
        assert_eq!(found.as_deref(), Some(format!("/{}", names[other]).as_bytes()), "and a little later the next");
        // Nobody else loses anything by it.
        assert_eq!(tree.path(&early, nothing, now).as_deref(), Some(&b"/system.slice/early.service"[..]));
        for path in ["system.slice/new.service", "user.slice/user-8.slice/user@8.service/app.slice/a.service"] {
            fs::create_dir_all(root.path().join(path)).unwrap();
            let found = tree.path(&ids(root.path(), path), nothing, now);
            assert_eq!(found, Some(format!("/{path}").into_bytes()));
        }
    }

    #[test]
    fn what_is_not_there_is_looked_for_once() {
        let (root, mut tree) = hierarchy(&["lxc/x", "lxc/y"]);
        let (gone, now) = (ids(root.path(), "lxc/x"), Instant::now());
        fs::remove_dir(root.path().join("lxc/x")).unwrap();
        let mut left = || {
            assert_eq!(tree.path(&gone, nothing, now), None);
            tree.others.values().map(|share| share.left(now)).sum::<u64>()
        };
        let first = left();
        assert_eq!(left(), first);
    }

    #[test]
    fn what_is_noted_is_not_looked_for() {
        let (root, mut tree) = hierarchy(&["system.slice"]);
        let (ids, now) = (make(root.path(), &["system.slice/a.service".into()]).remove(0), Instant::now());
        let before = tree.system.left(now);
        let noted = |id| ids.contains(&id).then(|| c"a.service".into());
        assert!(tree.path(&ids, noted, now).is_some());
        assert_eq!(tree.system.left(now), before);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (root, mut tree) = hierarchy(&[]);
        for owner in 0..2 * OWNERS {
            let path = format!("{owner}.scope.d/x");
            fs::create_dir_all(root.path().join(&path)).unwrap();
            assert!(look(&mut tree, &ids(root.path(), &path), nothing).is_some());
        }
        assert!(tree.others.len() <= OWNERS);
        let mut share = Share::new(&OTHER, Instant::now());
        for id in 0..3 * u64::try_from(OTHER.names).unwrap() {
            share.insert(id, None);
            assert!(share.get(0).is_some(), "what is used is kept");
            assert!(share.len() <= OTHER.names);
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
