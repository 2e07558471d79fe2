//! The units with denials, looked up: their state now, the denied calls, and the file and line that decided.

use crate::cli::lookup::context::Context;
use crate::cli::terminal::clock::local_time_now;
use crate::cli::views::decision::describe_decision;
use crate::diagnosis::{Diagnosis, TakesEffect, diagnose_causes};
use crate::host::unit_settings::{LoadedSettings, from_answer, without_rehearsal};
use crate::incidents::local_time::{LocalTime, moment};
use crate::incidents::{Incident, Moment};
use crate::systemd::manager::{SystemdError, UnitProperties};
use crate::units::{Manager, Unit, UnitName};
use serde::Serialize;
use std::collections::HashMap;

/// The most units whose settings are looked up, unless all are to be shown.
pub(crate) const MOST_EXAMINED: usize = 256;

/// How long a denial may be older than a start that it belongs to, in milliseconds: the daemon stores counts about once
/// a second.
const COUNT_LAG: i64 = 2_000;

/// The state of a unit with denials, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum DenialState {
    /// It failed, or is started again automatically, and was denied a call since its latest start.
    Failing,
    /// The settings now permit the calls. They take effect at its next start.
    Restart,
    /// The files now permit the calls. The manager has not read them.
    Reload,
    /// It failed, and was denied nothing since its latest start.
    Failed,
    /// It runs, under settings that deny the calls.
    Running,
    /// It does not run.
    Inactive,
    /// The settings now permit the calls.
    Fixed,
    /// Its manager knows no such unit.
    Gone,
}

impl DenialState {
    /// Returns the word for people.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Failing => "failing",
            Self::Restart => "restart",
            Self::Reload => "reload",
            Self::Failed => "failed",
            Self::Running => "running",
            Self::Inactive => "inactive",
            Self::Fixed => "fixed",
            Self::Gone => "gone",
        }
    }
}

/// What a look at a unit showed.
#[derive(Debug, Clone, Default)]
pub(crate) struct ExaminedUnit {
    /// `None` if its manager does not answer, or for processes of an unknown unit.
    pub(crate) state: Option<DenialState>,
    /// The denied calls, newest first.
    pub(crate) calls: Vec<String>,
    /// The file and line of each deciding setting, or a word in its place, those of the newest denial first.
    pub(crate) decided_by: Vec<String>,
    /// The times of each incident, the newest first.
    pub(crate) times: Vec<IncidentTimes>,
}

/// When the denials of an incident were seen, RFC 3339. The times between the first and the latest are not stored.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct IncidentTimes {
    first: Option<String>,
    last: Option<String>,
    count: u64,
}

/// A unit's settings, and its denials explained by them.
#[derive(Debug)]
pub(crate) struct DiagnosedUnit {
    /// `None` if the manager was not asked, or for processes of an unknown unit.
    settings: Option<LoadedSettings>,
    pub(crate) diagnosis: Diagnosis,
}

/// Looks up units, newest first. Without `all`, asks the managers only about the first [`MOST_EXAMINED`].
pub(crate) async fn examine(
    context: &Context,
    units: &[Option<Unit>],
    incidents: Vec<Incident>,
    all: bool,
) -> Vec<ExaminedUnit> {
    let diagnosed = diagnose_units(context, units, incidents, all).await;
    let examine = |unit: DiagnosedUnit| ExaminedUnit::new(unit.settings.as_ref(), &unit.diagnosis, &local_time_now());
    diagnosed.into_iter().map(examine).collect()
}

