//! The properties of a unit that harden-why reads, picked from those that a manager sends.

use super::property_map::PropertyMap;
use crate::policy::Directive;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use std::collections::HashSet;
use std::fmt;
use std::sync::LazyLock;

/// Those of a unit's properties that [`UnitProperties`](super::UnitProperties) reads: a manager sends some hundred others.
#[derive(Debug, Default)]
pub(super) struct KnownProperties(pub(super) PropertyMap);

impl KnownProperties {
    /// Adds those of another interface.
    pub(super) fn extend(&mut self, others: Self) {
        self.0.extend(others.0);
    }
}

impl zbus::Type for KnownProperties {
    const SIGNATURE: &'static zbus::Signature = PropertyMap::SIGNATURE;
}

impl<'de> Deserialize<'de> for KnownProperties {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(KnownVisitor)
    }
}

/// Keeps the values of known names.
struct KnownVisitor;

impl<'de> Visitor<'de> for KnownVisitor {
    type Value = KnownProperties;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("properties by name")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<KnownProperties, A::Error> {
        let mut known = KnownProperties::default();
        while let Some(name) = entries.next_key::<&str>()? {
            if is_known(name) {
                known.0.insert(name.to_owned(), entries.next_value()?);
            } else {
                entries.next_value::<IgnoredAny>()?;
            }
        }
        Ok(known)
    }
}

/// Whether [`UnitProperties`](super::UnitProperties) reads a property.
pub(super) fn is_known(name: &str) -> bool {
    const NAMES: [&str; 24] = [
        "ActiveState",
        "AmbientCapabilities",
        "CanStart",
        "CapabilityBoundingSet",
        "DropInPaths",
        "ExecMainStartTimestamp",
        "FragmentPath",
        "Id",
        "InactiveExitTimestamp",
        "InvocationID",
        "LoadState",
        "MainPID",
        "NeedDaemonReload",
        "NoNewPrivileges",
        "RefuseManualStop",
        "RestrictAddressFamilies",
        "RestrictNamespaces",
        "SubState",
        "SystemCallArchitectures",
        "SystemCallErrorNumber",
        "SystemCallFilter",
        "SystemCallLog",
        "Transient",
        "User",
    ];
    static KNOWN: LazyLock<HashSet<&'static str>> = LazyLock::new(|| {
        let withholding = Directive::ALL.iter().copied().filter(|directive| !directive.filters_calls());
        Directive::switches().chain(withholding).map(Directive::key).chain(NAMES).collect()
    });
    KNOWN.contains(name)
}
