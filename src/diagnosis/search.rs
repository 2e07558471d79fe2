//! Searches for remedies: makes candidate drop-ins, and tries each on the unit's policy.

use super::access_needs::is_granted;
use super::access_remedy::{Grant, find_grant};
use super::denied_call::DeniedCall;
use super::drop_in_place::choose_drop_in;
use super::finding::Finding;
use super::proof::{Proof, TargetCall};
use super::relax_directive::RelaxingLines;
use super::remedy::{OpenedCall, Remedy, RemedyKind, Reservation};
use super::situation::Situation;
use super::{errno_fallback, group_cover, privileged_calls};
use crate::incidents::{AccessDenial, SightingSource};
use crate::policy::{Directive, Effect, Policy, Verdict};
use crate::programs::Program;
use crate::syscalls::{Abi, Groups};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

/// The most remedies that allow groups.
const MOST_GROUPS: usize = 3;

/// The reservations of findings, in the order of their remedies.
const RESERVED: [Reservation; 7] = [
    Reservation::BeforeExec,
    Reservation::HasFallback,
    Reservation::UnknownArgument,
    Reservation::WiderThanDenied,
    Reservation::LibraryProbe,
    Reservation::OtherArchitecture,
    Reservation::PossibleIntrusion,
];

/// Returns the denied calls that no setting of the unit can let pass: systemd or libseccomp does not know them,
/// `DynamicUser=` implies the denial, or the manager forbids their architecture to all units. `has_ways_out` says
/// whether there are drop-ins for calls that only libseccomp does not know.
pub(super) fn find_unsolvable(findings: &[Finding], has_ways_out: bool) -> Vec<Box<str>> {
    let missed = findings.iter().filter(|finding| !finding.has_fallback());
    let lost = missed.filter_map(Finding::denied_call).filter(|call| !call.can_be_lifted());
    let lost = lost.filter(|call| !(has_ways_out && call.is_unresolved()));
    let names: BTreeSet<&str> = lost.map(|call| call.name).collect();
    names.into_iter().map(Into::into).collect()
}

/// Returns every remedy for the findings: first those for all findings without a reservation, least privilege first.
/// Then, for each reservation, those that also solve its findings.
pub(super) fn find_remedies(findings: &[Finding], situation: &Situation, groups: &Groups) -> Vec<Remedy> {
    let plain = |finding: &&Finding| finding.reservation.is_none();
    let mut remedies = Search::new(findings, plain, situation, groups).as_ref().map_or_else(Vec::new, Search::remedies);
    for reservation in RESERVED {
        if !findings.iter().any(|finding| finding.reservation == Some(reservation)) {
            continue;
        }
        let chosen = |finding: &&Finding| plain(finding) || finding.reservation == Some(reservation);
        let search = Search::new(findings, chosen, situation, groups);
        for remedy in search.iter().flat_map(|search| search.reserved(reservation)) {
            if remedies.iter().all(|other| other.content != remedy.content) {
                remedies.push(remedy);
            }
        }
    }
    remedies
}

/// Returns the narrowest remedy that can be the default, without a search for the others.
pub(super) fn find_first_remedy(findings: &[Finding], situation: &Situation, groups: &Groups) -> Option<Remedy> {
    let search = Search::new(findings, |finding| finding.reservation.is_none(), situation, groups)?;
    search.narrowest().filter(|remedy| remedy.reservation.is_none())
}

/// Returns the accesses that lines grant together, with these lines. An access that stays denied under the lines of all is
/// left out.
fn grant_accesses<'a>(
    denials: Vec<&'a AccessDenial>,
    proof: &Proof<'_>,
    policy: &Policy,
) -> (Vec<&'a AccessDenial>, BTreeSet<String>) {
    let grant = |denial: &'a AccessDenial| Some((denial, find_grant(denial, policy)?));
    let mut granted: Vec<(&AccessDenial, Grant)> = denials.into_iter().filter_map(grant).collect();
    loop {
        let lines = Grant::join(granted.iter().map(|(_, grant)| grant), policy);
        let merged = proof.merge(&lines.iter().cloned().collect::<Vec<_>>());
        let after = proof.policy_with(&merged);
        let before = granted.len();
        granted.retain(|(denial, _)| is_granted(denial, &after));
        if granted.len() == before {
            return (granted.into_iter().map(|(denial, _)| denial).collect(), lines);
        }
    }
}

