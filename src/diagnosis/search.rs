//! Searches for remedies: makes candidate drop-ins, and tries each on the unit's policy.

use super::denied_call::DeniedCall;
use super::drop_in_place::choose_drop_in;
use super::finding::Finding;
use super::predicted_calls::{OpeningScope, ProfileEstimate, ProgramEvidence, profiled_calls};
use super::proof::{Proof, TargetCall, own_lines, passes};
use super::relax_directive::RelaxingLines;
use super::remedy::{OpenedCall, Remedy, RemedyKind};
use super::situation::Situation;
use super::{equivalent_calls, errno_fallback, group_cover, privileged_calls};
use crate::policy::{CauseReason, Directive, Effect, Policy, Verdict};
use crate::syscalls::{Abi, Groups};
use std::collections::{BTreeMap, BTreeSet};

/// The most remedies that allow groups.
const MOST_GROUPS: usize = 3;

/// Returns the denied calls that no setting of the unit can let pass: systemd or libseccomp does not know them,
/// `DynamicUser=` implies the denial, or the manager forbids their architecture to all units.
pub(super) fn find_unsolvable(findings: &[Finding]) -> Vec<Box<str>> {
    let missed = findings.iter().filter(|finding| !finding.needs_no_change());
    let lost = missed.filter_map(Finding::denied_call).filter(|call| !call.can_be_lifted());
    let names: BTreeSet<&str> = lost.map(|call| call.name).collect();
    names.into_iter().map(Into::into).collect()
}

/// Returns every remedy for the findings together, least privilege first.
pub(super) fn find_remedies(findings: &[Finding], situation: &Situation, groups: &Groups) -> Vec<Remedy> {
    let mut remedies: Vec<Remedy> = Vec::new();
    for remedy in Search::new(findings, situation, groups).iter().flat_map(Search::remedies) {
        match remedies.iter_mut().find(|other| other.content == remedy.content) {
            // If two kinds have the same drop-in, the predicting kind says more.
            Some(other) if remedy.kind == RemedyKind::Predicted => *other = remedy,
            Some(_) => {}
            None => remedies.push(remedy),
        }
    }
    remedies
}

/// Returns the first of [`find_remedies`], without a search for the others if possible.
pub(super) fn find_first_remedy(findings: &[Finding], situation: &Situation, groups: &Groups) -> Option<Remedy> {
    let search = Search::new(findings, situation, groups)?;
    search.narrowest().or_else(|| search.remedies().into_iter().next())
}

/// The facts from which candidate drop-ins are made, and the proof that tries each.
struct Search<'a> {
    findings: &'a [Finding],
    situation: &'a Situation,
    groups: &'a Groups,
    proof: Proof<'a>,
    relaxing: RelaxingLines,
    denied: Vec<DeniedCall<'a>>,
}

impl<'a> Search<'a> {
    /// Returns `None` if no denied call can be lifted, or a directive that denied one of them cannot be relaxed.
    fn new(findings: &'a [Finding], situation: &'a Situation, groups: &'a Groups) -> Option<Self> {
        let missed = findings.iter().filter(|finding| !finding.needs_no_change());
        let denied: Vec<DeniedCall<'_>> =
            missed.filter_map(Finding::denied_call).filter(DeniedCall::can_be_lifted).collect();
        let mut relaxing = RelaxingLines::default();
        let can_relax =
            denied.iter().all(|call| call.by.iter().all(|cause| relaxing.add(cause, call.abi, &situation.policy)));
        if denied.is_empty() || !can_relax {
            return None;
        }
        let targets = denied.iter().map(|call| TargetCall { abi: call.abi, name: call.name }).collect();
        let proof = Proof::new(targets, situation, choose_drop_in(situation, &denied), groups);
        Some(Self { findings, situation, groups, proof, relaxing, denied })
    }

    /// Returns the remedy that opens the least.
    fn narrowest(&self) -> Option<Remedy> {
        let names = self.names_denied_by_filter();
        if names.is_empty() {
            let narrow: Vec<String> = self.relaxing.narrow.iter().cloned().collect();
            self.proof.prove(RemedyKind::RelaxDirectives, &narrow, &[]).ok()
        } else {
            self.allow(&names, RemedyKind::Calls, &[])
        }
    }

