//! The journals of several machines among gathered files, and the entries of each as text.

use super::JournalReadError;
use super::libsystemd::{JournalCursor, Library};
use std::collections::BTreeMap;
use std::io;
use std::io::Read;
use std::path::PathBuf;

/// The most machines among gathered files.
const MOST_MACHINES: usize = 10_000;

/// The longest identity of a machine that counts (`machine-id(5)`: 32 digits).
const LONGEST_ID: usize = 64;

/// The files with entries of each machine, by its ID. A file may have entries of several machines.
#[derive(Debug)]
pub(crate) struct MachineJournals {
    library: Library,
    machines: BTreeMap<String, Vec<PathBuf>>,
}

impl MachineJournals {
    /// Finds the machines with entries in these files, by the journal's index.
    ///
    /// # Errors
    /// The library is missing, a file cannot be read, or there are too many machines.
    pub(crate) fn find(files: &[PathBuf]) -> Result<Self, JournalReadError> {
        let library = Library::load().map_err(JournalReadError::Library)?;
        let mut machines: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
        for file in files {
            let cursor = library.open_files(std::slice::from_ref(file))?;
            cursor.visit_values(c"_MACHINE_ID", |id| {
                let id = str::from_utf8(id).ok().filter(|id| id.len() <= LONGEST_ID);
                // One more shows that there are too many.
                if let Some(id) = id.filter(|_| machines.len() <= MOST_MACHINES) {
                    machines.entry(id.to_owned()).or_default().push(file.clone());
                }
            })?;
        }
        if machines.len() > MOST_MACHINES {
            return Err(io::Error::other(format!("more than {MOST_MACHINES} machines")).into());
        }
        Ok(Self { library, machines })
    }

    /// Returns the IDs of the machines.
    pub(crate) fn ids(&self) -> impl Iterator<Item = &str> {
        self.machines.keys().map(String::as_str)
    }

    /// Opens the entries of a machine, in the order of time. Only one machine's files are open at a time, so that memory
    /// does not grow with their number.
    ///
    /// # Errors
    /// A file cannot be read.
    pub(crate) fn open(&self, id: &str) -> io::Result<JournalText<'_>> {
        let files = self.machines.get(id).map_or(&[][..], Vec::as_slice);
        let mut cursor = self.library.open_files(files)?;
        cursor.add_match(&format!("_MACHINE_ID={id}"))?;
        cursor.seek(0)?;
        Ok(JournalText { cursor, host: Vec::new(), entry: Vec::new(), taken: 0 })
    }
}

/// The entries of one machine as `journalctl -o export` prints them, without its cursors.
pub(crate) struct JournalText<'a> {
    cursor: JournalCursor<'a>,
    host: Vec<u8>,
    entry: Vec<u8>,
    taken: usize,
}

impl JournalText<'_> {
    /// Returns the name that the machine had in the entries so far; the latest one counts.
    pub(crate) fn host(&self) -> &[u8] {
        &self.host
    }

    /// Reads the next entry into the buffer, which stays empty at the end.
    fn next_entry(&mut self) -> io::Result<()> {
        self.entry.clear();
        self.taken = 0;
        let Some(at) = self.cursor.next()? else { return Ok(()) };
        self.entry.extend_from_slice(format!("__REALTIME_TIMESTAMP={at}\n").as_bytes());
        self.cursor.visit_fields(|name, value| {
            if name == b"_HOSTNAME" {
                value.clone_into(&mut self.host);
            }
            add_field(&mut self.entry, name, value);
        })?;
        self.entry.push(b'\n');
        Ok(())
    }
}

/// Adds a field in the export format: a value of several lines with its length.
fn add_field(entry: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    entry.extend_from_slice(name);
    if value.contains(&b'\n') {
        entry.push(b'\n');
        entry.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        entry.push(b'=');
    }
    entry.extend_from_slice(value);
    entry.push(b'\n');
}

impl Read for JournalText<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.taken == self.entry.len() {
            self.next_entry()?;
        }
        let read = (&self.entry[self.taken..]).read(buffer)?;
        self.taken += read;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn field_of_several_lines_has_its_length() {
        let mut entry = Vec::new();
        add_field(&mut entry, b"MESSAGE", b"one=two");
        add_field(&mut entry, b"MESSAGE", b"a\n_UID=0");
        assert_eq!(entry, b"MESSAGE=one=two\nMESSAGE\n\x08\0\0\0\0\0\0\0a\n_UID=0\n");
    }
}