/// The facts from which candidate drop-ins are made, and the proof that tries each.
struct Search<'a> {
    situation: &'a Situation,
    groups: &'a Groups,
    proof: Proof<'a>,
    relaxing: RelaxingLines,
    denied: Vec<DeniedCall<'a>>,
    /// Calls that `SystemCallFilter=` denies once their architecture is listed: before, it does not apply to them.
    denied_next: BTreeSet<&'a str>,
}

impl<'a> Search<'a> {
    /// Returns `None` if none of the chosen denied calls can be lifted, or a directive that denied one of them cannot be
    /// relaxed.
    fn new(
        findings: &'a [Finding],
        is_chosen: impl Fn(&&Finding) -> bool,
        situation: &'a Situation,
        groups: &'a Groups,
    ) -> Option<Self> {
        let denied: Vec<DeniedCall<'_>> = findings
            .iter()
            .filter(|finding| is_chosen(finding))
            .filter_map(Finding::denied_call)
            .filter(DeniedCall::can_be_lifted)
            .collect();
        let accesses: Vec<&Finding> =
            findings.iter().filter(|finding| is_chosen(finding) && finding.denied_access().is_some()).collect();
        let mut relaxing = RelaxingLines::default();
        let can_relax =
            denied.iter().all(|call| call.by.iter().all(|cause| relaxing.add(cause, call.abi, &situation.policy)));
        if (denied.is_empty() && accesses.is_empty()) || !can_relax {
            return None;
        }
        let targets = denied.iter().map(|call| TargetCall { abi: call.abi, name: call.name }).collect();
        // A rehearsal shows what the program makes, so nothing is to be opened early after one.
        let is_rehearsed = findings.iter().any(|finding| finding.incident.key.source == SightingSource::Rehearsal);
        let programs: &[Program] = if is_rehearsed { &[] } else { &situation.programs };
        let failed: Vec<&AccessDenial> = accesses.iter().filter_map(|finding| finding.denied_access()).collect();
        let withholding: Vec<_> = accesses.iter().flat_map(|finding| finding.cause.directives()).collect();
        let has_paths = failed.iter().any(|denial| denial.access.path().is_some());
        let drop_in = choose_drop_in(situation, &denied, &withholding, has_paths);
        let proof = Proof::new(targets, situation, drop_in, groups, programs);
        let (granted, lines) = grant_accesses(failed, &proof, &situation.policy);
        if denied.is_empty() && granted.is_empty() {
            return None;
        }
        let proof = proof.with_accesses(granted);
        relaxing.whole.extend(lines.iter().cloned());
        relaxing.narrow.extend(lines);
        let relaxed: Vec<String> = relaxing.narrow.iter().cloned().collect();
        let relaxed = proof.policy_with(&proof.merge(&relaxed));
        let is_denied_next =
            |call: &&DeniedCall<'_>| !call.is_by_filter() && is_denied_by_filter(&relaxed.verdict(call.abi, call.name));
        let denied_next = denied.iter().filter(is_denied_next).map(|call| call.name).collect();
        Some(Self { situation, groups, proof, relaxing, denied, denied_next })
    }

    /// Returns the remedies for findings with a reservation: the narrowest, and the one that turns whole directives off.
    fn reserved(&self, reservation: Reservation) -> Vec<Remedy> {
        // A line that turns off a whole directive guesses nothing.
        let guesses = |remedy: &Remedy| reservation != Reservation::UnknownArgument || !remedy.conditional.is_empty();
        let of = |remedy: &Remedy| if guesses(remedy) { reservation } else { Reservation::WiderThanDenied };
        let narrow = self.narrowest().map(|remedy| {
            let reservation = of(&remedy);
            remedy.with_reservation(reservation)
        });
        let whole = (self.relaxing.whole != self.relaxing.narrow).then(|| {
            let remedy = self.allow_with(&self.relaxing.whole, &self.names_denied_by_filter())?;
            Some(remedy.with_reservation(Reservation::WiderThanDenied))
        });
        narrow.into_iter().chain(whole.flatten()).collect()
    }

    /// Returns the remedy that opens the least.
    fn narrowest(&self) -> Option<Remedy> {
        self.allow_with(&self.relaxing.narrow, &self.names_denied_by_filter())
    }

