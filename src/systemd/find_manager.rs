//! Which manager knows a unit of a name, for names of which nothing was seen.

use super::manager::{Managers, SystemdError};
use crate::cli::verbs::units::RUNTIME;
use crate::units::{Manager, UnitName};
use std::fs;

/// How many users' managers are asked for a unit.
const MOST_USERS: usize = 256;

/// Who knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whose {
    /// This manager does, the first that was asked.
    Known(Manager),
    /// None that answered does.
    Unknown,
    /// None answered.
    Untold,
}

/// Asks managers for a unit, one after the other.
pub(crate) async fn whose(
    managers: &Managers,
    candidates: impl IntoIterator<Item = Manager>,
    name: &UnitName,
) -> Whose {
    let mut whose = Whose::Untold;
    for candidate in candidates {
        let asked = async { managers.of(candidate).await?.unit_facts(name).await };
        match asked.await {
            Ok(_) => return Whose::Known(candidate),
            Err(SystemdError::NoSuchUnit(_)) => whose = Whose::Unknown,
            Err(_) => {}
        }
    }
    whose
}

/// That nobody knows a name.
pub(crate) fn nobody_knows(name: &UnitName) -> String {
    format!("no manager asked knows a unit {name}: is the name right?")
}

/// The system's manager and everybody's, as it seems.
pub(crate) fn everybody() -> impl Iterator<Item = Manager> {
    let entries = fs::read_dir(RUNTIME).into_iter().flatten().flatten().take(MOST_USERS);
    let users = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok().map(Manager::User));
    std::iter::once(Manager::System).chain(users)
}
