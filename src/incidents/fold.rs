//! Sightings folded into incidents: a storm costs counters, not rows.

use super::incident::{Incident, Key, Moment, Sample};
use crate::units::Rung;
use std::collections::HashMap;

/// One record, or one silent death, attributed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// What it is a sighting of.
    pub key: Key,
    /// What the attribution to the unit stands on.
    pub rung: Option<Rung>,
    /// When.
    pub at: Moment,
    /// What it looked like.
    pub sample: Sample,
}

/// What a sighting meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a first sighting has to be stored before anyone is told"]
pub enum Folded {
    /// Of an incident not known, or no longer.
    First,
    /// Of one that is counted already.
    Again,
}

/// Incidents by key, at most a given number of them.
///
/// When it is full, those seen longest ago give way. Changes that were not
/// [taken](Fold::take_changes) go with them and are counted in [`Fold::given_way`].
#[derive(Debug)]
pub struct Fold {
    slots: HashMap<Key, Slot>,
    most: usize,
    /// Counts sightings, to tell old from new without a clock.
    now: u64,
    given_way: u64,
}

#[derive(Debug)]
struct Slot {
    /// What was seen since it was last taken; a count of 0 says nothing was.
    change: Incident,
    /// Never taken yet.
    first: bool,
    seen: u64,
}

/// What became of an incident since its last change was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The incident, with the increase of its count alone.
    pub incident: Incident,
    /// It is new.
    pub first: bool,
}

impl Fold {
    /// Room for `most` incidents, at least four.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { slots: HashMap::new(), most: most.max(4), now: 0, given_way: 0 }
    }

    /// Counts one sighting.
    pub fn add(&mut self, sighting: Sighting) -> Folded {
        self.now += 1;
        let Sighting { key, rung, at, sample } = sighting;
        if let Some(slot) = self.slots.get_mut(&key) {
            slot.seen = self.now;
            let change = &mut slot.change;
            if change.count == 0 {
                change.first = at.clone();
            }
            change.rung = surer(change.rung, rung);
            change.count += 1;
            change.last = at;
            change.sample = sample;
            return Folded::Again;
        }
        self.make_room();
        let change = Incident { key: key.clone(), rung, count: 1, first: at.clone(), last: at, sample };
        self.slots.insert(key, Slot { change, first: true, seen: self.now });
        Folded::First
    }

    /// Whether nothing was seen.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Whether the next new incident makes an old one give way.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.slots.len() >= self.most
    }

    /// What was seen since the last call.
    #[must_use]
    pub fn take_changes(&mut self) -> Vec<Change> {
        let changed = self.slots.values_mut().filter(|slot| slot.change.count > 0);
        changed
            .map(|slot| {
                let taken = Change { incident: slot.change.clone(), first: slot.first };
                slot.change.count = 0;
                slot.first = false;
                taken
            })
            .collect()
    }

    /// Takes back changes that could not be stored.
    pub fn put_back(&mut self, changes: Vec<Change>) {
        for Change { incident: old, first } in changes {
            let Some(slot) = self.slots.get_mut(&old.key) else {
                self.make_room();
                self.slots.insert(old.key.clone(), Slot { change: old, first, seen: self.now });
                continue;
            };
            slot.first |= first;
            let change = &mut slot.change;
            if change.count > 0 {
                change.count += old.count;
                change.first = old.first;
                change.rung = surer(change.rung, old.rung);
            } else {
                *change = old;
            }
        }
    }

    /// How many sightings were lost because their incident had to give way.
    #[must_use]
    pub fn given_way(&self) -> u64 {
        self.given_way
    }

    /// Lets the older quarter go when there is no room, so that the sweep is rare.
    fn make_room(&mut self) {
        if !self.is_full() {
            return;
        }
        let mut ages: Vec<u64> = self.slots.values().map(|slot| slot.seen).collect();
        let quarter = ages.len() / 4;
        let (_, &mut oldest_kept, _) = ages.select_nth_unstable(quarter);
        let given_way = &mut self.given_way;
        self.slots.retain(|_, slot| {
            let kept = slot.seen >= oldest_kept;
            if !kept {
                *given_way += slot.change.count;
            }
            kept
        });
    }
}

