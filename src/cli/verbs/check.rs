//! `check`: whether the calls seen so far would pass, and which calls of the unit's programs would be denied, under the
//! unit's settings or with further lines, here or on another machine.

mod added_lines;
mod checked_access;
mod checked_verdict;
mod sources;

use self::added_lines::{describe_origin, is_added, with_lines};
use self::checked_access::{CheckedAccessView, conclude_accesses};
use self::checked_verdict::CheckedVerdict;
use self::sources::{CheckedLog, Checking, find_in_store};
use crate::audit::Note;
use crate::audit::note::{join_texts, put_root_causes_first};
use crate::audit::text::{join, plural};
use crate::cli::args::{Check, Common};
use crate::cli::exit_status::ExitStatus;
use crate::cli::lookup::context::{Context, describe_store_option};
use crate::cli::lookup::incident_source::{ManagerScope, OtherSource};
use crate::cli::lookup::unit_words::ChosenUnit;
use crate::cli::terminal::output::SCHEMA;
use crate::cli::terminal::output::{Detail, Reply};
use crate::cli::terminal::page::{BAD, BOLD, DIM, GOOD, PLACE, Page, WARN, add_notes, styled};
use crate::cli::terminal::words::describe_manager;
use crate::cli::verbs::each_unit;
use crate::cli::views::foreseen::{ForeseenView, UnreadProgramView, add_foreseen};
use crate::cli::views::machines::{MachineView, PortedUnit, add_machines};
use crate::cli::views::program_evidence::unread_libraries_note;
use crate::diagnosis::diagnose;
use crate::host::known_paths::add_known_paths;
use crate::host::program_files::read_programs;
use crate::incidents::Incident;
use crate::operations::permission::owner_command;
use crate::policy;
use crate::policy::{Policy, Verdict};
use crate::programs::Program;
use crate::syscalls::Abi;
use crate::units::Unit;
use anstream::ColorChoice;
use anyhow::bail;
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::Path;

/// The verdicts for all calls seen so far.
#[derive(Debug, Serialize)]
pub(crate) struct Checked {
    schema: u32,
    unit: String,
    manager: String,
    /// Whether every call passes, judged by its name, and none of the programs' calls would likely be denied, here and on
    /// the machines.
    pass: bool,
    /// How many calls pass or not, in words.
    conclusion: String,
    calls: Vec<CheckedCallView>,
    /// The verdicts for the accesses that failed.
    accesses: Vec<CheckedAccessView>,
    /// The calls that the unit's programs can make and that would be denied, besides `calls`.
    foreseen: Vec<ForeseenView>,
    /// The programs whose calls nothing shows.
    unknown_programs: Vec<UnreadProgramView>,
    /// What differs on the machines that `--for` names.
    machines: Vec<MachineView>,
    /// The command that allows the denied calls, or explains them.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
    notes: Vec<Note>,
}

/// The verdict for a call.
#[derive(Debug, Serialize)]
struct CheckedCallView {
    call: String,
    arch: Option<&'static str>,
    verdict: CheckedVerdict,
    /// The effect: `kill` or an errno.
    effect: Option<String>,
    /// The directives that deny it, with file and line if known.
    by: Vec<String>,
}

/// The calls that a unit's programs can make.
#[derive(Debug, Default)]
struct ForeseenCalls {
    /// Those that would be denied.
    denied: Vec<ForeseenView>,
    /// Whether the calls of any program are known.
    is_any_known: bool,
    /// The programs whose calls nothing shows.
    unknown_programs: Vec<UnreadProgramView>,
}

/// Checks units one after another.
///
/// # Errors
/// A word names no unit, or the only unit cannot be checked.
pub(crate) async fn check_all(common: &Common, asked: &Check, color: ColorChoice) -> anyhow::Result<ExitStatus> {
    let managers = ManagerScope::from_own_flags(asked.chosen.managers);
    let log = asked.log.as_deref().map(|log| CheckedLog::read(log, asked)).transpose()?;
    let list = async || match &log {
        Some(log) => Ok(log.units()),
        None => Context::open(common, &asked.source, OtherSource::LogOption).await?.list_denied_units(managers).await,
    };
    let chosen = ChosenUnit::find_all(&asked.chosen.units, managers, "denials", list).await?;
    let check = async |chosen: &ChosenUnit| {
        let checking = match &log {
            Some(log) => log.find_unit(common, asked, chosen).await?,
            None => find_in_store(common, asked, chosen).await?,
        };
        check(asked, checking)
    };
    each_unit::run(common, color, &chosen, check).await
}

