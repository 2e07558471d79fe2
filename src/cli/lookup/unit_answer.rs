//! unit_answer.

use crate::audit::Note;
use crate::cli::lookup::caveats::more;
use crate::cli::lookup::incident_source::{Scope, Source};
use crate::cli::lookup::silent_refusals;
use crate::cli::lookup::unit_names::{alias_note, managers_of, own_name};
use crate::cli::verbs::log_refusals::Recording;
use crate::cli::views::answer::{Answer, RemedyView};
use crate::cli::views::remedy::add_exposure;
use crate::diagnosis::diagnose;
use crate::host::unit_settings;
use crate::host::unit_settings::LoadedSettings;
use crate::incidents::Incident;
use crate::incidents::incident::by_unit;
use crate::incidents::local_time::Clock;
use crate::operations::permission::may_change;
use crate::syscalls::Groups;
use crate::systemd::manager::Managers;
use crate::units::{Manager, Unit, UnitName};

/// The answer for a unit whose incidents these are, and whether those are all; of what leaves no record there can be
/// others, unless the unit was rehearsed.
pub(crate) async fn of_unit(
    unit: &Unit,
    (incidents, all): (Vec<Incident>, bool),
    can_be_silent: bool,
    managers: &Managers,
    groups: &Groups,
    clock: &Clock,
) -> Answer {
    let LoadedSettings { situation, mut notes, properties: facts, .. } =
        unit_settings::load(managers, unit, groups).await;
    notes.extend(more(all));
    let diagnosis = diagnose(incidents, situation.as_ref(), groups);
    let mut answer = Answer::new(Some(unit), &diagnosis, situation.as_ref(), groups, clock, notes);
    if let Some(situation) = situation.as_ref().filter(|_| can_be_silent) {
        let recording = Recording::of(managers, unit.manager).await;
        silent_refusals::tell(&mut answer, unit, situation, recording.as_ref(), clock);
    }
    if let (Some(facts), Some(situation)) = (facts, situation) {
        add_exposure(&mut answer.remedies, &facts, &situation);
    }
    answer.apply = apply_command(unit, &answer.remedies);
    answer
}

/// The answer where nothing was seen: why that need not mean that nothing was denied.
pub(crate) async fn none_known(
    name: &UnitName,
    scope: Scope,
    managers: &Managers,
    groups: &Groups,
    clock: &Clock,
) -> Answer {
    let mut found = None;
    for manager in managers_of(scope.managers) {
        let unit = Unit { manager, name: name.clone() };
        let known = unit_settings::load(managers, &unit, groups).await;
        if known.situation.is_some() {
            found = Some((unit, known));
            break;
        }
    }
    let Some((unit, LoadedSettings { situation, notes, .. })) = found else {
        let note = if name.is_template() {
            format!("no instance of {name} has denials that are known; 'harden-why' lists what was seen")
        } else {
            format!("no manager asked knows a unit {name}: is the name right? 'harden-why' lists what was seen")
        };
        let notes = vec![Note::new("unit-unknown", note)];
        let unit = Unit { manager: Manager::System, name: name.clone() };
        return Answer {
            manager: None,
            ..Answer::new(Some(&unit), &diagnose(Vec::new(), None, groups), None, groups, clock, notes)
        };
    };
    let mut answer = Answer::new(Some(&unit), &diagnose(Vec::new(), None, groups), None, groups, clock, notes);
    if let Some(situation) = &situation {
        let recording = Recording::of(managers, unit.manager).await;
        silent_refusals::tell(&mut answer, &unit, situation, recording.as_ref(), clock);
    }
    answer
}

/// The answer for processes whose unit is not known.
pub(crate) async fn unknown(scope: Scope, source: &Source, groups: &Groups, clock: &Clock) -> anyhow::Result<Answer> {
    let (incidents, all) = source.incidents(None, scope).await?;
    let notes = more(all).into_iter().collect();
    Ok(Answer::new(None, &diagnose(incidents, None, groups), None, groups, clock, notes))
}

/// The command that does what an answer proposes, for whom it would do it.
pub(crate) fn apply_command(unit: &Unit, remedies: &[RemedyView]) -> Option<String> {
    let may = may_change(unit, "apply").is_ok() && !remedies.is_empty();
    let which = if remedies.iter().any(|remedy| remedy.default) { "" } else { "--remedy N " };
    may.then(|| format!("harden-why apply {which}--restart {}{}", unit.manager.option(), unit.name))
}

/// The answers for every unit of a name: several users can have one.
pub(crate) async fn of_name(
    name: &UnitName,
    scope: Scope,
    source: &Source,
    managers: &Managers,
    groups: &Groups,
    clock: &Clock,
) -> anyhow::Result<Vec<Answer>> {
    let (mut incidents, mut all) = source.incidents(Some(name), scope).await?;
    let mut alias = None;
    if incidents.is_empty()
        && let Some(own) = own_name(name, scope.managers, managers).await
    {
        (incidents, all) = source.incidents(Some(&own), scope).await?;
        alias = Some(own);
    }
    let mut answers = Vec::new();
    if incidents.is_empty() {
        answers.push(none_known(alias.as_ref().unwrap_or(name), scope, managers, groups, clock).await);
    }
    for (unit, incidents) in by_unit(incidents) {
        let Some(unit) = unit else { continue };
        answers.push(of_unit(&unit, (incidents, all), true, managers, groups, clock).await);
    }
    if let Some(own) = &alias {
        for answer in &mut answers {
            answer.notes.insert(0, alias_note(name, own));
        }
    }
    Ok(answers)
}
