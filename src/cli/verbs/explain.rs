//! `explain`: answers from a log, without a daemon.

mod failures;
pub(crate) mod gathered;

use crate::audit::Note;
use crate::audit::text::{escape, join, plural, shown_path};
use crate::cli::args::Explain;
use crate::cli::args::machine::Machine;
use crate::cli::lookup::call_sites::{ShownPackages, add_call_sites};
use crate::cli::lookup::log_groups::load_groups;
use crate::cli::lookup::log_incidents::{LogIncidents, LogQuestion, read_incidents};
use crate::cli::lookup::log_input::open_log;
use crate::cli::lookup::sighting_times::SightingTimes;
use crate::cli::lookup::source_lines::add_source_lines;
use crate::cli::lookup::subject::{FoldedUnit, fold_instances};
use crate::cli::lookup::unit_names::{UnitPattern, is_named_by, parse_instance_name};
use crate::cli::terminal::output::SCHEMA;
use crate::cli::views::answer::{Answer, LogTally, Report};
use crate::cli::views::unit_effects::effect_notes;
use crate::diagnosis::before_exec::is_before_exec;
use crate::diagnosis::{Situation, diagnose};
use crate::host::log_machine::{GroupChoice, LogMachine};
use crate::host::program_files::read_programs;
use crate::host::unit_settings::LoadedSettings;
use crate::incidents::Incident;
use crate::incidents::incident::by_unit;
use crate::incidents::local_time::LocalTime;
use crate::intake::log_summary::LogSummary;
use crate::policy::program_path::runs_task;
use crate::syscalls::Groups;
use crate::unit_files::has_own_files;
use crate::units::{Manager, Rung, Unit, UnitName};
use failures::{FailureSearch, add_failures, failure_note};
use jiff::tz::TimeZone;
use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;

/// How many units that `--unit` leaves out are named.
const MOST_LEFT_OUT: usize = 8;

fn parse_question(asked: &Explain) -> anyhow::Result<LogQuestion> {
    Ok(LogQuestion {
        root: asked.root.clone(),
        only: asked.unit.iter().map(|unit| UnitPattern::parse(unit)).collect::<anyhow::Result<_>>()?,
        times: SightingTimes::parse(&asked.times, &local_time_of_log())?,
        assumed: asked.assume_unit.as_deref().map(parse_instance_name).transpose()?,
        file: asked.file.clone(),
        machines: asked.others.machines.clone(),
    })
}

/// Runs the verb.
///
/// # Errors
/// The unit name is invalid, the log cannot be read, or the root is not a directory.
pub(crate) fn run(asked: &Explain) -> anyhow::Result<Report> {
    let question = parse_question(asked)?;
    let mut log = open_log(&asked.file)?;
    let (groups, note) = load_groups(asked.groups.as_deref())?;
    let mut report = explain(&mut *log, &question, groups, &local_time_of_log())?;
    report.notes.extend(note);
    Ok(report)
}

/// Returns a local time without a current time: a log may be old or from elsewhere, so ages mean nothing.
pub(crate) fn local_time_of_log() -> LocalTime {
    LocalTime { now: None, zone: TimeZone::system() }
}

