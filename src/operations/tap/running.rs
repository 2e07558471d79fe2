//! The running taps of this machine. A tap changes no unit, but slows the calls of all processes while it lasts, so a
//! file below `/run` tells `status` about it.

use crate::operations::owner_marker::OwnerMarker;
use crate::operations::unfinished_files::remove_unfinished;
use crate::operations::whole_file::{UNFINISHED, create};
use std::ffi::OsStr;
use std::fs;
use std::fs::{File, Permissions};
use std::io;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// The directory of the files. Only root can tap, and only root can write here.
pub(crate) const TAPS: &str = "/run/harden-why/taps";

/// The prefixes of the lines.
const SINCE: &str = "# Since: ";
const UNTIL: &str = "# Until: ";
const TARGET: &str = "Target=";

/// The longest file that is read.
const MAX_SIZE: u64 = 64 << 10;

/// A tap that watches now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RunningTap {
    /// The process that taps.
    pub(crate) pid: u32,
    /// In milliseconds since the epoch.
    pub(crate) since: i64,
    /// When the tap ends by itself, in milliseconds since the epoch.
    pub(crate) until: i64,
    /// The units and PIDs, as their files or the user name them.
    pub(crate) targets: Vec<String>,
}

/// The file of this process's tap. Dropping it removes the file.
#[derive(Debug)]
pub(crate) struct TapFile(PathBuf);

impl TapFile {
    /// Announces a tap of this process. Removes the files of taps that were killed.
    ///
    /// # Errors
    /// The file cannot be written. The tap works without it.
    pub(crate) fn write(dir: &Path, since: i64, until: i64, targets: &[String]) -> io::Result<Self> {
        remove_unfinished(dir);
        fs::create_dir_all(dir)?;
        for dir in [dir.parent(), Some(dir)].into_iter().flatten() {
            // Everybody may read it, whatever the umask.
            fs::set_permissions(dir, Permissions::from_mode(0o755))?;
        }
        for path in list_files(dir).filter(|path| read(path).is_none()) {
            // Another tap may have removed it.
            _ = fs::remove_file(path);
        }
        let owner = OwnerMarker::current().ok_or(io::ErrorKind::NotFound)?;
        let path = dir.join(std::process::id().to_string());
        let targets: Vec<String> =
            targets.iter().map(|target| format!("{TARGET}{}\n", target.replace('\n', " "))).collect();
        let text = format!("{owner}\n{SINCE}{since}\n{UNTIL}{until}\n{}", targets.concat());
        // Another tap removes a file that it reads before all of it is written.
        create(&path, text.as_bytes())?;
        Ok(Self(path))
    }
}

impl Drop for TapFile {
    fn drop(&mut self) {
        // A file that stays names a process that has ended.
        _ = fs::remove_file(&self.0);
    }
}

impl RunningTap {
    /// Finds the taps of all living processes, the oldest first.
    pub(crate) fn find_all(dir: &Path) -> Vec<Self> {
        let mut taps: Vec<Self> = list_files(dir).filter_map(|path| read(&path)).collect();
        taps.sort_by_key(|tap| (tap.since, tap.pid));
        taps
    }

    /// Parses a file; `None` if it is none of a living process.
    fn parse(text: &str) -> Option<Self> {
        let value = |prefix: &str| text.lines().find_map(|line| line.strip_prefix(prefix));
        let targets = text.lines().filter_map(|line| line.strip_prefix(TARGET)).map(ToOwned::to_owned);
        Some(Self {
            pid: OwnerMarker::parse(OwnerMarker::find_line(text)?)?.living_owner()?,
            since: value(SINCE)?.parse().ok()?,
            until: value(UNTIL)?.parse().ok()?,
            targets: targets.collect(),
        })
    }
}

/// Lists the files of taps, without those that another tap is writing.
fn list_files(dir: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let is_written = |name: &OsStr| !name.as_bytes().starts_with(UNFINISHED.as_bytes());
    entries.filter(move |entry| is_written(&entry.file_name())).map(|entry| entry.path())
}

fn read(path: &Path) -> Option<RunningTap> {
    let mut text = String::new();
    File::open(path).ok()?.take(MAX_SIZE).read_to_string(&mut text).ok()?;
    RunningTap::parse(&text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::parent_id;

    #[test]
    fn tap_is_found_while_its_file_is_held_and_files_of_killed_taps_are_removed() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("harden-why/taps");
        let find = || RunningTap::find_all(&dir);
        assert_eq!(find(), []);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("1"), "# Owner: 1 0\n# Since: 1\n# Until: 2\nTarget=old.service\n").unwrap();
        fs::write(dir.join("2"), "\u{0}").unwrap();
        // A living process is writing the first, a killed one left the second.
        let unfinished = dir.join(format!("{UNFINISHED}{}", parent_id()));
        let left = dir.join(format!("{UNFINISHED}4194399"));
        for file in [&unfinished, &left] {
            fs::write(file, "").unwrap();
        }
        let targets = ["web.service".to_owned(), "77\nTarget=x".to_owned()];
        let file = TapFile::write(&dir, 1_000, 31_000, &targets).unwrap();
        let expected = RunningTap {
            pid: std::process::id(),
            since: 1_000,
            until: 31_000,
            targets: vec!["web.service".to_owned(), "77 Target=x".to_owned()],
        };
        assert_eq!(find(), [expected]);
        assert_eq!(list_files(&dir).count(), 1);
        assert!(unfinished.exists() && !left.exists());
        drop(file);
        assert_eq!((find(), list_files(&dir).count()), (Vec::new(), 0));
    }
}
