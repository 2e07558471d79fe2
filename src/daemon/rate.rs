//! Which sightings are worth an alert: a new incident at once, one that goes on once an hour, and of a storm of new
//! ones the first few, and then their number.

use super::config::Alerting;
use crate::incidents::{RowId, Stored};
use crate::outlet::alert::Summary;
use crate::units::Unit;
use std::collections::{HashMap, HashSet};
use std::time::Instant;

/// Of so many units one alert each is told even in a storm.
const MOST_UNITS: usize = 200;

/// How many incidents are remembered to have been told.
const MOST: usize = 16 << 10;

/// What was told.
#[derive(Debug, Default)]
pub(super) struct Rate {
    limits: Alerting,
    told: HashMap<RowId, Instant>,
    /// When the window began, and how many alerts were in it, of which units.
    window: Option<(Instant, u32)>,
    units: HashSet<Option<Unit>>,
    /// What was not told in it.
    summary: Summary,
}

impl Rate {
    pub(super) fn new(limits: Alerting) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Other limits hold from now on.
    pub(super) fn limit(&mut self, limits: Alerting) {
        self.limits = limits;
    }

    /// Whether an incident that was just stored is to be told of; `new` if it was not in the store before.
    pub(super) fn admits(&mut self, stored: &Stored, new: bool, now: Instant) -> bool {
        if stored.incident.key.unit.as_ref().is_some_and(|unit| self.limits.mutes(&unit.name)) {
            return false;
        }
        let told = self.told.get(&stored.id);
        if told.is_some_and(|at| now.duration_since(*at) < self.limits.quiet) {
            return false;
        }
        // One from before we were started may have been told of a moment ago.
        let known = told.is_some();
        self.remember(stored.id, now);
        if !new && !known {
            return false;
        }
        let open = self.window.filter(|(began, _)| now.duration_since(*began) < self.limits.window);
        if open.is_none() {
            self.units.clear();
        }
        let (began, count) = open.unwrap_or((now, 0));
        self.window = Some((began, count.saturating_add(1)));
        // One unit's storm must not keep another's first denial from being told.
        let first = self.units.len() < MOST_UNITS && self.units.insert(stored.incident.key.unit.clone());
        if count < self.limits.burst || first {
            return true;
        }
        self.summary.add(&stored.incident);
        false
    }

    /// Numbers of incidents mean others from now on.
    pub(super) fn forget_told(&mut self) {
        self.told.clear();
    }

    /// What was too much in the window that is over.
    pub(super) fn summary(&mut self, now: Instant) -> Option<Summary> {
        let over = self.next_wake().is_some_and(|end| end <= now);
        over.then(|| {
            self.window = None;
            std::mem::take(&mut self.summary)
        })
    }

    /// When there is a summary to tell.
    pub(super) fn next_wake(&self) -> Option<Instant> {
        let (began, _) = self.window.filter(|_| self.summary.incidents > 0)?;
        Some(began + self.limits.window)
    }

    fn remember(&mut self, id: RowId, now: Instant) {
        if self.told.len() >= MOST {
            let quiet = self.limits.quiet;
            self.told.retain(|_, at| now.duration_since(*at) < quiet);
        }
        if self.told.len() >= MOST {
            // Only a storm of new incidents gets here, and that is told by its number.
            self.told.clear();
        }
        self.told.insert(id, now);
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
            event: IncidentEvent::SilentDeath,
            exe: Vec::new(),
            source: SightingSource::Audit,
        };
        let (first, last) = (Moment::At(1), Moment::At(1));
        Stored { id, incident: Incident { key, rung: None, count: 1, first, last, sample: Sample::default() } }
    }

    #[test]
    fn an_incident_is_told_when_new_and_then_once_an_hour() {
        let (mut rate, start) = (Rate::default(), Instant::now());
        assert!(rate.admits(&stored(1), true, start));
        let told: Vec<u64> =
            (1..=7_300).filter(|second| rate.admits(&stored(1), false, start + Duration::from_secs(*second))).collect();
        assert_eq!(told, [3_600, 7_200]);
    }

    #[test]
    fn what_was_known_before_the_start_waits_an_hour() {
        let (mut rate, start) = (Rate::default(), Instant::now());
        assert!(!rate.admits(&stored(1), false, start));
        assert!(!rate.admits(&stored(1), false, start + QUIET / 2));
        assert!(rate.admits(&stored(1), false, start + QUIET));
    }

    #[test]
    fn a_storm_of_new_incidents_is_summed_up() {
        let (mut rate, start) = (Rate::default(), Instant::now());
        let told = (0..1_000).filter(|id| rate.admits(&stored(*id), true, start)).count();
        assert_eq!(told, BURST as usize);
        assert_eq!(rate.summary(start), None, "not before the window is over");
        let end = rate.next_wake().unwrap();
        assert_eq!(end, start + WINDOW);
        assert_eq!(rate.summary(end).map(|summary| summary.incidents), Some(1_000 - u64::from(BURST)));
        assert_eq!((rate.summary(end), rate.next_wake()), (None, None));
        assert!(rate.admits(&stored(5_000), true, end), "and then it is quiet again");
        assert!(!rate.admits(&stored(500), false, end), "what was summed up was told");
    }

    #[test]
    fn a_storm_of_one_unit_mutes_no_other() {
        let (mut rate, start) = (Rate::default(), Instant::now());
        for id in 0..1_000 {
            let _ = rate.admits(&stored(id), true, start);
        }
        let mut other = stored(1_000);
        other.incident.key.unit = Some(Unit { manager: Manager::System, name: "nginx.service".parse().unwrap() });
        assert!(rate.admits(&other, true, start));
        other.id += 1;
        assert!(!rate.admits(&other, true, start), "one of each");
    }

    #[test]
    fn of_muted_units_nothing_is_told() {
        let limits = Alerting { mute: ["noisy@.service".to_owned()].into(), ..Alerting::default() };
        let (mut rate, start) = (Rate::new(limits), Instant::now());
        let mut of = |id, name: &str| {
            let mut stored = stored(id);
            stored.incident.key.unit = Some(Unit { manager: Manager::System, name: name.parse().unwrap() });
            rate.admits(&stored, true, start)
        };
        let told: Vec<_> = (0..50).filter(|id| of(*id, "noisy@1.service")).collect();
        assert_eq!(told, [] as [RowId; 0]);
        assert!(of(50, "quiet.service"), "and they make no storm");
        assert_eq!(rate.next_wake(), None);
    }

    #[test]
    fn memory_is_bounded() {
        let (mut rate, start) = (Rate::default(), Instant::now());
        for id in 0..3 * RowId::try_from(MOST).unwrap() {
            let _ = rate.admits(&stored(id), true, start);
        }
        assert!(rate.told.len() <= MOST);
    }
}
