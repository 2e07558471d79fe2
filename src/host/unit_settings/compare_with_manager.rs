//! What a manager holds of a unit, beside what the unit's files say.

use crate::audit::text::join;
use crate::policy::lists::Namespaces;
use crate::policy::{Directive, Mode, Policy, SyscallFilter};
use crate::syscalls::Groups;
use crate::systemd::manager::UnitProperties;
use std::collections::BTreeSet;

/// What a manager told of a unit and is not to be understood.
#[must_use]
pub fn not_understood(facts: &UnitProperties) -> String {
    let names = join(facts.odd.iter().map(ToString::to_string));
    format!("systemd tells {names} of {} in a form that this harden-why does not understand", facts.id)
}

/// The policy with the filter that systemd holds, and whether the files say the same.
pub(crate) fn reconcile(policy: Policy, facts: &UnitProperties, groups: &Groups) -> (Policy, bool) {
    let errno = facts.system_call_error_number.unwrap_or_default();
    let held = facts
        .system_call_filter
        .as_ref()
        .and_then(|list| SyscallFilter::from_manager(list.allow, &list.names, errno, groups));
    match (policy.filter.clone(), held) {
        (None, None) => (policy, true),
        // systemd does not tell a deny-list of nothing from no list.
        (Some(ours), None) if ours.mode() == Mode::Deny && ours.effective().is_empty() => (policy, true),
        (ours, held) => {
            let both = ours.as_ref().zip(held.as_ref()).and_then(|(ours, held)| ours.reconciled(held));
            let same = both.is_some();
            (policy.with_filter(both.or(held)), same)
        }
    }
}

/// The settings, but for the filter, of which systemd holds something else than the files say.
pub(crate) fn differing(policy: &Policy, facts: &UnitProperties) -> Vec<Directive> {
    let settings = &policy.settings;
    let differs = |(directive, held): (&Directive, &bool)| {
        let said = settings.switch(*directive).is_some_and(|switch| switch.on);
        // What others imply, systemd holds as if it had been said; the files say less, and the policy knows.
        let implied = *held && !said && settings.switch(Directive::DynamicUser).is_some_and(|switch| switch.on);
        (said != *held && !implied).then_some(*directive)
    };
    let lists = [
        (
            Directive::RestrictAddressFamilies,
            facts.restrict_address_families.as_ref().map(|held| {
                let said = policy.families();
                let listed = said.iter().flat_map(|families| families.listed.keys().copied());
                held.allow == said.is_some_and(|families| families.allow_list) && same(listed, &held.names)
            }),
        ),
        (
            Directive::RestrictNamespaces,
            facts.restrict_namespaces.map(|held| {
                let retained = settings.namespaces().map_or(Namespaces::KNOWN.as_slice(), |said| &said.retained);
                Namespaces::FLAGS.into_iter().all(|(name, flag)| (held & flag != 0) == retained.contains(&name))
            }),
        ),
        (
            Directive::SystemCallArchitectures,
            facts
                .system_call_architectures
                .as_ref()
                .map(|held| same(settings.architectures().listed.keys().map(AsRef::as_ref), held)),
        ),
        (
            Directive::SystemCallLog,
            facts.system_call_log.as_ref().map(|held| {
                let (mode, said) = policy.logging();
                // Calls that libseccomp does not know are in the files alone.
                let all = held.names.iter().all(|name| said.contains(&name.as_str()));
                held.allow == (mode == Mode::Allow) && all && held.names.is_empty() == said.is_empty()
            }),
        ),
    ];
    let lists = lists.into_iter().filter(|(_, same)| *same == Some(false)).map(|(directive, _)| directive);
    facts.switches.iter().filter_map(differs).chain(lists).collect()
}

/// Whether two lists name the same.
fn same<'a>(said: impl Iterator<Item = &'a str>, held: &'a [String]) -> bool {
    said.collect::<BTreeSet<_>>() == held.iter().map(String::as_str).collect()
}
