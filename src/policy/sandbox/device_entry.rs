//! An entry of `DeviceAllow=`, as `config_parse_device_allow` reads it (`load-fragment.c`).

use super::absolute_path::simplify;
use super::specifiers::{Expansion, SpecifierNames, expand_known};
use crate::policy::words::{Split, split_first};

/// An entry of `DeviceAllow=`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DeviceEntry<'a> {
    /// The device or its driver; `None` if a specifier in it has no known value here.
    pub(super) device: Option<String>,
    /// The letters of what is allowed.
    pub(super) letters: &'a str,
}

/// Parses an entry; `None` if systemd ignores it.
pub(super) fn parse_device_entry<'a>(value: &'a str, names: &SpecifierNames<'_>) -> Option<DeviceEntry<'a>> {
    let (word, letters) = split_first(value, Split::Unquoted)?;
    let device = match expand_known(&word, names) {
        Expansion::Known(device) => Some(device).filter(|device| is_device(device)).map(Some)?,
        Expansion::Unknown(_) => None,
        Expansion::Invalid => return None,
    };
    let letters = if letters.is_empty() { "rwm" } else { letters };
    letters.chars().all(|letter| "rwm".contains(letter)).then_some(DeviceEntry { device, letters })
}

fn is_device(device: &str) -> bool {
    let is_node = |path: &str| ["/dev/", "/run/systemd/inaccessible/"].iter().any(|parent| path.starts_with(parent));
    ["block-", "char-"].iter().any(|kind| device.starts_with(kind))
        || simplify(device).is_some_and(|path| is_node(&path))
}
