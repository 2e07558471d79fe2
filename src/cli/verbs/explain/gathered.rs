//! `explain DIR`: the denials in the journals of many machines, folded as the alerts of harden-whyd are.

use super::{load_situation, local_time_of_log, parse_question};
use crate::audit::Note;
use crate::audit::text::{escape, plural};
use crate::cli::args::Explain;
use crate::cli::exit_status::UsageError;
use crate::cli::lookup::fleet_alerts::{FleetAlerts, HostAlerts};
use crate::cli::lookup::log_groups::load_groups;
use crate::cli::lookup::log_incidents::{LogIncidents, LogQuestion, read_incidents};
use crate::cli::verbs::fleet::find_journals;
use crate::cli::views::fleet::{FleetCount, FleetReport};
use crate::diagnosis::diagnose_one;
use crate::diagnosis::{Situation, diagnose_causes};
use crate::host::log_machine::{GroupChoice, LogMachine};
use crate::incidents::incident::by_unit;
use crate::incidents::{Incident, Moment};
use crate::outlet::{Explanation, alert};
use crate::syscalls::Groups;
use crate::systemd::journal::gathered::GatheredAlert;
use crate::systemd::journal::machine_journals::MachineJournals;
use anyhow::{Context as _, ensure};

/// Answers for every unit of every machine with journals in a directory and below.
///
/// # Errors
/// A unit name is invalid, `--for` is given, or the journals cannot be read.
pub(crate) fn explain_journals(asked: &Explain) -> anyhow::Result<FleetReport> {
    ensure!(
        asked.others.machines.is_empty(),
        UsageError("--for judges remedies: with journals of many machines, explain shows none".to_owned())
    );
    let question = parse_question(asked)?;
    let (groups, note) = load_groups(asked.groups.as_deref())?;
    let machines = MachineJournals::find(&find_journals(&asked.file)?)?;
    let mut notes: Vec<Note> = note.into_iter().collect();
    let mut fleet = FleetAlerts::default();
    for id in machines.ids() {
        let mut log = machines.open(id).with_context(|| format!("cannot read the journals of the machine {id}"))?;
        let read = read_incidents(&mut log, &question)?;
        let host = log.host().to_vec();
        notes.extend(name_gaps(&read).into_iter().map(|note| name_host(&host, &note)));
        add_machine(&mut fleet, &host, read, &question, groups.clone());
    }
    Ok(FleetReport::new(&fleet, FleetCount::Denials, notes, &local_time_of_log(), None))
}

fn name_host(host: &[u8], note: &Note) -> Note {
    Note { text: format!("{}: {}", escape(host), note.text), ..note.clone() }
}

/// Notes what a machine's journals held and no row shows.
fn name_gaps(read: &LogIncidents) -> Vec<Note> {
    let count = |id, count: u64, noun: &str, why: &str| {
        (count > 0).then(|| Note::new(id, format!("{} not shown: {why}", plural(count, noun))))
    };
    let mut notes = read.notes.clone();
    notes.extend(count("malformed", read.summary.malformed, "entry", "these only look like records"));
    notes.extend(count("dropped", read.dropped, "record", "there are too many different denials"));
    notes
}

/// Adds the denials of one machine.
fn add_machine(fleet: &mut FleetAlerts, host: &[u8], read: LogIncidents, question: &LogQuestion, groups: GroupChoice) {
    let root = read.root(question);
    let machine = LogMachine::new(groups, root.as_deref(), read.summary.facts);
    let incidents = read.incidents.into_iter().filter(|incident| question.times.includes(incident)).collect();
    for (unit, incidents) in by_unit(incidents) {
        if !question.shows(unit.as_ref()) {
            continue;
        }
        let loaded = unit.as_ref().zip(root.as_deref());
        let loaded = loaded.map(|(unit, root)| load_situation(unit, &incidents, root, &machine));
        match loaded {
            Some((settings, groups)) => add_incidents(fleet, host, incidents, settings.situation.as_ref(), &groups),
            None => add_incidents(fleet, host, incidents, None, machine.groups()),
        }
    }
}

fn add_incidents(
    fleet: &mut FleetAlerts,
    host: &[u8],
    incidents: Vec<Incident>,
    situation: Option<&Situation>,
    groups: &Groups,
) {
    for finding in diagnose_causes(incidents, situation, groups).findings {
        let incident = finding.incident.clone();
        let remedy = situation.and_then(|situation| diagnose_one(incident, situation, groups).1);
        let why = situation.map(|_| Explanation::from_finding(&finding, remedy.as_ref(), |_| true, true));
        let seen = HostAlerts {
            alerts: finding.incident.count,
            first: micros(&finding.incident.first),
            last: micros(&finding.incident.last),
        };
        let mut row = GatheredAlert { at: seen.last, ..GatheredAlert::default() };
        row.set(b"_HOSTNAME", host);
        // The alert that harden-whyd would have sent.
        for (name, value) in alert::entry(&finding.incident, None, why.as_ref()).fields() {
            row.set(name.as_bytes(), value);
        }
        fleet.add_all(&row, seen);
    }
}

/// Entries of a journal have a time.
fn micros(moment: &Moment) -> u64 {
    match moment {
        Moment::At(millis) => u64::try_from(*millis).unwrap_or_default().saturating_mul(1_000),
        Moment::Text(_) | Moment::Unknown => 0,
    }
}
