//! Why the store could not do what it was asked, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{ErrorCode, ffi};

/// Why the store could not do what it was asked. Nothing was changed: a failed
/// [`record`](super::Store::record) leaves the incidents with its caller.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no store yet.
    #[error("{} does not exist: nothing has been recorded on this machine yet", .path.display())]
    Missing {
        /// Where it would be.
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
        /// The newest this program knows.
        known: i64,
    },
    /// An earlier harden-whyd wrote it.
    #[error("{} is of an earlier harden-why: start harden-whyd, which brings it up to date", .path.display())]
    Older {
        /// The file.
        path: PathBuf,
    },
    /// Another harden-whyd writes it.
    #[error("{} is in use by another harden-whyd: stop that, or give this one another directory", .dir.display())]
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
        /// What was found.
        detail: String,
    },
    /// Somebody removed the file while it was written, or put another in its place.
    #[error("{} or its log was removed while harden-whyd wrote it, or another put in its place", .path.display())]
    Removed {
        /// Where it was.
        path: PathBuf,
    },
    /// The file system or the permissions do not let us write.
    #[error("{} cannot be written ({detail}): check its permissions, and that its file system is not read-only", .path.display())]
    ReadOnly {
        /// The file.
        path: PathBuf,
        /// What `SQLite` said.
        detail: String,
    },
    /// The permissions do not let us read.
    #[error("{} cannot be read ({why}): ask as root, or through harden-whyd", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        why: io::Error,
    },
    /// No space left, or the store's own bound reached.
    #[error("{} cannot grow: free space on its file system, or let harden-whyd forget old incidents", .path.display())]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// The writer died, and what it wrote last can only be read by someone who may write.
    #[error(
        "{} has unfinished writes that cannot be read from here: copy it and its -wal file to a writable directory",
        .path.display()
    )]
    Unfinished {
        /// The file.
        path: PathBuf,
    },
    /// Someone else held it for too long.
    #[error("{} is busy: try again", .path.display())]
    Busy {
        /// The file.
        path: PathBuf,
    },
    /// A file or directory could not be made, renamed or asked about.
    #[error("{}: {why}", .path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the kernel said.
        why: io::Error,
    },
    /// Anything else `SQLite` may say.
    #[error("{}: {why}", .path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What `SQLite` said.
        why: rusqlite::Error,
    },
}

impl StoreError {
    /// Whether it can pass while a daemon waits: the disk has room again, or whoever held the store lets go. What another
    /// program or a newer version wrote, or another daemon writes, is no store for this one at all.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        !matches!(self, Self::InUse { .. } | Self::Foreign { .. } | Self::Newer { .. })
    }

    /// What an error of `SQLite` means for this file.
    pub(super) fn from_sqlite(path: &Path, source: rusqlite::Error) -> Self {
        let path = path.to_owned();
        let detail = source.to_string();
        // A full disk met while the log's index grows has a code of its own.
        if source.sqlite_error().is_some_and(|error| error.extended_code == ffi::SQLITE_IOERR_SHMSIZE) {
            return Self::Full { path };
        }
        match source.sqlite_error_code() {
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => Self::Damaged { path, detail },
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
                Self::ReadOnly { path, detail }
            }
            Some(ErrorCode::DiskFull) => Self::Full { path },
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy { path },
            _ => Self::Sqlite { path, why: source },
        }
    }

    /// What an error of the kernel means for this file or directory.
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
