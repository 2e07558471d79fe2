//! The cgroup of a unit's processes.

use super::{MANAGER, PATH, SystemdError, SystemdManager, in_time};
use crate::units::UnitName;
use zbus::OwnedObjectPath;

impl SystemdManager {
    /// The path of a unit's cgroup, relative to the root cgroup; `None` while the unit has none.
    ///
    /// # Errors
    /// [`SystemdError::NoSuchUnit`] if no unit of that name is loaded, or the manager does not answer.
    pub async fn control_group(&self, name: &UnitName) -> Result<Option<String>, SystemdError> {
        let Some(interface) = interface(name.suffix()) else { return Ok(None) };
        in_time(async {
            let path: OwnedObjectPath = match self.call(PATH, MANAGER, "GetUnit", &(name.as_str(),)).await {
                Err(SystemdError::Refused(why)) if why.starts_with("org.freedesktop.systemd1.NoSuchUnit") => {
                    return Err(SystemdError::NoSuchUnit(name.clone()));
                }
                path => path?,
            };
            let cgroup: String = self.get(&path, interface, "ControlGroup").await?;
            Ok(Some(cgroup).filter(|cgroup| !cgroup.is_empty()))
        })
        .await
    }
}

/// The D-Bus interface of a unit type that has a cgroup.
fn interface(suffix: &str) -> Option<&'static str> {
    match suffix {
        "scope" => Some("org.freedesktop.systemd1.Scope"),
        "slice" => Some("org.freedesktop.systemd1.Slice"),
        suffix => super::interface(suffix),
    }
}
