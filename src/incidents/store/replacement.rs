//! Stores that are damaged or were removed while open, and the new ones in their place.

use super::location::{LOG, file_id, is_other, with_suffix};
use super::{Store, StoreError, absolute};
use std::path::{Path, PathBuf};
use std::{fs, io};

/// How many damaged files are kept; then a person has to look.
const MAX_DAMAGED: u32 = 9;

/// A file that is no longer the store: it was damaged and renamed, or was removed.
#[derive(Debug)]
pub struct ReplacedFile {
    /// Its new path, if it was renamed.
    pub path: Option<PathBuf>,
    /// What was wrong with it.
    pub error: StoreError,
}

impl Store {
    /// Opens the store like [`open`](Self::open), but renames a damaged file and begins a new one.
    ///
    /// # Errors
    /// Those of [`open`](Self::open) except damage, and damage if there are nine damaged files already.
    pub fn open_or_replace(dir: &Path) -> Result<(Self, Option<ReplacedFile>), StoreError> {
        match Self::open(dir) {
            Ok(store) => Ok((store, None)),
            Err(error @ StoreError::Damaged { .. }) => {
                Self::replace_damaged(dir, error).map(|(new, old)| (new, Some(old)))
            }
            Err(error) => Err(error),
        }
    }

    /// Renames a damaged file, and begins a new one. No process may have the file open for writing.
    ///
    /// # Errors
    /// Those of [`open`](Self::open), and `error` itself if there are nine damaged files already.
    pub fn replace_damaged(dir: &Path, error: StoreError) -> Result<(Self, ReplacedFile), StoreError> {
        let path = absolute(dir)?;
        let damaged = |number: u32| with_suffix(&path, &format!(".damaged-{number}"));
        let Some(free) = (1..=MAX_DAMAGED).map(damaged).find(|free| !free.exists()) else {
            return Err(error);
        };
        // The log gets the name under which SQLite looks for it; SQLite rebuilds the index from the log.
        for suffix in [LOG, "-shm", ""] {
            match fs::rename(with_suffix(&path, suffix), with_suffix(&free, suffix)) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(StoreError::from_io(&path, source));
                }
                _ => {}
            }
        }
        Ok((Self::open(dir)?, ReplacedFile { path: Some(free), error }))
    }

    /// Whether the file or its log was removed or replaced. `SQLite` goes on writing to the files that it has open, which
    /// no reader will find. This compares paths only, because opening and closing a file would release its locks.
    pub fn was_removed(&mut self) -> bool {
        let log = with_suffix(&self.path, LOG);
        self.log = self.log.or_else(|| file_id(&log));
        is_other(&self.path, self.file) || is_other(&log, self.log)
    }

    /// Closes a store that [was removed](Self::was_removed). First writes the log into its file, wherever that file is
    /// now. Otherwise `SQLite` would apply the log to the file that is now at the path.
    #[must_use]
    pub fn close_removed(self) -> ReplacedFile {
        let Self { conn, path, file, log, _lock } = self;
        // Nothing can be done if these fail.
        _ = conn.execute_batch("PRAGMA wal_checkpoint(PASSIVE)");
        drop(conn);
        let at = with_suffix(&path, LOG);
        if is_other(&path, file) && log.is_some() && file_id(&at) == log {
            _ = fs::remove_file(&at);
        }
        ReplacedFile { path: None, error: StoreError::Removed { path } }
    }
}
