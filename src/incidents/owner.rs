//! The owner of a row. If room is short, the owner with the most rows loses some.

use super::incident::{IncidentKey, Sample};
use crate::units::{Manager, Unit};

/// The unit of a process or, if the unit is unknown, its user.
///
/// The units of a user's manager belong to the user, who can make as many of them as they like. So do all processes of the
/// user's logins, whose uids can be any of the thousands that `subuid(5)` gives the user.
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
        Self::from_unit_or_sample(key.unit.as_ref(), sample)
    }

    /// Returns the owner of a sighting.
    #[must_use]
    pub(crate) fn from_unit_or_sample(unit: Option<&Unit>, sample: &Sample) -> Self {
        match sample.login {
            Some(login) => Self::from_unit_or_uid(unit, &login.to_string()),
            None => Self::from_unit_or_uid(unit, &sample.uid),
        }
    }

    /// Returns the owner of a process of this user.
    #[must_use]
    pub(crate) fn from_unit_or_uid(unit: Option<&Unit>, uid: &str) -> Self {
        match unit {
            None => Self::User(uid.into()),
            Some(Unit { manager: Manager::User(uid), .. }) => Self::User(uid.to_string().into()),
            Some(unit) => Self::Unit(unit.clone()),
        }
    }
}
