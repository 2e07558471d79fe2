//! The paths of cgroups by their ids. On a unified hierarchy an id is the inode of the cgroup's directory.
//!
//! The kernel could turn an id into a directory at once (`open_by_handle_at(2)`), but that requires
//! `CAP_DAC_READ_SEARCH`, which permits reading every file. So this module reads directories, within a quota for each owner.

use super::name_cache::{CgroupName, OTHER, OwnerCache, SYSTEM, children};
use crate::kernel::mounts::MountTable;
use crate::units::{Manager, Placement, Unplaced, cgroup};
use std::collections::HashMap;
use std::ffi::{CString, OsStr};
use std::fs;
use std::fs::File;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// How many levels of a cgroup's path a note has, from the root on (`exit_notes.bpf.c`).
pub(crate) const LEVELS: usize = 12;

/// How many owners have a cache, in addition to the system manager.
const OWNERS: usize = 32;

/// The names of cgroups on the unified hierarchy, as far as this process's cgroup namespace shows it.
#[derive(Debug)]
pub(crate) struct CgroupNames {
    mount: PathBuf,
    root: u64,
    /// The topmost slices, which only the system manager makes, and the cgroups in them.
    system: OwnerCache,
    /// The cgroups below other cgroups, by the id of the topmost of those.
    others: HashMap<u64, OwnerCache>,
}

impl CgroupNames {
    /// Finds the mount by `proc/self/mountinfo` below a root, and reads the names of the cgroups that exist now.
    pub(crate) fn open(root: &Path) -> Option<Self> {
        Self::at_mount(unified_mount(root)?)
    }

    fn at_mount(mount: PathBuf) -> Option<Self> {
        let root = fs::metadata(&mount).ok()?.ino();
        let mut names = Self { mount, root, system: OwnerCache::new(&SYSTEM, Instant::now()), others: HashMap::new() };
        names.read_slices();
        Some(names)
    }

    /// Reads the names of all cgroups of the system manager's units: they can be gone when their processes are.
    fn read_slices(&mut self) {
        let mut slices = vec![Vec::new()];
        while let Some(path) = slices.pop() {
            let Ok((children, _)) = children(&self.directory(&path)) else { continue };
            for (id, name) in children {
                if self.system.len() >= SYSTEM.names / 2 {
                    return;
                }
                if is_system_slice(&name) {
                    slices.push([&path[..], b"/", &name].concat());
                }
                self.system.insert(id, Some(name));
            }
        }
    }

    /// Returns a cgroup's path from the ids of its ancestors, the topmost first, and its own id; zeros follow. The path ends
    /// where it names the unit. `removed` returns the name that was noted when a cgroup was removed.
    ///
    /// `None` where a name is unknown, outside this namespace, or beyond the owner's quota. Below a user manager the path
    /// then ends with that manager instead.
    pub(crate) fn path(
        &mut self,
        ids: &[u64],
        removed: impl Fn(u64) -> Option<CString>,
        now: Instant,
    ) -> Option<Vec<u8>> {
        let own_root = ids.iter().position(|&id| id == self.root)?;
        let below = ids.get(own_root + 1..)?;
        let (mut path, mut owner, mut user_manager) = (Vec::new(), None, None);
        let cut_to_manager = |mut path: Vec<u8>, end: Option<usize>| {
            path.truncate(end?);
            Some(path)
        };
        for &id in below.iter().take_while(|&&id| id != 0) {
            let Some(name) = self.name(owner, &path, id, &removed, now) else {
                return cut_to_manager(path, user_manager);
            };
            if owner.is_none() && !is_system_slice(&name) {
                owner = Some(id);
            }
            path.push(b'/');
            path.extend_from_slice(&name);
            if names_unit(&path) {
                return Some(path);
            }
            if is_user_manager(&path) {
                user_manager = Some(path.len());
            }
        }
        // The note has no room for deeper levels, and without them the path would be another cgroup's.
        if ids.len() >= LEVELS && ids.last() != Some(&0) {
            return cut_to_manager(path, user_manager);
        }
        if path.is_empty() {
            path.push(b'/');
        }
        Some(path)
    }

