//! The units that an answer is about: one unit, or all instances of a template that share its settings.

use super::context::Context;
use super::incident_source::{IncidentScope, UnitIncidents};
use super::unit_names::is_named_by;
use crate::audit::Note;
use crate::diagnosis::find_instance_of;
use crate::host::unit_settings;
use crate::incidents::Incident;
use crate::incidents::incident::{by_unit, merge_units, newest};
use crate::policy::{Directive, Settings};
use crate::unit_files;
use crate::units::{Unit, UnitName};
use std::path::Path;

/// The most instances of a template in an answer.
const MOST_INSTANCES: usize = 500;

/// The denials that one answer is about.
#[derive(Debug)]
pub(crate) struct Subject {
    /// The unit whose settings count: of a template, the instance with the newest denial.
    pub(crate) unit: Unit,
    /// The instances, if the answer is about a template.
    pub(crate) template: Option<Instances>,
    /// The denials, newest first; the same denial of several instances is one.
    pub(crate) found: UnitIncidents,
    /// How the question led here.
    pub(crate) notes: Vec<Note>,
}

/// The instances of a template with denials.
#[derive(Debug)]
pub(crate) struct Instances {
    /// The template.
    pub(crate) template: UnitName,
    /// The instance with the newest denial first.
    pub(crate) names: Vec<UnitName>,
}

impl Subject {
    /// Returns the unit, or the template with the unit's manager.
    pub(crate) fn named(&self) -> Unit {
        let name = self.template.as_ref().map_or(&self.unit.name, |instances| &instances.template);
        Unit { manager: self.unit.manager, name: name.clone() }
    }
}

/// Finds the units with denials that a name itself names. A connection's instance stands for its template, since no
/// later connection has its name.
pub(crate) async fn find_named(
    context: &Context,
    name: &UnitName,
    scope: IncidentScope,
) -> anyhow::Result<Vec<Subject>> {
    if name.is_template() {
        return find_instances(context, name, scope, |_| true).await;
    }
    let UnitIncidents { incidents, complete } = context.incidents.incidents(Some(name), scope).await?;
    let template = name.template_name().filter(|_| name.is_per_connection() && !incidents.is_empty());
    if let Some(template) = template {
        let mut subjects = find_instances(context, &template, scope, |_| true).await?;
        let text = format!("{name} served one connection, so the answer is for all instances of {template}");
        for subject in &mut subjects {
            subject.notes.push(Note::new("template", text.clone()));
        }
        return Ok(subjects);
    }
    let units = by_unit(incidents).into_iter().filter_map(|(unit, incidents)| Some((unit?, incidents)));
    let subject = |(unit, incidents): (Unit, Vec<Incident>)| {
        let notes = Vec::new();
        Subject { unit, template: None, found: UnitIncidents { incidents, complete }, notes }
    };
    Ok(units.map(subject).collect())
}

/// Finds the instances of a template with denials that `is_asked` accepts: one subject for those that share the template's
/// settings, and one for each with settings of its own.
///
/// # Errors
/// The incident source fails.
pub(crate) async fn find_instances(
    context: &Context,
    template: &UnitName,
    scope: IncidentScope,
    is_asked: impl Fn(&Unit) -> bool,
) -> anyhow::Result<Vec<Subject>> {
    let listed = context.incidents.units(scope).await?.into_iter().filter_map(|summary| summary.unit);
    let mut units: Vec<Unit> = listed.filter(|unit| is_named_by(template, &unit.name) && is_asked(unit)).collect();
    let mut is_complete = units.len() <= MOST_INSTANCES;
    units.truncate(MOST_INSTANCES);
    let mut shared: Vec<(Option<Unit>, Vec<Incident>)> = Vec::new();
    let mut subjects: Vec<Subject> = Vec::new();
    for unit in units {
        let mut found = context.incidents.incidents(Some(&unit.name), scope).await?;
        found.incidents.retain(|incident| incident.key.unit.as_ref() == Some(&unit));
        if has_own_settings(context, &unit).await {
            subjects.push(Subject { unit, template: None, found, notes: Vec::new() });
        } else {
            is_complete &= found.complete;
            shared.push((Some(unit), found.incidents));
        }
    }
    let together = fold_instances(shared, |_| true).into_iter().filter_map(|folded| {
        let found = UnitIncidents { incidents: folded.incidents, complete: is_complete };
        Some(Subject { unit: folded.unit?, template: folded.template, found, notes: Vec::new() })
    });
    Ok(together.chain(subjects).collect())
}

/// A unit, or instances of one template, with their denials.
#[derive(Debug)]
pub(crate) struct FoldedUnit {
    /// The unit; of a template, the first instance.
    pub(crate) unit: Option<Unit>,
    pub(crate) template: Option<Instances>,
    /// Newest first.
    pub(crate) incidents: Vec<Incident>,
}

impl FoldedUnit {
    /// Returns the unit, or the template with the unit's manager.
    pub(crate) fn named(&self) -> Option<Unit> {
        let unit = self.unit.as_ref()?;
        let name = self.template.as_ref().map_or(&unit.name, |instances| &instances.template);
        Some(Unit { manager: unit.manager, name: name.clone() })
    }
}

/// Joins the instances of a template that `can_fold` accepts, in the order of each template's first instance.
pub(crate) fn fold_instances(
    units: Vec<(Option<Unit>, Vec<Incident>)>,
    can_fold: impl Fn(&Unit) -> bool,
) -> Vec<FoldedUnit> {
    let mut folded: Vec<FoldedUnit> = Vec::new();
    for (unit, incidents) in units {
        let template = unit.as_ref().filter(|unit| can_fold(unit)).and_then(|unit| unit.name.template_name());
        let manager = unit.as_ref().map(|unit| unit.manager);
        let same = |one: &&mut FoldedUnit| {
            let of_template = one.template.as_ref().map(|instances| &instances.template);
            of_template.is_some()
                && of_template == template.as_ref()
                && one.unit.as_ref().map(|unit| unit.manager) == manager
        };
        let names = unit.iter().map(|unit| unit.name.clone());
        if let Some(FoldedUnit { template: Some(instances), incidents: all, .. }) = folded.iter_mut().find(same) {
            instances.names.extend(names);
            all.extend(incidents);
        } else {
            let names = names.collect();
            let template = template.map(|template| Instances { template, names });
            folded.push(FoldedUnit { unit, template, incidents });
        }
    }
    for one in folded.iter_mut().filter(|one| one.template.is_some()) {
        one.incidents = newest_first(merge_units(std::mem::take(&mut one.incidents)));
    }
    folded
}

fn newest_first(mut incidents: Vec<Incident>) -> Vec<Incident> {
    incidents.sort_by_key(|incident| std::cmp::Reverse(newest(incident)));
    incidents
}

/// Returns whether a file of the instance alone states a setting that decides calls.
async fn has_own_settings(context: &Context, unit: &Unit) -> bool {
    if !unit_files::has_own_files(Path::new("/"), unit, &unit_settings::home_dir(unit.manager)) {
        return false;
    }
    let Some(template) = unit.name.template_name() else { return false };
    let settings = unit_settings::load(&context.managers, unit, context.groups()).await;
    let decides = |settings: &Settings| {
        let mut lines = settings.assignments().filter(|line| Directive::from_key(&line.key).is_some());
        lines.any(|line| find_instance_of(&template, &line.origin.path).is_some())
    };
    settings.situation.is_some_and(|situation| decides(&situation.policy.settings))
}
