//! Gathers what a failed call needs to be weighed: the mounts of its process, and what the host has at its path.
//!
//! The process may be gone. Its mounts are then those of another process of the same mount namespace, if one was seen. If none
//! was, the unit's settings tell what they do to the path.

use super::set_id_programs::SetIdPrograms;
use crate::diagnosis::before_exec::is_systemd_before_exec;
use crate::host::access_verdict::{
    AccessEvidence, AccessSettings, FileKind, OwnNamespaces, UnitPrivileges, call_name, keeps_link,
};
use crate::host::host_files::{file_capabilities, file_kind, find_owners, forbidden_by_modes};
use crate::host::path_walk::PathWalk;
use crate::kernel::call_rules::path_argument;
use crate::kernel::failed_call::{CallText, FailedCall, FailedEvent};
use crate::kernel::mounts::MountTable;
use crate::kernel::procfs::Procfs;
use crate::policy::Policy;
use crate::policy::sandbox::Need;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// How many mount namespaces are remembered.
const MOST_NAMESPACES: usize = 256;
/// How many mounts of all these are remembered.
const MOST_MOUNTS: usize = 200_000;
/// For how many polls mounts are remembered that no living process shows any more.
const REMEMBERED_POLLS: u64 = 10;
/// `AT_FDCWD` (`linux/fcntl.h`): a path is relative to the working directory.
const WORKING_DIRECTORY: i32 = -100;

/// What the host has, and the mounts of the namespaces that were seen.
#[derive(Debug, Default)]
pub(crate) struct EvidenceCollector {
    /// The host's mounts in this poll; `None` until a call needs them.
    host_mounts: Option<MountTable>,
    host_mount_namespace: Option<u64>,
    host_user_namespace: Option<u64>,
    /// The mounts by the inode of their namespace.
    mounts: HashMap<u32, SeenMounts>,
    /// The number of the current poll.
    poll: u64,
    /// What processes showed in this poll.
    processes: HashMap<u32, ProcessView>,
    set_id_programs: SetIdPrograms,
}

/// What `/proc` shows of a process.
#[derive(Debug, Clone, Copy)]
struct ProcessView {
    /// The inode of its mount namespace; `None` if it is gone.
    mount_namespace: Option<u64>,
    /// Whether its root is another directory than that of its mounts.
    has_other_root: bool,
}

/// The mounts of a namespace.
#[derive(Debug)]
struct SeenMounts {
    table: MountTable,
    /// The poll at which a living process showed them.
    poll: u64,
}

impl EvidenceCollector {
    /// Reads what this process sees: it stands for the host.
    pub(crate) fn from_this_process() -> Self {
        Self {
            host_mount_namespace: namespace("self", "mnt"),
            host_user_namespace: namespace("self", "user"),
            ..Self::default()
        }
    }

    /// Begins a poll: what was read before can have changed. Mounts are forgotten soon after the last process that showed
    /// them, since the kernel reuses the numbers of namespaces.
    pub(crate) fn begin_poll(&mut self) {
        self.poll += 1;
        let oldest = self.poll.saturating_sub(REMEMBERED_POLLS);
        self.mounts.retain(|_, seen| seen.poll >= oldest);
        self.processes.clear();
        self.host_mounts = None;
    }

    /// Reads a process once in a poll.
    fn view(&mut self, pid: u32) -> ProcessView {
        *self.processes.entry(pid).or_insert_with(|| ProcessView {
            mount_namespace: namespace(&pid.to_string(), "mnt"),
            has_other_root: has_other_root(pid),
        })
    }

    /// Whether a process has other mounts than the host, as far as it can be read.
    pub(crate) fn has_own_mounts(&mut self, pid: u32) -> bool {
        self.view(pid).mount_namespace.is_some_and(|inode| Some(inode) != self.host_mount_namespace)
    }

    /// Remembers the mounts of a process for others of its namespace.
    pub(crate) fn remember_mounts(&mut self, pid: u32) {
        let Some(inode) = self.view(pid).mount_namespace.filter(|inode| Some(*inode) != self.host_mount_namespace)
        else {
            return;
        };
        let Some(inode) = u32::try_from(inode).ok().filter(|inode| !self.is_fresh(*inode)) else { return };
        // systemd may still be mounting.
        let procfs = Procfs::live();
        let exe = procfs.exe(pid).unwrap_or_default();
        if procfs.comm(pid).is_some_and(|comm| !is_systemd_before_exec(&comm, exe.as_os_str().as_bytes())) {
            self.refresh_mounts(inode, pid);
        }
    }