/// Checks the calls that a unit was denied, and those that its programs can make.
///
/// # Errors
/// The unit's settings cannot be read, or a `--with` line is not a setting.
fn check(asked: &Check, checking: Checking) -> anyhow::Result<Checked> {
    let Checking { unit, named, incidents, settings, groups, mut notes } = checking;
    notes.extend(settings.notes);
    put_root_causes_first(&mut notes);
    let Some(mut situation) = settings.situation else {
        bail!("cannot read the settings of {}: {}", unit.name, describe_missing(&notes));
    };
    // A log can be of another machine, whose files only a root shows.
    let root = asked.root.as_deref().or_else(|| asked.log.is_none().then_some(Path::new("/")));
    if let Some(root) = root {
        read_programs(&mut situation, unit.manager, root, &incidents);
        add_known_paths(&mut situation, root, &incidents);
    }
    let policy =
        with_lines(&unit, &situation.policy, &asked.with, &groups, incidents.iter().any(|one| one.access().is_some()))?;
    let by = |cause: &policy::DirectiveCause| describe_origin(cause, &asked.with);
    let accesses = CheckedAccessView::list(&incidents, &policy, by);
    notes.extend(unread_libraries_note(&situation));
    let (calls, unknown) = list_calls(&incidents);
    let mut denied = ForeseenView::list(&situation.programs, &policy, by);
    denied.retain(|foreseen| !calls.iter().any(|(_, call)| *call == foreseen.call));
    let unknown_programs = UnreadProgramView::list(&situation);
    let is_any_known = situation.programs.len() > unknown_programs.len();
    let foreseen = ForeseenCalls { denied, is_any_known, unknown_programs };
    let ported = PortedUnit { policy: &policy, programs: &situation.programs, groups: &groups, file: None };
    let machines = MachineView::list(&asked.others.machines, &ported);
    let calls = calls.iter().map(|(abi, call)| CheckedCallView::new(&policy, *abi, call, by));
    let calls = calls.chain(unknown.into_iter().map(CheckedCallView::unknown)).collect();
    notes.extend(argument_note(&named, &situation.programs, &policy));
    let mut checked = Checked::new(&named, calls, accesses, foreseen, machines, notes);
    // Other settings, or a log of another machine, are nothing to apply.
    let is_of_this_machine = asked.with.is_empty() && asked.root.is_none() && asked.log.is_none();
    if is_of_this_machine && checked.calls.iter().any(|call| call.verdict == CheckedVerdict::Denied) {
        let store = describe_store_option(asked.source.state_dir.as_deref());
        let name = format!("{store}{}", named.to_arguments());
        let has_default = diagnose(incidents.clone(), Some(&situation), &groups).default_remedy().is_some();
        let apply = || owner_command(named.manager, &format!("harden-why apply --restart {name}"));
        checked.next = Some(if has_default { apply() } else { format!("harden-why {name}") });
    }
    Ok(checked)
}

/// Returns the calls of incidents, and those without a name.
fn list_calls(incidents: &[Incident]) -> (BTreeSet<(Abi, &str)>, BTreeSet<String>) {
    let mut calls: BTreeSet<(Abi, &str)> = BTreeSet::new();
    let mut unknown: BTreeSet<String> = BTreeSet::new();
    for incident in incidents {
        match incident.denial() {
            None if incident.access().is_some() => {}
            Some(denial) => match (denial.call.abi(), denial.call.name()) {
                (Some(abi), Some(name)) => _ = calls.insert((abi, name)),
                _ => _ = unknown.insert(denial.call.to_string()),
            },
            None => _ = unknown.insert("a death by SIGSYS without a record".to_owned()),
        }
    }
    (calls, unknown)
}

/// Notes which of the added lines look at arguments of calls that the programs import.
fn argument_note(unit: &Unit, programs: &[Program], policy: &Policy) -> Option<Note> {
    let mut calls = BTreeSet::new();
    let mut keys = BTreeSet::new();
    for (abi, imported) in programs.iter().flat_map(Program::imported_calls) {
        let Verdict::Possible { by } = policy.verdict(abi, imported.call) else { continue };
        for cause in by.iter().filter(|cause| is_added(cause)) {
            calls.insert(imported.call.to_owned());
            keys.insert(format!("{}=", cause.directive.key()));
        }
    }
    if calls.is_empty() {
        return None;
    }
    let text = format!(
        "{} looks at arguments of {}, which imports do not show. With the lines in force, a start shows them: {}",
        join(keys.into_iter()),
        join(calls.into_iter()),
        owner_command(unit.manager, &format!("harden-why tap --restart {}", unit.to_arguments()))
    );
    Some(Note::new("arguments-decide", text))
}