/// Answers for every unit of a log.
///
/// # Errors
/// The log cannot be read, or the root is not a directory.
pub(crate) fn explain(
    log: &mut dyn Read,
    question: &LogQuestion,
    groups: GroupChoice,
    clock: &LocalTime,
) -> anyhow::Result<Report> {
    let read = read_incidents(log, question)?;
    let root = read.root(question);
    let LogIncidents { incidents, summary, dropped, mut notes, pasted } = read;
    let machine = LogMachine::new(groups, root.as_deref(), summary.facts.clone());
    let (incidents, at_other_times): (Vec<_>, Vec<_>) =
        incidents.into_iter().partition(|incident| question.times.includes(incident));
    let at_other_times: u64 = at_other_times.iter().map(|incident| incident.count).sum();
    if at_other_times > 0 {
        let text = format!("left out by --since and --until: {}", plural(at_other_times, "record"));
        notes.insert(0, Note::new("left-out-by-time", text));
    }
    let (shown, left_out): (Vec<_>, Vec<_>) =
        by_unit(incidents).into_iter().partition(|(unit, _)| question.shows(unit.as_ref()));
    notes.splice(0..0, left_out_note(&question.only, shown.is_empty(), &left_out));
    let answered: BTreeSet<UnitName> = shown.iter().filter_map(|(unit, _)| Some(unit.as_ref()?.name.clone())).collect();
    let is_answered = |name: &UnitName| answered.iter().any(|unit| is_named_by(name, unit));
    let alone = pasted.iter().flat_map(|pasted| &pasted.units).filter(|name| !is_answered(name));
    let alone = alone.map(|name| (Some(Unit { manager: Manager::System, name: name.clone() }), Vec::new()));
    let shown: Vec<_> = shown.into_iter().chain(alone.filter(|(unit, _)| question.shows(unit.as_ref()))).collect();
    let mut units: Vec<Answer> = fold_instances(shown, |unit| shares_settings(unit, root.as_deref()))
        .into_iter()
        .map(|folded| answer(folded, root.as_deref(), (&machine, &question.machines), clock))
        .collect();
    let search = match root.as_deref() {
        // A log need not tell when a program could not do something.
        Some(_) if question.times != SightingTimes::default() => FailureSearch::LimitedTime,
        Some(root) => {
            add_failures(&mut units, &summary.failures, question, root, (&machine, clock));
            FailureSearch::NothingFound
        }
        None => FailureSearch::NoSettings,
    };
    notes.extend(failure_note(&summary.failures, question, &units, search));
    if let Some(root) = &question.root {
        for answer in &mut units {
            note_missing_settings(answer, root);
        }
    }
    let left_out: u64 = left_out.iter().flat_map(|(_, incidents)| incidents).map(|incident| incident.count).sum();
    let log =
        LogTally { name: name_log(&question.file), dropped, left_out: left_out + at_other_times, ..tally(&summary) };
    Ok(Report { schema: SCHEMA, demo: None, units, log: Some(log), notes })
}

/// Notes what `--unit` leaves out of the answer.
fn left_out_note(
    only: &[UnitPattern],
    is_nothing_shown: bool,
    left_out: &[(Option<Unit>, Vec<Incident>)],
) -> Option<Note> {
    if only.is_empty() {
        return None;
    }
    let asked = join(only.iter().map(ToString::to_string));
    let records = |incidents: &[Incident]| incidents.iter().map(|incident| incident.count).sum::<u64>();
    let (named, rest) = left_out.split_at(left_out.len().min(MOST_LEFT_OUT));
    let mut parts: Vec<String> = named
        .iter()
        .map(|(unit, incidents)| {
            let whose = unit.as_ref().map_or("unknown units".to_owned(), |unit| unit.name.to_string());
            format!("{} of {whose}", plural(records(incidents), "record"))
        })
        .collect();
    if !rest.is_empty() {
        let count = rest.iter().map(|(_, incidents)| records(incidents)).sum();
        parts.push(format!("{} of {} more units", plural(count, "record"), rest.len()));
    }
    let mut text = if is_nothing_shown { format!("the log has no record of {asked}") } else { String::new() };
    if !parts.is_empty() {
        text.push_str(if is_nothing_shown { "; left out by --unit: " } else { "left out by --unit: " });
        text.push_str(&join(parts.into_iter()));
    }
    if is_nothing_shown && left_out.iter().any(|(unit, _)| unit.is_none()) {
        text.push_str("; if the records of unknown units belong to one unit, name it with --assume-unit UNIT");
    }
    (!text.is_empty()).then(|| Note::new("left-out", text))
}

/// Whether an instance's settings are those of its template: connections have none of their own, other instances may.
fn shares_settings(unit: &Unit, root: Option<&Path>) -> bool {
    let has_none = |root: &Path| unit.manager == Manager::System && !has_own_files(root, unit, Path::new(""));
    unit.name.is_per_connection() || root.is_some_and(has_none)
}

/// The machine of the log, and others for which the answer judges its remedies.
type Machines<'a> = (&'a LogMachine, &'a [Machine]);

fn answer(mut folded: FoldedUnit, root: Option<&Path>, machines: Machines<'_>, clock: &LocalTime) -> Answer {
    // One named instance has an answer under its own name.
    let is_single = folded.template.as_ref().is_some_and(|instances| instances.names.len() == 1);
    if is_single && folded.unit.as_ref().is_some_and(|unit| !unit.name.is_per_connection()) {
        folded.template = None;
    }
    let named = folded.named();
    let FoldedUnit { unit, template, incidents } = folded;
    let mut answer = answer_for(unit.as_ref(), named.as_ref(), incidents, root, machines, clock);
    answer.is_of_log = true;
    if let (Some(template), Some(named)) = (template, named) {
        answer.describe_instances(&named, &template.names);
    }
    answer
}

