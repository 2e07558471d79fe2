//! Which unit a person means by a name: it can be an alias, and a template's stands for all its instances.

use super::incident_source;
use super::incident_source::{Scope, Source};
use crate::audit::Note;
use crate::cli::args::{Chosen, Units};
use crate::incidents::Incident;
use crate::incidents::incident::by_unit;
use crate::incidents::local_time::Clock;
use crate::operations::outcome::NothingToDo;
use crate::policy::unit_file::shown;
use crate::systemd::manager::Managers;
use crate::units::{Manager, Unit, UnitName};
use anyhow::{Context as _, bail, ensure};
use std::collections::BTreeSet;

/// What makes a pattern, as systemctl takes it.
const WILD: [char; 4] = ['*', '?', '[', ']'];

/// A unit's name as a person writes it.
///
/// # Errors
/// It is none.
pub(crate) fn unit_name(name: &str) -> anyhow::Result<UnitName> {
    let is_pattern = name.contains(WILD) && UnitName::from_user(&name.replace(WILD, "x")).is_ok();
    ensure!(
        !is_pattern,
        "{} is a pattern: name the units, or a template (x@.service) for all its instances; 'harden-why' lists those \
         with denials",
        shown(name)
    );
    UnitName::from_user(name).with_context(|| format!("{} is no unit", shown(name)))
}

/// The same where it has to be one unit.
///
/// # Errors
/// It is none, or a template, of which only instances run.
pub(crate) fn one_name(name: &str) -> anyhow::Result<UnitName> {
    let name = unit_name(name)?;
    ensure!(
        !name.is_template(),
        "{name} is a template: name an instance, as {}",
        name.as_str().replacen("@.", "@NAME.", 1)
    );
    Ok(name)
}

/// Parses several names as [`one_name`] does.
///
/// # Errors
/// Those of [`one_name`].
pub(crate) fn one_names(names: &[String]) -> anyhow::Result<Vec<UnitName>> {
    names.iter().map(|name| one_name(name)).collect()
}

/// Whether a unit is one of those that are meant by a name.
pub(crate) fn is_meant(asked: &UnitName, unit: &UnitName) -> bool {
    asked == unit || (asked.is_template() && unit.template().as_deref() == Some(asked.as_str()))
}

/// The unit of a name, or the instances of a template that have denials.
///
/// # Errors
/// Those of the source.
pub(crate) async fn instances(name: &UnitName, source: &Source, scope: Scope) -> anyhow::Result<Vec<UnitName>> {
    if !name.is_template() {
        return Ok(vec![name.clone()]);
    }
    let units = source.units(scope).await?.into_iter().filter_map(|summary| Some(summary.unit?.name));
    let found: BTreeSet<UnitName> = units.filter(|unit| is_meant(name, unit)).collect();
    Ok(found.into_iter().collect())
}

/// The own name of the unit of which this is an alias, where the first manager that knows it says so: incidents have
/// that name, since a unit's cgroup has it.
pub(crate) async fn own_name(
    name: &UnitName,
    asked: incident_source::Managers,
    managers: &Managers,
) -> Option<UnitName> {
    for manager in managers_of(asked) {
        if let Some(own) = own_name_of(name, manager, managers).await {
            return Some(own).filter(|own| own != name);
        }
    }
    None
}

/// What a manager calls the unit of this name.
pub(crate) async fn own_name_of(name: &UnitName, manager: Manager, managers: &Managers) -> Option<UnitName> {
    let manager = managers.connect(manager).await.ok()?;
    Some(manager.unit_properties(name).await.ok()?.id)
}

/// That a name is an alias.
pub(crate) fn alias_note(name: &UnitName, own: &UnitName) -> Note {
    Note::new("alias", format!("{name} is an alias of {own}"))
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
    Ok(Scope { managers, since: crate::cli::terminal::clock::since(units.since.as_deref(), clock)? })
}
