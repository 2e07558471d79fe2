//! Writes and removes the drop-ins of harden-why.
//!
//! A write is complete or has no effect. No write replaces another program's file, or a drop-in that another harden-why
//! changed since the caller read it. A new file replaces none at all.
//!
//! The check of a present file and its change are two steps: what another process writes between them is lost. No lock
//! prevents that, since every user may read these directories, and so could hold a lock on them against root.

use super::whole_file::{UNFINISHED, create, replace};
use crate::audit::text::escape;
use crate::kernel::procfs::Procfs;
use nix::sys::statvfs::{FsFlags, statvfs};
use std::fs::OpenOptions;
use std::io::{ErrorKind, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::{fs, io};

/// The first words of every file of harden-why.
pub(crate) const MARK: &str = "# Written by harden-why";

/// harden-why writes no larger file.
const MAX_SIZE: u64 = 1 << 20;

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

/// Reads a drop-in of harden-why; `None` if there is none.
///
/// # Errors
/// The file is another program's, or cannot be read.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>, DropInError> {
    let error = |source| explain(path, source);
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(source) if matches!(source.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        Err(source) => return Err(error(source)),
    };
    // harden-why makes no links, devices or pipes.
    if !metadata.is_file() || metadata.len() > MAX_SIZE {
        return Err(DropInError::Foreign(path.to_owned()));
    }
    let mut bytes = Vec::new();
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path);
    opened.and_then(|file| file.take(MAX_SIZE).read_to_end(&mut bytes)).map_err(error)?;
    if bytes.starts_with(MARK.as_bytes()) { Ok(Some(bytes)) } else { Err(DropInError::Foreign(path.to_owned())) }
}

/// Composes a drop-in. Its comments say when and why harden-why wrote it, and which command undoes it. `content` can
/// begin with more comments.
#[must_use]
pub(crate) fn compose(content: &str, when: &str, why: &str, undo: &str) -> String {
    // A line feed in a text would end the comment.
    let line = |text: &str| escape(text.as_bytes());
    format!("{MARK} on {}: {}\n# Undo: {}\n{content}", line(when), line(why), line(undo))
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
    let undo = Undo { path: path.to_owned(), before: expected.map(<[u8]>::to_vec), after: Some(bytes.to_vec()), made };
    match place(path, expected.is_some(), bytes) {
        Ok(()) => Ok(undo),
        Err(error) => {
            undo.remove_dirs();
            Err(error)
        }
    }
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

/// Checks that the file system of a drop-in can take a file of a size. Changes nothing.
///
/// # Errors
/// The file system is read-only or full.
pub(crate) fn ensure_has_room(path: &Path, size: u64) -> Result<(), DropInError> {
    /// A file, a directory, and the new file next to the old one.
    const FILES: u64 = 3;
    let dir = path.ancestors().skip(1).find(|dir| dir.is_dir());
    // Without an answer, the write itself shows it.
    let Some(found) = dir.and_then(|dir| statvfs(dir).ok()) else { return Ok(()) };
    if found.flags().contains(FsFlags::ST_RDONLY) {
        return Err(DropInError::ReadOnly(path.to_owned()));
    }
    let free = found.blocks_free().saturating_mul(found.fragment_size());
    // A file system without a limit has no blocks or no inodes (`shmem_statfs`).
    let lacks_blocks = found.blocks() > 0 && free < size.saturating_add(FILES * found.fragment_size());
    let lacks_files = found.files() > 0 && found.files_free() < FILES;
    if lacks_blocks || lacks_files {
        return Err(explain(path, io::Error::from_raw_os_error(libc::ENOSPC)));
    }
    Ok(())
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
        ErrorKind::AlreadyExists => match read(path) {
            Err(error) => error,
            Ok(_) => DropInError::Changed(path.to_owned()),
        },
        _ => explain(path, source),
    })
}

/// Creates the directory of a drop-in. Returns those that were made, the innermost first.
fn create_dirs(dir: &Path) -> Result<Vec<PathBuf>, DropInError> {
    let made: Vec<PathBuf> = dir.ancestors().take_while(|dir| !dir.exists()).map(Path::to_owned).collect();
    if let Err(source) = fs::create_dir_all(dir) {
        remove_dirs(&made);
        return Err(match source.kind() {
            ErrorKind::AlreadyExists => DropInError::NoDirectory(dir.to_owned()),
            _ => explain(dir, source),
        });
    }
    if made.iter().any(|made| made == dir) {
        // The umask does not apply to directories of drop-ins either. A directory without this mode still works.
        let _ = fs::set_permissions(dir, fs::Permissions::from_mode(0o755));
    }
    Ok(made)
}

/// Removes those of the directories that are empty.
fn remove_dirs(dirs: &[PathBuf]) {
    for dir in dirs {
        // The innermost directory may not exist.
        let _ = fs::remove_dir(dir);
    }
}

/// Removes a drop-in of harden-why; `None` if there is none.
///
/// # Errors
/// The file is another program's, or cannot be removed.
pub(crate) fn remove(path: &Path) -> Result<Option<Undo>, DropInError> {
    let Some(before) = read(path)? else { return Ok(None) };
    fs::remove_file(path).map_err(|source| explain(path, source))?;
    let made = path.parent().map(Path::to_owned).into_iter().collect();
    let undo = Undo { path: path.to_owned(), before: Some(before), after: None, made };
    undo.remove_dirs();
    Ok(Some(undo))
}

