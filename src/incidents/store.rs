//! The incidents on disk: one `SQLite` file with one writer and any number of readers.
//!
//! Limits: [`MAX_EXE`], [`MAX_COMM`], [`MAX_SUBJECT`] and [`MAX_WORD`] for the text of a row, the argument of
//! [`Store::prune`] for the number of rows, [`MAX_FILE`] for the file, and [`MAX_LOG`] for the write-ahead log between
//! checkpoints (a long query of a reader can delay a checkpoint). A row of an ordinary service takes some 250 to 600
//! bytes, indexes included, and some 130 more for each place of a call site.
//!
//! Every commit is on the disk before [`Store::record`] returns (`synchronous=FULL`).

mod error;
mod location;
mod query;
mod record;
mod rehearsals;
mod replacement;
mod retention;
mod row;
mod schema;

use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, Flock, FlockArg};
use nix::unistd::{AccessFlags, faccessat};
use rusqlite::{Connection, OpenFlags};

use super::incident::Incident;
use location::{FileId, LOG, check_regular, file_id, immutable_uri, with_suffix};

pub use error::StoreError;
pub use query::{Query, Stored, UnitSummary};
pub use record::{Recorded, RowId};
pub use rehearsals::RehearsalSpan;
pub use replacement::ReplacedFile;
pub use retention::Evicted;
pub use row::{MAX_COMM, MAX_EXE, MAX_SUBJECT, MAX_WORD};
#[cfg(any(test, fuzzing))]
pub(crate) use row::{read_back, read_values};
pub use schema::SCHEMA;

/// The name of the file in the state directory.
pub const FILE: &str = "incidents.sqlite3";

/// The largest size of the file, in bytes; beyond it [`Store::record`] fails with [`StoreError::Full`].
pub const MAX_FILE: u64 = 256 * 1024 * 1024;

/// The size to which a checkpoint truncates the write-ahead log, in bytes.
pub const MAX_LOG: u64 = 4 * 1024 * 1024;

/// How long to wait for another process's lock.
const PATIENCE: Duration = Duration::from_secs(5);

const PAGE: u64 = 4096;

/// The incidents on disk.
#[derive(Debug)]
pub struct Store {
    conn: Connection,
    path: PathBuf,
    /// The file and its log when they were opened.
    file: Option<FileId>,
    log: Option<FileId>,
    /// The lock on the directory, which makes this the only writer.
    _lock: Option<Flock<File>>,
}