    /// Returns the remedy that relaxes other directives by some lines, and allows the calls that the filter denied.
    fn allow_with(&self, relaxing: &BTreeSet<String>, names: &BTreeSet<&str>) -> Option<Remedy> {
        let filter = (!names.is_empty()).then(|| allowing_line(names));
        let kind = if names.is_empty() { RemedyKind::RelaxDirectives } else { RemedyKind::Calls };
        let lines: Vec<String> = relaxing.iter().cloned().chain(filter).collect();
        self.proof.prove(kind, &lines, &[]).ok()
    }

    /// Returns the remedy that allows these calls, and `more`.
    fn allow(&self, names: &BTreeSet<&str>, kind: RemedyKind, more: &[OpenedCall]) -> Option<Remedy> {
        let all: BTreeSet<&str> = names.iter().copied().chain(more.iter().map(|opened| &*opened.call)).collect();
        self.prove(kind, &[allowing_line(&all)], more)
    }

    /// Returns the remedy of some lines and of the lines that relax other directives, if the remedy is proven.
    fn prove(&self, kind: RemedyKind, lines: &[String], reasons: &[OpenedCall]) -> Option<Remedy> {
        let lines: Vec<String> = self.relaxing.narrow.iter().chain(lines).cloned().collect();
        self.proof.prove(kind, &lines, reasons).ok()
    }

    /// Returns every remedy, least privilege first. Of remedies with the same effect, it returns the first.
    fn remedies(&self) -> Vec<Remedy> {
        let names = self.names_denied_by_filter();
        let mut remedies: Vec<Remedy> = self.narrowest().into_iter().collect();
        if !names.is_empty() {
            let relatives = self.relatives();
            let rules_out = |call: &str| self.proof.scope().program().rules_out(call);
            let shown = self.evident();
            let own = relatives.iter().filter(|opened| !rules_out(&opened.call));
            let own: Vec<OpenedCall> =
                own.chain(shown.iter().filter(|shown| !has_call(&relatives, &shown.call))).cloned().collect();
            if !relatives.is_empty() {
                let wider = self.allow(&names, RemedyKind::Relatives, &relatives);
                // The default is then the one for the denied calls alone.
                let reserve = |remedy: Remedy| remedy.with_reservation(Reservation::WiderThanDenied);
                remedies.extend(if own.is_empty() { wider.map(reserve) } else { wider });
            }
            remedies.extend(self.fail_with_error(&names, &relatives));
            if own != relatives {
                remedies.extend(self.allow(&names, RemedyKind::Evidence, &own));
            }
            remedies.extend(self.groups(&names));
        }
        let mut different: Vec<Remedy> = Vec::new();
        for remedy in remedies {
            if !different.iter().any(|other| other.has_same_effect(&remedy)) {
                different.push(remedy);
            }
        }
        different
    }

