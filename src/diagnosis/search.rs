//! The search for remedies: candidate drop-ins, each tried on the unit's policy.

use super::denied_call::DeniedCall;
use super::finding::Finding;
use super::predicted_calls::{Evidence, Outlook, Scope, foretold};
use super::proof::{Proof, Wanted, own_lines, passes};
use super::relax_directive::Lift;
use super::remedy::{OpenedCall, Remedy, RemedyKind};
use super::situation::Situation;
use super::{equivalent_calls, errno_fallback, group_cover, privileged_calls};
use crate::policy::{CauseReason, Directive, Effect, Policy, Verdict};
use crate::syscalls::{Abi, Groups};
use std::collections::{BTreeMap, BTreeSet};

/// How many groups are offered.
const MOST_GROUPS: usize = 3;

/// The denied calls that no setting of the unit can let pass: its systemd or libseccomp does not know
/// them, `DynamicUser=` implies it, or its manager forbids their architecture to all units.
pub(super) fn unsolvable(findings: &[Finding]) -> Vec<Box<str>> {
    let missed = findings.iter().filter(|finding| !finding.needs_no_change());
    let lost = missed.filter_map(Finding::denied_call).filter(|call| !call.can_be_lifted());
    let names: BTreeSet<&str> = lost.map(|call| call.name).collect();
    names.into_iter().map(Into::into).collect()
}

/// Every remedy for the findings together, least privilege first.
pub(super) fn find(findings: &[Finding], situation: &Situation, groups: &Groups) -> Vec<Remedy> {
    let mut found: Vec<Remedy> = Vec::new();
    for remedy in Search::new(findings, situation, groups).iter().flat_map(Search::remedies) {
        match found.iter_mut().find(|other| other.content == remedy.content) {
            // The same drop-in under two names is one; what it foresees is the better name.
            Some(other) if remedy.kind == RemedyKind::Predicted => *other = remedy,
            Some(_) => {}
            None => found.push(remedy),
        }
    }
    found
}

/// The first of them, without a search for the others where it can be had so.
pub(super) fn first(findings: &[Finding], situation: &Situation, groups: &Groups) -> Option<Remedy> {
    let search = Search::new(findings, situation, groups)?;
    search.narrowest().or_else(|| search.remedies().into_iter().next())
}

/// What remedies are made of.
struct Search<'a> {
    findings: &'a [Finding],
    situation: &'a Situation,
    groups: &'a Groups,
    proof: Proof<'a>,
    lift: Lift,
    all: Vec<DeniedCall<'a>>,
}

impl<'a> Search<'a> {
    /// `None` where nothing was denied that can be lifted, or not all of it can.
    fn new(findings: &'a [Finding], situation: &'a Situation, groups: &'a Groups) -> Option<Self> {
        let missed = findings.iter().filter(|finding| !finding.needs_no_change());
        let all: Vec<DeniedCall<'_>> =
            missed.filter_map(Finding::denied_call).filter(DeniedCall::can_be_lifted).collect();
        let mut lift = Lift::default();
        let lifted = all.iter().all(|call| call.by.iter().all(|cause| lift.add(cause, call.abi, &situation.policy)));
        if all.is_empty() || !lifted {
            return None;
        }
        let wanted = all.iter().map(|call| Wanted { abi: call.abi, name: call.name }).collect();
        Some(Self { findings, situation, groups, proof: Proof::new(wanted, situation, groups), lift, all })
    }

    /// What opens the least.
    fn narrowest(&self) -> Option<Remedy> {
        let names = self.filtered();
        if names.is_empty() {
            self.proof.of(RemedyKind::RelaxDirectives, &self.narrow(), &[])
        } else {
            self.allowing(&names, RemedyKind::Calls, &[])
        }
    }

