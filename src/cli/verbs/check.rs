//! `check`: whether the calls seen so far would pass, under the unit's settings or with further lines.

use crate::audit::Note;
use crate::audit::note::{join_texts, put_root_causes_first};
use crate::audit::text::{escape_excerpt, plural, shown_path};
use crate::cli::args::{Check, Common};
use crate::cli::exit_status::{ExitStatus, UnknownUnitError, UsageError};
use crate::cli::lookup::context::Context;
use crate::cli::lookup::incident_source::{ManagerScope, OtherSource, UnitIncidents};
use crate::cli::lookup::log_groups::load_groups;
use crate::cli::lookup::log_incidents::{LogQuestion, read_incidents};
use crate::cli::lookup::log_input::open_log;
use crate::cli::lookup::similar_names::similar_word;
use crate::cli::lookup::subject::Subject;
use crate::cli::lookup::subject_search::find_subject;
use crate::cli::lookup::unit_names::{latest_sighting, managers_to_ask, require_instance};
use crate::cli::lookup::unit_words::ChosenUnit;
use crate::cli::terminal::output::{Detail, Reply};
use crate::cli::terminal::page::{BAD, BOLD, DIM, GOOD, PLACE, Page, WARN, add_notes, styled};
use crate::cli::terminal::words::describe_manager;
use crate::cli::verbs::each_unit;
use crate::cli::views::answer::SCHEMA;
use crate::host::filter_in_force::find_missing_filter;
use crate::host::log_machine::LogMachine;
use crate::host::unit_settings;
use crate::host::unit_settings::LoadedSettings;
use crate::incidents::Incident;
use crate::incidents::local_time::LocalTime;
use crate::operations::outcome::NothingToDo;
use crate::policy;
use crate::policy::{Policy, Verdict};
use crate::syscalls::{Abi, Groups};
use crate::systemd::manager::Managers;
use crate::units::{Manager, Unit, UnitName};
use anstream::ColorChoice;
use anyhow::{bail, ensure};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Sorts after any drop-in.
const LAST: &str = "zzzz-check.conf";

/// The verdicts for all calls seen so far.
#[derive(Debug, Serialize)]
pub(crate) struct Checked {
    schema: u32,
    unit: String,
    manager: String,
    /// Whether every call passes, judged by its name.
    pass: bool,
    /// How many calls pass or not, in words.
    conclusion: String,
    calls: Vec<CheckedCallView>,
    notes: Vec<Note>,
}

/// The verdict for a call.
#[derive(Debug, Serialize)]
struct CheckedCallView {
    call: String,
    arch: Option<&'static str>,
    /// `pass`, `depends` (on arguments), `denied`, or `unknown` if the call has no name for a setting.
    verdict: &'static str,
    /// The effect: `kill` or an errno.
    effect: Option<String>,
    /// The directives that deny it, with file and line if known.
    by: Vec<String>,
}

/// What to check: a unit's incidents, and its settings.
struct Checking {
    unit: Unit,
    /// The unit of the answer: the template of instances.
    named: Unit,
    incidents: Vec<Incident>,
    settings: LoadedSettings,
    groups: Groups,
    notes: Vec<Note>,
}

/// Finds the unit's incidents in the daemon's store.
async fn find_in_store(
    common: &Common,
    asked: &Check,
    chosen: &ChosenUnit,
    local_time: &LocalTime,
) -> anyhow::Result<Checking> {
    let context = Context::open(common, &asked.source, OtherSource::LogOption, local_time).await?;
    let subject = find_subject(&context, chosen).await?;
    let named = subject.named();
    let Subject { unit, found: UnitIncidents { incidents, .. }, notes: lookup_notes, .. } = subject;
    let settings = match &asked.root {
        Some(root) => {
            ensure!(root.is_dir(), "--root {} is not a directory", shown_path(root));
            require_files(root, &unit)?;
            unit_settings::from_files(root, &unit, None, context.groups())
        }
        None => unit_settings::load(&context.managers, &unit, context.groups()).await,
    };
    let missing = match asked.root {
        Some(_) => None,
        None => find_missing_filter(&context.managers, &unit, &settings).await,
    };
    let evicted = context.eviction_note(latest_sighting(&incidents));
    let mut notes = context.notes;
    notes.extend(missing);
    notes.extend(evicted);
    notes.extend(lookup_notes);
    Ok(Checking { unit, named, incidents, settings, groups: context.loaded_groups.groups, notes })
}

