//! What a tap watches: the processes of a cgroup, or a process, and their children.

use super::error::TapError;
use crate::audit::text::escape;
use crate::kernel::exit_cgroups::unified_mount;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// `PROC_PID_INIT_INO` (`include/linux/proc_ns.h`).
const FIRST_PID_NAMESPACE: u64 = 0xefff_fffc;

/// How many processes of a target are listed, and in how many cgroups.
const MOST_LISTED: usize = 256;
const MOST_CGROUPS: usize = 64;

/// What to watch. Children are watched, too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TapTarget {
    /// The processes of the cgroup with this directory, and of the cgroups below.
    Cgroup(PathBuf),
    /// A process.
    Process(u32),
}

impl TapTarget {
    /// Returns the target for a unit's cgroup path, as its manager reports it (`ControlGroup=`).
    ///
    /// # Errors
    /// No unified hierarchy is mounted.
    pub(crate) fn from_control_group(path: &str) -> Result<Self, TapError> {
        let mount = unified_mount(Path::new("/")).ok_or(TapError::NoHierarchy)?;
        Ok(Self::Cgroup(mount.join(path.trim_start_matches('/'))))
    }

    /// Returns some processes of the target: those of its own cgroup first, then those of the cgroups below.
    pub(crate) fn processes(&self) -> Vec<u32> {
        match self {
            Self::Process(pid) => vec![*pid],
            Self::Cgroup(directory) => {
                let (mut cgroups, mut listed, mut at) = (vec![directory.clone()], Vec::new(), 0);
                while let Some(cgroup) = cgroups.get(at) {
                    let pids = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
                    listed.extend(pids.lines().filter_map(|pid| pid.parse::<u32>().ok()));
                    let room = MOST_CGROUPS.saturating_sub(cgroups.len());
                    let entries = fs::read_dir(cgroup).into_iter().flatten().flatten();
                    let below = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
                    let below: Vec<PathBuf> = below.take(room).map(|entry| entry.path()).collect();
                    cgroups.extend(below);
                    at += 1;
                }
                listed.truncate(MOST_LISTED);
                listed
            }
        }
    }

    /// Checks that the target has a process.
    pub(crate) fn check(&self) -> Result<(), TapError> {
        let is_empty = match self {
            Self::Process(pid) => !task_exists(*pid, *pid),
            Self::Cgroup(directory) => match fs::read_to_string(directory.join("cgroup.events")) {
                // It counts the cgroups below, too (`Documentation/admin-guide/cgroup-v2.rst`).
                Ok(events) => events.lines().any(|line| line == "populated 0"),
                // The root has no such file, and always processes.
                Err(_) => !directory.is_dir(),
            },
        };
        if is_empty { Err(TapError::Empty(self.to_string())) } else { Ok(()) }
    }
}

impl std::fmt::Display for TapTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cgroup(directory) => write!(f, "the cgroup {}", escape(directory.as_os_str().as_bytes())),
            Self::Process(pid) => write!(f, "process {pid}"),
        }
    }
}

/// A cgroup as the programs find it (`struct watched_cgroup`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WatchedCgroup {
    /// Its id, and its level below the machine's root; the id is 0 while there is no such cgroup.
    id: u64,
    level: u64,
    /// The id of the cgroup around it, and the hash of its own name: where a new cgroup of this name appears.
    parent: u64,
    name: u64,
}

impl WatchedCgroup {
    /// Finds the cgroup with a directory. `root_level` is the level of the mounted hierarchy's root.
    ///
    /// # Errors
    /// Neither the cgroup nor the one around it exists.
    pub(crate) fn find(directory: &Path, root_level: u64) -> io::Result<Self> {
        let mount = unified_mount(Path::new("/")).unwrap_or_default();
        let depth = directory.strip_prefix(&mount).map_or(0, |path| path.components().count());
        let id = |directory: &Path| fs::metadata(directory).map(|metadata| metadata.ino());
        let (own, parent) = (id(directory), directory.parent().filter(|_| depth > 0).map_or(Ok(0), id));
        Ok(Self {
            id: match own {
                Err(error) if error.kind() != io::ErrorKind::NotFound || parent.is_err() => return Err(error),
                own => own.unwrap_or_default(),
            },
            level: root_level + depth as u64,
            parent: parent.unwrap_or_default(),
            name: hash_name(directory.file_name().unwrap_or_default().as_bytes()),
        })
    }

    /// Whether this is news that the programs lack. They see a new cgroup below a known one earlier than this process, which
    /// may have looked just before it appeared.
    pub(crate) fn replaces(&self, known: &Self) -> bool {
        self != known && (self.id != 0 || self.parent != known.parent)
    }

    pub(crate) fn to_words(self) -> [u64; 4] {
        [self.id, self.level, self.parent, self.name]
    }
}

/// Returns the hash of a name as `hash_text` in `kernel.h` computes it: over 256 bytes, with zeros after the name.
fn hash_name(name: &[u8]) -> u64 {
    let mut bytes = [0; 256];
    for (to, from) in bytes.iter_mut().zip(name) {
        *to = *from;
    }
    let (words, _) = bytes.as_chunks::<8>();
    words
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, word| (hash ^ u64::from_ne_bytes(*word)).wrapping_mul(0x100_0000_01b3))
}

/// Returns the id of the root of the mounted unified hierarchy.
pub(crate) fn unified_root() -> Option<u64> {
    Some(fs::metadata(unified_mount(Path::new("/"))?).ok()?.ino())
}

/// Whether a process has a thread.
pub(crate) fn task_exists(pid: u32, tid: u32) -> bool {
    Path::new("/proc").join(pid.to_string()).join("task").join(tid.to_string()).exists()
}

/// Checks that PIDs mean the same here as in the kernel.
pub(crate) fn check_namespace() -> Result<(), TapError> {
    match fs::metadata("/proc/self/ns/pid") {
        Ok(namespace) if namespace.ino() != FIRST_PID_NAMESPACE => Err(TapError::PidNamespace),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_of_cgroups_below_are_listed_after_the_own() {
        let directory = tempfile::tempdir().unwrap();
        let below = directory.path().join("payload");
        fs::create_dir(&below).unwrap();
        fs::write(directory.path().join("cgroup.procs"), "5\n").unwrap();
        fs::write(below.join("cgroup.procs"), "7\n8\n").unwrap();
        let target = TapTarget::Cgroup(directory.path().to_owned());
        assert_eq!(target.processes(), [5, 7, 8]);
        fs::write(directory.path().join("cgroup.procs"), "5\n".repeat(MOST_LISTED + 1)).unwrap();
        assert_eq!(target.processes().len(), MOST_LISTED);
    }

    #[test]
    fn cgroup_that_is_not_there_yet_does_not_replace_what_the_programs_saw() {
        let known = WatchedCgroup { id: 7, level: 2, parent: 5, name: 1 };
        assert!(!known.replaces(&known));
        assert!(!WatchedCgroup { id: 0, ..known }.replaces(&known), "between a stop and a start");
        assert!(WatchedCgroup { id: 8, ..known }.replaces(&known));
        assert!(WatchedCgroup { id: 0, parent: 6, ..known }.replaces(&known), "the slice is new, too");
    }
}
