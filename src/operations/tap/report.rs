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
pub(crate) async fn report_to_daemon(bus: &BusAddress, mut incidents: Vec<Incident>) -> Option<Note> {
    if incidents.is_empty() {
        return None;
    }
    let report = async { report_incidents(&client::connect(bus).await?, &mut incidents).await };
    let error = report.await.err()?;
    Some(Note::new(
        "not-stored",
        format!(
            "the denials are not stored, since harden-whyd does not accept them: \
        {error:#}"
        ),
    ))
}

/// Sends incidents to a daemon, and removes those that it accepted. The others stay for another time.
///
/// # Errors
/// The daemon does not answer, or does not accept them.
pub(crate) async fn report_incidents(daemon: &HardenWhyProxy<'_>, incidents: &mut Vec<Incident>) -> anyhow::Result<()> {
    report_in_parts(incidents, async |dicts| daemon.report(dicts).await.map_err(client::explain_error)).await
}

/// Sends incidents in parts that the daemon accepts. A part whose sending is given up counts as accepted: the daemon may
/// have it, and would count it twice.
async fn report_in_parts(
    incidents: &mut Vec<Incident>,
    mut send: impl AsyncFnMut(&[IncidentDict]) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    // Of calls that killed, the daemon has the kernel's record, and it refuses another source's word for one.
    incidents.retain(|incident| incident.key.source != SightingSource::Audit);
    while !incidents.is_empty() {
        let rest = incidents.split_off(incidents.len().min(MAX_INCIDENTS as usize));
        let part = std::mem::replace(incidents, rest);
        let part: Vec<Stored> = part.into_iter().map(|incident| Stored { id: 0, incident }).collect();
        let dicts: Vec<IncidentDict> = part.iter().map(IncidentDict::from).collect();
        if let Err(error) = send(&dicts).await {
            incidents.splice(0..0, part.into_iter().map(|stored| stored.incident));
            return Err(error);
        }
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
    use crate::operations::fake_manager::denial;
    use crate::units::{Manager, Unit};
    use std::time::Duration;

    /// Reports more incidents than one part holds. `fate` tells by a part's number whether it is accepted (`Some(true)`),
    /// refused, or never answered (`None`). Returns the size of each part, and how many incidents are left.
    fn report(fate: impl Fn(usize) -> Option<bool>) -> (Vec<usize>, usize) {
        let unit = Unit { manager: Manager::System, name: "x.service".parse().unwrap() };
        let mut incidents = vec![denial(&unit); 2 * MAX_INCIDENTS as usize + 1];
        let mut parts = Vec::new();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        for _ in 0..2 {
            let send = async |dicts: &[IncidentDict]| {
                parts.push(dicts.len());
                match fate(parts.len()) {
                    Some(true) => Ok(()),
                    Some(false) => anyhow::bail!("no"),
                    None => std::future::pending().await,
                }
            };
            let reported =
                async { tokio::time::timeout(Duration::from_millis(5), report_in_parts(&mut incidents, send)).await };
            let _ = runtime.block_on(reported);
        }
        (parts, incidents.len())
    }

    #[test]
    fn part_that_was_accepted_or_given_up_is_not_sent_again() {
        let most = MAX_INCIDENTS as usize;
        assert_eq!(report(|_| Some(true)), (vec![most, most, 1], 0));
        assert_eq!(report(|number| Some(number != 2)), (vec![most, most, most, 1], 0), "the second part was refused");
        assert_eq!(report(|number| (number != 2).then_some(true)), (vec![most, most, 1], 0), "it was given up");
        assert_eq!(report(|_| Some(false)), (vec![most, most], 2 * most + 1));
    }

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
