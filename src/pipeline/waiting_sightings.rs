//! The sightings that wait for evidence, each with its state.

use super::evidence_query::EvidenceQuery;
use super::unattributed::UnattributedSighting;
use crate::incidents::{FairQueue, Owner, Sighting};
use std::collections::HashMap;

/// What a sighting waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WaitState {
    /// The death notice of its process.
    AwaitsDeath,
    /// A record of the same death. Without a record the death is silent.
    AwaitsRecord,
    /// The next round of a query.
    Queued(EvidenceQuery),
    /// The answer of a query under way.
    Asked(EvidenceQuery),
    /// The time of the second attempt to find it in the journal.
    AwaitsRetry,
}

/// Identifies a waiting sighting.
pub(super) type SightingId = u64;

#[derive(Debug)]
struct Waiting {
    sighting: Box<UnattributedSighting>,
    state: WaitState,
}

/// The sightings that wait for a later round of a query, and the sightings of the round under way.
#[derive(Debug)]
pub(super) struct Rounds {
    pub(super) queued: FairQueue<Owner, SightingId>,
    pub(super) asked: Vec<SightingId>,
}

impl Rounds {
    /// Makes rounds for `most` sightings that wait.
    pub(super) fn new(most: usize) -> Self {
        Self { queued: FairQueue::new(most), asked: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.queued.len() + self.asked.len()
    }
}

/// The sightings that wait, each with its state.
#[derive(Debug, Default)]
pub(super) struct WaitingSightings {
    waiting: HashMap<SightingId, Waiting>,
    next_id: SightingId,
}

impl WaitingSightings {
    pub(super) fn insert(&mut self, sighting: Box<UnattributedSighting>, state: WaitState) -> SightingId {
        self.next_id += 1;
        self.waiting.insert(self.next_id, Waiting { sighting, state });
        self.next_id
    }

    /// Removes a sighting if it is in `state`.
    pub(super) fn remove(&mut self, id: SightingId, state: WaitState) -> Option<Box<UnattributedSighting>> {
        self.waiting.get(&id).filter(|waiting| waiting.state == state)?;
        self.waiting.remove(&id).map(|waiting| waiting.sighting)
    }

    pub(super) fn get(&self, id: SightingId) -> Option<&UnattributedSighting> {
        self.waiting.get(&id).map(|waiting| &*waiting.sighting)
    }

    pub(super) fn get_mut(&mut self, id: SightingId) -> Option<&mut UnattributedSighting> {
        self.waiting.get_mut(&id).map(|waiting| &mut *waiting.sighting)
    }

    /// Sets the state of a sighting. Returns the sighting.
    pub(super) fn set_state(&mut self, id: SightingId, state: WaitState) -> Option<&Sighting> {
        let waiting = self.waiting.get_mut(&id)?;
        waiting.state = state;
        Some(waiting.sighting.sighting())
    }

    pub(super) fn contains(&self, id: SightingId) -> bool {
        self.waiting.contains_key(&id)
    }

    /// Returns all sightings and their states, in order of insertion.
    pub(super) fn into_sorted(self) -> Vec<(WaitState, Box<UnattributedSighting>)> {
        let mut all: Vec<_> = self.waiting.into_iter().collect();
        all.sort_unstable_by_key(|(id, _)| *id);
        all.into_iter().map(|(_, Waiting { sighting, state })| (state, sighting)).collect()
    }
}

#[cfg(test)]
impl WaitingSightings {
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }
}
