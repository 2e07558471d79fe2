//! Reverts a remedy: removes the drop-ins that `apply` wrote, and confirms that systemd no longer lists them.

use super::change_error::{ChangeError, or_signal};
use super::confirm::roll_back;
use super::drop_in;
use super::drop_in::{DropInError, Undo};
use super::interruption::Interruption;
use super::local_machine::LocalMachine;
use super::reread::reload;
use super::service_manager::{ServiceManager, ServiceManagers};
use crate::audit::Note;
use crate::audit::text::shown_path;
use crate::host::unit_settings;
use crate::host::unit_settings::REMEDY_DROP_IN;
use crate::systemd::manager::{SystemdError, UnitProperties};
use crate::unit_files;
use crate::units::{Manager, Unit, UnitName};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The drop-ins of `apply` for one unit.
#[derive(Debug)]
pub(crate) struct AppliedDropIns {
    pub(crate) unit: Unit,
    /// Path and content of each. The first file hides the second.
    files: Vec<(PathBuf, Vec<u8>)>,
    /// Why `revert` cannot remove a further file.
    pub(crate) refused: Option<DropInError>,
}

/// Removed drop-ins.
#[must_use]
#[derive(Debug)]
pub(crate) struct RemovedDropIns {
    /// Path and former content of each, at least one.
    pub(crate) files: Vec<(PathBuf, Vec<u8>)>,
    /// Whether the unit runs, and so keeps the filter that it started with.
    pub(crate) running: bool,
    /// Why it is not certain that systemd dropped the files.
    pub(crate) doubt: Option<Note>,
}

/// Finds the drop-ins of a unit or template for the first candidate manager that has any. The name can be an alias. An
/// instance without any stands for its template.
///
/// # Errors
/// There are only files of another program, or files that cannot be read.
pub(crate) async fn find_drop_ins<M: ServiceManagers>(
    machine: LocalMachine<'_, M>,
    name: &UnitName,
    candidates: &[Manager],
) -> Result<Option<AppliedDropIns>, DropInError> {
    let mut refused = None;
    for &manager in candidates {
        let own = resolve_name(machine, name, manager).await;
        // A remedy of an instance is usually in its template's drop-in.
        let template = own.template_name();
        for name in [own].into_iter().chain(template) {
            let unit = Unit { manager, name };
            let mut files = Vec::new();
            for path in drop_in_paths(&unit).map(|path| machine.resolve(&path)) {
                match drop_in::read(&path) {
                    Ok(None) => {}
                    Ok(Some(content)) => files.push((path, content)),
                    // The other path or another manager may have a drop-in to remove.
                    Err(error) => refused = refused.or(Some(error)),
                }
            }
            if !files.is_empty() {
                return Ok(Some(AppliedDropIns { unit, files, refused }));
            }
        }
    }
    refused.map_or(Ok(None), Err)
}

/// Lists the units of managers that have a drop-in of `apply`, or a file in its place.
pub(crate) fn list_units_with_drop_ins<M: ServiceManagers>(
    machine: LocalMachine<'_, M>,
    managers: &[Manager],
) -> BTreeSet<UnitName> {
    let mut units = BTreeSet::new();
    for &manager in managers {
        let home = unit_settings::home_dir(manager);
        for dir in [unit_files::persistent_dir(manager, &home), unit_files::runtime_dir(manager)] {
            let entries = fs::read_dir(machine.resolve(&dir)).into_iter().flatten().flatten();
            let with_drop_in = entries.filter(|entry| entry.path().join(REMEDY_DROP_IN).exists());
            units.extend(
                with_drop_in
                    .filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".d")?.parse::<UnitName>().ok()),
            );
        }
    }
    units
}

/// Returns the unit's own name for an alias, or the given name if the manager does not resolve it.
async fn resolve_name<M: ServiceManagers>(machine: LocalMachine<'_, M>, name: &UnitName, manager: Manager) -> UnitName {
    let properties = async { machine.connect(manager).await?.unit_properties(name).await };
    properties.await.map_or_else(|_: SystemdError| name.clone(), |properties| properties.id)
}

