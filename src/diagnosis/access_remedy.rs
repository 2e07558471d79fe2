//! Lines that grant what the unit's settings withheld from an access, and no more.

use super::access_needs::{changes_directory, directory_of, find_withholding};
use crate::incidents::{Access, AccessDenial, AccessPath};
use crate::policy;
use crate::policy::{Directive, Policy, find_withheld};
use std::collections::BTreeSet;

/// Directories of many programs: a remedy opens none of them as a whole.
const SHARED: [&str; 26] = [
    "",
    "/bin",
    "/boot",
    "/dev",
    "/efi",
    "/etc",
    "/home",
    "/lib",
    "/lib64",
    "/mnt",
    "/media",
    "/opt",
    "/proc",
    "/proc/sys",
    "/root",
    "/run",
    "/sbin",
    "/srv",
    "/sys",
    "/tmp",
    "/usr",
    "/usr/lib",
    "/var",
    "/var/cache",
    "/var/lib",
    "/var/log",
];

/// The parents of a unit's own directories, and the directives that make these.
const OWN: [(&str, Directive); 4] = [
    ("/var/lib/", Directive::StateDirectory),
    ("/var/cache/", Directive::CacheDirectory),
    ("/var/log/", Directive::LogsDirectory),
    ("/run/", Directive::RuntimeDirectory),
];

/// Returns the lines that grant an access; `None` if no lines can.
pub(super) fn find_lines(denial: &AccessDenial, policy: &Policy) -> Option<BTreeSet<String>> {
    let causes = find_withholding(denial, policy);
    let first = causes.first()?;
    let mut lines = BTreeSet::new();
    match &denial.access {
        Access::ReadOnlyPath(path) => lines.extend(make_writable(denial, path, first, policy)?),
        Access::HiddenPath(path) => lines.extend(show(denial, path, first, policy)?),
        Access::NoExecPath(path) => {
            lines.extend(without_listed(policy, Directive::NoExecPaths, path));
            lines.insert(format!("ExecPaths={}", quote(path.as_bytes())?));
        }
        Access::Device { path, wanted, .. } => {
            let is_hidden = causes.iter().any(|cause| cause.directive == Directive::PrivateDevices);
            let path = quote(path.as_bytes())?;
            if is_hidden && denial.errno == libc::ENOENT {
                lines.insert(format!("BindPaths={path}"));
            }
            lines.insert(format!("DeviceAllow={path} {}", wanted.to_string().replace('-', "r")));
        }
        Access::Capability { capability, .. } => {
            let name = capability.name()?;
            for cause in &causes {
                match cause.directive {
                    Directive::CapabilityBoundingSet => _ = lines.insert(format!("CapabilityBoundingSet={name}")),
                    Directive::User | Directive::DynamicUser => {
                        lines.insert(format!("AmbientCapabilities={name}"));
                    }
                    directive => lines.extend(without_switch(directive, name)),
                }
            }
        }
        Access::SetIdProgram(_) => match causes.as_slice() {
            [only] if only.directive == Directive::NoNewPrivileges => _ = lines.insert("NoNewPrivileges=no".to_owned()),
            _ => return None,
        },
        Access::UserNamespace => _ = lines.insert("PrivateUsers=no".to_owned()),
        Access::ExecutableMemory => _ = lines.insert("MemoryDenyWriteExecute=no".to_owned()),
        Access::Address(address) if first.directive == Directive::SocketBindDeny => {
            let family = if address.is_ipv4() { "ipv4" } else { "ipv6" };
            lines.insert(format!("SocketBindAllow={family}:{}", address.port()));
        }
        Access::Address(address) => _ = lines.insert(format!("IPAddressAllow={}", address.ip())),
        Access::AddressFamily(_) => {
            let policy::CauseReason::Withheld(_) = first.why else { return None };
            lines.insert(format!("RestrictAddressFamilies={}", crate::incidents::name_access(&denial.access)));
        }
    }
    Some(lines)
}

/// Returns the lines that make a path writable: a directory of the unit's own, or the narrowest path.
fn make_writable(
    denial: &AccessDenial,
    path: &AccessPath,
    first: &policy::DirectiveCause,
    policy: &Policy,
) -> Option<Vec<String>> {
    if let Some(line) = own_directory(denial, path, policy) {
        return Some(vec![line]);
    }
    let directory = directory_of(path.as_bytes());
    let is_shared = SHARED.iter().any(|shared| shared.as_bytes() == directory) || directory.starts_with(b"/proc/");
    let target = if is_shared { path.as_bytes() } else { directory };
    // A file that is to be made does not exist yet, and systemd starts no unit whose path is missing.
    let is_optional =
        is_shared && (changes_directory(denial) || denial.call.name().is_some_and(|name| name.starts_with("open")));
    let mut lines = Vec::new();
    if first.directive == Directive::ReadOnlyPaths {
        lines.extend(without_listed(policy, Directive::ReadOnlyPaths, &AccessPath::new(target)));
    }
    lines.push(format!("ReadWritePaths={}{}", if is_optional { "-" } else { "" }, quote(target)?));
    Some(lines)
}

