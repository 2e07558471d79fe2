//! Sightings folded into incidents: a storm costs counters, not rows.

use super::incident::{Incident, IncidentKey, Moment, Sample};
use crate::units::{Confidence, Rung};
use std::collections::HashMap;

/// One record, or one silent death, attributed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// What it is a sighting of.
    pub key: IncidentKey,
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
pub struct RepeatSighting<'a> {
    /// When.
    pub at: Moment,
    /// The process.
    pub pid: u32,
    /// Its thread's name.
    pub comm: &'a [u8],
    /// Instruction pointer of the call.
    pub ip: u64,
}

/// How much text incidents may hold, in bytes: what a process chose can be some kilobytes each, and a bound on their
/// number alone would be none.
const MOST_TEXT: usize = 1 << 20;

/// As much text as that many incidents have for each of them where more than usual are held, in bytes.
const USUAL_TEXT: usize = 128;

/// Incidents by key, so many of them at most, and of a bounded size.
///
/// When it is full, a quarter gives way: first what was [taken](Fold::take_changes) since it was last seen, the
/// longest ago first, which loses nothing; then, of the rarer half of the rest, what was seen longest ago. The
/// sightings that are lost so are counted in [`Fold::dropped`].
#[derive(Debug)]
pub struct Fold {
    index: HashMap<IncidentKey, usize>,
    counters: Vec<Option<Counter>>,
    /// Places in `counters` that are free.
    free: Vec<usize>,
    most: usize,
    /// How much text is held, and how much may be.
    text: usize,
    most_text: usize,
    /// How many incidents were seen since they were taken.
    changed: usize,
    /// Counts sightings, to tell old from new without a clock.
    now: u64,
    dropped: u64,
}

#[derive(Debug)]
struct Counter {
    /// What was seen since it was last taken; a count of 0 says nothing was.
    change: Incident,
    /// Never taken yet.
    first: bool,
    /// How much text it has.
    text: usize,
    /// How often it was seen in all.
    total: u64,
    seen: u64,
    number: u64,
}

/// What became of an incident since its last change was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IncidentChange {
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
        Self {
            index: HashMap::new(),
            counters: Vec::new(),
            free: Vec::new(),
            most: least(most),
            text: 0,
            most_text: text_for(most),
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
                // What is known to be the unit's shows what it looked like, not what is taken for it.
                return Folded::Again(Slot { index, number: counter.number });
            }
            change.rung = surer(change.rung, rung);
            let earlier = std::mem::replace(&mut change.sample, sample);
            if self.text >= self.most_text && earlier.subject.len() < change.sample.subject.len() {
                // There is no room for a label that grew.
                change.sample.subject = earlier.subject;
            }
            let text = text_of(change);
            self.text = self.text - counter.text + text;
            counter.text = text;
            return Folded::Again(Slot { index, number: counter.number });
        }
        let change = Incident { key, rung, count: 1, first: at.clone(), last: at, sample };
        Folded::First(self.insert(change, true))
    }

    /// Counts more sightings in a slot, of which `glimpse` is the latest; false if its incident has given way.
    #[must_use]
    pub fn count(&mut self, slot: Slot, sightings: u64, glimpse: &RepeatSighting<'_>) -> bool {
        let counter = self.counters.get_mut(slot.index).and_then(Option::as_mut);
        let Some(counter) = counter.filter(|counter| counter.number == slot.number) else { return false };
        self.now += 1;
        counter.seen = self.now;
        counter.total = counter.total.saturating_add(sightings);
        let change = &mut counter.change;
        if change.count == 0 {
            self.changed += 1;
            change.first = glimpse.at.clone();
        }
        change.first.lower_to(&glimpse.at);
        change.count += sightings;
        change.last = glimpse.at.clone();
        let sample = &mut change.sample;
        sample.pid = glimpse.pid;
        sample.ip = glimpse.ip;
        if sample.comm != glimpse.comm {
            sample.comm = glimpse.comm.to_vec();
        }
        true
    }

    /// Says when a sighting of a slot was, of which only a date was told before.
    pub fn set_time(&mut self, slot: Slot, at: i64) {
        let counter = self.counters.get_mut(slot.index).and_then(Option::as_mut);
        let Some(counter) = counter.filter(|counter| counter.number == slot.number) else { return };
        let change = &mut counter.change;
        change.first = Moment::At(if let Moment::At(first) = change.first { first.min(at) } else { at });
        change.last = Moment::At(if let Moment::At(last) = change.last { last.max(at) } else { at });
    }

    /// Whether nothing was seen.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Whether the next new incident makes an old one give way.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.index.len() >= self.most || (self.text >= self.most_text && self.index.len() >= 4)
    }

    /// There is room for so many from now on. Where there are more, those that give way do so as new ones come.
    pub fn set_limit(&mut self, most: usize) {
        (self.most, self.most_text) = (least(most), text_for(most));
    }

    /// Whether the next new incident may cost sightings that were not taken yet.
    #[must_use]
    pub fn can_lose_sightings(&self) -> bool {
        self.is_full() && self.index.len() - self.changed < self.index.len() / 4
    }

    /// What was seen since the last call, at most so many changes, new incidents before others.
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

    /// Takes back changes that could not be stored.
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
                change.rung = surer(change.rung, old.rung);
            } else {
                *change = old;
                self.changed += 1;
            }
        }
    }

    /// How many sightings were lost because their incident had to give way.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    fn insert(&mut self, change: Incident, first: bool) -> Slot {
        self.make_room();
        let key = change.key.clone();
        let text = text_of(&change);
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

    /// Lets a quarter go when there is no room, so that the sweep is rare.
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
            if let Some(counter) = self.counters.get_mut(index).and_then(Option::take) {
                self.dropped += counter.change.count;
                self.text -= counter.text;
                self.changed -= usize::from(counter.change.count > 0);
                self.index.remove(&counter.change.key);
                self.free.push(index);
            }
        }
    }
}

