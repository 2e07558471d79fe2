//! A cache of cgroup names for one owner, with a quota for reading directories to find more.
//!
//! The owner of a delegated cgroup can make any number of cgroups below it, and let a process die in each. So each owner has
//! a cache and a quota: no owner's names are dropped for another's, and no owner causes more reading than its quota.

use std::collections::HashMap;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::DirEntryExt as _;
use std::path::Path;
use std::time::Instant;
use std::{fs, io};

/// How many entries of a directory are read at most.
pub(crate) const MOST_ENTRIES: u64 = 10_000;

/// The limits of an owner.
#[derive(Debug)]
pub(crate) struct Quota {
    /// How many names are kept; the latest half of them for certain.
    pub(crate) names: usize,
    /// How many directory entries can be read at once, after a pause.
    burst: u64,
    /// How many directory entries can be read in a second, in the long run.
    per_second: u64,
}

/// The quota of the system manager.
pub(crate) const SYSTEM: Quota = Quota { names: 16_384, burst: 1_000_000, per_second: 200_000 };
/// The quota of any other owner.
pub(crate) const OTHER: Quota = Quota { names: 2048, burst: 100_000, per_second: 20_000 };

/// The name of a cgroup.
pub(crate) type CgroupName = Box<[u8]>;

/// A name, or `None` for an id that was looked for and is not there. That lasts: the kernel does not reuse an id, and
/// cgroups are not renamed.
type CachedName = Option<CgroupName>;

/// The names of one owner's cgroups, by id.
#[derive(Debug)]
pub(crate) struct OwnerCache {
    quota: &'static Quota,
    /// The names in two generations, so that dropping the old ones is cheap. A name that is used moves to the new one.
    new: HashMap<u64, CachedName>,
    old: HashMap<u64, CachedName>,
    /// How many directory entries could be read at `since`.
    budget: u64,
    since: Instant,
}

impl OwnerCache {
    pub(crate) fn new(quota: &'static Quota, now: Instant) -> Self {
        Self { quota, new: HashMap::new(), old: HashMap::new(), budget: quota.burst, since: now }
    }

    /// Returns what is known of an id; `None` where it was never looked for.
    pub(crate) fn get(&mut self, id: u64) -> Option<&CachedName> {
        if !self.new.contains_key(&id)
            && let Some(name) = self.old.remove(&id)
        {
            self.insert(id, name);
        }
        self.new.get(&id)
    }

    /// Keeps an id's name, or `None` if the id has no name.
    pub(crate) fn insert(&mut self, id: u64, name: CachedName) {
        if self.new.len() >= self.quota.names / 2 && !self.new.contains_key(&id) {
            self.old = std::mem::take(&mut self.new);
        }
        self.new.insert(id, name);
    }

    /// Returns the number of names.
    pub(crate) fn len(&self) -> usize {
        self.new.len() + self.old.len()
    }

    /// Returns how many directory entries can be read now.
    pub(crate) fn budget(&self, now: Instant) -> u64 {
        let passed = u64::try_from(now.saturating_duration_since(self.since).as_millis()).unwrap_or(u64::MAX);
        let more = passed.saturating_mul(self.quota.per_second) / 1_000;
        self.budget.saturating_add(more).min(self.quota.burst)
    }

    /// Reads a directory for the name of an id. Keeps the other names there, too, unless they are too many. Does nothing if
    /// the budget is too small now.
    pub(crate) fn read_directory(&mut self, directory: &Path, id: u64, now: Instant) {
        let budget = self.budget(now);
        if budget < MOST_ENTRIES {
            return;
        }
        // A directory that cannot be opened costs nothing, and can be tried again.
        let Ok((children, read)) = children(directory) else { return };
        (self.budget, self.since) = (budget.saturating_sub(read), now.max(self.since));
        let keep_all = children.len() <= self.quota.names / 2;
        let mut own = None;
        for (child, name) in children {
            if child == id {
                own = Some(name);
            } else if keep_all {
                self.insert(child, Some(name));
            }
        }
        self.insert(id, own);
    }
}

/// Returns the ids and names of the cgroups in a cgroup, and how many directory entries that cost. Opening counts as one.
pub(crate) fn children(directory: &Path) -> io::Result<(Vec<(u64, CgroupName)>, u64)> {
    let (mut children, mut read) = (Vec::new(), 1);
    for entry in fs::read_dir(directory)? {
        if read >= MOST_ENTRIES {
            break;
        }
        read += 1;
        if let Ok(entry) = entry
            && entry.file_type().is_ok_and(|kind| kind.is_dir())
        {
            children.push((entry.ino(), entry.file_name().into_vec().into()));
        }
    }
    Ok((children, read))
}
