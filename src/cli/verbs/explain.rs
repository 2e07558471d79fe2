//! `explain`: answers from a log, without a daemon.

use crate::audit::text::{escape, join, plural, shown_path};
use crate::audit::{Action, Note};
use crate::cli::args::Explain;
use crate::cli::lookup::log_input::open_log;
use crate::cli::lookup::subject::{FoldedUnit, fold_instances};
use crate::cli::lookup::unit_names::{UnitPattern, parse_instance_name};
use crate::cli::terminal::words::count_times;
use crate::cli::views::answer::{Answer, LogTally, Report, SCHEMA};
use crate::diagnosis::before_exec::is_before_exec;
use crate::diagnosis::{Situation, diagnose};
use crate::host::log_host::LogHost;
use crate::host::log_machine::{GroupsAtHand, LogMachine};
use crate::host::unit_settings::LoadedSettings;
use crate::incidents::incident::by_unit;
use crate::incidents::local_time::LocalTime;
use crate::incidents::{Incident, IncidentChange, IncidentEvent};
use crate::intake::log_file::{LogSummary, Novelty, read_log};
use crate::intake::sigsys_exit_line::SigsysExits;
use crate::pipeline::Pipeline;
use crate::policy::program_path::runs_task;
use crate::systemd::syscall_groups;
use crate::systemd::syscall_groups::groups_note;
use crate::unit_files::has_own_files;
use crate::units::{Manager, Rung, Unit, UnitName};
use anyhow::Context as _;
use jiff::tz::TimeZone;
use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The most different denials that are kept of one log.
const MOST_INCIDENTS: usize = 16 << 10;

/// How many units that `--unit` leaves out are named.
const MOST_LEFT_OUT: usize = 8;

/// The caller's knowledge about a log, and what to show of it.
#[derive(Debug, Default)]
pub(crate) struct LogQuestion {
    /// The root below which unit files are read.
    pub(crate) root: Option<PathBuf>,
    /// The units to show; empty for all.
    pub(crate) only: Vec<UnitPattern>,
    /// The unit of the records for which the log names none.
    pub(crate) assumed: Option<UnitName>,
}

impl LogQuestion {
    fn new(asked: &Explain) -> anyhow::Result<Self> {
        Ok(Self {
            root: asked.root.clone(),
            only: asked.unit.iter().map(|unit| UnitPattern::parse(unit)).collect::<anyhow::Result<_>>()?,
            assumed: asked.assume_unit.as_deref().map(parse_instance_name).transpose()?,
        })
    }

    /// Whether to show the denials of a unit.
    fn shows(&self, unit: Option<&Unit>) -> bool {
        self.only.is_empty() || unit.is_some_and(|unit| self.only.iter().any(|only| only.matches(&unit.name)))
    }
}

/// Runs the verb.
///
/// # Errors
/// The unit name is invalid, the log cannot be read, or the root is not a directory.
pub(crate) fn run(asked: &Explain) -> anyhow::Result<Report> {
    let question = LogQuestion::new(asked)?;
    let mut log = open_log(&asked.file)?;
    let (groups, note) = if let Some(listing) = &asked.groups {
        let cannot = || format!("cannot take groups from {}", shown_path(listing));
        let groups = syscall_groups::from_listing(listing).with_context(cannot)?;
        let note = groups.missing_part().map(|why| {
            let text = format!(
                "{} is only a part of the groups ({why}), so what depends on groups may be wrong; \
                     'systemd-analyze --no-pager syscall-filter' lists all",
                shown_path(listing)
            );
            Note::new("groups-partial", text)
        });
        (GroupsAtHand::Listed(groups), note)
    } else {
        let loaded = syscall_groups::load();
        let note = groups_note(&loaded);
        (GroupsAtHand::Local(loaded.groups), note)
    };
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
    groups: GroupsAtHand,
    clock: &LocalTime,
) -> anyhow::Result<Report> {
    if let Some(root) = &question.root {
        anyhow::ensure!(root.is_dir(), "{} is no directory to read unit files below", shown_path(root));
    }
    let host = LogHost::new(question.root.clone(), question.assumed.clone());
    let mut pipeline = Pipeline::new(host, MOST_INCIDENTS);
    let summary = read_log(log, &mut |record, named, novelty| match novelty {
        Novelty::New => {
            let _ = pipeline.add_record(record, named);
        }
        Novelty::DatesEarlier => pipeline.set_time(record, named),
    })
    .context("cannot read the log to its end")?;
    let dropped = pipeline.fold.dropped();
    let incidents: Vec<Incident> =
        pipeline.fold.take_changes(usize::MAX).into_iter().map(|IncidentChange { incident, .. }| incident).collect();
    let mut notes = unrecorded_deaths(&summary.sigsys_exits, &incidents);
    let machine = LogMachine::new(groups, question.root.as_deref(), summary.facts.clone());
    let (shown, left_out): (Vec<_>, Vec<_>) =
        by_unit(incidents).into_iter().partition(|(unit, _)| question.shows(unit.as_ref()));
    notes.splice(0..0, left_out_note(&question.only, shown.is_empty(), &left_out));
    let units = fold_instances(shown, |unit| shares_settings(unit, question.root.as_deref()))
        .into_iter()
        .map(|folded| answer(folded, question, &machine, clock))
        .collect();
    let left_out = left_out.iter().flat_map(|(_, incidents)| incidents).map(|incident| incident.count).sum();
    let log = LogTally { dropped, left_out, ..tally(&summary) };
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
    let mut text = if is_nothing_shown { format!("the log names {asked} for no record") } else { String::new() };
    if !parts.is_empty() {
        text.push_str(if is_nothing_shown { "; " } else { "" });
        text.push_str(&format!("left out by --unit: {}", join(parts.into_iter())));
    }
    if is_nothing_shown && left_out.iter().any(|(unit, _)| unit.is_none()) {
        text.push_str(
            "; if you know that the records of unknown units are of one unit, name it with --assume-unit UNIT",
        );
    }
    (!text.is_empty()).then(|| Note::new("left-out", text))
}

