//! What the unit's programs show about further denials, and what they do not show.

use crate::audit::Note;
use crate::audit::text::{escape, join};
use crate::diagnosis::{Diagnosis, RemedyKind, Situation};
use crate::programs::Program;
use crate::syscalls::Groups;

/// The id of the note on programs that are no evidence.
pub(super) const NO_EVIDENCE: &str = "program-without-evidence";

/// The id of the note on libraries that were not read.
pub(super) const LIBRARIES_UNREAD: &str = "libraries-unread";

/// The most libraries of a program that the note names.
const MOST_NAMED: usize = 3;

/// The most further denials that are named: of programs that show nothing, a larger number is not known that well.
const MOST: u32 = 10;

/// Returns how many further denials are expected after the default remedy; `None` if fewer than two.
pub(super) fn expected_denials(diagnosis: &Diagnosis, situation: &Situation, groups: &Groups) -> Option<u32> {
    let expected = diagnosis.expected_denials(situation, groups)?;
    (2..=MOST).take_while(|count| f64::from(*count) - 0.5 <= expected).last()
}

/// Describes a number of further denials: `about 3`, and from the greatest that is named on, `10 or more`.
pub(super) fn describe_number(expected: u32) -> String {
    if expected < MOST { format!("about {expected}") } else { format!("{MOST} or more") }
}

/// Notes what the unit's programs do not show about its further calls, where such calls would be opened.
pub(super) fn lack_notes(diagnosis: &Diagnosis, situation: &Situation) -> Vec<Note> {
    let default = diagnosis.default_remedy().and_then(|index| diagnosis.remedies.get(index));
    if default.is_none_or(|default| default.kind == RemedyKind::RelaxDirectives) {
        return Vec::new();
    }
    lack_note(situation).into_iter().chain(unread_libraries_note(situation)).collect()
}

/// Notes which of the unit's programs are no evidence for its further calls.
fn lack_note(situation: &Situation) -> Option<Note> {
    let lacks: Vec<String> = situation
        .programs_without_evidence()
        .filter_map(|program| Some(format!("{} {}", escape(&program.path), program.describe_lack()?)))
        .collect();
    let text = || format!("nothing shows which further calls the unit makes: {}", join(lacks.iter().cloned()));
    (!lacks.is_empty()).then(|| Note::new(NO_EVIDENCE, text()))
}

/// Notes which libraries of the unit's programs were not read, or not to their end.
pub(crate) fn unread_libraries_note(situation: &Situation) -> Option<Note> {
    let describe = |program: &Program| {
        let (first, rest) = program.unread_libraries.split_at(program.unread_libraries.len().min(MOST_NAMED));
        let names = first.iter().map(|library| escape(library.as_bytes()));
        let more = (!rest.is_empty()).then(|| format!("{} more", rest.len()));
        format!("of {}, {}", escape(&program.path), join(names.chain(more)))
    };
    let programs = situation.programs.iter().filter(|program| !program.unread_libraries.is_empty());
    let programs: Vec<String> = programs.map(describe).collect();
    let text = || {
        format!("not all libraries were read to their end, so that further calls are possible: {}", programs.join("; "))
    };
    (!programs.is_empty()).then(|| Note::new(LIBRARIES_UNREAD, text()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn great_number_of_further_denials_is_not_named() {
        assert_eq!([2, 9, 10].map(describe_number), ["about 2", "about 9", "10 or more"]);
    }
}
