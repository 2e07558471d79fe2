//! Lines that grant what the unit's settings withheld from an access, and no more.

use super::access_needs::{changes_directory, find_withholding, may_not_exist};
use super::access_paths::{directory_of, is_at_or_below, is_shared};
use crate::incidents::{Access, AccessDenial, AccessPath};
use crate::policy;
use crate::policy::{Directive, Policy, find_withheld};
use std::collections::BTreeSet;

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
                lines.insert(format!("BindPaths=-{path}"));
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
    // systemd skips a path that does not exist, and no call can remove or rename a mount. So a call that
    // changes the directory needs the directory.
    let needs_directory = changes_directory(denial) || !(is_shared(directory) || directory.starts_with(b"/proc/"));
    let target = if needs_directory { directory } else { path.as_bytes() };
    // systemd starts no unit whose path is missing.
    let is_optional = (!needs_directory && may_not_exist(denial)) || is_volatile(target);
    let mut lines = Vec::new();
    if first.directive == Directive::ReadOnlyPaths {
        lines.extend(without_listed(policy, Directive::ReadOnlyPaths, &AccessPath::new(target)));
    }
    lines.push(format!("ReadWritePaths={}", if is_optional { quote_optional(target)? } else { quote(target)? }));
    Some(lines)
}

/// Whether a path may be gone after a boot.
fn is_volatile(path: &[u8]) -> bool {
    ["/run", "/tmp", "/var/tmp", "/dev"].iter().any(|above| is_at_or_below(path, above.as_bytes()))
}

/// Returns the line for a directory that the unit was about to make. systemd gives a directory of such a line to the
/// unit's user and removes that of `RuntimeDirectory=` when the unit stops, so it must not exist yet, and no other
/// instance may share it.
fn own_directory(denial: &AccessDenial, path: &AccessPath, policy: &Policy) -> Option<String> {
    let text = str::from_utf8(path.as_bytes()).ok()?;
    let (rest, directive) =
        OWN.into_iter().find_map(|(parent, directive)| Some((text.strip_prefix(parent)?, directive)))?;
    let name = rest.split('/').next().filter(|name| !name.is_empty() && *name != "user")?;
    // For a directory that exists, mkdir(2) fails with EEXIST even on a read-only mount.
    let is_new = name == rest && denial.call.name().is_some_and(|call| call.starts_with("mkdir"));
    let is_alone = directive != Directive::RuntimeDirectory || policy.settings.name().template_name().is_none();
    let lists_none = policy.settings.lines(directive).count() == 0;
    (is_new && is_alone && lists_none)
        .then(|| Some(format!("{}={}", directive.key(), quote(name.as_bytes())?)))
        .flatten()
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
    let bind =
        || Some(format!("{}={}", if is_changed { "BindPaths" } else { "BindReadOnlyPaths" }, quote_optional(bound)?));
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

/// Writes a path that need not exist, behind `-`: the source of a bind mount may be gone as well.
fn quote_optional(path: &[u8]) -> Option<String> {
    let word = quote(path)?;
    Some(word.strip_prefix('"').map_or_else(|| format!("-{word}"), |rest| format!("\"-{rest}")))
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