fn answer_for(
    unit: Option<&Unit>,
    named: Option<&Unit>,
    incidents: Vec<Incident>,
    root: Option<&Path>,
    (machine, others): Machines<'_>,
    clock: &LocalTime,
) -> Answer {
    let Some((unit, root)) = unit.zip(root) else {
        let diagnosis = diagnose(incidents, None, machine.groups());
        let mut answer = Answer::new(named, &diagnosis, None, machine.groups(), clock, Vec::new());
        // The stack of a core dump names the functions itself.
        add_call_sites(&mut answer, &diagnosis, Path::new("/"), ShownPackages::None);
        answer.judge_elsewhere(others, &diagnosis, None, machine.groups());
        return answer;
    };
    let (LoadedSettings { situation, mut notes, .. }, groups) = load_situation(unit, &incidents, root, machine);
    if let Some(situation) = &situation {
        notes.extend(contradiction_note(unit, &incidents, situation));
        if incidents.is_empty() || incidents.iter().any(|incident| incident.call().is_none()) {
            let (effects, lack) = effect_notes(&unit.name, situation, &groups);
            notes.extend(lack.into_iter().chain(effects));
        }
    }
    let diagnosis = diagnose(incidents, situation.as_ref(), &groups);
    let mut answer = Answer::new(named, &diagnosis, situation.as_ref(), &groups, clock, notes);
    add_source_lines(&mut answer, &diagnosis, root);
    add_call_sites(&mut answer, &diagnosis, root, ShownPackages::None);
    answer.judge_elsewhere(others, &diagnosis, situation.as_ref(), &groups);
    answer
}

/// Loads what is known of a unit below a root, and the groups of the log's machine.
fn load_situation(unit: &Unit, incidents: &[Incident], root: &Path, machine: &LogMachine) -> (LoadedSettings, Groups) {
    let (mut loaded, groups) = machine.load_settings(root, unit, incidents);
    if let Some(situation) = &mut loaded.situation {
        read_programs(situation, unit.manager, root, incidents);
    }
    (loaded, groups)
}

/// Says why the files below the root that the user named do not tell the settings, if they do not.
fn note_missing_settings(answer: &mut Answer, root: &Path) {
    // It is the reason that the answer has no remedy.
    for note in answer.notes.iter_mut().filter(|note| note.id == "no-unit-files") {
        *note = Note::new("no-remedy", format!("{}: name the root that has them, or another unit", note.text));
    }
    if answer.unit.is_none() {
        let programs: BTreeSet<&str> = answer.denials.iter().filter_map(|denial| denial.exe.as_deref()).collect();
        let runs = match programs.first() {
            Some(program) if programs.len() == 1 => program,
            _ => "these programs",
        };
        let text = format!(
            "the log names no unit, and the units below {} do not show for sure which one runs {runs}: add \
             --assume-unit UNIT if you know it",
            shown_path(root)
        );
        answer.notes.push(Note::new("no-remedy", text));
    }
}

/// Notes programs of records that the user assumes to be the unit's, if the unit's commands run other programs.
fn contradiction_note(unit: &Unit, incidents: &[Incident], situation: &Situation) -> Option<Note> {
    let runs: BTreeSet<&str> = situation.policy.settings.commands().iter().map(|command| &*command.program).collect();
    let is_other = |incident: &&Incident| {
        let assumed = incident.rung == Some(Rung::Assumed) && !is_before_exec(incident);
        assumed
            && !incident.key.exe.is_empty()
            && !runs_task(situation.policy.settings.commands(), &incident.key.exe, &incident.sample.comm)
    };
    let others: BTreeSet<&[u8]> = incidents.iter().filter(is_other).map(|incident| &*incident.key.exe).collect();
    if others.is_empty() || runs.is_empty() {
        return None;
    }
    let commands = join(runs.into_iter().map(|program| escape(program.as_bytes())));
    let others = join(others.into_iter().map(escape));
    let text = format!(
        "{unit} runs {commands}, but --assume-unit assigns it records of {others}: if {unit} does not start these, \
        the remedies allow calls that {unit} does not need",
        unit = unit.name
    );
    Some(Note::new("assumption-contradicted", text))
}

/// Names a log as a sentence does.
fn name_log(file: &Path) -> String {
    if file == Path::new("-") { "standard input".to_owned() } else { shown_path(file) }
}

fn tally(summary: &LogSummary) -> LogTally {
    LogTally {
        name: String::new(),
        lines: summary.lines,
        records: summary.records,
        repeats: summary.repeats,
        told: Some(summary.told).filter(|told| *told > 0),
        unrelated: summary.foreign,
        malformed: summary.malformed,
        overlong: summary.overlong,
        dropped: 0,
        left_out: 0,
        skipped: summary.complaints.iter().map(|(line, why)| format!("line {line}: {why}")).collect(),
    }
}

#[cfg(test)]
mod tests;