/// Requires the unit to exist below the root that the user named.
fn require_files(root: &Path, unit: &Unit) -> anyhow::Result<()> {
    ensure!(
        unit_settings::has_files(root, unit),
        UnknownUnitError(format!("{} has no files below {}", unit.name, shown_path(root)))
    );
    Ok(())
}

/// Finds the unit's incidents in a log. Records of unknown units count as the unit's, since the user asks about it.
async fn find_in_log(common: &Common, asked: &Check, chosen: &ChosenUnit, log: &Path) -> anyhow::Result<Checking> {
    let name = require_instance(chosen.name.clone())?;
    // The log can be of another machine, where the user has another uid.
    let scope = match chosen.managers {
        ManagerScope::User(_) => ManagerScope::Users,
        scope => scope,
    };
    let question = LogQuestion { root: asked.root.clone(), file: log.to_owned(), ..LogQuestion::default() };
    let read = read_incidents(&mut *open_log(log)?, &question)?;
    let root = read.root(&question);
    let incidents: Vec<Incident> = read
        .incidents
        .into_iter()
        .filter(|incident| {
            let is_it = |unit: &Unit| unit.name == name && scope.includes(Some(unit.manager));
            incident.key.unit.as_ref().is_none_or(is_it)
        })
        .collect();
    let manager = incidents.iter().find_map(|incident| Some(incident.key.unit.as_ref()?.manager));
    let default = managers_to_ask(chosen.managers).first().copied().unwrap_or(Manager::System);
    let unit = Unit { manager: manager.unwrap_or(default), name };
    if let Some(root) = &asked.root {
        require_files(root, &unit)?;
    }
    if incidents.is_empty() {
        bail!(NothingToDo(format!(
            "{} has no denials of {}, so there is nothing to check.",
            shown_path(log),
            unit.name
        )));
    }
    let (at_hand, note) = load_groups(asked.groups.as_deref())?;
    let mut notes: Vec<Note> = note.into_iter().collect();
    let unknown = incidents.iter().filter(|incident| incident.key.unit.is_none()).map(|incident| incident.count).sum();
    if unknown > 0 {
        let text = format!("{} of unknown units count as those of {}", plural(unknown, "record"), unit.name);
        notes.push(Note::new("unit-assumed", text));
    }
    let (settings, groups) = if let Some(root) = &root {
        let machine = LogMachine::new(at_hand, Some(root.as_path()), read.summary.facts.clone());
        machine.load_settings(root, &unit, &incidents)
    } else {
        let groups = at_hand.into_groups();
        (unit_settings::load(&Managers::new(&common.bus), &unit, &groups).await, groups)
    };
    Ok(Checking { named: unit.clone(), unit, incidents, settings, groups, notes })
}

/// Checks units one after another.
///
/// # Errors
/// A word names no unit, or the only unit cannot be checked.
pub(crate) async fn check_all(
    common: &Common,
    asked: &Check,
    clock: &LocalTime,
    color: ColorChoice,
) -> anyhow::Result<ExitStatus> {
    let managers = ManagerScope::from_own_flags(asked.chosen.system, asked.chosen.user);
    let list = async || match &asked.log {
        Some(log) => list_units_of_log(asked, log),
        None => {
            Context::open(common, &asked.source, OtherSource::LogOption, clock).await?.list_denied_units(managers).await
        }
    };
    let chosen = ChosenUnit::find_all(&asked.chosen.units, managers, "denials", list).await?;
    each_unit::run(common, color, &chosen, async |chosen| check(common, asked, chosen, clock).await).await
}

/// Lists the units that a log names, for a pattern.
fn list_units_of_log(asked: &Check, log: &Path) -> anyhow::Result<BTreeSet<UnitName>> {
    let question = LogQuestion { root: asked.root.clone(), file: log.to_owned(), ..LogQuestion::default() };
    let read = read_incidents(&mut *open_log(log)?, &question)?;
    Ok(read.incidents.into_iter().filter_map(|incident| Some(incident.key.unit?.name)).collect())
}

