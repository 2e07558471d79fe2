//! Counts and managers in words.

use crate::audit::text::plural;
use crate::units::Manager;

/// Returns `1 call`, `2 calls`.
pub(crate) fn count_calls(count: usize) -> String {
    plural(count as u64, "call")
}

/// Returns `once`, `2 times`.
pub(crate) fn count_times(count: u64) -> String {
    if count == 1 { "once".to_owned() } else { format!("{count} times") }
}

/// Describes the manager of a unit, from its JSON form.
pub(crate) fn describe_manager(manager: &str) -> String {
    match manager.strip_prefix("user:") {
        Some(uid) if uid.parse() == Ok(Manager::SOME_USER) => "user manager".to_owned(),
        Some(uid) => format!("user manager of uid {uid}"),
        None => "system manager".to_owned(),
    }
}
