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
    First(Slot),
    /// Of one that is counted already.
    Again(Slot),
}

/// Where an incident is counted, for the next sighting of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    index: usize,
    /// Tells the incident from others that had the place before.
    number: u64,
}

/// A sighting of an incident whose slot is known: what differs from one to the next.
#[derive(Debug, Clone)]
pub struct Glimpse<'a> {
    /// When.
    pub at: Moment,
    /// The process.
    pub pid: u32,
    /// Its thread's name.
    pub comm: &'a [u8],
    /// Instruction pointer of the call.
    pub ip: u64,
}

/// Incidents by key, at most a given number of them.
///
/// When it is full, those seen longest ago give way. Changes that were not
/// [taken](Fold::take_changes) go with them and are counted in [`Fold::given_way`].
#[derive(Debug)]
pub struct Fold {
    index: HashMap<Key, usize>,
    counters: Vec<Option<Counter>>,
    /// Places in `counters` that are free.
    free: Vec<usize>,
    most: usize,
    /// Counts sightings, to tell old from new without a clock.
    now: u64,
    given_way: u64,
}

#[derive(Debug)]
struct Counter {
    /// What was seen since it was last taken; a count of 0 says nothing was.
    change: Incident,
    /// Never taken yet.
    first: bool,
    seen: u64,
    number: u64,
}

/// What became of an incident since its last change was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The incident, with the increase of its count alone.
    pub incident: Incident,
    /// It is new.
    pub first: bool,
}

impl Folded {
    /// Where it is counted.
    #[must_use]
    pub fn slot(self) -> Slot {
        match self {
            Self::First(slot) | Self::Again(slot) => slot,
        }
    }
}

