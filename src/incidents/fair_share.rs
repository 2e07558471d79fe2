//! Shares room that is short between owners: the owner that holds the most loses rows first, and only its own rows
//! leave. An owner that holds no more than an equal share loses nothing, whatever the others do.
//!
//! Every table that several owners fill uses one of these: [`choose_leaving`] for a table that is pruned, a [`FairQueue`]
//! for rows that wait, a [`FairWindow`] for a rate.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;

/// A row of a table that is pruned.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OwnedRow<O> {
    /// Its owner.
    pub(crate) owner: O,
    /// How much room it takes.
    pub(crate) cost: u64,
    /// Whether another place has its sightings, so that nothing is lost with it.
    pub(crate) is_saved: bool,
    /// The number of its sightings.
    pub(crate) count: u64,
    /// The order of its latest sighting.
    pub(crate) seen: i64,
}

/// Returns how much each owner may hold if all of them together may hold `most`. An owner that holds less than an equal
/// share leaves the rest of it to the others.
#[must_use]
pub(crate) fn divide<O: Ord + Copy>(held: &BTreeMap<O, u64>, most: u64) -> BTreeMap<O, u64> {
    let mut by_size: Vec<(u64, O)> = held.iter().map(|(owner, held)| (*held, *owner)).collect();
    by_size.sort_unstable();
    let mut left = most;
    let owners = u64::try_from(by_size.len()).unwrap_or(u64::MAX);
    (0..owners).rev().zip(by_size).fold(BTreeMap::new(), |mut shares, (later, (held, owner))| {
        let share = held.min(left / (later + 1));
        left -= share;
        shares.insert(owner, share);
        shares
    })
}

/// Chooses the rows that leave, by index, so that the others cost at most `most`.
///
/// Of an owner that has to lose rows, first the saved rows leave, the oldest first. Then, of the rarer half of the others, those
/// with the oldest latest sighting leave.
#[must_use]
pub(crate) fn choose_leaving<O: Ord + Copy>(rows: &[OwnedRow<O>], most: u64) -> Vec<usize> {
    let mut held: BTreeMap<O, u64> = BTreeMap::new();
    for row in rows {
        *held.entry(row.owner).or_default() += row.cost;
    }
    let shares = divide(&held, most);
    let excess = |owner: &O| held.get(owner).unwrap_or(&0) - shares.get(owner).unwrap_or(&0);
    let mut giving: BTreeMap<O, Vec<usize>> = BTreeMap::new();
    for (index, row) in rows.iter().enumerate().filter(|(_, row)| excess(&row.owner) > 0) {
        giving.entry(row.owner).or_default().push(index);
    }
    let mut leaving = Vec::new();
    for (owner, own) in giving {
        let mut excess = excess(&owner);
        for index in order_of_leaving(rows, own, excess) {
            if excess == 0 {
                break;
            }
            excess = excess.saturating_sub(rows[index].cost);
            leaving.push(index);
        }
    }
    leaving
}

/// Sorts the rows of one owner so that the first leave first, if rows of this cost have to leave.
fn order_of_leaving<O>(rows: &[OwnedRow<O>], own: Vec<usize>, excess: u64) -> Vec<usize> {
    let (mut saved, mut others): (Vec<_>, Vec<_>) = own.into_iter().partition(|index| rows[*index].is_saved);
    saved.sort_by_key(|index| rows[*index].seen);
    others.sort_by_key(|index| (rows[*index].count, rows[*index].seen));
    let of_saved: u64 = saved.iter().map(|index| rows[*index].cost).sum();
    let mut short = excess.saturating_sub(of_saved);
    let needed = others.iter().take_while(|index| {
        let is_short = short > 0;
        short = short.saturating_sub(rows[**index].cost);
        is_short
    });
    // A single sighting of ten minutes ago is worth more than a single sighting of yesterday, and daily sightings are
    // worth more than both.
    let rarer = needed.count().max(others.len().div_ceil(2)).min(others.len());
    others[..rarer].sort_by_key(|index| rows[*index].seen);
    saved.extend(others);
    saved
}

/// Rows that wait in order, limited in number. If there is no room for another, the owner with the most rows loses its
/// oldest.
#[derive(Debug)]
pub(crate) struct FairQueue<O, T> {
    rows: BTreeMap<u64, (O, T)>,
    /// The rows of each owner.
    owners: HashMap<O, BTreeSet<u64>>,
    /// The owners by the number of their rows.
    sizes: BTreeSet<(usize, O)>,
    next: u64,
    most: usize,
}

