//! Counts sightings as incidents in bounded memory, so that a storm adds to counters, not rows.

use super::incident::{Incident, IncidentKey, Moment, Sample};
use crate::units::{Confidence, Rung, Unit};
use std::collections::HashMap;

/// One record, or one death without a record, with its unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// The key of its incident.
    pub key: IncidentKey,
    /// The evidence for the unit.
    pub rung: Option<Rung>,
    /// The time.
    pub at: Moment,
    /// The process and the call.
    pub sample: Sample,
}

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

/// A sighting of an incident whose slot is known: the facts that differ between sightings.
#[derive(Debug, Clone)]
pub struct RepeatSighting<'a> {
    /// The time.
    pub at: Moment,
    /// The process.
    pub pid: u32,
    /// Its thread's name.
    pub comm: &'a [u8],
    /// Instruction pointer of the call.
    pub ip: u64,
}

/// The most text of all incidents together, in bytes. A process can choose some kilobytes per incident, so a limit on
/// their number alone would not bound memory.
const MOST_TEXT: usize = 1 << 20;

/// The usual text of one incident, in bytes: a fold for many incidents may hold this much for each.
const USUAL_TEXT: usize = 128;

/// Incidents by key, limited in number and size.
///
/// A full fold drops a quarter of its incidents. It first drops incidents without a sighting since they were
/// [taken](Fold::take_changes), the oldest sighting first: that loses nothing. Of the rarer half of the others, it then
/// drops those with the oldest latest sighting. [`Fold::dropped`] counts the sightings that are lost.
#[derive(Debug)]
pub struct Fold {
    index: HashMap<IncidentKey, usize>,
    counters: Vec<Option<Counter>>,
    /// The free places in `counters`.
    free: Vec<usize>,
    most: usize,
    /// The bytes of text, and their limit.
    text: usize,
    most_text: usize,
    /// How many incidents have sightings that [`Fold::take_changes`] has not returned.
    changed: usize,
    /// A counter that orders sightings without a clock.
    now: u64,
    dropped: u64,
}

#[derive(Debug)]
struct Counter {
    /// The sightings since it was last taken; a count of 0 means none.
    change: Incident,
    /// Whether it was never taken.
    first: bool,
    /// The bytes of its text.
    text: usize,
    /// The number of all its sightings.
    total: u64,
    seen: u64,
    number: u64,
}

