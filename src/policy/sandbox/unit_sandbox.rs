//! What a unit's settings withhold, merged once.

use super::mount_list::MountList;
use super::sandbox_settings::SandboxSettings;
use crate::policy::settings::Settings;
use std::collections::BTreeSet;

/// The settings that withhold something, and the mounts that follow from them.
#[derive(Debug, Clone)]
pub(crate) struct UnitSandbox {
    pub(super) settings: SandboxSettings,
    pub(super) mounts: MountList,
}

impl UnitSandbox {
    /// Merges the lines of a unit under a version of systemd, on a machine that lacks some paths.
    pub(crate) fn new(settings: &Settings, systemd: Option<u32>, absent: &BTreeSet<Box<str>>) -> Self {
        let merged = SandboxSettings::new(settings);
        Self { mounts: MountList::new(settings, &merged, systemd, absent), settings: merged }
    }
}
