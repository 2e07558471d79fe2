//! Programs that processes execute without the rights of their files, since `no_new_privs` is set. Such a process later lacks
//! what these rights would allow.

use crate::host::file_rights::{FileRights, SetIdProgram};
use crate::host::host_files::rights_of_file;
use crate::host::path_walk::PathWalk;
use crate::kernel::failed_call::FailedCall;
use crate::kernel::fuse_guard::{LastLink, open_executable, open_handle};
use std::collections::HashMap;
use std::fs;
use std::fs::File;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// How many processes are remembered.
const MOST_PROCESSES: usize = 1024;
/// How many bytes of a program's name a tap reports (`program` in `tap_layout.h`).
const MOST_OF_NAME: usize = 31;

/// The programs that a tap saw, by process.
#[derive(Debug, Default)]
pub(super) struct SetIdPrograms(HashMap<u32, PathBuf>);

impl SetIdPrograms {
    /// Remembers the file that a process executed, for when the process is gone.
    pub(super) fn remember(&mut self, pid: u32, path: &Path) {
        if self.0.len() >= MOST_PROCESSES {
            self.0.clear();
        }
        self.0.insert(pid, path.to_owned());
    }

    /// Returns the program of the process whose call failed, if its file would have given rights on the host.
    pub(super) fn find(&self, failure: &FailedCall, walk: &PathWalk<'_>) -> Option<SetIdProgram> {
        let living = fs::read_link(format!("/proc/{}/exe", failure.pid)).ok();
        let is_living = living.is_some();
        let path = living.or_else(|| self.0.get(&failure.pid).cloned())?;
        // The process may have executed another program since, or another process may have its number.
        let name = path.file_name()?.as_bytes();
        if name.get(..MOST_OF_NAME).unwrap_or(name) != failure.program {
            return None;
        }
        let place = walk.locate(&path, false).filter(|located| !located.is_unread)?.place;
        // The host can have another file where the process's own mounts have its program.
        if is_living && !is_executed_by(failure.pid, &place) {
            return None;
        }
        let mount = walk.host_mounts.holding(place.as_os_str().as_bytes());
        let ignores_bits = mount.is_some_and(|mount| mount.has("nosuid"));
        let gives = if ignores_bits { FileRights::default() } else { rights_of_file(&place, &failure.credentials) };
        (gives != FileRights::default()).then(|| SetIdProgram { path: place.into_os_string().into_vec(), gives })
    }
}

/// Whether a process executes a file of the host.
fn is_executed_by(pid: u32, path: &Path) -> bool {
    let identity = |file: File| file.metadata().ok().map(|file| (file.dev(), file.ino()));
    let executed = open_executable(pid).ok().and_then(identity);
    executed.is_some() && executed == open_handle(path, LastLink::Target).ok().and_then(identity)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::failed_call::{CallText, FailedEvent, ProcessCredentials};
    use crate::kernel::mounts::{MountTable, is_in_chroot};
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn program_of_a_process_is_compared_by_its_inode() {
        if is_in_chroot() {
            return;
        }
        let (own, pid) = (std::env::current_exe().unwrap(), std::process::id());
        let copy = tempfile::NamedTempFile::new().unwrap();
        assert!(is_executed_by(pid, &own));
        assert!(!is_executed_by(pid, copy.path()), "another file of this name");
        assert!(!is_executed_by(0, &own), "the process is gone");
    }

    #[test]
    fn program_is_that_of_the_process_and_gives_rights() {
        let file =
            tempfile::Builder::new().prefix("a-name-of-more-than-thirty-one-bytes-").tempfile_in("/tmp").unwrap();
        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o2755)).unwrap();
        let name = file.path().file_name().unwrap().as_bytes();
        let credentials = ProcessCredentials {
            uid: u32::MAX,
            effective_uid: u32::MAX,
            effective_gid: u32::MAX,
            bounding: 0,
            effective: 0,
            user_namespace: 0,
            mount_namespace: 0,
            no_new_privileges: true,
        };
        let failure = |pid, program: &[u8]| FailedCall {
            target: 0,
            pid,
            tid: pid,
            event: FailedEvent::Call { number: 0, errno: libc::EPERM, arguments: [0; 6] },
            text: CallText::None,
            credentials,
            missed: 1,
            missed_elsewhere: 0,
            count: 1,
            first: 0,
            last: 0,
            comm: Vec::new(),
            program: program.to_vec(),
            ip: 0,
            site: None,
        };
        let mut programs = SetIdPrograms::default();
        let find = |programs: &SetIdPrograms, pid: u32, program: &[u8], mounts: &[u8]| {
            let host_mounts = &MountTable::parse(mounts);
            programs.find(&failure(pid, program), &PathWalk { host_mounts, pid, tid: pid })
        };
        // No process has this number.
        let gone = u32::MAX;
        let plain = b"1 0 254:0 / / rw - ext4 x rw\n";
        assert_eq!(find(&programs, gone, &name[..31], plain), None, "no program is known");
        programs.remember(gone, file.path());
        let found = find(&programs, gone, &name[..31], plain).unwrap();
        assert_eq!(found.path, file.path().as_os_str().as_bytes());
        assert_eq!(find(&programs, gone, b"other", plain), None, "another program since");
        for mounts in [
            &b"1 0 254:0 / / rw,nosuid - ext4 x rw\n"[..],
            b"1 0 254:0 / / rw - ext4 x rw\n2 1 0:9 / /tmp rw - fuse x rw\n",
        ] {
            assert_eq!(find(&programs, gone, &name[..31], mounts), None);
        }
        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(find(&programs, gone, &name[..31], plain), None, "a plain program");
        for pid in 0..=u32::try_from(MOST_PROCESSES).unwrap() {
            programs.remember(pid, Path::new("/x"));
        }
        assert!(programs.0.len() <= MOST_PROCESSES);
    }
}
