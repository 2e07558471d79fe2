//! A note that accompanies an answer: a stable id for programs, a text for people.

use serde::Serialize;
use std::fmt;

/// The ids of notes that tell why the unit's settings do not do what their lines say. Answers print them first.
const ROOT_CAUSES: [&str; 3] = [FILTER_NOT_IN_FORCE, UNKNOWN_GROUP, UNKNOWN_CALL];

/// The id of a note that a unit's filters are not in force.
pub(crate) const FILTER_NOT_IN_FORCE: &str = "filter-not-in-force";
/// The id of a note that systemd ignores a group of calls, since it does not know the name.
pub(crate) const UNKNOWN_GROUP: &str = "unknown-group";
/// The id of a note that systemd ignores a call, since it does not know the name.
pub(crate) const UNKNOWN_CALL: &str = "unknown-call";

/// A caveat about an answer, for example that a unit is masked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Note {
    /// A stable kebab-case name, so that programs need not parse the text.
    pub id: &'static str,
    /// One line for people, escaped for a terminal.
    pub text: String,
}

impl Note {
    /// Creates a note with a stable id.
    pub fn new(id: &'static str, text: impl Into<String>) -> Self {
        Self { id, text: text.into() }
    }

    /// Whether the note tells why the unit's settings do not do what their lines say.
    #[must_use]
    pub fn is_root_cause(&self) -> bool {
        ROOT_CAUSES.contains(&self.id)
    }
}

/// Puts the notes that tell a root cause before all others.
pub(crate) fn put_root_causes_first(notes: &mut [Note]) {
    notes.sort_by_key(|note| !note.is_root_cause());
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Joins the texts of notes into one line.
pub(crate) fn join_texts(notes: &[Note]) -> String {
    notes.iter().map(|note| note.text.as_str()).collect::<Vec<_>>().join("; ")
}
