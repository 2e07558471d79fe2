//! What the unit's programs show about further denials, and what they do not show.

use crate::audit::Note;
use crate::audit::text::{escape, join};
use crate::diagnosis::{Diagnosis, RemedyKind, Situation};
use crate::syscalls::Groups;

/// The id of the note on programs that are no evidence.
pub(super) const NO_EVIDENCE: &str = "program-without-evidence";

/// The most further denials that are named.
const MOST: u32 = 100;

/// Returns how many further denials are expected after the default remedy; `None` if fewer than two.
pub(super) fn expected_denials(diagnosis: &Diagnosis, situation: &Situation, groups: &Groups) -> Option<u32> {
    let expected = diagnosis.expected_denials(situation, groups)?;
    (2..MOST).take_while(|count| f64::from(*count) - 0.5 <= expected).last()
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
