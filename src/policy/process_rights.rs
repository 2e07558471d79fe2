//! Which rights a unit's settings leave to its processes: whether they start as root, which capabilities they start
//! with, can have and can use, and whether set-uid programs add rights.

use super::capabilities::find_withheld;
use super::directive::Directive;
use super::settings::Settings;

impl Settings {
    /// Whether its processes start as root, apart from those of commands with a prefix.
    #[must_use]
    pub fn starts_as_root(&self) -> bool {
        self.user().map_or(!self.is_on(Directive::DynamicUser), |user| matches!(user, "root" | "0"))
    }

    /// Whether all commands keep root's rights under `User=`: by the prefix `!` (`systemd.service(5)`).
    pub(crate) fn has_only_elevated_commands(&self) -> bool {
        !self.commands().is_empty() && self.commands().iter().all(|command| command.elevated)
    }

    /// Whether a process of the unit starts with a capability: it runs as root, or systemd gives it the capability.
    #[must_use]
    pub fn starts_with_capability(&self, name: &str) -> bool {
        let can_be_root = self.starts_as_root() || self.commands().iter().any(|command| command.elevated);
        self.can_have_capability(name) && (can_be_root || self.program().has_ambient_capability(name))
    }

    /// Whether a process of the unit can have a capability, such as `CAP_SETUID`: the bounding set holds it, and no
    /// directive such as `ProtectClock=` takes it from the set.
    #[must_use]
    pub fn can_have_capability(&self, name: &str) -> bool {
        let mut on = Directive::switches().filter(|directive| self.is_on(*directive));
        self.program().can_have_capability(name) && !on.any(|directive| find_withheld(directive).contains(&name))
    }

    /// Whether a unit's processes gain no rights from set-uid programs: by a line, or by `DynamicUser=`, which implies it.
    #[must_use]
    pub fn has_no_new_privileges(&self) -> bool {
        self.program().no_new_privileges || self.is_on(Directive::DynamicUser)
    }

    /// Whether a process of the unit that its filter holds can use a capability, such as `CAP_SETUID`. A program of
    /// another user than root loses its capabilities, except ambient ones, and gets none back under `NoNewPrivileges=`
    /// (`capabilities(7)`). `NoNewPrivileges=` counts only where a line sets it, or `DynamicUser=` is on: whether systemd
    /// implies it elsewhere depends on its version.
    #[must_use]
    pub fn can_use_capability(&self, name: &str) -> bool {
        let is_held_root = self.commands().iter().any(|command| command.elevated && !command.privileged);
        let is_root = self.starts_as_root() || is_held_root;
        self.can_have_capability(name)
            && (is_root || !self.has_no_new_privileges() || self.program().has_ambient_capability(name))
    }
}

#[cfg(test)]
mod tests {
    use super::super::unit_file::UnitFile;
    use super::*;
    use std::path::Path;

    fn can_use(lines: &str, capability: &str) -> bool {
        let file = UnitFile::parse(Path::new("x.service"), format!("[Service]\n{lines}").as_bytes());
        Settings::new(&"x.service".parse().unwrap(), Some(file), Vec::new()).can_use_capability(capability)
    }

    #[test]
    fn capability_is_usable_if_bounding_set_and_user_leave_it() {
        let can = |lines: &str| can_use(lines, "CAP_CHOWN");
        assert!(can(""));
        assert!(!can("CapabilityBoundingSet=CAP_KILL\n"));
        assert!(can("User=web\n"), "a set-uid program has it");
        assert!(!can("User=web\nNoNewPrivileges=yes\n"));
        assert!(!can("DynamicUser=yes\n"), "it implies NoNewPrivileges=");
        assert!(can("User=web\nNoNewPrivileges=yes\nNoNewPrivileges=no\n"));
        assert!(can("User=web\nNoNewPrivileges=yes\nUser=root\n"));
        assert!(can("User=web\nNoNewPrivileges=yes\nAmbientCapabilities=CAP_CHOWN\n"));
        assert!(!can("User=web\nNoNewPrivileges=yes\nAmbientCapabilities=CAP_CHOWN\nCapabilityBoundingSet=\n"));
        assert!(can("User=web\nNoNewPrivileges=yes\nExecStartPre=!/bin/chown web /run/web\n"));
        assert!(!can("User=web\nNoNewPrivileges=yes\nExecStartPre=+/bin/chown web /run/web\n"), "no filter holds it");
    }

    #[test]
    fn directive_withholds_capabilities_whatever_the_bounding_set() {
        for (directive, names) in [
            ("PrivateDevices", &["CAP_MKNOD", "CAP_SYS_RAWIO"][..]),
            ("ProtectKernelModules", &["CAP_SYS_MODULE"]),
            ("ProtectKernelLogs", &["CAP_SYSLOG"]),
            ("ProtectClock", &["CAP_SYS_TIME", "CAP_WAKE_ALARM"]),
        ] {
            for name in names {
                let can = |value: &str| can_use(&format!("{directive}={value}\nCapabilityBoundingSet={name}\n"), name);
                assert!(!can("yes") && can("no"), "{directive} {name}");
            }
            assert!(can_use(&format!("{directive}=yes\n"), "CAP_CHOWN"), "{directive}");
        }
    }
}
