//! Finds what a name stands for. A question about a timer, a socket or an umbrella unit passes to the units that run the
//! processes.

use super::context::Context;
use super::incident_source::{IncidentScope, ManagerScope};
use super::sighting_times::SightingTimes;
use super::similar_names::suggest;
use super::subject::{Subject, find_named};
use super::unit_names::{alias_note, managers_to_ask, resolve_alias};
use super::unit_words::{ChosenUnit, list_unit_files};
use crate::audit::Note;
use crate::audit::text::join;
use crate::cli::exit_status::UnknownUnitError;
use crate::host::unit_settings;
use crate::operations::outcome::{NoRights, NothingToDo};
use crate::systemd::manager::RelatedUnits;
use crate::units::{Manager, Unit, UnitName};
use anyhow::bail;
use std::collections::BTreeSet;

/// The longest chain: a timer that starts an umbrella service with parts.
const LONGEST: usize = 3;

/// The most units of a chain.
const MOST: usize = 64;

/// A unit at the end of a chain.
#[derive(Debug, Clone)]
struct ChainLink {
    name: UnitName,
    /// How the question led there, a sentence per step.
    steps: Vec<String>,
}

/// Finds what a name stands for: a unit with denials, the instances of a template, the unit of an alias, or the units
/// that a timer, socket or umbrella unit starts. Empty if none has denials.
///
/// # Errors
/// The incident source fails.
pub(crate) async fn find_subjects(
    context: &Context,
    name: &UnitName,
    scope: IncidentScope,
) -> anyhow::Result<Vec<Subject>> {
    let direct = find_named(context, name, scope).await?;
    if !direct.is_empty() {
        return Ok(direct);
    }
    if let Some(own) = resolve_alias(name, scope.managers, &context.managers).await {
        let mut subjects = find_named(context, &own, scope).await?;
        for subject in &mut subjects {
            subject.notes.insert(0, alias_note(name, &own));
        }
        if !subjects.is_empty() {
            return Ok(subjects);
        }
    }
    find_related(context, name, scope).await
}

/// Finds the one unit, or the one template, of a name that has denials.
///
/// # Errors
/// Nothing of the name has denials, or several units do.
pub(crate) async fn find_subject(context: &Context, chosen: &ChosenUnit) -> anyhow::Result<Subject> {
    let name = chosen.name.clone();
    let scope = IncidentScope { managers: chosen.managers, times: SightingTimes::default() };
    let mut subjects = find_subjects(context, &name, scope).await?;
    // A template stands for the instances that share its settings, not for those with settings of their own.
    if name.is_template() && subjects.iter().any(|subject| subject.template.is_some()) {
        subjects.retain(|subject| subject.template.is_some());
    }
    if let Some(hidden) = context.hidden_incidents_note(scope.managers).filter(|_| subjects.is_empty()) {
        bail!(NoRights(format!("no denials of {name} that you may see: {}", hidden.text)));
    }
    match (subjects.pop(), subjects.is_empty()) {
        (None, _) => {
            if !is_known(context, &name, scope).await {
                bail!(UnknownUnitError(describe_unknown_unit(context, &name, scope, false).await));
            }
            let (whose, flag) = match scope.managers {
                ManagerScope::User(_) => (format!(" of {}", scope.managers), "--user "),
                _ => (String::new(), ""),
            };
            bail!(NothingToDo(format!(
                "No denials of {name}{whose}, so there is nothing to do. 'harden-why {flag}{name}' shows whether it can be \
                refused calls silently."
            )))
        }
        (Some(one), true) => Ok(one),
        (Some(last), false) => {
            let names: BTreeSet<UnitName> =
                subjects.iter().chain([&last]).map(|subject| subject.named().name).collect();
            if let [name] = names.iter().collect::<Vec<_>>().as_slice() {
                bail!("several managers run a unit {name}: add --system, or --user for your own");
            }
            bail!(
                "{name} means several units with denials: name one of {}",
                join(names.iter().map(ToString::to_string))
            )
        }
    }
}

/// Returns the sentence that a unit was not found, and what may have been meant instead.
pub(crate) async fn describe_unknown_unit(
    context: &Context,
    name: &UnitName,
    scope: IncidentScope,
    may_be_verb: bool,
) -> String {
    let mut known = list_unit_files();
    let listed =
        context.incidents.units(IncidentScope { times: SightingTimes::default(), ..scope }).await.unwrap_or_default();
    known.extend(listed.into_iter().filter_map(|summary| Some(summary.unit?.name)));
    let question = suggest(name, &known, may_be_verb).map_or_else(String::new, |question| format!(" {question}"));
    format!("Unit {name} not found.{question}")
}

