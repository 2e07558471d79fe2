//! Tries a candidate drop-in on the unit's policy in memory, and makes a remedy only of a drop-in that does what its
//! kind promises.

use super::access_needs::{is_granted, opens_more};
use super::access_paths::is_at_or_below;
use super::default_scope::DefaultScope;
use super::drop_in_lines::{allowed_words, append_words, is_allowing, is_denying, is_filter, split_line, unite_words};
use super::privileged_calls;
use super::remedy::{OpenedCall, Remedy, RemedyKind, Reservation};
use super::situation::Situation;
use crate::incidents::AccessDenial;
use crate::policy::{Directive, Effect, Mode, Policy, SyscallFilter, Verdict};
use crate::programs::Program;
use crate::syscalls::{Abi, CallNames, Groups};
use std::collections::BTreeSet;
use std::path::PathBuf;

/// A call that a remedy has to let pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TargetCall<'a> {
    pub(super) abi: Abi,
    pub(super) name: &'a str,
}

/// Why a candidate drop-in is no remedy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rejection {
    /// The unit has no allow-list, and the drop-in would start one: only the listed calls would pass then.
    StartsAllowList,
    /// The drop-in would change the kind of the unit's list (allow-list, deny-list or none) in another way.
    ChangesListMode,
    /// The drop-in would deny a call that passes now.
    DeniesMore,
    /// The drop-in would take a path off a list that protects it, and that no denied access is below.
    DropsProtection,
    /// A denied call would still be denied.
    StillDenied,
    /// The verdict for every denied call would stay the same.
    NoEffect,
}

/// The denied calls, and the policy on which candidate drop-ins are tried.
pub(super) struct Proof<'a> {
    targets: BTreeSet<TargetCall<'a>>,
    situation: &'a Situation,
    /// The path of the candidates.
    drop_in: PathBuf,
    groups: &'a Groups,
    /// The policy of the unit's files without the candidate.
    before: Policy,
    abis: BTreeSet<Abi>,
    known: CallNames,
    scope: DefaultScope<'a>,
    /// The failed accesses that a remedy has to grant.
    accesses: Vec<&'a AccessDenial>,
}

impl<'a> Proof<'a> {
    pub(super) fn new(
        targets: BTreeSet<TargetCall<'a>>,
        situation: &'a Situation,
        drop_in: PathBuf,
        groups: &'a Groups,
        programs: &[Program],
    ) -> Self {
        let abis = targets.iter().map(|call| call.abi).chain([situation.policy.native()]).collect();
        let scope = DefaultScope::new(targets.iter().map(|call| (call.abi, call.name)), &situation.policy, groups)
            .with_programs(programs, groups);
        let known = groups.names().filter_map(|name| groups.calls(name)).flatten().cloned().collect();
        let before = situation.policy.after_reload(groups);
        Self { targets, situation, drop_in, groups, before, abis, known, scope, accesses: Vec::new() }
    }

    /// Requires a remedy to grant these accesses, too.
    pub(super) fn with_accesses(self, accesses: Vec<&'a AccessDenial>) -> Self {
        Self { accesses, ..self }
    }

