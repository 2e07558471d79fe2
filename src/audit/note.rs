//! A note that accompanies an answer: a stable id for programs, a text for people.

use serde::Serialize;
use std::fmt;

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
