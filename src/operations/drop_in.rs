//! Writes and removes the drop-ins of harden-why. [`Undo`] restores the file that was there before.
//!
//! A write is complete or has no effect. No write replaces another program's file, or a drop-in that another harden-why
//! changed since the caller read it. A new file replaces none at all.
//!
//! The check of a present file and its change are two steps: what another process writes between them is lost. No lock
//! prevents that, since every user may read these directories, and so could hold a lock on them against root.

mod directories;
mod error;
mod free_space;
mod marked_file;

use super::whole_file::{create, replace};
use directories::{create_dirs, remove_dirs};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

pub(crate) use error::DropInError;
pub(crate) use free_space::ensure_has_room;
pub(crate) use marked_file::{MARK, compose, read};

/// A change that can be undone.
#[derive(Debug)]
#[must_use = "a change is kept or undone"]
pub(crate) struct Undo {
    path: PathBuf,
    before: Option<Vec<u8>>,
    /// What the change left there.
    after: Option<Vec<u8>>,
    /// The directories to remove if they are empty once the file is gone, the innermost first.
    made: Vec<PathBuf>,
}

/// Writes a drop-in in one step that survives a crash.
///
/// # Errors
/// Another program's file has this name, or the file cannot be written. Nothing is changed in either case.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<Undo, DropInError> {
    let present = read(path)?;
    write_over(path, present.as_deref(), bytes)
}

/// Writes a drop-in as [`write()`] does, unless it holds anything else than `expected`. Without `expected`, no file may
/// have the name: of two processes, one succeeds.
///
/// # Errors
/// The file holds anything else, or cannot be written. Nothing is changed in either case.
pub(crate) fn write_over(path: &Path, expected: Option<&[u8]>, bytes: &[u8]) -> Result<Undo, DropInError> {
    ensure_holds(path, expected)?;
    let dir = path.parent().unwrap_or(Path::new("/"));
    let made = create_dirs(dir)?;
    place(path, expected.is_some(), bytes).inspect_err(|_| remove_dirs(&made))?;
    Ok(Undo { path: path.to_owned(), before: expected.map(<[u8]>::to_vec), after: Some(bytes.to_vec()), made })
}

/// Writes a drop-in as [`write()`] does, unless a file has the name: of two processes, one succeeds.
///
/// # Errors
/// A file has this name, or the file cannot be written. Nothing is changed in either case.
pub(crate) fn write_new(path: &Path, bytes: &[u8]) -> Result<Undo, DropInError> {
    write_over(path, None, bytes).map_err(|error| match error {
        DropInError::Changed(path) => DropInError::Exists(path),
        other => other,
    })
}

/// Checks that the file of a drop-in holds these bytes, or does not exist.
fn ensure_holds(path: &Path, expected: Option<&[u8]>) -> Result<(), DropInError> {
    match (read(path)?.as_deref(), expected) {
        (present, expected) if present == expected => Ok(()),
        (None, Some(_)) => Err(DropInError::Gone(path.to_owned())),
        _ => Err(DropInError::Changed(path.to_owned())),
    }
}

/// Puts a file in its place: over the drop-in that is there, or where no file is.
fn place(path: &Path, is_there: bool, bytes: &[u8]) -> Result<(), DropInError> {
    let placed = if is_there { replace(path, bytes) } else { create(path, bytes) };
    placed.map_err(|source| match source.kind() {
        ErrorKind::AlreadyExists => read(path).err().unwrap_or_else(|| DropInError::Changed(path.to_owned())),
        _ => DropInError::from_io(path, source),
    })
}

/// Removes a drop-in of harden-why; `None` if there is none.
///
/// # Errors
/// The file is another program's, or cannot be removed.
pub(crate) fn remove(path: &Path) -> Result<Option<Undo>, DropInError> {
    let Some(before) = read(path)? else { return Ok(None) };
    fs::remove_file(path).map_err(|source| DropInError::from_io(path, source))?;
    let made: Vec<PathBuf> = path.parent().map(Path::to_owned).into_iter().collect();
    remove_dirs(&made);
    Ok(Some(Undo { path: path.to_owned(), before: Some(before), after: None, made }))
}

