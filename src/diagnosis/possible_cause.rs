//! A line of a unit that can be the cause of a failure without a record.

use crate::audit::text::escape;
use crate::policy::{CauseReason, DirectiveCause, Origin};

/// A line that can be the cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PossibleCause {
    /// The key of the line.
    pub key: Box<str>,
    /// The line; `None` if no file has it.
    pub origin: Option<Origin>,
    /// The word that decides; `None` for the whole value.
    pub word: Option<Box<str>>,
    /// What the line does, in words. Escaped.
    pub does: String,
    /// The error that it gives.
    pub errno: Option<i32>,
    /// What surely helps, in words, if anything does. Escaped.
    pub fix: Option<String>,
    /// A line of a drop-in that may help, which nothing proves.
    pub line_to_try: Option<String>,
}

impl PossibleCause {
    /// Makes one of a directive's cause. `name` is what it withholds, escaped.
    pub(super) fn new(cause: &DirectiveCause, name: &str, errno: Option<i32>) -> Self {
        let does = match &cause.why {
            CauseReason::Withheld(withheld) => format!("{}{name}{}", withheld.before, withheld.after),
            CauseReason::NotAllowed(_) => format!("this allow-list lacks {name}"),
            CauseReason::Always(reason) => format!("denies {name}: {reason}"),
            CauseReason::Argument { which, .. } => {
                format!("denies {name}, depending on its arguments: {}", escape(which.as_bytes()))
            }
            _ => format!("denies {name}"),
        };
        let word = cause.deciding_word().map(Into::into);
        Self {
            key: cause.directive.key().into(),
            origin: cause.origin.clone(),
            word,
            does,
            errno,
            fix: None,
            line_to_try: None,
        }
    }

    /// Whether two causes are the same part of a line.
    pub(super) fn is_same_line(&self, other: &Self) -> bool {
        (&self.key, &self.origin, &self.word) == (&other.key, &other.origin, &other.word)
    }
}
