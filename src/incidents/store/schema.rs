//! The tables of the store, and the check and migration of its file.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use super::error::StoreError;

/// The format that this program writes (`PRAGMA user_version`).
pub const SCHEMA: i64 = 7;

/// `PRAGMA application_id`: "hdwy", by which `file(1)` and harden-why recognize the store.
const APPLICATION_ID: i64 = 0x6864_7779;

/// The tables of a new file.
///
/// Text that a process chose is a BLOB. In the key, `''` and -1 stand for "none", because `SQLite` treats every NULL as
/// different. `access`, `path` and `detail` are the parts of an access that failed; `call_code` and `caller_code` are
/// those of a call site. A moment is `…_ms`, or `…_text`, or neither. `evicted` has one row or none; its `last_ms` is
/// the latest sighting of any evicted incident.
const TABLES: &str = "
CREATE TABLE incident (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    manager     TEXT    NOT NULL,
    unit        TEXT    NOT NULL,
    event       TEXT    NOT NULL,
    arch        INTEGER NOT NULL,
    call_number INTEGER NOT NULL,
    call_name   BLOB    NOT NULL,
    action      TEXT    NOT NULL,
    exe         BLOB    NOT NULL,
    evidence    TEXT    NOT NULL,
    count       INTEGER NOT NULL CHECK (count >= 0),
    first_ms    INTEGER,
    first_text  BLOB,
    last_ms     INTEGER,
    last_text   BLOB,
    pid         INTEGER NOT NULL,
    comm        BLOB    NOT NULL,
    uid         BLOB    NOT NULL,
    ip          INTEGER NOT NULL,
    subject     BLOB    NOT NULL,
    parent_pid  INTEGER,
    parent_comm BLOB,
    source      TEXT    NOT NULL DEFAULT 'audit',
    errno       INTEGER NOT NULL DEFAULT -1,
    access      TEXT    NOT NULL DEFAULT '',
    path        BLOB    NOT NULL DEFAULT x'',
    detail      TEXT    NOT NULL DEFAULT '',
    login       INTEGER,
    call_code   BLOB,
    caller_code BLOB
) STRICT;
CREATE UNIQUE INDEX incident_key
    ON incident (unit, manager, event, arch, call_number, call_name, action, exe, source, errno, access, path, detail);
CREATE TABLE evicted (
    id        INTEGER PRIMARY KEY CHECK (id = 0),
    incidents INTEGER NOT NULL,
    sightings INTEGER NOT NULL,
    last_ms   INTEGER NOT NULL
) STRICT;
";

/// The indices, one for each way of asking, and the table that only the writer reads. They are no part of the format: the
/// writer adds missing ones.
const ADDITIONS: &str = "
CREATE INDEX IF NOT EXISTS incident_newest ON incident (last_ms, id);
CREATE INDEX IF NOT EXISTS incident_unit ON incident (unit, manager, last_ms, count);
CREATE INDEX IF NOT EXISTS incident_manager ON incident (manager, last_ms, id);
CREATE TABLE IF NOT EXISTS rehearsal (
    boot     TEXT    NOT NULL,
    manager  TEXT    NOT NULL,
    unit     TEXT    NOT NULL,
    from_ms  INTEGER NOT NULL,
    until_ms INTEGER,
    logins   TEXT    NOT NULL,
    scopes   BLOB    NOT NULL
) STRICT;
";

