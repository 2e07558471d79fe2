//! `revert`: removes the drop-ins that `apply` wrote.

use crate::audit::Note;
use crate::audit::text::shown_path;
use crate::cli::args::{Common, Revert};
use crate::cli::exit_status::ExitStatus;
use crate::cli::lookup::incident_source::ManagerScope;
use crate::cli::lookup::started_unit::list_services_behind;
use crate::cli::lookup::unit_names::managers_to_ask;
use crate::cli::lookup::unit_words::ChosenUnit;
use crate::cli::verbs::each_unit;
use crate::cli::views::applied::{Applied, diff, instance_notes, restart_note};
use crate::operations::instances::count_running_instances;
use crate::operations::interruption::Interruption;
use crate::operations::local_machine::LocalMachine;
use crate::operations::outcome::DropInOutcome;
use crate::operations::revert::{find_drop_ins, list_units_with_drop_ins, remove_drop_ins};
use crate::systemd::manager::{Managers, SystemdError};
use crate::systemd::manager_lookup::{ManagerLookup, find_manager};
use crate::units::{Manager, Unit};
use anstream::ColorChoice;
use anyhow::bail;

/// Reverts units one after another.
///
/// # Errors
/// A word names no unit, or the only unit cannot be reverted.
pub(crate) async fn revert_all(common: &Common, asked: &Revert, color: ColorChoice) -> anyhow::Result<ExitStatus> {
    let scope = ManagerScope::from_own_flags(asked.chosen.managers);
    let list = async || {
        let managers = managers_to_ask(scope);
        Ok(list_units_with_drop_ins(LocalMachine::new(&Managers::new(&common.bus)), &managers))
    };
    let chosen = ChosenUnit::find_all(&asked.chosen.units, scope, "a drop-in of harden-why", list).await?;
    each_unit::run(common, color, &chosen, async |chosen| revert(common, chosen).await).await
}

/// Removes the drop-in that `apply` wrote below /etc, the home directory or /run. If there are two, removes both: the
/// one below /etc or the home directory hides the one below /run, which would come into force in its place.
///
/// # Errors
/// There is no drop-in, and no manager knows the unit. Or the drop-in is not from `apply`, cannot be removed, or
/// systemd does not reread its files; then the drop-in stays as before.
pub(crate) async fn revert(common: &Common, asked: &ChosenUnit) -> anyhow::Result<Applied> {
    asked.ensure_may_change("revert")?;
    asked.ensure_root_if_system("revert")?;
    let name = asked.name.clone();
    let candidates = managers_to_ask(asked.managers);
    let managers = Managers::new(&common.bus);
    let machine = LocalMachine::new(&managers);
    let (mut found, mut led) = (find_drop_ins(machine, &name, &candidates).await?, None);
    if found.is_none() {
        // `apply` of a timer or of an umbrella changes a service behind it.
        for (service, step) in list_services_behind(&managers, &name, &candidates).await {
            found = find_drop_ins(machine, &service, &candidates).await?;
            if found.is_some() {
                led = Some(Note::new("related-unit", step));
                break;
            }
        }
    }
    let Some(found) = found else {
        let mut notes = Vec::new();
        let manager = match find_manager(&managers, candidates.iter().copied(), &name).await {
            ManagerLookup::KnownBy(manager) => manager,
            ManagerLookup::Unknown if !name.is_template() => bail!(SystemdError::NoSuchUnit(name)),
            lookup => {
                if matches!(lookup, ManagerLookup::NoAnswer) {
                    let text = format!("no service manager answers, so it is unknown whether {name} exists");
                    notes.push(Note::new("unit-unverified", text));
                }
                candidates.first().copied().unwrap_or(Manager::System)
            }
        };
        let unit = Unit { manager, name };
        return Ok(Applied::new(&unit, DropInOutcome::Nothing, None, Vec::new(), notes));
    };
    let removed = remove_drop_ins(machine, &found, &mut Interruption::from_signals()?).await?;
    let lines = removed.files.iter().flat_map(|(_, content)| diff(content, b"")).collect();
    let mut paths = removed.files.iter().map(|(path, _)| path);
    let mut applied =
        Applied::new(&found.unit, DropInOutcome::Reverted, paths.next().map(AsRef::as_ref), lines, Vec::new());
    applied.notes.extend(led);
    applied
        .notes
        .extend(paths.map(|path| Note::new("drop-in-removed", format!("{} was removed as well", shown_path(path)))));
    applied.confirmed = removed.doubt.is_none();
    applied.notes.extend(removed.doubt);
    // A stopped unit starts without the drop-in, so no note is necessary.
    if found.unit.name.is_template() {
        let running = count_running_instances(machine, &found.unit).await;
        applied.notes.extend(instance_notes(&found.unit, running));
    } else {
        applied.notes.extend(removed.running.then(|| restart_note(&found.unit, true)));
    }
    applied.notes.extend(found.refused.map(|error| Note::new("drop-in-kept", format!("not removed: {error}"))));
    Ok(applied)
}
