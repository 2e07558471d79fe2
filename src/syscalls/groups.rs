//! systemd's `@groups` of system calls.
//!
//! Their members differ by systemd point release, so they come from the host's own
//! `systemd-analyze syscall-filter` wherever there is one; a snapshot is built in for where there is none.

use std::collections::{BTreeMap, BTreeSet};

/// A set of call names, sorted.
pub type CallNames = BTreeSet<Box<str>>;

/// Where the groups were learned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupSource {
    /// The systemd that runs here, by the version it states.
    Host(Box<str>),
    /// The snapshot built into this program, by the version it was taken from.
    Embedded(Box<str>),
}

/// Every `@group` of one systemd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Groups {
    source: GroupSource,
    named: BTreeMap<Box<str>, CallGroup>,
    unresolved: CallNames,
    /// Of the systemd that they stand in for, where it is another.
    stands_for: Option<Box<str>>,
}

/// One `@group`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct CallGroup {
    help: Box<str>,
    /// As listed: calls and nested groups.
    members: Vec<Box<str>>,
    /// Nested groups resolved.
    calls: CallNames,
}

/// The listing is not what `systemd-analyze syscall-filter` prints.
#[derive(Debug, thiserror::Error)]
#[error("the listing of system call groups holds no group")]
pub struct NoGroups;

/// The listing of a systemd, without help texts; its first line says of which.
const SNAPSHOT: &str = include_str!("groups.txt");

/// The version in the first line of `systemd-analyze --version`, `systemd 252 (252.38-1~deb12u1)`: the one in
/// parentheses, which tells point releases apart; without it, the number alone.
#[must_use]
pub fn parse_version(stated: &str) -> Option<&str> {
    let said = stated.lines().next()?.strip_prefix("systemd ")?;
    let (number, rest) = said.split_once(' ').unwrap_or((said, ""));
    let full = rest.strip_prefix('(').and_then(|rest| rest.split_once(')')).map(|(full, _)| full);
    let version = full.unwrap_or(number);
    let plain = |c: char| c.is_ascii_alphanumeric() || "+-.:_~^".contains(c);
    (!version.is_empty() && version.chars().all(plain)).then_some(version)
}

impl Groups {
    /// Reads the output of `systemd-analyze --no-pager syscall-filter`, printed without colour: a group at column
    /// 0, its help and its members indented. What follows `#` at column 0 is in no group but `@known`.
    ///
    /// A line that is neither, or that no group or call could be called, does not count.
    ///
    /// # Errors
    /// Where not one group is found.
    pub fn parse(listing: &str, source: GroupSource) -> Result<Self, NoGroups> {
        let groups = Self::read(listing, source);
        if groups.named.is_empty() { Err(NoGroups) } else { Ok(groups) }
    }

    /// The groups built into this program, for where there is no systemd to ask.
    #[must_use]
    pub fn embedded() -> Self {
        let version = SNAPSHOT.strip_prefix("# ").and_then(parse_version).unwrap_or_default();
        Self::read(SNAPSHOT, GroupSource::Embedded(version.into()))
    }

    fn read(listing: &str, source: GroupSource) -> Self {
        let mut groups: BTreeMap<Box<str>, CallGroup> = BTreeMap::new();
        let mut current: Option<&mut CallGroup> = None;
        for line in listing.lines() {
            let word = line.trim();
            if line.starts_with([' ', '\t']) {
                let Some(group) = current.as_deref_mut() else { continue };
                if let Some(help) = word.strip_prefix('#') {
                    if group.help.is_empty() {
                        group.help = help.trim().into();
                    }
                } else if is_name(word) {
                    group.members.push(word.into());
                }
            } else if line.starts_with('@') && is_name(word) {
                current = Some(groups.entry(word.into()).or_default());
            } else if !word.is_empty() {
                current = None;
            }
        }
        let resolved: Vec<CallNames> = groups.keys().map(|name| flatten(&groups, name)).collect();
        for (group, calls) in groups.values_mut().zip(resolved) {
            group.calls = calls;
        }
        Self { source, named: groups, unresolved: CallNames::new(), stands_for: None }
    }