/// Returns the paths to which `apply` writes a unit's drop-in. The first file hides the second.
fn drop_in_paths(unit: &Unit) -> [PathBuf; 2] {
    let persistent = unit_files::dropin_path(unit, &unit_settings::home_dir(unit.manager), REMEDY_DROP_IN);
    [persistent, unit_files::runtime_dropin_path(unit, REMEDY_DROP_IN)]
}

/// Removes all drop-ins or none, and checks whether the manager still lists them.
///
/// Removes both files before the reload: if only the first were gone, systemd would apply the second.
///
/// # Errors
/// A file cannot be removed, systemd does not reread its files, or a signal came. Either the files are as before,
/// or the error says what is left.
pub(crate) async fn remove_drop_ins<M: ServiceManagers>(
    machine: LocalMachine<'_, M>,
    found: &AppliedDropIns,
    interruption: &mut Interruption,
) -> anyhow::Result<RemovedDropIns> {
    let AppliedDropIns { unit, files, .. } = found;
    let manager = machine.connect(unit.manager).await?;
    let mut undo = Vec::new();
    for (path, _) in files {
        match drop_in::remove(path) {
            Ok(removed) => undo.extend(removed),
            Err(error) if undo.is_empty() => return Err(error.into()),
            Err(error) => {
                let error = ChangeError::before_read(error);
                return Err(roll_back(undo, &manager, error, interruption).await);
            }
        }
    }
    let paths: Vec<PathBuf> = undo.iter().map(|change| change.path().to_owned()).collect();
    if paths.is_empty() {
        return Err(DropInError::Gone(files.first().map(|(path, _)| path.clone()).unwrap_or_default()).into());
    }
    match or_signal(Box::pin(reread(&manager, &unit.name)), interruption).await {
        Ok(properties) => {
            undo.into_iter().for_each(Undo::keep);
            let running = properties.as_ref().is_ok_and(UnitProperties::is_running);
            let files = files.iter().filter(|(path, _)| paths.contains(path)).cloned().collect();
            Ok(RemovedDropIns { files, running, doubt: find_doubt(properties, &paths) })
        }
        Err(error) => Err(roll_back(undo, &manager, error, interruption).await),
    }
}

/// Reloads the manager, then returns its answer to a request for the unit's properties, or those of a template's
/// instance.
async fn reread(
    manager: &impl ServiceManager,
    name: &UnitName,
) -> Result<Result<UnitProperties, SystemdError>, ChangeError> {
    reload(manager).await?;
    if !name.is_template() {
        return Ok(manager.unit_properties(name).await);
    }
    let instances = match manager.list_instances(name).await {
        Ok(instances) => instances,
        Err(error) => return Ok(Err(error)),
    };
    // A template has no properties. All its instances read its drop-ins; one that runs keeps its filter.
    let instance = instances.iter().find(|instance| instance.is_running).or(instances.first());
    match instance {
        Some(instance) => Ok(manager.unit_properties(&instance.name).await),
        None => Ok(Err(SystemdError::NoSuchUnit(name.clone()))),
    }
}