    /// Returns the remedy that allows these calls, and `more`.
    fn allow(&self, names: &BTreeSet<&str>, kind: RemedyKind, more: &[OpenedCall]) -> Option<Remedy> {
        let all: BTreeSet<&str> = names.iter().copied().chain(more.iter().map(|opened| &*opened.call)).collect();
        self.prove(kind, format!("SystemCallFilter={}", joined(all.into_iter())), more)
    }

    /// Returns the remedy of a line and of the lines that relax other directives, if the remedy is proven.
    fn prove(&self, kind: RemedyKind, line: String, reasons: &[OpenedCall]) -> Option<Remedy> {
        let lines: Vec<String> = self.relaxing.narrow.iter().cloned().chain([line]).collect();
        self.proof.prove(kind, &lines, reasons).ok()
    }

    fn remedies(&self) -> Vec<Remedy> {
        let names = self.names_denied_by_filter();
        let mut remedies: Vec<Remedy> = self.narrowest().into_iter().collect();
        if names.is_empty() {
            let whole: Vec<String> = self.relaxing.whole.iter().cloned().collect();
            remedies.extend(self.proof.prove(RemedyKind::RelaxDirectives, &whole, &[]).ok());
            return remedies;
        }
        let equivalents = self.equivalents();
        if !equivalents.is_empty() {
            let opened: Vec<OpenedCall> = equivalents.iter().map(|(call, reason)| opened(call, reason)).collect();
            remedies.extend(self.allow(&names, RemedyKind::Equivalents, &opened));
        }
        let predicted = self.predicted(equivalents);
        if !predicted.is_empty() {
            remedies.extend(self.allow(&names, RemedyKind::Predicted, &predicted));
        }
        remedies.extend(self.groups(&names));
        remedies.extend(self.fail_with_error(&names));
        remedies
    }

