//! One incident of the fold, with its sightings since they were last taken.

use super::sighting::{IncidentChange, RepeatSighting, Sighting};
use crate::incidents::fair_share::OwnedRow;
use crate::incidents::incident::{Incident, Moment, Sample, SightingSource};
use crate::incidents::owner::Owner;
use crate::units::{Confidence, Rung};

/// The usual text of one incident, in bytes.
pub(super) const USUAL_TEXT: usize = 128;

/// Counts the sightings of an incident.
#[derive(Debug)]
pub(super) struct Counter {
    /// The sightings since it was last taken; a count of 0 means none.
    pub(super) change: Incident,
    /// Whether it was never taken.
    pub(super) first: bool,
    /// The owner of its first sighting.
    pub(super) owner: Owner,
    /// The bytes of its text.
    pub(super) text: usize,
    /// The number of all its sightings.
    pub(super) total: u64,
    /// The order of its latest sighting.
    pub(super) seen: u64,
    /// Distinguishes it from earlier incidents in the same place.
    pub(super) number: u64,
}

impl Counter {
    pub(super) fn new(change: Incident, first: bool, now: u64) -> Self {
        let owner = Owner::new(&change.key, &change.sample);
        let text = text_length(&change);
        Self { total: change.count, change, first, owner, text, seen: now, number: now }
    }

    /// Whether it has sightings that were not taken.
    pub(super) fn is_changed(&self) -> bool {
        self.change.count > 0
    }

    /// Whether the kernel's own records made it. No rehearsal or tap asked for it.
    pub(super) fn is_recorded(&self) -> bool {
        self.change.key.source == SightingSource::Audit
    }

    /// The facts that decide when it leaves.
    pub(super) fn row(&self) -> OwnedRow<&Owner> {
        let seen = i64::try_from(self.seen).unwrap_or(i64::MAX);
        let (owner, cost, is_saved, count) = (&self.owner, self.cost(), !self.is_changed(), self.total);
        OwnedRow { owner, cost, is_saved, count, seen }
    }

    /// How much room it takes, in usual incidents.
    pub(super) fn cost(&self) -> u64 {
        u64::try_from(1 + self.text / USUAL_TEXT).unwrap_or(u64::MAX)
    }

    /// Counts one more sighting. `has_room` means that its text may grow.
    pub(super) fn add(&mut self, sighting: Sighting, has_room: bool) {
        let Sighting { rung, at, sample, .. } = sighting;
        self.total += 1;
        let change = &mut self.change;
        if change.count == 0 {
            change.first = at.clone();
        }
        change.first.lower_to(&at);
        change.count += 1;
        change.last = at;
        if is_guess(rung) && !is_guess(change.rung) {
            // A guess does not replace the sample of a process that is known to be the unit's.
            return;
        }
        change.rung = more_certain(change.rung, rung);
        let earlier = std::mem::replace(&mut change.sample, sample);
        let has_longer_site = text_length_of_site(&earlier) < text_length_of_site(&change.sample);
        if change.sample.call_site.is_none() || (!has_room && has_longer_site) {
            change.sample.call_site = earlier.call_site;
        }
        if !has_room && earlier.subject.len() < change.sample.subject.len() {
            // There is no room for a longer label.
            change.sample.subject = earlier.subject;
        }
        self.text = text_length(change);
    }

    /// Counts more sightings; `latest` is the newest of them.
    pub(super) fn count(&mut self, sightings: u64, latest: &RepeatSighting<'_>) {
        self.total = self.total.saturating_add(sightings);
        let change = &mut self.change;
        if change.count == 0 {
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
    }

    /// Sets the exact time of the latest sighting.
    pub(super) fn set_time(&mut self, at: i64) {
        let change = &mut self.change;
        change.first = Moment::At(if let Moment::At(first) = change.first { first.min(at) } else { at });
        change.last = Moment::At(if let Moment::At(last) = change.last { last.max(at) } else { at });
    }

    /// Subtracts one sighting. Returns false if it was taken before.
    pub(super) fn subtract(&mut self) -> bool {
        let is_here = self.is_changed();
        self.total = self.total.saturating_sub(1);
        self.change.count = self.change.count.saturating_sub(1);
        is_here
    }

    /// Takes the sightings since the last call.
    pub(super) fn take(&mut self) -> IncidentChange {
        let change = IncidentChange { incident: self.change.clone(), first: self.first };
        self.change.count = 0;
        self.first = false;
        change
    }

    /// Puts back sightings that could not be stored.
    pub(super) fn put_back(&mut self, old: Incident, first: bool) {
        self.first |= first;
        let change = &mut self.change;
        if change.count > 0 {
            change.count += old.count;
            change.first = old.first;
            change.rung = more_certain(change.rung, old.rung);
        } else {
            *change = old;
            self.text = text_length(change);
        }
    }
}

/// Returns the bytes of an incident's text whose length other programs choose.
pub(super) fn text_length(incident: &Incident) -> usize {
    let Incident { key, sample, .. } = incident;
    let path = incident.access().and_then(|denial| denial.access.path()).map_or(0, |path| path.as_bytes().len());
    let unit = key.unit.as_ref().map_or(0, |unit| unit.name.as_str().len());
    unit + key.exe.len() + sample.subject.len() + path + text_length_of_site(sample)
}

fn text_length_of_site(sample: &Sample) -> usize {
    let places = sample.call_site.iter().flat_map(|site| std::iter::once(&site.code).chain(&site.caller));
    places.map(|place| place.path.len() + place.build_id.len()).sum()
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
