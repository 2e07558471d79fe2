//! The answer for one unit: its incidents, its settings in force, the diagnosis, and possible silent denials.

use super::call_sites::add_call_sites;
use super::context::Context;
use super::dumped_callers::add_dumped_callers;
use super::incident_source::{IncidentScope, UnitIncidents};
use super::read_only::describe_read_only;
use super::sighting_times::SightingTimes;
use super::silent_refusals;
use super::source_lines::add_source_lines;
use super::subject::{Subject, find_instances};
use super::subject_search::{describe_unknown_unit, find_subjects, find_triggered};
use super::transient::describe_transient;
use super::unit_failure::find_unit_failure;
use super::unit_names::{alias_note, managers_to_ask, query_own_name, resolve_alias};
use crate::audit::Note;
use crate::audit::note::put_root_causes_first;
use crate::audit::text::plural;
use crate::cli::terminal::clock::local_time_now;
use crate::cli::views::answer::{Answer, DenialView, RemedyView, restart_command};
use crate::cli::views::remedy::add_exposure;
use crate::cli::views::unit_effects::effect_notes;
use crate::diagnosis::{Diagnosis, Remedy, Reservation, TakesEffect, diagnose};
use crate::host::filter_in_force::find_missing_filter;
use crate::host::known_paths::add_known_paths;
use crate::host::program_files::read_programs;
use crate::host::unit_settings;
use crate::host::unit_settings::LoadedSettings;
use crate::operations::local_machine::LocalMachine;
use crate::operations::permission::{may_change, owner_command};
use crate::operations::refusal_logging::state::ActiveLogging;
use crate::systemd::manager::UnitProperties;
use crate::units::{Manager, Unit, UnitName};
use std::path::Path;

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
    found: UnitIncidents,
    silent: SilentRefusals,
) -> Answer {
    let subject = Subject { unit: unit.clone(), template: None, found, notes: Vec::new() };
    answer_for_subject(context, subject, silent).await
}

/// Answers for a unit, or for the instances of a template.
pub(crate) async fn answer_for_subject(context: &Context, subject: Subject, silent: SilentRefusals) -> Answer {
    let named = subject.named();
    let Subject { unit, template, found: UnitIncidents { mut incidents, complete }, notes: mut all_notes } = subject;
    let unit = &unit;
    add_dumped_callers(&mut incidents);
    let settings = unit_settings::load(&context.managers, unit, context.groups()).await;
    all_notes.extend(find_missing_filter(&context.managers, unit, &settings).await);
    let LoadedSettings { mut situation, notes, properties, .. } = settings;
    if let Some(situation) = &mut situation {
        read_programs(situation, unit.manager, Path::new("/"), &incidents);
        add_known_paths(situation, Path::new("/"), &incidents);
    }
    all_notes.extend(notes);
    all_notes.extend(truncation_note(complete));
    let diagnosis = diagnose(incidents, situation.as_ref(), context.groups());
    let mut answer =
        Answer::new(Some(&named), &diagnosis, situation.as_ref(), context.groups(), &local_time_now(), all_notes);
    add_source_lines(&mut answer, &diagnosis, Path::new("/"));
    add_call_sites(&mut answer, &diagnosis, Path::new("/"), context.packages);
    answer.judge_elsewhere(&context.machines, &diagnosis, situation.as_ref(), context.groups());
    let instances = template.map_or_else(Vec::new, |instances| instances.names);
    answer.describe_instances(&named, &instances);
    answer.notes.extend(template_note(&named, &diagnosis));
    if let Some(situation) = situation.as_ref().filter(|_| silent == SilentRefusals::Possible) {
        let recording = ActiveLogging::find(LocalMachine::new(&context.managers), unit.manager).await;
        let runs = properties.as_ref().is_none_or(UnitProperties::is_running);
        silent_refusals::describe(&mut answer, &named, situation, runs, recording.as_ref(), &local_time_now());
    }
    let is_restarted = instances.is_empty() || !instances.iter().all(UnitName::is_per_connection);
    answer.apply = apply_command(&named, &answer.remedies, is_restarted, &context.store_option());
    let is_single = silent == SilentRefusals::Possible && instances.is_empty();
    answer.rehearse = rehearse_command(&named, &answer).filter(|_| is_single);
    if let Some(arguments) = &mut answer.arguments {
        arguments.command = owner_command(named.manager, &arguments.command);
    }
    answer.restart = activation_command(&named, &diagnosis, properties.as_ref());
    if let (Some(properties), Some(situation)) = (properties, situation) {
        add_exposure(&mut answer.remedies, &properties, &situation);
        if properties.transient {
            answer.rehearse = None;
            describe_transient(&mut answer, unit, &diagnosis, (&situation, &properties), context.groups());
        } else {
            describe_read_only(&mut answer, unit.manager, &diagnosis.remedies, &situation);
        }
    }
    put_root_causes_first(&mut answer.notes);
    answer
}