/// The changes from each earlier format to the next: from 1 to 2, from 2 to 3, and so on.
const MIGRATIONS: [&str; 6] = [
    "
ALTER TABLE incident ADD COLUMN parent_pid INTEGER;
ALTER TABLE incident ADD COLUMN parent_comm BLOB;
CREATE TABLE forgotten (
    only      INTEGER PRIMARY KEY CHECK (only = 0),
    incidents INTEGER NOT NULL,
    sightings INTEGER NOT NULL,
    last_ms   INTEGER NOT NULL
) STRICT;
",
    "
ALTER TABLE incident ADD COLUMN source TEXT NOT NULL DEFAULT 'audit';
ALTER TABLE incident ADD COLUMN errno INTEGER NOT NULL DEFAULT -1;
DROP INDEX incident_key;
CREATE UNIQUE INDEX incident_key
    ON incident (unit, manager, event, arch, call_number, call_name, action, exe, source, errno);
",
    "
ALTER TABLE incident RENAME COLUMN rung TO evidence;
ALTER TABLE incident RENAME COLUMN first_said TO first_text;
ALTER TABLE incident RENAME COLUMN last_said TO last_text;
UPDATE incident SET event = 'unrecorded-death' WHERE event = 'silent-death';
UPDATE incident SET evidence = 'given' WHERE evidence = 'told';
UPDATE incident SET evidence = 'parent-cgroup' WHERE evidence = 'ancestor';
ALTER TABLE forgotten RENAME TO evicted;
ALTER TABLE evicted RENAME COLUMN only TO id;
",
    "
ALTER TABLE incident ADD COLUMN access TEXT NOT NULL DEFAULT '';
ALTER TABLE incident ADD COLUMN path BLOB NOT NULL DEFAULT x'';
ALTER TABLE incident ADD COLUMN detail TEXT NOT NULL DEFAULT '';
DROP INDEX incident_key;
CREATE UNIQUE INDEX incident_key
    ON incident (unit, manager, event, arch, call_number, call_name, action, exe, source, errno, access, path, detail);
",
    "
ALTER TABLE incident ADD COLUMN login INTEGER;
",
    "
ALTER TABLE incident ADD COLUMN call_code BLOB;
ALTER TABLE incident ADD COLUMN caller_code BLOB;
",
];

/// The kind of file that a header shows.
#[derive(Debug, PartialEq, Eq)]
enum Header {
    /// The file is empty.
    Empty,
    /// A store of an earlier format.
    Older(i64),
    /// A store of format [`SCHEMA`].
    Current,
}

/// Reads the header without changing anything.
fn read_header(conn: &Connection, path: &Path) -> Result<Header, StoreError> {
    let number = |pragma: &str| conn.query_row(pragma, (), |row| row.get::<_, i64>(0));
    let read = || -> rusqlite::Result<_> {
        Ok((
            number("PRAGMA application_id")?,
            number("PRAGMA user_version")?,
            number("SELECT count(*) FROM sqlite_schema")?,
        ))
    };
    match read().map_err(|source| StoreError::from_sqlite(path, source))? {
        (0, 0, 0) => Ok(Header::Empty),
        (APPLICATION_ID, SCHEMA, _) => Ok(Header::Current),
        (APPLICATION_ID, older @ 1..SCHEMA, _) => Ok(Header::Older(older)),
        (APPLICATION_ID, found, _) if found > SCHEMA => {
            Err(StoreError::Newer { path: path.to_owned(), found, known: SCHEMA })
        }
        (APPLICATION_ID, found, _) => {
            Err(StoreError::Damaged { path: path.to_owned(), detail: format!("no format {found} was ever written") })
        }
        _ => Err(StoreError::Foreign { path: path.to_owned() }),
    }
}

/// Checks that a reader understands the file.
pub(super) fn check(conn: &Connection, path: &Path) -> Result<(), StoreError> {
    match read_header(conn, path)? {
        Header::Current => Ok(()),
        Header::Older(_) => Err(StoreError::Older { path: path.to_owned() }),
        Header::Empty => Err(StoreError::Missing { path: path.to_owned() }),
    }
}

/// Checks that the writer understands the file. Creates the tables in an empty file, and migrates an older one.
pub(super) fn prepare(conn: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let found = read_header(conn, path)?;
    let sqlite = |source| StoreError::from_sqlite(path, source);
    if found == Header::Empty {
        // SQLite accepts this only before the first table.
        conn.execute_batch("PRAGMA auto_vacuum = INCREMENTAL").map_err(sqlite)?;
    }
    conn.execute_batch("PRAGMA journal_mode = WAL").map_err(sqlite)?;
    let changes = match found {
        Header::Empty => Some(TABLES.to_owned()),
        Header::Older(format) => {
            let done = usize::try_from(format - 1).unwrap_or_default();
            Some(MIGRATIONS.into_iter().skip(done).collect())
        }
        Header::Current => None,
    };
    if let Some(changes) = changes {
        let transaction = conn.transaction_with_behavior(TransactionBehavior::Immediate).map_err(sqlite)?;
        let pragmas = format!("PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA};");
        transaction.execute_batch(&format!("{changes} {pragmas}")).map_err(sqlite)?;
        transaction.commit().map_err(sqlite)?;
    }
    conn.execute_batch(ADDITIONS).map_err(sqlite)?;
    let verdict: String = conn.query_row("PRAGMA quick_check(1)", (), |row| row.get(0)).map_err(sqlite)?;
    if verdict == "ok" { Ok(()) } else { Err(StoreError::Damaged { path: path.to_owned(), detail: verdict }) }
}
