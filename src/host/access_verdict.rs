//! Weighs a failed call: whether the unit's sandbox made it fail, and what it withheld. This file does no IO: all that it knows
//! was gathered before: by a tap (`operations::tap`), or from a report of the kernel's ([`super::failure_evidence`]).
//!
//! What the host would have refused as well is harmless here: file modes, an absent file, a read-only disk.

use super::file_rights::SetIdProgram;
use crate::incidents::{Access, AccessPath, CapabilityLack, DeviceAccess, DeviceNode};
use crate::kernel::call_rules::keeps_last_link;
use crate::kernel::failed_call::{CallText, FailedCall, FailedEvent};
use crate::kernel::mounts::Mount;
use crate::policy::{Capability, Settings};
use crate::syscalls::Abi;

/// What is known of a failed call, apart from what the kernel reported at the time.
#[derive(Debug, Clone, Default)]
pub(crate) struct AccessEvidence {
    /// The call's name.
    pub(crate) call: Option<&'static str>,
    /// The absolute path to report; `None` for a call without a path, or if the process's directories are unknown.
    pub(crate) path: Option<Vec<u8>>,
    /// The same with its links resolved.
    pub(crate) place: Option<Vec<u8>>,
    /// Whether the path leads through the process's own entries in /proc, which only the process has.
    pub(crate) is_own_entry: bool,
    /// The namespaces in which the process differs from the host.
    pub(crate) own: OwnNamespaces,
    /// The mount that holds the path for the process; `None` if its mounts are unknown.
    pub(crate) mount: Option<Mount>,
    /// The mount that holds the path for the host.
    pub(crate) host_mount: Option<Mount>,
    /// The file at the path on the host, if there is one.
    pub(crate) host_file: Option<FileKind>,
    /// Whether the file at the path on the host has capabilities of its own.
    pub(crate) has_capabilities: bool,
    /// What the modes of the host's files forbid this user for certain.
    pub(crate) forbidden: ForbiddenByModes,
    /// The user and the group of the host's file at the path, and of its directory.
    pub(crate) owners: Vec<(u32, u32)>,
    /// The program that the process executes, if `no_new_privs` withholds the rights of its file.
    pub(crate) set_id: Option<SetIdProgram>,
    /// What the unit's settings withhold.
    pub(crate) privileges: UnitPrivileges,
    /// What the unit's settings do to the path or the address of the call.
    pub(crate) settings: AccessSettings,
}

/// What a unit's settings do to what a call names.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct AccessSettings {
    /// They hide the path. This stands for the mounts of a process that is gone.
    pub(crate) hide: bool,
    /// They forbid to execute the path. This stands for the mounts, too.
    pub(crate) forbid_execution: bool,
    /// They refuse the socket address. The kernel does not show who refuses one.
    pub(crate) refuse_address: bool,
}

/// What the modes of the host's files forbid a user for certain.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ForbiddenByModes {
    /// To write to the path.
    pub(crate) write: bool,
    /// To search a directory above the path.
    pub(crate) reach: bool,
    /// To open the file at the path, in whatever mode.
    pub(crate) open: bool,
}

/// Which namespaces of a process are not the host's.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct OwnNamespaces {
    /// Its mount namespace.
    pub(crate) mounts: bool,
    /// Its user namespace.
    pub(crate) users: bool,
}

/// What a unit's settings withhold from its processes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct UnitPrivileges {
    /// Whether they start as another user than root.
    pub(crate) is_user: bool,
    /// A bit for each capability with which none of them starts.
    pub(crate) withheld: u64,
}

impl UnitPrivileges {
    /// Returns what settings withhold.
    pub(crate) fn from_settings(settings: &Settings) -> Self {
        let is_withheld =
            |number: &u8| Capability::new(*number).name().is_some_and(|name| !settings.starts_with_capability(name));
        Self {
            is_user: !settings.starts_as_root(),
            withheld: (0..64).filter(is_withheld).fold(0, |bits, number| bits | 1 << number),
        }
    }
}

