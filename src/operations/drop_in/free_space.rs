//! Whether a file system has room for a drop-in, found before anything is changed.

use super::error::DropInError;
use nix::sys::statvfs::{FsFlags, statvfs};
use std::io;
use std::path::Path;

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
        return Err(DropInError::from_io(path, io::Error::from_raw_os_error(libc::ENOSPC)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::mounts::is_in_chroot;

    /// Mounts a file system of the kernel's memory over a directory, for a function that runs in a mount namespace of its own.
    fn with_mount<T: Send + 'static>(
        options: &'static str,
        run: impl FnOnce(&Path) -> T + Send + 'static,
    ) -> Option<T> {
        let in_thread = move || {
            if is_in_chroot() {
                return None;
            }
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
            let report = move |dir: &Path| check(dir).map_or_else(|error| error.to_string(), |()| String::new());
            let Some(report) = with_mount(options, report) else { return };
            assert!(expected.map_or(report.is_empty(), |words| report.contains(words)), "{options}: {report}");
        }
    }
}
