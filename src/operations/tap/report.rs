//! Reports a tap's incidents to harden-whyd, and notes the denials that the tap missed.

use crate::audit::Note;
use crate::audit::text::plural;
use crate::incidents::{Incident, SightingSource, Stored};
use crate::kernel::tap::TapLosses;
use crate::outlet::client;
use crate::outlet::client::HardenWhyProxy;
use crate::outlet::wire::{IncidentDict, MAX_INCIDENTS};
use crate::systemd::bus_address::BusAddress;

/// Sends the incidents to the daemon. Returns a note if it does not store them.
pub(crate) async fn report_to_daemon(bus: &BusAddress, incidents: &[Incident]) -> Option<Note> {
    if incidents.is_empty() {
        return None;
    }
    let report = async { report_incidents(&client::connect(bus).await?, incidents).await };
    let error = report.await.err()?;
    Some(Note::new(
        "not-stored",
        format!(
            "the denials are not stored, since harden-whyd does not accept them: \
        {error:#}"
        ),
    ))
}

/// Sends incidents to a daemon.
///
/// # Errors
/// The daemon does not answer, or does not accept them.
pub(crate) async fn report_incidents(daemon: &HardenWhyProxy<'_>, incidents: &[Incident]) -> anyhow::Result<()> {
    // Of calls that killed, the daemon has the kernel's record, and it refuses another source's word for one.
    let unrecorded: Vec<&Incident> =
        incidents.iter().filter(|incident| incident.key.source != SightingSource::Audit).collect();
    for incidents in unrecorded.chunks(MAX_INCIDENTS as usize) {
        let stored = incidents.iter().map(|incident| Stored { id: 0, incident: (*incident).clone() });
        let dicts: Vec<IncidentDict> = stored.map(|stored| IncidentDict::from(&stored)).collect();
        daemon.report(&dicts).await.map_err(client::explain_error)?;
    }
    Ok(())
}

/// Returns notes about denials that the tap did not count. For `uncounted` of them the tally had no place.
pub(crate) fn loss_notes(losses: TapLosses, uncounted: u64) -> Vec<Note> {
    let mut notes = Vec::new();
    let refusals = losses.refusals.saturating_add(uncounted);
    if refusals > 0 {
        notes.push(Note::new(
            "refusals-not-told-apart",
            format!("{refusals} more denials came from too many different calls, paths or threads to be listed"),
        ));
    }
    if losses.failures > 0 {
        notes.push(Note::new(
            "failures-not-counted",
            format!(
                "{} more calls failed, but too many different calls and paths failed to be listed",
                losses.failures
            ),
        ));
    }
    if losses.threads > 0 {
        notes.push(Note::new(
            "threads-not-followed",
            "too many threads ran at a time: some of their refusals were not seen",
        ));
    }
    notes
}

/// Returns notes about failed calls that could not be judged.
pub(crate) fn failure_notes(unjudged: u64, sees_capabilities: bool) -> Vec<Note> {
    let mut notes = Vec::new();
    if unjudged > 0 {
        notes.push(Note::new(
            "failures-not-judged",
            format!(
                "{} failed and may be denials: harden-why could not read the mounts or the directory of their processes, \
                which ended, changed their root, or have too many mounts",
                plural(unjudged, "call")
            ),
        ));
    }
    if !sees_capabilities {
        notes.push(Note::new(
            "capabilities-not-seen",
            "this kernel does not show which capability a call missed, so missing capabilities are not reported",
        ));
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_calls_that_could_not_be_judged_are_noted() {
        let ids = |unjudged, sees| failure_notes(unjudged, sees).iter().map(|note| note.id).collect::<Vec<_>>();
        assert!(ids(0, true).is_empty());
        assert_eq!(ids(2, false), ["failures-not-judged", "capabilities-not-seen"]);
    }

    #[test]
    fn lost_refusals_and_threads_are_noted() {
        let ids = |losses, uncounted| loss_notes(losses, uncounted).iter().map(|note| note.id).collect::<Vec<_>>();
        assert!(ids(TapLosses::default(), 0).is_empty());
        assert_eq!(ids(TapLosses::default(), 1), ["refusals-not-told-apart"]);
        let all = ["refusals-not-told-apart", "failures-not-counted", "threads-not-followed"];
        assert_eq!(ids(TapLosses { refusals: u64::MAX, threads: 1, failures: 1 }, 1), all);
    }
}
