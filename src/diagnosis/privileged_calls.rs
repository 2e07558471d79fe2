//! Calls that no remedy opens on a guess.

use crate::syscalls::Groups;

/// Groups whose calls administer the machine, or get around what keeps programs apart.
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

/// The smallest of [`GROUPS`] that holds a call.
#[must_use]
pub fn group(call: &str, groups: &Groups) -> Option<&'static str> {
    groups.containing(call).into_iter().find_map(|found| GROUPS.into_iter().find(|group| *group == found))
}