    /// Returns the name of a cgroup in its parent cgroup, within the owner's quota.
    fn name(
        &mut self,
        owner: Option<u64>,
        parent: &[u8],
        id: u64,
        removed: impl Fn(u64) -> Option<CString>,
        now: Instant,
    ) -> Option<CgroupName> {
        let removed = || removed(id).filter(|name| !name.is_empty()).map(|name| CgroupName::from(name.into_bytes()));
        let directory = self.directory(parent);
        let cache = self.cache(owner, now);
        let cached = cache.get(id);
        if let Some(Some(name)) = cached {
            return Some(name.clone());
        }
        let is_unknown = cached.is_none();
        // A note costs no reading. The cgroup can be removed during the reading, so look for a note after it, too.
        let name = removed().or_else(|| {
            if is_unknown {
                cache.read_directory(&directory, id, now);
            }
            cache.get(id).cloned().flatten().or_else(removed)
        })?;
        cache.insert(id, Some(name.clone()));
        Some(name)
    }

    fn cache(&mut self, owner: Option<u64>, now: Instant) -> &mut OwnerCache {
        let Some(owner) = owner else { return &mut self.system };
        if self.others.len() >= OWNERS && !self.others.contains_key(&owner) {
            // An owner whose cache is dropped starts with a full budget, so drop the one that gains least by it.
            let richest = self.others.iter().max_by_key(|(_, cache)| cache.budget(now)).map(|(id, _)| *id);
            richest.and_then(|id| self.others.remove(&id));
        }
        self.others.entry(owner).or_insert_with(|| OwnerCache::new(&OTHER, now))
    }

    fn directory(&self, path: &[u8]) -> PathBuf {
        self.mount.join(OsStr::from_bytes(path.strip_prefix(b"/").unwrap_or(path)))
    }
}

/// Whether only the system manager makes cgroups in the cgroup of this name: in its slices, except those of users
/// (`user@.service(5)`), who can log in any number of times.
fn is_system_slice(name: &[u8]) -> bool {
    name.ends_with(b".slice") && !name.starts_with(b"user-")
}

/// Whether the path names a unit, so that all cgroups below belong to it. A level that is no unit's name changes nothing.
fn names_unit(path: &[u8]) -> bool {
    matches!(cgroup::place_path(&[path, b"/."].concat()), Placement::Unit(_))
}

/// Whether this is the path of a user manager's cgroup.
fn is_user_manager(path: &[u8]) -> bool {
    matches!(cgroup::place_path(path), Placement::None(Unplaced::Manager(Manager::User(_))))
}

/// Returns where the whole unified hierarchy is mounted, by `proc/self/mountinfo` below a root.
pub(crate) fn unified_mount(root: &Path) -> Option<PathBuf> {
    let mounts = MountTable::read_from(File::open(root.join("proc/self/mountinfo")).ok()?).ok()?;
    Some(root.join(find_unified_mount(&mounts)?.strip_prefix("/").ok()?))
}