    /// What a default remedy may open for the targets.
    pub(super) fn scope(&self) -> &DefaultScope<'a> {
        &self.scope
    }

    /// Returns the policy with a drop-in of these lines.
    pub(super) fn policy_with(&self, lines: &[String]) -> Policy {
        self.situation.policy.with_dropin(&self.drop_in, self.content(lines).as_bytes(), self.groups)
    }

    fn content(&self, lines: &[String]) -> String {
        let lines: Vec<String> = lines.iter().flat_map(|line| split_line(line)).collect();
        format!("[{}]\n{}\n", self.before.settings.section(), lines.join("\n"))
    }

    /// Returns the remedy that consists of these lines and of the drop-in's present lines.
    ///
    /// # Errors
    /// The drop-in does not do what the kind of remedy promises for every denied call, or it does other harm.
    pub(super) fn prove(
        &self,
        kind: RemedyKind,
        lines: &[String],
        reasons: &[OpenedCall],
    ) -> Result<Remedy, Rejection> {
        let lines = self.merge(lines);
        let after = self.policy_with(&lines);
        if would_start_allow_list(&self.before, &after) {
            return Err(Rejection::StartsAllowList);
        }
        let modes = (list_mode(&self.before), list_mode(&after));
        let is_replaced = kind == RemedyKind::DenyList && modes == (Some(Mode::Allow), Some(Mode::Deny));
        if modes.0 != modes.1 && !is_replaced {
            return Err(Rejection::ChangesListMode);
        }
        if self.denies_more(&after) {
            return Err(Rejection::DeniesMore);
        }
        if self.drops_protection(&after) {
            return Err(Rejection::DropsProtection);
        }
        let conditional = self.check_targets(&kind, &after)?;
        let opens = self.find_opened(&after);
        let reservation = self.find_reservation(&kind, &opens, &after);
        let (passing, failing): (BTreeSet<TargetCall<'_>>, BTreeSet<TargetCall<'_>>) =
            self.targets.iter().copied().partition(|call| after.permits(call.abi, call.name));
        let newly: BTreeSet<&str> =
            opens.iter().map(AsRef::as_ref).chain(passing.iter().map(|call| call.name)).collect();
        let unfiltered = newly.iter().copied().filter(|call| privileged_calls::is_unfiltered_io(call));
        let solves: BTreeSet<&str> = self.targets.iter().map(|call| call.name).collect();
        Ok(Remedy {
            solves: solves.into_iter().map(Into::into).collect(),
            failing: failing.iter().map(|call| call.name.into()).collect(),
            unfiltered_io: unfiltered.map(Into::into).collect(),
            sensitive: newly
                .iter()
                .filter_map(|call| {
                    Some((privileged_calls::find_risk(call, &after.settings, self.groups)?.into(), (*call).into()))
                })
                .collect(),
            reasons: reasons.to_vec(),
            content: self.content(&lines),
            drop_in: self.drop_in.clone(),
            added: self.find_added(&lines),
            reservation,
            conditional: conditional.into_iter().map(Into::into).collect(),
            kind,
            lines,
            opens,
        })
    }

    /// Whether a list of protected paths loses a word that has nothing to do with the denied accesses.
    fn drops_protection(&self, after: &Policy) -> bool {
        let lists = [Directive::InaccessiblePaths, Directive::ReadOnlyPaths, Directive::NoExecPaths];
        let asked = || self.accesses.iter().filter_map(|denial| denial.access.path());
        let is_asked = |path: &str| asked().any(|asked| is_at_or_below(asked.as_bytes(), path.as_bytes()));
        lists.into_iter().any(|list| match (self.before.path_words(list), after.path_words(list)) {
            (Some(before), Some(after)) => before.iter().any(|word| !after.contains(word) && !is_asked(&word.path)),
            (None, Some(_)) => true,
            (_, None) => false,
        })
    }

    /// Checks the verdict for every denied call. Returns those that pass only with some arguments.
    fn check_targets(&self, kind: &RemedyKind, after: &Policy) -> Result<BTreeSet<&str>, Rejection> {
        let mut conditional = BTreeSet::new();
        let mut changes = !self.accesses.is_empty();
        if !self.accesses.iter().all(|denial| is_granted(denial, after)) {
            return Err(Rejection::StillDenied);
        }
        for call in &self.targets {
            let (was, is) = (self.before.verdict(call.abi, call.name), after.verdict(call.abi, call.name));
            changes |= was != is;
            match is {
                Verdict::Permitted | Verdict::LogOnly { .. } => {}
                Verdict::Possible { .. } => {
                    conditional.insert(call.name);
                }
                Verdict::Denied { effect: Effect::Errno(_), .. } if kind.keeps_denying() => {}
                Verdict::Denied { .. } => return Err(Rejection::StillDenied),
            }
        }
        if changes { Ok(conditional) } else { Err(Rejection::NoEffect) }
    }

    /// Returns the calls, except the targets, that were denied before and pass now.
    fn find_opened(&self, after: &Policy) -> Vec<Box<str>> {
        let is_opened = |call: &str| self.abis.iter().any(|abi| self.opens(after, *abi, call));
        // A filter denied some of these for an argument: the access says which.
        let is_asked =
            |denial: &&AccessDenial, call: &str| denial.access.is_of_argument() && denial.call.name() == Some(call);
        let is_target = |call: &str| {
            self.targets.iter().any(|target| target.name == call)
                || self.accesses.iter().any(|denial| is_asked(denial, call))
        };
        self.known.iter().filter(|call| !is_target(call) && is_opened(call)).cloned().collect()
    }

    /// Whether a call of an ABI was denied before and passes now.
    fn opens(&self, after: &Policy, abi: Abi, call: &str) -> bool {
        abi.call_number(call).is_some() && after.permits(abi, call) && !self.before.permits(abi, call)
    }

    /// Returns why a remedy of this kind with this effect is never the default.
    fn find_reservation(&self, kind: &RemedyKind, opens: &[Box<str>], after: &Policy) -> Option<Reservation> {
        let of_kind = match kind {
            RemedyKind::FailWithError | RemedyKind::FailAllWithError => Some(Reservation::KeepsDenying),
            RemedyKind::Groups(_) | RemedyKind::DenyList => Some(Reservation::WiderThanDenied),
            RemedyKind::Calls | RemedyKind::Relatives | RemedyKind::Evidence | RemedyKind::RelaxDirectives => None,
        };
        let is_wider = || {
            let mut calls = opens.iter().flat_map(|call| self.abis.iter().map(move |abi| (*abi, call)));
            calls.any(|(abi, call)| self.opens(after, abi, call) && !self.scope.permits(abi, call))
        };
        let opens_more = || !self.accesses.is_empty() && opens_more(&self.accesses, &self.before, after);
        of_kind.or_else(|| (is_wider() || opens_more()).then_some(Reservation::WiderThanDenied))
    }

    /// Returns what the present drop-in lacks, if there is one: words of the allowing lines, and other lines.
    fn find_added(&self, lines: &[String]) -> Vec<Box<str>> {
        let present: Vec<String> = own_lines(self.situation).map(|(key, value)| format!("{key}={value}")).collect();
        if present.is_empty() {
            return Vec::new();
        }
        let allowed: BTreeSet<&str> = allowed_words(&present).collect();
        let words: BTreeSet<&str> = allowed_words(lines).filter(|word| !allowed.contains(word)).collect();
        let others = lines.iter().filter(|line| !is_allowing(line) && !present.contains(line));
        words.into_iter().chain(others.map(String::as_str)).map(Into::into).collect()
    }

    /// Whether any call that passed is denied now.
    fn denies_more(&self, after: &Policy) -> bool {
        let is_closed = |abi, call: &str| self.before.permits(abi, call) && !after.permits(abi, call);
        self.known.iter().any(|call| self.abis.iter().any(|abi| is_closed(*abi, call)))
    }

    /// Returns the drop-in's present lines joined with these lines, because the new file replaces the old file.
    pub(super) fn merge(&self, lines: &[String]) -> Vec<String> {
        let resets = lines.iter().any(|line| is_filter(line) && !is_allowing(line) && !is_denying(line));
        let own = own_lines(self.situation).map(|(key, value)| format!("{key}={}", without_controls(value)));
        // A list of paths that starts again holds what it keeps. Both directives for bind mounts fill one list.
        let is_reset = |reset: &str, line: &str| {
            line.starts_with(reset) || (reset == "BindPaths=" && line.starts_with("BindReadOnlyPaths="))
        };
        let restarts = |line: &String| lines.iter().any(|reset| reset.ends_with('=') && is_reset(reset, line));
        let own = own.filter(|line| !((resets && is_filter(line)) || restarts(line)));
        let mut merged: Vec<String> = Vec::new();
        for line in own {
            match merged.last_mut() {
                Some(last) if is_allowing(last) && is_allowing(&line) => *last = unite_words(last, &line),
                Some(last) if is_denying(last) && is_denying(&line) => *last = append_words(last, &line),
                _ => merged.push(line),
            }
        }
        for line in lines {
            let repeated = merged.contains(line);
            match merged.iter_mut().rfind(|other| is_filter(other)) {
                Some(last) if is_filter(line) && last == line => {}
                Some(last) if is_allowing(line) && is_allowing(last) => *last = unite_words(last, line),
                _ if repeated && !is_filter(line) => {}
                _ => merged.push(line.clone()),
            }
        }
        merged
    }
}

