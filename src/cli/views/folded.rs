//! Folds denials for the default page: a call that was seen in several ways is one, and calls with one cause are a group.

use super::answer::{CauseView, DenialView, DirectiveView};
use crate::audit::text::join;
use crate::policy::SourceLine;

/// The most calls that one sentence names.
const NAMED: usize = 3;

/// All sightings of one call with one cause.
#[derive(Debug)]
pub(super) struct FoldedDenial<'a> {
    /// The newest sighting of the surest kind: a record before what a tap saw, and what a rehearsal saw last.
    pub(super) view: &'a DenialView,
    /// The newest sighting of any kind.
    pub(super) newest: &'a DenialView,
    /// The number of sightings of the surest kind.
    pub(super) count: u64,
}

/// Denials with the same cause, newest first.
#[derive(Debug)]
pub(super) struct CauseGroup<'a> {
    pub(super) denials: Vec<FoldedDenial<'a>>,
}

impl FoldedDenial<'_> {
    /// Returns the call as manuals name it.
    pub(super) fn call(&self) -> Option<String> {
        let call = self.view.call.as_ref()?;
        let is_name = !call.contains(' ');
        Some(if is_name { format!("{call}(2)") } else { call.clone() })
    }

    /// Returns the time of the newest sighting, as an age if that is known.
    pub(super) fn last(&self) -> Option<&str> {
        let times = &self.newest.times;
        times.ago_brief.as_deref().or(times.last.as_deref())
    }

    /// Whether the settings changed since, so that nothing is left to do.
    pub(super) fn is_settled(&self) -> bool {
        self.view.cause.is_settled()
    }
}

impl CauseView {
    /// Whether the settings changed since the denial that they caused.
    pub(super) fn is_settled(&self) -> bool {
        self.kind.starts_with("fixed") || self.kind == "before-change"
    }
}

impl<'a> CauseGroup<'a> {
    /// The cause.
    pub(super) fn cause(&self) -> Option<&'a CauseView> {
        self.denials.first().map(|denial| &denial.view.cause)
    }

    /// Returns the directive that decides, if one does.
    pub(super) fn deciding(&self) -> Option<&'a DirectiveView> {
        self.cause()?.directives.first()
    }

    /// Returns each deciding part of the line, if the caller may read it, and what it does to its calls.
    pub(super) fn marks(&self) -> Vec<(Option<&'a SourceLine>, String)> {
        let mut parts: Vec<(&'a DirectiveView, Vec<&'a str>)> = Vec::new();
        for denial in &self.denials {
            let Some(directive) = denial.view.cause.directives.first() else { continue };
            let call = denial.view.call.as_deref().unwrap_or_default();
            match parts.iter_mut().find(|(part, _)| is_same_part(part, directive)) {
                Some((_, calls)) if calls.contains(&call) => {}
                Some((_, calls)) => calls.push(call),
                None => parts.push((directive, vec![call])),
            }
        }
        let is_possible = self.cause().is_some_and(|cause| cause.kind == "possibly-unit");
        let describe = |(directive, calls): (&'a DirectiveView, Vec<&'a str>)| {
            let (before, after) = &directive.pointer;
            let perhaps = if is_possible && !before.starts_with("may ") { "perhaps " } else { "" };
            (directive.source.as_ref(), format!("{perhaps}{before}{}{after}", join_some(&calls)))
        };
        parts.into_iter().map(describe).collect()
    }

    /// Names the calls in a sentence, each once.
    pub(super) fn name_calls(&self) -> String {
        name_calls(&self.denials)
    }
}

/// Names the calls of denials in a sentence, each once.
pub(super) fn name_calls(denials: &[FoldedDenial<'_>]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for name in denials.iter().filter_map(|denial| denial.view.call.as_deref()) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    join_some(&names)
}

/// Joins the first few words, and counts the rest.
pub(super) fn join_some(words: &[impl AsRef<str>]) -> String {
    let (shown, rest) = words.split_at(words.len().min(NAMED));
    let rest = (!rest.is_empty()).then(|| format!("{} more", rest.len()));
    join(shown.iter().map(|word| word.as_ref().to_owned()).chain(rest))
}

/// Folds denials, which are newest first, and keeps their order.
pub(super) fn fold(denials: &[DenialView]) -> Vec<FoldedDenial<'_>> {
    let mut folded: Vec<FoldedDenial<'_>> = Vec::new();
    for denial in denials {
        match folded.iter_mut().find(|one| is_same_call(one.view, denial)) {
            Some(one) if one.view.source == denial.source => one.count = one.count.saturating_add(denial.count),
            Some(one) if rank(denial) < rank(one.view) => (one.view, one.count) = (denial, denial.count),
            Some(_) => {}
            None => folded.push(FoldedDenial { view: denial, newest: denial, count: denial.count }),
        }
    }
    folded
}

/// Groups folded denials by their cause.
pub(super) fn group_by_cause(denials: Vec<FoldedDenial<'_>>) -> Vec<CauseGroup<'_>> {
    let mut groups: Vec<CauseGroup<'_>> = Vec::new();
    for denial in denials {
        let cause = &denial.view.cause;
        match groups.iter_mut().find(|group| group.cause().is_some_and(|other| have_same_line(other, cause))) {
            Some(group) => group.denials.push(denial),
            None => groups.push(CauseGroup { denials: vec![denial] }),
        }
    }
    groups
}

/// Whether two sightings are of one call with one cause.
fn is_same_call(one: &DenialView, other: &DenialView) -> bool {
    let facts = |denial: &DenialView| (denial.call.clone(), denial.arch.clone(), denial.event, denial.before_exec);
    facts(one) == facts(other)
        && one.cause.kind == other.cause.kind
        && one.cause.directives == other.cause.directives
        && (one.source != other.source || one.brief == other.brief)
        && (one.call.is_some() || one.exe == other.exe)
}

/// Whether two directives are the same part of a line.
fn is_same_part(one: &DirectiveView, other: &DirectiveView) -> bool {
    one.pointer == other.pointer && one.source == other.source
}

/// Whether one line of one file decides both, or the words are the same where none does.
fn have_same_line(one: &CauseView, other: &CauseView) -> bool {
    let line = |cause: &CauseView| {
        let first = cause.directives.first()?;
        let number = first.source.as_ref().map(|source| source.number);
        Some((first.directive, first.file.clone(), first.line, number))
    };
    one.kind == other.kind && line(one) == line(other) && (line(one).is_some() || one.words == other.words)
}

/// Returns how sure a kind of sighting is, surest first.
fn rank(denial: &DenialView) -> usize {
    ["audit", "log", "tap", "strace", "rehearsal"].iter().position(|source| *source == denial.source).unwrap_or(9)
}
