//! Privileged calls: the default remedy opens none of them before it is denied. Remedies by whole group can.

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