/// Checks the calls that a unit was denied.
///
/// # Errors
/// The unit has no incidents, its settings cannot be read, or a `--with` line is not a setting.
async fn check(common: &Common, asked: &Check, chosen: &ChosenUnit, local_time: &LocalTime) -> anyhow::Result<Checked> {
    let Checking { unit, named, incidents, settings, groups, mut notes } = match &asked.log {
        Some(log) => find_in_log(common, asked, chosen, log).await?,
        None => find_in_store(common, asked, chosen, local_time).await?,
    };
    notes.extend(settings.notes);
    put_root_causes_first(&mut notes);
    let Some(situation) = settings.situation else {
        bail!("cannot read the settings of {}: {}", unit.name, describe_missing(&notes));
    };
    let policy = with_lines(&situation.policy, &asked.with, &groups)?;
    let by = |cause: &policy::DirectiveCause| describe_origin(cause, &asked.with);
    let mut calls: BTreeSet<(Abi, &str)> = BTreeSet::new();
    let mut unknown: BTreeSet<String> = BTreeSet::new();
    for incident in &incidents {
        match incident.denial() {
            None if incident.access().is_some() => {}
            Some(denial) => match (denial.call.abi(), denial.call.name()) {
                (Some(abi), Some(name)) => _ = calls.insert((abi, name)),
                _ => _ = unknown.insert(denial.call.to_string()),
            },
            None => _ = unknown.insert("a death by SIGSYS without a record".to_owned()),
        }
    }
    let calls = calls.into_iter().map(|(abi, call)| CheckedCallView::new(&policy, abi, call, by));
    Ok(Checked::new(&named, calls.chain(unknown.into_iter().map(CheckedCallView::unknown)).collect(), notes))
}

/// Says why a unit's settings cannot be read.
fn describe_missing(notes: &[Note]) -> String {
    let has = |id: &str| notes.iter().any(|note| note.id == id);
    if has("no-unit-files") && has("manager-unavailable") {
        return "no files below /, and no service manager answers (add --root DIR)".to_owned();
    }
    join_texts(notes)
}

/// Returns the policy with lines after all others.
fn with_lines(policy: &Policy, lines: &[String], groups: &Groups) -> anyhow::Result<Policy> {
    if lines.is_empty() {
        return Ok(policy.clone());
    }
    for line in lines {
        require_setting(line)?;
    }
    let content = format!("[{}]\n{}\n", policy.settings.section(), lines.join("\n"));
    let with = policy.with_dropin(Path::new(LAST), content.as_bytes(), groups);
    // systemd ignores unknown words and starts the unit. The user gave these words, so they are errors here.
    let mut faults: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    for note in with.notes() {
        if let Some(origin) = note.origin.as_ref().filter(|origin| is_option(&origin.path)) {
            faults.entry(origin.line).or_default().push(describe_fault(&note.text));
        }
    }
    if !faults.is_empty() {
        let faults = faults.into_iter().map(|(number, faults)| {
            let line = option_at(lines, number).map_or_else(String::new, escape_excerpt);
            format!("{line}: {}", faults.join("; "))
        });
        bail!(UsageError(format!("invalid --with {}", faults.collect::<Vec<_>>().join("; "))));
    }
    Ok(with)
}

/// Requires a `--with` line to be a setting that decides on system calls.
fn require_setting(line: &str) -> anyhow::Result<()> {
    let key = line.split_once('=').map(|(key, _)| key.trim());
    let known = key.and_then(policy::Directive::from_key).is_some();
    if known && !line.contains(['\n', '\r', '\0']) {
        return Ok(());
    }
    let meant = key.and_then(|key| similar_word(key, policy::Directive::ALL.iter().map(|one| one.key())));
    let advice =
        meant.map_or_else(|| "write --with 'SystemCallFilter=…'".to_owned(), |meant| format!("did you mean {meant}=?"));
    let line = escape_excerpt(line);
    bail!(UsageError(format!("invalid --with {line}: not a setting that decides on system calls; {advice}")))
}

/// Describes what systemd would ignore as a fault of the user's line.
fn describe_fault(ignored: &str) -> String {
    match ignored.split_once(", ignored") {
        Some((what, "")) => what.to_owned(),
        Some((what, meant)) => format!("{what} ({})", meant.trim_start_matches([':', ' '])),
        None => ignored.to_owned(),
    }
}

/// Returns the `--with` line at a line of the drop-in.
fn option_at(with: &[String], line: u32) -> Option<&str> {
    // Line 1 is the section header.
    Some((line as usize).checked_sub(2).and_then(|at| with.get(at))?.as_str())
}

fn is_option(path: &Path) -> bool {
    path == Path::new(LAST)
}

