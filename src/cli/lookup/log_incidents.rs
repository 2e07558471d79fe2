//! The incidents of a log: its records, and the deaths by SIGSYS that it reports without a record.

use super::pasted_root::PastedRoot;
use super::sighting_times::SightingTimes;
use super::unit_names::UnitPattern;
use crate::audit::text::{join, plural, shown_path};
use crate::audit::{Action, Note, Record, Stamp};
use crate::cli::args::machine::Machine;
use crate::diagnosis::{find_needed_capability, gives_error};
use crate::host::log_host::LogHost;
use crate::incidents::{
    Access, AccessDenial, CapabilityLack, Denial, Incident, IncidentChange, IncidentEvent, KnownArgument, Moment,
    Sighting, SightingSource,
};
use crate::intake::core_dump_text::calls_of_function;
use crate::intake::deaths::{Death, DeathTime, Deaths};
use crate::intake::log_file::{Novelty, read_log};
use crate::intake::log_summary::LogSummary;
use crate::intake::strace_text::{TracedCall, TracedCalls, TracedOutcome, TracedTimes};
use crate::pipeline::{Pipeline, RecordOutcome, UnattributedSighting};
use crate::syscalls::{Abi, Call};
use crate::units::{Evidence, Manager, Rung, Unit, UnitName};
use anyhow::Context as _;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;

/// The most different denials that are kept of one log.
const MOST_INCIDENTS: usize = 16 << 10;

/// The most records that wait for the end of the log, which may name their unit.
const MOST_WAITING: usize = 4096;

/// The highest count of one call of strace.
const MOST_REPEATED: u64 = 1000;

/// How many deaths of units are named.
const MOST_NAMED: usize = 16;

/// The caller's knowledge about a log, and what to show of it.
#[derive(Debug, Default)]
pub(crate) struct LogQuestion {
    /// The root below which unit files are read.
    pub(crate) root: Option<PathBuf>,
    /// The units to show; empty for all.
    pub(crate) only: Vec<UnitPattern>,
    /// From when to when denials are shown.
    pub(crate) times: SightingTimes,
    /// The unit of the records for which the log names none.
    pub(crate) assumed: Option<UnitName>,
    /// The log's path, which may name a unit file.
    pub(crate) file: PathBuf,
    /// The other machines for which the answer judges its remedies.
    pub(crate) machines: Vec<Machine>,
}

impl LogQuestion {
    /// Whether to show the denials of a unit.
    pub(crate) fn shows(&self, unit: Option<&Unit>) -> bool {
        self.only.is_empty() || unit.is_some_and(|unit| self.only.iter().any(|only| only.matches(&unit.name)))
    }
}

/// What a log tells.
#[derive(Debug)]
pub(crate) struct LogIncidents {
    /// The incidents, in no order.
    pub(crate) incidents: Vec<Incident>,
    /// What the log held.
    pub(crate) summary: LogSummary,
    /// Records forgotten because the log holds too many different denials.
    pub(crate) dropped: u64,
    /// The unit files that the log holds, unless the user named a root.
    pub(crate) pasted: Option<PastedRoot>,
    /// Notes about deaths without a record.
    pub(crate) notes: Vec<Note>,
}

impl LogIncidents {
    /// The root below which the unit files are.
    pub(crate) fn root(&self, question: &LogQuestion) -> Option<PathBuf> {
        question.root.clone().or_else(|| self.pasted.as_ref().map(PastedRoot::path))
    }
}

/// Reads a log to its end.
///
/// # Errors
/// The log cannot be read, or the root is not a directory.
pub(crate) fn read_incidents(log: &mut dyn Read, question: &LogQuestion) -> anyhow::Result<LogIncidents> {
    if let Some(root) = &question.root {
        anyhow::ensure!(root.is_dir(), "--root {} is not a directory", shown_path(root));
    }
    let mut counting = Counting {
        pipeline: Pipeline::new(LogHost::new(question.root.clone(), None), MOST_INCIDENTS),
        assuming: LogHost::new(question.root.clone(), question.assumed.clone()),
        waiting: Vec::new(),
    };
    let mut summary = read_log(log, &mut |record, named, novelty| match novelty {
        Novelty::New => counting.add_record(record, named),
        Novelty::DatesEarlier => counting.set_time(record, named),
    })
    .context("cannot read the log to its end")?;
    let deaths = std::mem::take(&mut summary.deaths);
    let pasted = match question.root {
        Some(_) => None,
        None => PastedRoot::write(&summary.units, &question.file, question.assumed.as_ref())?,
    };
    if let Some(pasted) = &pasted {
        counting.assuming = LogHost::new(Some(pasted.path()), question.assumed.clone());
    }
    counting.finish_waiting(&deaths);
    let mut incidents = counting.take_incidents();
    counting.add_traced(std::mem::take(&mut summary.traced));
    let mut notes = counting.add_deaths(&deaths, &incidents);
    incidents.extend(counting.take_incidents());
    for incident in incidents.iter_mut().filter(|incident| is_fatal(incident) || incident.call().is_none()) {
        let site = deaths.call_site(incident.sample.pid).cloned().map(Box::new);
        incident.sample.call_site = incident.sample.call_site.take().or(site);
    }
    notes.extend(pasted.iter().flat_map(|pasted| pasted.notes.clone()));
    Ok(LogIncidents { incidents, summary, dropped: counting.pipeline.fold.dropped(), pasted, notes })
}

