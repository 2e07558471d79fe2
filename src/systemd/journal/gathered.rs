//! Reads the alerts of harden-whyd from journals of any number of machines, by the journal's indices.

use super::JournalReadError;
use super::libsystemd::Library;
use std::io;
use std::path::{Path, PathBuf};

/// The unit whose entries count. journald sets the field, so that other programs cannot write such alerts.
const SENDER: &str = "_SYSTEMD_UNIT=harden-whyd.service";

/// The limits of a search for journal files: their number, and the levels of directories.
const MOST_FILES: usize = 4096;
const DEEPEST: u32 = 3;

/// The most bytes of a field that count. Alerts are shorter; a hostile machine may have sent others.
const LONGEST_VALUE: usize = 1024;

/// The most values of one field.
const MOST_VALUES: usize = 16;

/// An alert as its journal has it. Nothing is escaped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct GatheredAlert {
    /// When journald received it, in microseconds since the epoch.
    pub(crate) at: u64,
    /// Its kind, as `MESSAGE_ID=`.
    pub(crate) id: Vec<u8>,
    pub(crate) host: Vec<u8>,
    pub(crate) unit: Vec<u8>,
    pub(crate) manager: Vec<u8>,
    /// The denied call; empty for a death without a record.
    pub(crate) call: Vec<u8>,
    /// Of an access that failed: its kind, its path, and its other details.
    pub(crate) access: Vec<u8>,
    pub(crate) path: Vec<u8>,
    pub(crate) detail: Vec<u8>,
    /// The process of the latest sighting, and the number of sightings.
    pub(crate) pid: Vec<u8>,
    pub(crate) count: Vec<u8>,
    /// The number of incidents that a summary counts.
    pub(crate) incidents: Vec<u8>,
    pub(crate) directives: Vec<Vec<u8>>,
    /// The file and line of each directive, if known.
    pub(crate) origins: Vec<Vec<u8>>,
    /// The lines of the default remedy.
    pub(crate) remedy: Vec<Vec<u8>>,
}

impl GatheredAlert {
    /// Whether it counts incidents without an alert of their own.
    pub(crate) fn is_summary(&self) -> bool {
        !self.incidents.is_empty()
    }

    /// Sets a field of the journal's entry.
    pub(crate) fn set(&mut self, name: &[u8], value: &[u8]) {
        let value = value.get(..LONGEST_VALUE).unwrap_or(value).to_vec();
        let list = match name {
            b"MESSAGE_ID" => return self.id = value,
            b"_HOSTNAME" => return self.host = value,
            b"HARDEN_WHY_UNIT" => return self.unit = value,
            b"HARDEN_WHY_MANAGER" => return self.manager = value,
            b"HARDEN_WHY_CALL" => return self.call = value,
            b"HARDEN_WHY_ACCESS" => return self.access = value,
            b"HARDEN_WHY_PATH" => return self.path = value,
            b"HARDEN_WHY_ACCESS_DETAIL" => return self.detail = value,
            b"HARDEN_WHY_PID" => return self.pid = value,
            b"HARDEN_WHY_COUNT" => return self.count = value,
            b"HARDEN_WHY_INCIDENTS" => return self.incidents = value,
            b"HARDEN_WHY_DIRECTIVE" => &mut self.directives,
            b"HARDEN_WHY_ORIGIN" => &mut self.origins,
            b"HARDEN_WHY_REMEDY" => &mut self.remedy,
            _ => return,
        };
        if list.len() < MOST_VALUES {
            list.push(value);
        }
    }
}

/// Calls a function with each alert of these files that has one of these message IDs. `since` is in microseconds since the
/// epoch. The alerts of one file come in the order of time. Only one file is open at a time, so that memory does not grow
/// with their number.
///
/// # Errors
/// The library is missing, or a file cannot be read.
pub(crate) fn read_alerts(
    files: &[PathBuf],
    ids: &[&str],
    since: Option<u64>,
    mut visit: impl FnMut(GatheredAlert),
) -> Result<(), JournalReadError> {
    let library = Library::load().map_err(JournalReadError::Library)?;
    for file in files {
        let mut cursor = library.open_files(std::slice::from_ref(file))?;
        for id in ids {
            cursor.add_match(&format!("MESSAGE_ID={id}"))?;
        }
        cursor.add_match(SENDER)?;
        cursor.seek(since.unwrap_or_default())?;
        while let Some(at) = cursor.next()? {
            let mut alert = GatheredAlert { at, ..GatheredAlert::default() };
            cursor.visit_fields(|name, value| alert.set(name, value))?;
            visit(alert);
        }
    }
    Ok(())
}

/// Finds the journal files in a directory and the directories below it, sorted. Machines have directories of their own, or
/// files of their own in one.
///
/// # Errors
/// A directory cannot be read, or there are too many files.
pub(crate) fn find_files(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    add_files(directory, DEEPEST, &mut found)?;
    found.sort();
    Ok(found)
}

fn add_files(directory: &Path, deeper: u32, found: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let (path, kind) = (entry.path(), entry.file_type()?);
        // A file that journald did not close well ends with a tilde.
        let is_journal = path.extension().is_some_and(|extension| extension == "journal" || extension == "journal~");
        if kind.is_dir() && deeper > 0 {
            add_files(&path, deeper - 1, found)?;
        } else if kind.is_file() && is_journal {
            found.push(path);
        }
        if found.len() > MOST_FILES {
            return Err(io::Error::other(format!("more than {MOST_FILES} journal files")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn journals_of_all_machines_are_found_below_directory() {
        let root = tempfile::tempdir().unwrap();
        for file in ["a/one.journal", "b/c/two.journal~", "three.journal", "a/notes.txt", "d/e/f/g/deep.journal"] {
            let path = root.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        std::os::unix::fs::symlink(root.path(), root.path().join("loop")).unwrap();
        let names: Vec<PathBuf> = find_files(root.path())
            .unwrap()
            .into_iter()
            .map(|path| path.strip_prefix(root.path()).unwrap().to_owned())
            .collect();
        assert_eq!(names, ["a/one.journal", "b/c/two.journal~", "three.journal"].map(PathBuf::from));
        assert!(find_files(Path::new("/nonexistent")).is_err());
    }

    #[test]
    fn alert_of_hostile_machine_is_bounded() {
        let mut alert = GatheredAlert::default();
        for _ in 0..2 * MOST_VALUES {
            alert.set(b"HARDEN_WHY_REMEDY", &[b'x'; 4 * LONGEST_VALUE]);
            alert.set(b"HARDEN_WHY_UNIT", &[b'u'; 4 * LONGEST_VALUE]);
            alert.set(b"MESSAGE", b"ignored");
        }
        assert_eq!((alert.remedy.len(), alert.unit.len()), (MOST_VALUES, LONGEST_VALUE));
        assert!(alert.remedy.iter().all(|line| line.len() == LONGEST_VALUE));
    }
}