/// Says why a unit's settings cannot be read.
fn describe_missing(notes: &[Note]) -> String {
    let has = |id: &str| notes.iter().any(|note| note.id == id);
    if has("no-unit-files") && has("manager-unavailable") {
        return "no files below /, and no service manager answers (add --root DIR)".to_owned();
    }
    join_texts(notes)
}

impl CheckedCallView {
    fn new(policy: &Policy, abi: Abi, call: &str, place: impl Fn(&policy::DirectiveCause) -> String) -> Self {
        let listed = |by: &[policy::DirectiveCause]| by.iter().map(&place).collect::<Vec<_>>();
        let (verdict, effect, by) = match policy.verdict(abi, call) {
            Verdict::Permitted | Verdict::LogOnly { .. } => (CheckedVerdict::Pass, None, Vec::new()),
            Verdict::Possible { by } => (CheckedVerdict::Depends, None, listed(&by)),
            Verdict::Denied { effect, by, .. } => (CheckedVerdict::Denied, Some(effect.to_string()), listed(&by)),
        };
        Self { call: call.to_owned(), arch: Some(abi.name()), verdict, effect, by }
    }

    fn unknown(call: String) -> Self {
        Self { call, arch: None, verdict: CheckedVerdict::Unknown, effect: None, by: Vec::new() }
    }
}

impl Checked {
    /// Concludes from the verdicts.
    fn new(
        unit: &Unit,
        calls: Vec<CheckedCallView>,
        accesses: Vec<CheckedAccessView>,
        ForeseenCalls { denied: foreseen, is_any_known, unknown_programs }: ForeseenCalls,
        machines: Vec<MachineView>,
        notes: Vec<Note>,
    ) -> Self {
        let is_nothing_checked = !is_any_known && calls.is_empty() && accesses.is_empty();
        let passes = |call: &CheckedCallView| matches!(call.verdict, CheckedVerdict::Pass | CheckedVerdict::Depends);
        let pass = !is_nothing_checked
            && calls.iter().all(passes)
            && accesses.iter().all(CheckedAccessView::passes)
            && !foreseen.iter().any(ForeseenView::is_likely)
            && machines.iter().all(MachineView::passes);
        let mut parts = Vec::new();
        if !calls.is_empty() {
            parts.push(conclude(&calls));
        }
        parts.extend(conclude_accesses(&accesses));
        let likely = foreseen.iter().filter(|foreseen| foreseen.is_likely()).count();
        if is_nothing_checked {
            parts.push("nothing is checked: no call of its programs is known".to_owned());
        } else {
            parts.extend(conclude_foreseen(likely, foreseen.len() - likely, calls.is_empty()));
        }
        parts.extend(machines.iter().filter_map(MachineView::conclude));
        let (unit, manager) = (unit.name.to_string(), unit.manager.to_string());
        let conclusion = parts.join("; ");
        Self {
            schema: SCHEMA,
            unit,
            manager,
            pass,
            conclusion,
            calls,
            accesses,
            foreseen,
            unknown_programs,
            machines,
            next: None,
            notes,
        }
    }
}

/// Says how many calls of the unit's programs would be denied; nothing about them if other calls say enough.
fn conclude_foreseen(likely: usize, possible: usize, is_alone: bool) -> Option<String> {
    let calls = |count: usize| {
        if is_alone {
            format!("{} that its programs import", plural(count as u64, "call"))
        } else {
            format!("{count} more that its programs import")
        }
    };
    match (likely, possible) {
        (0, 0) if is_alone => Some("no call of its programs is known to be denied".to_owned()),
        (0, 0) => None,
        (0, possible) => Some(format!("{} could be denied", calls(possible))),
        (likely, 0) => Some(format!("{} would likely be denied", calls(likely))),
        (likely, possible) => Some(format!("{} would likely be denied, {possible} possibly", calls(likely))),
    }
}

