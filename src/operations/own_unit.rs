//! The units that this program runs in, and with which it would end.

use super::service_manager::ServiceManager;
use crate::kernel::procfs::Procfs;
use crate::systemd::manager::SystemdError;
use crate::units::UnitName;
use crate::units::cgroup::is_at_or_below;
use anyhow::{bail, ensure};

/// Returns the first of these units of a manager in whose cgroup the calling process runs.
///
/// # Errors
/// The manager does not answer.
pub(crate) async fn find_own_unit<'a>(
    manager: &impl ServiceManager,
    units: impl IntoIterator<Item = &'a UnitName>,
) -> Result<Option<&'a UnitName>, SystemdError> {
    let own_cgroup = Procfs::live().cgroup(std::process::id()).unwrap_or_default();
    for unit in units {
        match manager.control_group(unit).await {
            Ok(Some(control_group)) if is_at_or_below(&own_cgroup, &control_group) => return Ok(Some(unit)),
            // A unit that is not loaded has no processes.
            Ok(_) | Err(SystemdError::NoSuchUnit(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Checks that the calling process survives the end of a unit. Returns the running units that stop with the unit.
///
/// # Errors
/// The process runs within one of them, or the manager does not answer.
pub(crate) async fn ensure_survives(manager: &impl ServiceManager, name: &UnitName) -> anyhow::Result<Vec<UnitName>> {
    let dependents = manager.running_dependents(name).await?;
    let own = find_own_unit(manager, [name].into_iter().chain(&dependents)).await?;
    ensure!(own != Some(name), "this harden-why runs within {name}, and would stop with it");
    if let Some(own) = own {
        bail!("this harden-why runs within {own}, which stops with {name}");
    }
    Ok(dependents)
}
