//! Lines that grant what the unit's settings withheld from an access, and no more.

use super::access_needs::{changes_directory, find_withholding, may_not_exist};
use super::access_paths::{can_own_directory, directory_of, find_own_directory, is_shared, is_volatile};
use crate::incidents::{Access, AccessDenial, AccessPath};
use crate::policy;
use crate::policy::{Directive, Namespaces, Need, Policy, find_withheld, reached_address};
use std::collections::{BTreeMap, BTreeSet};

/// What grants an access.
#[derive(Debug, Default)]
pub(super) struct Grant {
    /// Lines.
    pub(super) lines: BTreeSet<String>,
    /// Paths to take off lists, which systemd allows only by starting the list again.
    pub(super) unlisted: BTreeSet<(Directive, Box<str>)>,
    /// Whether a line names a path at which the unit sees another one, so that it tells too little of what it opens.
    pub(super) shows_another: bool,
}

impl Grant {
    /// Returns the lines that grant several accesses: each list is started once.
    pub(super) fn join<'a>(grants: impl Iterator<Item = &'a Self>, policy: &Policy) -> BTreeSet<String> {
        let mut lines = BTreeSet::new();
        let mut unlisted: BTreeMap<Directive, BTreeSet<&str>> = BTreeMap::new();
        for grant in grants {
            lines.extend(grant.lines.iter().cloned());
            for (directive, path) in &grant.unlisted {
                unlisted.entry(*directive).or_default().insert(path);
            }
        }
        let lists = unlisted.iter().filter_map(|(directive, gone)| match directive {
            Directive::BindReadOnlyPaths => with_writable_binds(policy, gone),
            directive => without_listed(policy, *directive, gone),
        });
        lines.extend(lists.flatten());
        lines
    }

    /// Takes a path off a list if the list names it; `None` if the rest of the list cannot be written.
    fn unlist(&mut self, policy: &Policy, directive: Directive, path: &[u8]) -> Option<()> {
        let listed = policy.listed_paths(directive);
        if let Some((_, path)) = listed.into_iter().find(|(_, listed)| listed.as_bytes() == path) {
            without_listed(policy, directive, &BTreeSet::from([&*path]))?;
            self.unlisted.insert((directive, path));
        }
        Some(())
    }

    /// Makes a read-only bind mount at a path writable. Returns whether there is one; `None` if the list of bind mounts cannot be
    /// written.
    fn rebind(&mut self, policy: &Policy, path: &[u8]) -> Option<bool> {
        let words = policy.bind_words()?;
        let mut read_only = words.into_iter().filter(|word| word.directive == Directive::BindReadOnlyPaths);
        let Some(word) = read_only.find(|word| word.target.as_bytes() == path) else { return Some(false) };
        with_writable_binds(policy, &BTreeSet::from([&*word.target]))?;
        self.unlisted.insert((Directive::BindReadOnlyPaths, word.target));
        Some(true)
    }

    fn add(&mut self, line: String) {
        self.lines.insert(line);
    }
}

