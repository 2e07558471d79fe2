//! The deaths without a record that sent alerts counted. If the record of such a death comes after all, its alert is
//! corrected.

use super::silent_deaths::CountedDeath;
use crate::incidents::{Incident, IncidentEvent, IncidentKey, Moment};
use std::collections::VecDeque;

/// How many sent alerts can still be corrected.
const MAX_SENT_DEATHS: usize = 256;

/// The deaths that sent alerts counted, the oldest alert first.
#[derive(Debug, Default)]
pub(super) struct SentDeaths(VecDeque<AlertedDeaths>);

/// The deaths of one incident.
#[derive(Debug)]
struct AlertedDeaths {
    key: IncidentKey,
    /// The latest of them.
    last: Moment,
    /// How many of them still have no record.
    count: u64,
}

impl SentDeaths {
    /// Remembers the deaths of an incident with a sent alert. Ignores other incidents.
    pub(super) fn remember(&mut self, Incident { key, last, count, .. }: Incident) {
        if key.event != IncidentEvent::UnrecordedDeath {
            return;
        }
        // The new alert counts the deaths of an earlier one as well.
        self.0.retain(|sent| sent.key != key);
        self.0.push_back(AlertedDeaths { key, last, count });
        if self.0.len() > MAX_SENT_DEATHS {
            self.0.pop_front();
        }
    }

    /// Subtracts a death that has a record. Returns whether a sent alert counted it.
    pub(super) fn subtract(&mut self, death: &CountedDeath) -> bool {
        let Some(place) = self.0.iter().position(|sent| counts(&sent.key, &sent.last, death)) else { return false };
        if let Some(sent) = self.0.get_mut(place) {
            sent.count = sent.count.saturating_sub(1);
            if sent.count == 0 {
                self.0.remove(place);
            }
        }
        true
    }
}

/// Whether an incident whose latest sighting is `last` counts a death.
pub(super) fn counts(key: &IncidentKey, last: &Moment, death: &CountedDeath) -> bool {
    let is_earlier = match last {
        Moment::At(last) => death.at <= *last,
        Moment::Text(_) | Moment::Unknown => true,
    };
    is_earlier && *key == death.key
}
