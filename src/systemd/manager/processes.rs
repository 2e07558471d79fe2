//! The cgroup of a unit's processes, also before they run.

use super::{MANAGER, PATH, SystemdError, SystemdManager, in_time};
use crate::audit::text::escape;
use crate::units::UnitName;
use crate::units::cgroup::is_of_manager;
use crate::units::cgroup_name::{escape_unit_name, slice_path};
use zbus::OwnedObjectPath;

impl SystemdManager {
    /// The path of a unit's cgroup, relative to the root cgroup; `None` while the unit has none.
    ///
    /// # Errors
    /// [`SystemdError::NoSuchUnit`] if no unit of that name is loaded, or the manager does not answer.
    pub async fn control_group(&self, name: &UnitName) -> Result<Option<String>, SystemdError> {
        let Some(interface) = interface(name.suffix()) else { return Ok(None) };
        in_time(async {
            let path: Result<OwnedObjectPath, _> = self.call(PATH, MANAGER, "GetUnit", &(name.as_str(),)).await;
            let path = path.map_err(|error| error.or_no_such_unit(name))?;
            let cgroup: String = self.get(&path, interface, "ControlGroup").await?;
            Some(cgroup).filter(|cgroup| !cgroup.is_empty()).map(|cgroup| self.own_cgroup(cgroup)).transpose()
        })
        .await
    }

    /// The path of the cgroup that a unit has, or will have once it starts: below the cgroup of its slice.
    ///
    /// # Errors
    /// The unit runs no processes, or the manager does not answer.
    pub async fn coming_control_group(&self, name: &UnitName) -> Result<String, SystemdError> {
        let interface = interface(name.suffix());
        let interface = interface.ok_or_else(|| SystemdError::Refused(format!("{name} runs no processes")))?;
        in_time(async {
            let path: OwnedObjectPath = self.call(PATH, MANAGER, "LoadUnit", &(name.as_str(),)).await?;
            let own: String = self.get(&path, interface, "ControlGroup").await?;
            if !own.is_empty() {
                return self.own_cgroup(own);
            }
            let slice: String = self.get(&path, interface, "Slice").await?;
            // The root slice's cgroup is the manager's.
            let root: OwnedObjectPath = self.call(PATH, MANAGER, "LoadUnit", &("-.slice",)).await?;
            let root: String = self.get(&root, "org.freedesktop.systemd1.Slice", "ControlGroup").await?;
            self.own_cgroup(format!(
                "{}{}/{}",
                root.trim_end_matches('/'),
                slice_path(&slice),
                escape_unit_name(name.as_str())
            ))
        })
        .await
    }

    /// Returns a cgroup's path if it can be one of this manager's units. A user manager is a process of its user, and
    /// could name the cgroup of any service.
    fn own_cgroup(&self, path: String) -> Result<String, SystemdError> {
        if is_of_manager(&path, self.manager()) {
            return Ok(path);
        }
        Err(SystemdError::BadReply(format!(
            "the cgroup {} is not below the {} manager",
            escape(path.as_bytes()),
            self.manager()
        )))
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
