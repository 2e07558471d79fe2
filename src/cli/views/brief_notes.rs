//! The notes of the default page: those that change what one would do.

use super::answer::Answer;
use super::program_evidence::{LIBRARIES_UNREAD, NO_EVIDENCE};
use crate::audit::Note;
use crate::audit::note::{FILTER_NOT_IN_FORCE, UNKNOWN_CALL, UNKNOWN_GROUP};

/// Notes that can be the cause of the denial, or say whose denials these are.
const FIRST: [&str; 7] = [
    "related-unit",
    FILTER_NOT_IN_FORCE,
    "unit-masked",
    "daemon-reload-needed",
    UNKNOWN_GROUP,
    UNKNOWN_CALL,
    "unit-file",
];

/// Notes that change nothing one would do, or that the page says in other words.
const LEFT_OUT: [&str; 16] = [
    "alias",
    "core-frame",
    "groups-of-other-machine",
    LIBRARIES_UNREAD,
    "more-notes",
    "native-abi-of-log",
    "no-remedy",
    "possible-intrusion",
    NO_EVIDENCE,
    "refusals-logged",
    "refusals-silent",
    "unit-file-in-log",
    "unit-kills-nothing",
    "unit-refuses",
    "unknown-to-libseccomp",
    "unsolvable",
];

/// Returns the notes before the finding.
pub(super) fn first_notes(answer: &Answer) -> impl Iterator<Item = &str> {
    let is_first = |note: &&Note| FIRST.contains(&note.id) && !is_pointed_at(answer, note);
    answer.notes.iter().filter(is_first).map(|note| note.text.as_str())
}

/// Returns the notes after the help.
pub(super) fn last_notes(answer: &Answer) -> impl Iterator<Item = &str> {
    let is_last = |note: &&Note| !FIRST.contains(&note.id) && !LEFT_OUT.contains(&note.id);
    answer.notes.iter().filter(is_last).map(|note| note.text.as_str())
}

/// Whether the default page has a note of a whole report.
pub(super) fn is_brief(note: &Note) -> bool {
    !LEFT_OUT.contains(&note.id)
}

/// Whether the page points at the line of a note, and says there that systemd ignores the word.
fn is_pointed_at(answer: &Answer, note: &Note) -> bool {
    let deciding = answer.denials.iter().filter_map(|denial| denial.cause.directives.first());
    let mut ignored = deciding.filter(|directive| directive.does.0.starts_with("ignored"));
    ignored.any(|directive| match (&directive.file, directive.line) {
        (Some(file), Some(line)) => note.text.starts_with(&format!("{file}:{line}: ")),
        _ => false,
    })
}
