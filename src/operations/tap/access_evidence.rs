//! Gathers what a failed call needs to be weighed: the mounts of its process, and what the host has at its path.
//!
//! The process may be gone. Its mounts are then those of another process of the same mount namespace, if one was seen. If none
//! was, the unit's settings tell what they do to the path.

use super::access_verdict::{AccessEvidence, FileKind, OwnNamespaces, PathSettings, UnitPrivileges};
use crate::incidents::DeviceNode;
use crate::kernel::mounts::MountTable;
use crate::kernel::procfs::Procfs;
use crate::kernel::tap::{CallText, FailedCall, FailedEvent, TapCredentials, path_argument};
use crate::policy::Policy;
use crate::policy::sandbox::Need;
use crate::syscalls::Abi;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

/// How many mount namespaces are remembered.
const MOST_NAMESPACES: usize = 256;
/// `AT_FDCWD` (`linux/fcntl.h`): a path is relative to the working directory.
const WORKING_DIRECTORY: i32 = -100;

/// What the host has, and the mounts of the namespaces that were seen.
#[derive(Debug, Default)]
pub(crate) struct EvidenceCollector {
    host_mounts: MountTable,
    host_mount_namespace: Option<u64>,
    host_user_namespace: Option<u64>,
    /// The mounts by the inode of their namespace; `None` where no process of it could be read.
    mounts: HashMap<u32, Option<MountTable>>,
}

impl EvidenceCollector {
    /// Reads what this process sees: it stands for the host.
    pub(crate) fn from_this_process() -> Self {
        Self {
            host_mounts: MountTable::read("self").unwrap_or_default(),
            host_mount_namespace: namespace("self", "mnt"),
            host_user_namespace: namespace("self", "user"),
            mounts: HashMap::new(),
        }
    }

    /// Whether a process has other mounts than the host, as far as it can be read.
    pub(crate) fn has_own_mounts(&self, pid: u32) -> bool {
        namespace(&pid.to_string(), "mnt").is_some_and(|inode| Some(inode) != self.host_mount_namespace)
    }

    /// Remembers the mounts of a process for others of its namespace.
    pub(crate) fn remember_mounts(&mut self, pid: u32) {
        let process = pid.to_string();
        // systemd may still be mounting.
        if Procfs::live().comm(pid).is_none_or(|comm| is_before_exec(&comm)) {
            return;
        }
        if let Some(inode) = namespace(&process, "mnt").and_then(|inode| u32::try_from(inode).ok()) {
            self.mounts_of(inode, &process);
        }
    }

    /// Gathers the evidence on a failed call.
    pub(crate) fn gather(
        &mut self,
        failure: &FailedCall,
        privileges: UnitPrivileges,
        policy: Option<&Policy>,
    ) -> AccessEvidence {
        let credentials = &failure.credentials;
        let differs = |own: u32, host: Option<u64>| host.is_some_and(|host| host != u64::from(own));
        let own = OwnNamespaces {
            mounts: differs(credentials.mount_namespace, self.host_mount_namespace),
            users: differs(credentials.user_namespace, self.host_user_namespace),
        };
        let path = absolute_path(failure).map(|path| resolve_links(&path));
        let mounts = self.mounts_of(credentials.mount_namespace, &failure.pid.to_string());
        let mount = path.as_ref().and_then(|path| mounts?.holding(path.as_os_str().as_bytes()).cloned());
        let host_mount = path.as_ref().and_then(|path| self.host_mounts.holding(path.as_os_str().as_bytes()).cloned());
        let host_file = path.as_deref().and_then(file_kind);
        let settings = match (&path, policy) {
            (Some(path), Some(policy)) if mount.is_none() && own.mounts && host_file.is_some() => {
                path_settings(path.as_os_str().as_bytes(), policy)
            }
            _ => PathSettings::default(),
        };
        let is_exec = matches!(failure.event, FailedEvent::Exec { .. });
        AccessEvidence {
            call: call_name(failure),
            own,
            mount,
            host_mount,
            host_file,
            has_capabilities: is_exec && path.as_deref().is_some_and(has_file_capabilities),
            is_write_protected: path.as_deref().is_some_and(|path| is_write_protected(path, credentials)),
            path: path.map(|path| path.into_os_string().into_vec()),
            privileges,
            settings,
        }
    }

    fn mounts_of(&mut self, inode: u32, process: &str) -> Option<&MountTable> {
        let is_known = self.mounts.get(&inode).is_some_and(Option::is_some);
        if !is_known {
            if self.mounts.len() >= MOST_NAMESPACES {
                self.mounts.clear();
            }
            // Before the mounts: the process may change to another namespace.
            let is_same = namespace(process, "mnt") == Some(inode.into());
            self.mounts.insert(inode, is_same.then(|| MountTable::read(process)).flatten());
        }
        self.mounts.get(&inode)?.as_ref()
    }
}

fn path_settings(path: &[u8], policy: &Policy) -> PathSettings {
    let withholds = |need| !policy.withholding(need, 0).is_empty();
    PathSettings { hide: withholds(Need::See(path)), forbid_execution: withholds(Need::Execute(path)) }
}

/// Whether systemd has not executed the program of the unit yet. systemd then gives the process the name `(PROGRAM)`.
pub(crate) fn is_before_exec(comm: &[u8]) -> bool {
    comm.starts_with(b"(")
}

/// Returns the name of the call; of execve(2) for a program that got no privileges.
pub(crate) fn call_name(failure: &FailedCall) -> Option<&'static str> {
    match failure.event {
        FailedEvent::Call { number, .. } => Abi::native().call_name(number),
        FailedEvent::Exec { .. } => Some("execve"),
    }
}