/// A quarter of fewer would be none.
fn least(most: usize) -> usize {
    most.max(4)
}

/// How much text that many incidents may hold.
fn text_for(most: usize) -> usize {
    MOST_TEXT.max(most.saturating_mul(USUAL_TEXT))
}

/// How much of an incident is as long as someone else chose.
fn text_of(incident: &Incident) -> usize {
    let Incident { key, sample, .. } = incident;
    key.unit.as_ref().map_or(0, |unit| unit.name.as_str().len()) + key.exe.len() + sample.subject.len()
}

fn is_guess(rung: Option<Rung>) -> bool {
    rung.is_some_and(|rung| rung.confidence() == Confidence::Guess)
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
    fn the_same_event_is_counted() {
        let mut fold = Fold::new(8);
        assert!(is_first(fold.add(sighting(41, 10))));
        assert!(!is_first(fold.add(sighting(41, 20))));
        assert!(is_first(fold.add(sighting(42, 30))));
        let mut changes = fold.take_changes(ALL);
        changes.sort_by_key(|change| change.incident.count);
        assert_eq!(span(&changes[1]), (2, &Moment::At(10), &Moment::At(20)));
    }

    #[test]
    fn a_known_slot_counts_without_the_key() {
        let mut fold = Fold::new(8);
        let slot = fold.add(sighting(41, 10)).slot();
        let glimpse = |at| RepeatSighting { at: Moment::At(at), pid: 9, comm: b"other", ip: 5 };
        assert!(fold.count(slot, 1, &glimpse(20)));
        let change = fold.take_changes(ALL).remove(0);
        assert_eq!(span(&change), (2, &Moment::At(10), &Moment::At(20)));
        let sample = &change.incident.sample;
        assert_eq!((sample.pid, sample.ip, &*sample.comm), (9, 5, &b"other"[..]));
        assert!(fold.count(slot, 1, &glimpse(30)));
        assert_eq!(span(&fold.take_changes(ALL)[0]), (1, &Moment::At(30), &Moment::At(30)));
        for number in 100..120 {
            let _ = fold.add(sighting(number, 40));
        }
        assert!(!fold.count(slot, 1, &glimpse(50)), "its place is another's by now");
    }

    #[test]
    fn a_guess_shows_nothing_in_the_place_of_what_is_known() {
        let of = |rung, pid, at| Sighting {
            rung: Some(rung),
            sample: Sample { pid, ..Sample::default() },
            ..sighting(41, at)
        };
        let mut fold = Fold::new(8);
        let _ = fold.add(of(Rung::ExitEntry, 1, 10));
        let _ = fold.add(of(Rung::ParentCgroup, 2, 20));
        let _ = fold.add(of(Rung::Executable, 3, 30));
        let changes = fold.take_changes(ALL);
        let told = |change: &IncidentChange| (change.incident.rung, change.incident.sample.pid, change.incident.count);
        assert_eq!(told(&changes[0]), (Some(Rung::ParentCgroup), 2, 3));
        assert_eq!(changes[0].incident.last, Moment::At(30));
        let _ = fold.add(of(Rung::ExitEntry, 4, 40));
        assert_eq!(told(&fold.take_changes(ALL)[0]), (Some(Rung::ParentCgroup), 2, 1), "taken or not");
    }

    #[test]
    fn a_clock_that_is_set_back_makes_nothing_end_before_it_began() {
        let mut fold = Fold::new(8);
        let slot = fold.add(sighting(41, 3_600_000)).slot();
        let _ = fold.add(sighting(41, 10));
        assert!(fold.count(slot, 1, &RepeatSighting { at: Moment::At(5), pid: 9, comm: b"c", ip: 5 }));
        assert_eq!(span(&fold.take_changes(ALL)[0]), (3, &Moment::At(5), &Moment::At(5)));
    }

    #[test]
    fn a_change_is_the_increase_alone() {
        let mut fold = Fold::new(8);
        let _ = fold.add(sighting(41, 10));
        assert_eq!(fold.take_changes(ALL).len(), 1);
        assert!(fold.take_changes(ALL).is_empty());
        assert!(!is_first(fold.add(sighting(41, 20))));
        assert_eq!(span(&fold.take_changes(ALL)[0]), (1, &Moment::At(20), &Moment::At(20)));
    }

    #[test]
    fn what_could_not_be_stored_is_not_lost() {
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
    fn an_incident_is_new_until_it_is_stored() {
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
    fn the_oldest_give_way_and_are_counted() {
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
    fn what_is_frequent_outlasts_what_is_rare() {
        let mut fold = Fold::new(8);
        for _ in 0..100 {
            let _ = fold.add(sighting(1_000, 0));
        }
        for number in 0..500 {
            let _ = fold.add(sighting(number, 1));
        }
        assert!(fold.can_lose_sightings() || !fold.is_full());
        assert!(!is_first(fold.add(sighting(1_000, 2))), "it was seen longest ago, and most often");
    }

    #[test]
    fn a_precise_time_takes_the_place_of_a_date() {
        let mut fold = Fold::new(8);
        let said = |date: &str| Sighting { at: Moment::Text(date.into()), ..sighting(1, 0) };
        let slot = fold.add(said("Nov 23 17:12:17")).slot();
        fold.set_time(slot, 5_000);
        let _ = fold.add(said("Nov 23 17:12:18"));
        fold.set_time(slot, 6_000);
        let incident = fold.take_changes(ALL).remove(0).incident;
        assert_eq!((incident.count, incident.first, incident.last), (2, Moment::At(5_000), Moment::At(6_000)));
    }

    #[test]
    fn what_was_taken_gives_way_before_anything_is_lost() {
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
        assert!(!is_first(fold.add(sighting(3, 1))), "the longest ago went first");
    }

    #[test]
    fn new_incidents_are_taken_first_and_not_too_many_at_once() {
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
    fn long_paths_are_bounded_too() {
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
        let held: usize = fold.counters.iter().flatten().map(|counter| text_of(&counter.change)).sum();
        assert!(held == fold.text && held <= MOST_TEXT + 4096, "{held}");
    }

    #[test]
    fn a_storm_of_new_incidents_is_bounded() {
        let mut fold = Fold::new(100);
        for number in 0..10_000 {
            let _ = fold.add(sighting(number, 0));
        }
        let kept: u64 = fold.take_changes(ALL).iter().map(|change| change.incident.count).sum();
        assert!(kept <= 100 && fold.changed == 0);
        assert_eq!(kept + fold.dropped(), 10_000);
    }
}
