//! Compares a unit's properties in its manager with the unit's files.

use crate::audit::Note;
use crate::audit::text::join;
use crate::policy::Namespaces;
use crate::policy::{Directive, Mode, Policy, SyscallFilter};
use crate::syscalls::Groups;
use crate::systemd::manager::UnitProperties;
use crate::units::Manager;
use std::collections::BTreeSet;

/// The policy for the answer, and its differences from the manager's properties.
pub(crate) struct Comparison {
    /// The files' policy. After a comparison, its system call filter is the manager's.
    pub(crate) policy: Policy,
    /// A note about the differences, or about why the two cannot be compared; `None` if they agree.
    pub(crate) note: Option<Note>,
    /// The directives whose value in the manager differs from the policy's; `None` if the two cannot be compared.
    pub(crate) uncertain: Option<BTreeSet<Directive>>,
}

/// Compares the policy of a unit's files with its manager's properties.
pub(crate) fn compare(policy: Policy, properties: &UnitProperties, manager: Manager, groups: &Groups) -> Comparison {
    if !properties.unparsed.is_empty() {
        let text = format!("{}; the answer follows the files", describe_unparsed(properties));
        return Comparison { policy, note: Some(Note::new("unparsed-properties", text)), uncertain: None };
    }
    if properties.need_daemon_reload {
        let text = format!(
            "its files changed since systemd read them; the answer follows the files ({})",
            manager.systemctl("daemon-reload")
        );
        return Comparison { policy, note: Some(Note::new("daemon-reload-needed", text)), uncertain: None };
    }
    let others = differing_directives(&policy, properties);
    let (policy, is_same_filter) = with_held_filter(policy, properties, groups);
    let filter = (!is_same_filter).then_some(Directive::SystemCallFilter);
    let names = join(filter.into_iter().chain(others.iter().copied()).map(|directive| format!("{}=", directive.key())));
    let note = (!names.is_empty()).then(|| {
        let basis =
            if is_same_filter { "the answer follows the files" } else { "for the filter, the answer follows systemd" };
        Note::new("manager-differs", format!("{names} in systemd differs from the unit's files; {basis}"))
    });
    Comparison { policy, note, uncertain: Some(others.into_iter().collect()) }
}

/// Returns a text that names the properties with an unknown type.
#[must_use]
pub(crate) fn describe_unparsed(properties: &UnitProperties) -> String {
    let names = join(properties.unparsed.iter().map(ToString::to_string));
    format!("systemd returns {names} of {} in a form that this harden-why cannot read", properties.id)
}

/// Returns the policy with the manager's filter, and whether the files state the same filter.
fn with_held_filter(policy: Policy, properties: &UnitProperties, groups: &Groups) -> (Policy, bool) {
    let errno = properties.system_call_error_number.unwrap_or_default();
    let held = properties
        .system_call_filter
        .as_ref()
        .and_then(|list| SyscallFilter::from_manager(list.allow, &list.names, errno, groups));
    match (policy.filter.clone(), held) {
        (None, None) => (policy, true),
        // systemd reports an empty deny list like no list.
        (Some(ours), None) if ours.mode() == Mode::Deny && ours.entries().is_empty() => (policy, true),
        (ours, held) => {
            let both = ours.as_ref().zip(held.as_ref()).and_then(|(ours, held)| ours.reconciled(held));
            let is_same = both.is_some();
            (policy.with_filter(both.or(held)), is_same)
        }
    }
}

/// Returns the directives, except the filter, whose value in the manager differs from the files.
fn differing_directives(policy: &Policy, properties: &UnitProperties) -> Vec<Directive> {
    let settings = &policy.settings;
    let differs = |(directive, held): (&Directive, &bool)| {
        let stated = settings.is_on(*directive);
        // systemd reports the settings that DynamicUser= implies as turned on. The policy implies them too.
        let is_implied = *held && !stated && settings.is_on(Directive::DynamicUser);
        (stated != *held && !is_implied).then_some(*directive)
    };
    let lists = [
        (
            Directive::RestrictAddressFamilies,
            properties.restrict_address_families.as_ref().map(|held| {
                let stated = policy.families();
                let listed = stated.iter().flat_map(|families| families.listed.keys().copied());
                held.allow == stated.is_some_and(|families| families.allow_list) && is_same_set(listed, &held.names)
            }),
        ),
        (
            Directive::RestrictNamespaces,
            properties.restrict_namespaces.map(|held| {
                let retained = settings.namespaces().map_or(Namespaces::KNOWN.as_slice(), |stated| &stated.retained);
                Namespaces::FLAGS.into_iter().all(|(name, flag)| (held & flag != 0) == retained.contains(&name))
            }),
        ),
        (
            Directive::SystemCallArchitectures,
            properties
                .system_call_architectures
                .as_ref()
                .map(|held| is_same_set(settings.architectures().listed.keys().map(AsRef::as_ref), held)),
        ),
        (
            Directive::SystemCallLog,
            properties.system_call_log.as_ref().map(|held| {
                let (mode, stated) = policy.logged_calls();
                // systemd drops the calls that libseccomp does not know, so its list can be shorter than the files'
                // list.
                let all = held.names.iter().all(|name| stated.contains(&name.as_str()));
                held.allow == (mode == Mode::Allow) && all && held.names.is_empty() == stated.is_empty()
            }),
        ),
    ];
    let lists = lists.into_iter().filter(|(_, is_same)| *is_same == Some(false)).map(|(directive, _)| directive);
    properties.switches.iter().filter_map(differs).chain(lists).collect()
}

fn is_same_set<'a>(stated: impl Iterator<Item = &'a str>, held: &'a [String]) -> bool {
    stated.collect::<BTreeSet<_>>() == held.iter().map(String::as_str).collect()
}