impl CheckedCallView {
    fn new(policy: &Policy, abi: Abi, call: &str, place: impl Fn(&policy::DirectiveCause) -> String) -> Self {
        let listed = |by: &[policy::DirectiveCause]| by.iter().map(&place).collect::<Vec<_>>();
        let (verdict, effect, by) = match policy.verdict(abi, call) {
            Verdict::Permitted | Verdict::LogOnly { .. } => ("pass", None, Vec::new()),
            Verdict::Possible { by } => ("depends", None, listed(&by)),
            Verdict::Denied { effect, by, .. } => ("denied", Some(effect.to_string()), listed(&by)),
        };
        Self { call: call.to_owned(), arch: Some(abi.name()), verdict, effect, by }
    }

    fn unknown(call: String) -> Self {
        Self { call, arch: None, verdict: "unknown", effect: None, by: Vec::new() }
    }
}

/// Returns where a directive is: its file and line, or its `--with` option.
fn describe_origin(cause: &policy::DirectiveCause, with: &[String]) -> String {
    match &cause.origin {
        Some(origin) if is_option(&origin.path) => {
            format!(
                "--with '{}'",
                option_at(with, origin.line).map_or_else(|| format!("{}=…", cause.directive.key()), escape_excerpt)
            )
        }
        Some(origin) => format!("{}= at {origin}", cause.directive.key()),
        None => format!("{}=, as systemd holds it", cause.directive.key()),
    }
}

impl Checked {
    fn new(unit: &Unit, calls: Vec<CheckedCallView>, notes: Vec<Note>) -> Self {
        let pass = !calls.is_empty() && calls.iter().all(|call| matches!(call.verdict, "pass" | "depends"));
        let (unit, manager) = (unit.name.to_string(), unit.manager.to_string());
        Self { schema: SCHEMA, unit, manager, pass, conclusion: conclude(&calls), calls, notes }
    }
}

/// Says how many calls pass, are denied, or are not known to pass.
fn conclude(calls: &[CheckedCallView]) -> String {
    let count = |verdict: &str| calls.iter().filter(|call| call.verdict == verdict).count();
    let (denied, unknown, depends) = (count("denied"), count("unknown"), count("depends"));
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
            0 => return "no call to judge".to_owned(),
            1 => "the only call passes".to_owned(),
            _ => format!("all of {total} pass"),
        });
    }
    if depends > 0 {
        parts.push(format!("{depends} only for some arguments"));
    }
    parts.join(", ")
}

impl Reply for Checked {
    fn page(&self, _: Detail) -> String {
        let mut page = Page::default();
        page.line(format_args!(
            "{} {}",
            styled(BOLD, &self.unit),
            styled(DIM, format_args!("({})", describe_manager(&self.manager)))
        ));
        page.paragraph(2, &styled(if self.pass { GOOD } else { BAD }, &self.conclusion));
        for call in &self.calls {
            let (style, words) = match (call.verdict, &call.effect) {
                ("pass", _) => (GOOD, "passes".to_owned()),
                ("unknown", _) => (BAD, "is unknown".to_owned()),
                ("depends", _) => (WARN, "depends on its arguments".to_owned()),
                (_, Some(effect)) => (BAD, format!("is denied ({effect})")),
                _ => (BAD, "is denied".to_owned()),
            };
            let arch = call.arch.map_or_else(String::new, |arch| format!(" ({arch})"));
            page.line(format_args!("  {}{arch} {}", call.call, styled(style, words)));
            for by in &call.by {
                page.line(format_args!("    {}", styled(PLACE, by)));
            }
        }
        add_notes(&mut page, &self.notes);
        page.finish()
    }

    fn exit_status(&self) -> ExitStatus {
        if self.pass { ExitStatus::Done } else { ExitStatus::Found }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conclusion_counts_calls_by_verdict_and_agrees_with_pass() {
        let call = |verdict| CheckedCallView { verdict, ..CheckedCallView::unknown("socket".to_owned()) };
        let unit = Unit { manager: Manager::System, name: "web.service".parse().unwrap() };
        for (verdicts, conclusion, pass) in [
            (&["denied", "denied"][..], "2 of 2 calls would be denied", false),
            (&["pass", "denied", "unknown"], "1 of 3 calls would be denied, 1 of 3 calls cannot be judged", false),
            (&["pass"; 14], "all of 14 calls pass", true),
            (&["pass", "depends"], "all of 2 calls pass, 1 only for some arguments", true),
            (&["pass"], "the only call passes", true),
            (&["denied"], "1 of 1 call would be denied", false),
        ] {
            let checked = Checked::new(&unit, verdicts.iter().copied().map(call).collect(), Vec::new());
            assert_eq!((checked.conclusion.as_str(), checked.pass), (conclusion, pass));
            assert!(checked.page(Detail::Short).contains(conclusion));
        }
    }
}
