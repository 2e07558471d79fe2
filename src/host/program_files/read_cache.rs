//! The executables that this process has read, by the id of their build.

use crate::programs::ElfFile;
use crate::programs::library_calls::ReachedCalls;
use std::collections::BTreeMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// The limit on executables.
const MOST: usize = 64;

/// What tells builds apart. A file can state the id of another one's build, but only one of the same owner and size,
/// below the same root.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
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

static CACHE: Mutex<BTreeMap<BuildKey, ReadProgram>> = Mutex::new(BTreeMap::new());

/// Returns an executable that was read before.
pub(super) fn find(key: &BuildKey) -> Option<ReadProgram> {
    CACHE.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
}

/// Keeps an executable. Forgets another one if there are too many.
pub(super) fn add(key: BuildKey, read: &ReadProgram) {
    let mut cache = CACHE.lock().unwrap_or_else(PoisonError::into_inner);
    if cache.len() >= MOST {
        cache.pop_first();
    }
    cache.insert(key, read.clone());
}