/// Returns whether a manager in scope, or a file of this machine, has a unit of the name.
async fn is_known(context: &Context, name: &UnitName, scope: IncidentScope) -> bool {
    for manager in managers_to_ask(scope.managers) {
        let unit = Unit { manager, name: name.clone() };
        if unit_settings::load(&context.managers, &unit, context.groups()).await.situation.is_some() {
            return true;
        }
    }
    false
}

/// Finds the units with denials that a unit starts or consists of, nearest first.
async fn find_related(context: &Context, name: &UnitName, scope: IncidentScope) -> anyhow::Result<Vec<Subject>> {
    let mut seen = BTreeSet::from([name.clone()]);
    let mut reached = vec![ChainLink { name: name.clone(), steps: Vec::new() }];
    for _ in 0..LONGEST {
        let mut next = Vec::new();
        for link in &reached {
            for manager in managers_to_ask(scope.managers) {
                let related = query_related(context, &link.name, manager).await;
                next.extend(links(link, &related).into_iter().filter(|link| seen.insert(link.name.clone())));
            }
        }
        next.truncate(MOST);
        let found = find_denied(context, &next, scope).await?;
        if !found.is_empty() || next.is_empty() {
            return if found.is_empty() { find_namesakes(context, name, scope).await } else { Ok(found) };
        }
        reached = next;
    }
    find_namesakes(context, name, scope).await
}

/// Returns the unit that runs the processes of a timer, socket or path, and the steps to it in words.
pub(crate) async fn find_triggered(
    context: &Context,
    name: &UnitName,
    scope: IncidentScope,
) -> Option<(UnitName, Vec<Note>)> {
    for manager in managers_to_ask(scope.managers) {
        let related = query_related(context, name, manager).await;
        if let [triggered] = related.triggers.as_slice() {
            let link = ChainLink { name: name.clone(), steps: Vec::new() };
            let link = links(&link, &related).into_iter().next()?;
            return Some((triggered.clone(), vec![note(&link)]));
        }
    }
    None
}

async fn query_related(context: &Context, name: &UnitName, manager: Manager) -> RelatedUnits {
    let related = async { context.managers.connect(manager).await?.related_units(name).await };
    // Without an answer, nothing is known of such units.
    related.await.unwrap_or_default()
}

fn links(from: &ChainLink, related: &RelatedUnits) -> Vec<ChainLink> {
    let link = |name: &UnitName, step: String| {
        let steps = from.steps.iter().cloned().chain([step]).collect();
        ChainLink { name: name.clone(), steps }
    };
    let started = related.triggers.iter().map(|name| link(name, format!("{} starts {name}", from.name)));
    let parts = related.parts.iter().map(|name| link(name, format!("{name} is part of {}", from.name)));
    started.chain(parts).collect()
}

async fn find_denied(context: &Context, links: &[ChainLink], scope: IncidentScope) -> anyhow::Result<Vec<Subject>> {
    let mut subjects = Vec::new();
    for link in links {
        for mut subject in find_named(context, &link.name, scope).await? {
            subject.notes.insert(0, note(link));
            subjects.push(subject);
        }
    }
    Ok(subjects)
}

fn note(link: &ChainLink) -> Note {
    Note::new("related-unit", link.steps.join(", and "))
}

/// Finds units with denials whose names say that they belong to the unit. The manager no longer knows of units that it
/// has unloaded.
async fn find_namesakes(context: &Context, name: &UnitName, scope: IncidentScope) -> anyhow::Result<Vec<Subject>> {
    let Some((stem, suffix)) = name.as_str().rsplit_once('.') else { return Ok(Vec::new()) };
    let has_trigger = matches!(suffix, "timer" | "socket" | "path");
    let service = has_trigger.then(|| format!("{stem}.service"));
    let template = (!stem.contains('@')).then(|| format!("{stem}@.service"));
    for candidate in service.into_iter().chain(template).filter_map(|name| name.parse::<UnitName>().ok()) {
        let mut subjects = find_named(context, &candidate, scope).await?;
        if !subjects.is_empty() {
            let text = format!("{name} has no denials; by its name, {candidate} belongs to it");
            for subject in &mut subjects {
                subject.notes.insert(0, Note::new("related-unit", text.clone()));
            }
            return Ok(subjects);
        }
    }
    Ok(Vec::new())
}
