//! Where `check` takes a unit's denials and settings from: the daemon's store, a log, or files alone.

use crate::audit::Note;
use crate::audit::text::{plural, shown_path};
use crate::cli::args::{Check, Common};
use crate::cli::exit_status::UnknownUnitError;
use crate::cli::lookup::context::Context;
use crate::cli::lookup::incident_source::{ManagerScope, OtherSource, UnitIncidents};
use crate::cli::lookup::log_groups::load_groups;
use crate::cli::lookup::log_incidents::{LogIncidents, LogQuestion, read_incidents};
use crate::cli::lookup::log_input::open_log;
use crate::cli::lookup::subject::Subject;
use crate::cli::lookup::subject_search::find_subject;
use crate::cli::lookup::unit_names::{latest_sighting, managers_to_ask, require_instance};
use crate::cli::lookup::unit_words::ChosenUnit;
use crate::host::filter_in_force::find_missing_filter;
use crate::host::log_machine::LogMachine;
use crate::host::unit_settings;
use crate::host::unit_settings::LoadedSettings;
use crate::incidents::Incident;
use crate::operations::outcome::NothingToDo;
use crate::syscalls::Groups;
use crate::systemd::manager::Managers;
use crate::units::{Manager, Unit, UnitName};
use anyhow::{bail, ensure};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What to check: a unit's incidents, and its settings.
pub(super) struct Checking {
    pub unit: Unit,
    /// The unit of the answer: the template of instances.
    pub named: Unit,
    pub incidents: Vec<Incident>,
    pub settings: LoadedSettings,
    pub groups: Groups,
    pub notes: Vec<Note>,
}

/// Finds the unit's incidents in the daemon's store. A unit without denials has none; below a root, none are needed.
pub(super) async fn find_in_store(common: &Common, asked: &Check, chosen: &ChosenUnit) -> anyhow::Result<Checking> {
    let opened = Context::open(common, &asked.source, OtherSource::LogOption).await;
    let context = match (opened, &asked.root) {
        (Ok(context), _) => context,
        (Err(error), Some(root)) if asked.source.state_dir.is_none() => return find_files_alone(chosen, root, &error),
        (Err(error), _) => return Err(error),
    };
    let found = match find_subject(&context, chosen).await {
        Ok(subject) => {
            let named = subject.named();
            let Subject { unit, found: UnitIncidents { incidents, .. }, notes, .. } = subject;
            (unit, named, incidents, notes)
        }
        Err(error) => {
            let unit = find_without_denials(chosen, asked.root.as_deref(), error)?;
            (unit.clone(), unit, Vec::new(), Vec::new())
        }
    };
    let (unit, named, incidents, lookup_notes) = found;
    let settings = match &asked.root {
        Some(root) => load_from_root(root, &unit, context.groups())?,
        None => unit_settings::load(&context.managers, &unit, context.groups()).await,
    };
    let missing = match asked.root {
        Some(_) => None,
        None => find_missing_filter(&context.managers, &unit, &settings).await,
    };
    let evicted = context.eviction_note(latest_sighting(&incidents));
    let mut notes = context.notes;
    notes.extend(missing);
    notes.extend(evicted);
    notes.extend(lookup_notes);
    Ok(Checking { unit, named, incidents, settings, groups: context.loaded_groups.groups, notes })
}

/// Returns the unit of a question that found no denials of it: the manager knows it, or it has files below a root.
fn find_without_denials(chosen: &ChosenUnit, root: Option<&Path>, error: anyhow::Error) -> anyhow::Result<Unit> {
    let unit = find_unit(chosen);
    let is_known = error.is::<NothingToDo>()
        || (error.is::<UnknownUnitError>() && root.is_some_and(|root| unit_settings::has_files(root, &unit)));
    if is_known { Ok(unit) } else { Err(error) }
}

/// Returns the unit that a question means by default.
fn find_unit(chosen: &ChosenUnit) -> Unit {
    let manager = managers_to_ask(chosen.managers).first().copied().unwrap_or(Manager::System);
    Unit { manager, name: chosen.name.clone() }
}

