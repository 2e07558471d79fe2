//! Opens regular files alone. A path can be of somebody else's choosing, and opening a pipe waits, opening some devices
//! acts (`/dev/watchdog`, tapes).

use std::fs::{File, OpenOptions};
use std::io;
use std::io::ErrorKind;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Opens a file for reading if it is a regular one, links followed.
///
/// # Errors
/// Those of opening; `InvalidInput` for anything but a regular file, which is not opened then.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    // Only a handle: nothing is opened yet (`open(2)`, O_PATH).
    let handle = OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_CLOEXEC).open(path)?;
    if !handle.metadata()?.is_file() {
        return Err(io::Error::new(ErrorKind::InvalidInput, "not a regular file"));
    }
    // The very file that was looked at, whatever has the path by now.
    match File::open(format!("/proc/self/fd/{}", handle.as_raw_fd())) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)
        }
        opened => opened,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    #[test]
    fn only_regular_files_are_opened() {
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
