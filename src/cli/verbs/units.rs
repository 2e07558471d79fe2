//! `harden-why UNIT…`: the answer for units of this machine.

use super::apply::{flag, may_change};
use super::explain::by_unit;
use super::log_refusals::Recording;
use crate::cli::NothingToDo;
use crate::cli::args::{Chosen, Cli, Units};
use crate::cli::lookup::incident_source::{Scope, Source};
use crate::cli::lookup::unit_names::{alias_note, instances, one_name, own_name, unit_name};
use crate::cli::lookup::{incident_source, silent_refusals};
use crate::cli::views::answer::{Answer, Clock, ExposureView, RemedyView, Report, SCHEMA, plural};
use crate::diagnosis::{Situation, diagnose};
use crate::host::unit_settings;
use crate::host::unit_settings::Known;
use crate::incidents::{Incident, Moment};
use crate::outlet::wire::Status;
use crate::syscalls::Groups;
use crate::systemd::bus_address::BusAddress;
use crate::systemd::manager::{Managers, UnitProperties};
use crate::systemd::{exposure_score, syscall_groups};
use crate::units::{Manager, Unit, UnitName};
use anyhow::bail;

/// Answers for each of the units.
///
/// # Errors
/// A name is none, a time is none, or there is nobody to ask.
pub(crate) async fn answer(cli: &Cli, clock: &Clock) -> anyhow::Result<Report> {
    let names: Vec<UnitName> = cli.units.units.iter().map(|name| unit_name(name)).collect::<Result<_, _>>()?;
    let scope = scope(&cli.units, clock)?;
    let (source, mut notes) = Source::open(&cli.common, &cli.units.source).await?;
    let loaded = syscall_groups::load();
    notes.extend(groups_note(&loaded));
    notes.extend(unheard(&source, clock).await);
    if cli.units.unknown {
        let units = vec![unknown(scope, &source, &loaded.groups, clock).await?];
        return Ok(Report { schema: SCHEMA, demo: None, units, log: None, notes });
    }
    let managers = managers(&cli.common.bus);
    let mut units = Vec::new();
    for name in &names {
        let meant = instances(name, &source, scope).await?;
        if meant.is_empty() {
            units.push(none_known(name, scope, &managers, &loaded.groups, clock).await);
        }
        for name in &meant {
            units.extend(of_name(name, scope, &source, &managers, &loaded.groups, clock).await?);
        }
    }
    Ok(Report { schema: SCHEMA, demo: None, units, log: None, notes })
}

/// The answer for processes whose unit is not known.
async fn unknown(scope: Scope, source: &Source, groups: &Groups, clock: &Clock) -> anyhow::Result<Answer> {
    let (incidents, all) = source.incidents(None, scope).await?;
    let notes = more(all).into_iter().collect();
    Ok(Answer::new(None, &diagnose(incidents, None, groups), None, groups, clock, notes))
}

/// That there is more than is shown.
fn more(all: bool) -> Option<String> {
    (!all).then(|| "there are more denials than are shown here: narrow the question with --since".to_owned())
}

