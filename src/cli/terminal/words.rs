//! words.

use crate::audit::text::plural;
use crate::units::Manager;
pub(crate) fn calls(count: usize) -> String {
    plural(count as u64, "call")
}

/// How often, in words.
pub(crate) fn times(count: u64) -> String {
    if count == 1 { "once".to_owned() } else { format!("{count} times") }
}

/// The manager of a unit, in words.
pub(crate) fn whose(manager: &str) -> String {
    match manager.strip_prefix("user:") {
        Some(uid) if uid.parse() == Ok(Manager::SOME_USER) => "user manager".to_owned(),
        Some(uid) => format!("user manager of uid {uid}"),
        None => "system manager".to_owned(),
    }
}