/// Returns what grants an access; `None` if nothing can.
pub(super) fn find_grant(denial: &AccessDenial, policy: &Policy) -> Option<Grant> {
    let causes = find_withholding(denial, policy);
    let first = causes.first()?;
    let mut grant = Grant::default();
    let lines = &mut grant.lines;
    match &denial.access {
        Access::ReadOnlyPath(path) => make_writable(&mut grant, denial, path, first, policy)?,
        Access::HiddenPath(path) => show(&mut grant, denial, path, first, policy)?,
        Access::NoExecPath(path) => {
            grant.unlist(policy, Directive::NoExecPaths, path.as_bytes())?;
            grant.add(format!("ExecPaths={}", quote(path.as_bytes())?));
        }
        Access::Device { path, wanted, .. } => {
            // A line names the node below /dev, not one that the unit makes elsewhere.
            path.as_bytes().strip_prefix(b"/dev/")?;
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
        Access::Address(address) => _ = lines.insert(format!("IPAddressAllow={}", reached_address(address.ip()))),
        Access::AddressFamily(_) => {
            let policy::CauseReason::Withheld(_) = first.why else { return None };
            lines.insert(format!("RestrictAddressFamilies={}", crate::incidents::name_access(&denial.access)));
        }
        Access::Namespaces(0) => _ = lines.insert("RestrictNamespaces=no".to_owned()),
        Access::Namespaces(flags) => {
            lines.insert(format!("RestrictNamespaces={}", Namespaces::names(*flags).collect::<Vec<_>>().join(" ")));
        }
        // A unit with `DynamicUser=` would lose too much.
        Access::SetIdMode if causes.iter().any(|cause| cause.directive == Directive::DynamicUser) => return None,
        Access::SetIdMode => _ = lines.insert("RestrictSUIDSGID=no".to_owned()),
        Access::Scheduling(_) => _ = lines.insert("RestrictRealtime=no".to_owned()),
        Access::Personality(_) => _ = lines.insert("LockPersonality=no".to_owned()),
    }
    Some(grant)
}

/// Makes a path writable: a new directory of the unit's own, or the narrowest path.
fn make_writable(
    grant: &mut Grant,
    denial: &AccessDenial,
    path: &AccessPath,
    first: &policy::DirectiveCause,
    policy: &Policy,
) -> Option<()> {
    if let Some(line) = own_directory(denial, path, policy) {
        grant.add(line);
        return Some(());
    }
    let directory = directory_of(path.as_bytes());
    // systemd skips a path that does not exist, and no call can remove or rename a mount. So a call that
    // changes the directory needs the directory.
    let needs_directory = changes_directory(denial)
        || policy.lacks_path(path.as_bytes())
        || !(is_shared(directory) || directory.starts_with(b"/proc/"));
    let target = if needs_directory { directory } else { path.as_bytes() };
    // systemd starts no unit whose path is missing.
    let is_optional = (!needs_directory && may_not_exist(denial)) || is_volatile(target);
    // An empty file system lacks the path. A bind mount has what is below its source.
    let below = [target, b"/x"].concat();
    if let Some(cover) = policy.withholding(Need::See(&below), denial.errno).first() {
        if !matches!(cover.directive, Directive::BindPaths | Directive::BindReadOnlyPaths) {
            return None;
        }
        grant.shows_another = true;
    }
    if let Some(lines) = without_mount(policy, first.directive, target) {
        grant.lines.extend(lines);
        return Some(());
    }
    if first.directive == Directive::ReadOnlyPaths {
        grant.unlist(policy, Directive::ReadOnlyPaths, target)?;
    }
    if first.directive == Directive::BindReadOnlyPaths && grant.rebind(policy, target)? {
        return Some(());
    }
    grant.add(format!("ReadWritePaths={}", if is_optional { quote_optional(target)? } else { quote(target)? }));
    Some(())
}

/// Returns the lines in place of a directive that makes a mount exactly at a path: `ReadWritePaths=` would not help there. They keep
/// the other paths of the directive read-only. `None` if it makes no such mount.
fn without_mount(policy: &Policy, directive: Directive, path: &[u8]) -> Option<Vec<String>> {
    let replaceable = [Directive::ProtectSystem, Directive::ProtectHome, Directive::ProtectControlGroups];
    let is_at_path = || policy.mounted_paths(directive).any(|mounted| mounted.as_bytes() == path);
    if !replaceable.contains(&directive) || !is_at_path() {
        return None;
    }
    if directive == Directive::ProtectSystem && path == b"/etc" {
        return Some(vec!["ProtectSystem=yes".to_owned()]);
    }
    // A namespace of its own keeps the unit from the control groups of others.
    if directive == Directive::ProtectControlGroups && policy.word(directive) == Some("strict") {
        return Some(vec!["ProtectControlGroups=private".to_owned()]);
    }
    let path = str::from_utf8(path).ok()?;
    let others: BTreeSet<&str> =
        policy.mounted_paths(directive).filter(|mounted| !Policy::are_linked(mounted, path)).collect();
    let is_target = |mounted: &str| others.iter().any(|link| *link < mounted && Policy::are_linked(link, mounted));
    let kept = others.iter().filter(|mounted| !is_target(mounted)).map(|mounted| format!("ReadOnlyPaths=-{mounted}"));
    Some(std::iter::once(format!("{}=no", directive.key())).chain(kept).collect())
}

/// Returns the line for a directory that the unit was about to make. systemd gives a directory of such a line to the
/// unit's user and removes that of `RuntimeDirectory=` when the unit stops, so it must not exist yet, and no other
/// instance may share it.
fn own_directory(denial: &AccessDenial, path: &AccessPath, policy: &Policy) -> Option<String> {
    let (directive, name) = find_own_directory(str::from_utf8(path.as_bytes()).ok()?)?;
    // For a directory that exists, mkdir(2) fails with EEXIST even on a read-only mount. But a process can change the path
    // while the kernel or a tap reads it.
    let is_new = denial.call.name().is_some_and(|call| call.starts_with("mkdir")) && !policy.has_path(path.as_bytes());
    let lists_none = policy.settings.lines(directive).count() == 0;
    (is_new && lists_none && can_own_directory(directive, policy))
        .then(|| Some(format!("{}={}", directive.key(), quote(name.as_bytes())?)))
        .flatten()
}

/// Shows a hidden path.
fn show(
    grant: &mut Grant,
    denial: &AccessDenial,
    path: &AccessPath,
    first: &policy::DirectiveCause,
    policy: &Policy,
) -> Option<()> {
    let is_changed = changes_directory(denial);
    let bound = if is_changed { directory_of(path.as_bytes()) } else { path.as_bytes() };
    let key = if is_changed { "BindPaths" } else { "BindReadOnlyPaths" };
    let bind = || Some(format!("{key}={}", quote_optional(bound)?));
    match first.directive {
        // Nothing can be shown below an inaccessible path, so an empty file system takes its place.
        Directive::ProtectHome => grant.lines.extend(["ProtectHome=tmpfs".to_owned(), bind()?]),
        Directive::InaccessiblePaths => {
            let policy::CauseReason::Withheld(withheld) = &first.why else { return None };
            let listed = policy.listed_paths(Directive::InaccessiblePaths);
            let (_, listed) = listed.into_iter().find(|(word, _)| *word == withheld.word)?;
            grant.unlist(policy, Directive::InaccessiblePaths, listed.as_bytes())?;
            if listed.as_bytes() == path.as_bytes() {
                grant.add(format!("ReadOnlyPaths={}", quote_optional(path.as_bytes())?));
            } else {
                grant.add(format!("TemporaryFileSystem={}:ro", quote(listed.as_bytes())?));
                grant.add(bind()?);
            }
        }
        Directive::ProtectProc => grant.add("ProtectProc=default".to_owned()),
        Directive::ProcSubset => grant.add("ProcSubset=all".to_owned()),
        Directive::PrivateTmp
        | Directive::TemporaryFileSystem
        | Directive::BindPaths
        | Directive::BindReadOnlyPaths
        | Directive::PrivateDevices
        | Directive::DynamicUser => grant.add(bind()?),
        // The kernel asks readers for the capability if `kernel.dmesg_restrict` is set (`check_syslog_permissions`,
        // `devkmsg_open`). The denial does not tell whether the program reads.
        Directive::ProtectKernelLogs => grant.lines.extend(without_switch(first.directive, "CAP_SYSLOG")),
        directive if directive.is_switch() => grant.lines.extend(without_switch(directive, "")),
        _ => return None,
    }
    Some(())
}

/// Returns the lines that turn a switch off and keep what else it withholds by capabilities, except one.
fn without_switch(directive: Directive, granted: &str) -> Vec<String> {
    let kept: Vec<&str> = find_withheld(directive).iter().copied().filter(|name| *name != granted).collect();
    let keep = (!kept.is_empty()).then(|| format!("CapabilityBoundingSet=~{}", kept.join(" ")));
    [format!("{}=no", directive.key())].into_iter().chain(keep).collect()
}

/// Returns the lines that start a list again without some of its paths; `None` if a word of the list is not understood
/// or cannot be written, since the unit would lose the protection of that word.
fn without_listed(policy: &Policy, directive: Directive, gone: &BTreeSet<&str>) -> Option<Vec<String>> {
    let kept = policy.path_words(directive)?.into_iter().filter(|word| !gone.contains(&*word.path));
    let kept = kept.map(|word| Some(format!("{}={}", directive.key(), quote_word(&word.text)?)));
    std::iter::once(Some(format!("{}=", directive.key()))).chain(kept).collect()
}

/// Returns the lines that start the list of bind mounts again, with those at some paths writable; `None` if the list cannot be
/// written.
fn with_writable_binds(policy: &Policy, writable: &BTreeSet<&str>) -> Option<Vec<String>> {
    let lines = policy.bind_words()?.into_iter().map(|word| {
        let directive = if writable.contains(&*word.target) { Directive::BindPaths } else { word.directive };
        // In quotes, a colon would no longer separate the paths.
        let text = quote_word(&word.text).filter(|_| !word.text.contains(' '))?;
        Some(format!("{}={text}", directive.key()))
    });
    std::iter::once(Some(format!("{}=", Directive::BindPaths.key()))).chain(lines).collect()
}

/// Writes a word of a line once more, with its specifiers; `None` if it has characters that no line should hold.
fn quote_word(text: &str) -> Option<String> {
    let is_plain = |c: char| (c.is_ascii_graphic() || c == ' ') && !matches!(c, '"' | '\'' | '\\');
    if text.is_empty() || !text.chars().all(is_plain) {
        return None;
    }
    Some(if text.contains(' ') { format!("\"{text}\"") } else { text.to_owned() })
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