/// Returns the path of a call from the process's root directory. A relative path needs the living process.
fn absolute_path(failure: &FailedCall) -> Option<PathBuf> {
    let CallText::Path(bytes) = &failure.text else { return None };
    let path = Path::new(OsStr::from_bytes(bytes));
    if path.is_absolute() {
        return Some(path.to_owned());
    }
    let process = Path::new("/proc").join(failure.pid.to_string());
    let directory = match failure.event {
        FailedEvent::Call { arguments, .. } => path_argument(call_name(failure)?)
            .and_then(|(_, directory)| arguments.get(usize::from(directory?)))
            .map_or(WORKING_DIRECTORY, |argument| i32::from_ne_bytes(low_half(*argument))),
        FailedEvent::Exec { .. } => WORKING_DIRECTORY,
    };
    let link = if directory == WORKING_DIRECTORY {
        process.join("cwd")
    } else {
        process.join("fd").join(directory.to_string())
    };
    let base = fs::read_link(link).ok().filter(|base| base.is_absolute())?;
    Some(if bytes.is_empty() { base } else { base.join(path) })
}

fn low_half(argument: u64) -> [u8; 4] {
    let [low @ .., _, _, _, _] = argument.to_le_bytes();
    i32::from_le_bytes(low).to_ne_bytes()
}

/// Resolves links in the directories of a path that exist on the host, and the components `.` and `..`.
fn resolve_links(path: &Path) -> PathBuf {
    let (mut existing, mut rest) = (path, Vec::new());
    loop {
        if let Ok(resolved) = fs::canonicalize(existing) {
            let mut resolved = resolved;
            for name in rest.into_iter().rev() {
                resolved.push(name);
            }
            return resolved;
        }
        match (existing.parent(), existing.file_name()) {
            (Some(parent), Some(name)) => {
                rest.push(name);
                existing = parent;
            }
            // It ends with `..`, or has nothing left.
            _ => return path.to_owned(),
        }
    }
}

fn file_kind(path: &Path) -> Option<FileKind> {
    let metadata = fs::symlink_metadata(path).ok()?;
    let kind = metadata.file_type();
    if !kind.is_char_device() && !kind.is_block_device() {
        return Some(FileKind::Other);
    }
    let (major, minor) = (libc::major(metadata.rdev()), libc::minor(metadata.rdev()));
    Some(FileKind::Device(DeviceNode { is_block: kind.is_block_device(), major, minor }))
}

/// Whether modes forbid a user for certain to write to a path, or to make it. The user's further groups are unknown.
fn is_write_protected(path: &Path, credentials: &TapCredentials) -> bool {
    let existing = path.ancestors().take(2).find_map(|path| fs::metadata(path).ok());
    existing.is_some_and(|file| {
        let may_write = if file.uid() == credentials.effective_uid { 0o200 } else { 0o022 };
        credentials.effective_uid != 0 && file.mode() & may_write == 0
    })
}

/// Whether a file has capabilities of its own (`capabilities(7)`).
fn has_file_capabilities(path: &Path) -> bool {
    let Ok(path) = std::ffi::CString::new(path.as_os_str().as_bytes()) else { return false };
    // SAFETY: both strings end with a zero byte and outlive the call, which writes nothing to a buffer of size 0.
    let size = unsafe { libc::getxattr(path.as_ptr(), c"security.capability".as_ptr(), std::ptr::null_mut(), 0) };
    size > 0
}

/// Returns the inode of a process's namespace.
fn namespace(process: &str, kind: &str) -> Option<u64> {
    Some(fs::metadata(Path::new("/proc").join(process).join("ns").join(kind)).ok()?.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_resolved_in_what_exists_and_the_rest_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(directory.path()).unwrap();
        fs::create_dir(root.join("real")).unwrap();
        std::os::unix::fs::symlink("real", root.join("link")).unwrap();
        assert_eq!(resolve_links(&root.join("link/new/file")), root.join("real/new/file"));
        assert_eq!(resolve_links(&root.join("real/../link")), root.join("real"));
        assert_eq!(resolve_links(Path::new("/nonexistent/..")), Path::new("/nonexistent/.."));
    }

    #[test]
    fn path_is_write_protected_by_the_mode_of_the_file_or_its_directory() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        let own = fs::metadata(&file).unwrap().uid();
        let is_protected = |path: &Path, mode, uid| {
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            fs::set_permissions(directory.path(), fs::Permissions::from_mode(mode)).unwrap();
            let none = TapCredentials {
                uid,
                effective_uid: uid,
                effective_gid: 0,
                bounding: 0,
                effective: 0,
                user_namespace: 0,
                mount_namespace: 0,
                no_new_privileges: false,
            };
            is_write_protected(path, &none)
        };
        for path in [&file, &directory.path().join("new")] {
            let other = [0o755, 0o775, 0o757].map(|mode| is_protected(path, mode, own + 7));
            assert_eq!(other, [true, false, false], "{path:?}");
            assert!(!is_protected(path, 0o755, own));
        }
        assert!(!is_protected(&directory.path().join("no/directory"), 0o755, own + 7), "unknown");
    }

    #[test]
    fn kind_of_a_file_has_the_number_of_a_device() {
        assert_eq!(file_kind(Path::new("/dev/null")), Some(FileKind::Device("char 1:3".parse().unwrap())));
        assert_eq!(file_kind(Path::new("/")), Some(FileKind::Other));
        assert_eq!(file_kind(Path::new("/nonexistent")), None);
    }
}