/// The sightings of an incident since its last change was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IncidentChange {
    /// The incident, counting only these sightings.
    pub incident: Incident,
    /// Whether the incident is new.
    pub first: bool,
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
            text: 0,
            most_text: text_limit(most),
            changed: 0,
            now: 0,
            dropped: 0,
        }
    }

    /// Counts one sighting.
    pub fn add(&mut self, sighting: Sighting) -> Folded {
        self.now += 1;
        let Sighting { key, rung, at, sample } = sighting;
        if let Some(&index) = self.index.get(&key)
            && let Some(counter) = &mut self.counters[index]
        {
            counter.seen = self.now;
            counter.total += 1;
            let change = &mut counter.change;
            if change.count == 0 {
                change.first = at.clone();
                self.changed += 1;
            }
            change.first.lower_to(&at);
            change.count += 1;
            change.last = at;
            if is_guess(rung) && !is_guess(change.rung) {
                // A guess does not replace the sample of a process that is known to be the unit's.
                return Folded::Again(Slot { index, number: counter.number });
            }
            change.rung = more_certain(change.rung, rung);
            let earlier = std::mem::replace(&mut change.sample, sample);
            if self.text >= self.most_text && earlier.subject.len() < change.sample.subject.len() {
                // There is no room for a longer label.
                change.sample.subject = earlier.subject;
            }
            let text = text_length(change);
            self.text = self.text - counter.text + text;
            counter.text = text;
            return Folded::Again(Slot { index, number: counter.number });
        }
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
        counter.total = counter.total.saturating_add(sightings);
        let change = &mut counter.change;
        if change.count == 0 {
            self.changed += 1;
            change.first = latest.at.clone();
        }
        change.first.lower_to(&latest.at);
        change.count += sightings;
        change.last = latest.at.clone();
        let sample = &mut change.sample;
        sample.pid = latest.pid;
        sample.ip = latest.ip;
        if sample.comm != latest.comm {
            sample.comm = latest.comm.to_vec();
        }
        true
    }

    /// Sets the exact time of a slot's latest sighting, whose record held a date in words.
    pub fn set_time(&mut self, slot: Slot, at: i64) {
        let counter = self.counters.get_mut(slot.index).and_then(Option::as_mut);
        let Some(counter) = counter.filter(|counter| counter.number == slot.number) else { return };
        let change = &mut counter.change;
        change.first = Moment::At(if let Moment::At(first) = change.first { first.min(at) } else { at });
        change.last = Moment::At(if let Moment::At(last) = change.last { last.max(at) } else { at });
    }

    /// Whether the fold holds no incident.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Whether the next new incident makes the fold drop others.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.index.len() >= self.most || (self.text >= self.most_text && self.index.len() >= 4)
    }

    /// Sets the most incidents that the fold holds. If it holds more, it drops some when new incidents come.
    pub fn set_limit(&mut self, most: usize) {
        (self.most, self.most_text) = (at_least_four(most), text_limit(most));
    }

    /// Whether the next new incident may lose sightings that were not taken yet.
    #[must_use]
    pub fn can_lose_sightings(&self) -> bool {
        self.is_full() && self.index.len() - self.changed < self.index.len() / 4
    }

    /// Returns the changes since the last call, at most `most`, new incidents first.
    #[must_use]
    pub fn take_changes(&mut self, most: usize) -> Vec<IncidentChange> {
        let mut taken = Vec::new();
        for first in [true, false] {
            let changed = self.counters.iter_mut().flatten();
            let changed = changed.filter(|counter| counter.change.count > 0 && counter.first == first);
            taken.extend(changed.take(most - taken.len()).map(|counter| {
                let change = IncidentChange { incident: counter.change.clone(), first };
                counter.change.count = 0;
                counter.first = false;
                change
            }));
        }
        self.changed -= taken.len();
        taken
    }

    /// Puts back changes that could not be stored.
    pub fn put_back(&mut self, changes: Vec<IncidentChange>) {
        for IncidentChange { incident: old, first } in changes {
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
                change.rung = more_certain(change.rung, old.rung);
            } else {
                *change = old;
                self.changed += 1;
            }
        }
    }

    /// Forgets the incidents of a unit, or (`None`) those of processes whose unit is unknown: their next sighting is the
    /// first of a new incident. Their sightings do not count as [dropped](Self::dropped).
    pub fn forget_unit(&mut self, unit: Option<&Unit>) {
        let places = self.counters.iter().enumerate();
        let of_unit = places
            .filter(|(_, counter)| counter.as_ref().is_some_and(|counter| counter.change.key.unit.as_ref() == unit));
        let leaving: Vec<usize> = of_unit.map(|(index, _)| index).collect();
        for index in leaving {
            self.remove(index);
        }
    }

    /// Returns how many sightings were lost because the fold dropped their incident.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    fn insert(&mut self, change: Incident, first: bool) -> Slot {
        self.make_room();
        let key = change.key.clone();
        let text = text_length(&change);
        self.text += text;
        self.changed += 1;
        let counter = Counter { total: change.count, change, first, text, seen: self.now, number: self.now };
        let index = self.free.pop().unwrap_or(self.counters.len());
        match self.counters.get_mut(index) {
            Some(place) => *place = Some(counter),
            None => self.counters.push(Some(counter)),
        }
        self.index.insert(key, index);
        Slot { index, number: self.now }
    }

    /// Drops a quarter of the incidents if there is no room: so many that this happens rarely.
    fn make_room(&mut self) {
        if !self.is_full() {
            return;
        }
        let quarter = self.index.len() / 4;
        let places = self.counters.iter().enumerate();
        let places = places.filter_map(|(index, counter)| Some((index, counter.as_ref()?)));
        let (taken, mut others): (Vec<_>, Vec<_>) = places.partition(|(_, counter)| counter.change.count == 0);
        let mut leaving = taken;
        if leaving.len() < quarter {
            others.sort_unstable_by_key(|(_, counter)| (counter.total, counter.seen));
            others.truncate(others.len().div_ceil(2).max(quarter - leaving.len()));
            others.sort_unstable_by_key(|(_, counter)| counter.seen);
            leaving.extend(others.into_iter().take(quarter - leaving.len()));
        } else {
            leaving.sort_unstable_by_key(|(_, counter)| counter.seen);
            leaving.truncate(quarter);
        }
        let leaving: Vec<usize> = leaving.into_iter().map(|(index, _)| index).collect();
        for index in leaving {
            self.dropped += self.remove(index);
        }
    }

    /// Empties a place. Returns how many sightings of its incident were not taken yet.
    fn remove(&mut self, index: usize) -> u64 {
        let Some(counter) = self.counters.get_mut(index).and_then(Option::take) else { return 0 };
        self.text -= counter.text;
        self.changed -= usize::from(counter.change.count > 0);
        self.index.remove(&counter.change.key);
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

/// Returns the bytes of an incident's text whose length other programs choose.
fn text_length(incident: &Incident) -> usize {
    let Incident { key, sample, .. } = incident;
    key.unit.as_ref().map_or(0, |unit| unit.name.as_str().len()) + key.exe.len() + sample.subject.len()
}

fn is_guess(rung: Option<Rung>) -> bool {
    rung.is_some_and(|rung| rung.confidence() == Confidence::Guess)
}

fn more_certain(one: Option<Rung>, other: Option<Rung>) -> Option<Rung> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Action;
    use crate::incidents::{Denial, IncidentEvent, SightingSource};
    use crate::syscalls::{Arch, Call, CallId};

    const ALL: usize = usize::MAX;

    fn sighting(number: u32, at: i64) -> Sighting {
        let call = Call { arch: Arch(0xc000_003e), id: CallId::Number(number) };
        let event = IncidentEvent::Denial(Denial { call, action: Action::Errno });
        Sighting {
            key: IncidentKey { unit: None, event, exe: b"/a".to_vec(), source: SightingSource::Audit },
            rung: None,
            at: Moment::At(at),
            sample: Sample { pid: 7, ..Sample::default() },
        }
    }

    fn is_first(folded: Folded) -> bool {
        matches!(folded, Folded::First(_))
    }

    fn span(change: &IncidentChange) -> (u64, &Moment, &Moment) {
        (change.incident.count, &change.incident.first, &change.incident.last)
    }

    #[test]
    fn same_event_is_counted_in_one_incident() {
        let mut fold = Fold::new(8);
        assert!(is_first(fold.add(sighting(41, 10))));
        assert!(!is_first(fold.add(sighting(41, 20))));
        assert!(is_first(fold.add(sighting(42, 30))));
        let mut changes = fold.take_changes(ALL);
        changes.sort_by_key(|change| change.incident.count);
        assert_eq!(span(&changes[1]), (2, &Moment::At(10), &Moment::At(20)));
    }

    #[test]
    fn known_slot_counts_without_key() {
        let mut fold = Fold::new(8);
        let slot = fold.add(sighting(41, 10)).slot();
        let repeat = |at| RepeatSighting { at: Moment::At(at), pid: 9, comm: b"other", ip: 5 };
        assert!(fold.count(slot, 1, &repeat(20)));
        let change = fold.take_changes(ALL).remove(0);
        assert_eq!(span(&change), (2, &Moment::At(10), &Moment::At(20)));
        let sample = &change.incident.sample;
        assert_eq!((sample.pid, sample.ip, &*sample.comm), (9, 5, &b"other"[..]));
        assert!(fold.count(slot, 1, &repeat(30)));
        assert_eq!(span(&fold.take_changes(ALL)[0]), (1, &Moment::At(30), &Moment::At(30)));
        for number in 100..120 {
            let _ = fold.add(sighting(number, 40));
        }
        assert!(!fold.count(slot, 1, &repeat(50)), "another incident has the place now");
    }

    #[test]
    fn forgotten_unit_begins_again_and_others_stay() {
        let unit = Unit { manager: crate::units::Manager::System, name: "a.service".parse().unwrap() };
        let of_unit = |number, at| {
            let mut sighting = sighting(number, at);
            sighting.key.unit = Some(unit.clone());
            sighting
        };
        let mut fold = Fold::new(8);
        let slot = fold.add(of_unit(41, 10)).slot();
        let _ = fold.add(of_unit(42, 10));
        let _ = fold.add(sighting(41, 10));
        let _ = fold.take_changes(1);
        fold.forget_unit(Some(&unit));
        assert!(!fold.count(slot, 1, &RepeatSighting { at: Moment::At(20), pid: 7, comm: b"", ip: 0 }));
        let left = fold.take_changes(ALL);
        assert_eq!(left.iter().map(|change| change.incident.key.unit.clone()).collect::<Vec<_>>(), [None]);
        assert!(is_first(fold.add(of_unit(41, 30))) && fold.dropped() == 0);
        assert_eq!(span(&fold.take_changes(ALL)[0]), (1, &Moment::At(30), &Moment::At(30)));
        fold.forget_unit(None);
        assert!(is_first(fold.add(sighting(41, 40))) && !is_first(fold.add(of_unit(41, 50))));
    }

    #[test]
    fn guess_does_not_replace_sample_of_certain_attribution() {
        let attributed_by = |rung, pid, at| Sighting {
            rung: Some(rung),
            sample: Sample { pid, ..Sample::default() },
            ..sighting(41, at)
        };
        let mut fold = Fold::new(8);
        let _ = fold.add(attributed_by(Rung::ExitEntry, 1, 10));
        let _ = fold.add(attributed_by(Rung::ParentCgroup, 2, 20));
        let _ = fold.add(attributed_by(Rung::Executable, 3, 30));
        let changes = fold.take_changes(ALL);
        let facts = |change: &IncidentChange| (change.incident.rung, change.incident.sample.pid, change.incident.count);
        assert_eq!(facts(&changes[0]), (Some(Rung::ParentCgroup), 2, 3));
        assert_eq!(changes[0].incident.last, Moment::At(30));
        let _ = fold.add(attributed_by(Rung::ExitEntry, 4, 40));
        assert_eq!(facts(&fold.take_changes(ALL)[0]), (Some(Rung::ParentCgroup), 2, 1), "taken or not");
    }

    #[test]
    fn clock_set_back_moves_first_sighting_to_latest() {
        let mut fold = Fold::new(8);
        let slot = fold.add(sighting(41, 3_600_000)).slot();
        let _ = fold.add(sighting(41, 10));
        assert!(fold.count(slot, 1, &RepeatSighting { at: Moment::At(5), pid: 9, comm: b"c", ip: 5 }));
        assert_eq!(span(&fold.take_changes(ALL)[0]), (3, &Moment::At(5), &Moment::At(5)));
    }

    #[test]
    fn change_counts_only_new_sightings() {
        let mut fold = Fold::new(8);
        let _ = fold.add(sighting(41, 10));
        assert_eq!(fold.take_changes(ALL).len(), 1);
        assert!(fold.take_changes(ALL).is_empty());
        assert!(!is_first(fold.add(sighting(41, 20))));
        assert_eq!(span(&fold.take_changes(ALL)[0]), (1, &Moment::At(20), &Moment::At(20)));
    }

    #[test]
    fn change_that_could_not_be_stored_is_not_lost() {
        let mut fold = Fold::new(8);
        let _ = fold.add(sighting(41, 10));
        let changes = fold.take_changes(ALL);
        let _ = fold.add(sighting(41, 20));
        fold.put_back(changes);
        let changes = fold.take_changes(ALL);
        assert_eq!(span(&changes[0]), (2, &Moment::At(10), &Moment::At(20)));
        fold.put_back(changes);
        assert_eq!(fold.take_changes(ALL)[0].incident.count, 2);
    }

    #[test]
    fn incident_stays_new_if_its_change_is_put_back() {
        let mut fold = Fold::new(8);
        let _ = fold.add(sighting(41, 10));
        let changes = fold.take_changes(ALL);
        assert!(changes[0].first);
        fold.put_back(changes);
        assert!(fold.take_changes(ALL)[0].first);
        let _ = fold.add(sighting(41, 20));
        assert!(!fold.take_changes(ALL)[0].first);
    }

    #[test]
    fn full_fold_drops_oldest_and_counts_their_sightings() {
        let mut fold = Fold::new(8);
        for number in 0..8 {
            let _ = fold.add(sighting(number, 0));
        }
        let _ = fold.add(sighting(0, 1));
        assert!(is_first(fold.add(sighting(99, 2))));
        assert_eq!(fold.dropped(), 2, "1 and 2, since 0 was seen again");
        assert!(!is_first(fold.add(sighting(0, 3))));
        assert!(is_first(fold.add(sighting(1, 3))));
    }

    #[test]
    fn frequent_incident_outlasts_rare_ones() {
        let mut fold = Fold::new(8);
        for _ in 0..100 {
            let _ = fold.add(sighting(1_000, 0));
        }
        for number in 0..500 {
            let _ = fold.add(sighting(number, 1));
        }
        assert!(fold.can_lose_sightings() || !fold.is_full());
        assert!(!is_first(fold.add(sighting(1_000, 2))), "its sighting is the oldest, and it has the most");
    }

    #[test]
    fn exact_time_replaces_date_in_words() {
        let mut fold = Fold::new(8);
        let dated = |date: &str| Sighting { at: Moment::Text(date.into()), ..sighting(1, 0) };
        let slot = fold.add(dated("Nov 23 17:12:17")).slot();
        fold.set_time(slot, 5_000);
        let _ = fold.add(dated("Nov 23 17:12:18"));
        fold.set_time(slot, 6_000);
        let incident = fold.take_changes(ALL).remove(0).incident;
        assert_eq!((incident.count, incident.first, incident.last), (2, Moment::At(5_000), Moment::At(6_000)));
    }

    #[test]
    fn taken_incidents_are_dropped_before_sightings_are_lost() {
        let mut fold = Fold::new(8);
        for number in 0..4 {
            let _ = fold.add(sighting(number, 0));
        }
        assert_eq!(fold.take_changes(ALL).len(), 4);
        for number in 4..10 {
            assert!(!fold.can_lose_sightings());
            let _ = fold.add(sighting(number, 1));
        }
        assert_eq!(fold.dropped(), 0);
        assert!(!is_first(fold.add(sighting(3, 1))), "the oldest went first");
    }

    #[test]
    fn new_incidents_are_taken_first_and_in_batches() {
        let mut fold = Fold::new(8);
        let _ = fold.add(sighting(1, 0));
        let _ = fold.take_changes(ALL);
        for number in 1..5 {
            let _ = fold.add(sighting(number, 1));
        }
        let firsts: Vec<bool> = fold.take_changes(2).iter().map(|change| change.first).collect();
        assert_eq!(firsts, [true, true]);
        let firsts: Vec<bool> = fold.take_changes(ALL).iter().map(|change| change.first).collect();
        assert_eq!(firsts, [true, false]);
    }

    #[test]
    fn text_of_incidents_is_bounded() {
        let mut fold = Fold::new(8_000);
        for number in 0..2_000 {
            let mut long = sighting(number, 0);
            long.key.exe = vec![b'x'; 4096];
            let _ = fold.add(long);
        }
        let kept = fold.take_changes(ALL);
        assert!(kept.iter().map(|change| change.incident.key.exe.len()).sum::<usize>() <= MOST_TEXT + 4096);
        assert_eq!(kept.len() as u64 + fold.dropped(), 2_000);
        // A label can grow later.
        let mut fold = Fold::new(8_000);
        for label in [0, 4096] {
            for number in 0..2_000 {
                let mut labelled = sighting(number, 0);
                labelled.sample.subject = vec![b'l'; label];
                let _ = fold.add(labelled);
            }
        }
        let held: usize = fold.counters.iter().flatten().map(|counter| text_length(&counter.change)).sum();
        assert!(held == fold.text && held <= MOST_TEXT + 4096, "{held}");
    }

    #[test]
    fn storm_of_new_incidents_is_bounded() {
        let mut fold = Fold::new(100);
        for number in 0..10_000 {
            let _ = fold.add(sighting(number, 0));
        }
        let kept: u64 = fold.take_changes(ALL).iter().map(|change| change.incident.count).sum();
        assert!(kept <= 100 && fold.changed == 0);
        assert_eq!(kept + fold.dropped(), 10_000);
    }
}