    /// That allows these calls, and more.
    fn allowing(&self, names: &BTreeSet<&str>, kind: RemedyKind, more: &[OpenedCall]) -> Option<Remedy> {
        let all: BTreeSet<&str> = names.iter().copied().chain(more.iter().map(|because| &*because.call)).collect();
        self.proof.of(kind, &self.with(format!("SystemCallFilter={}", joined(all.into_iter()))), more)
    }

    fn remedies(&self) -> Vec<Remedy> {
        let names = self.filtered();
        let mut found: Vec<Remedy> = self.narrowest().into_iter().collect();
        if names.is_empty() {
            let whole: Vec<String> = self.lift.whole.iter().cloned().collect();
            found.extend(self.proof.of(RemedyKind::RelaxDirectives, &whole, &[]));
            return found;
        }
        let siblings = self.siblings();
        if !siblings.is_empty() {
            let because: Vec<OpenedCall> = siblings.iter().map(|(call, reason)| because(call, reason)).collect();
            found.extend(self.allowing(&names, RemedyKind::Equivalents, &because));
        }
        let companions = self.companions(siblings);
        if !companions.is_empty() {
            found.extend(self.allowing(&names, RemedyKind::Predicted, &companions));
        }
        found.extend(self.wider(&names));
        found.extend(self.softer(&names));
        found
    }

    fn narrow(&self) -> Vec<String> {
        self.lift.narrow.iter().cloned().collect()
    }

    /// A line, and those that lift other directives.
    fn with(&self, line: String) -> Vec<String> {
        self.lift.narrow.iter().cloned().chain([line]).collect()
    }

    /// The calls that `SystemCallFilter=` denies.
    fn filtered(&self) -> BTreeSet<&str> {
        self.all.iter().filter(|call| call.is_by_filter()).map(|call| call.name).collect()
    }

    /// The siblings of these that do not pass, and would if they were allowed.
    fn siblings(&self) -> BTreeMap<&'static str, &'static str> {
        let policy = &self.situation.policy;
        let denied = self.all.iter().filter(|call| call.is_by_filter());
        let siblings: Vec<_> = denied
            .flat_map(|call| equivalent_calls::of(call.abi, call.name, self.groups).map(|sibling| (call.abi, sibling)))
            .filter(|(abi, sibling)| !passes(policy, *abi, sibling.call))
            .collect();
        let after = self.with_all_allowed(siblings.iter().map(|(_, sibling)| sibling.call));
        let opened = siblings.into_iter().filter(|(abi, sibling)| passes(&after, *abi, sibling.call));
        opened.map(|(_, sibling)| (sibling.call, sibling.reason)).collect()
    }

