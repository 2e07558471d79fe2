//! Verdicts of `check`.

use serde::Serialize;

/// What a policy does with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum CheckedVerdict {
    Pass,
    /// It depends on the arguments.
    Depends,
    Denied,
    /// The call has no name for a setting, or a specifier decides on the access whose value is unknown.
    Unknown,
}
