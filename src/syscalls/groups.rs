//! systemd's `@groups` of system calls, and what else one systemd knows about calls.
//!
//! The members of groups differ between systemd's point releases. So they come from the host's own
//! `systemd-analyze syscall-filter`; a host without one uses the built-in snapshot.

use super::abi::Abi;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

/// A sorted set of call names.
pub type CallNames = BTreeSet<Box<str>>;

/// Where the groups come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupSource {
    /// The systemd of this host: its version.
    Host(Box<str>),
    /// The snapshot in this program: the version of the systemd that printed it.
    Embedded(Box<str>),
}

/// All `@groups` of one systemd, and the facts by which it resolves names: its ABI, its libseccomp and its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Groups {
    source: GroupSource,
    named: BTreeMap<Box<str>, CallGroup>,
    /// The calls of all groups.
    grouped: CallNames,
    /// The calls that libseccomp does not know; `None` if that is unknown.
    unresolved: Option<CallNames>,
    native: Abi,
    running: RunningSystemd,
}

/// The systemd that uses the groups.
#[derive(Debug, Clone, PartialEq, Eq)]
enum RunningSystemd {
    /// The one from which the groups come.
    OfGroups,
    /// One of this version; the groups stand in for its own.
    Version(Box<str>),
    /// Unknown: the groups stand in for its own.
    Unknown,
}

/// One `@group`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct CallGroup {
    help: Box<str>,
    /// Calls and nested groups, as listed.
    members: Vec<Box<str>>,
    /// All calls, those of nested groups included.
    calls: CallNames,
}

/// A listing without a group, so not the output of `systemd-analyze syscall-filter`.
#[derive(Debug, thiserror::Error)]
#[error("it holds no group; it must be what 'systemd-analyze --no-pager syscall-filter' prints")]
pub struct NoGroups;

/// The most calls of other groups that a whole `@known` lacks: `nfsservctl` in 252 and 262, `set_tls` and `uretprobe` in
/// 252, `fstatat` and `newfstat` in 262.
const MOST_UNKNOWN: usize = 16;

/// A listing of groups without help texts. Its first line names the version of systemd.
const SNAPSHOT: &str = include_str!("groups.txt");

/// Returns the version in the first line of `systemd-analyze --version`: `252.38-1~deb12u1` in
/// `systemd 252 (252.38-1~deb12u1)`.
///
/// Without the parentheses, which name the point release, it is the number alone.
#[must_use]
pub(crate) fn parse_version(output: &str) -> Option<&str> {
    let line = output.lines().next()?.strip_prefix("systemd ")?;
    let (number, rest) = line.split_once(' ').unwrap_or((line, ""));
    let full = rest.strip_prefix('(').and_then(|rest| rest.split_once(')')).map(|(full, _)| full);
    let version = full.unwrap_or(number);
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "+-.:_~^".contains(c);
    (!version.is_empty() && version.chars().all(is_plain)).then_some(version)
}

impl Groups {
    /// Parses the output of `systemd-analyze --no-pager syscall-filter`, with or without colour.
    ///
    /// A group stands at column 0; its help and its members are indented. Calls that follow `#` at column 0 are in no
    /// group except `@known`. Lines of any other form are skipped.
    ///
    /// # Errors
    /// The listing has no group.
    pub fn parse(listing: &str, source: GroupSource) -> Result<Self, NoGroups> {
        let groups = Self::parse_listing(listing, source);
        if groups.named.is_empty() { Err(NoGroups) } else { Ok(groups) }
    }

    /// Returns the snapshot built into this program, for hosts without `systemd-analyze`.
    #[must_use]
    pub fn embedded() -> Self {
        let version = SNAPSHOT.strip_prefix("# ").and_then(parse_version).unwrap_or_default();
        Self::parse_listing(SNAPSHOT, GroupSource::Embedded(version.into()))
    }

