//! The cgroup of a unit's processes, also before they run.

use super::{MANAGER, PATH, SystemdError, SystemdManager, in_time};
use crate::audit::text::escape as escape_text;
use crate::units::UnitName;
use crate::units::cgroup::is_of_manager;
use std::fs;
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
            self.own_cgroup(format!("{}{}/{}", root.trim_end_matches('/'), slice_path(&slice), escape(name.as_str())))
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
            escape_text(path.as_bytes()),
            self.manager()
        )))
    }
}

/// Returns the path of a slice below the root slice: `a-b.slice` is in `a.slice` (`cg_slice_to_path` in systemd).
fn slice_path(slice: &str) -> String {
    let stem = slice.strip_suffix(".slice").unwrap_or(slice);
    let ends = stem.match_indices('-').map(|(at, _)| at).chain([stem.len()]);
    let names = ends.filter_map(|end| stem.get(..end)).filter(|name| !name.is_empty() && *name != "-");
    names.flat_map(|name| ["/".to_owned(), escape(&format!("{name}.slice"))]).collect()
}

/// Returns a unit's name as its cgroup has it, with `_` before a name that could be one of the kernel's files
/// (`cg_needs_escape` in systemd).
fn escape(name: &str) -> String {
    let controllers = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    let start = name.split('.').next().unwrap_or_default();
    let is_file = start == "cgroup" || controllers.split_whitespace().any(|controller| controller == start);
    if is_file || name.starts_with(['_', '.']) { format!("_{name}") } else { name.to_owned() }
}

/// The D-Bus interface of a unit type that has a cgroup.
fn interface(suffix: &str) -> Option<&'static str> {
    match suffix {
        "scope" => Some("org.freedesktop.systemd1.Scope"),
        "slice" => Some("org.freedesktop.systemd1.Slice"),
        suffix => super::interface(suffix),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slice_is_below_the_slices_that_its_name_extends() {
        for (slice, path) in [
            ("system.slice", "/system.slice"),
            ("system-getty-x.slice", "/system.slice/system-getty.slice/system-getty-x.slice"),
            ("-.slice", ""),
        ] {
            assert_eq!(slice_path(slice), path);
        }
        assert_eq!((escape("cgroup.service"), escape("_a.service")), ("_cgroup.service".into(), "__a.service".into()));
        assert_eq!(escape("nginx.service"), "nginx.service");
    }
}
