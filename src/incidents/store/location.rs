//! The files of a store: their names, which file is at a path, and whether it is one that can be opened.

use super::error::StoreError;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// The suffix of the write-ahead log of `SQLite`.
pub(super) const LOG: &str = "-wal";

/// A file's device and inode.
pub(super) type FileId = (u64, u64);

/// Refuses a pipe or a device in the place of the store, or of a file that `SQLite` keeps next to it: opening it can
/// block.
pub(super) fn check_regular(path: &Path) -> Result<(), StoreError> {
    for file in ["", LOG, "-shm", "-journal"].map(|suffix| with_suffix(path, suffix)) {
        if fs::metadata(&file).is_ok_and(|metadata| !metadata.is_file()) {
            let source = io::Error::new(io::ErrorKind::InvalidInput, "not a regular file");
            return Err(StoreError::from_io(&file, source));
        }
    }
    Ok(())
}

/// Returns which file is at a path, if there is one.
pub(super) fn file_id(path: &Path) -> Option<FileId> {
    fs::metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

/// Whether a path is known to lead to another file than before, or to none.
pub(super) fn is_other(path: &Path, was: Option<FileId>) -> bool {
    let is = fs::metadata(path).map(|file| (file.dev(), file.ino()));
    was.is_some_and(|was| match is {
        Ok(is) => is != was,
        Err(error) => matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory),
    })
}

/// Returns the path of a file that `SQLite` keeps next to this one.
pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Returns the path as a URI (`sqlite.org/uri.html`) that declares the file immutable.
pub(super) fn immutable_uri(path: &Path) -> String {
    use std::fmt::Write as _;
    use std::os::unix::ffi::OsStrExt;
    let mut uri = "file://".to_owned();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => uri.push(char::from(*byte)),
            // Writing to a string cannot fail.
            byte => _ = write!(uri, "%{byte:02x}"),
        }
    }
    uri + "?immutable=1"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn immutable_uri_escapes_path() {
        assert_eq!(immutable_uri(Path::new("/a b?mode=rw#%")), "file:///a%20b%3fmode%3drw%23%25?immutable=1");
    }
}