    fn parse_listing(listing: &str, source: GroupSource) -> Self {
        let mut groups: BTreeMap<Box<str>, CallGroup> = BTreeMap::new();
        let mut current: Option<&mut CallGroup> = None;
        for line in listing.lines() {
            let line = remove_colour(line);
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
        let grouped = collect_calls(&groups);
        let running = RunningSystemd::OfGroups;
        Self { source, named: groups, grouped, unresolved: None, native: Abi::native(), running }
    }

    /// Sets the calls that the machine's libseccomp does not know.
    #[must_use]
    pub fn with_unresolved(mut self, calls: CallNames) -> Self {
        self.unresolved = Some(calls);
        self
    }

    /// Forgets which calls libseccomp knows: the groups stand in for those of another machine.
    #[must_use]
    pub(crate) fn with_unknown_libseccomp(mut self) -> Self {
        self.unresolved = None;
        self
    }

    /// Whether it is known which calls libseccomp knows.
    #[must_use]
    pub(crate) fn knows_libseccomp(&self) -> bool {
        self.unresolved.is_some()
    }

    /// Whether the systemd that uses the groups may have other members in them.
    #[must_use]
    pub(crate) fn are_of_another_systemd(&self) -> bool {
        self.running != RunningSystemd::OfGroups
    }

    /// Removes calls and groups that the systemd ignores in unit files.
    #[must_use]
    pub(crate) fn without_names(mut self, names: &CallNames) -> Self {
        self.named.retain(|group, _| !names.contains(group));
        self.grouped = collect_calls(&self.named);
        let calls: Vec<_> = names.iter().filter(|name| !name.starts_with('@')).cloned().collect();
        if !calls.is_empty() {
            self.unresolved.get_or_insert_default().extend(calls);
        }
        self
    }

    /// Sets the ABI for which this systemd is built: `native` in `SystemCallArchitectures=`.
    #[must_use]
    pub fn with_native(mut self, native: Abi) -> Self {
        self.native = native;
        self
    }

    /// Returns the ABI for which this systemd is built; that of this program unless set.
    #[must_use]
    pub fn native(&self) -> Abi {
        self.native
    }

    /// Sets the version of the running systemd, which could not list its own groups.
    #[must_use]
    pub(crate) fn with_running_version(mut self, version: &str) -> Self {
        self.running = RunningSystemd::Version(version.into());
        self
    }

    /// Marks the groups as those of another systemd than the running one, whose version is unknown.
    #[must_use]
    pub(crate) fn with_unknown_version(mut self) -> Self {
        self.running = RunningSystemd::Unknown;
        self
    }

    /// Returns the version of the systemd that uses the groups, if known.
    #[must_use]
    pub(crate) fn running_version(&self) -> Option<&str> {
        match (&self.running, &self.source) {
            (RunningSystemd::Version(version), _) | (RunningSystemd::OfGroups, GroupSource::Host(version)) => {
                Some(version)
            }
            (RunningSystemd::OfGroups, GroupSource::Embedded(_)) | (RunningSystemd::Unknown, _) => None,
        }
    }

    /// Whether libseccomp knows a call, as far as is known. systemd leaves unknown calls out of a filter.
    #[must_use]
    pub(crate) fn is_resolvable(&self, call: &str) -> bool {
        !self.unresolved.as_ref().is_some_and(|calls| calls.contains(call))
    }

    /// Returns where these groups come from.
    #[must_use]
    pub fn source(&self) -> &GroupSource {
        &self.source
    }

    /// Returns why these cannot be all groups of a systemd; `None` if nothing shows that.
    #[must_use]
    pub(crate) fn missing_part(&self) -> Option<String> {
        // `systemd-analyze syscall-filter` has always listed the first and the last of these (systemd 235).
        if let Some(name) = ["@default", "@timer"].iter().find(|name| !self.named.contains_key(**name)) {
            return Some(format!("it lacks {name}"));
        }
        for (name, group) in &self.named {
            let member =
                group.members.iter().find(|member| member.starts_with('@') && !self.named.contains_key(*member));
            if let Some(member) = member {
                return Some(format!("it lacks {member}, which is in {name}"));
            }
            if group.members.is_empty() {
                return Some(format!("it lists nothing in {name}"));
            }
        }
        // A few names of other groups are always missing there.
        let known = &self.named.get("@known")?.calls;
        let unknown = self.grouped.difference(known).count();
        (unknown > MOST_UNKNOWN).then(|| format!("{unknown} calls of other groups are not in @known"))
    }

    /// Returns all names, with `@`, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.named.keys().map(AsRef::as_ref)
    }