impl<O: Ord + Hash + Clone, T> FairQueue<O, T> {
    /// Makes a queue for `most` rows.
    #[must_use]
    pub(crate) fn new(most: usize) -> Self {
        Self { rows: BTreeMap::new(), owners: HashMap::new(), sizes: BTreeSet::new(), next: 0, most }
    }

    /// The number of rows.
    #[must_use]
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether no row waits.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Appends a row. If there is no room, removes another and returns it.
    #[must_use = "a row may have been removed"]
    pub(crate) fn push(&mut self, owner: O, row: T) -> Option<T> {
        let number = self.next;
        self.next += 1;
        self.resize(&owner, |own| {
            own.insert(number);
        });
        self.rows.insert(number, (owner, row));
        if self.rows.len() <= self.most {
            return None;
        }
        let (_, largest) = self.sizes.last()?;
        let oldest = *self.owners.get(largest)?.first()?;
        self.take(oldest)
    }

    /// The oldest row.
    #[must_use]
    pub(crate) fn front(&self) -> Option<&T> {
        self.rows.first_key_value().map(|(_, (_, row))| row)
    }

    /// Removes the oldest row.
    pub(crate) fn pop_front(&mut self) -> Option<T> {
        let (oldest, _) = self.rows.first_key_value()?;
        self.take(*oldest)
    }

    /// Removes at most `most` rows: equal shares of the owners, and of each owner the oldest.
    pub(crate) fn take_shares(&mut self, most: usize) -> Vec<T> {
        let held: BTreeMap<&O, u64> = self.owners.iter().map(|(owner, own)| (owner, own.len() as u64)).collect();
        let shares = divide(&held, most as u64).into_iter();
        let own = |(owner, share): (&O, u64)| {
            let rows = self.owners.get(owner).into_iter().flatten().copied();
            rows.take(usize::try_from(share).unwrap_or(usize::MAX))
        };
        let mut taken: Vec<u64> = shares.flat_map(own).collect();
        taken.sort_unstable();
        taken.into_iter().filter_map(|number| self.take(number)).collect()
    }

    /// The rows, the oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.rows.values().map(|(_, row)| row)
    }

    /// The rows, the oldest first.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.rows.values_mut().map(|(_, row)| row)
    }

    /// Removes the rows that `is_kept` rejects.
    pub(crate) fn retain(&mut self, is_kept: impl Fn(&T) -> bool) {
        let leaving: Vec<u64> =
            self.rows.iter().filter(|(_, (_, row))| !is_kept(row)).map(|(number, _)| *number).collect();
        for number in leaving {
            let _ = self.take(number);
        }
    }

    fn take(&mut self, number: u64) -> Option<T> {
        let (owner, row) = self.rows.remove(&number)?;
        self.resize(&owner, |own| {
            own.remove(&number);
        });
        Some(row)
    }

    fn resize(&mut self, owner: &O, change: impl FnOnce(&mut BTreeSet<u64>)) {
        let own = self.owners.entry(owner.clone()).or_default();
        let before = own.len();
        change(own);
        let after = own.len();
        self.sizes.remove(&(before, owner.clone()));
        if after == 0 {
            self.owners.remove(owner);
        } else {
            self.sizes.insert((after, owner.clone()));
        }
    }
}

/// A rate, counted by owner. Beyond the limit an owner may go on while it has less than an equal share.
#[derive(Debug)]
pub(crate) struct FairWindow<O> {
    owners: HashMap<O, u64>,
    total: u64,
}

impl<O> Default for FairWindow<O> {
    fn default() -> Self {
        Self { owners: HashMap::new(), total: 0 }
    }
}

impl<O: Eq + Hash + Clone> FairWindow<O> {
    /// Counts one more of an owner, if there is room for it. Without others an owner has room for `most`; the n-th owner
    /// has room for at least `most` / n, so all together have room for some `most` × ln `most`.
    #[must_use]
    pub(crate) fn admit(&mut self, owner: &O, most: u64) -> bool {
        let own = self.owners.get(owner).copied().unwrap_or(0);
        let owners = self.owners.len() as u64 + u64::from(own == 0);
        if self.total >= most && own >= most / owners {
            return false;
        }
        self.count(owner);
        true
    }

    /// Counts one more of an owner, even if there is no room for it.
    pub(crate) fn count(&mut self, owner: &O) {
        self.total += 1;
        *self.owners.entry(owner.clone()).or_default() += 1;
    }

    /// Whether an owner has none yet.
    #[must_use]
    pub(crate) fn is_new(&self, owner: &O) -> bool {
        !self.owners.contains_key(owner)
    }

    /// The number of owners.
    #[must_use]
    pub(crate) fn owners(&self) -> usize {
        self.owners.len()
    }
}

#[cfg(test)]
mod tests;