/// Counts the records of a log.
struct Counting {
    pipeline: Pipeline<LogHost>,
    /// Names the unit that the user assumes, and guesses from unit files in the log.
    assuming: LogHost,
    /// Records of unknown units, in the order of the log. Its end may name the unit.
    waiting: Vec<UnattributedSighting>,
}

impl Counting {
    fn add_record(&mut self, record: &Record<'_>, named: Option<&Unit>) {
        let RecordOutcome::Unattributed(sighting) = self.pipeline.add_record(record, named) else { return };
        if self.waiting.len() < MOST_WAITING {
            self.waiting.push(*sighting);
        } else {
            self.count(*sighting);
        }
    }

    fn set_time(&mut self, record: &Record<'_>, named: Option<&Unit>) {
        let waiting = self.waiting.iter_mut().rev().find(|sighting| sighting.pid() == record.pid);
        match (waiting, record.stamp) {
            (Some(sighting), Stamp::Millis(at)) => sighting.set_time(Moment::At(at)),
            _ => self.pipeline.set_time(record, named),
        }
    }

    /// Counts a sighting; without other evidence than a guess, as one of the unit that the user assumes.
    fn count(&mut self, mut sighting: UnattributedSighting) {
        let user = self.assuming.find_user(&sighting.sighting().sample.uid);
        let assumed = self.assuming.assumed_unit(user);
        let Sighting { key, sample, .. } = sighting.sighting();
        let guess = (!key.exe.is_empty()).then(|| self.assuming.guess(user, &key.exe, &sample.comm)).flatten();
        sighting.add_evidence(guess);
        sighting.add_evidence(assumed.map(|unit| Evidence::Named(Rung::Assumed, unit)));
        let _ = self.pipeline.add_sighting(sighting);
    }

    /// Counts the sightings that waited, with the log's reports of their deaths.
    fn finish_waiting(&mut self, deaths: &Deaths) {
        for mut sighting in std::mem::take(&mut self.waiting) {
            let pid = sighting.pid();
            sighting.add_evidence(deaths.evidence(pid));
            self.count(sighting);
        }
    }

    /// Counts the denials that strace showed.
    fn add_traced(&mut self, traced: TracedCalls) {
        for (TracedCall { program, call, argument, outcome }, TracedTimes { pid, count }) in traced {
            let (action, source) = match outcome {
                TracedOutcome::Errno(errno) => {
                    let knows_argument = argument != KnownArgument::Unknown;
                    (Action::Errno, SightingSource::Strace { errno, knows_argument })
                }
                TracedOutcome::Trap => (Action::Trap, SightingSource::Log),
                TracedOutcome::Kill => (Action::KillProcess, SightingSource::Log),
            };
            let denial = IncidentEvent::Denial(Denial { call: call.clone(), action });
            let accesses = source.errno().map_or_else(Vec::new, |errno| list_asked(&call, &argument, errno));
            for event in std::iter::once(denial).chain(accesses.into_iter().map(IncidentEvent::Access)) {
                let sighting = UnattributedSighting::from_logged_denial(pid, &program, event, source);
                for _ in 0..count.min(MOST_REPEATED) {
                    self.count(sighting.clone());
                }
            }
        }
    }

    /// Counts the deaths without a record, and notes those that may have one.
    fn add_deaths(&mut self, deaths: &Deaths, recorded: &[Incident]) -> Vec<Note> {
        let unknown = recorded.iter().any(|incident| is_fatal(incident) && incident.key.unit.is_none());
        let (mut notes, mut open): (Vec<Note>, Vec<(&Unit, u64)>) = (Vec::new(), Vec::new());
        for death in &deaths.unrecorded {
            let unit = death.unit.as_ref().map(|(unit, _)| unit);
            if death.pid.is_none() && unit.is_some_and(|unit| has_record(recorded, unit)) {
                continue;
            }
            if let Some(unit) = unit.filter(|_| death.pid.is_none() && unknown) {
                match open.iter_mut().find(|(known, _)| *known == unit) {
                    Some((_, count)) => *count += 1,
                    None => open.push((unit, 1)),
                }
                continue;
            }
            notes.extend(frame_note(death));
            let program = death.program.as_deref().unwrap_or_default();
            let mut sighting =
                UnattributedSighting::from_logged_death(death.pid.unwrap_or_default(), moment(&death.at), program);
            // The manager's line itself names the unit of the process.
            let rung = |rung| if death.pid.is_none() { Rung::JournalEntry } else { rung };
            sighting.add_evidence(death.unit.clone().map(|(unit, found)| Evidence::Named(rung(found), unit)));
            self.count(sighting);
        }
        notes.extend(open.iter().take(MOST_NAMED).map(|(unit, count)| {
            let times = if *count == 1 { "once".to_owned() } else { format!("{count} times") };
            Note::new(
                "death-without-record",
                format!(
                    "{} died of SIGSYS (status=31/SYS) {times}; the log does not show which record of an unknown \
                    unit belongs to it: if you know, name the unit with --assume-unit",
                    unit.name
                ),
            )
        }));
        let others = deaths.others + open.iter().skip(MOST_NAMED).map(|(_, count)| count).sum::<u64>();
        if others > 0 {
            notes.push(Note::new(
                "deaths-not-shown",
                format!("{} by SIGSYS are not shown", plural(others, "further death")),
            ));
        }
        notes.extend(signal_notes(deaths, recorded));
        notes
    }

