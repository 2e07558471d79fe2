//! What to change: drop-ins, each put into the unit's policy in memory first, and offered only if
//! every denied call then passes.

use super::cause::Cause;
use super::{Finding, Situation, denied};
use crate::policy::{self, Directive, Effect, Policy, Verdict};
use crate::syscalls::{Abi, Calls, Groups};
use std::collections::BTreeSet;

/// How many groups are offered.
const MOST_GROUPS: usize = 3;

/// Groups whose calls no program can do without: refusing one softly helps nobody.
const ESSENTIAL: [&str; 3] = ["@default", "@basic-io", "@signal"];

/// A drop-in that was proven on the policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remedy {
    /// What it does.
    pub kind: Kind,
    /// Its lines below the section header.
    pub lines: Vec<String>,
    /// The whole file.
    pub content: String,
    /// The calls it opens beyond the denied ones.
    pub opens: Vec<Box<str>>,
    /// Denied calls that it lets pass only with some arguments.
    pub conditional: Vec<Box<str>>,
}

/// What a remedy does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// Allows the denied calls alone.
    Calls,
    /// Allows whole groups that contain them.
    Groups(Vec<Box<str>>),
    /// Loosens other directives; no `SystemCallFilter=` stands in the way.
    Loosen,
    /// Lets the calls fail with EPERM instead of killing.
    Soften,
}

/// A denied call.
struct Denied<'a> {
    abi: Abi,
    name: &'a str,
    effect: Effect,
    by: &'a [policy::Cause],
}

impl Denied<'_> {
    fn by_filter(&self) -> bool {
        self.by.iter().any(|cause| cause.directive == Directive::SystemCallFilter)
    }
}

/// Every remedy for the findings together, least privilege first.
pub(super) fn find(findings: &[Finding], situation: &Situation, groups: &Groups) -> Vec<Remedy> {
    let all: Vec<Denied<'_>> = findings.iter().filter_map(denied_by_unit).collect();
    if all.is_empty() {
        return Vec::new();
    }
    let Some(loosened) = loosen(&all) else { return Vec::new() };
    let filtered: BTreeSet<&str> = all.iter().filter(|call| call.by_filter()).map(|call| call.name).collect();
    let proof = Proof { all: &all, situation, groups };
    if filtered.is_empty() {
        return proof.of(Kind::Loosen, loosened).into_iter().collect();
    }
    let names: Vec<&str> = filtered.iter().copied().collect();
    let with = |line: String| loosened.iter().cloned().chain([line]).collect::<Vec<_>>();

    let mut found: Vec<Remedy> =
        proof.of(Kind::Calls, with(format!("SystemCallFilter={}", names.join(" ")))).into_iter().collect();
    let mut wider: Vec<Remedy> = group_choices(&names, groups)
        .into_iter()
        .filter_map(|choice| {
            let line = format!("SystemCallFilter={}", choice.join(" "));
            proof.of(Kind::Groups(choice.into_iter().map(Into::into).collect()), with(line))
        })
        .collect();
    wider.sort_by_key(|remedy| remedy.opens.len());
    wider.dedup_by(|one, other| one.opens == other.opens);
    wider.truncate(MOST_GROUPS);
    found.extend(wider);
    if all.iter().all(|call| call.effect == Effect::Kill && call.by_filter()) && !any_essential(&names, groups) {
        let words: Vec<String> = names.iter().map(|name| format!("{name}:EPERM")).collect();
        found.extend(proof.of(Kind::Soften, with(format!("SystemCallFilter=~{}", words.join(" ")))));
    }
    found
}

fn denied_by_unit(finding: &Finding) -> Option<Denied<'_>> {
    let Cause::Unit { effect, by, .. } = &finding.cause else { return None };
    let call = &denied(&finding.incident)?.call;
    Some(Denied { abi: call.abi()?, name: call.name()?, effect: *effect, by })
}

/// The lines that lift every directive but `SystemCallFilter=`; `None` where one cannot be lifted by
/// what the record tells.
fn loosen(all: &[Denied<'_>]) -> Option<Vec<String>> {
    let mut lines = BTreeSet::new();
    for call in all {
        for cause in call.by {
            match cause.directive {
                Directive::SystemCallFilter => {}
                Directive::SystemCallArchitectures => {
                    lines.insert(format!("SystemCallArchitectures={}", call.abi.systemd_name()?));
                }
                // What the service loses with it is no remedy for one call.
                Directive::DynamicUser => return None,
                switch if switch.is_switch() => {
                    lines.insert(format!("{}=no", switch.key()));
                }
                _ => return None,
            }
        }
    }
    Some(lines.into_iter().collect())
}

/// Groups to offer: the smallest that hold all calls, and the smallest of each call together.
fn group_choices<'a>(names: &[&str], groups: &'a Groups) -> Vec<Vec<&'a str>> {
    let containing: Vec<Vec<&str>> = names.iter().map(|name| groups.containing(name)).collect();
    let Some((first, rest)) = containing.split_first() else { return Vec::new() };
    let mut choices: Vec<Vec<&str>> = first
        .iter()
        .filter(|group| rest.iter().all(|others| others.contains(group)))
        .map(|group| vec![*group])
        .collect();
    let smallest: Option<BTreeSet<&str>> = containing.iter().map(|groups| groups.first().copied()).collect();
    if let Some(smallest) = smallest.filter(|smallest| smallest.len() > 1) {
        choices.push(smallest.into_iter().collect());
    }
    choices
}

fn any_essential(names: &[&str], groups: &Groups) -> bool {
    let essential =
        |name: &&str| ESSENTIAL.iter().any(|group| groups.calls(group).is_some_and(|calls| calls.contains(*name)));
    names.iter().any(essential)
}

/// What remedies are held against.
struct Proof<'a> {
    all: &'a [Denied<'a>],
    situation: &'a Situation,
    groups: &'a Groups,
}

impl Proof<'_> {
    /// The remedy, if the policy with it does what it promises for every denied call.
    fn of(&self, kind: Kind, lines: Vec<String>) -> Option<Remedy> {
        let Situation { policy, drop_in } = self.situation;
        let section = policy.settings.section();
        let content = format!("[{section}]\n{}\n", lines.join("\n"));
        let after = policy.with_dropin(drop_in, content.as_bytes(), self.groups);
        let mut conditional = BTreeSet::new();
        for call in self.all {
            match after.verdict(call.abi, call.name) {
                Verdict::Permitted | Verdict::LogOnly { .. } => {}
                Verdict::Possible { .. } => {
                    conditional.insert(call.name);
                }
                Verdict::Denied { effect: Effect::Errno(_), .. } if kind == Kind::Soften => {}
                Verdict::Denied { .. } => return None,
            }
        }
        let opens = self.opened(policy, &after);
        Some(Remedy { kind, lines, content, opens, conditional: conditional.into_iter().map(Into::into).collect() })
    }

    /// The calls that were denied and are not any more, beyond those that shall not be.
    fn opened(&self, before: &Policy, after: &Policy) -> Vec<Box<str>> {
        let passes =
            |policy: &Policy, call: &str| !matches!(policy.verdict(Abi::native(), call), Verdict::Denied { .. });
        let known: Calls = self.groups.names().filter_map(|name| self.groups.calls(name)).flatten().cloned().collect();
        known
            .into_iter()
            .filter(|call| !self.all.iter().any(|denied| denied.name == &**call))
            .filter(|call| passes(after, call) && !passes(before, call))
            .collect()
    }
}
