//! Makes a manager reread its files, and reads a unit's settings back.

use super::change_error::ChangeError;
use super::local_machine::LocalMachine;
use super::same_file::is_same_file;
use super::service_manager::{JOB_PATIENCE, ServiceManager, ServiceManagers};
use crate::audit::note;
use crate::audit::text::shown_path;
use crate::host::unit_settings;
use crate::policy::Policy;
use crate::syscalls::Groups;
use crate::systemd::manager::{SystemdError, UnitProperties};
use crate::units::Unit;
use anyhow::{Context as _, ensure};
use std::path::Path;

/// Which of a unit's settings to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SettingsLayer {
    /// The unit's own, without a rehearsal's drop-in.
    Own,
    /// Those in force.
    InForce,
}

/// A unit's settings after a reload. The manager and the files agree on them.
#[derive(Debug)]
pub(crate) struct RereadSettings {
    /// As the manager holds them.
    pub(crate) facts: UnitProperties,
    /// As the files have them.
    pub(crate) policy: Policy,
}

/// Makes the manager reread all unit files.
///
/// # Errors
/// The manager refuses, and keeps its old settings, or does not answer.
pub(crate) async fn reload(manager: &impl ServiceManager) -> Result<(), ChangeError> {
    manager.reload().await.map_err(|error| {
        let is_refused = error.is_refusal();
        let error = anyhow::Error::new(error).context("systemd does not reload its files");
        if is_refused { ChangeError::Unread(error) } else { ChangeError::MaybeRead(error) }
    })
}

/// Makes the manager reread all unit files, and checks that a unit has a drop-in then.
///
/// # Errors
/// The manager refuses or does not answer, lacks the drop-in, or holds other settings than the files.
pub(crate) async fn reread_with_drop_in<M: ServiceManagers>(
    machine: LocalMachine<'_, M>,
    manager: &M::Connection,
    (unit, drop_in): (&Unit, &Path),
    layer: SettingsLayer,
    groups: &Groups,
) -> Result<RereadSettings, ChangeError> {
    reload(manager).await?;
    Ok(read_with_drop_in(machine, manager, (unit, drop_in), layer, groups).await?)
}

async fn read_with_drop_in<M: ServiceManagers>(
    machine: LocalMachine<'_, M>,
    manager: &M::Connection,
    (unit, drop_in): (&Unit, &Path),
    layer: SettingsLayer,
    groups: &Groups,
) -> anyhow::Result<RereadSettings> {
    const NO_ANSWER: &str = "systemd no longer returns the unit's settings";
    let answer = manager.wait_for_unit_properties(&unit.name, JOB_PATIENCE).await;
    let properties = answer.map_err(|error| match error {
        // The unit was there before, so its name is not wrong.
        SystemdError::NoSuchUnit(_) => anyhow::anyhow!("{NO_ANSWER}: {error}"),
        error => anyhow::Error::new(error).context(NO_ANSWER),
    })?;
    let known = match layer {
        SettingsLayer::Own => machine.own_settings_from_answer(unit, Ok(properties), groups),
        SettingsLayer::InForce => machine.settings_from_answer(unit, Ok(properties), groups),
    };
    let notes = note::join_texts(&known.notes);
    let facts = known.properties.with_context(|| format!("{NO_ANSWER}: {notes}"))?;
    ensure!(facts.unparsed.is_empty(), unit_settings::describe_unparsed(&facts));
    let is_listed = facts.dropins.iter().any(|path| is_same_file(path, drop_in));
    ensure!(is_listed, "systemd reads no drop-ins in {}", shown_path(drop_in));
    let policy = known.situation.context("cannot read the unit's settings after the change")?.policy;
    ensure!(known.matches_manager, "the settings in systemd differ from the unit's files: {notes}");
    Ok(RereadSettings { facts, policy })
}
