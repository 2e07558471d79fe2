//! What a failed access asked of the unit's settings, and whether these withheld it.

use super::access_paths::{directory_of, is_at_or_below, is_shared};
use crate::incidents::{Access, AccessDenial, AccessPath, CapabilityLack};
use crate::policy;
use crate::policy::{DeviceUse, Directive, Need, Policy};

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

/// Whether a call may have been about to make its file: systemd skips a line about a path that does not exist.
pub(super) fn may_not_exist(denial: &AccessDenial) -> bool {
    let opens = |name: &str| name.starts_with("open");
    let writes = matches!(denial.access, Access::ReadOnlyPath(_));
    changes_directory(denial) || (writes && denial.call.name().is_some_and(opens))
}

/// Returns the directives that withheld what a failed access asked for, the deciding one first.
pub(crate) fn find_withholding(denial: &AccessDenial, policy: &Policy) -> Vec<policy::DirectiveCause> {
    let letters = letters_of(&denial.access);
    let mut found: Vec<policy::DirectiveCause> = Vec::new();
    for need in needs(denial, &letters, policy) {
        found.extend(policy.withholding(need, denial.errno));
    }
    found
}

/// Returns the directives that may withhold what a failed access asked for, or not: the value of a specifier in their lines is
/// unknown. None of them counts if others withhold it for certain.
pub(crate) fn find_undecided(denial: &AccessDenial, policy: &Policy) -> Vec<policy::DirectiveCause> {
    let letters = letters_of(&denial.access);
    let mut found: Vec<policy::DirectiveCause> = Vec::new();
    for need in needs(denial, &letters, policy) {
        let undecided = policy.undecided(need);
        if undecided.is_empty() && !policy.withholding(need, denial.errno).is_empty() {
            return Vec::new();
        }
        found.extend(undecided);
    }
    found
}

/// Returns directives that can withhold such an access, the most frequent first.
pub(super) fn withholding_directives(access: &Access) -> &'static [Directive] {
    use Directive as D;
    match access {
        Access::ReadOnlyPath(_) => &[D::ProtectSystem, D::ReadOnlyPaths, D::ProtectHome],
        Access::HiddenPath(_) => &[D::ProtectHome, D::PrivateTmp, D::InaccessiblePaths, D::TemporaryFileSystem],
        Access::NoExecPath(_) => &[D::NoExecPaths],
        Access::SetIdProgram(_) => &[D::NoNewPrivileges],
        Access::Device { .. } => &[D::PrivateDevices, D::DevicePolicy, D::DeviceAllow],
        Access::Capability { lack: CapabilityLack::NotInBoundingSet, .. } => &[D::CapabilityBoundingSet],
        Access::Capability { lack: CapabilityLack::NotEffective, .. } => &[D::User, D::DynamicUser],
        Access::UserNamespace => &[D::PrivateUsers],
        Access::ExecutableMemory => &[D::MemoryDenyWriteExecute],
        Access::Address(_) => &[D::SocketBindDeny, D::IPAddressDeny],
        Access::AddressFamily(_) => &[D::RestrictAddressFamilies],
        Access::Namespaces(_) => &[D::RestrictNamespaces],
        Access::SetIdMode => &[D::RestrictSUIDSGID],
        Access::Scheduling(_) => &[D::RestrictRealtime],
        Access::Personality(_) => &[D::LockPersonality],
    }
}

/// Whether the present settings grant everything that an access needs.
pub(super) fn is_granted(denial: &AccessDenial, policy: &Policy) -> bool {
    find_withholding(denial, policy).is_empty()
}

/// Returns the needs of an access.
fn needs<'a>(denial: &'a AccessDenial, letters: &'a str, policy: &Policy) -> Vec<Need<'a>> {
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
        // Commands that keep root's rights have what the bounding set has.
        Access::Capability { capability, lack: CapabilityLack::NotInBoundingSet }
            if policy.settings.has_only_elevated_commands() =>
        {
            vec![Need::Bounding(*capability)]
        }
        Access::Capability { capability, lack: CapabilityLack::NotInBoundingSet } => {
            vec![Need::Bounding(*capability), Need::Effective(*capability)]
        }
        Access::Capability { capability, lack: CapabilityLack::NotEffective } => vec![Need::Effective(*capability)],
        Access::UserNamespace => vec![Need::HostUsers],
        Access::ExecutableMemory => vec![Need::ExecutableMemory],
        Access::Address(address) => {
            vec![Need::from_socket_address(denial.call.name().unwrap_or_default(), *address)]
        }
        Access::AddressFamily(number) => vec![Need::Family(*number)],
        Access::Namespaces(flags) => vec![Need::Namespaces(*flags)],
        Access::SetIdMode => vec![Need::SetIdMode],
        Access::Scheduling(policy) => vec![Need::Scheduling(*policy)],
        Access::Personality(domain) => vec![Need::Personality(*domain)],
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
    // A remedy may open the directory of a path that belongs to one program, and nothing else.
    let is_beside = |path: &[u8], asked: &[u8]| {
        let directory = directory_of(asked);
        !is_shared(directory) && is_at_or_below(path, directory)
    };
    let near = |path: &[u8]| asked.iter().any(|asked| is_at_or_below(path, asked) || is_beside(path, asked));
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
const SAMPLE: [&str; 24] = [
    "/x/x",
    "/usr/x/x",
    "/etc/x/x",
    "/boot/x/x",
    "/var/x/x",
    "/var/cache/x/x",
    "/var/log/x/x",
    "/run/x/x",
    "/srv/x/x",
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Settings, UnitFile};
    use crate::syscalls::{Abi, Arch, Call, Groups};
    use std::path::Path;

    #[test]
    fn remedy_opens_more_if_it_opens_another_directory_than_that_of_the_path() {
        let policy = |lines: &str| {
            let file = UnitFile::parse(Path::new("x.service"), format!("[Service]\n{lines}\n").as_bytes());
            let settings = Settings::new(&"x.service".parse().unwrap(), Some(file), Vec::new());
            Policy::new(settings, &Groups::embedded().with_native(Abi::X86_64))
        };
        let before = policy("ProtectSystem=strict");
        let opens = |asked: &str, line: &str| {
            let access = Access::ReadOnlyPath(AccessPath::new(asked.as_bytes()));
            let denial = AccessDenial { call: Call::named(Arch::X86_64, "truncate"), errno: libc::EROFS, access };
            opens_more(&[&denial], &before, &policy(&format!("ProtectSystem=strict\n{line}")))
        };
        assert!(opens("/x", "ReadWritePaths=/srv"), "a path directly below / has no directory of its own");
        assert!(opens("/var/lib/xy/f", "ReadWritePaths=/var/lib"));
        assert!(opens("/sr", "ReadWritePaths=/srv"), "components are compared, not bytes");
        assert!(opens("/srv/f", "ReadWritePaths=/srv"), "many programs have files there");
        assert!(!opens("/var/lib/x/f", "ReadWritePaths=/var/lib/x"));
        assert!(!opens("/srv/f", "ReadWritePaths=/srv/f"));
    }
}
