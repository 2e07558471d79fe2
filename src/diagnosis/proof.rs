//! A remedy is put into the unit's policy in memory, and offered only if it keeps its promises there.

use super::lines::{appended, broken, is_allowing, is_denying, is_filter, united};
use super::privileged_calls;
use super::remedy::{OpenedCall, Remedy, RemedyKind};
use super::situation::Situation;
use crate::policy::{Directive, Effect, Policy, Verdict};
use crate::syscalls::{Abi, CallNames, Groups};
use std::collections::BTreeSet;

/// A call that the unit's settings denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Wanted<'a> {
    pub(super) abi: Abi,
    pub(super) name: &'a str,
}

/// What remedies are held against.
pub(super) struct Proof<'a> {
    wanted: BTreeSet<Wanted<'a>>,
    situation: &'a Situation,
    groups: &'a Groups,
    /// The policy without the remedy, as the unit's files have it: what a drop-in changes.
    before: Policy,
    abis: BTreeSet<Abi>,
    known: CallNames,
}

impl<'a> Proof<'a> {
    pub(super) fn new(wanted: BTreeSet<Wanted<'a>>, situation: &'a Situation, groups: &'a Groups) -> Self {
        let abis = wanted.iter().map(|call| call.abi).chain([Abi::native()]).collect();
        let known = groups.names().filter_map(|name| groups.calls(name)).flatten().cloned().collect();
        Self { wanted, situation, groups, before: situation.policy.after_reload(groups), abis, known }
    }

    /// The policy with a drop-in of these lines.
    pub(super) fn with(&self, lines: &[String]) -> Policy {
        self.situation.policy.with_dropin(&self.situation.drop_in, self.content(lines).as_bytes(), self.groups)
    }

    fn content(&self, lines: &[String]) -> String {
        let lines: Vec<String> = lines.iter().flat_map(|line| broken(line)).collect();
        format!("[{}]\n{}\n", self.before.settings.section(), lines.join("\n"))
    }

    /// The remedy, if the policy with it does what it promises for every denied call, and nothing else
    /// is the worse for it. What our drop-in says already stays in it.
    pub(super) fn of(&self, kind: RemedyKind, lines: &[String], because: &[OpenedCall]) -> Option<Remedy> {
        let lines = self.merged(lines);
        let after = self.with(&lines);
        if !same_mode(&self.before, &after) || self.closes(&after) {
            return None;
        }
        let mut conditional = BTreeSet::new();
        let mut lifts = false;
        for call in &self.wanted {
            let (was, is) = (self.before.verdict(call.abi, call.name), after.verdict(call.abi, call.name));
            lifts |= was != is;
            match is {
                Verdict::Permitted | Verdict::LogOnly { .. } => {}
                Verdict::Possible { .. } => {
                    conditional.insert(call.name);
                }
                Verdict::Denied { effect: Effect::Errno(_), .. } if kind == RemedyKind::FailWithError => {}
                Verdict::Denied { .. } => return None,
            }
        }
        if !lifts {
            return None;
        }
        let opens = self.opened(&after);
        let newly = opens.iter().map(AsRef::as_ref).chain(self.wanted.iter().map(|call| call.name));
        let newly: BTreeSet<&str> = if kind == RemedyKind::FailWithError { BTreeSet::new() } else { newly.collect() };
        Some(Remedy {
            sensitive: newly
                .into_iter()
                .filter_map(|call| Some((privileged_calls::group(call, self.groups)?.into(), call.into())))
                .collect(),
            reasons: because.to_vec(),
            content: self.content(&lines),
            conditional: conditional.into_iter().map(Into::into).collect(),
            kind,
            lines,
            opens,
        })
    }

    /// The calls that were denied and are not any more, beyond those that shall not be.
    fn opened(&self, after: &Policy) -> Vec<Box<str>> {
        let opened =
            |call: &str| self.abis.iter().any(|abi| passes(after, *abi, call) && !passes(&self.before, *abi, call));
        let wanted = |call: &str| self.wanted.iter().any(|wanted| wanted.name == call);
        self.known.iter().filter(|call| !wanted(call) && opened(call)).cloned().collect()
    }

    /// Whether any call that passed does not any more.
    fn closes(&self, after: &Policy) -> bool {
        let closed = |abi, call: &str| passes(&self.before, abi, call) && !passes(after, abi, call);
        self.known.iter().any(|call| self.abis.iter().any(|abi| closed(*abi, call)))
    }

    /// What our drop-in says, and these lines: one file takes the place of the other.
    pub(super) fn merged(&self, lines: &[String]) -> Vec<String> {
        let own = own_lines(self.situation).map(|(key, value)| format!("{key}={}", without_controls(value)));
        let mut merged: Vec<String> = Vec::new();
        for line in own {
            match merged.last_mut() {
                Some(last) if is_allowing(last) && is_allowing(&line) => *last = united(last, &line),
                Some(last) if is_denying(last) && is_denying(&line) => *last = appended(last, &line),
                _ => merged.push(line),
            }
        }
        for line in lines {
            let repeated = merged.contains(line);
            match merged.iter_mut().rfind(|other| is_filter(other)) {
                Some(last) if is_filter(line) && last == line => {}
                Some(last) if is_allowing(line) && is_allowing(last) => *last = united(last, line),
                _ if repeated && !is_filter(line) => {}
                _ => merged.push(line.clone()),
            }
        }
        merged
    }
}

/// The assignments of the drop-in that a remedy takes the place of.
pub(super) fn own_lines(situation: &Situation) -> impl Iterator<Item = (&str, &str)> {
    let name = situation.drop_in.file_name();
    situation
        .policy
        .settings
        .assignments()
        .filter(move |line| line.origin.path.file_name() == name && Directive::from_key(&line.key).is_some())
        .map(|line| (&*line.key, &*line.value))
}

/// A value without the words that hold what no call, group or family is called: whoever wrote the file, they would be
/// shown on a terminal and written again.
fn without_controls(value: &str) -> String {
    let plain = |c: char| c.is_ascii_graphic() || c == ' ';
    if value.chars().all(plain) {
        return value.to_owned();
    }
    let words = value.split([' ', '\t']).filter(|word| word.chars().all(plain));
    words.collect::<Vec<_>>().join(" ")
}

/// Whether a call passes with some arguments at least.
pub(super) fn passes(policy: &Policy, abi: Abi, call: &str) -> bool {
    !matches!(policy.verdict(abi, call), Verdict::Denied { .. })
}

/// A lone `SystemCallFilter=` in a unit without makes an allow-list of what it names, and breaks it.
fn same_mode(before: &Policy, after: &Policy) -> bool {
    let mode = |policy: &Policy| policy.filter.as_ref().map(crate::policy::SyscallFilter::mode);
    mode(before) == mode(after)
}
