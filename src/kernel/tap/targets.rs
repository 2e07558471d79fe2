//! What a tap watches: the processes of a cgroup, or a process, and their children.

use super::error::TapError;
use crate::audit::text::escape;
use std::fs::File;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// `PROC_PID_INIT_INO` (`include/linux/proc_ns.h`).
const FIRST_PID_NAMESPACE: u64 = 0xefff_fffc;

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
        let mount = crate::kernel::exit_cgroups::unified_mount(Path::new("/")).ok_or(TapError::NoHierarchy)?;
        Ok(Self::Cgroup(mount.join(path.trim_start_matches('/'))))
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

/// Opens a cgroup's directory, and returns the cgroup's id, too: another cgroup of the same name has another id.
pub(crate) fn open_cgroup(directory: &Path) -> io::Result<(File, u64)> {
    let file = File::open(directory)?;
    let id = file.metadata()?.ino();
    Ok((file, id))
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
