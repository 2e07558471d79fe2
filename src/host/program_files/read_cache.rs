//! The executables that this process has read, by the id of their build.

use crate::programs::ElfFile;
use crate::programs::library_calls::ReachedCalls;
use std::collections::VecDeque;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// The limit on executables.
const MOST: usize = 64;

/// What tells builds apart. A file can state the id of another one's build, but only one of the same owner and size,
/// below the same root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BuildKey {
    build_id: Box<[u8]>,
    length: u64,
    owner: u32,
    /// The root, and the unit's own root below it.
    roots: (PathBuf, PathBuf),
    /// How deep its libraries were followed; `None` if they do not count.
    depth: Option<u32>,
}

impl BuildKey {
    pub(super) fn new(build_id: Box<[u8]>, file: &Metadata, roots: (PathBuf, PathBuf), depth: Option<u32>) -> Self {
        Self { build_id, length: file.len(), owner: file.uid(), roots, depth }
    }
}

/// An executable, and what it reaches through its libraries.
#[derive(Debug, Clone)]
pub(super) struct ReadProgram {
    pub file: ElfFile,
    pub reached: ReachedCalls,
}

/// Executables with their keys, in the order of their last use.
#[derive(Debug, Default)]
struct ReadCache(VecDeque<(BuildKey, ReadProgram)>);

static CACHE: Mutex<ReadCache> = Mutex::new(ReadCache(VecDeque::new()));

impl ReadCache {
    fn find(&mut self, key: &BuildKey) -> Option<ReadProgram> {
        let at = self.0.iter().position(|(known, _)| known == key)?;
        let found = self.0.remove(at)?;
        let read = found.1.clone();
        self.0.push_back(found);
        Some(read)
    }

    fn add(&mut self, key: BuildKey, read: ReadProgram) {
        if self.0.len() >= MOST {
            self.0.pop_front();
        }
        self.0.push_back((key, read));
    }
}

/// Returns an executable that was read before.
pub(super) fn find(key: &BuildKey) -> Option<ReadProgram> {
    CACHE.lock().unwrap_or_else(PoisonError::into_inner).find(key)
}

/// Keeps an executable. Forgets the one that was not used for longest if there are too many.
pub(super) fn add(key: BuildKey, read: &ReadProgram) {
    CACHE.lock().unwrap_or_else(PoisonError::into_inner).add(key, read.clone());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ids of builds in an order that is not that of their use.
    fn key(number: usize) -> BuildKey {
        let build_id = Box::from([u8::try_from((number * 37) % 251).unwrap()]);
        BuildKey { build_id, length: 0, owner: 0, roots: Default::default(), depth: None }
    }

    #[test]
    fn executables_that_were_used_last_stay() {
        let read = ReadProgram { file: ElfFile::default(), reached: ReachedCalls::default() };
        let mut cache = ReadCache::default();
        for number in 0..MOST {
            cache.add(key(number), read.clone());
        }
        assert!(cache.find(&key(0)).is_some());
        for number in MOST..MOST + 9 {
            cache.add(key(number), read.clone());
        }
        let kept: Vec<usize> = (0..MOST + 9).filter(|number| cache.find(&key(*number)).is_some()).collect();
        assert_eq!(kept, [vec![0], (10..MOST + 9).collect()].concat());
    }
}