    fn denied_by_filter(&self) -> impl Iterator<Item = &DeniedCall<'a>> {
        self.denied.iter().filter(|call| call.is_by_filter())
    }

    fn names_denied_by_filter(&self) -> BTreeSet<&str> {
        self.denied_by_filter().map(|call| call.name).collect()
    }

    /// Returns equivalents of the denied calls, with the reasons. It returns only calls that do not pass now, and would
    /// pass if the filter allowed them.
    fn equivalents(&self) -> BTreeMap<&'static str, &'static str> {
        let policy = &self.situation.policy;
        let equivalents: Vec<_> = self
            .denied_by_filter()
            .flat_map(|call| {
                let others = equivalent_calls::find_equivalents(call.abi, call.name, self.groups);
                others.map(|equivalent| (call.abi, equivalent))
            })
            .filter(|(abi, equivalent)| !passes(policy, *abi, equivalent.call))
            .collect();
        let after = self.policy_allowing(equivalents.iter().map(|(_, equivalent)| equivalent.call));
        let opened = equivalents.into_iter().filter(|(abi, equivalent)| passes(&after, *abi, equivalent.call));
        opened.map(|(_, equivalent)| (equivalent.call, equivalent.reason)).collect()
    }

    /// Returns the policy with these calls allowed. Calls still do not pass if a later line takes them off the list,
    /// another directive denies them, or libseccomp does not know them.
    fn policy_allowing<'b>(&self, calls: impl Iterator<Item = &'b str>) -> Policy {
        let line = format!("SystemCallFilter={}", joined(calls));
        self.proof.policy_with(&self.proof.merge(&[line]))
    }

    /// Returns the calls that the unit will probably be denied next.
    fn predicted(&self, equivalents: BTreeMap<&'static str, &'static str>) -> Vec<OpenedCall> {
        let policy = &self.situation.policy;
        let evidence = self.evidence();
        let own = own_calls(self.situation);
        let denied = self.names_denied_by_filter();
        let abis: BTreeSet<Abi> = self.denied_by_filter().map(|call| call.abi).collect();
        let scope = OpeningScope {
            needed: evidence.made.iter().filter(|call| denied.contains(*call) || own.contains(*call)).count(),
            opened_early: own.iter().copied().filter(|call| !evidence.made.contains(call)).collect(),
            equivalents,
        };
        let denying_abi = |call: &str| {
            let is_denied = |abi: &&Abi| abi.call_number(call).is_some() && !passes(policy, **abi, call);
            abis.iter().find(is_denied).copied()
        };
        let candidates = profiled_calls().chain(scope.equivalents.keys().copied());
        let not_made = candidates.filter(|call| !evidence.made.contains(call));
        let refused: BTreeMap<&str, Abi> = not_made.filter_map(|call| Some((call, denying_abi(call)?))).collect();
        let after = self.policy_allowing(refused.keys().copied());
        let can_open = |call: &str| {
            refused.get(call).is_some_and(|abi| !self.is_deliberate(*abi, call) && passes(&after, *abi, call))
                && self.groups.is_known(call)
                && privileged_calls::find_group(call, self.groups).is_none()
        };
        ProfileEstimate::new(&evidence)
            .choose(&scope, |call| refused.contains_key(call), can_open)
            .into_iter()
            .map(|predicted| opened(predicted.call, predicted.reason))
            .collect()
    }

    fn evidence(&self) -> ProgramEvidence<'_> {
        let uids: Vec<&str> =
            self.findings.iter().map(|finding| &*finding.incident.sample.uid).filter(|uid| !uid.is_empty()).collect();
        // A daemon that ran as root once may still have to change its user; a helper may run as another user already.
        let root = (!uids.is_empty()).then(|| uids.iter().any(|uid| matches!(*uid, "0" | "root")));
        let families = self.situation.policy.families();
        let internet = families.is_some_and(|families| {
            families.allow_list && ["AF_INET", "AF_INET6"].iter().any(|family| families.listed.contains_key(*family))
        });
        let made = self.findings.iter().filter_map(|finding| finding.incident.denial()?.call.name()).collect();
        ProgramEvidence { made, root, internet }
    }

    /// Whether the unit's owner denies a call on purpose. A word of the filter then takes the call off the list or
    /// lists it as denied, and no denial has shown yet that this word is wrong.
    fn is_deliberate(&self, abi: Abi, call: &str) -> bool {
        let Verdict::Denied { by, .. } = self.situation.policy.verdict(abi, call) else { return false };
        by.iter().any(|cause| match &cause.why {
            why @ (CauseReason::TakenOff(_) | CauseReason::Listed(_)) => {
                !self.denied.iter().any(|wrong| wrong.by_filter().any(|word| word == why))
            }
            _ => false,
        })
    }

    /// Returns remedies that allow groups, the remedy that opens the fewest calls first.
    fn groups(&self, names: &BTreeSet<&str>) -> Vec<Remedy> {
        let mut remedies: Vec<Remedy> = group_cover::find_choices(names, self.groups, &self.situation.policy)
            .into_iter()
            .filter_map(|choice| {
                let line = format!("SystemCallFilter={}", choice.join(" "));
                self.prove(RemedyKind::Groups(choice.into_iter().map(Into::into).collect()), line, &[])
            })
            .collect();
        remedies.sort_by_key(|remedy| remedy.opens.len());
        remedies.dedup_by(|one, other| one.opens == other.opens);
        remedies.truncate(MOST_GROUPS);
        remedies
    }

    /// Returns the remedy that replaces the kill by an error, if programs handle the failure of every denied call.
    fn fail_with_error(&self, names: &BTreeSet<&str>) -> Option<Remedy> {
        let kills = |call: &DeniedCall<'_>| call.effect == Some(Effect::Kill) && call.is_by_filter();
        if !self.denied.iter().all(kills) {
            return None;
        }
        let words: Option<Vec<String>> =
            names.iter().map(|name| Some(format!("{name}:{}", errno_fallback::find_fallback(name)?.name()))).collect();
        self.prove(RemedyKind::FailWithError, format!("SystemCallFilter=~{}", words?.join(" ")), &[])
    }
}

fn joined<'a>(words: impl Iterator<Item = &'a str>) -> String {
    words.collect::<Vec<_>>().join(" ")
}

fn opened(call: &str, reason: &'static str) -> OpenedCall {
    OpenedCall { call: call.into(), reason }
}

/// Returns the calls that harden-why's drop-in for the unit allows by name.
fn own_calls(situation: &Situation) -> BTreeSet<&str> {
    let allows = |(key, value): &(&str, &str)| *key == Directive::SystemCallFilter.key() && !value.starts_with('~');
    let words = own_lines(situation).filter(allows).flat_map(|(_, value)| value.split_whitespace());
    words.filter(|word| !word.starts_with('@')).collect()
}
