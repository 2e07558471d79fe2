//! The deaths that were counted as deaths without a record. If the record of such a death comes after all, the daemon
//! retracts the incident and its alert.

use crate::incidents::{FairQueue, IncidentKey, Owner};
use std::collections::HashMap;

/// How many deaths the daemon remembers.
const MAX_DEATHS: usize = 1024;

/// How much later than the death its record may be stamped, in milliseconds: the clocks differ by a tick.
const LATER_MS: i64 = 20;

/// A death that was counted as a death without a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CountedDeath {
    /// Its incident.
    pub(super) key: IncidentKey,
    /// The process.
    pub(super) pid: u32,
    /// When it died, in milliseconds since the epoch.
    pub(super) at: i64,
}

/// The latest of these deaths, by process.
#[derive(Debug)]
pub(super) struct SilentDeaths {
    by_pid: HashMap<u32, CountedDeath>,
    /// The processes in `by_pid`, by owner, so that the deaths of one owner push out no other's.
    order: FairQueue<Owner, u32>,
}

impl Default for SilentDeaths {
    fn default() -> Self {
        Self { by_pid: HashMap::new(), order: FairQueue::new(MAX_DEATHS) }
    }
}

impl SilentDeaths {
    /// Remembers a death that was counted.
    pub(super) fn remember(&mut self, death: CountedDeath) {
        let owner = Owner::from_unit_or_uid(death.key.unit.as_ref(), "");
        let pid = death.pid;
        if self.by_pid.insert(pid, death).is_some() {
            self.order.retain(|queued| *queued != pid);
        }
        if let Some(forgotten) = self.order.push(owner, pid) {
            self.by_pid.remove(&forgotten);
        }
    }

    /// Returns the death of a process whose record came now, with this stamp in milliseconds since the epoch, and forgets
    /// it. A record of a later process with the same pid has a later stamp.
    pub(super) fn take(&mut self, pid: u32, stamp: i64) -> Option<CountedDeath> {
        let death = self.by_pid.remove(&pid)?;
        self.order.retain(|queued| *queued != pid);
        (stamp <= death.at.saturating_add(LATER_MS)).then_some(death)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::incidents::{IncidentEvent, SightingSource};
    use crate::units::{Manager, Unit};

    fn death(pid: u32, at: i64, manager: Manager) -> CountedDeath {
        let key = IncidentKey {
            unit: Some(Unit { manager, name: "a.service".parse().unwrap() }),
            event: IncidentEvent::UnrecordedDeath,
            exe: Vec::new(),
            source: SightingSource::Audit,
        };
        CountedDeath { key, pid, at }
    }

    #[test]
    fn record_of_the_same_process_takes_its_death_once() {
        let mut deaths = SilentDeaths::default();
        deaths.remember(death(7, 1_000, Manager::System));
        assert_eq!(deaths.take(8, 999), None);
        assert_eq!(deaths.take(7, 999).map(|death| death.pid), Some(7));
        assert_eq!(deaths.take(7, 999), None);
        deaths.remember(death(7, 1_000, Manager::System));
        assert_eq!(deaths.take(7, 5_000), None, "a later process had the pid");
    }

    #[test]
    fn death_whose_pid_was_taken_before_is_not_forgotten_early() {
        let mut deaths = SilentDeaths::default();
        for _ in 0..MAX_DEATHS {
            deaths.remember(death(7, 1_000, Manager::System));
            assert!(deaths.take(7, 999).is_some());
        }
        assert_eq!((deaths.by_pid.len(), deaths.order.len()), (0, 0));
        deaths.remember(death(7, 1_000, Manager::System));
        deaths.remember(death(7, 2_000, Manager::User(1)));
        for pid in 8..7 + u32::try_from(MAX_DEATHS).unwrap() {
            deaths.remember(death(pid, 1_000, Manager::System));
        }
        assert_eq!(deaths.take(7, 2_000).map(|death| death.at), Some(2_000), "there is room for all of them");
    }

    #[test]
    fn deaths_of_one_owner_push_out_no_death_of_another() {
        let mut deaths = SilentDeaths::default();
        deaths.remember(death(1, 1_000, Manager::System));
        for pid in 2..5_000 {
            deaths.remember(death(pid, 1_000, Manager::User(65_534)));
        }
        assert!(deaths.by_pid.len() <= MAX_DEATHS);
        assert!(deaths.take(1, 999).is_some());
    }
}
