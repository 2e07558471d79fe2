//! What is known of the cgroups that one owner made, and how much may still be read to know more.
//!
//! Whoever has a delegated cgroup can make any number below it, and let a process die in each. So everybody has a
//! share of their own: nobody's names are forgotten for another's, and nobody's cost more than that share.

use std::collections::HashMap;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::DirEntryExt as _;
use std::path::Path;
use std::time::Instant;
use std::{fs, io};

/// How many entries of a directory are looked at.
pub(crate) const MOST_ENTRIES: u64 = 10_000;

/// How large a share is.
#[derive(Debug)]
pub(crate) struct Size {
    /// How many names are remembered, at least the latest half of them.
    pub(crate) names: usize,
    /// How many entries of directories can be read at once, after a rest.
    burst: u64,
    /// And in a second, in the long run.
    per_second: u64,
}

/// What the system's manager made.
pub(crate) const SYSTEM: Size = Size { names: 16_384, burst: 1_000_000, per_second: 200_000 };
/// What anybody else made.
pub(crate) const OTHER: Size = Size { names: 2048, burst: 100_000, per_second: 20_000 };

/// The name of a cgroup.
pub(crate) type Name = Box<[u8]>;

/// It, or `None` where it is not to be had: an id is not used again, and what it names is not renamed.
type Known = Option<Name>;

/// The share of an owner.
#[derive(Debug)]
pub(crate) struct Share {
    size: &'static Size,
    /// Names in two generations, so that forgetting costs nothing. What is used is of the new one.
    new: HashMap<u64, Known>,
    old: HashMap<u64, Known>,
    /// How many entries can be read, as of a moment.
    left: u64,
    since: Instant,
}

impl Share {
    pub(crate) fn new(size: &'static Size, now: Instant) -> Self {
        Self { size, new: HashMap::new(), old: HashMap::new(), left: size.burst, since: now }
    }

    /// What is known of an id, if it is.
    pub(crate) fn get(&mut self, id: u64) -> Option<&Known> {
        if !self.new.contains_key(&id)
            && let Some(known) = self.old.remove(&id)
        {
            self.insert(id, known);
        }
        self.new.get(&id)
    }

    /// Remembers what an id names.
    pub(crate) fn insert(&mut self, id: u64, known: Known) {
        if self.new.len() >= self.size.names / 2 && !self.new.contains_key(&id) {
            self.old = std::mem::take(&mut self.new);
        }
        self.new.insert(id, known);
    }

    /// How many names it remembers.
    pub(crate) fn len(&self) -> usize {
        self.new.len() + self.old.len()
    }

    /// How many entries can be read at a moment.
    pub(crate) fn left(&self, now: Instant) -> u64 {
        let passed = u64::try_from(now.saturating_duration_since(self.since).as_millis()).unwrap_or(u64::MAX);
        let more = passed.saturating_mul(self.size.per_second) / 1_000;
        self.left.saturating_add(more).min(self.size.burst)
    }

    /// Looks for an id in a directory, and remembers its name, and those of all others there if they are not too many.
    /// What is not there will never be. Does nothing if that cannot be afforded at this moment.
    pub(crate) fn look(&mut self, directory: &Path, wanted: u64, now: Instant) {
        let left = self.left(now);
        if left < MOST_ENTRIES {
            return;
        }
        // Where it is gone, or cannot be opened now, nothing was spent.
        let Ok((found, read)) = children(directory) else { return };
        (self.left, self.since) = (left.saturating_sub(read), now.max(self.since));
        let all = found.len() <= self.size.names / 2;
        let mut name = None;
        for (id, found) in found {
            if id == wanted {
                name = Some(found);
            } else if all {
                self.insert(id, Some(found));
            }
        }
        self.insert(wanted, name);
    }
}

/// The cgroups in a cgroup, and how many entries were read for them, as one of which counts that it was opened.
pub(crate) fn children(directory: &Path) -> io::Result<(Vec<(u64, Name)>, u64)> {
    let (mut found, mut read) = (Vec::new(), 1);
    for entry in fs::read_dir(directory)? {
        if read >= MOST_ENTRIES {
            break;
        }
        read += 1;
        if let Ok(entry) = entry
            && entry.file_type().is_ok_and(|kind| kind.is_dir())
        {
            found.push((entry.ino(), entry.file_name().into_vec().into()));
        }
    }
    Ok((found, read))
}