/// Checks the files below a root without any denials, where neither a daemon nor a store answers.
fn find_files_alone(chosen: &ChosenUnit, root: &Path, error: &anyhow::Error) -> anyhow::Result<Checking> {
    let unit = find_unit(chosen);
    let (at_hand, note) = load_groups(None)?;
    let groups = at_hand.into_groups();
    let settings = load_from_root(root, &unit, &groups)?;
    let reason = format!("only the unit's programs were checked, no denials: {error}");
    let notes = note.into_iter().chain([Note::new("no-denials-read", reason)]).collect();
    Ok(Checking { named: unit.clone(), unit, incidents: Vec::new(), settings, groups, notes })
}

/// Reads the unit's settings below the root that the user named.
fn load_from_root(root: &Path, unit: &Unit, groups: &Groups) -> anyhow::Result<LoadedSettings> {
    ensure!(root.is_dir(), "--root {} is not a directory", shown_path(root));
    require_files(root, unit)?;
    Ok(unit_settings::from_files(root, unit, None, groups))
}

/// Requires the unit to exist below the root that the user named.
fn require_files(root: &Path, unit: &Unit) -> anyhow::Result<()> {
    ensure!(
        unit_settings::has_files(root, unit),
        UnknownUnitError(format!("{} has no files below {}", unit.name, shown_path(root)))
    );
    Ok(())
}

/// A log that `--log` names, read once for all units.
pub(super) struct CheckedLog {
    file: PathBuf,
    read: LogIncidents,
    /// The root below which the unit files are.
    root: Option<PathBuf>,
}

impl CheckedLog {
    /// Reads the log.
    ///
    /// # Errors
    /// It cannot be read, or the root is not a directory.
    pub(super) fn read(file: &Path, asked: &Check) -> anyhow::Result<Self> {
        let question = LogQuestion { root: asked.root.clone(), file: file.to_owned(), ..LogQuestion::default() };
        let read = read_incidents(&mut *open_log(file)?, &question)?;
        let root = read.root(&question);
        Ok(Self { file: question.file, read, root })
    }

    /// Lists the units with denials.
    pub(super) fn units(&self) -> BTreeSet<UnitName> {
        let names = self.read.incidents.iter().filter_map(|incident| Some(&incident.key.unit.as_ref()?.name));
        names.cloned().collect()
    }

    /// Finds a unit's incidents. Records of unknown units count as the unit's, since the user asks about it.
    pub(super) async fn find_unit(
        &self,
        common: &Common,
        asked: &Check,
        chosen: &ChosenUnit,
    ) -> anyhow::Result<Checking> {
        let name = &require_instance(chosen.name.clone())?;
        // The log can be of another machine, where the user has another uid.
        let scope = match chosen.managers {
            ManagerScope::User(_) => ManagerScope::Users,
            scope => scope,
        };
        let is_it = |unit: &Unit| unit.name == *name && scope.includes(Some(unit.manager));
        let is_own = |incident: &&Incident| incident.key.unit.as_ref().is_none_or(is_it);
        let incidents: Vec<Incident> = self.read.incidents.iter().filter(is_own).cloned().collect();
        let manager = incidents.iter().find_map(|incident| Some(incident.key.unit.as_ref()?.manager));
        let mut unit = find_unit(chosen);
        unit.manager = manager.unwrap_or(unit.manager);
        if let Some(root) = &asked.root {
            require_files(root, &unit)?;
        }
        if incidents.is_empty() {
            bail!(NothingToDo(format!(
                "{} has no denials of {}, so there is nothing to check.",
                shown_path(&self.file),
                unit.name
            )));
        }
        let (at_hand, note) = load_groups(asked.groups.as_deref())?;
        let mut notes: Vec<Note> = note.into_iter().collect();
        let unknown = incidents.iter().filter(|incident| incident.key.unit.is_none());
        let unknown = unknown.map(|incident| incident.count).sum();
        if unknown > 0 {
            let text = format!("{} of unknown units count as those of {}", plural(unknown, "record"), unit.name);
            notes.push(Note::new("unit-assumed", text));
        }
        let (settings, groups) = if let Some(root) = &self.root {
            let machine = LogMachine::new(at_hand, Some(root.as_path()), self.read.summary.facts.clone());
            machine.load_settings(root, &unit, &incidents)
        } else {
            let groups = at_hand.into_groups();
            (unit_settings::load(&Managers::new(&common.bus), &unit, &groups).await, groups)
        };
        Ok(Checking { named: unit.clone(), unit, incidents, settings, groups, notes })
    }
}