impl Store {
    /// Opens the store for its one writer. Creates the directory (0700) and the file (0600) if they are missing.
    ///
    /// # Errors
    /// The file is damaged, of another program or of a newer version, or it cannot be written, or another process writes
    /// to it.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|source| StoreError::from_io(dir, source))?;
        let lock = lock(dir)?;
        let path = absolute(dir)?;
        check_regular(&path)?;
        // SQLite would take the mode from the umask; its -wal and -shm files get the mode of this file.
        OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(libc::O_NONBLOCK)
            .open(&path)
            .map_err(|source| StoreError::from_io(&path, source))?;
        let sqlite = |source| StoreError::from_sqlite(&path, source);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut conn = Connection::open_with_flags(&path, flags).map_err(sqlite)?;
        conn.busy_timeout(PATIENCE).map_err(sqlite)?;
        schema::prepare(&mut conn, &path)?;
        conn.execute_batch(&format!(
            "PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA trusted_schema = OFF;
             PRAGMA wal_autocheckpoint = 500; PRAGMA journal_size_limit = {MAX_LOG};
             PRAGMA max_page_count = {};",
            MAX_FILE / PAGE
        ))
        .map_err(sqlite)?;
        let (file, log) = (file_id(&path), file_id(&with_suffix(&path, LOG)));
        Ok(Self { conn, path, file, log, _lock: Some(lock) })
    }

    /// Opens the store for reading, with or without a writer, also on read-only media.
    ///
    /// # Errors
    /// The file is missing or cannot be read, or [`open`](Self::open) would refuse it.
    pub fn open_read_only(dir: &Path) -> Result<Self, StoreError> {
        let path = absolute(dir)?;
        check_regular(&path)?;
        // Opening the file to check it is no option: closing it would release the locks of this process's writer.
        if let Err(errno) = faccessat(AT_FDCWD, &path, AccessFlags::R_OK, AtFlags::AT_EACCESS) {
            let source = io::Error::from(errno);
            return Err(match source.kind() {
                io::ErrorKind::NotFound => StoreError::Missing { path },
                io::ErrorKind::PermissionDenied => StoreError::Unreadable { path, why: source },
                _ => StoreError::Io { path, why: source },
            });
        }
        match Self::open_to_read(&path, false) {
            // A reader uses the writer's log. It needs the -shm file or, if that is missing, the right to create it.
            // Without either there can be no writer here.
            Err(StoreError::ReadOnly { .. }) => match fs::metadata(with_suffix(&path, LOG)) {
                Ok(log) if log.len() > 0 => Err(StoreError::Unfinished { path }),
                _ => Self::open_to_read(&path, true),
            },
            outcome => outcome,
        }
    }

    fn open_to_read(path: &Path, immutable: bool) -> Result<Self, StoreError> {
        let sqlite = |source| StoreError::from_sqlite(path, source);
        let read = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let conn = if immutable {
            Connection::open_with_flags(immutable_uri(path), read | OpenFlags::SQLITE_OPEN_URI)
        } else {
            Connection::open_with_flags(path, read)
        }
        .map_err(sqlite)?;
        conn.busy_timeout(PATIENCE).map_err(sqlite)?;
        conn.execute_batch("PRAGMA query_only = ON; PRAGMA trusted_schema = OFF;").map_err(sqlite)?;
        schema::check(&conn, path)?;
        Ok(Self { conn, path: path.to_owned(), file: None, log: None, _lock: None })
    }

    /// Returns the path of the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds sightings, all or none, and returns the state of each incident in the order given.
    ///
    /// A new incident becomes a new row. For a known incident, it adds the count (up to `i64::MAX`), keeps the first
    /// time (or the earlier one, if a clock was set back), replaces the last time and the sample, and replaces the
    /// evidence by more certain evidence. A guess does not replace the sample of a more certain sighting.
    ///
    /// # Errors
    /// The disk is full or read-only, or something is wrong with the file. Nothing is recorded then.
    pub fn record<'a>(
        &mut self,
        incidents: impl IntoIterator<Item = &'a Incident>,
    ) -> Result<Vec<Recorded>, StoreError> {
        record::record(&mut self.conn, incidents).map_err(|source| StoreError::from_sqlite(&self.path, source))
    }
}

/// Locks the state directory until the result is dropped.
fn lock(dir: &Path) -> Result<Flock<File>, StoreError> {
    let directory = File::open(dir).map_err(|source| StoreError::from_io(dir, source))?;
    Flock::lock(directory, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        Errno::EWOULDBLOCK => StoreError::InUse { dir: dir.to_owned() },
        errno => StoreError::from_io(dir, errno.into()),
    })
}