/// What kind of file a path leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileKind {
    /// A device.
    Device(DeviceNode),
    /// A regular file with an execute bit.
    Program,
    /// Any other file.
    Other,
    /// Unknown: to look would mount a file system, or wait for a user's program.
    Unread,
}

/// A judgement on a failed call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AccessVerdict {
    /// The sandbox withheld something.
    Denied(Access),
    /// The call would have failed without the sandbox as well, or the process itself gave up what it lacked.
    Harmless,
    /// The evidence is gone.
    Unknown,
}

use AccessVerdict::{Denied, Harmless, Unknown};

/// Capabilities (`linux/capability.h`).
const CHOWN: u8 = 0;
const DAC_OVERRIDE: u8 = 1;
const DAC_READ_SEARCH: u8 = 2;
const FOWNER: u8 = 3;
const FSETID: u8 = 4;
const NET_ADMIN: u8 = 12;
const NET_RAW: u8 = 13;
const SYS_PTRACE: u8 = 19;
const SYS_ADMIN: u8 = 21;
const PERFMON: u8 = 38;
/// Capabilities that overrule the modes of files. Another user than root lacks them everywhere.
const FILE_MODES: [u8; 4] = [DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, FSETID];
/// A bit for each of these.
const FILE_MODE_BITS: u64 = 1 << DAC_OVERRIDE | 1 << DAC_READ_SEARCH | 1 << FOWNER | 1 << FSETID;
/// Calls for which either of two capabilities is enough: the narrower one, and the other (`sk_setsockopt`,
/// `do_ip_setsockopt`, `perf_event_open`).
const ALTERNATIVES: [(&str, u8, u8); 2] =
    [("setsockopt", NET_RAW, NET_ADMIN), ("perf_event_open", PERFMON, SYS_PTRACE)];
/// Calls that change files, for which [`DAC_READ_SEARCH`] is not enough.
const CHANGING: [&str; 8] = ["mkdir", "mkdirat", "unlink", "unlinkat", "rename", "renameat", "renameat2", "creat"];
/// The level of a socket's own options, and the options for larger buffers than the machine's limit (`asm-generic/socket.h`):
/// programs try them, and do without (`fd_inc_sndbuf()` and `fd_inc_rcvbuf()` of systemd; `sd_notify(3)` calls the first).
const SOL_SOCKET: u64 = 1;
const LARGER_BUFFERS: [u64; 2] = [32, 33]; // SO_SNDBUFFORCE, SO_RCVBUFFORCE
/// The flags of clone(2) for new namespaces, which need `CAP_SYS_ADMIN`.
const NEW_NAMESPACES: u64 = 0x7e02_0000;
/// A part of the paths of the nodes that systemd mounts over inaccessible paths.
const INACCESSIBLE: &[u8] = b"/systemd/inaccessible/";
/// Calls that allocate memory, so that the kernel looks whether they may use its reserve (`cap_vm_enough_memory`).
const ALLOCATING: [&str; 10] =
    ["brk", "execve", "execveat", "fork", "memfd_create", "mmap", "mprotect", "mremap", "shmat", "vfork"];

/// Returns the name of the call; of execve(2) for a program that got no privileges.
pub(crate) fn call_name(failure: &FailedCall) -> Option<&'static str> {
    match failure.event {
        FailedEvent::Call { number, .. } => Abi::native().call_name(number),
        FailedEvent::Exec { .. } => Some("execve"),
    }
}

/// Whether the call looks at a link itself where its path ends with one.
pub(crate) fn keeps_link(failure: &FailedCall) -> bool {
    match failure.event {
        FailedEvent::Call { arguments, .. } => call_name(failure).is_some_and(|name| keeps_last_link(name, arguments)),
        FailedEvent::Exec { .. } => false,
    }
}