/// Notes about deaths by SIGSYS for which the log has no record of that unit.
fn unrecorded_deaths(deaths: &SigsysExits, incidents: &[Incident]) -> Vec<Note> {
    let kills = |incident: &Incident| match &incident.key.event {
        IncidentEvent::Denial(denial) => denial.action.is_kill() || denial.action == Action::Trap,
        IncidentEvent::UnrecordedDeath => false,
    };
    let has_record = |of: &Unit| {
        let same = |unit: &Unit| {
            let some_user = of.manager == Manager::User(Manager::SOME_USER) && unit.manager != Manager::System;
            unit.name == of.name && (unit.manager == of.manager || some_user)
        };
        incidents.iter().any(|incident| kills(incident) && incident.key.unit.as_ref().is_some_and(same))
    };
    let unknown = incidents.iter().any(|incident| kills(incident) && incident.key.unit.is_none());
    let advice = if unknown {
        "; which record of an unknown unit is of that, the log does not tell: if you know, say so with --assume-unit"
    } else {
        ", but the kernel's record of that is not in this log: add the output of 'journalctl -k' or 'dmesg', or audit.log"
    };
    let mut notes: Vec<Note> = deaths
        .units
        .iter()
        .filter(|(unit, _)| !has_record(unit))
        .map(|(unit, count)| {
            Note::new(
                "death-without-record",
                format!("{} died of SIGSYS (status=31/SYS) {}{advice}", unit.name, count_times(*count)),
            )
        })
        .collect();
    if deaths.others > 0 {
        notes.push(Note::new(
            "deaths-not-shown",
            format!("further units died of SIGSYS, {} in all", count_times(deaths.others)),
        ));
    }
    notes
}

/// Whether an instance's settings are those of its template: connections have none of their own, other instances may.
fn shares_settings(unit: &Unit, root: Option<&Path>) -> bool {
    let has_none = |root: &Path| unit.manager == Manager::System && !has_own_files(root, unit, Path::new(""));
    unit.name.is_per_connection() || root.is_some_and(has_none)
}

fn answer(mut folded: FoldedUnit, question: &LogQuestion, machine: &LogMachine, clock: &LocalTime) -> Answer {
    // One named instance is answered under its own name.
    let is_single = folded.template.as_ref().is_some_and(|instances| instances.names.len() == 1);
    if is_single && folded.unit.as_ref().is_some_and(|unit| !unit.name.is_per_connection()) {
        folded.template = None;
    }
    let named = folded.named();
    let FoldedUnit { unit, template, incidents } = folded;
    let mut answer = answer_for(unit.as_ref(), named.as_ref(), incidents, question, machine, clock);
    if let (Some(template), Some(named)) = (template, named) {
        answer.describe_instances(&named, &template.names);
    }
    answer
}

fn answer_for(
    unit: Option<&Unit>,
    named: Option<&Unit>,
    incidents: Vec<Incident>,
    question: &LogQuestion,
    machine: &LogMachine,
    clock: &LocalTime,
) -> Answer {
    let Some((unit, root)) = unit.zip(question.root.as_deref()) else {
        let diagnosis = diagnose(incidents, None, machine.groups());
        return Answer::new(named, &diagnosis, None, machine.groups(), clock, Vec::new());
    };
    let (LoadedSettings { situation, mut notes, .. }, groups) = machine.load_settings(root, unit, &incidents);
    if let Some(situation) = &situation {
        notes.extend(contradiction_note(unit, &incidents, situation));
    }
    let diagnosis = diagnose(incidents, situation.as_ref(), &groups);
    Answer::new(named, &diagnosis, situation.as_ref(), &groups, clock, notes)
}

/// Notes programs of records that the user assumes to be the unit's, if the unit's commands run other programs.
fn contradiction_note(unit: &Unit, incidents: &[Incident], situation: &Situation) -> Option<Note> {
    let runs: BTreeSet<&str> = situation.policy.settings.commands().iter().map(|command| &*command.program).collect();
    let is_other = |incident: &&Incident| {
        let assumed = incident.rung == Some(Rung::Told) && !is_before_exec(incident);
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
        "{unit} runs {commands}, and --assume-unit takes records of {others} as its own: unless {unit} starts that, they \
         are of another unit, and the remedies open calls that {unit} does not need",
        unit = unit.name
    );
    Some(Note::new("assumption-contradicted", text))
}

fn tally(summary: &LogSummary) -> LogTally {
    LogTally {
        lines: summary.lines,
        records: summary.records,
        repeats: summary.repeats,
        unrelated: summary.foreign,
        malformed: summary.malformed,
        overlong: summary.overlong,
        dropped: 0,
        left_out: 0,
        skipped: summary.complaints.iter().map(|(line, why)| format!("line {line}: {why}")).collect(),
    }
}
