//! Opens regular files only. A user can choose the path: opening a pipe blocks, and opening some devices has effects
//! (`/dev/watchdog`, tapes).

use std::fs::{File, OpenOptions};
use std::io;
use std::io::ErrorKind;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Opens a regular file for reading. Follows links.
///
/// # Errors
/// `InvalidInput` for any other kind of file, without opening it; otherwise the error of `open(2)`.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    // O_PATH gives a handle and does not open the file (`open(2)`).
    let handle = OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_CLOEXEC).open(path)?;
    reopen(&handle, || OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path))
}

/// Opens the regular file of an `O_PATH` handle for reading. Without `/proc`, calls `open_again`, and checks its file.
pub(crate) fn reopen(handle: &File, open_again: impl FnOnce() -> io::Result<File>) -> io::Result<File> {
    check_regular(handle)?;
    // Opens the inode that was checked; the path may lead to another file by now.
    match File::open(format!("/proc/self/fd/{}", handle.as_raw_fd())) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let file = open_again()?;
            check_regular(&file)?;
            Ok(file)
        }
        opened => opened,
    }
}

fn check_regular(file: &File) -> io::Result<()> {
    let is_regular = file.metadata()?.is_file();
    is_regular.then_some(()).ok_or_else(|| io::Error::new(ErrorKind::InvalidInput, "not a regular file"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    #[test]
    fn open_refuses_all_but_regular_files() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link, pipe) = (dir.path().join("file"), dir.path().join("link"), dir.path().join("pipe"));
        std::fs::write(&file, "text").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        for path in [&file, &link] {
            let mut text = String::new();
            open(path).unwrap().read_to_string(&mut text).unwrap();
            assert_eq!(text, "text");
        }
        for path in [pipe.as_path(), dir.path(), Path::new("/dev/zero")] {
            assert_eq!(open(path).unwrap_err().kind(), ErrorKind::InvalidInput, "{path:?}");
        }
        assert_eq!(open(&dir.path().join("none")).unwrap_err().kind(), ErrorKind::NotFound);
    }
}