/// Renames a drop-in within its directory, for example to a name that systemd ignores.
///
/// # Errors
/// The file is another program's, does not exist any more, or cannot be renamed.
pub(crate) fn rename(path: &Path, to: &Path) -> Result<(), DropInError> {
    if read(path)?.is_none() {
        return Err(DropInError::Gone(path.to_owned()));
    }
    fs::rename(path, to).map_err(|source| DropInError::from_io(path, source))
}

impl Undo {
    /// Keeps the change.
    pub(crate) fn keep(self) {
        drop(self);
    }

    /// Restores the previous file, or removes the new one. A file that is already as before stays.
    ///
    /// # Errors
    /// Another process changed the file, or it cannot be written or removed.
    pub(crate) fn undo(self) -> Result<(), DropInError> {
        if ensure_holds(&self.path, self.before.as_deref()).is_err() {
            ensure_holds(&self.path, self.after.as_deref())?;
            match &self.before {
                Some(bytes) => {
                    create_dirs(self.path.parent().unwrap_or(Path::new("/")))?;
                    place(&self.path, self.after.is_some(), bytes)?;
                }
                None => fs::remove_file(&self.path).map_err(|source| DropInError::from_io(&self.path, source))?,
            }
        }
        if self.before.is_none() {
            remove_dirs(&self.made);
        }
        Ok(())
    }

    /// Replaces the text of the drop-in. [`undo`](Self::undo) still restores the file before the change.
    ///
    /// # Errors
    /// Another process changed or removed the file, or it cannot be written.
    pub(crate) fn rewrite(&mut self, bytes: &[u8]) -> Result<(), DropInError> {
        ensure_holds(&self.path, self.after.as_deref())?;
        place(&self.path, self.after.is_some(), bytes)?;
        self.after = Some(bytes.to_vec());
        Ok(())
    }

    /// Renames the file as [`rename`] does. [`undo`](Self::undo) then removes it under the new name.
    ///
    /// # Errors
    /// Those of [`rename`].
    pub(crate) fn set_aside(&mut self, to: &Path) -> Result<(), DropInError> {
        rename(&self.path, to)?;
        to.clone_into(&mut self.path);
        Ok(())
    }

