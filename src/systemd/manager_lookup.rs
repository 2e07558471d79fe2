//! Finds the service manager that has a unit, for a unit without stored incidents.

use super::manager::{Managers, SystemdError};
use crate::units::{Manager, UnitName};

/// The lookup queries no user managers beyond this number.
const MOST_USERS: usize = 256;

/// The result of a search for a unit's manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum ManagerLookup {
    /// The first queried manager that knows the unit.
    KnownBy(Manager),
    /// At least one manager answered, and none of those that answered knows the unit.
    Unknown,
    /// No manager answered.
    NoAnswer,
}

/// Asks one manager after another for a unit, until one knows it.
pub(crate) async fn find_manager(
    managers: &Managers,
    candidates: impl IntoIterator<Item = Manager>,
    name: &UnitName,
) -> ManagerLookup {
    let mut lookup = ManagerLookup::NoAnswer;
    for candidate in candidates {
        let properties = async { managers.connect(candidate).await?.unit_properties(name).await };
        match properties.await {
            Ok(_) => return ManagerLookup::KnownBy(candidate),
            Err(SystemdError::NoSuchUnit(_)) => lookup = ManagerLookup::Unknown,
            Err(_) => {}
        }
    }
    lookup
}

/// The system manager, then the manager of each user who has a runtime directory.
pub(crate) fn all_managers(managers: &Managers) -> impl Iterator<Item = Manager> {
    std::iter::once(Manager::System).chain(managers.users(MOST_USERS).into_iter().map(Manager::User))
}
