//! The directories of drop-ins: created with a drop-in, and removed with it if they are empty.

use super::error::DropInError;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Creates the directory of a drop-in. Returns those that were made, the innermost first.
pub(super) fn create_dirs(dir: &Path) -> Result<Vec<PathBuf>, DropInError> {
    let made: Vec<PathBuf> = dir.ancestors().take_while(|dir| !dir.exists()).map(Path::to_owned).collect();
    if let Err(source) = fs::create_dir_all(dir) {
        remove_dirs(&made);
        return Err(match source.kind() {
            ErrorKind::AlreadyExists => DropInError::NoDirectory(dir.to_owned()),
            _ => DropInError::from_io(dir, source),
        });
    }
    if made.iter().any(|made| made == dir) {
        // The umask does not apply to directories of drop-ins either. A directory without this mode still works.
        let _ = fs::set_permissions(dir, fs::Permissions::from_mode(0o755));
    }
    Ok(made)
}

/// Removes those of the directories that are empty.
pub(super) fn remove_dirs(dirs: &[PathBuf]) {
    for dir in dirs {
        // The innermost directory may not exist.
        let _ = fs::remove_dir(dir);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_created_before_a_failure_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("systemd")).unwrap();
        // The kernel creates its parents, but not the directory itself: the name is too long.
        let too_long = format!("systemd/user/{}.service.d", "x".repeat(255));
        create_dirs(&dir.path().join(too_long)).unwrap_err();
        assert_eq!(fs::read_dir(dir.path().join("systemd")).unwrap().count(), 0, "user was made for the drop-in");
        assert!(dir.path().join("systemd").exists(), "this was not");
    }
}
