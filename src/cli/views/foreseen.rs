//! The calls that a unit's programs can make and that would be denied, here and on other machines.

use crate::audit::text::{escape, join, join_first, plural};
use crate::cli::args::machine::Machine;
use crate::cli::terminal::output::Detail;
use crate::cli::terminal::page::{BAD, BOLD, PLACE, Page, WARN, styled};
use crate::diagnosis::portability::{MissingCall, find_missing_calls, find_unknown_names, move_to};
use crate::diagnosis::{ForeseenCall, Likelihood, Situation, foresee_denials};
use crate::policy::{DirectiveCause, Policy};
use crate::programs::Program;
use crate::syscalls::Groups;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// The most names in a row of the short page, and the most rows of a kind.
const MOST_NAMES: usize = 8;
const MOST_ROWS: usize = 2;

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

/// What differs on another machine.
#[derive(Debug, Serialize)]
pub(crate) struct MachineView {
    /// The architecture, or the version of systemd.
    machine: String,
    /// The names of the unit's lines that are, or may be, unknown there.
    unknown_names: Vec<String>,
    /// The calls that go by other names there.
    other_names: Vec<OtherNameView>,
    /// The calls that only there would likely be denied to the programs.
    denied: Vec<String>,
}

/// A call that goes by other names on another machine.
#[derive(Debug, Serialize)]
struct OtherNameView {
    call: String,
    /// The names there.
    instead: Vec<&'static str>,
    /// Those of them that would be denied there.
    denied: Vec<&'static str>,
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

impl MachineView {
    /// Looks at another machine. `here` are the calls that would be denied here.
    pub(crate) fn new(
        machine: Machine,
        programs: &[Program],
        policy: &Policy,
        groups: &Groups,
        here: &BTreeSet<&str>,
    ) -> Self {
        let mut view = Self {
            machine: machine.to_string(),
            unknown_names: Vec::new(),
            other_names: Vec::new(),
            denied: Vec::new(),
        };
        let abi = match machine {
            Machine::Systemd(version) => {
                view.unknown_names = find_unknown_names(policy, version);
                return view;
            }
            Machine::Arch(abi) => abi,
        };
        let there = move_to(policy, abi, groups);
        for MissingCall { call, instead, denied } in find_missing_calls(&there, abi) {
            if instead.is_empty() {
                view.unknown_names.push(call);
            } else {
                view.other_names.push(OtherNameView { call, instead, denied });
            }
        }
        let moved: Vec<Program> = programs.iter().map(|program| program.moved_to(abi)).collect();
        let denied = foresee_denials(&moved, &there).into_iter();
        let is_new =
            |foreseen: &ForeseenCall<'_>| foreseen.likelihood == Likelihood::Likely && !here.contains(foreseen.call);
        view.denied = denied.filter(is_new).map(|foreseen| foreseen.call.to_owned()).collect();
        view
    }

    /// Says how many calls would be denied there alone; `None` if none would.
    pub(crate) fn conclude(&self) -> Option<String> {
        let renamed = self.other_names.iter().filter(|name| !name.denied.is_empty()).count();
        let count = self.denied.len() + renamed;
        (count > 0).then(|| format!("{} would be denied on {} alone", plural(count as u64, "call"), self.machine))
    }

    /// Whether the unit's lines do there what they do here. A name without a meaning there does no harm.
    pub(crate) fn passes(&self) -> bool {
        self.denied.is_empty() && self.other_names.iter().all(|name| name.denied.is_empty())
    }
}

/// Adds the calls that the programs can make, grouped by program; with every reason in the full page.
pub(crate) fn add_foreseen(page: &mut Page, foreseen: &[ForeseenView], unread: &[UnreadProgramView], detail: Detail) {
    if foreseen.is_empty() && unread.is_empty() {
        return;
    }
    page.gap();
    for (likelihood, label) in
        [(Likelihood::Likely, styled(BAD, "likely")), (Likelihood::Possible, styled(WARN, "possible"))]
    {
        let calls: Vec<&ForeseenView> = foreseen.iter().filter(|one| one.likelihood == likelihood).collect();
        if detail == Detail::Full {
            for ForeseenView { call, reason, effect, by, .. } in calls {
                page.line(format_args!("  {label} {call}: {reason} ({effect})"));
                for place in by {
                    page.line(format_args!("    {}", styled(PLACE, place)));
                }
            }
        } else {
            add_rows(page, &label, &calls);
        }
    }
    for UnreadProgramView { path, reason } in unread {
        page.hanging((2, 4), &format!("{} {path} {reason}", styled(WARN, "unknown calls:")));
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
        page.line(format_args!("  {label} {hidden} more, of other programs (-v)"));
    }
}

/// Adds what differs on other machines.
pub(crate) fn add_machines(page: &mut Page, machines: &[MachineView], detail: Detail) {
    for MachineView { machine, unknown_names, other_names, denied } in machines {
        page.gap();
        let mut lines = Vec::new();
        if !unknown_names.is_empty() {
            lines.push(format!("may be unknown and ignored: {}", join_first(unknown_names, MOST_NAMES)));
        }
        let (wrong, right): (Vec<&OtherNameView>, Vec<_>) =
            other_names.iter().partition(|name| !name.denied.is_empty());
        for OtherNameView { call, denied, .. } in wrong {
            let text = format!("{call} is {} there, which would be denied", denied.join(", "));
            lines.push(styled(BAD, text));
        }
        if !denied.is_empty() {
            let names = join_first(denied, MOST_NAMES);
            lines.push(styled(BAD, format!("would likely be denied there alone: {names}")));
        }
        if !right.is_empty() && detail == Detail::Full {
            let name = |name: &&OtherNameView| format!("{} ({})", name.call, name.instead.join(", "));
            lines.push(format!("go by other names, which pass: {}", join(right.iter().map(name))));
        } else if !right.is_empty() {
            lines.push(format!("{} go by other names there, which pass", right.len()));
        }
        if lines.is_empty() {
            lines.push("no difference".to_owned());
        }
        page.line(styled(BOLD, machine));
        for line in &lines {
            page.hanging((2, 4), line);
        }
    }
}