/// Returns the assignments of the drop-in that a remedy replaces.
pub(super) fn own_lines(situation: &Situation) -> impl Iterator<Item = (&str, &str)> {
    situation
        .policy
        .settings
        .assignments()
        .filter(|line| situation.is_remedy(&line.origin.path) && Directive::from_key(&line.key).is_some())
        .map(|line| (&*line.key, &*line.value))
}

/// Returns a value without words that contain control or non-ASCII characters. No call, group or family has such a
/// name, and a remedy would show these words on a terminal and write them again.
pub(super) fn without_controls(value: &str) -> String {
    let is_plain = |c: char| c.is_ascii_graphic() || c == ' ';
    if value.chars().all(is_plain) {
        return value.to_owned();
    }
    let words = value.split([' ', '\t']).filter(|word| word.chars().all(is_plain));
    words.collect::<Vec<_>>().join(" ")
}

fn list_mode(policy: &Policy) -> Option<Mode> {
    policy.filter.as_ref().map(SyscallFilter::mode)
}

/// Whether a drop-in would start an allow-list. `SystemCallFilter=foo` does that in a unit without a filter, and would
/// break the unit.
fn would_start_allow_list(before: &Policy, after: &Policy) -> bool {
    list_mode(before) != Some(Mode::Allow) && list_mode(after) == Some(Mode::Allow)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Settings, UnitFile};
    use std::path::Path;

    /// Tries lines as a remedy for a denied `mount` in a unit with these settings.
    fn try_lines(unit: &str, kind: RemedyKind, lines: &[&str]) -> Result<Vec<String>, Rejection> {
        let file = UnitFile::parse(Path::new("x.service"), format!("[Service]\n{unit}\n").as_bytes());
        let settings = Settings::new(&"x.service".parse().unwrap(), Some(file), Vec::new());
        let groups = Groups::embedded().with_native(Abi::X86_64);
        let policy = Policy::new(settings, &groups);
        let situation = Situation {
            policy,
            drop_in: "/etc/x.service.d/zz-harden-why.conf".into(),
            history: None,
            programs: Vec::new(),
        };
        let targets = BTreeSet::from([TargetCall { abi: Abi::X86_64, name: "mount" }]);
        let lines: Vec<String> = lines.iter().map(ToString::to_string).collect();
        Proof::new(targets, &situation, situation.drop_in.clone(), &groups, &[])
            .prove(kind, &lines, &[])
            .map(|remedy| remedy.lines)
    }

    #[test]
    fn allowing_line_in_unit_without_filter_is_rejected_as_start_of_allow_list() {
        let lines = try_lines("ProtectClock=yes", RemedyKind::Calls, &["SystemCallFilter=mount"]);
        assert_eq!(lines, Err(Rejection::StartsAllowList));
    }

    #[test]
    fn denying_line_in_unit_without_filter_is_rejected_as_change_of_list_mode() {
        let lines = try_lines("", RemedyKind::FailWithError, &["SystemCallFilter=~mount:EPERM"]);
        assert_eq!(lines, Err(Rejection::ChangesListMode));
    }

    #[test]
    fn line_that_denies_passing_call_is_rejected() {
        let unit = "SystemCallFilter=@basic-io mount";
        assert_eq!(
            try_lines(unit, RemedyKind::FailWithError, &["SystemCallFilter=~read:EPERM"]),
            Err(Rejection::DeniesMore)
        );
    }

    #[test]
    fn line_that_leaves_call_denied_is_rejected() {
        let unit = "SystemCallFilter=~mount";
        assert_eq!(try_lines(unit, RemedyKind::Calls, &["ProtectClock=no"]), Err(Rejection::StillDenied));
        let passing = try_lines("SystemCallFilter=~reboot", RemedyKind::Calls, &["ProtectClock=no"]);
        assert_eq!(passing, Err(Rejection::NoEffect));
    }

    #[test]
    fn line_that_allows_call_is_proven() {
        let lines = try_lines("SystemCallFilter=~mount", RemedyKind::Calls, &["SystemCallFilter=mount"]);
        assert_eq!(lines, Ok(vec!["SystemCallFilter=mount".to_owned()]));
    }
}