/// Returns why it is not certain that the manager dropped the removed files.
fn find_doubt(properties: Result<UnitProperties, SystemdError>, removed: &[PathBuf]) -> Option<Note> {
    let properties = match properties {
        Ok(properties) => properties,
        // Without a unit, nothing is in force.
        Err(SystemdError::NoSuchUnit(_)) => return None,
        Err(error) => {
            return Some(Note::new("unconfirmed", format!("cannot read the settings back from systemd: {error}")));
        }
    };
    // systemd may spell the path differently.
    let is_gone = |path: &Path| path.ends_with(REMEDY_DROP_IN) && !path.exists();
    let held = properties.dropins.iter().find(|path| removed.contains(path) || is_gone(path))?;
    let text =
        format!("systemd still lists {}: it reads another directory, or the file was replaced", shown_path(held));
    Some(Note::new("drop-in-still-listed", text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operations::fake_manager::{FakeMachine, Fault};

    const PERSISTENT: &str = "etc/systemd/system/x.service.d/zz-harden-why.conf";
    const RUNTIME: &str = "run/systemd/system/x.service.d/zz-harden-why.conf";
    const TEXT: &str =
        "# Written by harden-why on 2026-11-28: for denials of uname\n[Service]\nSystemCallFilter=uname\n";

    fn applied(paths: &[&str]) -> FakeMachine {
        let fake = FakeMachine::running();
        for path in paths {
            fake.write(path, TEXT);
        }
        fake.reload();
        fake
    }

    fn find(fake: &FakeMachine) -> Result<Option<AppliedDropIns>, DropInError> {
        fake.run(find_drop_ins(fake.machine(), &fake.unit.name, &[Manager::System])).unwrap()
    }

    fn remove(fake: &FakeMachine, found: &AppliedDropIns) -> anyhow::Result<RemovedDropIns> {
        fake.run(remove_drop_ins(fake.machine(), found, &mut fake.interruption())).unwrap()
    }

    fn fail_at_every_step(faults: &[Fault]) -> usize {
        let mut steps = 0;
        for &fault in faults {
            for number in 0.. {
                let fake = applied(&[PERSISTENT, RUNTIME]);
                let found = find(&fake).unwrap().unwrap();
                let before = fake.snapshot();
                fake.fail_at(number, fault);
                let result = remove(&fake, &found);
                if !fake.has_failed() {
                    break;
                }
                steps += 1;
                let step = format!("{fault:?} at {} ({number}): {result:?}", fake.failed_call());
                match result {
                    Ok(_) => assert!(!fake.snapshot().holds(REMEDY_DROP_IN), "{step}"),
                    Err(error) if fake.snapshot() != before => {
                        assert!(format!("{error:#}").contains("run systemctl daemon-reload"), "{step}");
                        fake.end_process();
                        fake.reload();
                        assert_eq!(fake.snapshot(), before, "{step}");
                    }
                    Err(_) => {}
                }
            }
        }
        steps
    }

    #[test]
    fn both_drop_ins_are_removed_and_systemd_lists_neither() {
        let fake = applied(&[PERSISTENT, RUNTIME]);
        let found = find(&fake).unwrap().unwrap();
        let removed = remove(&fake, &found).unwrap();
        assert_eq!((removed.files.len(), removed.running, removed.doubt), (2, true, None));
        let unchanged = FakeMachine::running();
        assert!(!fake.snapshot().holds(REMEDY_DROP_IN) && !unchanged.snapshot().holds(REMEDY_DROP_IN));
    }

    #[test]
    fn revert_is_all_or_nothing_when_the_manager_fails_at_any_step() {
        assert!(fail_at_every_step(&Fault::OF_MANAGER) >= 12);
    }

    #[test]
    fn revert_is_all_or_nothing_when_a_signal_comes_at_any_step() {
        assert!(fail_at_every_step(&Fault::SIGNALS) >= 6);
    }

    #[test]
    fn unit_without_drop_in_has_nothing_to_revert() {
        assert!(find(&FakeMachine::running()).unwrap().is_none());
    }

    #[test]
    fn foreign_drop_in_is_reported_with_or_without_a_removable_one() {
        let fake = applied(&[RUNTIME]);
        fake.write(PERSISTENT, "[Service]\n");
        let found = find(&fake).unwrap().unwrap();
        assert!(matches!(found.refused, Some(DropInError::Foreign(_))));
        let fake = FakeMachine::running();
        fake.write(PERSISTENT, "[Service]\n");
        assert!(matches!(find(&fake), Err(DropInError::Foreign(_))));
    }

    #[test]
    fn manager_that_does_not_answer_after_the_reload_leaves_a_doubt() {
        let fake = applied(&[PERSISTENT]);
        let found = find(&fake).unwrap().unwrap();
        fake.fail_at(2, Fault::LostRequest);
        let removed = remove(&fake, &found).unwrap();
        assert_eq!(removed.doubt.map(|note| note.id), Some("unconfirmed"));
    }
}
