//! What the unit's programs show about further denials, and what they do not show.

use crate::audit::Note;
use crate::audit::text::{escape, join};
use crate::diagnosis::{Diagnosis, RemedyKind, Situation};
use crate::syscalls::Groups;

/// The id of the note on programs that are no evidence.
pub(super) const NO_EVIDENCE: &str = "program-without-evidence";

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

/// Notes which of the unit's programs are no evidence for its further calls, where such calls would be opened.
pub(super) fn lack_note(diagnosis: &Diagnosis, situation: &Situation) -> Option<Note> {
    let default = diagnosis.remedies.get(diagnosis.default_remedy()?)?;
    let is_by_filter = default.kind != RemedyKind::RelaxDirectives;
    let lacks: Vec<String> = situation
        .programs_without_evidence()
        .filter_map(|program| Some(format!("{} {}", escape(&program.path), program.describe_lack()?)))
        .collect();
    let text = || format!("nothing shows which further calls the unit makes: {}", join(lacks.iter().cloned()));
    (is_by_filter && !lacks.is_empty()).then(|| Note::new(NO_EVIDENCE, text()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn great_number_of_further_denials_is_not_named() {
        assert_eq!([2, 9, 10].map(describe_number), ["about 2", "about 9", "10 or more"]);
    }
}
