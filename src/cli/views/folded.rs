//! Folds denials: a call that was seen in several ways is one, and on the default page calls with one cause are a group.

use super::answer::{CauseView, DenialView, DirectiveView};
use crate::audit::text::join_first;
use crate::policy::SourceLine;

/// The most calls that one sentence names.
const NAMED: usize = 3;

/// All sightings of one call with one cause.
#[derive(Debug, Clone)]
pub(super) struct FoldedDenial<'a> {
    /// The newest sighting of the surest kind: a record before what a tap saw, and what a rehearsal saw last.
    pub(super) view: &'a DenialView,
    /// The newest sighting of any kind.
    pub(super) newest: &'a DenialView,
    /// The number of sightings of the surest kind.
    pub(super) count: u64,
    /// All of them.
    pub(super) all: Vec<&'a DenialView>,
    /// When it happened, compared with the changes of the settings.
    pub(super) round: Round,
}

/// How far denials of one call are folded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Folding {
    /// All with the same cause.
    ByCall,
    /// Only those that were seen in different ways, of one program.
    ByProgram,
}

/// When a denial happened, compared with the latest change of the settings that settled others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Round {
    /// After it.
    New,
    /// Nothing settled them, and when they happened compared with the change is unknown, or it was before.
    Open,
    /// A change settled them.
    Settled,
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

    /// Returns the time of the newest of the sightings that count, as an age if that is known.
    pub(super) fn last(&self) -> Option<&str> {
        let times = &self.view.times;
        times.ago_brief.as_deref().or(times.last.as_deref())
    }

    /// Whether the settings changed since, so that nothing is left to do.
    pub(super) fn is_settled(&self) -> bool {
        self.view.cause.is_settled()
    }

    /// Returns the other ways in which the call was seen, and how often in each.
    pub(super) fn other_ways(&self) -> Vec<(&'static str, u64)> {
        let mut ways: Vec<(&'static str, u64)> = Vec::new();
        for other in self.all.iter().filter(|other| other.source != self.view.source) {
            let way = match other.source {
                "audit" => "by a record",
                "tap" => "by a tap",
                "strace" => "by strace",
                "rehearsal" => "in a rehearsal",
                _ => "in a log",
            };
            match ways.iter_mut().find(|(known, _)| *known == way) {
                Some((_, count)) => *count = count.saturating_add(other.count),
                None => ways.push((way, other.count)),
            }
        }
        ways
    }
}

/// Finds the round of each denial.
fn find_rounds(denials: &mut [FoldedDenial<'_>]) {
    let settled = denials.iter().filter(|denial| denial.is_settled());
    let changed = settled.filter_map(|denial| denial.view.cause.changed).max();
    for denial in denials {
        denial.round = match (denial.is_settled(), denial.newest.times.last_millis, changed) {
            (true, _, _) => Round::Settled,
            (false, Some(last), Some(changed)) if last > changed => Round::New,
            _ => Round::Open,
        };
    }
}

impl DenialView {
    /// Returns what was denied: the path, capability or device of an access, or the call.
    pub(super) fn subject(&self) -> Option<&str> {
        self.access.as_ref().map(|access| access.name.as_str()).or(self.call.as_deref())
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
            let call = denial.view.subject().unwrap_or_default();
            match parts.iter_mut().find(|(part, _)| is_same_part(part, directive)) {
                Some((_, calls)) if calls.contains(&call) => {}
                Some((_, calls)) => calls.push(call),
                None => parts.push((directive, vec![call])),
            }
        }
        let is_possible = self.cause().is_some_and(|cause| cause.kind == "possibly-unit");
        let describe = |(directive, calls): (&'a DirectiveView, Vec<&'a str>)| {
            let (before, after) = &directive.does;
            // What a line lacks is certain; only whether that is the cause is not.
            let lacks = before.starts_with("this ");
            let perhaps = if is_possible && !lacks && !before.starts_with("may ") { "perhaps " } else { "" };
            let possible = if is_possible && lacks { " (possible cause)" } else { "" };
            (directive.source.as_ref(), format!("{perhaps}{before}{}{after}{possible}", join_some(&calls)))
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
    for name in denials.iter().filter_map(|denial| denial.view.subject()) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    join_some(&names)
}

/// Joins the first few words, and counts the rest.
pub(super) fn join_some(words: &[impl AsRef<str>]) -> String {
    join_first(words, NAMED)
}

/// Folds denials, which are newest first, and keeps their order.
pub(super) fn fold(denials: &[DenialView], how: Folding) -> Vec<FoldedDenial<'_>> {
    let mut folded: Vec<FoldedDenial<'_>> = Vec::new();
    for denial in denials {
        let is_same = |one: &FoldedDenial<'_>| match how {
            Folding::ByCall => is_same_call(one.view, denial),
            Folding::ByProgram => one.all.iter().all(|other| is_other_way(other, denial)),
        };
        let Some(one) = folded.iter_mut().find(|one| is_same(one)) else {
            let (view, all) = (denial, vec![denial]);
            folded.push(FoldedDenial { view, newest: denial, count: denial.count, all, round: Round::Open });
            continue;
        };
        if one.view.source == denial.source {
            one.count = one.count.saturating_add(denial.count);
        } else if rank(denial) < rank(one.view) {
            (one.view, one.count) = (denial, denial.count);
        }
        one.all.push(denial);
    }
    find_rounds(&mut folded);
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

/// Returns what tells a denied call, or an access, from another.
fn denied_facts(denial: &DenialView) -> (Option<&str>, Option<&str>, Option<&str>, &'static str, bool) {
    let access = denial.access.as_ref().map(|access| access.name.as_str());
    (denial.call.as_deref(), access, denial.arch.as_deref(), denial.event, denial.before_exec)
}

/// Whether two sightings are of one call with one cause.
fn is_same_call(one: &DenialView, other: &DenialView) -> bool {
    denied_facts(one) == denied_facts(other)
        && one.cause.kind == other.cause.kind
        && one.cause.directives == other.cause.directives
        && (one.source != other.source || one.brief == other.brief)
        && (one.call.is_some() || one.exe == other.exe)
}

/// Whether two denials are of one call of one program, by one line, and were seen in different ways. A rehearsal or a
/// tap may not know the program.
fn is_other_way(one: &DenialView, other: &DenialView) -> bool {
    let is_same_program = one.exe.is_none() || other.exe.is_none() || one.exe == other.exe;
    one.call.is_some()
        && one.source != other.source
        && denied_facts(one) == denied_facts(other)
        && is_same_program
        && have_same_line(&one.cause, &other.cause)
}

/// Whether two directives are the same part of a line.
fn is_same_part(one: &DirectiveView, other: &DirectiveView) -> bool {
    one.does == other.does && one.source == other.source
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
