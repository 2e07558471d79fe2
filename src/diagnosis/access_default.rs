//! Which lines may grant an access by default, so that a person does not have to choose them: only those that open what
//! was asked for, and whose worst use is harmless. All others are remedies by number.

use super::access_needs::may_not_exist;
use super::access_paths::{directory_of, find_data_parent, is_at_or_below, is_guarded, is_shared};
use crate::incidents::{Access, AccessDenial, AccessPath};
use crate::policy::Directive;
use std::collections::BTreeSet;
use std::ops::RangeInclusive;

/// Capabilities that a process of another user than root may start with by default: none of them leads to other
/// rights, files or users.
const HARMLESS: [&str; 10] = [
    "CAP_AUDIT_WRITE",
    "CAP_BLOCK_SUSPEND",
    "CAP_IPC_LOCK",
    "CAP_KILL",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_RAW",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_WAKE_ALARM",
];

/// Capabilities that the bounding set of a unit of root may hold by default as well. root owns most files, so these add
/// little; another user becomes root by some of them.
const HARMLESS_FOR_ROOT: [&str; 8] =
    ["CAP_CHOWN", "CAP_FOWNER", "CAP_FSETID", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYSLOG", "CAP_SYS_TIME"];

/// Address families that most programs use: libc lists interfaces by netlink, and logs by local sockets.
const HARMLESS_FAMILIES: [&str; 4] = ["AF_INET", "AF_INET6", "AF_NETLINK", "AF_UNIX"];

/// The parent of directories that belong to one program each, with its files as well as its data.
const PACKAGES: &[u8] = b"/opt/";

/// Where distributions and administrators put programs. Elsewhere a unit or a user may write them.
const PROGRAM_DIRECTORIES: [&str; 8] = ["/bin", "/gnu/store", "/lib", "/lib64", "/nix/store", "/opt", "/sbin", "/usr"];

/// Character devices that a unit can use by default, by the numbers of their driver and node
/// (`Documentation/admin-guide/devices.txt`). The kernel alone is behind them, or a source of random numbers; a mount or a
/// network by one of them takes a capability as well. Cameras, sound cards, screens and serial lines reach people and other
/// machines: that a program asked for one does not show that it should have it.
const HARMLESS_DEVICES: [(u32, RangeInclusive<u32>); 9] = [
    // null, zero; full, random and urandom.
    (1, 3..=3),
    (1, 5..=5),
    (1, 7..=9),
    // ptmx.
    (5, 2..=2),
    // hwrng, net/tun, fuse, kvm.
    (10, 183..=183),
    (10, 200..=200),
    (10, 229..=229),
    (10, 232..=232),
    // ppp.
    (108, 0..=0),
];

/// Where programs make links below `/dev`, or where a path names another file for each process. systemd follows a link at
/// each start, so a line with such a path would open any device.
const UNSTABLE_NODES: [&str; 7] =
    ["/dev/fd", "/dev/hugepages", "/dev/mqueue", "/dev/shm", "/dev/stderr", "/dev/stdin", "/dev/stdout"];

/// Whether lines that grant an access may be a default. `first` is the directive that decided.
pub(super) fn may_be_default(denial: &AccessDenial, first: Directive, lines: &BTreeSet<String>) -> bool {
    let has_line_for = |line: &String| {
        let Some((key, value)) = line.split_once('=') else { return false };
        match Directive::from_key(key) {
            Some(Directive::AmbientCapabilities) => HARMLESS.contains(&value),
            Some(Directive::CapabilityBoundingSet) => HARMLESS.contains(&value) || HARMLESS_FOR_ROOT.contains(&value),
            Some(Directive::ReadWritePaths) => is_narrow(denial, value),
            Some(Directive::BindReadOnlyPaths) => is_narrow(denial, value) && !is_bind(first),
            Some(Directive::ExecPaths) => is_program(denial, value),
            // A bind mount shows the node of a device, together with `DeviceAllow=`.
            Some(Directive::DeviceAllow | Directive::BindPaths) => is_harmless_device(denial),
            Some(
                Directive::StateDirectory
                | Directive::CacheDirectory
                | Directive::LogsDirectory
                | Directive::RuntimeDirectory,
            ) => denial.access.path().is_some_and(|path| !is_guarded(path.as_bytes())),
            // `LockPersonality=no` is never a default: it also permits `READ_IMPLIES_EXEC`, whatever domain was asked for.
            Some(Directive::MemoryDenyWriteExecute | Directive::RestrictRealtime) => lines.len() == 1,
            Some(Directive::RestrictAddressFamilies) => HARMLESS_FAMILIES.contains(&value),
            _ => false,
        }
    };
    !lines.is_empty() && lines.iter().all(has_line_for)
}

/// Whether a line's path is exactly the denied one, or its directory if that belongs to one program.
fn is_narrow(denial: &AccessDenial, value: &str) -> bool {
    let Some(asked) = denial.access.path().map(AccessPath::as_bytes) else { return false };
    let Some(path) = unquote(value) else { return false };
    let path = path.as_bytes();
    let is_of_one = || find_data_parent(path).is_some() || path.starts_with(PACKAGES);
    let is_exact = path == asked && !may_not_exist(denial);
    !is_guarded(path) && !is_shared(path) && (is_exact || (path == directory_of(asked) && is_of_one()))
}

/// Whether a line names exactly the denied program, in a directory of programs.
fn is_program(denial: &AccessDenial, value: &str) -> bool {
    let Some(asked) = denial.access.path().map(AccessPath::as_bytes) else { return false };
    let is_exact = unquote(value).is_some_and(|path| path.as_bytes() == asked);
    let is_below = |above: &&str| is_at_or_below(asked, above.as_bytes()) && asked != above.as_bytes();
    is_exact && PROGRAM_DIRECTORIES.iter().any(is_below)
}

/// Whether a unit can use a device by default: one of [`HARMLESS_DEVICES`], by a path that only root can redirect.
fn is_harmless_device(denial: &AccessDenial) -> bool {
    let Access::Device { path, node, wanted } = &denial.access else { return false };
    let path = path.as_bytes();
    let is_known = HARMLESS_DEVICES.iter().any(|(major, minors)| node.major == *major && minors.contains(&node.minor));
    let is_stable =
        path.starts_with(b"/dev/") && !UNSTABLE_NODES.iter().any(|other| is_at_or_below(path, other.as_bytes()));
    is_known && is_stable && !node.is_block && !wanted.make
}

fn is_bind(directive: Directive) -> bool {
    matches!(directive, Directive::BindPaths | Directive::BindReadOnlyPaths)
}

/// Returns the path of a word that a remedy wrote.
fn unquote(value: &str) -> Option<String> {
    let value = value.strip_prefix('"').map_or(Some(value), |value| value.strip_suffix('"'))?;
    let value = value.strip_prefix('-').unwrap_or(value);
    value.starts_with('/').then(|| value.replace("%%", "%"))
}