/// Answers for a name without incidents: explains why there may be denials nevertheless.
pub(crate) async fn answer_without_incidents(context: &Context, name: &UnitName, scope: IncidentScope) -> Answer {
    let empty = |unit: &Unit, notes: Vec<Note>| {
        let diagnosis: Diagnosis = diagnose(Vec::new(), None, context.groups());
        Answer::new(Some(unit), &diagnosis, None, context.groups(), &local_time_now(), notes)
    };
    for manager in managers_to_ask(scope.managers) {
        let unit = Unit { manager, name: name.clone() };
        let settings = unit_settings::load(&context.managers, &unit, context.groups()).await;
        let Some(situation) = &settings.situation else { continue };
        let missing = find_missing_filter(&context.managers, &unit, &settings).await;
        let mut answer = empty(&unit, missing.into_iter().chain(settings.notes.iter().cloned()).collect());
        let recording = ActiveLogging::find(LocalMachine::new(&context.managers), unit.manager).await;
        let runs = settings.properties.as_ref().is_none_or(UnitProperties::is_running);
        silent_refusals::describe(&mut answer, &unit, situation, runs, recording.as_ref(), &local_time_now());
        let has_failed = settings.properties.as_ref().is_some_and(|found| found.active_state == "failed");
        let (effects, lack) = effect_notes(name, situation, context.groups());
        answer.notes.extend(effects);
        answer.nothing = describe_no_denials(context, name, scope).await;
        match lack {
            // Something else than the unit's settings may have killed it.
            Some(lack) if has_failed => answer.notes.push(lack),
            Some(_) => answer.nothing.push_str(" The unit has no system call filter that kills."),
            None => {}
        }
        if has_failed {
            answer.nothing = format!("It failed, and not by a known denial. {}", answer.nothing);
        }
        answer.failure = find_unit_failure(context, &unit, &settings).await;
        if manager == Manager::System {
            hide_denials(context, scope, &mut answer);
        }
        return answer;
    }
    let text = describe_unknown_unit(context, name, scope, true).await;
    let notes = vec![Note::new("unit-unknown", text)];
    let unit = Unit { manager: Manager::System, name: name.clone() };
    let mut answer = Answer { manager: None, is_unknown: true, ..empty(&unit, notes) };
    hide_denials(context, scope, &mut answer);
    answer
}

