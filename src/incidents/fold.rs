//! Counts sightings as incidents in bounded memory, so that a storm adds to counters, not rows.

mod counter;
mod holdings;
mod sighting;

pub use sighting::{IncidentChange, RepeatSighting, Sighting};

use super::fair_share::{OwnedRow, choose_leaving, divide};
use super::incident::{Denial, Incident, IncidentEvent, IncidentKey, SightingSource};
use super::owner::Owner;
use crate::syscalls::{Call, CallId};
use crate::units::Unit;
use counter::{Counter, USUAL_TEXT};
use holdings::Holdings;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

/// How the fold counted a sighting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a first sighting has to be stored before its alert is sent"]
pub enum Folded {
    /// The first of its incident, or the first since the fold dropped the incident.
    First(Slot),
    /// One more of an incident that the fold holds.
    Again(Slot),
}

/// The place of an incident in the fold, for its next sighting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    index: usize,
    /// Distinguishes the incident from earlier ones in the same place.
    number: u64,
}

/// The most text of all incidents together, in bytes. A process can choose some kilobytes per incident, so a limit on
/// their number alone would not bound memory. A fold for many incidents may hold the usual text of each.
const MOST_TEXT: usize = 1 << 20;

/// Stands for all numbers without a name. The kernel returns the call number -1 to no program.
const ANY_NUMBER: u32 = u32::MAX;

/// Incidents by key, limited in number and size.
///
/// A full fold drops a quarter of its incidents: those of the [owner](Owner) with the most. Of these it first drops
/// incidents without a sighting since they were [taken](Fold::take_changes), the oldest sighting first: that loses
/// nothing. Of the rarer half of the others, it then drops those with the oldest latest sighting. [`Fold::dropped`] counts
/// the sightings that are lost.
#[derive(Debug)]
pub struct Fold {
    index: HashMap<IncidentKey, usize>,
    counters: Vec<Option<Counter>>,
    /// The free places in `counters`.
    free: Vec<usize>,
    most: usize,
    most_text: usize,
    /// Whether processes of several owners fill it, as in the daemon.
    is_shared: bool,
    holdings: Holdings,
    /// A counter that orders sightings without a clock.
    now: u64,
    dropped: u64,
}

impl Folded {
    /// Returns the slot that counts the incident.
    #[must_use]
    pub fn slot(self) -> Slot {
        match self {
            Self::First(slot) | Self::Again(slot) => slot,
        }
    }
}

