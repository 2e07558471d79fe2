//! Ways out for calls that libseccomp does not know. systemd ignores their names, so no line can allow the call: an
//! allow-list denies it as it denies all calls that it does not list.
//!
//! Two drop-ins help (seen with systemd 252 and libseccomp 2.5.4). The filter can answer denied calls with an error in
//! place of a kill. Or a deny-list of all calls that the allow-list does not list takes its place: a deny-list has no
//! rule for a call that libseccomp does not know, so the call passes.

use super::denied_call::DeniedCall;
use super::drop_in_place::choose_drop_in;
use super::finding::Finding;
use super::proof::{Proof, TargetCall, without_controls};
use super::relax_directive::RelaxingLines;
use super::remedy::{Remedy, RemedyKind};
use super::situation::Situation;
use crate::policy::{Directive, Effect, Policy};
use crate::syscalls::Groups;
use std::collections::BTreeSet;

/// All calls that systemd knows. systemd has the group since 247.
const KNOWN: &str = "@known";

/// Returns the drop-ins for such calls. They also lift the other denials of these findings.
pub(super) fn find_ways_out(findings: &[Finding], situation: &Situation, groups: &Groups) -> Vec<Remedy> {
    let denied = findings.iter().filter(|finding| finding.reservation.is_none()).filter_map(Finding::denied_call);
    let denied: Vec<DeniedCall<'_>> = denied.filter(|call| call.is_unresolved() || call.can_be_lifted()).collect();
    if !denied.iter().any(DeniedCall::is_unresolved) {
        return Vec::new();
    }
    let liftable = || denied.iter().filter(|call| !call.is_unresolved());
    let mut relaxing = RelaxingLines::default();
    let policy = &situation.policy;
    if !liftable().all(|call| call.by.iter().all(|cause| relaxing.add(cause, call.abi, policy))) {
        return Vec::new();
    }
    let named: BTreeSet<&str> = liftable().filter(|call| call.is_by_filter()).map(|call| call.name).collect();
    let allowing = named.iter().map(|name| format!("SystemCallFilter={name}"));
    let common: Vec<String> = relaxing.narrow.iter().cloned().chain(allowing).collect();
    let targets = denied.iter().map(|call| TargetCall { abi: call.abi, name: call.name }).collect();
    let proof = Proof::new(targets, situation, choose_drop_in(situation, &denied, &[], false), groups, &[]);

    let kills = denied.iter().all(|call| !call.is_unresolved() || call.effect == Some(Effect::Kill));
    let failing = common.iter().cloned().chain(["SystemCallErrorNumber=ENOSYS".to_owned()]).collect::<Vec<_>>();
    let failing = kills.then(|| proof.prove(RemedyKind::FailAllWithError, &failing, &[]).ok()).flatten();
    let listing = groups.calls(KNOWN).is_some().then(|| {
        let lines: Vec<String> = deny_list(policy).chain(common).collect();
        proof.prove(RemedyKind::DenyList, &lines, &[]).ok()
    });
    failing.into_iter().chain(listing.flatten()).collect()
}

/// Returns the lines of a deny-list that denies each known call as the unit's allow-list does: all known calls, without
/// what the allow-list's lines allow.
fn deny_list(policy: &Policy) -> impl Iterator<Item = String> {
    let lines = policy.settings.lines_in_force(Directive::SystemCallFilter.key()).into_iter();
    let own: Vec<String> = lines.map(|line| format!("SystemCallFilter={}", without_controls(&line.value))).collect();
    let start =
        ["SystemCallFilter=".to_owned(), format!("SystemCallFilter=~{KNOWN}"), "SystemCallFilter=@default".to_owned()];
    start.into_iter().chain(own)
}
