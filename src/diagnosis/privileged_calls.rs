//! Privileged calls: the default remedy opens none of them before it is denied. Remedies by whole group can.

use crate::policy::Settings;
use crate::syscalls::Groups;

/// Groups whose calls administer the machine or weaken the isolation of programs.
pub const GROUPS: [&str; 11] = [
    "@privileged",
    "@raw-io",
    "@mount",
    "@module",
    "@reboot",
    "@debug",
    "@swap",
    "@clock",
    "@cpu-emulation",
    "@obsolete",
    "@keyring",
];

/// Whether the call belongs to `io_uring`, which reads, writes, opens files and connects sockets without the calls that
/// a filter sees.
#[must_use]
pub fn is_unfiltered_io(call: &str) -> bool {
    call.starts_with("io_uring_")
}

/// Returns the smallest of [`GROUPS`] that holds a call.
#[must_use]
pub fn find_group(call: &str, groups: &Groups) -> Option<&'static str> {
    groups.containing(call).into_iter().find_map(|name| GROUPS.into_iter().find(|group| *group == name))
}

/// The calls that change a file's owner (`chown(2)`).
pub const OWNERSHIP: &[&str] = &["chown", "chown32", "fchown", "fchown32", "fchownat", "lchown", "lchown32"];

/// The calls that change the user of a process (`setuid(2)`).
pub const USER_IDENTITY: &[&str] =
    &["setfsuid", "setfsuid32", "setresuid", "setresuid32", "setreuid", "setreuid32", "setuid", "setuid32"];

/// The calls that change the groups of a process (`setgid(2)`, `setgroups(2)`).
pub const GROUP_IDENTITY: &[&str] = &[
    "setfsgid",
    "setfsgid32",
    "setgid",
    "setgid32",
    "setgroups",
    "setgroups32",
    "setregid",
    "setregid32",
    "setresgid",
    "setresgid32",
];

/// The calls that have power over the machine only with a capability of the initial user namespace
/// (`capabilities(7)`). Others are not listed: `ptrace` of a user's own processes needs none, and `mount` or `chroot`
/// works with the capabilities that every process has in a user namespace of its own, whatever its bounding set
/// (`user_namespaces(7)`).
const NEEDED_CAPABILITIES: [(&str, &[&str]); 10] = [
    ("CAP_CHOWN", OWNERSHIP),
    ("CAP_SETUID", USER_IDENTITY),
    ("CAP_SETGID", GROUP_IDENTITY),
    ("CAP_SYS_PACCT", &["acct"]),
    ("CAP_SYS_TTY_CONFIG", &["vhangup"]),
    ("CAP_SYS_TIME", &["clock_settime", "clock_settime64", "settimeofday", "stime"]),
    ("CAP_SYS_MODULE", &["delete_module", "finit_module", "init_module"]),
    ("CAP_SYS_BOOT", &["kexec_file_load", "kexec_load", "reboot"]),
    ("CAP_SYS_RAWIO", &["ioperm", "iopl"]),
    ("CAP_SYS_ADMIN", &["swapoff", "swapon"]),
];

/// Returns the capability without which a privileged call has no power over other programs or the machine.
#[must_use]
pub fn find_needed_capability(call: &str) -> Option<&'static str> {
    NEEDED_CAPABILITIES.into_iter().find_map(|(capability, calls)| calls.contains(&call).then_some(capability))
}

/// Returns the group that makes a call a risk in a unit with these settings. A call is none if the unit's processes
/// cannot use the capability that it needs.
#[must_use]
pub fn find_risk(call: &str, settings: &Settings, groups: &Groups) -> Option<&'static str> {
    let is_powerless =
        || find_needed_capability(call).is_some_and(|capability| !settings.can_use_capability(capability));
    find_group(call, groups).filter(|_| !is_powerless())
}