/// Returns the mount point of the whole unified hierarchy.
fn find_unified_mount(mounts: &MountTable) -> Option<&Path> {
    let mount = mounts.mounts().iter().find(|mount| mount.fs_type == b"cgroup2" && mount.root == b"/")?;
    Some(Path::new(OsStr::from_bytes(&mount.point)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// A hierarchy of directories.
    fn hierarchy(paths: &[&str]) -> (tempfile::TempDir, CgroupNames) {
        let root = tempfile::tempdir().unwrap();
        for path in paths {
            fs::create_dir_all(root.path().join(path)).unwrap();
        }
        let cgroups = CgroupNames::at_mount(root.path().to_owned()).unwrap();
        (root, cgroups)
    }

    /// Returns the ids along a path, with zeros after them.
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

    /// Makes directories, and returns the ids along each path.
    fn make(root: &Path, paths: &[String]) -> Vec<Vec<u64>> {
        let all = paths.iter().map(|path| {
            fs::create_dir(root.join(path)).unwrap();
            ids(root, path)
        });
        all.collect()
    }

    fn look_up(cgroups: &mut CgroupNames, ids: &[u64], removed: impl Fn(u64) -> Option<CString>) -> Option<Vec<u8>> {
        cgroups.path(ids, removed, Instant::now())
    }

    fn no_note(_: u64) -> Option<CString> {
        None
    }

    #[test]
    fn ids_give_the_path_down_to_the_unit() {
        let user = "user.slice/user-7.slice/user@7.service/app.slice/b.service";
        let (root, mut cgroups) = hierarchy(&["system.slice/a.service/sshd.service/x", user, "lxc/y"]);
        for (path, expected) in [
            ("system.slice/a.service", "/system.slice/a.service"),
            ("system.slice/a.service/sshd.service/x", "/system.slice/a.service"),
            (user, "/user.slice/user-7.slice/user@7.service/app.slice/b.service"),
            ("user.slice", "/user.slice"),
            ("lxc/y", "/lxc/y"),
            ("", "/"),
        ] {
            assert_eq!(
                look_up(&mut cgroups, &ids(root.path(), path), no_note).as_deref(),
                Some(expected.as_bytes()),
                "{path}"
            );
        }
    }

    #[test]
    fn path_begins_at_the_root_of_the_namespace() {
        let (root, mut cgroups) = hierarchy(&["system.slice/a.service"]);
        let mut inside = ids(root.path(), "system.slice/a.service");
        inside.splice(0..0, [u64::MAX, u64::MAX - 1]);
        assert_eq!(look_up(&mut cgroups, &inside, no_note).as_deref(), Some(&b"/system.slice/a.service"[..]));
        assert_eq!(look_up(&mut cgroups, &[u64::MAX; LEVELS], no_note), None, "another namespace");
        assert_eq!(look_up(&mut cgroups, &[0; LEVELS], no_note), None);
    }

    #[test]
    fn removed_cgroup_has_a_path_only_if_it_was_cached_or_noted() {
        let (root, mut cgroups) = hierarchy(&["system.slice/a.service"]);
        fs::create_dir(root.path().join("system.slice/late.service")).unwrap();
        let [early, late] = ["system.slice/a.service", "system.slice/late.service"].map(|path| {
            let ids = ids(root.path(), path);
            fs::remove_dir(root.path().join(path)).unwrap();
            ids
        });
        assert_eq!(look_up(&mut cgroups, &early, no_note).as_deref(), Some(&b"/system.slice/a.service"[..]));
        assert_eq!(look_up(&mut cgroups, &late, no_note), None);
        assert_eq!(look_up(&mut cgroups, &late, |_| Some(c"".into())), None);
        let noted = |id| late.contains(&id).then(|| c"late.service".into());
        assert_eq!(look_up(&mut cgroups, &late, noted).as_deref(), Some(&b"/system.slice/late.service"[..]));
    }

    #[test]
    fn path_deeper_than_a_note_is_none_unless_it_names_a_unit() {
        let deep: Vec<String> = (0..LEVELS).map(|level| format!("{level}.slice")).collect();
        let deep = format!("{}/a.service", deep.join("/"));
        let (root, mut cgroups) = hierarchy(&[&deep]);
        assert_eq!(look_up(&mut cgroups, &ids(root.path(), &deep)[..LEVELS], no_note), None);
        let below = format!("a.service/{}", "x/".repeat(2 * LEVELS));
        let (root, mut cgroups) = hierarchy(&[&below]);
        assert_eq!(
            look_up(&mut cgroups, &ids(root.path(), &below)[..LEVELS], no_note).as_deref(),
            Some(&b"/a.service"[..])
        );
    }

    #[test]
    fn names_of_5000_units_are_read_once() {
        let (root, mut cgroups) = hierarchy(&["system.slice"]);
        let now = Instant::now();
        let names: Vec<String> = (0..5_000).map(|number| format!("system.slice/{number}.service")).collect();
        let all = make(root.path(), &names);
        let before = cgroups.system.budget(now);
        for (ids, name) in all.iter().zip(&names) {
            assert_eq!(cgroups.path(ids, no_note, now), Some(format!("/{name}").into_bytes()));
        }
        assert!(before - cgroups.system.budget(now) < 6_000, "each directory entry is read once");
    }

    #[test]
    fn owner_of_many_cgroups_cannot_exceed_its_quota() {
        let user = "user.slice/user-7.slice/user@7.service/app.slice";
        let (root, mut cgroups) = hierarchy(&["system.slice/early.service", user]);
        let now = Instant::now();
        let early = ids(root.path(), "system.slice/early.service");
        // The directory lives on elsewhere, so that no new one gets its inode number.
        let elsewhere = tempfile::tempdir().unwrap();
        fs::rename(root.path().join("system.slice/early.service"), elsewhere.path().join("early")).unwrap();
        let names: Vec<String> = (0..OTHER.names + 500).map(|number| format!("{user}/{number}.service")).collect();
        let siblings = make(root.path(), &names);
        let (mut found, manager) = (0, "/user.slice/user-7.slice/user@7.service");
        for (ids, name) in siblings.iter().zip(&names) {
            let path = String::from_utf8(cgroups.path(ids, no_note, now).unwrap()).unwrap();
            found += usize::from(path[1..] == **name);
            assert!(path[1..] == **name || path == manager, "{path}: another unit");
        }
        // As many readings as fit into the quota.
        assert!((20..60).contains(&found), "{found}");
        assert_eq!(
            cgroups.path(&siblings[0], no_note, now).as_deref(),
            Some(format!("/{}", names[0]).as_bytes()),
            "kept"
        );
        let last = siblings.last().unwrap();
        assert_eq!(cgroups.path(last, no_note, now).as_deref(), Some(manager.as_bytes()));
        let noted = |id| last.contains(&id).then(|| c"noted.service".into());
        let noted = cgroups.path(last, noted, now).unwrap();
        assert!(noted.ends_with(b"/noted.service"), "a note costs nothing");
        let (other, later) = (siblings.len() - 2, now + Duration::from_secs(1));
        let found = cgroups.path(&siblings[other], no_note, later);
        assert_eq!(found.as_deref(), Some(format!("/{}", names[other]).as_bytes()), "the quota grows with time");
        // Other owners lose nothing.
        assert_eq!(cgroups.path(&early, no_note, now).as_deref(), Some(&b"/system.slice/early.service"[..]));
        for path in ["system.slice/new.service", "user.slice/user-8.slice/user@8.service/app.slice/a.service"] {
            fs::create_dir_all(root.path().join(path)).unwrap();
            let found = cgroups.path(&ids(root.path(), path), no_note, now);
            assert_eq!(found, Some(format!("/{path}").into_bytes()));
        }
    }

    #[test]
    fn missing_cgroup_is_looked_for_once() {
        let (root, mut cgroups) = hierarchy(&["lxc/x", "lxc/y"]);
        let (gone, now) = (ids(root.path(), "lxc/x"), Instant::now());
        fs::remove_dir(root.path().join("lxc/x")).unwrap();
        let mut budget = || {
            assert_eq!(cgroups.path(&gone, no_note, now), None);
            cgroups.others.values().map(|cache| cache.budget(now)).sum::<u64>()
        };
        let first = budget();
        assert_eq!(budget(), first);
    }

    #[test]
    fn noted_cgroup_costs_no_reading() {
        let (root, mut cgroups) = hierarchy(&["system.slice"]);
        let (ids, now) = (make(root.path(), &["system.slice/a.service".into()]).remove(0), Instant::now());
        let before = cgroups.system.budget(now);
        let noted = |id| ids.contains(&id).then(|| c"a.service".into());
        assert!(cgroups.path(&ids, noted, now).is_some());
        assert_eq!(cgroups.system.budget(now), before);
    }

    #[test]
    fn caches_and_their_names_are_bounded() {
        let (root, mut cgroups) = hierarchy(&[]);
        for owner in 0..2 * OWNERS {
            let path = format!("{owner}.scope.d/x");
            fs::create_dir_all(root.path().join(&path)).unwrap();
            assert!(look_up(&mut cgroups, &ids(root.path(), &path), no_note).is_some());
        }
        assert!(cgroups.others.len() <= OWNERS);
        let mut cache = OwnerCache::new(&OTHER, Instant::now());
        for id in 0..3 * u64::try_from(OTHER.names).unwrap() {
            cache.insert(id, None);
            assert!(cache.get(0).is_some(), "a name in use is kept");
            assert!(cache.len() <= OTHER.names);
        }
    }

    #[test]
    fn unified_mount_is_the_one_with_the_root_of_the_hierarchy() {
        let find = |line: &[u8]| find_unified_mount(&MountTable::parse(line)).map(Path::to_owned);
        let v2 = b"25 24 0:22 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate";
        assert_eq!(find(v2), Some("/sys/fs/cgroup".into()));
        let hybrid = b"30 29 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw";
        assert_eq!(find(hybrid), Some("/sys/fs/cgroup/unified".into()));
        for other in [
            &b"31 29 0:27 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids"[..],
            b"25 24 0:22 /system.slice/a.service /mnt rw - cgroup2 cgroup2 rw",
            b"",
            b"\xff",
        ] {
            assert_eq!(find(other), None);
        }
    }
}