    fn is_fresh(&self, inode: u32) -> bool {
        self.mounts.get(&inode).is_some_and(|seen| seen.poll == self.poll)
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
        let has_other_root = self.view(failure.pid).has_other_root;
        let has_path = matches!(failure.text, CallText::Path(_)) && !has_other_root;
        let host_mounts = self.host_mounts.get_or_insert_with(|| MountTable::read("self").unwrap_or_default());
        let lacks_rights = credentials.no_new_privileges && failure.missed != 0 && !has_other_root;
        let walk = PathWalk { host_mounts, pid: failure.pid, tid: failure.tid };
        let set_id = lacks_rights.then(|| self.set_id_programs.find(failure, &walk)).flatten();
        let found = given_path(failure)
            .filter(|_| has_path)
            .and_then(|path| Some((walk.locate(&path, keeps_link(failure))?, path)));
        let evidence = AccessEvidence {
            call: call_name(failure),
            own,
            privileges,
            set_id,
            settings: AccessSettings {
                refuse_address: policy.is_some_and(|policy| refuses_address(failure, policy)),
                ..AccessSettings::default()
            },
            ..AccessEvidence::default()
        };
        let Some((located, given)) = found else { return evidence };
        let is_exec = matches!(failure.event, FailedEvent::Exec { .. });
        if is_exec {
            self.set_id_programs.remember(failure.pid, &located.place);
        }
        self.refresh_mounts(credentials.mount_namespace, failure.pid);
        let mounts = self.mounts_in(credentials.mount_namespace);
        let no_mounts = MountTable::default();
        let host_mounts = self.host_mounts.as_ref().unwrap_or(&no_mounts);
        let place = located.place.as_os_str().as_bytes();
        let mount = mounts.and_then(|mounts| mounts.holding(place)).cloned();
        // A link that the process cannot see tells its user nothing.
        let is_visible = |link: &PathBuf| {
            let link = link.as_os_str().as_bytes();
            let places = mounts.and_then(|own| own.holding(link)).zip(host_mounts.holding(link));
            !own.mounts || places.is_some_and(|(own, host)| own.place(link) == host.place(link))
        };
        let is_shown = !located.is_own_entry && located.links.iter().all(is_visible);
        let on_host = (!located.is_unread).then_some(located.place.as_path());
        let host_file = on_host.map_or(Some(FileKind::Unread), file_kind);
        let settings = match policy {
            Some(policy) if mount.is_none() && own.mounts && host_file.is_some() => path_settings(place, policy),
            _ => AccessSettings::default(),
        };
        AccessEvidence {
            mount,
            host_mount: host_mounts.holding(place).cloned(),
            host_file,
            settings,
            has_capabilities: is_exec && on_host.is_some_and(|path| file_capabilities(path) != 0),
            forbidden: on_host.map(|path| forbidden_by_modes(path, credentials)).unwrap_or_default(),
            owners: on_host.map(find_owners).unwrap_or_default(),
            is_own_entry: located.is_own_entry,
            path: Some(if is_shown { place.to_vec() } else { given.into_os_string().into_vec() }),
            place: Some(place.to_vec()),
            ..evidence
        }
    }

    /// Reads the mounts of a living process once in a poll.
    fn refresh_mounts(&mut self, inode: u32, pid: u32) {
        let view = self.view(pid);
        // With another root, it sees other mounts.
        if self.is_fresh(inode) || view.mount_namespace != Some(inode.into()) || view.has_other_root {
            return;
        }
        if let Ok(table) = MountTable::read(&pid.to_string()) {
            let count: usize = self.mounts.values().map(|seen| seen.table.len()).sum();
            if self.mounts.len() >= MOST_NAMESPACES || count + table.len() > MOST_MOUNTS {
                self.mounts.clear();
            }
            self.mounts.insert(inode, SeenMounts { table, poll: self.poll });
        } else {
            // It has too many to read them. An older part of them would tell lies.
            self.mounts.remove(&inode);
        }
    }

    /// Returns the mounts of a namespace, as a process of it showed them.
    fn mounts_in(&self, inode: u32) -> Option<&MountTable> {
        self.mounts.get(&inode).map(|seen| &seen.table)
    }
}

