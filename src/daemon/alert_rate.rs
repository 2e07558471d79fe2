//! Which stored incidents get an alert. A new incident gets one at once. An incident that continues gets one per quiet
//! time, an hour by default. In a storm the first few incidents get alerts, and a summary counts the rest.

use super::config::AlertLimits;
use crate::incidents::{FairQueue, FairWindow, Owner, RowId, Stored};
use crate::outlet::alert_summary::Summary;
use std::collections::HashMap;
use std::time::Instant;

/// How many owners get one alert each even in a storm.
const MAX_OWNERS: usize = 200;

/// For how many incidents the daemon remembers the time of the last alert.
const MAX_REMEMBERED: usize = 16 << 10;

/// Limits the rate of alerts.
#[derive(Debug, Default)]
pub(super) struct AlertRate {
    limits: AlertLimits,
    /// When each incident last had an alert, a place in a summary, or its first sighting since the start.
    alerted: HashMap<RowId, Instant>,
    /// The incidents in `alerted`, by owner.
    remembered: Remembered,
    /// When the window began.
    window: Option<Instant>,
    /// The alerts of the window, by owner.
    owners: FairWindow<Owner>,
    /// The incidents of the window without an alert.
    summary: Summary,
}

impl AlertRate {
    pub(super) fn new(limits: AlertLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    pub(super) fn set_limits(&mut self, limits: AlertLimits) {
        self.limits = limits;
    }

    /// Decides whether an incident that was just stored gets an alert. `is_new` means that the store did not have it
    /// before.
    pub(super) fn admits(&mut self, stored: &Stored, is_new: bool, now: Instant) -> bool {
        if stored.incident.key.unit.as_ref().is_some_and(|unit| self.limits.mutes(&unit.name)) {
            return false;
        }
        let alerted = self.alerted.get(&stored.id);
        if alerted.is_some_and(|at| now.duration_since(*at) < self.limits.quiet) {
            return false;
        }
        // An incident from before the daemon's start may have had an alert a moment ago.
        let is_known = alerted.is_some();
        let owner = Owner::new(&stored.incident.key, &stored.incident.sample);
        self.remember(&owner, stored.id, now);
        if !is_new && !is_known {
            return false;
        }
        if self.window.is_none_or(|began| now.duration_since(began) >= self.limits.window) {
            self.window = Some(now);
            self.owners = FairWindow::default();
        }
        // One owner's storm must not hide another's first denials.
        if self.owners.is_new(&owner) && self.owners.owners() < MAX_OWNERS {
            self.owners.count(&owner);
            return true;
        }
        if self.owners.admit(&owner, self.limits.burst.into()) {
            return true;
        }
        self.summary.add(&stored.incident);
        false
    }

    /// Forgets which incidents had alerts, because a new store reuses row numbers.
    pub(super) fn forget_rows(&mut self) {
        self.alerted.clear();
        self.remembered = Remembered::default();
    }

    /// Returns the summary of a window that is over, if it has one.
    pub(super) fn take_summary(&mut self, now: Instant) -> Option<Summary> {
        let is_over = self.next_wake().is_some_and(|end| end <= now);
        is_over.then(|| {
            self.window = None;
            std::mem::take(&mut self.summary)
        })
    }

    /// Returns when the next summary is due.
    pub(super) fn next_wake(&self) -> Option<Instant> {
        let began = self.window.filter(|_| self.summary.incidents > 0)?;
        Some(began + self.limits.window)
    }

    /// Remembers the time of an alert. If there is no room, the owner with the most forgets its oldest.
    fn remember(&mut self, owner: &Owner, id: RowId, now: Instant) {
        if self.alerted.insert(id, now).is_none()
            && let Some(forgotten) = self.remembered.0.push(owner.clone(), id)
        {
            self.alerted.remove(&forgotten);
        }
    }
}

/// The incidents whose last alert the daemon remembers.
#[derive(Debug)]
struct Remembered(FairQueue<Owner, RowId>);

impl Default for Remembered {
    fn default() -> Self {
        Self(FairQueue::new(MAX_REMEMBERED))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::incidents::{Incident, IncidentEvent, IncidentKey, Moment, Sample, SightingSource};
    use crate::units::{Manager, Unit};
    use std::time::Duration;

    const QUIET: Duration = Duration::from_hours(1);
    const BURST: u32 = 20;
    const WINDOW: Duration = Duration::from_secs(10);

    fn stored(id: RowId) -> Stored {
        let key = IncidentKey {
            unit: None,
            event: IncidentEvent::UnrecordedDeath,
            exe: Vec::new(),
            source: SightingSource::Audit,
        };
        let (first, last) = (Moment::At(1), Moment::At(1));
        Stored { id, incident: Incident { key, rung: None, count: 1, first, last, sample: Sample::default() } }
    }

    #[test]
    fn new_incident_gets_alert_at_once_and_then_hourly() {
        let (mut rate, start) = (AlertRate::default(), Instant::now());
        assert!(rate.admits(&stored(1), true, start));
        let alerted: Vec<u64> =
            (1..=7_300).filter(|second| rate.admits(&stored(1), false, start + Duration::from_secs(*second))).collect();
        assert_eq!(alerted, [3_600, 7_200]);
    }

    #[test]
    fn incident_stored_before_start_gets_alert_after_an_hour() {
        let (mut rate, start) = (AlertRate::default(), Instant::now());
        assert!(!rate.admits(&stored(1), false, start));
        assert!(!rate.admits(&stored(1), false, start + QUIET / 2));
        assert!(rate.admits(&stored(1), false, start + QUIET));
    }

    #[test]
    fn storm_of_new_incidents_gets_summary() {
        let (mut rate, start) = (AlertRate::default(), Instant::now());
        let alerted = (0..1_000).filter(|id| rate.admits(&stored(*id), true, start)).count();
        assert_eq!(alerted, BURST as usize);
        assert_eq!(rate.take_summary(start), None, "the window is not over");
        let end = rate.next_wake().unwrap();
        assert_eq!(end, start + WINDOW);
        assert_eq!(rate.take_summary(end).map(|summary| summary.incidents), Some(1_000 - u64::from(BURST)));
        assert_eq!((rate.take_summary(end), rate.next_wake()), (None, None));
        assert!(rate.admits(&stored(5_000), true, end), "a new window begins");
        assert!(!rate.admits(&stored(500), false, end), "the summary counted it");
    }

    #[test]
    fn first_incident_of_another_unit_gets_alert_in_storm() {
        let (mut rate, start) = (AlertRate::default(), Instant::now());
        for id in 0..1_000 {
            let _ = rate.admits(&stored(id), true, start);
        }
        let mut other = stored(1_000);
        other.incident.key.unit = Some(Unit { manager: Manager::System, name: "nginx.service".parse().unwrap() });
        assert!(rate.admits(&other, true, start));
        other.id += 1;
        let more = (other.id + 1..other.id + 100).filter(|id| {
            other.id = *id;
            rate.admits(&other, true, start)
        });
        assert_eq!(more.count() as u64, u64::from(BURST) / 2 - 1, "each of two owners has half a burst");
    }

    #[test]
    fn storm_does_not_make_the_daemon_forget_the_alert_of_a_quiet_owner() {
        let (mut rate, start) = (AlertRate::default(), Instant::now());
        let mut quiet = stored(0);
        quiet.incident.sample.uid = "7".into();
        assert!(rate.admits(&quiet, true, start));
        for id in 1..2 * RowId::try_from(MAX_REMEMBERED).unwrap() {
            let _ = rate.admits(&stored(id), true, start);
        }
        assert!(!rate.admits(&quiet, false, start + QUIET / 2) && rate.admits(&quiet, false, start + QUIET));
    }

    #[test]
    fn muted_unit_gets_no_alert() {
        let limits = AlertLimits { mute: ["noisy@.service".to_owned()].into(), ..AlertLimits::default() };
        let (mut rate, start) = (AlertRate::new(limits), Instant::now());
        let mut admits = |id, name: &str| {
            let mut stored = stored(id);
            stored.incident.key.unit = Some(Unit { manager: Manager::System, name: name.parse().unwrap() });
            rate.admits(&stored, true, start)
        };
        let alerted: Vec<_> = (0..50).filter(|id| admits(*id, "noisy@1.service")).collect();
        assert_eq!(alerted, [] as [RowId; 0]);
        assert!(admits(50, "quiet.service"), "muted incidents make no storm");
        assert_eq!(rate.next_wake(), None);
    }

    #[test]
    fn remembered_incidents_are_bounded() {
        let (mut rate, start) = (AlertRate::default(), Instant::now());
        for id in 0..3 * RowId::try_from(MAX_REMEMBERED).unwrap() {
            let _ = rate.admits(&stored(id), true, start);
        }
        assert!(rate.alerted.len() <= MAX_REMEMBERED);
    }
}
