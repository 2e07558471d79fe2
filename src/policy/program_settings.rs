//! Settings that deny no call, but show what the unit's program does: how it tells that it is ready, which capabilities
//! it can have, and where its executable is.

use super::capabilities::CapabilitySettings;
use super::lists::parse_boolean;
use super::unit_file::Assignment;

/// The keys of these settings.
pub(super) const KEYS: [&str; 7] = [
    "Type",
    "WatchdogSec",
    "CapabilityBoundingSet",
    "AmbientCapabilities",
    "NoNewPrivileges",
    "RootDirectory",
    "RootImage",
];

/// What a unit's settings show about its program. Values are as written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProgramSettings {
    /// `Type=`.
    pub kind: Option<Box<str>>,
    /// Whether `WatchdogSec=` sets a time: the program sends signs of life as it sends readiness.
    pub has_watchdog: bool,
    /// `RootDirectory=`, without specifiers expanded.
    pub root_directory: Option<Box<str>>,
    /// Whether `RootImage=` sets an image: its files are out of reach.
    pub has_root_image: bool,
    /// Whether `NoNewPrivileges=` keeps set-uid programs from adding rights.
    pub no_new_privileges: bool,
    capabilities: CapabilitySettings,
}

impl ProgramSettings {
    /// Takes one line. Later lines override earlier ones.
    pub(super) fn apply(&mut self, line: &Assignment) {
        let value = line.value.trim();
        let text = || (!value.is_empty()).then(|| value.into());
        match &*line.key {
            "Type" => self.kind = text(),
            "WatchdogSec" => self.has_watchdog = !matches!(value, "" | "0" | "infinity"),
            "RootDirectory" => self.root_directory = if value == "/" { None } else { text() },
            "RootImage" => self.has_root_image = !value.is_empty(),
            "CapabilityBoundingSet" => self.capabilities.apply_bounding(value),
            "AmbientCapabilities" => self.capabilities.apply_ambient(value),
            "NoNewPrivileges" => self.no_new_privileges = parse_boolean(value).unwrap_or(self.no_new_privileges),
            _ => {}
        }
    }

    /// Whether the bounding set holds a capability, such as `CAP_SETUID`.
    #[must_use]
    pub(super) fn can_have_capability(&self, name: &str) -> bool {
        self.capabilities.bounding.contains(name)
    }

    /// Whether `AmbientCapabilities=` holds a capability, as far as the bounding set lets a process have it.
    #[must_use]
    pub fn has_ambient_capability(&self, name: &str) -> bool {
        self.capabilities.ambient.contains(name)
    }

    /// Whether the program sends to its manager: `Type=notify`, `Type=notify-reload` or `WatchdogSec=`. Returns the
    /// setting.
    #[must_use]
    pub fn find_notification(&self) -> Option<&'static str> {
        match self.kind.as_deref() {
            Some("notify") => Some("Type=notify"),
            Some("notify-reload") => Some("Type=notify-reload"),
            _ => self.has_watchdog.then_some("WatchdogSec="),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::settings::Settings;
    use super::super::unit_file::UnitFile;
    use super::*;
    use std::path::Path;

    fn settings(lines: &str) -> ProgramSettings {
        let file = UnitFile::parse(Path::new("x.service"), format!("[Service]\n{lines}\n").as_bytes());
        Settings::new(&"x.service".parse().unwrap(), Some(file), Vec::new()).program().clone()
    }

    #[test]
    fn later_line_of_bounding_set_adds_or_removes() {
        let can = |lines: &str| ["CAP_SETUID", "CAP_SETGID"].map(|name| settings(lines).can_have_capability(name));
        assert_eq!(can(""), [true, true]);
        assert_eq!(can("CapabilityBoundingSet="), [false, false]);
        assert_eq!(can("CapabilityBoundingSet=CAP_SETUID"), [true, false]);
        assert_eq!(can("CapabilityBoundingSet=~cap_setuid"), [false, true]);
        assert_eq!(can("CapabilityBoundingSet=CAP_SETUID\nCapabilityBoundingSet=CAP_SETGID"), [true, true]);
        assert_eq!(
            can("CapabilityBoundingSet=CAP_SETUID CAP_SETGID\nCapabilityBoundingSet=~CAP_SETUID"),
            [false, true]
        );
        assert_eq!(can("CapabilityBoundingSet=~CAP_SETUID\nCapabilityBoundingSet=CAP_SETUID"), [true, true]);
        assert_eq!(can("CapabilityBoundingSet=CAP_SETUID\nCapabilityBoundingSet=~"), [true, true], "~ alone is all");
    }

    #[test]
    fn last_line_of_a_setting_counts() {
        assert_eq!(settings("Type=notify").find_notification(), Some("Type=notify"));
        assert_eq!(settings("Type=notify\nType=simple").find_notification(), None);
        assert_eq!(settings("WatchdogSec=30s").find_notification(), Some("WatchdogSec="));
        assert_eq!(settings("WatchdogSec=30s\nWatchdogSec=0").find_notification(), None);
        assert_eq!(settings("RootDirectory=/srv/x").root_directory.as_deref(), Some("/srv/x"));
        assert_eq!(settings("RootDirectory=/").root_directory, None);
        assert!(settings("RootImage=/x.raw").has_root_image);
    }
}
