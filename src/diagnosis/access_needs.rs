//! What a failed access asked of the unit's settings, and whether these withheld it.

use crate::incidents::{Access, AccessDenial, AccessPath, CapabilityLack};
use crate::policy;
use crate::policy::{DeviceUse, Need, Policy};

/// Calls that make, remove or rename entries of a directory, and so need the directory itself.
const CHANGING_DIRECTORIES: [&str; 15] = [
    "mkdir",
    "mkdirat",
    "mknod",
    "mknodat",
    "unlink",
    "unlinkat",
    "rmdir",
    "rename",
    "renameat",
    "renameat2",
    "link",
    "linkat",
    "symlink",
    "symlinkat",
    "creat",
];

/// Whether a call changes the directory of its path.
pub(super) fn changes_directory(denial: &AccessDenial) -> bool {
    denial.call.name().is_some_and(|name| CHANGING_DIRECTORIES.contains(&name))
}

/// Returns the directives that withheld what a failed access asked for, the deciding one first.
pub(super) fn find_withholding(denial: &AccessDenial, policy: &Policy) -> Vec<policy::DirectiveCause> {
    let letters = letters_of(&denial.access);
    let mut found: Vec<policy::DirectiveCause> = Vec::new();
    for need in needs(denial, &letters) {
        found.extend(policy.withholding(need, denial.errno));
    }
    found
}

/// Whether the present settings grant everything that an access needs.
pub(super) fn is_granted(denial: &AccessDenial, policy: &Policy) -> bool {
    find_withholding(denial, policy).is_empty()
}

/// Returns the needs of an access.
fn needs<'a>(denial: &'a AccessDenial, letters: &'a str) -> Vec<Need<'a>> {
    match &denial.access {
        Access::ReadOnlyPath(path) => vec![Need::Write(path.as_bytes())],
        Access::HiddenPath(path) if changes_directory(denial) => {
            vec![Need::See(path.as_bytes()), Need::Write(path.as_bytes())]
        }
        Access::HiddenPath(path) => vec![Need::See(path.as_bytes())],
        Access::NoExecPath(path) => vec![Need::Execute(path.as_bytes())],
        Access::SetIdProgram(_) => vec![Need::SetId],
        Access::Device { path, node, .. } => {
            let device =
                DeviceUse { path: path.as_bytes(), is_block: node.is_block, major: node.major, wanted: letters };
            vec![Need::See(path.as_bytes()), Need::Device(device)]
        }
        Access::Capability { capability, lack: CapabilityLack::NotInBoundingSet } => {
            vec![Need::Bounding(*capability), Need::Effective(*capability)]
        }
        Access::Capability { capability, lack: CapabilityLack::NotEffective } => vec![Need::Effective(*capability)],
        Access::UserNamespace => vec![Need::HostUsers],
        Access::ExecutableMemory => vec![Need::ExecutableMemory],
        Access::Address(address) if denial.call.name() == Some("bind") => vec![Need::Bind(*address)],
        Access::Address(address) => vec![Need::Reach(address.ip())],
        Access::AddressFamily(number) => vec![Need::Family(*number)],
    }
}

/// Returns the letters of `DeviceAllow=` for a device.
fn letters_of(access: &Access) -> String {
    match access {
        Access::Device { wanted, .. } => wanted.to_string().replace('-', "r"),
        _ => String::new(),
    }
}

/// Whether a remedy for some accesses opens more than they asked for: another capability, or a path elsewhere.
pub(super) fn opens_more(denials: &[&AccessDenial], before: &Policy, after: &Policy) -> bool {
    let is_opened = |need: Need<'_>| !before.withholding(need, 0).is_empty() && after.withholding(need, 0).is_empty();
    let is_asked = |capability: &policy::Capability| {
        denials
            .iter()
            .any(|denial| matches!(&denial.access, Access::Capability { capability: other, .. } if other == capability))
    };
    let mut capabilities = (0..=63).map(policy::Capability::new).filter(|capability| !is_asked(capability));
    let asked: Vec<&[u8]> =
        denials.iter().filter_map(|denial| denial.access.path()).map(AccessPath::as_bytes).collect();
    // A remedy may open the directory of a path, and nothing else.
    let near = |path: &[u8]| asked.iter().any(|asked| asked.starts_with(path) || path.starts_with(directory_of(asked)));
    let paths = SAMPLE.iter().map(|path| path.as_bytes()).filter(|path| !near(path));
    let opens_path = |path: &[u8]| {
        let (was, is) = (uses(before, path), uses(after, path));
        was.into_iter().zip(is).any(|(was, is)| is && !was)
    };
    let is_set_id = denials.iter().any(|denial| matches!(denial.access, Access::SetIdProgram(_)));
    capabilities.any(|capability| is_opened(Need::Bounding(capability)) || is_opened(Need::Effective(capability)))
        || paths.into_iter().any(opens_path)
        || is_opened(Need::HostUsers)
        || (is_set_id && is_opened(Need::SetId))
}

/// Whether a path can be seen, changed and executed under a policy.
fn uses(policy: &Policy, path: &[u8]) -> [bool; 3] {
    let has = |need: Need<'_>| policy.withholding(need, 0).is_empty();
    let is_seen = has(Need::See(path));
    [is_seen, is_seen && has(Need::Write(path)), is_seen && has(Need::Execute(path))]
}

/// A path below each directory that a directive is about.
const SAMPLE: [&str; 20] = [
    "/x/x",
    "/usr/x/x",
    "/etc/x/x",
    "/boot/x/x",
    "/var/x/x",
    "/var/lib/x/x",
    "/home/x/x",
    "/root/x/x",
    "/run/user/x/x",
    "/tmp/x/x",
    "/var/tmp/x/x",
    "/dev/x",
    "/dev/kmsg",
    "/proc/kmsg",
    "/proc/kallsyms",
    "/proc/sys/x",
    "/proc/x",
    "/sys/x",
    "/sys/fs/cgroup/x",
    "/usr/lib/modules/x",
];

/// Returns the directory of a path.
pub(super) fn directory_of(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
    path.get(..end).unwrap_or_default()
}