    /// The policy with these calls allowed: those that a later line takes away, another directive denies
    /// or libseccomp does not know still do not pass.
    fn with_all_allowed<'b>(&self, calls: impl Iterator<Item = &'b str>) -> Policy {
        let line = format!("SystemCallFilter={}", joined(calls));
        self.proof.with(&self.proof.merged(&[line]))
    }

    /// The calls that the unit will probably be denied next.
    fn companions(&self, siblings: BTreeMap<&'static str, &'static str>) -> Vec<OpenedCall> {
        let policy = &self.situation.policy;
        let evidence = self.evidence();
        let ours = own_calls(self.situation);
        let denied = self.filtered();
        let abis: BTreeSet<Abi> = self.all.iter().filter(|call| call.is_by_filter()).map(|call| call.abi).collect();
        let scope = Scope {
            needed: evidence.seen.iter().filter(|call| denied.contains(*call) || ours.contains(*call)).count(),
            ahead: ours.iter().copied().filter(|call| !evidence.seen.contains(call)).collect(),
            siblings,
        };
        let refusing = |call: &str| {
            let reached = |abi: &&Abi| abi.call_number(call).is_some() && !passes(policy, **abi, call);
            abis.iter().find(reached).copied()
        };
        let unseen = foretold().chain(scope.siblings.keys().copied()).filter(|call| !evidence.seen.contains(call));
        let refused: BTreeMap<&str, Abi> = unseen.filter_map(|call| Some((call, refusing(call)?))).collect();
        let after = self.with_all_allowed(refused.keys().copied());
        let eligible = |call: &str| {
            refused.get(call).is_some_and(|abi| !self.is_deliberate(*abi, call) && passes(&after, *abi, call))
                && self.groups.is_known(call)
                && privileged_calls::group(call, self.groups).is_none()
        };
        Outlook::new(&evidence)
            .choose(&scope, |call| refused.contains_key(call), eligible)
            .into_iter()
            .map(|foreseen| because(foreseen.call, foreseen.reason))
            .collect()
    }

    fn evidence(&self) -> Evidence<'_> {
        let uids: Vec<&str> =
            self.findings.iter().map(|finding| &*finding.incident.sample.uid).filter(|uid| !uid.is_empty()).collect();
        // A daemon that was root once may still have to become another; a helper of its may be another already.
        let root = (!uids.is_empty()).then(|| uids.iter().any(|uid| matches!(*uid, "0" | "root")));
        let families = self.situation.policy.families();
        let internet = families.is_some_and(|families| {
            families.allow_list && ["AF_INET", "AF_INET6"].iter().any(|family| families.listed.contains_key(*family))
        });
        let seen = self.findings.iter().filter_map(|finding| finding.incident.denial()?.call.name()).collect();
        Evidence { seen, root, internet }
    }

    /// Whether the unit takes a call off its list, or lists it as denied, by a word that was not yet found
    /// wrong: somebody wanted that, so it is no guess's business.
    fn is_deliberate(&self, abi: Abi, call: &str) -> bool {
        let Verdict::Denied { by, .. } = self.situation.policy.verdict(abi, call) else { return false };
        by.iter().any(|cause| match &cause.why {
            why @ (CauseReason::TakenOff(_) | CauseReason::Listed(_)) => {
                !self.all.iter().any(|wrong| wrong.by_filter().any(|word| word == why))
            }
            _ => false,
        })
    }

    /// Groups: the fewest calls that cover all, and the smallest groups that each hold all.
    fn wider(&self, names: &BTreeSet<&str>) -> Vec<Remedy> {
        let mut wider: Vec<Remedy> = group_cover::choices(names, self.groups, &self.situation.policy)
            .into_iter()
            .filter_map(|choice| {
                let line = format!("SystemCallFilter={}", choice.join(" "));
                self.proof.of(RemedyKind::Groups(choice.into_iter().map(Into::into).collect()), &self.with(line), &[])
            })
            .collect();
        wider.sort_by_key(|remedy| remedy.opens.len());
        wider.dedup_by(|one, other| one.opens == other.opens);
        wider.truncate(MOST_GROUPS);
        wider
    }

    /// Errors in place of death, where every call is one that programs can do without.
    fn softer(&self, names: &BTreeSet<&str>) -> Option<Remedy> {
        let killed = |call: &DeniedCall<'_>| call.effect == Some(Effect::Kill) && call.is_by_filter();
        if !self.all.iter().all(killed) {
            return None;
        }
        let words: Option<Vec<String>> =
            names.iter().map(|name| Some(format!("{name}:{}", errno_fallback::of(name)?.errno()))).collect();
        self.proof.of(RemedyKind::FailWithError, &self.with(format!("SystemCallFilter=~{}", words?.join(" "))), &[])
    }
}

fn joined<'a>(words: impl Iterator<Item = &'a str>) -> String {
    words.collect::<Vec<_>>().join(" ")
}

fn because(call: &str, reason: &'static str) -> OpenedCall {
    OpenedCall { call: call.into(), reason }
}

/// The calls that the drop-in of ours allows by name.
fn own_calls(situation: &Situation) -> BTreeSet<&str> {
    let allowing = |(key, value): &(&str, &str)| *key == Directive::SystemCallFilter.key() && !value.starts_with('~');
    let words = own_lines(situation).filter(allowing).flat_map(|(_, value)| value.split_whitespace());
    words.filter(|word| !word.starts_with('@')).collect()
}