    /// These groups on a machine whose libseccomp does not know some calls.
    #[must_use]
    pub fn with_unresolved(mut self, calls: CallNames) -> Self {
        self.unresolved = calls;
        self
    }

    /// These groups in place of those of a systemd that tells its version and could not be asked for more.
    #[must_use]
    pub fn with_running_version(mut self, version: &str) -> Self {
        self.stands_for = Some(version.into());
        self
    }

    /// The version of the systemd that runs here, where that is known.
    #[must_use]
    pub fn running_version(&self) -> Option<&str> {
        match (&self.stands_for, &self.source) {
            (Some(version), _) | (None, GroupSource::Host(version)) => Some(version),
            (None, GroupSource::Embedded(_)) => None,
        }
    }

    /// Whether libseccomp knows a call, as far as is known: of a group, systemd leaves out the others.
    #[must_use]
    pub fn is_resolvable(&self, call: &str) -> bool {
        !self.unresolved.contains(call)
    }

    /// Where these groups were learned.
    #[must_use]
    pub fn source(&self) -> &GroupSource {
        &self.source
    }

    /// All names, `@` included, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.named.keys().map(AsRef::as_ref)
    }

    /// Every call of a group, nested groups resolved; `None` for a group that is not there.
    #[must_use]
    pub fn calls(&self, group: &str) -> Option<&CallNames> {
        self.named.get(group).map(|group| &group.calls)
    }

    /// The calls that a group lists itself, without those of groups in it.
    pub fn own_calls(&self, group: &str) -> impl Iterator<Item = &str> {
        let members = self.named.get(group).into_iter().flat_map(|group| &group.members);
        members.map(AsRef::as_ref).filter(|member| !member.starts_with('@'))
    }

    /// What systemd says the group is for.
    #[must_use]
    pub fn help(&self, group: &str) -> Option<&str> {
        self.named.get(group).map(|group| group.help.as_ref())
    }

    /// The groups that hold a call, smallest first; `@known`, which holds every call, is left out.
    #[must_use]
    pub fn containing(&self, call: &str) -> Vec<&str> {
        let mut found: Vec<(&str, &CallNames)> = self
            .named
            .iter()
            .filter(|(name, group)| name.as_ref() != "@known" && group.calls.contains(call))
            .map(|(name, group)| (name.as_ref(), &group.calls))
            .collect();
        found.sort_by_key(|(name, calls)| (calls.len(), *name));
        found.into_iter().map(|(name, _)| name).collect()
    }

    /// Whether this systemd's build knows a call: those of `@known`, and where there is no such group, those of any.
    ///
    /// A few names of other groups are not in `@known` and so not known: `nfsservctl` in 252 and 262, `set_tls`
    /// and `uretprobe` in 252, `fstatat` and `newfstat` in 262. One that libseccomp does not know is not known.
    #[must_use]
    pub fn is_known(&self, call: &str) -> bool {
        if !self.is_resolvable(call) {
            return false;
        }
        match self.named.get("@known") {
            Some(known) => known.calls.contains(call),
            None => self.named.values().any(|group| group.calls.contains(call)),
        }
    }
}

