//! The answer for one unit: its incidents, its settings in force, the diagnosis, and possible silent denials.

use super::context::Context;
use super::incident_source::{IncidentScope, UnitIncidents};
use super::silent_refusals;
use super::unit_names::{alias_note, managers_to_ask, query_own_name, resolve_alias};
use crate::audit::Note;
use crate::cli::views::answer::{Answer, RemedyView};
use crate::cli::views::remedy::add_exposure;
use crate::diagnosis::{Diagnosis, diagnose};
use crate::host::unit_settings;
use crate::host::unit_settings::LoadedSettings;
use crate::incidents::incident::by_unit;
use crate::operations::local_machine::LocalMachine;
use crate::operations::permission::may_change;
use crate::operations::refusal_logging::state::ActiveLogging;
use crate::units::{Manager, Unit, UnitName};

/// Whether calls may have been refused without a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SilentRefusals {
    /// Some may be missing from the incidents; the answer says so.
    Possible,
    /// A rehearsal recorded all of them.
    AllRecorded,
}

/// Answers for a unit with incidents.
pub(crate) async fn answer_for_unit(
    context: &Context,
    unit: &Unit,
    UnitIncidents { incidents, complete }: UnitIncidents,
    silent: SilentRefusals,
) -> Answer {
    let settings = unit_settings::load(&context.managers, unit, context.groups()).await;
    let LoadedSettings { situation, mut notes, properties, .. } = settings;
    notes.extend(truncation_note(complete));
    let diagnosis = diagnose(incidents, situation.as_ref(), context.groups());
    let mut answer =
        Answer::new(Some(unit), &diagnosis, situation.as_ref(), context.groups(), &context.local_time, notes);
    if let Some(situation) = situation.as_ref().filter(|_| silent == SilentRefusals::Possible) {
        let recording = ActiveLogging::find(LocalMachine::new(&context.managers), unit.manager).await;
        silent_refusals::describe(&mut answer, unit, situation, recording.as_ref(), &context.local_time);
    }
    if let (Some(properties), Some(situation)) = (properties, situation) {
        add_exposure(&mut answer.remedies, &properties, &situation);
    }
    answer.apply = apply_command(unit, &answer.remedies);
    answer
}

/// Answers for a name without incidents: explains why there may be denials nevertheless.
pub(crate) async fn answer_without_incidents(context: &Context, name: &UnitName, scope: IncidentScope) -> Answer {
    let empty = |unit: &Unit, notes: Vec<Note>| {
        let diagnosis: Diagnosis = diagnose(Vec::new(), None, context.groups());
        Answer::new(Some(unit), &diagnosis, None, context.groups(), &context.local_time, notes)
    };
    for manager in managers_to_ask(scope.managers) {
        let unit = Unit { manager, name: name.clone() };
        let settings = unit_settings::load(&context.managers, &unit, context.groups()).await;
        let Some(situation) = &settings.situation else { continue };
        let mut answer = empty(&unit, settings.notes);
        let recording = ActiveLogging::find(LocalMachine::new(&context.managers), unit.manager).await;
        silent_refusals::describe(&mut answer, &unit, situation, recording.as_ref(), &context.local_time);
        if manager == Manager::System {
            hide_denials(context, scope, &mut answer);
        }
        return answer;
    }
    let is_hidden = context.hidden_incidents_note(scope.managers).is_some();
    let text = if name.is_template() && is_hidden {
        format!("no instance of {name} has denials that you may see; 'harden-why' lists those that you may")
    } else if name.is_template() {
        format!("no instance of {name} has denials that are known; 'harden-why' lists what was seen")
    } else {
        format!("no manager asked knows a unit {name}: is the name right? 'harden-why' lists what was seen")
    };
    let unit = Unit { manager: Manager::System, name: name.clone() };
    let mut answer = Answer { manager: None, ..empty(&unit, vec![Note::new("unit-unknown", text)]) };
    hide_denials(context, scope, &mut answer);
    answer
}

/// Makes an answer say that its denials are hidden, if the caller may not see them.
fn hide_denials(context: &Context, scope: IncidentScope, answer: &mut Answer) {
    if let Some(note) = context.hidden_incidents_note(scope.managers) {
        answer.notes.insert(0, note);
        answer.is_hidden = true;
    }
}

/// Answers for processes whose unit is unknown.
///
/// # Errors
/// The incident source fails.
pub(crate) async fn answer_for_unknown_units(context: &Context, scope: IncidentScope) -> anyhow::Result<Answer> {
    let UnitIncidents { incidents, complete } = context.incidents.incidents(None, scope).await?;
    let notes = truncation_note(complete).into_iter().collect();
    let diagnosis = diagnose(incidents, None, context.groups());
    Ok(Answer::new(None, &diagnosis, None, context.groups(), &context.local_time, notes))
}

/// Answers for every unit of a name: several users can have one. A name without incidents may be an alias.
///
/// # Errors
/// The incident source fails.
pub(crate) async fn answers_for_name(
    context: &Context,
    name: &UnitName,
    scope: IncidentScope,
) -> anyhow::Result<Vec<Answer>> {
    let mut found = context.incidents.incidents(Some(name), scope).await?;
    let mut alias_of = None;
    if found.incidents.is_empty()
        && let Some(own) = resolve_alias(name, scope.managers, &context.managers).await
    {
        found = context.incidents.incidents(Some(&own), scope).await?;
        alias_of = Some(own);
    }
    let mut answers = Vec::new();
    if found.incidents.is_empty() {
        answers.push(answer_without_incidents(context, alias_of.as_ref().unwrap_or(name), scope).await);
    }
    let complete = found.complete;
    for (unit, incidents) in by_unit(found.incidents) {
        let Some(unit) = unit else { continue };
        let incidents = UnitIncidents { incidents, complete };
        answers.push(answer_for_unit(context, &unit, incidents, SilentRefusals::Possible).await);
    }
    let own_name = alias_of.as_ref().unwrap_or(name);
    if answers.iter().all(|answer| !answer.is_hidden)
        && let Some(note) = context.hidden_incidents_note(scope.managers)
        && query_own_name(own_name, Manager::System, &context.managers).await.is_some()
    {
        for answer in &mut answers {
            answer.notes.insert(0, note.clone());
        }
    }
    if let Some(own) = &alias_of {
        for answer in &mut answers {
            answer.notes.insert(0, alias_note(name, own));
        }
    }
    Ok(answers)
}

/// Returns the command that applies a remedy; `None` if the caller may not change the unit or there is no remedy.
fn apply_command(unit: &Unit, remedies: &[RemedyView]) -> Option<String> {
    let may = may_change(unit, nix::unistd::geteuid().as_raw()) && !remedies.is_empty();
    let which = if remedies.iter().any(|remedy| remedy.default) { "" } else { "--remedy N " };
    may.then(|| format!("harden-why apply {which}--restart {}{}", unit.manager.option(), unit.name))
}

/// Notes that the answer leaves out incidents.
fn truncation_note(complete: bool) -> Option<Note> {
    let text = "there are more denials than are shown here: narrow the question with --since";
    (!complete).then(|| Note::new("more-denials", text))
}
