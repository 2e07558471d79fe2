//! The facts of the machine that wrote a log, on which a policy's verdict depends: its native ABI, its systemd's groups
//! and version, and the names that its libseccomp does not know.
//!
//! The user's options come first, then the files below the root, then the log itself. Without these, this machine's
//! facts stand in, and [`LogMachine::notes`] says so.

use super::unit_settings;
use super::unit_settings::LoadedSettings;
use crate::audit::{Action, Note};
use crate::incidents::Incident;
use crate::intake::logged_facts::LoggedFacts;
use crate::policy::manager_context::parse_major;
use crate::policy::{Directive, Policy};
use crate::syscalls::groups::GroupSource;
use crate::syscalls::{Abi, Groups};
use crate::systemd::installed::InstalledSystemd;
use crate::systemd::libseccomp;
use crate::units::Unit;
use std::collections::BTreeSet;
use std::path::Path;

/// The system call groups at hand for a log.
#[derive(Debug, Clone)]
pub(crate) enum GroupChoice {
    /// Those that the user named.
    Listed(Groups),
    /// Those of this machine.
    Local(Groups),
}

impl GroupChoice {
    /// Returns the groups, for settings of this machine.
    pub(crate) fn into_groups(self) -> Groups {
        match self {
            Self::Listed(groups) | Self::Local(groups) => groups,
        }
    }
}

/// Where a fact comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FactSource {
    Root,
    Log,
}

/// The machine that wrote a log.
#[derive(Debug)]
pub(crate) struct LogMachine {
    groups: Groups,
    /// Whether the user named the groups.
    is_listed: bool,
    /// Whether the root is this machine's.
    is_local: bool,
    installed: InstalledSystemd,
    logged: LoggedFacts,
    /// The version of its systemd, and where that is stated, unless the groups state it.
    version: Option<(Box<str>, FactSource)>,
}

impl LogMachine {
    /// Collects the facts from the groups at hand, the files below a root, and the log.
    #[must_use]
    pub(crate) fn new(at_hand: GroupChoice, root: Option<&Path>, logged: LoggedFacts) -> Self {
        let is_local = root.is_some_and(|root| root.canonicalize().is_ok_and(|root| root == Path::new("/")));
        let rooted = root.filter(|_| !is_local);
        let installed = rooted.map(InstalledSystemd::find).unwrap_or_default();
        let rooted_version = installed.version.clone().map(|version| (version, FactSource::Root));
        let logged_version = || logged.systemd.clone().filter(|_| !is_local).map(|version| (version, FactSource::Log));
        let version = rooted_version.or_else(logged_version);
        let (groups, is_listed) = match at_hand {
            GroupChoice::Listed(groups) => (groups, true),
            GroupChoice::Local(groups) if is_local => (groups, false),
            // What this machine's libseccomp knows says nothing about another machine.
            GroupChoice::Local(groups) => (groups.with_unknown_libseccomp(), false),
        };
        let groups = match &version {
            Some((version, _)) if !has_version(&groups, version) => groups.with_running_version(version),
            None if !is_local && !is_listed => groups.with_unknown_version(),
            _ => groups,
        };
        let groups = groups.with_native(installed.native.unwrap_or(Abi::native()));
        let unresolved = rooted.and_then(|root| libseccomp::unresolved(root, &groups));
        let groups = unresolved.map_or(groups.clone(), |calls| groups.with_unresolved(calls));
        Self { groups: groups.without_names(&logged.unknown_names), is_listed, is_local, installed, logged, version }
    }