/// Whether a group or call could be called that.
fn is_name(word: &str) -> bool {
    let name = word.strip_prefix('@').unwrap_or(word);
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

/// The calls of a group with its nested groups, each group entered once.
fn flatten(groups: &BTreeMap<Box<str>, CallGroup>, name: &str) -> CallNames {
    let mut calls = CallNames::new();
    let mut entered = BTreeSet::new();
    let mut open = vec![name];
    while let Some(name) = open.pop() {
        if !entered.insert(name) {
            continue;
        }
        for member in groups.get(name).into_iter().flat_map(|group| &group.members) {
            if member.starts_with('@') {
                open.push(member);
            } else {
                calls.insert(member.clone());
            }
        }
    }
    calls
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTING: &str = "\
@default
    # System calls that are always permitted
    @sandbox
    exit

@sandbox
    # Sandbox functionality
    seccomp

@loop
    @loop
    @missing
    exit

@known
    # All known syscalls declared in the kernel
    @sandbox
    afs_syscall
    exit

# Ungrouped System Calls (known but not included in any of the groups except @known):
#   afs_syscall

# Unlisted System Calls (supported by the local kernel, but unknown to systemd):
#   brand_new
";

    fn listed(listing: &str) -> Groups {
        Groups::parse(listing, GroupSource::Host("252".into())).unwrap()
    }

    fn calls<'a>(groups: &'a Groups, group: &str) -> Vec<&'a str> {
        groups.calls(group).unwrap().iter().map(AsRef::as_ref).collect()
    }

    #[test]
    fn nested_groups_resolve_and_comments_do_not_count() {
        let groups = listed(LISTING);
        assert_eq!(calls(&groups, "@default"), ["exit", "seccomp"]);
        assert_eq!(calls(&groups, "@loop"), ["exit"]);
        assert_eq!(groups.own_calls("@default").collect::<Vec<_>>(), ["exit"]);
        assert_eq!(groups.help("@sandbox"), Some("Sandbox functionality"));
        assert_eq!(groups.calls("@missing"), None);
        assert_eq!(groups.names().collect::<Vec<_>>(), ["@default", "@known", "@loop", "@sandbox"]);
    }

    #[test]
    fn the_groups_of_a_call_come_smallest_first_and_without_known() {
        assert_eq!(listed(LISTING).containing("seccomp"), ["@sandbox", "@default"]);
        assert!(listed(LISTING).containing("afs_syscall").is_empty());
    }

    #[test]
    fn known_is_what_the_build_knows() {
        let groups = listed(LISTING);
        assert!(groups.is_known("afs_syscall") && groups.is_known("seccomp"));
        assert!(!groups.is_known("brand_new"));
        let unresolved = groups.clone().with_unresolved(["seccomp".into()].into());
        assert!(unresolved.is_known("afs_syscall") && !unresolved.is_known("seccomp"));
        assert!(unresolved.calls("@known").unwrap().contains("seccomp"), "the group is as systemd lists it");
        let old = listed("@clock\n    # Change the system time\n    settimeofday\n");
        assert!(old.is_known("settimeofday") && !old.is_known("read"));
    }

    #[test]
    fn what_could_be_no_name_is_not_taken_for_one() {
        let groups = listed("@clock\n    \u{1b}[31mstime\n    a b\n    @\nread\n    write\n@\u{1b}x\n    open\n");
        assert!(groups.calls("@clock").unwrap().is_empty());
        assert_eq!(groups.names().count(), 1);
    }

    #[test]
    fn the_snapshot_is_whole_and_says_whose_it_is() {
        let groups = Groups::embedded();
        assert_eq!(groups.source(), &GroupSource::Embedded("262.1-1".into()));
        assert_eq!(groups.names().count(), 30);
        assert_eq!(groups.calls("@system-service").unwrap().len(), 395);
        assert_eq!(groups.calls("@known").unwrap().len(), 561);
        assert!(groups.calls("@default").unwrap().contains("landlock_add_rule"), "by way of @sandbox");
        assert_eq!(groups.containing("reboot"), ["@reboot", "@privileged"]);
    }

    #[test]
    fn the_version_is_the_point_release() {
        assert_eq!(parse_version("systemd 252 (252.38-1~deb12u1)\n+PAM +AUDIT\n"), Some("252.38-1~deb12u1"));
        assert_eq!(parse_version("systemd 239\n+PAM\n"), Some("239"));
        for garbage in ["", "\n", "systemd", "systemd ", "busybox 1.2", "systemd 252 (\u{1b}[2J)"] {
            assert_eq!(parse_version(garbage), None);
        }
    }

    #[test]
    fn a_listing_without_groups_is_refused() {
        assert!(Groups::parse("Failed to connect\n", GroupSource::Host("252".into())).is_err());
    }
}