/// Weighs a failed call.
pub(crate) fn weigh(failure: &FailedCall, evidence: &AccessEvidence) -> AccessVerdict {
    let (errno, arguments) = match failure.event {
        FailedEvent::Exec { mode, uid, gid } => return weigh_exec(failure, evidence, mode, (uid, gid)),
        FailedEvent::Call { errno, arguments, .. } => (errno, arguments),
    };
    let call = evidence.call.unwrap_or_default();
    if call == "setsockopt" && arguments[1] == SOL_SOCKET && LARGER_BUFFERS.contains(&arguments[2]) {
        return Harmless;
    }
    match errno {
        libc::EROFS => weigh_read_only(failure, evidence),
        libc::ENOENT => weigh_hidden(failure, evidence, call, arguments),
        libc::EINVAL if evidence.own.users => Denied(Access::UserNamespace),
        libc::EPERM | libc::EACCES => {
            if let Some(denied) = weigh_unreadable(evidence, errno, call, arguments) {
                return denied;
            }
            let missed = relevant_capabilities(failure.missed, call, arguments);
            if missed != 0 {
                return weigh_capability(failure, evidence, missed, call);
            }
            if is_executable_memory(call, arguments) {
                return if errno == libc::EACCES { Denied(Access::ExecutableMemory) } else { Harmless };
            }
            if matches!(failure.text, CallText::Address(_)) {
                return weigh_address(failure, evidence, errno);
            }
            if errno == libc::EACCES && matches!(call, "execve" | "execveat") {
                return weigh_no_exec(failure, evidence);
            }
            weigh_path(failure, evidence, errno, arguments)
        }
        _ => Harmless,
    }
}

/// EROFS: the path's mount is read-only, and its file system is not.
fn weigh_read_only(failure: &FailedCall, evidence: &AccessEvidence) -> AccessVerdict {
    let Some(path) = &evidence.path else { return Unknown };
    // The kernel looks at the mount before it looks at the file.
    let changes_owner = matches!(evidence.call, Some("chown" | "fchownat" | "lchown"));
    if failure.credentials.effective_uid != 0 && (evidence.forbidden.write || changes_owner) {
        return Harmless;
    }
    // It does so even if there is no file (`do_unlinkat`, `do_rmdir`, `do_renameat2`). Then the call would fail anywhere.
    let moves = matches!(evidence.call, Some("rename" | "renameat" | "renameat2" | "rmdir" | "unlink" | "unlinkat"));
    if !evidence.own.mounts || (moves && evidence.host_file.is_none()) {
        return Harmless;
    }
    let Some(host) = &evidence.host_mount else { return Unknown };
    // A process that is gone left no mounts. A path that the host can write is read-only by the process's own mounts.
    let is_own = evidence.mount.as_ref().is_none_or(|mount| mount.has("ro") && !mount.has_super("ro"));
    if is_own && !host.has("ro") && !host.has_super("ro") {
        Denied(Access::ReadOnlyPath(AccessPath::new(path)))
    } else {
        Harmless
    }
}

/// ENOENT: the host has the path, and a mount of the process's own covers it.
fn weigh_hidden(failure: &FailedCall, evidence: &AccessEvidence, call: &str, arguments: [u64; 6]) -> AccessVerdict {
    if !evidence.own.mounts || evidence.is_own_entry {
        return Harmless;
    }
    let (Some(path), Some(place)) = (&evidence.path, &evidence.place) else { return weigh_lost_path(failure) };
    let Some(file) = evidence.host_file else { return Harmless };
    let Some(host) = &evidence.host_mount else { return Unknown };
    let is_below_dev = match &evidence.mount {
        // A unit with another root directory has other files everywhere.
        Some(mount) if mount.point == b"/" || mount.place(place) == host.place(place) => return Harmless,
        Some(mount) => mount.point == b"/dev",
        None if evidence.settings.hide => place.starts_with(b"/dev/"),
        None => return Unknown,
    };
    let path = AccessPath::new(path);
    match file {
        FileKind::Unread => Unknown,
        FileKind::Device(node) if is_below_dev => {
            Denied(Access::Device { path, node, wanted: wanted_access(call, arguments) })
        }
        _ => Denied(Access::HiddenPath(path)),
    }
}

