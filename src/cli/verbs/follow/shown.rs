//! What was shown: by what was seen and not by its number in the store, which a store begun anew gives to others.

use crate::incidents::{Incident, IncidentKey, Moment};
use std::collections::HashMap;

/// How many incidents are remembered at least; at most twice as many.
const MOST: usize = 8 << 10;

/// What an incident is to who has followed so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum News {
    /// It was not shown before.
    First,
    /// It goes on.
    Again,
    /// Nothing: as it was shown, or an earlier state of it.
    None,
}

/// How often and when last, in milliseconds since the epoch.
type State = (u64, i64);

/// The incidents that were shown last, as they were then.
#[derive(Debug, Default)]
pub(crate) struct Shown {
    recent: HashMap<IncidentKey, State>,
    /// Those before, until there are as many recent ones.
    earlier: HashMap<IncidentKey, State>,
}

impl Shown {
    /// Takes note of an incident that is about to be shown, and says what it is.
    pub(crate) fn note(&mut self, incident: &Incident) -> News {
        let last = if let Moment::At(millis) = incident.last { millis } else { i64::MIN };
        let known = self.recent.get(&incident.key).or_else(|| self.earlier.get(&incident.key));
        let news = match known {
            None => News::First,
            // In a store begun anew the count is lower, and the sighting later.
            Some((count, shown)) if incident.count > *count || last > *shown => News::Again,
            Some(_) => return News::None,
        };
        if self.recent.len() >= MOST {
            self.earlier = std::mem::take(&mut self.recent);
        }
        self.recent.insert(incident.key.clone(), (incident.count, last));
        news
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
    fn what_was_shown_is_not_shown_again_and_what_goes_on_is() {
        let mut shown = Shown::default();
        assert_eq!(shown.note(&incident(1, 2, 10)), News::First);
        assert_eq!(shown.note(&incident(1, 2, 10)), News::None);
        assert_eq!(shown.note(&incident(1, 5, 30)), News::Again);
        assert_eq!(shown.note(&incident(1, 3, 20)), News::None, "an earlier state");
        assert_eq!(shown.note(&incident(1, 1, 40)), News::Again, "of a store begun anew");
        assert_eq!(shown.note(&incident(1, 2, 50)), News::Again);
        assert_eq!(shown.note(&incident(2, 1, 1)), News::First);
    }

    #[test]
    fn the_latest_are_remembered_and_memory_is_bounded() {
        let mut shown = Shown::default();
        for number in 0..10 * MOST {
            assert_eq!(shown.note(&incident(number, 1, 1)), News::First);
            assert_eq!(shown.note(&incident(number.saturating_sub(MOST - 1), 1, 1)), News::None);
        }
        assert!(shown.recent.len() + shown.earlier.len() <= 2 * MOST);
        assert_eq!(shown.note(&incident(0, 1, 1)), News::First);
    }
}
