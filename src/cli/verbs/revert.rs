//! `revert`: the drop-ins that `apply` wrote are taken away.

use crate::audit::Note;
use crate::audit::text::shown_path;
use crate::cli::args::{Chosen, Common};
use crate::cli::lookup::incident_source;
use crate::cli::lookup::unit_names::{managers_to_ask, parse_instance_name, query_own_name};
use crate::cli::views::applied::{Applied, diff, next};
use crate::host::unit_settings;
use crate::host::unit_settings::REMEDY_DROP_IN;
use crate::operations::confirm::taken_back;
use crate::operations::drop_in;
use crate::operations::drop_in::DropInError;
use crate::operations::interruption::Interruption;
use crate::systemd::manager::{Managers, SystemdError, SystemdManager, UnitProperties};
use crate::systemd::manager_lookup::{ManagerLookup, find_manager, unknown_unit_text};
use crate::unit_files;
use crate::units::{Manager, Unit};
use anyhow::bail;
use std::path::{Path, PathBuf};

/// Removes the drop-in that apply wrote, be it below /etc, the home or /run. Below both, both go: the one below /etc or
/// the home hides the other, which would come into force in its place.
///
/// # Errors
/// There is none, and no manager knows the unit; or it is somebody else's, cannot be removed, or systemd does not read
/// its files again: it is there as before then.
pub(crate) async fn revert(common: &Common, asked: &Chosen) -> anyhow::Result<Applied> {
    let name = parse_instance_name(&asked.unit)?;
    let candidates = managers_to_ask(incident_source::ManagerScope::from_flags(asked.system, asked.user));
    let managers = Managers::new(&common.bus);
    let mut refused = None;
    for &manager in &candidates {
        let own = query_own_name(&name, manager, &managers).await;
        let unit = Unit { manager, name: own.unwrap_or_else(|| name.clone()) };
        let mut ours = Vec::new();
        for path in places(&unit) {
            match drop_in::read(&path) {
                Ok(None) => {}
                Ok(Some(old)) => ours.push((path, old)),
                // Another place's or manager's may be ours to remove.
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        if !ours.is_empty() {
            let mut applied = taken_away(&unit, &ours, &managers.connect(manager).await?).await?;
            applied.notes.extend(refused.map(|error| Note::new("drop-in-kept", format!("not removed: {error}"))));
            return Ok(applied);
        }
    }
    if let Some(error) = refused {
        return Err(error.into());
    }
    let manager = match find_manager(&managers, candidates.iter().copied(), &name).await {
        ManagerLookup::KnownBy(manager) => manager,
        ManagerLookup::Unknown => bail!(unknown_unit_text(&name)),
        ManagerLookup::NoAnswer => candidates.first().copied().unwrap_or(Manager::System),
    };
    let unit = Unit { manager, name };
    Ok(Applied::new(&unit, "nothing", None, Vec::new(), Vec::new()))
}

/// Where a drop-in of ours can be, the one that hides the other first.
fn places(unit: &Unit) -> [PathBuf; 2] {
    let persistent = unit_files::dropin_path(unit, &unit_settings::home_dir(unit.manager), REMEDY_DROP_IN);
    [persistent, unit_files::runtime_dropin_path(unit, REMEDY_DROP_IN)]
}

/// Removes files of ours, all or none, and asks the manager whether it is rid of them.
async fn taken_away(unit: &Unit, ours: &[(PathBuf, Vec<u8>)], manager: &SystemdManager) -> anyhow::Result<Applied> {
    let mut interruption = Interruption::heard()?;
    let mut undo = Vec::new();
    for (path, _) in ours {
        match drop_in::remove(path) {
            Ok(removed) => undo.extend(removed),
            // systemd has read nothing of it yet.
            Err(error) if undo.is_empty() => return Err(error.into()),
            Err(error) => return Err(taken_back(undo, manager, error.into(), &mut interruption).await),
        }
    }
    let paths: Vec<PathBuf> = undo.iter().map(|change| change.path().to_owned()).collect();
    let Some((first, more)) = paths.split_first() else {
        return Err(DropInError::Gone(ours.first().map(|(path, _)| path.clone()).unwrap_or_default()).into());
    };
    let lines = ours.iter().filter(|(path, _)| paths.contains(path)).flat_map(|(_, old)| diff(old, b"")).collect();
    let mut applied = Applied::new(unit, "reverted", Some(first), lines, Vec::new());
    applied.notes.extend(
        more.iter().map(|path| Note::new("drop-in-removed", format!("{} was removed as well", shown_path(path)))),
    );
    let asked = async {
        manager.reload().await?;
        Ok(manager.unit_properties(&unit.name).await)
    };
    match interruption.or(asked).await {
        Ok(facts) => {
            // What does not run starts without it: there is nothing left to do.
            let running = facts.as_ref().is_ok_and(UnitProperties::is_running);
            let still = still_held(facts, &paths);
            applied.confirmed = still.is_none();
            applied.notes.extend(still);
            applied.notes.extend(running.then(|| next(unit, running)));
            Ok(applied)
        }
        Err(error) => Err(taken_back(undo, manager, error, &mut interruption).await),
    }
}

/// What speaks against the manager's being rid of the removed files.
fn still_held(facts: Result<UnitProperties, SystemdError>, removed: &[PathBuf]) -> Option<Note> {
    let facts = match facts {
        Ok(facts) => facts,
        // Where there is no unit any more, nothing is in force.
        Err(SystemdError::NoSuchUnit(_)) => return None,
        Err(error) => {
            return Some(Note::new("unconfirmed", format!("what systemd holds now could not be read back: {error}")));
        }
    };
    // It may spell the path otherwise.
    let is_gone = |path: &Path| path.ends_with(REMEDY_DROP_IN) && !path.exists();
    let held = facts.dropins.iter().find(|path| removed.contains(path) || is_gone(path))?;
    Some(Note::new(
        "drop-in-still-listed",
        format!(
            "systemd still lists {}: it does not look where the file was removed, or another was put there",
            shown_path(held)
        ),
    ))
}
