//! Errors of the store, with what to do about them.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{ErrorCode, ffi};

/// Why an operation of the store failed. Nothing was changed: after a failed [`record`](super::Store::record) the caller
/// still has the incidents.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no store yet.
    #[error("{} does not exist: nothing has been recorded on this machine yet", .path.display())]
    Missing {
        /// Its path.
        path: PathBuf,
    },
    /// A later harden-why wrote it.
    #[error(
        "{} has format {found}, this harden-why knows {known}: upgrade harden-why or move the file away",
        .path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: i64,
        /// The newest format that this program knows.
        known: i64,
    },
    /// An earlier harden-whyd wrote it.
    #[error("{} is from an earlier harden-why: start harden-whyd, which migrates it", .path.display())]
    Older {
        /// The file.
        path: PathBuf,
    },
    /// Another harden-whyd writes to it.
    #[error("{} is in use by another harden-whyd: stop it, or give this one another directory", .dir.display())]
    InUse {
        /// The state directory.
        dir: PathBuf,
    },
    /// An `SQLite` database of another program.
    #[error("{} belongs to another program: move it away", .path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// Not a database, or a damaged one.
    #[error("{} is damaged ({detail}): move it away to start with an empty one", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// The file was removed or replaced while harden-whyd had it open.
    #[error("{} or its log was removed or replaced while harden-whyd wrote it", .path.display())]
    Removed {
        /// Its path.
        path: PathBuf,
    },
    /// The file system or the permissions forbid writing.
    #[error("cannot write {} ({detail}): check its permissions, and that its file system is not read-only", .path.display())]
    ReadOnly {
        /// The file.
        path: PathBuf,
        /// The error of `SQLite`.
        detail: String,
    },
    /// The permissions forbid reading.
    #[error("cannot read {} ({why}): use harden-whyd, or run as root", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The error of the kernel.
        why: io::Error,
    },
    /// The file system is full, or the store has reached its own limit.
    #[error("{} cannot grow: free space on its file system, or set a shorter keep-days for harden-whyd", .path.display())]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// The writer died, and only a process that may write can read its last writes.
    #[error(
        "{} has unfinished writes that cannot be read from here: copy it and its -wal file to a writable directory",
        .path.display()
    )]
    Unfinished {
        /// The file.
        path: PathBuf,
    },
    /// Another process held its lock for too long.
    #[error("{} is busy: try again", .path.display())]
    Busy {
        /// The file.
        path: PathBuf,
    },
    /// A file or directory could not be created, renamed or examined.
    #[error("{}: {why}", .path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The error of the kernel.
        why: io::Error,
    },
    /// This process, or the machine, has no file descriptors left.
    #[error("cannot open {}: {why}", .path.display())]
    NoDescriptors {
        /// The file.
        path: PathBuf,
        /// The error of the kernel.
        why: io::Error,
    },
    /// Another error of `SQLite`.
    #[error("{}: {why}", .path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// The error of `SQLite`.
        why: rusqlite::Error,
    },
}

impl StoreError {
    /// Whether the error can pass while a daemon waits: the disk gets room, or another process releases the store. A file
    /// of another program, of a newer version or of another daemon can never be this daemon's store.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        !matches!(self, Self::InUse { .. } | Self::Foreign { .. } | Self::Newer { .. })
    }

    /// Returns what an error of `SQLite` means for this file.
    pub(super) fn from_sqlite(path: &Path, source: rusqlite::Error) -> Self {
        let path = path.to_owned();
        let detail = source.to_string();
        // If the disk is full while the log's index grows, SQLite reports another code.
        if source.sqlite_error().is_some_and(|error| error.extended_code == ffi::SQLITE_IOERR_SHMSIZE) {
            return Self::Full { path };
        }
        let code = source.sqlite_error_code();
        // SQLite does not tell why it cannot open a file.
        if matches!(code, Some(ErrorCode::CannotOpen | ErrorCode::SystemIoFailure))
            && let Some(why) = find_lack_of_descriptors()
        {
            return Self::NoDescriptors { path, why };
        }
        match code {
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => Self::Damaged { path, detail },
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
                Self::ReadOnly { path, detail }
            }
            Some(ErrorCode::DiskFull) => Self::Full { path },
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy { path },
            _ => Self::Sqlite { path, why: source },
        }
    }

    /// Returns what an error of the kernel means for this file or directory.
    pub(super) fn from_io(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { path },
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
                Self::ReadOnly { path, detail: source.to_string() }
            }
            _ => Self::Io { path, why: source },
        }
    }
}

/// Returns the kernel's error if there are fewer free descriptors than a store needs: for the file, its log, the index of
/// the log, and the directory.
fn find_lack_of_descriptors() -> Option<io::Error> {
    let probes: Vec<io::Result<File>> = (0..4).map(|_| File::open("/dev/null")).collect();
    let mut errors = probes.into_iter().filter_map(Result::err);
    errors.find(|error| matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)))
}