/// Returns the line for a directory of the unit's own. systemd gives such a directory to the unit's user, so it has to
/// bear the name of the unit, its user or its program, or must not exist yet.
fn own_directory(denial: &AccessDenial, path: &AccessPath, policy: &Policy) -> Option<String> {
    let text = str::from_utf8(path.as_bytes()).ok()?;
    let (rest, directive) =
        OWN.into_iter().find_map(|(parent, directive)| Some((text.strip_prefix(parent)?, directive)))?;
    let name = rest.split('/').next().filter(|name| !name.is_empty() && *name != "user")?;
    let is_new = name == rest && denial.call.name().is_some_and(|call| call.starts_with("mkdir"));
    let stem = policy.settings.name().as_str().split(['@', '.']).next().unwrap_or_default();
    let programs = policy.settings.commands().iter().filter_map(|command| command.program.rsplit('/').next());
    let mut owners = [Some(stem), policy.settings.user()].into_iter().flatten().chain(programs);
    let is_own = owners.any(|owner| {
        owner == name || owner.strip_suffix("-server") == Some(name) || owner.strip_suffix('d') == Some(name)
    });
    let lists_it = policy.settings.lines(directive).count() == 0;
    (lists_it && (is_own || is_new)).then(|| Some(format!("{}={}", directive.key(), quote(name.as_bytes())?))).flatten()
}

/// Returns the lines that show a hidden path.
fn show(
    denial: &AccessDenial,
    path: &AccessPath,
    first: &policy::DirectiveCause,
    policy: &Policy,
) -> Option<Vec<String>> {
    let is_changed = changes_directory(denial);
    let bound = if is_changed { directory_of(path.as_bytes()) } else { path.as_bytes() };
    let bind = || Some(format!("{}={}", if is_changed { "BindPaths" } else { "BindReadOnlyPaths" }, quote(bound)?));
    Some(match first.directive {
        // Nothing can be shown below an inaccessible path, so an empty file system takes its place.
        Directive::ProtectHome => vec!["ProtectHome=tmpfs".to_owned(), bind()?],
        Directive::InaccessiblePaths => {
            let (_, listed) = policy
                .listed_paths(Directive::InaccessiblePaths)
                .into_iter()
                .find(|(word, _)| Some(&**word) == first.deciding_word())?;
            let mut lines = without_listed(policy, Directive::InaccessiblePaths, &AccessPath::new(listed.as_bytes()));
            if listed.as_bytes() == path.as_bytes() {
                lines.push(format!("ReadOnlyPaths={}", quote(path.as_bytes())?));
            } else {
                lines.extend([format!("TemporaryFileSystem={}:ro", quote(listed.as_bytes())?), bind()?]);
            }
            lines
        }
        Directive::ProtectProc => vec!["ProtectProc=default".to_owned()],
        Directive::ProcSubset => vec!["ProcSubset=all".to_owned()],
        Directive::PrivateTmp
        | Directive::TemporaryFileSystem
        | Directive::BindPaths
        | Directive::BindReadOnlyPaths
        | Directive::PrivateDevices
        | Directive::DynamicUser => vec![bind()?],
        directive if directive.is_switch() => without_switch(directive, ""),
        _ => return None,
    })
}

/// Returns the lines that turn a switch off and keep what else it withholds by capabilities, except one.
fn without_switch(directive: Directive, granted: &str) -> Vec<String> {
    let kept: Vec<&str> = find_withheld(directive).iter().copied().filter(|name| *name != granted).collect();
    let keep = (!kept.is_empty()).then(|| format!("CapabilityBoundingSet=~{}", kept.join(" ")));
    [format!("{}=no", directive.key())].into_iter().chain(keep).collect()
}

/// Returns the lines that take a path off a list, which systemd allows only by starting the list again; none if the
/// list does not name the path.
fn without_listed(policy: &Policy, directive: Directive, path: &AccessPath) -> Vec<String> {
    let listed = policy.listed_paths(directive);
    let (gone, kept): (Vec<_>, Vec<_>) =
        listed.into_iter().partition(|(_, listed)| listed.as_bytes() == path.as_bytes());
    if gone.is_empty() {
        return Vec::new();
    }
    let kept = kept.into_iter().map(|(word, _)| format!("{}={word}", directive.key()));
    std::iter::once(format!("{}=", directive.key())).chain(kept).collect()
}

/// Writes a path as a word of a unit file; `None` if it has bytes that no line should hold.
fn quote(path: &[u8]) -> Option<String> {
    let text = str::from_utf8(path).ok()?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@,=~% ".contains(c);
    if text.is_empty() || !text.chars().all(is_plain) {
        return None;
    }
    let text = text.replace('%', "%%");
    Some(if text.contains(' ') { format!("\"{text}\"") } else { text })
}

#[cfg(test)]
mod tests;
