//! `explain`: answers from a log, without a daemon.

use crate::audit::text::shown_path;
use crate::audit::{Action, Note};
use crate::cli::lookup::unit_names::parse_instance_name;
use crate::cli::terminal::progress::Progress;
use crate::cli::terminal::words::count_times;
use crate::cli::views::answer::{Answer, LogTally, Report, SCHEMA};
use crate::diagnosis::diagnose;
use crate::host::log_host::LogHost;
use crate::host::unit_settings;
use crate::incidents::incident::by_unit;
use crate::incidents::local_time::LocalTime;
use crate::incidents::{Incident, IncidentChange, IncidentEvent};
use crate::intake::log_encoding::LogEncoding;
use crate::intake::log_file::{LogSummary, Novelty, read_log};
use crate::intake::sigsys_exit_line::SigsysExits;
use crate::pipeline::Pipeline;
use crate::syscalls::Groups;
use crate::systemd::syscall_groups;
use crate::systemd::syscall_groups::{LoadedGroups, groups_note};
use crate::units::{Manager, Unit, UnitName};
use anyhow::Context as _;
use jiff::tz::TimeZone;
use std::fs::File;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

/// The most different denials that are kept of one log.
const MOST_INCIDENTS: usize = 16 << 10;

/// The caller's knowledge about a log.
#[derive(Debug)]
pub(crate) struct LogQuestion {
    /// The root below which unit files are read.
    pub(crate) root: Option<PathBuf>,
    /// The unit, if the caller names it.
    pub(crate) unit: Option<UnitName>,
}

/// Runs the verb.
///
/// # Errors
/// The unit name is invalid, the log cannot be read, or the root is not a directory.
pub(crate) fn run(
    root: Option<&Path>,
    unit: Option<&str>,
    listing: Option<&Path>,
    file: &Path,
) -> anyhow::Result<Report> {
    let unit = unit.map(parse_instance_name);
    let question = LogQuestion { root: root.map(Path::to_owned), unit: unit.transpose()? };
    let mut log = open_log(file)?;
    let loaded = match listing {
        Some(listing) => {
            let cannot = || format!("cannot take groups from {}", shown_path(listing));
            LoadedGroups { groups: syscall_groups::from_listing(listing).with_context(cannot)?, note: None }
        }
        None => syscall_groups::load(),
    };
    let mut report = explain(&mut *log, &question, &loaded.groups, &local_time_of_log())?;
    report.notes.extend(groups_note(&loaded));
    Ok(report)
}

/// Returns a local time without a current time: a log may be old or from elsewhere, so ages mean nothing.
pub(crate) fn local_time_of_log() -> LocalTime {
    LocalTime { now: None, zone: TimeZone::system() }
}

/// Opens a log, or stdin for `-`.
///
/// # Errors
/// The file cannot be read, or is not text; the error says how to convert it.
fn open_log(file: &Path) -> anyhow::Result<Box<dyn Read>> {
    if file == Path::new("-") {
        return ensure_text(Progress::new(std::io::stdin().lock(), None), None);
    }
    let opened = File::open(file).with_context(|| format!("cannot read {}", shown_path(file)))?;
    let metadata = opened.metadata().ok();
    anyhow::ensure!(
        !metadata.as_ref().is_some_and(std::fs::Metadata::is_dir),
        "{} is a directory; name a log file",
        shown_path(file)
    );
    let length = metadata.filter(std::fs::Metadata::is_file).map(|metadata| metadata.len());
    ensure_text(Progress::new(opened, length), Some(file))
}

/// Returns the log if it is text.
fn ensure_text(mut log: impl Read + 'static, file: Option<&Path>) -> anyhow::Result<Box<dyn Read>> {
    let mut first = Vec::new();
    log.by_ref().take(LogEncoding::MAGIC_LENGTH as u64).read_to_end(&mut first).context("cannot read the log")?;
    if let Some(encoding) = LogEncoding::detect(&first) {
        anyhow::bail!(conversion_hint(encoding, file));
    }
    Ok(Box::new(Cursor::new(first).chain(log)))
}

/// Names the command that turns an encoded log into text.
fn conversion_hint(encoding: LogEncoding, file: Option<&Path>) -> String {
    let what = file.map_or_else(|| "what comes on standard input".to_owned(), shown_path);
    // A name that a shell would interpret does not go into a command.
    let is_plain =
        |path: &&String| path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-+@:,".contains(&byte));
    let name = Some(&what).filter(|_| file.is_some()).filter(is_plain).map_or("FILE", String::as_str);
    match encoding {
        LogEncoding::Compressed { format, unpack } => {
            format!("{what} is compressed by {format}; run: {unpack} {name} | harden-why explain -")
        }
        LogEncoding::Journal => {
            format!("{what} is a journal file; run: journalctl --file {name} -o export | harden-why explain -")
        }
    }
}

/// Answers for every unit of a log.
///
/// # Errors
/// The log cannot be read, or the root is not a directory.
pub(crate) fn explain(
    log: &mut dyn Read,
    question: &LogQuestion,
    groups: &Groups,
    clock: &LocalTime,
) -> anyhow::Result<Report> {
    if let Some(root) = &question.root {
        anyhow::ensure!(root.is_dir(), "{} is no directory to read unit files below", shown_path(root));
    }
    let host = LogHost::new(question.root.clone(), question.unit.clone());
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
    let notes = unrecorded_deaths(&summary.sigsys_exits, &incidents);
    let units = by_unit(incidents)
        .into_iter()
        .map(|(unit, incidents)| answer(unit.as_ref(), incidents, question, groups, clock))
        .collect();
    Ok(Report { schema: SCHEMA, demo: None, units, log: Some(tally(&summary, dropped)), notes })
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
        "; which record of an unknown unit is of that, the log does not tell: if you know, say so with --unit"
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

fn answer(
    unit: Option<&Unit>,
    incidents: Vec<Incident>,
    question: &LogQuestion,
    groups: &Groups,
    clock: &LocalTime,
) -> Answer {
    let known =
        unit.zip(question.root.as_deref()).map(|(unit, root)| unit_settings::from_files(root, unit, None, groups));
    let (situation, notes) = known.map_or((None, Vec::new()), |known| (known.situation, known.notes));
    let diagnosis = diagnose(incidents, situation.as_ref(), groups);
    Answer::new(unit, &diagnosis, situation.as_ref(), groups, clock, notes)
}

fn tally(summary: &LogSummary, dropped: u64) -> LogTally {
    LogTally {
        lines: summary.lines,
        records: summary.records,
        repeats: summary.repeats,
        unrelated: summary.foreign,
        malformed: summary.malformed,
        overlong: summary.overlong,
        dropped,
        skipped: summary.complaints.iter().map(|(line, why)| format!("line {line}: {why}")).collect(),
    }
}