/// The answers for every unit of a name: several users can have one.
async fn of_name(
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
    let Known { situation, mut notes, facts, .. } = unit_settings::live(managers, unit, groups).await;
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

/// The command that does what an answer proposes, for whom it would do it.
fn apply_command(unit: &Unit, remedies: &[RemedyView]) -> Option<String> {
    let may = may_change(unit, "apply").is_ok() && !remedies.is_empty();
    let which = if remedies.iter().any(|remedy| remedy.default) { "" } else { "--remedy N " };
    may.then(|| format!("harden-why apply {which}--restart {}{}", flag(unit), unit.name))
}

/// Adds what each remedy does to the unit's exposure, where it can be had of the files that the manager holds.
pub(crate) fn add_exposure(remedies: &mut [RemedyView], facts: &UnitProperties, situation: &Situation) {
    let Some(fragment) = facts.fragment.as_ref().filter(|_| !facts.need_daemon_reload && !remedies.is_empty()) else {
        return;
    };
    let contents: Vec<&str> = remedies.iter().map(|remedy| remedy.content.as_str()).collect();
    let levels = exposure_score::of(&facts.id, fragment, &facts.dropins, &situation.drop_in, &contents);
    let Some((before, after)) = levels.as_deref().and_then(<[f64]>::split_first) else { return };
    for (remedy, after) in remedies.iter_mut().zip(after) {
        remedy.exposure = Some(ExposureView { before: *before, after: *after });
    }
}

/// The answer where nothing was seen: why that need not mean that nothing was denied.
async fn none_known(name: &UnitName, scope: Scope, managers: &Managers, groups: &Groups, clock: &Clock) -> Answer {
    let mut found = None;
    for manager in managers_of(scope.managers) {
        let unit = Unit { manager, name: name.clone() };
        let known = unit_settings::live(managers, &unit, groups).await;
        if known.situation.is_some() {
            found = Some((unit, known));
            break;
        }
    }
    let Some((unit, Known { situation, notes, .. })) = found else {
        let note = if name.is_template() {
            format!("no instance of {name} has denials that are known; 'harden-why' lists what was seen")
        } else {
            format!("no manager asked knows a unit {name}: is the name right? 'harden-why' lists what was seen")
        };
        let notes = vec![note];
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

/// The managers that are asked of a unit without denials, of those that may be.
pub(crate) fn managers_of(asked: incident_source::Managers) -> Vec<Manager> {
    let own = Manager::User(nix::unistd::geteuid().as_raw());
    match asked {
        incident_source::Managers::System => vec![Manager::System],
        incident_source::Managers::Users => vec![own],
        incident_source::Managers::All => vec![Manager::System, own],
    }
}

/// The one unit of the name that has denials, and those.
pub(crate) async fn one_unit(
    source: &Source,
    chosen: &Chosen,
    managers: &Managers,
) -> anyhow::Result<(Unit, Vec<Incident>)> {
    let name = one_name(&chosen.unit)?;
    let scope = Scope { managers: incident_source::Managers::of(chosen.system, chosen.user), since: None };
    let (mut incidents, _) = source.incidents(Some(&name), scope).await?;
    if incidents.is_empty()
        && let Some(own) = own_name(&name, scope.managers, managers).await
    {
        (incidents, _) = source.incidents(Some(&own), scope).await?;
    }
    let mut units: Vec<(Unit, Vec<Incident>)> =
        by_unit(incidents).into_iter().filter_map(|(unit, incidents)| Some((unit?, incidents))).collect();
    let me = Manager::User(nix::unistd::geteuid().as_raw());
    if chosen.user {
        units.retain(|(unit, _)| unit.manager == me);
    }
    match (units.pop(), units.is_empty()) {
        (None, _) => bail!(NothingToDo(format!(
            "no denials of {name} are known, so there is nothing to go by; 'harden-why {name}' tells whether it can be \
             denied calls without a record"
        ))),
        (Some(one), true) => Ok(one),
        (Some(_), false) => {
            bail!("several managers run a unit of the name {name}: say --system, or --user for your own")
        }
    }
}

/// What the options narrow the question to.
pub(crate) fn scope(units: &Units, clock: &Clock) -> anyhow::Result<Scope> {
    let managers = incident_source::Managers::of(units.system, units.user);
    Ok(Scope { managers, since: crate::cli::since(units.since.as_deref(), clock)? })
}

/// What keeps the source from knowing everything.
pub(crate) async fn unheard(source: &Source, clock: &Clock) -> Vec<String> {
    source.status().await.map_or_else(Vec::new, |status| hearing_notes(&status, clock))
}

/// What keeps the daemon from having seen everything.
pub(crate) fn hearing_notes(status: &Status, clock: &Clock) -> Vec<String> {
    let mut notes = Vec::new();
    if status.lost > 0 {
        notes.push(format!(
            "{} audit events were lost since harden-whyd started: there may have been more denials",
            status.lost
        ));
    }
    if status.overruns > 0 {
        let times = plural(status.overruns, "time");
        notes.push(format!(
            "the receive buffer overran {times} since harden-whyd started: there may have been more denials"
        ));
    }
    if status.malformed > 0 {
        let records = plural(status.malformed, "record");
        notes
            .push(format!("{records} since harden-whyd started were not understood: there may have been more denials"));
    }
    let always = crate::host::blind_spots::always().to_string();
    let limits: Vec<String> = status
        .limitations
        .iter()
        .filter(|limit| **limit != always)
        .map(|limit| crate::audit::text::escape(limit.as_bytes()))
        .collect();
    if !limits.is_empty() {
        notes.push(format!("harden-whyd cannot see or do everything here: {}", limits.join(". Also: ")));
    }
    if status.given_way > 0 {
        notes.push(format!(
            "{} sightings were lost since harden-whyd started: more different denials came than could be stored",
            status.given_way
        ));
    }
    if status.forgotten > 0 {
        let last = status.forgotten_last.and_then(|last| clock.show(&Moment::At(last)));
        let last = last.map_or_else(String::new, |last| format!(", last seen until {last}"));
        notes.push(format!(
            "the store was full: of all units, {}{last}, had to give way, the oldest and rarest first",
            plural(status.forgotten, "denial")
        ));
    }
    if let Some(error) = &status.store_error {
        notes.push(format!("harden-whyd cannot write its store: {}", crate::audit::text::escape(error.as_bytes())));
    }
    notes
}

/// Whose groups these are, where they are not the host's.
pub(crate) fn groups_note(loaded: &syscall_groups::LoadedGroups) -> Option<String> {
    let why = loaded.note.as_ref()?;
    let crate::syscalls::groups::GroupSource::Embedded(version) = loaded.groups.source() else { return None };
    Some(format!("the groups of system calls are systemd {version}'s, not this machine's: {why}"))
}

/// The managers of the machine whose bus was named.
pub(crate) fn managers(bus: &BusAddress) -> Managers {
    Managers::new(bus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_limits_the_answer_is_said_and_what_is_so_everywhere_is_not() {
        let clock = crate::cli::verbs::explain::clock();
        let always = crate::host::blind_spots::always().to_string();
        let sound = Status { limitations: vec![always.clone()], ..Status::default() };
        assert!(hearing_notes(&sound, &clock).is_empty());
        let limitations = vec!["deaf: \u{1b}; mend it".to_owned(), always, "blind: so; there".to_owned()];
        let status = Status { overruns: 2, malformed: 1, limitations, ..Status::default() };
        let notes = hearing_notes(&status, &clock);
        assert_eq!(notes.len(), 3, "{notes:?}");
        assert!(notes[0].contains("overran 2 times") && notes[1].starts_with("1 record since"), "{notes:?}");
        assert!(notes[2].ends_with(": deaf: \\x1b; mend it. Also: blind: so; there"), "{notes:?}");
    }
}
