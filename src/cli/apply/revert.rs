//! `revert`: the drop-in that `apply` wrote is taken away.

use super::super::args::{Chosen, Common};
use super::super::situation::{self, DROP_IN};
use super::super::units::{managers, unit_name};
use super::applied::{Applied, diff};
use super::trial::taken_back;
use super::{Interruption, runs_on};
use crate::host::dropin::{self, DropInError};
use crate::host::systemd::SystemdManager;
use crate::host::unit_files;
use crate::units::{Manager, Unit};
use std::path::{Path, PathBuf};

/// Removes the drop-in that apply wrote, be it below /etc, the home or /run.
///
/// # Errors
/// It is somebody else's, cannot be removed, or systemd does not read its files again: it is there as before then.
pub(in crate::cli) async fn revert(common: &Common, asked: &Chosen) -> anyhow::Result<Applied> {
    let name = unit_name(&asked.unit)?;
    let own = Manager::User(nix::unistd::geteuid().as_raw());
    let candidates = match (asked.system, asked.user) {
        (true, _) => vec![Manager::System],
        (_, true) => vec![own],
        _ => vec![Manager::System, own],
    };
    let managers = managers(&common.bus);
    let mut refused = None;
    for &manager in &candidates {
        let unit = Unit { manager, name: name.clone() };
        for path in places(&unit) {
            match dropin::read(&path) {
                Ok(None) => {}
                Ok(Some(old)) => return taken_away(&unit, &path, &old, &managers.of(manager).await?).await,
                // Another manager's may be ours to remove.
                Err(error) => refused = refused.or(Some(error)),
            }
        }
    }
    if let Some(error) = refused {
        return Err(error.into());
    }
    let unit = Unit { manager: candidates.first().copied().unwrap_or(own), name };
    Ok(Applied::new(&unit, "nothing", None, Vec::new(), Vec::new()))
}

/// Where a drop-in of ours can be.
fn places(unit: &Unit) -> [PathBuf; 2] {
    let persistent = unit_files::dropin_path(unit, &situation::home_of(unit.manager), DROP_IN);
    [persistent, unit_files::runtime_dropin_path(unit, DROP_IN)]
}

async fn taken_away(unit: &Unit, path: &Path, old: &[u8], manager: &SystemdManager) -> anyhow::Result<Applied> {
    let mut interruption = Interruption::heard()?;
    let mut applied = Applied::new(unit, "reverted", Some(path), diff(old, b""), vec![runs_on(unit)]);
    let Some(undo) = dropin::remove(path)? else {
        return Err(DropInError::Gone(path.to_owned()).into());
    };
    match interruption.or(async { Ok(manager.reload().await?) }).await {
        Ok(()) => {
            applied.confirmed = true;
            Ok(applied)
        }
        Err(error) => Err(taken_back(undo, path, manager, error, &mut interruption).await),
    }
}
