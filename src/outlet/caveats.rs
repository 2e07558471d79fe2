//! Notes about what the daemon may have missed.

use crate::audit::Note;
use crate::audit::text::plural;
use crate::incidents::Moment;
use crate::incidents::local_time::LocalTime;
use crate::outlet::wire::Status;

/// What works where the kernel gives no records.
pub(crate) const WITHOUT_RECORDS: &str = "'harden-why explain LOG', 'harden-why check UNIT' and 'harden-why tap \
    UNIT' work without records; rehearse and log-refusals do not";

/// Returns notes about what the daemon may have missed, from its status.
pub(crate) fn list_reception_notes(status: &Status) -> Vec<Note> {
    let mut notes = Vec::new();
    if let Some(why) = &status.not_listening {
        let why = crate::audit::text::escape(why.as_bytes());
        notes.push(Note::new(
            "not-listening",
            format!("harden-whyd receives no records here: {why}. {WITHOUT_RECORDS}"),
        ));
    }
    if status.lost > 0 {
        notes.push(Note::new(
            "records-lost",
            format!("{} audit events were lost since harden-whyd started: there may be more denials", status.lost),
        ));
    }
    if status.overruns > 0 {
        let times = plural(status.overruns, "time");
        notes.push(Note::new(
            "receive-buffer-overrun",
            format!("the receive buffer overran {times} since harden-whyd started: there may be more denials"),
        ));
    }
    if status.malformed > 0 {
        let records = plural(status.malformed, "record");
        notes.push(Note::new(
            "records-malformed",
            format!("harden-whyd could not parse {records} since it started: there may be more denials"),
        ));
    }
    if status.calls_skipped > 0 {
        let calls = plural(status.calls_skipped, "failed call");
        notes.push(Note::new(
            "calls-skipped",
            format!(
                "harden-whyd did not look at {calls} since it started, because there were too many at once: capabilities and \
                paths may be missing"
            ),
        ));
    }
    let always = crate::host::blind_spots::silent_errno().to_string();
    let limits: Vec<String> = status
        .limitations
        .iter()
        .filter(|limit| **limit != always)
        .map(|limit| crate::audit::text::escape(limit.as_bytes()))
        .collect();
    if !limits.is_empty() {
        notes.push(Note::new(
            "daemon-limited",
            format!("harden-whyd cannot see or do everything here: {}", limits.join(". Also: ")),
        ));
    }
    if status.dropped > 0 {
        notes.push(Note::new(
            "sightings-lost",
            format!(
                "{} sightings were lost since harden-whyd started: too many different denials came at once",
                status.dropped
            ),
        ));
    }
    if let Some(error) = &status.store_error {
        notes.push(Note::new(
            "store-unwritable",
            format!("harden-whyd cannot write its store: {}", crate::audit::text::escape(error.as_bytes())),
        ));
    }
    notes
}

/// Returns a note about the incidents that the store evicted, and the latest sighting of any of them, in milliseconds
/// since the epoch. It matters to answers about that time and earlier.
pub(crate) fn eviction_note(status: &Status, clock: &LocalTime) -> Option<(i64, Note)> {
    let last = status.evicted_last.filter(|_| status.evicted > 0)?;
    let until = clock.show(&Moment::At(last)).unwrap_or_default();
    let evicted = plural(status.evicted, "denial");
    let text = format!("the store was full: {evicted} of all units, last seen until {until}, were evicted from it");
    Some((last, Note::new("store-full", text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limitation_is_noted_unless_every_machine_has_it() {
        let always = crate::host::blind_spots::silent_errno().to_string();
        let sound = Status { limitations: vec![always.clone()], ..Status::default() };
        assert!(list_reception_notes(&sound).is_empty());
        let limitations = vec!["deaf: \u{1b}; mend it".to_owned(), always, "blind: so; there".to_owned()];
        let status = Status { overruns: 2, malformed: 1, calls_skipped: 3, limitations, ..Status::default() };
        let notes: Vec<String> = list_reception_notes(&status).into_iter().map(|note| note.text).collect();
        assert_eq!(notes.len(), 4, "{notes:?}");
        assert!(
            notes[0].contains("overran 2 times") && notes[1].contains("could not parse 1 record since"),
            "{notes:?}"
        );
        assert!(notes[2].starts_with("harden-whyd did not look at 3 failed calls since it started"), "{notes:?}");
        assert!(notes[3].ends_with(": deaf: \\x1b; mend it. Also: blind: so; there"), "{notes:?}");
    }
}