    fn denied_by_filter(&self) -> impl Iterator<Item = &DeniedCall<'a>> {
        self.denied.iter().filter(|call| call.is_by_filter())
    }

    fn names_denied_by_filter(&self) -> BTreeSet<&str> {
        self.denied_by_filter().map(|call| call.name).chain(self.denied_next.iter().copied()).collect()
    }

    /// Returns the relatives of the denied calls, with the reasons. It returns only calls that do not pass now, and
    /// would pass if the filter allowed them.
    fn relatives(&self) -> Vec<OpenedCall> {
        let scope = self.proof.scope();
        let refused =
            || scope.relatives().filter(|(abi, relative)| !self.situation.policy.permits(*abi, relative.call));
        let after = self.policy_allowing(refused().map(|(_, relative)| relative.call));
        let open = refused().filter(|(abi, relative)| after.permits(*abi, relative.call));
        let reasons: BTreeMap<&str, &'static str> =
            open.map(|(_, relative)| (relative.call, relative.reason)).collect();
        reasons.into_iter().map(|(call, reason)| opened(call, reason)).collect()
    }

    /// Returns the policy with these calls allowed. Calls still do not pass if a later line takes them off the list,
    /// another directive denies them, or libseccomp does not know them.
    fn policy_allowing<'b>(&self, calls: impl Iterator<Item = &'b str>) -> Policy {
        let line = format!("SystemCallFilter={}", joined(calls));
        self.proof.policy_with(&self.proof.merge(&[line]))
    }

    /// Returns the calls with evidence about this program, with the reasons. It returns only calls that do not pass now,
    /// and would pass if the filter allowed them.
    fn evident(&self) -> Vec<OpenedCall> {
        let policy = &self.situation.policy;
        let scope = self.proof.scope();
        let denied = self.names_denied_by_filter();
        let refused: Vec<(Abi, &'static str, &Cow<'static, str>)> = scope
            .program()
            .iter()
            .filter(|(abi, call, _)| {
                !denied.contains(call)
                    && !policy.permits(*abi, call)
                    && !scope.is_excluded(call)
                    && self.groups.is_known(call)
            })
            .collect();
        let after = self.policy_allowing(refused.iter().map(|(_, call, _)| *call));
        let open = refused.into_iter().filter(|(abi, call, _)| after.permits(*abi, call));
        let reasons: BTreeMap<&str, &Cow<'static, str>> = open.map(|(_, call, reason)| (call, reason)).collect();
        reasons.into_iter().map(|(call, reason)| OpenedCall { call: call.into(), reason: reason.clone() }).collect()
    }

    /// Returns remedies that allow groups, the remedy that opens the fewest calls first.
    fn groups(&self, names: &BTreeSet<&str>) -> Vec<Remedy> {
        let mut remedies: Vec<Remedy> = group_cover::find_choices(names, self.groups, &self.situation.policy)
            .into_iter()
            .filter_map(|choice| {
                let line = format!("SystemCallFilter={}", choice.join(" "));
                self.prove(RemedyKind::Groups(choice.into_iter().map(Into::into).collect()), &[line], &[])
            })
            .collect();
        remedies.sort_by_key(|remedy| remedy.opens.len());
        remedies.dedup_by(|one, other| one.opens == other.opens);
        remedies.truncate(MOST_GROUPS);
        remedies
    }

    /// Returns the remedy that lets calls fail with an error that programs handle: all calls, if each has such an error
    /// and kills now. Else only those of `io_uring`, whose work no filter sees, and the remedy allows the others.
    fn fail_with_error(&self, names: &BTreeSet<&str>, relatives: &[OpenedCall]) -> Option<Remedy> {
        let kills = |call: &DeniedCall<'_>| call.effect == Some(Effect::Kill) && call.is_by_filter();
        let has_error = |name: &&str| errno_fallback::find_fallback(name).is_some();
        let failing: BTreeSet<&str> = if self.denied.iter().all(kills) && names.iter().all(has_error) {
            names.clone()
        } else {
            names.iter().copied().filter(|name| privileged_calls::is_unfiltered_io(name)).collect()
        };
        let with_error = |name: &&str| Some(format!("{name}:{}", errno_fallback::find_fallback(name)?.name()));
        let words: Vec<String> = failing.iter().filter_map(with_error).collect();
        if words.is_empty() {
            return None;
        }
        let allowed: BTreeSet<&str> = names.difference(&failing).copied().collect();
        let relatives: Vec<OpenedCall> = relatives.iter().filter(|_| !allowed.is_empty()).cloned().collect();
        let allowed = allowed.into_iter().chain(relatives.iter().map(|opened| &*opened.call)).collect::<BTreeSet<_>>();
        let allowing = (!allowed.is_empty()).then(|| allowing_line(&allowed));
        let lines: Vec<String> =
            allowing.into_iter().chain([format!("SystemCallFilter=~{}", words.join(" "))]).collect();
        self.prove(RemedyKind::FailWithError, &lines, &relatives)
    }
}

/// Whether a verdict is that of `SystemCallFilter=`.
fn is_denied_by_filter(verdict: &Verdict) -> bool {
    let Verdict::Denied { by, .. } = verdict else { return false };
    by.iter().any(|cause| cause.directive == Directive::SystemCallFilter)
}

fn allowing_line(calls: &BTreeSet<&str>) -> String {
    format!("SystemCallFilter={}", joined(calls.iter().copied()))
}

fn joined<'a>(words: impl Iterator<Item = &'a str>) -> String {
    words.collect::<Vec<_>>().join(" ")
}

fn opened(call: &str, reason: &'static str) -> OpenedCall {
    OpenedCall { call: call.into(), reason: Cow::Borrowed(reason) }
}

fn has_call(opened: &[OpenedCall], call: &str) -> bool {
    opened.iter().any(|opened| &*opened.call == call)
}
