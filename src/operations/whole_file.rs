//! Writes a file as a whole: no reader sees a part of it.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::{fs, io};

/// The prefix of an unfinished file's name. The pid of the writing process follows.
pub(super) const UNFINISHED: &str = ".harden-why.";

/// Writes a file in one step that survives a crash. Every user may read it, whatever the umask.
///
/// # Errors
/// It cannot be written. A file that was there is unchanged.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_by(path, bytes, |temporary, path| fs::rename(temporary, path))
}

/// Writes a file as [`replace`] does, unless a file has the name.
///
/// # Errors
/// It cannot be written; [`io::ErrorKind::AlreadyExists`] if a file has the name.
pub(crate) fn create(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // Of two processes that link a file to one name, one succeeds (link(2)).
    write_by(path, bytes, |temporary, path| {
        fs::hard_link(temporary, path)?;
        // The file is in place. A second name that stays is removed as an unfinished file.
        let _ = fs::remove_file(temporary);
        Ok(())
    })
}

fn write_by(path: &Path, bytes: &[u8], place: impl FnOnce(&Path, &Path) -> io::Result<()>) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    // systemd and node_exporter ignore hidden files, and files without the suffix that they read.
    let temporary = dir.join(format!("{UNFINISHED}{}", std::process::id()));
    // A killed process may have had the same pid.
    let _ = fs::remove_file(&temporary);
    let written = write_new(&temporary, bytes).and_then(|()| place(&temporary, path));
    if written.is_err() {
        // The file may not exist.
        let _ = fs::remove_file(&temporary);
    }
    written?;
    // The file is in place, even on a file system that cannot sync a directory.
    let _ = File::open(dir).and_then(|dir| dir.sync_all());
    Ok(())
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(path)?;
    // The umask does not apply.
    file.set_permissions(fs::Permissions::from_mode(0o644))?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_is_replaced_in_one_step_and_readable_for_all() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("harden-why.prom");
        for text in ["first 1\n", "second 2\n"] {
            replace(&file, text.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&file).unwrap(), text);
        }
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o644);
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1, "nothing else is left");
        assert!(replace(Path::new("/nonexistent/x.prom"), b"").is_err());
    }

    #[test]
    fn created_file_replaces_no_other() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("x.conf");
        create(&file, b"first").unwrap();
        assert_eq!(create(&file, b"second").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&file).unwrap(), b"first");
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1, "nothing else is left");
    }
}