    /// Returns every call of a group, those of nested groups included; `None` for an unknown group.
    #[must_use]
    pub fn calls(&self, group: &str) -> Option<&CallNames> {
        self.named.get(group).map(|group| &group.calls)
    }

    /// Returns the calls that a group lists itself, without those of nested groups.
    pub(crate) fn own_calls(&self, group: &str) -> impl Iterator<Item = &str> {
        let members = self.named.get(group).into_iter().flat_map(|group| &group.members);
        members.map(AsRef::as_ref).filter(|member| !member.starts_with('@'))
    }

    /// Returns systemd's help text of a group.
    #[must_use]
    pub(crate) fn help(&self, group: &str) -> Option<&str> {
        self.named.get(group).map(|group| group.help.as_ref())
    }

    /// Returns the groups that hold a call, smallest first, without `@known`, which holds every call.
    #[must_use]
    pub(crate) fn containing(&self, call: &str) -> Vec<&str> {
        let mut found: Vec<(&str, &CallNames)> = self
            .named
            .iter()
            .filter(|(name, group)| name.as_ref() != "@known" && group.calls.contains(call))
            .map(|(name, group)| (name.as_ref(), &group.calls))
            .collect();
        found.sort_by_key(|(name, calls)| (calls.len(), *name));
        found.into_iter().map(|(name, _)| name).collect()
    }

    /// Whether a line of a unit can name a call. libseccomp alone decides on that
    /// (`seccomp_parse_syscall_filter`, `src/shared/seccomp-util.c`): systemd 252 with libseccomp 2.5.4 takes `set_tls`
    /// and `nfsservctl`, which its `@known` lacks, and `cachestat`, which no group has. If it is unknown which calls
    /// libseccomp knows, those in any group count.
    #[must_use]
    pub fn is_known(&self, call: &str) -> bool {
        let is_elsewhere = || self.knows_libseccomp() && is_call_of_any_abi(call);
        self.is_resolvable(call) && (self.grouped.contains(call) || is_elsewhere())
    }

    /// Returns the group whose name is most like a mistyped one, with its `@`. A name that some systemd has is not
    /// mistyped.
    #[must_use]
    pub(crate) fn nearest_group(&self, mistyped: &str) -> Option<&str> {
        static SNAPSHOT: LazyLock<Groups> = LazyLock::new(Groups::embedded);
        let is_newer = SNAPSHOT.named.contains_key(mistyped);
        if is_newer { None } else { nearest(mistyped, self.names()) }
    }

    /// Returns the call whose name is most like a mistyped one. The name of a call of any ABI is not mistyped.
    #[must_use]
    pub(crate) fn nearest_call(&self, mistyped: &str) -> Option<&str> {
        if is_call_of_any_abi(mistyped) { None } else { nearest(mistyped, self.grouped.iter().map(AsRef::as_ref)) }
    }
}

fn collect_calls(groups: &BTreeMap<Box<str>, CallGroup>) -> CallNames {
    groups.values().flat_map(|group| &group.calls).cloned().collect()
}

/// Whether some ABI has a call of this name.
fn is_call_of_any_abi(call: &str) -> bool {
    Abi::all().any(|abi| abi.call_number(call).is_some())
}

/// Returns the candidate most like a mistyped name: one slip of the fingers apart, or two in a long name.
fn nearest<'a>(mistyped: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    const LONG: usize = 9;
    let most = match mistyped.len() {
        _ if !is_name(mistyped) => return None,
        0..4 => return None,
        4..LONG => 1,
        LONG..64 => 2,
        _ => return None,
    };
    // Each slip adds one letter at most, and takes one away.
    let lacks = |one: &str, other: &str| one.bytes().filter(|byte| !other.as_bytes().contains(byte)).count();
    let is_similar = |candidate: &&str| {
        candidate.len().abs_diff(mistyped.len()) <= most
            && lacks(mistyped, candidate) <= most
            && lacks(candidate, mistyped) <= most
    };
    let similar = candidates.filter(is_similar);
    let distances = similar.map(|candidate| (strsim::osa_distance(mistyped, candidate), candidate));
    distances.filter(|(distance, _)| *distance <= most).min().map(|(_, candidate)| candidate)
}