/// Renames a drop-in within its directory, for example to a name that systemd ignores.
///
/// # Errors
/// The file is another program's, does not exist any more, or cannot be renamed.
pub(crate) fn rename(path: &Path, to: &Path) -> Result<(), DropInError> {
    if read(path)?.is_none() {
        return Err(DropInError::Gone(path.to_owned()));
    }
    fs::rename(path, to).map_err(|source| explain(path, source))
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
                None => fs::remove_file(&self.path).map_err(|source| explain(&self.path, source))?,
            }
        }
        if self.before.is_none() {
            self.remove_dirs();
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

    /// Removes the directories of `made` that are empty.
    fn remove_dirs(&self) {
        remove_dirs(&self.made);
    }
}

/// Does what [`remove_unfinished`] does in each directory of drop-ins below a directory.
pub(crate) fn remove_all_unfinished(dir: &Path) {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.filter(|path| path.extension().is_some_and(|extension| extension == "d")).for_each(|path| {
        remove_unfinished(&path);
    });
}

/// Removes the unfinished files of processes that have ended, and the directory if it is empty then.
pub(crate) fn remove_unfinished(dir: &Path) {
    let mut removed = false;
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid: Option<u32> = name.to_str().and_then(|name| name.strip_prefix(UNFINISHED)?.parse().ok());
        if pid.is_some_and(|pid| !Procfs::live().is_pid_in_use(pid)) {
            // If the file stays, systemd ignores it.
            removed |= fs::remove_file(entry.path()).is_ok();
        }
    }
    if removed {
        // A directory with other files stays.
        let _ = fs::remove_dir(dir);
    }
}

fn explain(path: &Path, why: io::Error) -> DropInError {
    let path = path.to_owned();
    match why.kind() {
        ErrorKind::PermissionDenied => DropInError::NotAllowed { path, why },
        ErrorKind::ReadOnlyFilesystem => DropInError::ReadOnly(path),
        _ => DropInError::Io { path, why },
    }
}

fn shown(path: &Path) -> String {
    escape(path.as_os_str().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn place() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("systemd/user/x.service.d/zz-harden-why.conf");
        (dir, path)
    }

    /// Mounts a file system of the kernel's memory over a directory, for a function that runs in a mount namespace of its own.
    fn with_mount<T: Send + 'static>(
        options: &'static str,
        run: impl FnOnce(&Path) -> T + Send + 'static,
    ) -> Option<T> {
        let in_thread = move || {
            let dir = tempfile::tempdir().unwrap();
            // Without rights there are no mounts.
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).ok()?;
            let succeeds = |program: &str, arguments: &[&str]| {
                let status = std::process::Command::new(program).args(arguments).status();
                assert!(status.unwrap().success(), "{program} {arguments:?}");
            };
            let place = dir.path().to_str().unwrap();
            succeeds("mount", &["--make-rprivate", "/"]);
            succeeds("mount", &["-t", "tmpfs", "-o", options, "tmpfs", place]);
            let result = run(dir.path());
            succeeds("umount", &["-l", place]);
            Some(result)
        };
        std::thread::spawn(in_thread).join().unwrap()
    }

    #[test]
    fn read_only_and_full_file_systems_are_found_before_the_write() {
        let check = |dir: &Path| ensure_has_room(&dir.join("systemd/system/x.service.d/y.conf"), 8 << 10);
        let dir = tempfile::tempdir().unwrap();
        check(dir.path()).unwrap();
        for (options, expected) in [
            ("ro", Some("is on a read-only file system")),
            ("size=16k", Some("No space left on device")),
            ("nr_inodes=2", Some("No space left on device")),
            ("size=1m", None),
            ("size=0,nr_inodes=0", None),
        ] {
            let Some(checked) = with_mount(options, move |dir| check(dir).err().map(|error| error.to_string())) else {
                return;
            };
            let is_expected = match (&checked, expected) {
                (Some(error), Some(words)) => error.contains(words),
                (None, None) => true,
                _ => false,
            };
            assert!(is_expected, "{options}: {checked:?}");
        }
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
    fn unfinished_file_of_a_killed_process_is_removed_and_that_of_a_living_one_stays() {
        let (_dir, path) = place();
        let (killed, units) = (path.parent().unwrap(), path.ancestors().nth(2).unwrap());
        let busy = units.join("y.service.d");
        // No process can have this pid: it is above the kernel's limit (PID_MAX_LIMIT).
        let dead = killed.join(format!("{UNFINISHED}4194399"));
        let living = busy.join(format!("{UNFINISHED}{}", std::process::id()));
        let others = [busy.join(".harden-why.x"), units.join(".harden-why.4194399"), living];
        for file in others.iter().chain([&dead]) {
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, ours("[Service]\n")).unwrap();
        }
        remove_all_unfinished(units);
        assert!(!killed.exists(), "the killed process made the directory");
        assert!(others.iter().all(|file| file.exists()));
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
    fn line_feed_in_a_comment_adds_no_line() {
        let text = compose("[Service]\n", "now", "a\n[Service]\nExecStart=/bin/evil", "x\ny");
        assert_eq!(text.lines().count(), 3);
        assert!(text.starts_with(MARK));
    }

    #[test]
    fn unwritable_file_is_named_in_the_error() {
        let error = write(Path::new("/proc/x.service.d/zz.conf"), b"x").unwrap_err().to_string();
        assert!(error.contains("/proc/x.service.d"), "{error}");
    }

    #[test]
    fn directories_created_before_a_failure_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("systemd")).unwrap();
        // The kernel creates its parents, but not the directory itself: the name is too long.
        let too_long = format!("systemd/user/{}.service.d/zz.conf", "x".repeat(255));
        write(&dir.path().join(too_long), ours("").as_bytes()).unwrap_err();
        assert_eq!(fs::read_dir(dir.path().join("systemd")).unwrap().count(), 0, "user was made for the drop-in");
        assert!(dir.path().join("systemd").exists(), "this was not");
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