fn path_settings(path: &[u8], policy: &Policy) -> AccessSettings {
    let withholds = |need| !policy.withholding(need, 0).is_empty();
    AccessSettings {
        hide: withholds(Need::See(path)),
        forbid_execution: withholds(Need::Execute(path)),
        ..AccessSettings::default()
    }
}

/// Whether a unit's settings refuse the socket address of a call.
fn refuses_address(failure: &FailedCall, policy: &Policy) -> bool {
    let address = failure.text.internet_address().zip(call_name(failure));
    address.is_some_and(|(address, call)| {
        !policy.withholding(Need::from_socket_address(call, address), libc::EPERM).is_empty()
    })
}

/// Whether a living process has another root directory than its mount namespace.
fn has_other_root(pid: u32) -> bool {
    fs::read_link(Path::new("/proc").join(pid.to_string()).join("root")).is_ok_and(|root| root != Path::new("/"))
}

/// Returns the path of a call from the root of the process. A relative path needs the living process.
fn given_path(failure: &FailedCall) -> Option<PathBuf> {
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
        process.join("task").join(failure.tid.to_string()).join("cwd")
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

/// Returns the inode of a process's namespace.
fn namespace(process: &str, kind: &str) -> Option<u64> {
    Some(fs::metadata(Path::new("/proc").join(process).join("ns").join(kind)).ok()?.ino())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::failed_call::ProcessCredentials;
    use crate::syscalls::Abi;

    fn failure(pid: u32, text: &str) -> FailedCall {
        FailedCall {
            target: 0,
            pid,
            tid: pid,
            event: FailedEvent::Call {
                number: Abi::native().call_number("mkdirat").unwrap(),
                errno: libc::EROFS,
                arguments: [u64::MAX - 99, 0, 0, 0, 0, 0],
            },
            text: CallText::Path(text.into()),
            credentials: credentials(0, u32::try_from(namespace("self", "mnt").unwrap()).unwrap()),
            missed: 0,
            missed_elsewhere: 0,
            count: 1,
            first: 0,
            last: 0,
            comm: Vec::new(),
            program: Vec::new(),
            ip: 0,
            site: None,
        }
    }

    fn credentials(uid: u32, mount_namespace: u32) -> ProcessCredentials {
        ProcessCredentials {
            uid,
            effective_uid: uid,
            effective_gid: 0,
            bounding: 0,
            effective: 0,
            user_namespace: 0,
            mount_namespace,
            no_new_privileges: false,
        }
    }

    #[test]
    fn mounts_are_read_from_the_living_at_each_poll_and_forgotten_after_the_gone() {
        let mut collector = EvidenceCollector::from_this_process();
        let own = u32::try_from(namespace("self", "mnt").unwrap()).unwrap();
        let count = |collector: &mut EvidenceCollector, pid: u32| {
            collector.refresh_mounts(own, pid);
            collector.mounts_in(own).map(MountTable::len)
        };
        assert_eq!(count(&mut collector, 0), None, "a process that is gone");
        let pid = std::process::id();
        collector.mounts.insert(own, SeenMounts { table: MountTable::default(), poll: 0 });
        collector.begin_poll();
        assert_eq!(count(&mut collector, 0), Some(0), "as they were seen last");
        let seen = count(&mut collector, pid);
        assert!(seen > Some(0), "a living process shows other mounts");
        assert_eq!(count(&mut collector, 0), seen);
        (0..=REMEMBERED_POLLS).for_each(|_| collector.begin_poll());
        assert_eq!(count(&mut collector, 0), None, "the kernel may have reused the number");
    }

    #[test]
    fn path_of_a_process_with_another_root_is_unknown() {
        let mut command = std::process::Command::new("sleep");
        let root = std::ffi::CString::new("/usr").unwrap();
        let own = failure(std::process::id(), "x");
        assert!(EvidenceCollector::default().gather(&own, UnitPrivileges::default(), None).path.is_some());
        // SAFETY: it makes one call, and the path outlives it.
        unsafe {
            use std::os::unix::process::CommandExt as _;
            command.pre_exec(move || {
                if libc::chroot(root.as_ptr()) == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
            });
        }
        let Ok(mut child) = command.arg("60").spawn() else { return };
        let gathered =
            EvidenceCollector::default().gather(&failure(child.id(), "/etc/x"), UnitPrivileges::default(), None);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!((gathered.path, gathered.mount), (None, None));
    }
}