    /// Returns the path of the file.
    #[must_use]
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    fn place() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("systemd/user/x.service.d/zz-harden-why.conf");
        (dir, path)
    }

    fn ours(text: &str) -> String {
        compose(text, "2026-11-24", "a test", "harden-why revert x")
    }

    #[test]
    fn undone_changes_restore_files_and_directories() {
        let (dir, path) = place();
        let first = write(&path, ours("[Service]\nA=1\n").as_bytes()).unwrap();
        let second = write(&path, ours("[Service]\nA=2\n").as_bytes()).unwrap();
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "the directory holds one file");
        second.undo().unwrap();
        assert!(fs::read_to_string(&path).unwrap().ends_with("A=1\n"));
        let removed = remove(&path).unwrap().unwrap();
        assert!(!path.parent().unwrap().exists());
        removed.undo().unwrap();
        assert!(fs::read_to_string(&path).unwrap().ends_with("A=1\n"));
        first.undo().unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "all directories were made for the drop-in");
        assert!(remove(&path).unwrap().is_none());
    }

    #[test]
    fn file_of_another_program_is_neither_written_nor_removed() {
        let (dir, path) = place();
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "[Service]\nA=1\n").unwrap();
        assert!(matches!(write(&path, b"x"), Err(DropInError::Foreign(_))));
        assert!(matches!(remove(&path), Err(DropInError::Foreign(_))));
        assert_eq!(fs::read_to_string(&path).unwrap(), "[Service]\nA=1\n");
        fs::remove_file(&path).unwrap();
        let elsewhere = dir.path().join("elsewhere");
        fs::write(&elsewhere, ours("")).unwrap();
        symlink(&elsewhere, &path).unwrap();
        assert!(matches!(write(&path, b"x"), Err(DropInError::Foreign(_))), "not even through a link");
        assert_eq!(fs::read_to_string(&elsewhere).unwrap(), ours(""));
    }

    #[test]
    fn renamed_file_is_removed_under_its_new_name() {
        let (dir, path) = place();
        let aside = path.with_extension("over");
        let mut change = write(&path, ours("").as_bytes()).unwrap();
        change.set_aside(&aside).unwrap();
        assert!(!path.exists() && aside.exists());
        assert!(matches!(rename(&path, &aside), Err(DropInError::Gone(_))));
        change.undo().unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "[Service]\n").unwrap();
        assert!(matches!(rename(&path, &aside), Err(DropInError::Foreign(_))));
    }

    #[test]
    fn new_drop_in_replaces_none_and_a_removed_one_is_not_rewritten() {
        let (dir, path) = place();
        let mut made = write_new(&path, ours("[Service]\nA=1\n").as_bytes()).unwrap();
        assert!(matches!(write_new(&path, b"x"), Err(DropInError::Exists(_))));
        made.rewrite(ours("[Service]\nA=2\n").as_bytes()).unwrap();
        assert!(fs::read_to_string(&path).unwrap().ends_with("A=2\n"));
        made.undo().unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        let mut gone = write_new(&path, ours("[Service]\nA=1\n").as_bytes()).unwrap();
        fs::remove_file(&path).unwrap();
        assert!(matches!(gone.rewrite(b"x"), Err(DropInError::Gone(_))));
        gone.undo().unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "a file that is gone needs no undo");
    }

    #[test]
    fn drop_in_that_changed_since_it_was_read_is_kept() {
        let (_dir, path) = place();
        let [first, second, third] = ["A=1", "A=2", "A=3"].map(|line| ours(&format!("[Service]\n{line}\n")));
        let holds = |text: &str| assert_eq!(fs::read_to_string(&path).unwrap(), text);
        let made = write_over(&path, None, first.as_bytes()).unwrap();
        assert!(matches!(write_over(&path, None, third.as_bytes()), Err(DropInError::Changed(_))));
        holds(&first);
        let over = write_over(&path, Some(first.as_bytes()), second.as_bytes()).unwrap();
        assert!(matches!(made.undo(), Err(DropInError::Changed(_))));
        assert!(matches!(write_over(&path, Some(first.as_bytes()), third.as_bytes()), Err(DropInError::Changed(_))));
        holds(&second);
        fs::write(&path, &third).unwrap();
        assert!(matches!(over.undo(), Err(DropInError::Changed(_))));
        holds(&third);
        let removed = remove(&path).unwrap().unwrap();
        write(&path, first.as_bytes()).unwrap().keep();
        assert!(matches!(removed.undo(), Err(DropInError::Changed(_))));
        holds(&first);
        fs::remove_file(&path).unwrap();
        assert!(matches!(write_over(&path, Some(first.as_bytes()), b"x"), Err(DropInError::Gone(_))));
    }

    #[test]
    fn undo_keeps_the_file_that_another_program_put_there() {
        let (_dir, path) = place();
        let made = write(&path, ours("").as_bytes()).unwrap();
        fs::write(&path, "[Service]\n").unwrap();
        assert!(matches!(made.undo(), Err(DropInError::Foreign(_))));
        assert!(path.exists());
    }

    #[test]
    fn file_or_dangling_link_in_place_of_the_directory_is_named_as_the_cause() {
        let (_dir, path) = place();
        let directory = path.parent().unwrap();
        fs::create_dir_all(directory.parent().unwrap()).unwrap();
        symlink("/nonexistent/x", directory).unwrap();
        for _ in 0..2 {
            let error = write(&path, ours("").as_bytes()).unwrap_err();
            assert!(matches!(&error, DropInError::NoDirectory(path) if path == directory), "{error}");
            assert!(fs::symlink_metadata(directory).is_ok());
            let _ = fs::remove_file(directory);
            fs::write(directory, "").unwrap();
        }
    }

    #[test]
    fn unwritable_file_is_named_in_the_error() {
        let error = write(Path::new("/proc/x.service.d/zz.conf"), b"x").unwrap_err().to_string();
        assert!(error.contains("/proc/x.service.d"), "{error}");
    }

    #[test]
    fn drop_in_has_its_mode_whatever_the_umask() {
        let (dir, path) = place();
        let restored = dir.path().join("systemd/user/y.service.d/zz.conf");
        // A thread with a umask of its own, so that no other test is under it.
        let with_umask = || {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS).unwrap();
            nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
            write(&path, ours("").as_bytes()).unwrap().keep();
            write(&restored, ours("").as_bytes()).unwrap().keep();
            remove(&restored).unwrap().unwrap().undo().unwrap();
        };
        std::thread::scope(|scope| scope.spawn(with_umask).join()).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        for path in [path, restored] {
            assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o644, 0o755));
        }
        drop(dir);
    }
}
