//! The properties of a D-Bus object, by name.

use std::collections::HashMap;
use zbus::OwnedVariant;

/// Properties by name.
pub(super) type PropertyMap = HashMap<String, OwnedVariant>;

/// A property's value; `None` if it is missing or has another type.
pub(crate) fn take<T: TryFrom<OwnedVariant>>(properties: &PropertyMap, name: &str) -> Option<T> {
    properties.get(name)?.try_clone().ok()?.try_into().ok()
}