/// A call whose path is unknown. Without one in its arguments, none made it fail.
fn weigh_lost_path(failure: &FailedCall) -> AccessVerdict {
    if matches!(failure.text, CallText::Path(_) | CallText::CutPath(_)) { Unknown } else { Harmless }
}

/// EACCES of a program: the mount permits no execution, and the host's does.
fn weigh_no_exec(failure: &FailedCall, evidence: &AccessEvidence) -> AccessVerdict {
    let Some(path) = &evidence.path else { return weigh_lost_path(failure) };
    if !evidence.own.mounts {
        return Harmless;
    }
    let Some(host) = &evidence.host_mount else { return Unknown };
    match &evidence.mount {
        None if evidence.settings.forbid_execution && evidence.host_file == Some(FileKind::Program) => {
            Denied(Access::NoExecPath(AccessPath::new(path)))
        }
        None => weigh_inaccessible(evidence, path).unwrap_or(Unknown),
        // The kernel refuses a directory, and a file without an execute bit, on each mount.
        Some(mount) if mount.has("noexec") && !host.has("noexec") && evidence.host_file == Some(FileKind::Program) => {
            Denied(Access::NoExecPath(AccessPath::new(path)))
        }
        Some(_) => weigh_inaccessible(evidence, path).unwrap_or(Harmless),
    }
}

/// The calls that the BPF programs of `DeviceAllow=` can refuse (`inode_permission`, `vfs_mknod`).
const ASKING_FOR_DEVICES: [&str; 8] =
    ["access", "creat", "faccessat", "faccessat2", "open", "openat", "openat2", "truncate"];

/// EPERM or EACCES for a path, without a capability that the kernel missed.
fn weigh_path(failure: &FailedCall, evidence: &AccessEvidence, errno: i32, arguments: [u64; 6]) -> AccessVerdict {
    let call = evidence.call.unwrap_or_default();
    let Some(path) = &evidence.path else { return weigh_lost_path(failure) };
    if let Some(denied) = weigh_inaccessible(evidence, path) {
        return denied;
    }
    match evidence.host_file {
        Some(FileKind::Device(node)) if errno == libc::EPERM && ASKING_FOR_DEVICES.contains(&call) => {
            if evidence.mount.as_ref().or(evidence.host_mount.as_ref()).is_some_and(|mount| mount.has("nodev")) {
                return Harmless;
            }
            Denied(Access::Device { path: AccessPath::new(path), node, wanted: wanted_access(call, arguments) })
        }
        _ if errno == libc::EPERM && matches!(call, "mknod" | "mknodat") => weigh_made_device(
            path,
            if call == "mknod" { [arguments[1], arguments[2]] } else { [arguments[2], arguments[3]] },
        ),
        _ => Harmless,
    }
}

/// EACCES from the nodes that systemd mounts over inaccessible paths: their modes permit nothing, so that another user than
/// root misses a capability there.
fn weigh_unreadable(evidence: &AccessEvidence, errno: i32, call: &str, arguments: [u64; 6]) -> Option<AccessVerdict> {
    // Without the mounts of a process that is gone, the settings show such a node: it permits no execution either.
    let is_node = evidence.mount.is_some() || evidence.settings.forbid_execution;
    let forbidden = evidence.forbidden;
    let is_forbidden = forbidden.reach || forbidden.open && asks_for_file(call, arguments);
    let path = evidence.path.as_ref().filter(|_| errno == libc::EACCES && is_node && !is_forbidden)?;
    weigh_inaccessible(evidence, path)
}

/// Whether a call needs a permission of the file itself, and not only to reach it.
fn asks_for_file(call: &str, [_, second, third, ..]: [u64; 6]) -> bool {
    match call {
        "open" | "openat" | "openat2" | "creat" | "truncate" => true,
        "access" => second != 0,
        "faccessat" | "faccessat2" => third != 0,
        _ => false,
    }
}

