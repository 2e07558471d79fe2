//! The incidents shown so far, by key, because a new store reuses the numbers of a removed store.

use crate::incidents::{Incident, IncidentKey, Moment};
use std::collections::HashMap;

/// The least number of incidents remembered; the most is twice that.
const MOST: usize = 8 << 10;

/// Whether an incident was shown before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IncidentNews {
    /// Not shown before.
    New,
    /// Shown before, and seen again since.
    Repeated,
    /// Shown in this state or a later one.
    Known,
}

/// An incident as it was shown last.
#[derive(Debug, Clone, Default)]
struct ShownState {
    count: u64,
    /// The latest sighting, in milliseconds since the epoch.
    last: i64,
    /// What decided it, in words.
    decision: String,
}

/// The incidents shown most recently, each with its state then.
#[derive(Debug, Default)]
pub(crate) struct ShownIncidents {
    recent: HashMap<IncidentKey, ShownState>,
    /// The previous generation; dropped when `recent` is full.
    earlier: HashMap<IncidentKey, ShownState>,
}

impl ShownIncidents {
    /// Records an incident that is about to be shown. Returns whether it is new.
    pub(crate) fn record(&mut self, incident: &Incident) -> IncidentNews {
        let last = if let Moment::At(millis) = incident.last { millis } else { i64::MIN };
        let known = self.recent.get(&incident.key).or_else(|| self.earlier.get(&incident.key));
        let novelty = match known {
            None => IncidentNews::New,
            // After the store was removed, the count is lower and the sighting later.
            Some(shown) if incident.count > shown.count || last > shown.last => IncidentNews::Repeated,
            Some(_) => return IncidentNews::Known,
        };
        let decision = known.map_or_else(String::new, |shown| shown.decision.clone());
        if self.recent.len() >= MOST {
            self.earlier = std::mem::take(&mut self.recent);
        }
        self.recent.insert(incident.key.clone(), ShownState { count: incident.count, last, decision });
        novelty
    }

    /// Remembers what decided a recorded incident, for the lines about its repetitions.
    pub(crate) fn set_decision(&mut self, key: &IncidentKey, decision: &str) {
        if let Some(shown) = self.recent.get_mut(key) {
            decision.clone_into(&mut shown.decision);
        }
    }

    /// Returns what decided a recorded incident; empty if that is unknown.
    pub(crate) fn decision(&self, key: &IncidentKey) -> &str {
        self.recent.get(key).map_or("", |shown| &shown.decision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::incidents::{IncidentEvent, Sample, SightingSource};

    fn incident(exe: usize, count: u64, last: i64) -> Incident {
        Incident {
            key: IncidentKey {
                unit: None,
                event: IncidentEvent::UnrecordedDeath,
                exe: exe.to_string().into_bytes(),
                source: SightingSource::Audit,
            },
            rung: None,
            count,
            first: Moment::At(0),
            last: Moment::At(last),
            sample: Sample::default(),
        }
    }

    #[test]
    fn shown_incident_is_known_until_it_is_seen_again() {
        let mut shown = ShownIncidents::default();
        assert_eq!(shown.record(&incident(1, 2, 10)), IncidentNews::New);
        assert_eq!(shown.record(&incident(1, 2, 10)), IncidentNews::Known);
        assert_eq!(shown.record(&incident(1, 5, 30)), IncidentNews::Repeated);
        assert_eq!(shown.record(&incident(1, 3, 20)), IncidentNews::Known, "an earlier state");
        assert_eq!(shown.record(&incident(1, 1, 40)), IncidentNews::Repeated, "after the store was removed");
        assert_eq!(shown.record(&incident(1, 2, 50)), IncidentNews::Repeated);
        shown.set_decision(&incident(1, 2, 50).key, "x.service:3");
        assert_eq!(shown.record(&incident(2, 1, 1)), IncidentNews::New);
        assert_eq!(shown.record(&incident(1, 3, 60)), IncidentNews::Repeated);
        let decisions = [1, 2].map(|exe| shown.decision(&incident(exe, 1, 1).key));
        assert_eq!(decisions, ["x.service:3", ""]);
    }

    #[test]
    fn latest_incidents_are_remembered_within_bounds() {
        let mut shown = ShownIncidents::default();
        for number in 0..10 * MOST {
            assert_eq!(shown.record(&incident(number, 1, 1)), IncidentNews::New);
            assert_eq!(shown.record(&incident(number.saturating_sub(MOST - 1), 1, 1)), IncidentNews::Known);
        }
        assert!(shown.recent.len() + shown.earlier.len() <= 2 * MOST);
        assert_eq!(shown.record(&incident(0, 1, 1)), IncidentNews::New);
    }
}
