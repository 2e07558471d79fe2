//! Limits the work of reading all unit files of a manager. Every user writes their own unit files, and root's questions
//! read them.

use super::rooted::{RootedTree, unreadable};
use crate::policy::{FileNote, UnitFile};
use crate::units::Manager;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How much of a manager's unit files may still be read. Each file is opened and parsed once.
#[derive(Debug, Clone)]
pub(crate) struct ReadBudget {
    /// The bytes that may still be merged. A drop-in counts for each unit that it extends.
    bytes: usize,
    /// The units and files that may still be merged.
    merges: usize,
    until: Instant,
    is_exhausted: bool,
    /// The files that were opened.
    parsed: HashMap<PathBuf, ParsedFile>,
}

/// The outcome of reading a file.
#[derive(Debug, Clone)]
enum ParsedFile {
    Read(UnitFile, usize),
    Unreadable(FileNote),
}

impl ReadBudget {
    /// Starts the budget of a manager. Only root writes the system manager's files, so it gets more.
    pub(crate) fn new(manager: Manager) -> Self {
        let (bytes, merges, time) = match manager {
            Manager::System => (64 << 20, 65_536, Duration::from_secs(5)),
            Manager::User(_) => (4 << 20, 8_192, Duration::from_secs(2)),
        };
        let until = Instant::now() + time;
        Self { bytes, merges, until, is_exhausted: false, parsed: HashMap::new() }
    }

    /// Whether a file was left out because too much was read before.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.is_exhausted
    }

    /// Counts one unit or file to merge. Returns whether the budget still has room for it.
    pub(super) fn start_merge(&mut self) -> bool {
        self.is_exhausted |= self.merges == 0 || Instant::now() > self.until;
        self.merges = self.merges.saturating_sub(1);
        !self.is_exhausted
    }

    /// Returns a file to merge into a unit, or a note if it cannot be read; `None` once the budget is exhausted.
    pub(super) fn take(&mut self, tree: RootedTree<'_>, path: &Path) -> Option<Result<UnitFile, FileNote>> {
        if !self.start_merge() {
            return None;
        }
        if !self.parsed.contains_key(path) {
            let file = self.read(tree, path)?;
            self.parsed.insert(path.to_owned(), file);
        }
        match self.parsed.get(path)? {
            ParsedFile::Unreadable(note) => Some(Err(note.clone())),
            ParsedFile::Read(file, length) => {
                let left = self.bytes.checked_sub(*length);
                self.is_exhausted |= left.is_none();
                self.bytes = left?;
                Some(Ok(file.clone()))
            }
        }
    }

    /// Reads a file; `None` if it is larger than the rest of the budget.
    fn read(&mut self, tree: RootedTree<'_>, path: &Path) -> Option<ParsedFile> {
        let bytes = match tree.read(path) {
            Ok(bytes) => bytes,
            Err(error) => return Some(ParsedFile::Unreadable(unreadable(path, &error))),
        };
        self.is_exhausted |= bytes.len() > self.bytes;
        (!self.is_exhausted).then(|| ParsedFile::Read(UnitFile::parse(path, &bytes), bytes.len()))
    }

    /// Starts a budget that no clock ends, for tests on a busy machine.
    #[cfg(test)]
    pub(super) fn without_deadline(manager: Manager) -> Self {
        Self { until: Instant::now() + Duration::from_hours(24), ..Self::new(manager) }
    }

    /// The number of files that were opened, for tests of the limits.
    #[cfg(test)]
    pub(super) fn opened(&self) -> usize {
        self.parsed.len()
    }
}
