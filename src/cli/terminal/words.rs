//! Counts and managers in words.

use crate::audit::text::plural;
use crate::units::Manager;
use std::time::Duration;

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

/// Describes a unit, from the JSON form of its manager: a unit of the system manager by its name alone.
pub(crate) fn describe_unit(name: &str, manager: &str) -> String {
    let own = Manager::User(nix::unistd::geteuid().as_raw()).to_string();
    match manager.strip_prefix("user:") {
        None => name.to_owned(),
        Some(_) if manager == own => format!("{name} (user)"),
        Some(uid) => format!("{name} (uid {uid})"),
    }
}

/// Returns a span of time in words: `5s`, `1m 30s`.
pub(crate) fn describe_span(span: Duration) -> String {
    format!("{:#}", jiff::SignedDuration::try_from(span).unwrap_or(jiff::SignedDuration::MAX))
}