/// Says how many calls pass, are denied, or are not known to pass.
fn conclude(calls: &[CheckedCallView]) -> String {
    let count = |verdict| calls.iter().filter(|call| call.verdict == verdict).count();
    let (denied, unknown) = (count(CheckedVerdict::Denied), count(CheckedVerdict::Unknown));
    let depends = count(CheckedVerdict::Depends);
    let total = plural(calls.len() as u64, "call");
    let mut parts = Vec::new();
    if denied > 0 {
        parts.push(format!("{denied} of {total} would be denied"));
    }
    if unknown > 0 {
        parts.push(format!("{unknown} of {total} cannot be judged"));
    }
    if parts.is_empty() {
        parts.push(match calls.len() {
            0 | 1 => "the only call passes".to_owned(),
            _ => format!("all of {total} pass"),
        });
    }
    if depends > 0 {
        parts.push(format!("{depends} only for some arguments"));
    }
    parts.join(", ")
}

impl Reply for Checked {
    fn page(&self, detail: Detail) -> String {
        let mut page = Page::default();
        page.line(format_args!(
            "{} {}",
            styled(BOLD, &self.unit),
            styled(DIM, format_args!("({})", describe_manager(&self.manager)))
        ));
        page.paragraph(2, &styled(if self.pass { GOOD } else { BAD }, &self.conclusion));
        for call in &self.calls {
            let (style, words) = match (call.verdict, &call.effect) {
                (CheckedVerdict::Pass, _) => (GOOD, "passes".to_owned()),
                (CheckedVerdict::Unknown, _) => (BAD, "is unknown".to_owned()),
                (CheckedVerdict::Depends, _) => (WARN, "depends on its arguments".to_owned()),
                (CheckedVerdict::Denied, Some(effect)) if effect == "kill" => {
                    (BAD, "is denied, process killed (SIGSYS)".to_owned())
                }
                (CheckedVerdict::Denied, Some(effect)) => (BAD, format!("is denied, failed with {effect}")),
                (CheckedVerdict::Denied, None) => (BAD, "is denied".to_owned()),
            };
            let arch = call.arch.map_or_else(String::new, |arch| format!(" ({arch})"));
            page.hanging((2, 4), &format!("{}{arch} {}", call.call, styled(style, words)));
            for by in &call.by {
                page.line(format_args!("    {}", styled(PLACE, by)));
            }
        }
        for access in &self.accesses {
            access.add_to(&mut page);
        }
        add_foreseen(&mut page, &self.foreseen, &self.unknown_programs, detail);
        add_machines(&mut page, &self.machines, detail);
        add_notes(&mut page, &self.notes);
        if let Some(next) = &self.next {
            page.gap();
            page.line(format_args!("  {}", styled(GOOD, next)));
        }
        page.finish()
    }

    fn exit_status(&self) -> ExitStatus {
        if self.pass { ExitStatus::Done } else { ExitStatus::Found }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Manager;
    use CheckedVerdict::{Denied, Depends, Pass, Unknown};

    #[test]
    fn conclusion_counts_calls_by_verdict_and_agrees_with_pass() {
        let call = |verdict| CheckedCallView { verdict, ..CheckedCallView::unknown("socket".to_owned()) };
        let unit = Unit { manager: Manager::System, name: "web.service".parse().unwrap() };
        for (verdicts, conclusion, pass) in [
            (&[Denied, Denied][..], "2 of 2 calls would be denied", false),
            (&[Pass, Denied, Unknown], "1 of 3 calls would be denied, 1 of 3 calls cannot be judged", false),
            (&[Pass; 14], "all of 14 calls pass", true),
            (&[Pass, Depends], "all of 2 calls pass, 1 only for some arguments", true),
            (&[Pass], "the only call passes", true),
            (&[Denied], "1 of 1 call would be denied", false),
        ] {
            let calls = verdicts.iter().copied().map(call).collect();
            let foreseen = ForeseenCalls::default();
            let checked = Checked::new(&unit, calls, Vec::new(), foreseen, Vec::new(), Vec::new());
            assert_eq!((checked.conclusion.as_str(), checked.pass), (conclusion, pass));
            assert!(checked.page(Detail::Short).contains(conclusion));
        }
        for (is_any_known, conclusion) in [
            (true, "no call of its programs is known to be denied"),
            (false, "nothing is checked: no call of its programs is known"),
        ] {
            let foreseen = ForeseenCalls { is_any_known, ..ForeseenCalls::default() };
            let checked = Checked::new(&unit, Vec::new(), Vec::new(), foreseen, Vec::new(), Vec::new());
            assert_eq!((checked.conclusion.as_str(), checked.pass), (conclusion, is_any_known));
        }
    }
}
