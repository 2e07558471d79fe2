//! What each owner holds in the fold.

use super::counter::Counter;
use crate::incidents::fair_share::divide;
use crate::incidents::owner::Owner;
use std::collections::{BTreeMap, HashMap};

/// The sums over all incidents, and over those of each owner.
#[derive(Debug, Default)]
pub(super) struct Holdings {
    owners: HashMap<Owner, Holding>,
    pub(super) all: Holding,
}

/// The sums over some incidents.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Holding {
    /// The bytes of text.
    pub(super) text: usize,
    /// The room that the incidents take.
    pub(super) cost: u64,
    /// The room of those with sightings that were not taken.
    pub(super) changed_cost: u64,
    incidents: usize,
    /// How many the kernel's own records made. No rehearsal or tap asked for them.
    pub(super) recorded: usize,
}

impl Holding {
    fn add(&mut self, counter: &Counter) {
        self.text += counter.text;
        self.cost += counter.cost();
        self.changed_cost += if counter.is_changed() { counter.cost() } else { 0 };
        self.incidents += 1;
        self.recorded += usize::from(counter.is_recorded());
    }

    fn subtract(&mut self, counter: &Counter) {
        self.text -= counter.text;
        self.cost -= counter.cost();
        self.changed_cost -= if counter.is_changed() { counter.cost() } else { 0 };
        self.incidents -= 1;
        self.recorded -= usize::from(counter.is_recorded());
    }
}

impl Holdings {
    pub(super) fn add(&mut self, counter: &Counter) {
        self.all.add(counter);
        if let Some(holding) = self.owners.get_mut(&counter.owner) {
            holding.add(counter);
        } else {
            self.owners.entry(counter.owner.clone()).or_default().add(counter);
        }
    }

    pub(super) fn subtract(&mut self, counter: &Counter) {
        self.all.subtract(counter);
        if let Some(holding) = self.owners.get_mut(&counter.owner) {
            holding.subtract(counter);
            if holding.incidents == 0 {
                self.owners.remove(&counter.owner);
            }
        }
    }

    /// What an owner holds.
    pub(super) fn held_by(&self, owner: &Owner) -> Holding {
        self.owners.get(owner).copied().unwrap_or_default()
    }

    /// Whether an owner has to give up sightings that were not taken, if all together may cost `most`.
    pub(super) fn can_lose_sightings(&self, most: u64) -> bool {
        let held: BTreeMap<&Owner, u64> = self.owners.iter().map(|(owner, holding)| (owner, holding.cost)).collect();
        let shares = divide(&held, most);
        self.owners.iter().any(|(owner, holding)| {
            holding.cost - shares.get(owner).unwrap_or(&0) > holding.cost - holding.changed_cost
        })
    }
}
