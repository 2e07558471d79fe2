//! systemd's `@groups` of system calls.
//!
//! Their members differ by systemd point release, so they come from the host's own
//! `systemd-analyze syscall-filter` wherever there is one.

use std::collections::{BTreeMap, BTreeSet};

/// A set of call names, sorted.
pub type Calls = BTreeSet<Box<str>>;

/// Where the groups were learned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The systemd that runs here, by the version it states.
    Host(Box<str>),
    /// The snapshot built into this program, by the version it was taken from.
    Embedded(Box<str>),
}

/// Every `@group` of one systemd.
#[derive(Debug, Clone)]
pub struct Groups {
    source: Source,
    groups: BTreeMap<Box<str>, Group>,
}

/// One `@group`.
#[derive(Debug, Clone, Default)]
struct Group {
    help: Box<str>,
    /// As listed: calls and nested groups.
    members: Vec<Box<str>>,
    /// Nested groups resolved.
    calls: Calls,
}

/// The listing is not what `systemd-analyze syscall-filter` prints.
#[derive(Debug, thiserror::Error)]
#[error("the listing of system call groups holds no group")]
pub struct NoGroups;

impl Groups {
    /// Reads the output of `systemd-analyze --no-pager syscall-filter`, printed without colour.
    ///
    /// # Errors
    /// Where not one group is found.
    pub fn parse(listing: &str, source: Source) -> Result<Self, NoGroups> {
        let mut groups: BTreeMap<Box<str>, Group> = BTreeMap::new();
        let mut current: Option<&mut Group> = None;
        for line in listing.lines() {
            let word = line.trim();
            if word.is_empty() {
                continue;
            }
            if let Some(comment) = word.strip_prefix('#') {
                match current.as_deref_mut() {
                    // At column 0 it heads the calls of no group.
                    Some(group) if line != word => {
                        if group.help.is_empty() {
                            group.help = comment.trim().into();
                        }
                    }
                    _ => current = None,
                }
            } else if line.starts_with('@') {
                current = Some(groups.entry(word.into()).or_default());
            } else if let Some(group) = current.as_deref_mut() {
                group.members.push(word.into());
            }
        }
        if groups.is_empty() {
            return Err(NoGroups);
        }
        let resolved: Vec<Calls> = groups.keys().map(|name| flatten(&groups, name)).collect();
        for (group, calls) in groups.values_mut().zip(resolved) {
            group.calls = calls;
        }
        Ok(Self { source, groups })
    }

    /// Where these groups were learned.
    #[must_use]
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// All names, `@` included, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.groups.keys().map(AsRef::as_ref)
    }

    /// Every call of a group, nested groups resolved; `None` for a group that is not there.
    #[must_use]
    pub fn calls(&self, group: &str) -> Option<&Calls> {
        self.groups.get(group).map(|group| &group.calls)
    }

    /// What systemd says the group is for.
    #[must_use]
    pub fn help(&self, group: &str) -> Option<&str> {
        self.groups.get(group).map(|group| group.help.as_ref())
    }

    /// The groups that hold a call, smallest first; `@known`, which holds every call, is left out.
    #[must_use]
    pub fn containing(&self, call: &str) -> Vec<&str> {
        let mut found: Vec<(&str, &Calls)> = self
            .groups
            .iter()
            .filter(|(name, group)| name.as_ref() != "@known" && group.calls.contains(call))
            .map(|(name, group)| (name.as_ref(), &group.calls))
            .collect();
        found.sort_by_key(|(name, calls)| (calls.len(), *name));
        found.into_iter().map(|(name, _)| name).collect()
    }

    /// Whether a call is in any group: what this systemd's build knows.
    #[must_use]
    pub fn knows(&self, call: &str) -> bool {
        self.groups.values().any(|group| group.calls.contains(call))
    }
}

/// The calls of a group with its nested groups, each group entered once.
fn flatten(groups: &BTreeMap<Box<str>, Group>, name: &str) -> Calls {
    let mut calls = Calls::new();
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
    exit

# Ungrouped System Calls (known but not included in any of the groups except @known):
#   afs_syscall
";

    #[test]
    fn nested_groups_resolve_and_comments_do_not_count() {
        let groups = Groups::parse(LISTING, Source::Host("252".into())).unwrap();
        let calls: Vec<&str> = groups.calls("@default").unwrap().iter().map(AsRef::as_ref).collect();
        assert_eq!(calls, ["exit", "seccomp"]);
        assert_eq!(groups.help("@sandbox"), Some("Sandbox functionality"));
        assert_eq!(groups.containing("seccomp"), ["@sandbox", "@default"]);
        assert!(!groups.knows("afs_syscall"));
    }

    #[test]
    fn a_listing_without_groups_is_refused() {
        assert!(Groups::parse("Failed to connect\n", Source::Host("252".into())).is_err());
    }
}