/// A mount of systemd's inaccessible nodes covers the path, and the host has it.
fn weigh_inaccessible(evidence: &AccessEvidence, path: &[u8]) -> Option<AccessVerdict> {
    let is_inaccessible = match &evidence.mount {
        Some(mount) => mount.root.windows(INACCESSIBLE.len()).any(|part| part == INACCESSIBLE),
        None => evidence.settings.hide,
    };
    (is_inaccessible && evidence.host_file.is_some()).then(|| Denied(Access::HiddenPath(AccessPath::new(path))))
}

fn weigh_made_device(path: &[u8], [mode, device]: [u64; 2]) -> AccessVerdict {
    let is_block = match u32::try_from(mode & u64::from(libc::S_IFMT)) {
        Ok(libc::S_IFBLK) => true,
        Ok(libc::S_IFCHR) => false,
        _ => return Harmless,
    };
    let node = DeviceNode { is_block, major: libc::major(device), minor: libc::minor(device) };
    Denied(Access::Device {
        path: AccessPath::new(path),
        node,
        wanted: DeviceAccess { make: true, ..DeviceAccess::default() },
    })
}

/// Returns the access that a call asks for. A call that only looks at a node gets the least that a rule permits.
fn wanted_access(call: &str, arguments: [u64; 6]) -> DeviceAccess {
    let [_, second, third, ..] = arguments;
    let (read, write) = match call {
        "open" => of_open(second),
        "openat" => of_open(third),
        "access" => of_access(second),
        "faccessat" | "faccessat2" => of_access(third),
        "creat" | "truncate" => (false, true),
        "stat" | "lstat" | "newfstatat" | "statx" | "readlink" | "readlinkat" | "getxattr" | "lgetxattr"
        | "listxattr" | "llistxattr" | "statfs" | "inotify_add_watch" => (true, false),
        // The flags of openat2(2) are in memory.
        _ => (true, true),
    };
    DeviceAccess { read, write, make: false }
}

/// Returns whether flags of open(2) ask to read and to write. Their lowest bits are a number.
fn of_open(flags: u64) -> (bool, bool) {
    let is = |mode: i32| flags & u64::from(libc::O_ACCMODE.cast_unsigned()) == u64::from(mode.cast_unsigned());
    (!is(libc::O_WRONLY), !is(libc::O_RDONLY))
}

/// Returns whether a mode of access(2) asks to read and to write.
fn of_access(mode: u64) -> (bool, bool) {
    let (reads, writes) = (has_bits(mode, libc::R_OK), has_bits(mode, libc::W_OK));
    (reads || !writes, writes)
}

fn has_bits(argument: u64, bits: i32) -> bool {
    argument & u64::from(bits.cast_unsigned()) != 0
}

/// Returns the missed capabilities that can be why the call failed.
fn relevant_capabilities(missed: u64, call: &str, arguments: [u64; 6]) -> u64 {
    let admin = 1_u64 << SYS_ADMIN;
    let [flags, ..] = arguments;
    // clone(2) looks for it twice: for memory, and for namespaces. The flags of clone3(2) are in memory.
    let allocates = ALLOCATING.contains(&call) || call == "clone" && flags & NEW_NAMESPACES == 0;
    // The kernel tries CAP_SYS_ADMIN last, in place of newer capabilities.
    if missed & !admin != 0 || allocates { missed & !admin } else { missed }
}

/// Returns the capability to name of those that a call missed.
fn first_missed(missed: u64, call: &str) -> Option<u8> {
    let has = |number: u8| has_capability(missed, number);
    let narrower = ALTERNATIVES.iter().find(|(known, narrow, other)| *known == call && has(*narrow) && has(*other));
    match narrower {
        Some((_, narrow, _)) => Some(*narrow),
        // Each of the two lets a process read.
        None if has(DAC_OVERRIDE) && has(DAC_READ_SEARCH) && !has(CHOWN) && !CHANGING.contains(&call) => {
            Some(DAC_READ_SEARCH)
        }
        None => (0..64).find(|number| has(*number)),
    }
}