    fn take_incidents(&mut self) -> Vec<Incident> {
        let changes = self.pipeline.fold.take_changes(usize::MAX);
        changes.into_iter().map(|IncidentChange { incident, .. }| incident).collect()
    }
}

/// Lists what a call that failed asked for, as far as a sandbox withholds it with this error: by its argument, and a
/// capability.
fn list_asked(call: &Call, argument: &KnownArgument, errno: i32) -> Vec<AccessDenial> {
    // Which set lacks it, the unit's settings tell.
    let capability = call.name().filter(|_| errno == libc::EPERM).and_then(find_needed_capability);
    let lacks = [CapabilityLack::NotInBoundingSet, CapabilityLack::NotEffective];
    let capabilities =
        capability.into_iter().flat_map(|capability| lacks.map(|lack| Access::Capability { capability, lack }));
    let asked = match argument {
        KnownArgument::Asks(access) if gives_error(access, errno) => Some(access.clone()),
        _ => None,
    };
    let denial = |access| AccessDenial { call: call.clone(), errno, access };
    asked.into_iter().chain(capabilities).map(denial).collect()
}

/// Notes the units without a record whose processes a signal ended that is not SIGSYS, or that the log does not name.
fn signal_notes(deaths: &Deaths, recorded: &[Incident]) -> Vec<Note> {
    let is_open = |name: &UnitName| !recorded.iter().any(|incident| is_of(incident, name));
    let mut by_signal: BTreeMap<Option<&str>, Vec<&UnitName>> = BTreeMap::new();
    for (name, signal) in deaths.failed.iter().filter(|(name, _)| is_open(name)) {
        by_signal.entry(signal.as_deref()).or_default().push(name);
    }
    let note = |(signal, names): (Option<&str>, Vec<&UnitName>)| {
        let names = join(names.iter().take(MOST_NAMED).map(ToString::to_string));
        match signal {
            Some(signal) => Note::new(
                "other-signal",
                format!("SIG{signal} ended a process of {names}: no filter did, since filters kill by SIGSYS"),
            ),
            None => Note::new(
                "signal-unknown",
                format!(
                    "a signal that the log does not name ended a process of {names}: 'systemctl status' shows \
                    signal=SYS if it was a denied call"
                ),
            ),
        }
    };
    by_signal.into_iter().map(note).collect()
}

/// Whether the process of an incident's record may have died of it.
fn is_fatal(incident: &Incident) -> bool {
    match &incident.key.event {
        IncidentEvent::Denial(denial) => denial.action.is_kill() || denial.action == Action::Trap,
        IncidentEvent::Access(_) | IncidentEvent::UnrecordedDeath => false,
    }
}

fn is_of(incident: &Incident, name: &UnitName) -> bool {
    incident.key.unit.as_ref().is_some_and(|unit| unit.name == *name)
}

/// Whether a record reports a death in this unit.
fn has_record(incidents: &[Incident], of: &Unit) -> bool {
    let same = |unit: &Unit| {
        let some_user = of.manager == Manager::User(Manager::SOME_USER) && unit.manager != Manager::System;
        unit.name == of.name && (unit.manager == of.manager || some_user)
    };
    incidents.iter().any(|incident| is_fatal(incident) && incident.key.unit.as_ref().is_some_and(same))
}

/// Notes the call that the function at the top of a core dump's stack hints at.
fn frame_note(death: &Death) -> Option<Note> {
    let function = death.function.as_deref()?;
    let call =
        calls_of_function(function).into_iter().find(|call| Abi::all().any(|abi| abi.call_number(call).is_some()));
    let what = death.program.as_deref().unwrap_or("the process");
    let pid = death.pid.map_or_else(String::new, |pid| format!(" (pid {pid})"));
    let text = match call {
        Some(call) => format!("{what}{pid} died in {function}, which makes the call {call}: a hint, not a record"),
        None => format!("{what}{pid} died in {function}"),
    };
    Some(Note::new("core-frame", escape_note(&text)))
}

fn escape_note(text: &str) -> String {
    crate::audit::text::escape(text.as_bytes())
}

fn moment(time: &DeathTime) -> Moment {
    match time {
        DeathTime::At(millis) => Moment::At(*millis),
        DeathTime::Text(text) => Moment::Text(escape_note(text).into()),
        DeathTime::Unknown => Moment::Unknown,
    }
}
