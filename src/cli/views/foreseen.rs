//! The calls that a unit's programs can make and that would be denied.

use crate::audit::text::{escape, join_first};
use crate::cli::terminal::output::Detail;
use crate::cli::terminal::page::{BAD, PLACE, Page, WARN, styled};
use crate::diagnosis::{ForeseenCall, Likelihood, Situation, foresee_denials};
use crate::policy::{DirectiveCause, Policy};
use crate::programs::Program;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// The most names in a row of the short page, and the most rows of a kind.
const MOST_NAMES: usize = 8;
const MOST_ROWS: usize = 2;

/// How likely the calls of a row are denied.
const LIKELY: &str = "will likely be denied:";
const POSSIBLE: &str = "may also be denied:";

/// A call that a program can make and that would be denied.
#[derive(Debug, Serialize)]
pub(crate) struct ForeseenView {
    pub call: String,
    arch: &'static str,
    likelihood: Likelihood,
    /// Why the program can make it.
    reason: String,
    /// The effect: `kill` or an errno.
    effect: String,
    /// The directives that deny it, with file and line if known.
    by: Vec<String>,
    /// What the calls of a row have in common.
    #[serde(skip)]
    source: String,
}

/// A program whose calls nothing shows.
#[derive(Debug, Serialize)]
pub(crate) struct UnreadProgramView {
    path: String,
    /// Why nothing shows them.
    reason: &'static str,
}

impl ForeseenView {
    /// Lists the calls, the likely ones first.
    pub(crate) fn list(programs: &[Program], policy: &Policy, place: impl Fn(&DirectiveCause) -> String) -> Vec<Self> {
        let mut foreseen = foresee_denials(programs, policy);
        foreseen.sort_by_key(|foreseen| foreseen.likelihood);
        foreseen.iter().map(|foreseen| Self::new(foreseen, &place)).collect()
    }

    fn new(foreseen: &ForeseenCall<'_>, place: impl Fn(&DirectiveCause) -> String) -> Self {
        let ForeseenCall { abi, call, likelihood, reason, program, effect, by } = foreseen;
        Self {
            call: (*call).to_owned(),
            arch: abi.name(),
            likelihood: *likelihood,
            reason: reason.to_string(),
            effect: effect.to_string(),
            by: by.iter().map(place).collect(),
            source: escape(program.name()),
        }
    }

    /// Whether most such programs make the call.
    pub(crate) fn is_likely(&self) -> bool {
        self.likelihood == Likelihood::Likely
    }
}

impl UnreadProgramView {
    /// Lists the programs of a unit whose calls nothing shows.
    pub(crate) fn list(situation: &Situation) -> Vec<Self> {
        let lacks = situation.programs_without_evidence();
        let view = |program: &Program| Some(Self { path: escape(&program.path), reason: program.describe_lack()? });
        lacks.filter_map(view).collect()
    }
}

/// Adds the calls that the programs can make, grouped by program; with every reason in the full page.
pub(crate) fn add_foreseen(page: &mut Page, foreseen: &[ForeseenView], unread: &[UnreadProgramView], detail: Detail) {
    if foreseen.is_empty() && unread.is_empty() {
        return;
    }
    page.gap();
    for (likelihood, label) in
        [(Likelihood::Likely, styled(BAD, LIKELY)), (Likelihood::Possible, styled(WARN, POSSIBLE))]
    {
        let calls: Vec<&ForeseenView> = foreseen.iter().filter(|one| one.likelihood == likelihood).collect();
        if detail == Detail::Full {
            for ForeseenView { call, reason, effect, by, .. } in calls {
                page.hanging((2, 4), &format!("{label} {call} ({reason}; {effect})"));
                for place in by {
                    page.line(format_args!("    {}", styled(PLACE, place)));
                }
            }
        } else {
            add_rows(page, &label, &calls);
        }
    }
    for UnreadProgramView { path, reason } in unread {
        page.hanging((2, 4), &format!("{} {path} {reason}", styled(WARN, "cannot foresee further calls:")));
    }
    let places: BTreeSet<&str> = foreseen.iter().flat_map(|one| &one.by).map(String::as_str).collect();
    if detail != Detail::Full {
        places.iter().take(MOST_ROWS).for_each(|place| page.line(format_args!("    {}", styled(PLACE, place))));
    }
}

/// Adds a row for each program.
fn add_rows(page: &mut Page, label: &str, calls: &[&ForeseenView]) {
    let mut rows: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for one in calls {
        rows.entry(&one.source).or_default().push(&one.call);
    }
    let mut rows: Vec<(&str, Vec<&str>)> = rows.into_iter().collect();
    rows.sort_by_key(|(_, names)| std::cmp::Reverse(names.len()));
    let hidden: usize = rows.iter().skip(MOST_ROWS).map(|(_, names)| names.len()).sum();
    for (source, names) in rows.iter().take(MOST_ROWS) {
        page.hanging((2, 4), &format!("{label} {} (imported by {source})", join_first(names, MOST_NAMES)));
    }
    if hidden > 0 {
        page.hanging((2, 4), &format!("{label} {hidden} more, of other programs (-v)"));
    }
}
