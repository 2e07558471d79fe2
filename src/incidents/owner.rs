//! The owner of a row. If room is short, the owner with the most rows loses some.

use super::incident::{IncidentKey, Sample};
use crate::units::{Manager, Unit};

/// The unit of a process or, if the unit is unknown, its user.
///
/// The units of a user's manager belong to the user, who can make as many of them as they like.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Owner {
    /// A unit of the system manager.
    Unit(Unit),
    /// A user, by the uid as a record or a log writes it; empty if it is unknown.
    User(Box<str>),
}

impl Owner {
    /// Returns the owner of an incident.
    #[must_use]
    pub(crate) fn new(key: &IncidentKey, sample: &Sample) -> Self {
        Self::from_unit_or_uid(key.unit.as_ref(), &sample.uid)
    }

    /// Returns the owner of a process.
    #[must_use]
    pub(crate) fn from_unit_or_uid(unit: Option<&Unit>, uid: &str) -> Self {
        match unit {
            None => Self::User(uid.into()),
            Some(Unit { manager: Manager::User(uid), .. }) => Self::User(uid.to_string().into()),
            Some(unit) => Self::Unit(unit.clone()),
        }
    }
}