    /// Reads a unit's settings below the root, as the machine's systemd applies them. Returns the groups as well.
    #[must_use]
    pub(crate) fn load_settings(&self, root: &Path, unit: &Unit, incidents: &[Incident]) -> (LoadedSettings, Groups) {
        let (first, more) = self.native_abis(incidents);
        let load = |native: Abi| {
            let groups = self.groups.clone().with_native(native);
            let mut loaded = unit_settings::from_files(root, unit, None, &groups);
            if let Some(situation) = &mut loaded.situation {
                situation.policy = situation.policy.clone().with_kernel(self.logged.kernel, &groups);
            }
            (loaded, groups)
        };
        let (mut loaded, mut groups) = load(first);
        // A 64-bit kernel can run a 32-bit systemd. `native` in the unit is 32-bit then, as the records show: calls of
        // a blocked ABI can only kill a thread.
        let is_contradicted = |policy: &Policy, abi: Abi| policy.settings.architectures().blocks(abi, first);
        let contradicting = loaded
            .situation
            .as_ref()
            .and_then(|situation| more.into_iter().find(|abi| is_contradicted(&situation.policy, *abi)));
        if let Some(abi) = contradicting {
            (loaded, groups) = load(abi);
        }
        if let Some(situation) = &loaded.situation {
            loaded.notes.extend(self.notes(&situation.policy));
        }
        (loaded, groups)
    }

    /// Returns the machine's native ABI, and the recorded 32-bit ABIs: one that the settings would block is the native ABI
    /// of its systemd.
    fn native_abis(&self, incidents: &[Incident]) -> (Abi, BTreeSet<Abi>) {
        let denials = || incidents.iter().filter_map(Incident::denial);
        let abis: BTreeSet<Abi> = denials().filter_map(|denial| denial.call.abi()).collect();
        let native = self.installed.native.or_else(|| self.logged.native_abi(&abis)).unwrap_or(Abi::native());
        let not_blocked = denials().filter(|denial| denial.action != Action::KillThread);
        let others = not_blocked.filter_map(|denial| denial.call.abi()).filter(|abi| {
            self.installed.native.is_none() && abi.native_of_kernel(Some(true)) == Some(native) && *abi != native
        });
        (native, others.collect())
    }

    /// The groups, for answers that do not depend on a unit's settings.
    #[must_use]
    pub(crate) fn groups(&self) -> &Groups {
        &self.groups
    }

    /// Returns notes on facts of another machine on which the policy depends.
    fn notes(&self, policy: &Policy) -> Vec<Note> {
        let mut notes = Vec::new();
        let native = policy.native();
        if !policy.settings.architectures().listed.is_empty() && native != Abi::native() {
            let whence = if self.installed.native.is_some() { "the files below the root" } else { "the records" };
            let text = format!("{whence} show that the native ABI of the log's machine is {}", native.name());
            notes.push(Note::new("native-abi-of-log", text));
        }
        if names_groups(policy)
            && let Some(text) = self.describe_groups()
        {
            notes.push(Note::new("groups-of-other-machine", text));
        }
        notes
    }

    /// Returns a sentence about the groups, unless they are the machine's own for certain.
    fn describe_groups(&self) -> Option<String> {
        const ADVICE: &str = "give that machine's with --groups (systemd-analyze syscall-filter)";
        let (GroupSource::Host(of_groups) | GroupSource::Embedded(of_groups)) = self.groups.source();
        match &self.version {
            _ if self.is_local => None,
            Some((version, source)) if !has_version(&self.groups, version) => {
                let whence = match source {
                    FactSource::Root => "the files below the root are from",
                    FactSource::Log => "the log was written under",
                };
                Some(format!("{whence} systemd {version}, but the @groups are those of systemd {of_groups}: {ADVICE}"))
            }
            None if !self.is_listed => Some(format!(
                "the systemd of the log's machine is unknown, so the @groups are those of this machine's systemd \
                 {of_groups}: {ADVICE}"
            )),
            _ => None,
        }
    }
}

/// Whether groups come from a systemd of the same major version. Point releases rarely change members.
fn has_version(groups: &Groups, version: &str) -> bool {
    let (GroupSource::Host(of_groups) | GroupSource::Embedded(of_groups)) = groups.source();
    parse_major(of_groups).is_some_and(|major| parse_major(version) == Some(major))
}

/// Whether a unit's filters name groups. Every allow-list names `@default`, whose members hardly change.
fn names_groups(policy: &Policy) -> bool {
    policy.settings.assignments().any(|line| {
        matches!(Directive::from_key(&line.key), Some(Directive::SystemCallFilter | Directive::SystemCallLog))
            && line.value.contains('@')
    })
}