/// Says that a unit has no denials, or none from when to when the user asked for.
async fn describe_no_denials(context: &Context, name: &UnitName, scope: IncidentScope) -> String {
    let any_time = IncidentScope { times: SightingTimes::default(), ..scope };
    if scope.times != SightingTimes::default()
        && let Ok(found) = context.incidents.incidents(Some(name), any_time).await
        && !found.incidents.is_empty()
    {
        let others = plural(found.incidents.len() as u64, "denial");
        return format!("No denials in this time; {others} before or after it (--since, --until, --boot).");
    }
    context.describe_no_denials()
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
pub(crate) async fn answer_for_unknown_units(
    context: &Context,
    scope: IncidentScope,
    most: Option<u32>,
) -> anyhow::Result<Answer> {
    let mut found = context.incidents.incidents(None, scope).await?;
    let older = found.keep_latest(most);
    let UnitIncidents { incidents, complete } = found;
    let notes = truncation_note(complete).into_iter().chain(older).collect();
    let diagnosis = diagnose(incidents, None, context.groups());
    let mut answer = Answer::new(None, &diagnosis, None, context.groups(), &local_time_now(), notes);
    add_call_sites(&mut answer, &diagnosis, Path::new("/"), context.packages);
    Ok(answer)
}

/// Answers for every unit of a name: several users can have one. A name without incidents may be an alias. `most` limits
/// the denials of each answer.
///
/// # Errors
/// The incident source fails.
pub(crate) async fn answers_for_name(
    context: &Context,
    name: &UnitName,
    scope: IncidentScope,
    most: Option<u32>,
) -> anyhow::Result<Vec<Answer>> {
    let mut subjects = find_subjects(context, name, scope).await?;
    let mut answers = Vec::new();
    if subjects.is_empty() {
        let (own, notes) = find_own_name(context, name, scope).await;
        let mut answer = answer_without_incidents(context, &own, scope).await;
        answer.notes.splice(0..0, notes);
        answers.push(answer);
    }
    for subject in &mut subjects {
        let older = subject.found.keep_latest(most);
        subject.notes.extend(older);
    }
    for subject in subjects {
        answers.push(answer_for_subject(context, subject, SilentRefusals::Possible).await);
    }
    if answers.iter().all(|answer| !answer.is_hidden)
        && let Some(note) = context.hidden_incidents_note(scope.managers)
        && query_own_name(name, Manager::System, &context.managers).await.is_some()
    {
        for answer in &mut answers {
            answer.notes.insert(0, note.clone());
        }
    }
    for answer in &mut answers {
        put_root_causes_first(&mut answer.notes);
    }
    Ok(answers)
}

/// Returns the name of the unit that runs the processes, for a name without incidents: that of an alias, or of the unit
/// that a timer, socket or path starts.
async fn find_own_name(context: &Context, name: &UnitName, scope: IncidentScope) -> (UnitName, Vec<Note>) {
    if let Some(own) = resolve_alias(name, scope.managers, &context.managers).await {
        let note = alias_note(name, &own);
        return (own, vec![note]);
    }
    find_triggered(context, name, scope).await.unwrap_or_else(|| (name.clone(), Vec::new()))
}

/// Answers for several instances of a template: those that share the template's settings have one answer.
///
/// # Errors
/// The incident source fails.
pub(crate) async fn answers_for_instances(
    context: &Context,
    template: &UnitName,
    names: &[UnitName],
    scope: IncidentScope,
    most: Option<u32>,
) -> anyhow::Result<Vec<Answer>> {
    let is_asked = |unit: &Unit| names.contains(&unit.name);
    let mut subjects = find_instances(context, template, scope, is_asked).await?;
    subjects.retain(|subject| subject.template.as_ref().is_some_and(|shared| shared.names.len() > 1));
    let shared: Vec<UnitName> = subjects
        .iter()
        .filter_map(|subject| subject.template.as_ref())
        .flat_map(|shared| shared.names.clone())
        .collect();
    let mut answers = Vec::new();
    for mut subject in subjects {
        let older = subject.found.keep_latest(most);
        subject.notes.extend(older);
        answers.push(answer_for_subject(context, subject, SilentRefusals::Possible).await);
    }
    for name in names.iter().filter(|name| !shared.contains(name)) {
        answers.extend(answers_for_name(context, name, scope, most).await?);
    }
    Ok(answers)
}

/// Notes that the drop-in of the default remedy concerns more units than the one named.
fn template_note(named: &Unit, diagnosis: &Diagnosis) -> Option<Note> {
    let template = named.name.template_name()?;
    let is_shared = |remedy: &Remedy| remedy.drop_in.parent().is_some_and(|dir| dir.ends_with(format!("{template}.d")));
    let text = format!(
        "{} is an instance of {template}, and a line of the template denied the call: the drop-in is for all \
        instances",
        named.name
    );
    diagnosis.remedies.iter().any(is_shared).then(|| Note::new("template", text))
}

/// Returns the command that applies a remedy; `None` if the caller may not change the unit or there is no remedy. With
/// the option `store`, it reads the incidents from where the answer read them.
pub(crate) fn apply_command(unit: &Unit, remedies: &[RemedyView], is_restarted: bool, store: &str) -> Option<String> {
    let may = may_change(unit, nix::unistd::geteuid().as_raw()) && !remedies.is_empty();
    let which = if remedies.iter().any(|remedy| remedy.default) { "" } else { "--remedy N " };
    let restart = if is_restarted { "--restart " } else { "" };
    let command = || format!("harden-why apply {which}{restart}{store}{}", unit.to_arguments());
    may.then(|| owner_command(unit.manager, &command()))
}

/// Returns the command that finds every denial in one restart; `None` if the caller may not change the unit, a denial may
/// show an intrusion, the unit is no service, or fewer than two further denials are expected and no remedy went before.
fn rehearse_command(unit: &Unit, answer: &Answer) -> Option<String> {
    let is_service = unit.name.suffix() == "service" && !unit.name.is_template();
    let is_intrusion = |denial: &DenialView| denial.reservation == Some(Reservation::PossibleIntrusion.as_str());
    let is_useful = answer.apply.is_some() && (answer.expected_denials.is_some() || answer.follows_remedy);
    (is_service && is_useful && !answer.denials.iter().any(is_intrusion))
        .then(|| owner_command(unit.manager, &format!("harden-why rehearse --apply {}", unit.to_arguments())))
}

/// Returns the command that puts changed settings into force which settle all denials, or that starts a unit which
/// failed before; `None` if nothing waits for a command, or the caller may not change the unit.
fn activation_command(unit: &Unit, diagnosis: &Diagnosis, properties: Option<&UnitProperties>) -> Option<String> {
    let takes = |when: TakesEffect| diagnosis.settled().any(|takes| takes == when);
    let is_waiting = diagnosis.is_settled() && may_change(unit, nix::unistd::geteuid().as_raw());
    let has_failed = properties.is_some_and(|properties| properties.active_state == "failed");
    let restart = restart_command(unit);
    let command = match () {
        () if !is_waiting => return None,
        () if takes(TakesEffect::AfterReload) => {
            let reload = owner_command(unit.manager, &unit.manager.systemctl("daemon-reload"));
            return Some(format!("{reload} && {}", owner_command(unit.manager, &restart)));
        }
        () if takes(TakesEffect::AtNextStart) => restart,
        () if has_failed => unit.systemctl("start"),
        () => return None,
    };
    Some(owner_command(unit.manager, &command))
}

/// Notes that the answer leaves out incidents.
fn truncation_note(complete: bool) -> Option<Note> {
    let text = "there are more denials than shown here: narrow the answer with --since";
    (!complete).then(|| Note::new("more-denials", text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::lookup::log_incidents::{LogQuestion, read_incidents};
    use crate::cli::lookup::log_input::open_log;
    use crate::incidents::local_time::LocalTime;
    use crate::syscalls::Groups;
    use std::path::PathBuf;

    /// Returns the answer for the unit of a golden case, as for a caller who may change it.
    fn answer(case: &str, name: &str) -> Answer {
        let case = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(case);
        let (root, log) = (case.join("root"), case.join("log"));
        let unit = Unit { manager: Manager::System, name: name.parse().unwrap() };
        let question = LogQuestion {
            root: Some(root.clone()),
            file: log.clone(),
            assumed: Some(unit.name.clone()),
            ..LogQuestion::default()
        };
        let incidents = read_incidents(&mut *open_log(&log).unwrap(), &question).unwrap().incidents;
        let groups = Groups::embedded();
        let situation = unit_settings::from_files(&root, &unit, None, &groups).situation;
        let diagnosis = diagnose(incidents, situation.as_ref(), &groups);
        let time = LocalTime { now: None, zone: jiff::tz::TimeZone::UTC };
        let mut answer = Answer::new(Some(&unit), &diagnosis, situation.as_ref(), &groups, &time, Vec::new());
        answer.apply = Some("harden-why apply --restart web.service".to_owned());
        answer
    }

    fn command(name: &str, answer: &Answer) -> Option<String> {
        rehearse_command(&Unit { manager: Manager::System, name: name.parse().unwrap() }, answer)
    }

    #[test]
    fn rehearsal_is_suggested_for_services_with_further_denials_that_the_caller_may_change() {
        let mut found = answer("owner-excludes", "probe.service");
        found.expected_denials = Some(2);
        assert_eq!(
            command("web.service", &found).as_deref(),
            Some(owner_command(Manager::System, "harden-why rehearse --apply web.service").as_str())
        );
        for other in ["web@.service", "web.socket", "web.timer"] {
            assert_eq!(command(other, &found), None, "{other}");
        }
        found.expected_denials = None;
        assert_eq!(command("web.service", &found), None, "no further denials");
        found.follows_remedy = true;
        assert_eq!(
            command("web.service", &found).as_deref(),
            Some(owner_command(Manager::System, "harden-why rehearse --apply web.service").as_str())
        );
        found.follows_remedy = false;
        found.expected_denials = Some(2);
        found.apply = None;
        assert_eq!(command("web.service", &found), None, "not the caller's to change");
    }

    #[test]
    fn rehearsal_is_never_suggested_where_a_denial_may_show_an_intrusion() {
        let mut found = answer("possible-intrusion", "web.service");
        assert_eq!(found.expected_denials, None, "{:?}", found.denials);
        found.expected_denials = Some(9);
        found.follows_remedy = true;
        assert_eq!(command("web.service", &found), None);
    }
}