/// Explains the denials of units as [`examine`] does.
pub(crate) async fn diagnose_units(
    context: &Context,
    units: &[Option<Unit>],
    incidents: Vec<Incident>,
    all: bool,
) -> Vec<DiagnosedUnit> {
    let mut by_unit: HashMap<Option<Unit>, Vec<Incident>> = HashMap::new();
    for incident in incidents {
        by_unit.entry(incident.key.unit.clone()).or_default().push(incident);
    }
    let most = if all { units.len() } else { MOST_EXAMINED };
    let mut answers = ask(context, units.iter().take(most).flatten()).await;
    let groups = context.groups();
    let mut diagnosed = Vec::new();
    for unit in units {
        let incidents = by_unit.remove(unit).unwrap_or_default();
        let answer = unit.as_ref().and_then(|unit| Some((unit, answers.remove(unit)?)));
        let settings = answer.map(|(unit, answer)| without_rehearsal(unit, from_answer(unit, answer, groups), groups));
        let situation = settings.as_ref().and_then(|settings| settings.situation.as_ref());
        let diagnosis = diagnose_causes(incidents, situation, groups);
        diagnosed.push(DiagnosedUnit { settings, diagnosis });
    }
    diagnosed
}

/// Asks each manager for the properties of its units.
async fn ask(
    context: &Context,
    units: impl Iterator<Item = &Unit>,
) -> HashMap<Unit, Result<UnitProperties, SystemdError>> {
    let mut by_manager: HashMap<Manager, Vec<UnitName>> = HashMap::new();
    for unit in units {
        by_manager.entry(unit.manager).or_default().push(unit.name.clone());
    }
    let mut answers = HashMap::new();
    for (manager, names) in by_manager {
        let found = match context.managers.connect(manager).await {
            Ok(running) => running.properties_of(&names).await,
            Err(error) => vec![Err(error); names.len()],
        };
        answers.extend(names.into_iter().map(|name| Unit { manager, name }).zip(found));
    }
    answers
}

impl ExaminedUnit {
    fn new(settings: Option<&LoadedSettings>, diagnosis: &Diagnosis, clock: &LocalTime) -> Self {
        let mut examined = Self::default();
        let add = |list: &mut Vec<String>, text: String| {
            if !list.contains(&text) {
                list.push(text);
            }
        };
        for finding in &diagnosis.findings {
            let call = finding.incident.call().map_or_else(|| "SIGSYS".to_owned(), ToString::to_string);
            add(&mut examined.calls, call);
            let Incident { first, last, count, .. } = &finding.incident;
            examined.times.push(IncidentTimes { first: moment(first), last: moment(last), count: *count });
            if settings.is_some() {
                add(&mut examined.decided_by, describe_decision(finding, clock));
            }
        }
        examined.state = settings.and_then(|settings| find_state(settings, diagnosis));
        examined
    }
}

/// Returns the state of a unit; `None` if its manager does not answer.
fn find_state(settings: &LoadedSettings, diagnosis: &Diagnosis) -> Option<DenialState> {
    if settings.is_gone {
        return Some(DenialState::Gone);
    }
    let properties = settings.properties.as_ref()?;
    let history = settings.situation.as_ref().and_then(|situation| situation.history.as_ref());
    let started = history.and_then(|history| history.started.or(history.activated));
    let newest = diagnosis.findings.iter().filter_map(|finding| match finding.incident.last {
        Moment::At(millis) => Some(millis),
        _ => None,
    });
    let is_since_start = newest.max().is_some_and(|last| started.is_none_or(|start| last + COUNT_LAG >= start));
    let has_failed = properties.active_state == "failed" || properties.sub_state == "auto-restart";
    let is_failing = has_failed && is_since_start;
    let takes_effect = |when: TakesEffect| diagnosis.settled().any(|takes| takes == when);
    Some(match () {
        () if diagnosis.is_settled() && takes_effect(TakesEffect::AfterReload) => DenialState::Reload,
        // A unit that failed before the change has to be started.
        () if diagnosis.is_settled() && (takes_effect(TakesEffect::AtNextStart) || is_failing) => DenialState::Restart,
        () if diagnosis.is_settled() => DenialState::Fixed,
        () if is_failing => DenialState::Failing,
        () if has_failed => DenialState::Failed,
        () if properties.is_running() => DenialState::Running,
        () => DenialState::Inactive,
    })
}