impl Fold {
    /// Makes a fold for `most` incidents, at least four.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self {
            index: HashMap::new(),
            counters: Vec::new(),
            free: Vec::new(),
            most: at_least_four(most),
            most_text: text_limit(most),
            is_shared: false,
            holdings: Holdings::default(),
            now: 0,
            dropped: 0,
        }
    }

    /// Makes a fold that the processes of all users fill. It counts all denied calls of an executable whose numbers have
    /// no name as one incident, that of the first number. No owner holds more than a quarter of the fold, except what a
    /// rehearsal or a tap asked for.
    #[must_use]
    pub fn new_shared(most: usize) -> Self {
        Self { is_shared: true, ..Self::new(most) }
    }

    /// Whether the processes of all users fill it.
    #[must_use]
    pub(crate) fn is_shared(&self) -> bool {
        self.is_shared
    }

    /// Counts one sighting.
    pub fn add(&mut self, sighting: Sighting) -> Folded {
        self.now += 1;
        let has_room = self.holdings.all.text < self.most_text;
        if let Some(&index) = self.index.get(&*self.index_key(&sighting.key))
            && let Some(counter) = &mut self.counters[index]
        {
            self.holdings.subtract(counter);
            counter.seen = self.now;
            counter.add(sighting, has_room);
            self.holdings.add(counter);
            return Folded::Again(Slot { index, number: counter.number });
        }
        let Sighting { key, rung, at, sample } = sighting;
        let change = Incident { key, rung, count: 1, first: at.clone(), last: at, sample };
        Folded::First(self.insert(change, true))
    }

    /// Counts more sightings in a slot; `latest` is the newest of them. Returns false if the fold has dropped the
    /// incident.
    #[must_use]
    pub fn count(&mut self, slot: Slot, sightings: u64, latest: &RepeatSighting<'_>) -> bool {
        let counter = self.counters.get_mut(slot.index).and_then(Option::as_mut);
        let Some(counter) = counter.filter(|counter| counter.number == slot.number) else { return false };
        self.now += 1;
        counter.seen = self.now;
        if counter.is_changed() {
            // The usual case in a storm: no sum changes.
            counter.count(sightings, latest);
        } else {
            self.holdings.subtract(counter);
            counter.count(sightings, latest);
            self.holdings.add(counter);
        }
        true
    }

    /// Sets the exact time of a slot's latest sighting, whose record held a date in words.
    pub fn set_time(&mut self, slot: Slot, at: i64) {
        let counter = self.counters.get_mut(slot.index).and_then(Option::as_mut);
        if let Some(counter) = counter.filter(|counter| counter.number == slot.number) {
            counter.set_time(at);
        }
    }

    /// Returns the key of the incident in a slot; `None` if the fold has dropped the incident.
    #[must_use]
    pub(crate) fn key(&self, slot: Slot) -> Option<&IncidentKey> {
        let counter = self.counters.get(slot.index).and_then(Option::as_ref);
        counter.filter(|counter| counter.number == slot.number).map(|counter| &counter.change.key)
    }

    /// Subtracts one sighting, because it was a mistake. Returns false if the sighting was taken before, or the fold has
    /// dropped the incident.
    #[must_use]
    pub(crate) fn subtract(&mut self, key: &IncidentKey) -> bool {
        let Some(&index) = self.index.get(&*self.index_key(key)) else { return false };
        let Some(counter) = self.counters.get_mut(index).and_then(Option::as_mut) else { return false };
        self.holdings.subtract(counter);
        let is_here = counter.subtract();
        self.holdings.add(counter);
        // Sightings that were put back are not in the total a second time.
        if counter.total == 0 && !counter.is_changed() {
            self.remove(index);
        }
        is_here
    }

    /// Whether the fold holds no incident.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Whether the next new incident makes the fold drop others.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.index.len() >= self.most || (self.holdings.all.text >= self.most_text && self.index.len() >= 4)
    }

    /// Sets the most incidents that the fold holds. If it holds more, it drops some when new incidents come.
    pub fn set_limit(&mut self, most: usize) {
        (self.most, self.most_text) = (at_least_four(most), text_limit(most));
    }

    /// Whether the next new incident may lose sightings that were not taken yet.
    #[must_use]
    pub fn can_lose_sightings(&self) -> bool {
        self.is_full() && self.holdings.can_lose_sightings(self.holdings.all.cost / 4 * 3)
    }

    /// Returns the changes since the last call, at most `most`: new incidents first, in equal shares of their owners.
    #[must_use]
    pub fn take_changes(&mut self, most: usize) -> Vec<IncidentChange> {
        let mut taken = Vec::new();
        for first in [true, false] {
            for index in self.choose_changed(first, most - taken.len()) {
                if let Some(counter) = &mut self.counters[index] {
                    self.holdings.subtract(counter);
                    taken.push(counter.take());
                    self.holdings.add(counter);
                }
            }
        }
        taken
    }

    /// Puts back changes that could not be stored.
    pub fn put_back(&mut self, changes: Vec<IncidentChange>) {
        for IncidentChange { incident: old, first } in changes {
            let known = self.index.get(&*self.index_key(&old.key)).and_then(|&index| self.counters[index].as_mut());
            if let Some(counter) = known {
                self.holdings.subtract(counter);
                counter.put_back(old, first);
                self.holdings.add(counter);
            } else {
                self.now += 1;
                self.insert(old, first);
            }
        }
    }

    /// Forgets the incidents of a unit, or (`None`) those of processes whose unit is unknown: their next sighting is the
    /// first of a new incident. Their sightings do not count as [dropped](Self::dropped). Returns how many of the incidents
    /// were never [taken](Self::take_changes).
    pub fn forget_unit(&mut self, unit: Option<&Unit>) -> u64 {
        let of_unit = self.places().filter(|(_, counter)| counter.change.key.unit.as_ref() == unit);
        let leaving: Vec<(usize, bool)> = of_unit.map(|(index, counter)| (index, counter.first)).collect();
        for (index, _) in &leaving {
            self.remove(*index);
        }
        leaving.iter().filter(|(_, is_first)| *is_first).count() as u64
    }

    /// Returns how many sightings were lost because the fold dropped their incident.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    fn places(&self) -> impl Iterator<Item = (usize, &Counter)> {
        self.counters.iter().enumerate().filter_map(|(index, counter)| Some((index, counter.as_ref()?)))
    }

    /// Returns the places of at most `most` changed incidents, in equal shares of their owners.
    fn choose_changed(&self, first: bool, most: usize) -> Vec<usize> {
        let changed = self.places().filter(|(_, counter)| counter.is_changed() && counter.first == first);
        let changed: Vec<(usize, &Counter)> = changed.collect();
        if changed.len() <= most {
            return changed.into_iter().map(|(index, _)| index).collect();
        }
        let mut owners: BTreeMap<&Owner, Vec<usize>> = BTreeMap::new();
        for (index, counter) in changed {
            owners.entry(&counter.owner).or_default().push(index);
        }
        let held = owners.iter().map(|(owner, own)| (*owner, own.len() as u64)).collect();
        let shares = divide(&held, most as u64);
        let share = |owner| usize::try_from(shares.get(owner).copied().unwrap_or(0)).unwrap_or(usize::MAX);
        owners.into_iter().flat_map(|(owner, own)| own.into_iter().take(share(owner))).collect()
    }

    /// Returns the key under which the fold finds an incident.
    fn index_key<'k>(&self, key: &'k IncidentKey) -> Cow<'k, IncidentKey> {
        match &key.event {
            IncidentEvent::Denial(Denial { call: call @ Call { id: CallId::Number(_), arch }, action })
                if self.is_shared && key.source == SightingSource::Audit && call.name().is_none() =>
            {
                let call = Call::numbered(*arch, ANY_NUMBER);
                let event = IncidentEvent::Denial(Denial { call, action: *action });
                Cow::Owned(IncidentKey { event, ..key.clone() })
            }
            _ => Cow::Borrowed(key),
        }
    }

    fn insert(&mut self, change: Incident, first: bool) -> Slot {
        let key = self.index_key(&change.key).into_owned();
        let counter = Counter::new(change, first, self.now);
        self.make_room(&counter);
        self.holdings.add(&counter);
        let index = self.free.pop().unwrap_or(self.counters.len());
        match self.counters.get_mut(index) {
            Some(place) => *place = Some(counter),
            None => self.counters.push(Some(counter)),
        }
        self.index.insert(key, index);
        Slot { index, number: self.now }
    }

    /// Drops incidents if there is no room for another: so many that this happens rarely.
    fn make_room(&mut self, new: &Counter) {
        let is_recorded = new.change.key.source == SightingSource::Audit;
        if self.is_full() {
            self.drop_to(self.holdings.all.cost / 4 * 3, |_| true);
        } else if self.is_shared && is_recorded && self.holdings.held_by(&new.owner).recorded >= self.most / 4 {
            let is_own = |counter: &Counter| counter.owner == new.owner && counter.is_recorded();
            let cost: u64 = self.places().filter(|(_, counter)| is_own(counter)).map(|(_, own)| own.cost()).sum();
            self.drop_to(cost / 4 * 3, is_own);
        }
    }

    /// Drops incidents until those that `may_leave` cost at most `most`.
    fn drop_to(&mut self, most: u64, may_leave: impl Fn(&Counter) -> bool) {
        let (places, rows): (Vec<usize>, Vec<OwnedRow<&Owner>>) = self
            .places()
            .filter(|(_, counter)| may_leave(counter))
            .map(|(index, counter)| (index, counter.row()))
            .unzip();
        let leaving: Vec<usize> = choose_leaving(&rows, most).into_iter().map(|row| places[row]).collect();
        for index in leaving {
            self.dropped += self.remove(index);
        }
    }

    /// Empties a place. Returns how many sightings of its incident were not taken yet.
    fn remove(&mut self, index: usize) -> u64 {
        let Some(counter) = self.counters.get_mut(index).and_then(Option::take) else { return 0 };
        self.holdings.subtract(&counter);
        self.index.remove(&*self.index_key(&counter.change.key));
        self.free.push(index);
        counter.change.count
    }
}

/// Returns the limit of incidents, at least four: a quarter of fewer incidents would be none.
fn at_least_four(most: usize) -> usize {
    most.max(4)
}

/// Returns the limit of text for so many incidents, in bytes.
fn text_limit(most: usize) -> usize {
    MOST_TEXT.max(most.saturating_mul(USUAL_TEXT))
}

#[cfg(test)]
mod tests;