impl Fold {
    /// Room for `most` incidents, at least four.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { index: HashMap::new(), counters: Vec::new(), free: Vec::new(), most: most.max(4), now: 0, given_way: 0 }
    }

    /// Counts one sighting.
    pub fn add(&mut self, sighting: Sighting) -> Folded {
        self.now += 1;
        let Sighting { key, rung, at, sample } = sighting;
        if let Some(&index) = self.index.get(&key)
            && let Some(counter) = &mut self.counters[index]
        {
            counter.seen = self.now;
            let change = &mut counter.change;
            if change.count == 0 {
                change.first = at.clone();
            }
            change.rung = surer(change.rung, rung);
            change.count += 1;
            change.last = at;
            change.sample = sample;
            return Folded::Again(Slot { index, number: counter.number });
        }
        let change = Incident { key, rung, count: 1, first: at.clone(), last: at, sample };
        Folded::First(self.insert(change, true))
    }

    /// Counts more sightings in a slot, of which `glimpse` is the latest; false if its incident has given way.
    #[must_use]
    pub fn count(&mut self, slot: Slot, sightings: u64, glimpse: Glimpse<'_>) -> bool {
        let counter = self.counters.get_mut(slot.index).and_then(Option::as_mut);
        let Some(counter) = counter.filter(|counter| counter.number == slot.number) else { return false };
        self.now += 1;
        counter.seen = self.now;
        let change = &mut counter.change;
        if change.count == 0 {
            change.first = glimpse.at.clone();
        }
        change.count += sightings;
        change.last = glimpse.at;
        let sample = &mut change.sample;
        sample.pid = glimpse.pid;
        sample.ip = glimpse.ip;
        if sample.comm != glimpse.comm {
            sample.comm = glimpse.comm.to_vec();
        }
        true
    }

    /// Whether nothing was seen.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Whether the next new incident makes an old one give way.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.index.len() >= self.most
    }

    /// What was seen since the last call.
    #[must_use]
    pub fn take_changes(&mut self) -> Vec<Change> {
        let changed = self.counters.iter_mut().flatten().filter(|counter| counter.change.count > 0);
        changed
            .map(|counter| {
                let taken = Change { incident: counter.change.clone(), first: counter.first };
                counter.change.count = 0;
                counter.first = false;
                taken
            })
            .collect()
    }

    /// Takes back changes that could not be stored.
    pub fn put_back(&mut self, changes: Vec<Change>) {
        for Change { incident: old, first } in changes {
            let known = self.index.get(&old.key).and_then(|&index| self.counters[index].as_mut());
            let Some(counter) = known else {
                self.now += 1;
                self.insert(old, first);
                continue;
            };
            counter.first |= first;
            let change = &mut counter.change;
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

    fn insert(&mut self, change: Incident, first: bool) -> Slot {
        self.make_room();
        let key = change.key.clone();
        let counter = Counter { change, first, seen: self.now, number: self.now };
        let index = self.free.pop().unwrap_or(self.counters.len());
        match self.counters.get_mut(index) {
            Some(place) => *place = Some(counter),
            None => self.counters.push(Some(counter)),
        }
        self.index.insert(key, index);
        Slot { index, number: self.now }
    }

    /// Lets the older quarter go when there is no room, so that the sweep is rare.
    fn make_room(&mut self) {
        if !self.is_full() {
            return;
        }
        let mut ages: Vec<u64> = self.counters.iter().flatten().map(|counter| counter.seen).collect();
        let quarter = ages.len() / 4;
        let (_, &mut oldest_kept, _) = ages.select_nth_unstable(quarter);
        for (index, place) in self.counters.iter_mut().enumerate() {
            if let Some(counter) = place.take_if(|counter| counter.seen < oldest_kept) {
                self.given_way += counter.change.count;
                self.index.remove(&counter.change.key);
                self.free.push(index);
            }
        }
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

    fn is_first(folded: Folded) -> bool {
        matches!(folded, Folded::First(_))
    }

    fn span(change: &Change) -> (u64, &Moment, &Moment) {
        (change.incident.count, &change.incident.first, &change.incident.last)
    }

    #[test]
    fn the_same_event_is_counted() {
        let mut fold = Fold::new(8);
        assert!(is_first(fold.add(sighting(41, 10))));
        assert!(!is_first(fold.add(sighting(41, 20))));
        assert!(is_first(fold.add(sighting(42, 30))));
        let mut changes = fold.take_changes();
        changes.sort_by_key(|change| change.incident.count);
        assert_eq!(span(&changes[1]), (2, &Moment::At(10), &Moment::At(20)));
    }

    #[test]
    fn a_known_slot_counts_without_the_key() {
        let mut fold = Fold::new(8);
        let slot = fold.add(sighting(41, 10)).slot();
        let glimpse = |at| Glimpse { at: Moment::At(at), pid: 9, comm: b"other", ip: 5 };
        assert!(fold.count(slot, 1, glimpse(20)));
        let change = fold.take_changes().remove(0);
        assert_eq!(span(&change), (2, &Moment::At(10), &Moment::At(20)));
        let sample = &change.incident.sample;
        assert_eq!((sample.pid, sample.ip, &*sample.comm), (9, 5, &b"other"[..]));
        assert!(fold.count(slot, 1, glimpse(30)));
        assert_eq!(span(&fold.take_changes()[0]), (1, &Moment::At(30), &Moment::At(30)));
        for number in 100..120 {
            let _ = fold.add(sighting(number, 40));
        }
        assert!(!fold.count(slot, 1, glimpse(50)), "its place is another's by now");
    }

    #[test]
    fn a_change_is_the_increase_alone() {
        let mut fold = Fold::new(8);
        let _ = fold.add(sighting(41, 10));
        assert_eq!(fold.take_changes().len(), 1);
        assert!(fold.take_changes().is_empty());
        assert!(!is_first(fold.add(sighting(41, 20))));
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
        assert!(is_first(fold.add(sighting(99, 2))));
        assert_eq!(fold.given_way(), 2, "1 and 2, since 0 was seen again");
        assert!(!is_first(fold.add(sighting(0, 3))));
        assert!(is_first(fold.add(sighting(1, 3))));
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