fn surer(one: Option<Rung>, other: Option<Rung>) -> Option<Rung> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Action;
    use crate::incidents::{Denial, Event};
    use crate::syscalls::{Arch, Call, CallId};

    fn sighting(number: u32, at: i64) -> Sighting {
        let call = Call { arch: Arch(0xc000_003e), id: CallId::Number(number) };
        let event = Event::Denial(Denial { call, action: Action::Errno });
        Sighting {
            key: Key { unit: None, event, exe: b"/a".to_vec() },
            rung: None,
            at: Moment::At(at),
            sample: Sample { pid: 7, ..Sample::default() },
        }
    }

    fn span(change: &Change) -> (u64, &Moment, &Moment) {
        (change.incident.count, &change.incident.first, &change.incident.last)
    }

    #[test]
    fn the_same_event_is_counted() {
        let mut fold = Fold::new(8);
        assert_eq!(fold.add(sighting(41, 10)), Folded::First);
        assert_eq!(fold.add(sighting(41, 20)), Folded::Again);
        assert_eq!(fold.add(sighting(42, 30)), Folded::First);
        let mut changes = fold.take_changes();
        changes.sort_by_key(|change| change.incident.count);
        assert_eq!(span(&changes[1]), (2, &Moment::At(10), &Moment::At(20)));
    }

    #[test]
    fn a_change_is_the_increase_alone() {
        let mut fold = Fold::new(8);
        let _ = fold.add(sighting(41, 10));
        assert_eq!(fold.take_changes().len(), 1);
        assert!(fold.take_changes().is_empty());
        assert_eq!(fold.add(sighting(41, 20)), Folded::Again);
        assert_eq!(span(&fold.take_changes()[0]), (1, &Moment::At(20), &Moment::At(20)));
    }

    #[test]
    fn what_could_not_be_stored_is_not_lost() {
        let mut fold = Fold::new(8);
        let _ = fold.add(sighting(41, 10));
        let changes = fold.take_changes();
        let _ = fold.add(sighting(41, 20));
        fold.put_back(changes);
        let changes = fold.take_changes();
        assert_eq!(span(&changes[0]), (2, &Moment::At(10), &Moment::At(20)));
        fold.put_back(changes);
        assert_eq!(fold.take_changes()[0].incident.count, 2);
    }

    #[test]
    fn an_incident_is_new_until_it_is_stored() {
        let mut fold = Fold::new(8);
        let _ = fold.add(sighting(41, 10));
        let changes = fold.take_changes();
        assert!(changes[0].first);
        fold.put_back(changes);
        assert!(fold.take_changes()[0].first);
        let _ = fold.add(sighting(41, 20));
        assert!(!fold.take_changes()[0].first);
    }

    #[test]
    fn the_oldest_give_way_and_are_counted() {
        let mut fold = Fold::new(8);
        for number in 0..8 {
            let _ = fold.add(sighting(number, 0));
        }
        let _ = fold.add(sighting(0, 1));
        assert_eq!(fold.add(sighting(99, 2)), Folded::First);
        assert_eq!(fold.given_way(), 2, "1 and 2, since 0 was seen again");
        assert_eq!(fold.add(sighting(0, 3)), Folded::Again);
        assert_eq!(fold.add(sighting(1, 3)), Folded::First);
    }

    #[test]
    fn a_storm_of_new_incidents_is_bounded() {
        let mut fold = Fold::new(100);
        for number in 0..10_000 {
            let _ = fold.add(sighting(number, 0));
        }
        let kept: u64 = fold.take_changes().iter().map(|change| change.incident.count).sum();
        assert!(kept <= 100);
        assert_eq!(kept + fold.given_way(), 10_000);
    }
}