fn has_capability(set: u64, number: u8) -> bool {
    set & 1_u64.checked_shl(number.into()).unwrap_or_default() != 0
}

fn weigh_capability(failure: &FailedCall, evidence: &AccessEvidence, missed: u64, call: &str) -> AccessVerdict {
    let credentials = &failure.credentials;
    let Some(number) = first_missed(missed, call) else { return Harmless };
    let given = |program: &&SetIdProgram| {
        let owns = evidence.owners.iter().any(|owner| program.gives.owns(*owner));
        // The owner of a file, and a member of its group, need no capability.
        let in_place_of = if owns { FILE_MODE_BITS } else { 0 };
        missed & (program.gives.capabilities & credentials.bounding | in_place_of) & !credentials.effective != 0
    };
    if let Some(program) = evidence.set_id.as_ref().filter(given) {
        return Denied(Access::SetIdProgram(AccessPath::new(&program.path)));
    }
    let has = has_capability(credentials.effective, number);
    let is_elsewhere = has_capability(failure.missed_elsewhere, number) && evidence.own.users;
    let is_root = credentials.effective_uid == 0;
    let is_unprivileged = !is_root && FILE_MODES.contains(&number);
    // A process that became another user gave up its capabilities, unless it kept some.
    let gave_up = !is_root && !evidence.privileges.is_user && credentials.effective == 0;
    if !has && (is_unprivileged || gave_up) {
        return Harmless;
    }
    let lack = if !has_capability(credentials.bounding, number) {
        Some(CapabilityLack::NotInBoundingSet)
    } else if evidence.privileges.is_user && !is_root && has_capability(evidence.privileges.withheld, number) {
        Some(CapabilityLack::NotEffective)
    } else {
        None
    };
    match lack {
        // In its own user namespace, a capability would not help it.
        _ if is_elsewhere && (has || lack.is_some()) => Denied(Access::UserNamespace),
        Some(lack) if !has => Denied(Access::Capability { capability: Capability::new(number), lack }),
        _ => Harmless,
    }
}

/// Whether the call makes memory executable that holds no file, or that was not executable.
fn is_executable_memory(call: &str, [_, _, protection, flags, ..]: [u64; 6]) -> bool {
    let is_executable = has_bits(protection, libc::PROT_EXEC);
    let is_anonymous = has_bits(flags, libc::MAP_ANONYMOUS);
    is_executable && (matches!(call, "mprotect" | "pkey_mprotect") || call == "mmap" && is_anonymous)
}

/// EPERM of an address: systemd's programs refuse it, or a firewall or another program of the host does.
fn weigh_address(failure: &FailedCall, evidence: &AccessEvidence, errno: i32) -> AccessVerdict {
    let address = failure.text.internet_address().filter(|_| errno == libc::EPERM && evidence.settings.refuse_address);
    address.map_or(Harmless, |address| Denied(Access::Address(address)))
}

/// A program that got no identity or capabilities from its file.
fn weigh_exec(failure: &FailedCall, evidence: &AccessEvidence, mode: u32, (uid, gid): (u32, u32)) -> AccessVerdict {
    let credentials = &failure.credentials;
    let sets_user = mode & libc::S_ISUID != 0 && uid != credentials.effective_uid;
    // Without the group's right to execute, the bit means a lock (inode(7)).
    let group = libc::S_ISGID | libc::S_IXGRP;
    let sets_group = mode & group == group && gid != credentials.effective_gid;
    let gains_capabilities = evidence.has_capabilities && credentials.effective_uid != 0;
    if !(sets_user || sets_group || gains_capabilities) {
        return Harmless;
    }
    match &evidence.path {
        None => Unknown,
        Some(_) if evidence.host_mount.as_ref().is_some_and(|mount| mount.has("nosuid")) => Harmless,
        Some(path) => Denied(Access::SetIdProgram(AccessPath::new(path))),
    }
}

#[cfg(test)]
#[path = "access_verdict_tests.rs"]
mod tests;
