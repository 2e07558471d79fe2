//! caveats.

use crate::audit::Note;
use crate::cli::lookup::incident_source::Source;
use crate::incidents::local_time::Clock;
use crate::outlet::caveats::hearing_notes;

/// What keeps the source from knowing everything.
pub(crate) async fn unheard(source: &Source, clock: &Clock) -> Vec<Note> {
    source.status().await.map_or_else(Vec::new, |status| hearing_notes(&status, clock))
}

/// That there is more than is shown.
pub(crate) fn more(all: bool) -> Option<Note> {
    (!all).then(|| {
        Note::new("more-denials", "there are more denials than are shown here: narrow the question with --since")
    })
}