/// Removes a terminal's colours (`ESC [ … m`), which `systemd-analyze` prints with `SYSTEMD_COLORS=1`.
fn remove_colour(line: &str) -> Cow<'_, str> {
    let mut rest = line;
    let mut plain = String::new();
    while let Some((before, after)) = rest.split_once("\x1b[") {
        let end = after.find(|c: char| !c.is_ascii_digit() && c != ';' && c != ':');
        let Some(end) = end.filter(|end| after[*end..].starts_with(['m', 'K'])) else { break };
        plain.push_str(before);
        rest = &after[end + 1..];
    }
    if plain.is_empty() && rest.len() == line.len() { Cow::Borrowed(line) } else { Cow::Owned(plain + rest) }
}

/// Whether a word can be the name of a group or call.
fn is_name(word: &str) -> bool {
    let name = word.strip_prefix('@').unwrap_or(word);
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

/// Returns the calls of a group and its nested groups, and enters each group once.
fn flatten(groups: &BTreeMap<Box<str>, CallGroup>, name: &str) -> CallNames {
    let mut calls = CallNames::new();
    let mut entered = BTreeSet::new();
    let mut to_enter = vec![name];
    while let Some(name) = to_enter.pop() {
        if !entered.insert(name) {
            continue;
        }
        for member in groups.get(name).into_iter().flat_map(|group| &group.members) {
            if member.starts_with('@') {
                to_enter.push(member);
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

    fn parse(listing: &str) -> Groups {
        Groups::parse(listing, GroupSource::Host("252".into())).unwrap()
    }

    fn calls<'a>(groups: &'a Groups, group: &str) -> Vec<&'a str> {
        groups.calls(group).unwrap().iter().map(AsRef::as_ref).collect()
    }

    #[test]
    fn nested_group_adds_its_calls_and_comment_adds_none() {
        let groups = parse(LISTING);
        assert_eq!(calls(&groups, "@default"), ["exit", "seccomp"]);
        assert_eq!(calls(&groups, "@loop"), ["exit"]);
        assert_eq!(groups.own_calls("@default").collect::<Vec<_>>(), ["exit"]);
        assert_eq!(groups.help("@sandbox"), Some("Sandbox functionality"));
        assert_eq!(groups.calls("@missing"), None);
        assert_eq!(groups.names().collect::<Vec<_>>(), ["@default", "@known", "@loop", "@sandbox"]);
    }

    #[test]
    fn groups_of_call_are_smallest_first_without_known() {
        assert_eq!(parse(LISTING).containing("seccomp"), ["@sandbox", "@default"]);
        assert!(parse(LISTING).containing("afs_syscall").is_empty());
    }

    #[test]
    fn libseccomp_decides_which_names_are_known() {
        let groups = parse(LISTING);
        assert!(groups.is_known("afs_syscall") && groups.is_known("seccomp"));
        assert!(!groups.is_known("brand_new") && !groups.is_known("cachestat"));
        let unresolved = groups.clone().with_unresolved(["seccomp".into(), "mseal".into()].into());
        assert!(unresolved.is_known("afs_syscall") && !unresolved.is_known("seccomp"));
        assert!(unresolved.is_known("cachestat") && !unresolved.is_known("mseal"), "calls of no group");
        assert!(!unresolved.is_known("brand_new"));
        let partial = parse("@timer\n    alarm\n    set_tls\n@known\n    alarm\n");
        assert!(partial.is_known("set_tls"), "a name that @known lacks");
        assert!(unresolved.calls("@known").unwrap().contains("seccomp"), "the group stays as systemd lists it");
        let old = parse("@clock\n    # Change the system time\n    settimeofday\n");
        assert!(old.is_known("settimeofday") && !old.is_known("read"));
    }

    #[test]
    fn nearest_name_is_found_for_slips_and_not_for_names_of_other_versions() {
        let groups = Groups::embedded();
        for (mistyped, meant) in [
            ("@network-oi", Some("@network-io")),
            ("@systemservice", Some("@system-service")),
            ("@system-services", Some("@system-service")),
            ("@porcess", Some("@process")),
            ("@everything", None),
            ("@", None),
        ] {
            assert_eq!(groups.nearest_group(mistyped), meant, "{mistyped}");
        }
        let old = parse("@default\n    exit\n@sandbo\n    seccomp\n");
        assert_eq!(old.nearest_group("@sandbox"), None, "a group of a newer systemd");
        for (mistyped, meant) in [
            ("sokcet", Some("socket")),
            ("opennat", Some("openat")),
            ("openat2", None),
            ("clone3", None),
            ("~uname", None),
            ("xyz", None),
        ] {
            assert_eq!(groups.nearest_call(mistyped), meant, "{mistyped}");
        }
    }

    #[test]
    fn word_that_is_no_name_is_skipped() {
        let groups = parse("@clock\n    \u{1b}]31mstime\n    a b\n    @\nread\n    write\n@\u{1b}x\n    open\n");
        assert!(groups.calls("@clock").unwrap().is_empty());
        assert_eq!(groups.names().count(), 1);
    }

    #[test]
    fn coloured_listing_is_read_like_a_plain_one() {
        let coloured = LISTING
            .replace("@sandbox\n", "\x1b[0;1;39m@sandbox\x1b[0m\n")
            .replace("    # Sandbox functionality", "    \x1b[38;5;245m# Sandbox functionality\x1b[0m")
            .replace("    exit", "    \x1b[0;32mexit\x1b[0m\x1b[K");
        assert_eq!(parse(&coloured), parse(LISTING));
    }

    #[test]
    fn part_of_a_listing_is_known_for_one() {
        assert_eq!(Groups::embedded().missing_part(), None);
        let whole: String = SNAPSHOT.into();
        let part = |listing: &str| parse(listing).missing_part().unwrap_or_default();
        assert_eq!(part("@clock\n    settimeofday\n"), "it lacks @default");
        let cut = whole.find("@timer\n").unwrap();
        assert_eq!(part(&whole[..cut]), "it lacks @timer");
        let (before, rest) = whole.split_once("\n@basic-io\n").unwrap();
        let without = format!("{before}\n{}", &rest[rest.find("\n@").unwrap()..]);
        assert_eq!(part(&without), "it lacks @basic-io, which is in @system-service");
        let known = whole.find("\n@known\n").unwrap();
        assert!(
            part(&whole[..known + 100]).ends_with("calls of other groups are not in @known")
                || whole[known + 8..].contains("\n@")
        );
    }

    #[test]
    fn snapshot_has_all_groups_and_its_version() {
        let groups = Groups::embedded();
        assert_eq!(groups.source(), &GroupSource::Embedded("262.1-1".into()));
        assert_eq!(groups.names().count(), 30);
        assert_eq!(groups.calls("@system-service").unwrap().len(), 395);
        assert_eq!(groups.calls("@known").unwrap().len(), 561);
        assert!(groups.calls("@default").unwrap().contains("landlock_add_rule"), "through @sandbox");
        assert_eq!(groups.containing("reboot"), ["@reboot", "@privileged"]);
    }

    #[test]
    fn version_in_parentheses_is_preferred() {
        assert_eq!(parse_version("systemd 252 (252.38-1~deb12u1)\n+PAM +AUDIT\n"), Some("252.38-1~deb12u1"));
        assert_eq!(parse_version("systemd 239\n+PAM\n"), Some("239"));
        for garbage in ["", "\n", "systemd", "systemd ", "busybox 1.2", "systemd 252 (\u{1b}[2J)"] {
            assert_eq!(parse_version(garbage), None);
        }
    }

    #[test]
    fn listing_without_groups_is_error() {
        assert!(Groups::parse("Failed to connect\n", GroupSource::Host("252".into())).is_err());
    }
}