/// Returns the path of the file. It is absolute, so that `SQLite` cannot take the directory for a `file:` URI.
fn absolute(dir: &Path) -> Result<PathBuf, StoreError> {
    std::path::absolute(dir.join(FILE)).map_err(|why| StoreError::Io { path: dir.to_owned(), why })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::incidents::{IncidentEvent, IncidentKey, Moment, Sample, SightingSource};
    use crate::units::{Manager, Unit};

    fn death(number: i64) -> Incident {
        Incident {
            key: IncidentKey {
                unit: None,
                event: IncidentEvent::UnrecordedDeath,
                exe: format!("/bin/{number}").into_bytes(),
                source: SightingSource::Audit,
            },
            rung: None,
            count: 1,
            first: Moment::At(number),
            last: Moment::At(number),
            sample: Sample { subject: vec![b's'; 1_000], ..Sample::default() },
        }
    }

    #[test]
    fn full_store_is_reported_and_works_again_after_eviction() {
        let temp = tempfile::tempdir().unwrap();
        let mut store = Store::open(temp.path()).unwrap();
        store.conn.execute_batch("PRAGMA max_page_count = 240").unwrap();
        let full = (0..1_000).find_map(|number| store.record(&[death(number)]).err()).unwrap();
        assert!(matches!(full, StoreError::Full { .. }), "{full:?}");
        let full = store.incidents(&Query::default()).unwrap().len();
        assert!(store.make_room().unwrap());
        store.record(&[death(2_000)]).unwrap();
        assert_eq!(store.incidents(&Query::default()).unwrap().len(), full / 4 * 3 + 1);
        // A batch fails far below the limit, because none of it is kept.
        let full = (1..).find_map(|batch| {
            let many: Vec<Incident> = (0..60).map(|number| death(batch * 10_000 + number)).collect();
            store.record(&many).err()
        });
        assert!(matches!(full, Some(StoreError::Full { .. })), "{full:?}");
        assert!(store.make_room().unwrap());
        assert!(store.prune(0..0, 10).unwrap() > 20);
        assert_eq!(store.incidents(&Query::default()).unwrap().len(), 10);
        assert!(!store.make_room().unwrap(), "it is small: the file system had no room");
    }

    #[test]
    fn answer_for_a_user_without_denials_does_not_read_the_incidents_of_others() {
        let temp = tempfile::tempdir().unwrap();
        let mut store = Store::open(temp.path()).unwrap();
        let mut small = death(0);
        small.sample.subject = Vec::new();
        let all: Vec<Incident> = (0..100_000)
            .map(|number| {
                let (mut incident, at) = (small.clone(), Moment::At(number));
                incident.key.exe = number.to_string().into_bytes();
                (incident.first, incident.last) = (at.clone(), at);
                incident
            })
            .collect();
        store.record(&all).unwrap();
        let reader = Store::open_read_only(temp.path()).unwrap();
        let manager = Some(Manager::User(1_000));
        let unit = Some("a.service".parse().unwrap());
        let of_user = Query { manager, since: Some(5), limit: Some(100), ..Query::default() };
        let of_unit = Query { unit, ..Query::default() };
        assert!(reader.count_steps(&Query::default()) > 100_000, "an answer with all incidents takes a step for each");
        for query in [of_user, of_unit] {
            assert!(reader.incidents(&query).unwrap().is_empty() && reader.units(&query).unwrap().is_empty());
            let steps = reader.count_steps(&query);
            assert!(steps < 500, "{steps} steps for an empty answer");
        }
    }

    #[test]
    fn noise_of_one_owner_evicts_no_incident_of_another() {
        let temp = tempfile::tempdir().unwrap();
        let mut store = Store::open(temp.path()).unwrap();
        let mut quiet: Vec<Incident> = (0..12).map(death).collect();
        for (number, incident) in quiet.iter_mut().enumerate() {
            let name = format!("quiet-{number}.service").parse().unwrap();
            incident.key.unit = Some(Unit { manager: Manager::System, name });
        }
        store.record(&quiet).unwrap();
        for uid in ["1", "2", "3"] {
            let noise: Vec<Incident> = (100..400)
                .map(|number| {
                    let mut incident = death(number);
                    incident.key.exe = format!("/tmp/{uid}/{number}").into_bytes();
                    incident.sample.uid = uid.into();
                    incident.count = 1_000;
                    incident
                })
                .collect();
            store.record(&noise).unwrap();
            store.prune(0..0, 100).unwrap();
        }
        let left = store.incidents(&Query::default()).unwrap();
        let of = |uid: &str| left.iter().filter(|stored| *stored.incident.sample.uid == *uid).count();
        assert_eq!((left.len(), of("")), (100, 12), "each quiet unit keeps its only incident");
        assert!(["1", "2", "3"].into_iter().all(|uid| (29..=30).contains(&of(uid))));
    }

    #[test]
    fn subordinate_uids_of_one_login_evict_no_incident_of_another_owner() {
        let temp = tempfile::tempdir().unwrap();
        let mut store = Store::open(temp.path()).unwrap();
        let mut quiet: Vec<Incident> = (0..12).map(death).collect();
        for incident in &mut quiet {
            incident.key.unit = Some(Unit { manager: Manager::System, name: "quiet.service".parse().unwrap() });
        }
        store.record(&quiet).unwrap();
        let noise: Vec<Incident> = (100..400)
            .map(|number| {
                let mut incident = death(number);
                incident.key.exe = format!("/tmp/{number}").into_bytes();
                (incident.sample.uid, incident.sample.login) = ((100_000 + number).to_string().into(), Some(1_000));
                incident
            })
            .collect();
        store.record(&noise).unwrap();
        store.prune(0..0, 100).unwrap();
        let left = store.incidents(&Query::default()).unwrap();
        let of_quiet = left.iter().filter(|one| one.incident.key.unit.is_some()).count();
        assert_eq!(
            (left.len(), of_quiet),
            (100, 12),
            "each of 300 uids has one incident, and their login has them all"
        );
    }

    #[test]
    fn forgotten_incidents_are_gone_and_come_back_as_new_ones() {
        let temp = tempfile::tempdir().unwrap();
        let unit = Unit { manager: Manager::System, name: "a.service".parse().unwrap() };
        let own = Unit { manager: Manager::User(7), ..unit.clone() };
        let of_unit = |unit: Option<&Unit>| {
            let mut incident = death(1);
            incident.key.unit = unit.cloned();
            incident
        };
        let all = [of_unit(Some(&unit)), of_unit(Some(&own)), of_unit(None)];
        let mut store = Store::open(temp.path()).unwrap();
        let before = store.record(&all).unwrap();
        assert_eq!((store.forget_unit(Some(&unit)).unwrap(), store.forget_unit(Some(&unit)).unwrap()), (1, 0));
        drop(store);
        let mut store = Store::open(temp.path()).unwrap();
        assert_eq!(store.incidents(&Query::default()).unwrap().len(), 2);
        let again = store.record(&all).unwrap();
        assert_eq!(
            again.iter().map(|row| (row.new, row.count)).collect::<Vec<_>>(),
            [(true, 1), (false, 2), (false, 2)]
        );
        assert_ne!(again[0].id, before[0].id, "alerts tell incidents apart by their numbers");
        assert_eq!(store.forget_unit(None).unwrap(), 1);
        assert_eq!(store.evicted().unwrap(), Evicted::default(), "dismissed incidents are not missing");
    }

    #[test]
    fn writer_sets_limits_and_durability() {
        let temp = tempfile::tempdir().unwrap();
        let store = Store::open(temp.path()).unwrap();
        let number = |pragma| store.conn.query_row(pragma, (), |row| row.get::<_, i64>(0)).unwrap().unsigned_abs();
        assert_eq!(number("PRAGMA max_page_count") * number("PRAGMA page_size"), MAX_FILE);
        assert_eq!(number("PRAGMA synchronous"), 2, "FULL");
        assert_eq!(number("PRAGMA auto_vacuum"), 2, "INCREMENTAL");
        assert_eq!(number("PRAGMA journal_size_limit"), MAX_LOG);
    }

    #[test]
    fn pipe_in_place_of_store_is_refused_without_waiting() {
        let dir = tempfile::tempdir().unwrap();
        let path = absolute(dir.path()).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        for opened in [Store::open(dir.path()), Store::open_read_only(dir.path())] {
            let error = opened.err().unwrap();
            assert!(format!("{:#}", anyhow::Error::from(error)).contains("not a regular file"));
        }
    }
}
