//! Why a change to a drop-in fails, with what to do about it.

use crate::audit::text::escape;
use std::io;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// Why a change to a drop-in failed. The file is unchanged.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DropInError {
    /// Another program's file has the name.
    #[error("harden-why did not write {}: edit it yourself, or move it away", shown(.0))]
    Foreign(PathBuf),
    /// A drop-in of harden-why has the name.
    #[error("another harden-why wrote {} just now: wait until it is done", shown(.0))]
    Exists(PathBuf),
    /// The caller lacks the rights.
    #[error("cannot change {} ({why}): for a system unit run harden-why as root, for a user unit as that user", shown(.path))]
    NotAllowed {
        /// The file or directory.
        path: PathBuf,
        /// The kernel's error.
        why: io::Error,
    },
    /// The file system is read-only.
    #[error("{} is on a read-only file system", shown(.0))]
    ReadOnly(PathBuf),
    /// A file or a dangling link has the name of the directory.
    #[error("{} is no directory: move it away", shown(.0))]
    NoDirectory(PathBuf),
    /// Another process changed the file since the caller read it.
    #[error("another process has changed {} in the meantime, so it stays as it is: look at it, then try again", shown(.0))]
    Changed(PathBuf),
    /// Another process removed the file.
    #[error("{} was removed by another process", shown(.0))]
    Gone(PathBuf),
    /// Another error.
    #[error("cannot change {}: {why}", shown(.path))]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The kernel's error.
        why: io::Error,
    },
}

impl DropInError {
    /// The error of a call on a file or directory.
    pub(super) fn from_io(path: &Path, why: io::Error) -> Self {
        let path = path.to_owned();
        match why.kind() {
            ErrorKind::PermissionDenied => Self::NotAllowed { path, why },
            ErrorKind::ReadOnlyFilesystem => Self::ReadOnly(path),
            _ => Self::Io { path, why },
        }
    }
}

fn shown(path: &Path) -> String {
    escape(path.as_os_str().as_bytes())
}
