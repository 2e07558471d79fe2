//! The table, and how a file becomes or is recognized as ours.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use super::error::StoreError;

/// The format this program writes (`PRAGMA user_version`).
pub const SCHEMA: i64 = 3;

/// `PRAGMA application_id`: "hdwy", so that `file(1)` and we can tell our files from others'.
const APPLICATION_ID: i64 = 0x6864_7779;

/// Text that a process chose is a BLOB; `''` and -1 stand for "none" in the key, since `SQLite`
/// takes every NULL for a different value. A moment is `…_ms`, or `…_said`, or neither.
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
    rung        TEXT    NOT NULL,
    count       INTEGER NOT NULL CHECK (count >= 0),
    first_ms    INTEGER,
    first_said  BLOB,
    last_ms     INTEGER,
    last_said   BLOB,
    pid         INTEGER NOT NULL,
    comm        BLOB    NOT NULL,
    uid         BLOB    NOT NULL,
    ip          INTEGER NOT NULL,
    subject     BLOB    NOT NULL,
    parent_pid  INTEGER,
    parent_comm BLOB,
    source      TEXT    NOT NULL DEFAULT 'audit',
    errno       INTEGER NOT NULL DEFAULT -1
) STRICT;
CREATE UNIQUE INDEX incident_key
    ON incident (unit, manager, event, arch, call_number, call_name, action, exe, source, errno);
CREATE INDEX incident_newest ON incident (last_ms, id);
CREATE INDEX incident_unit ON incident (unit, manager, last_ms, count);
";

/// What had to give way to others: one row, or none. `last_ms` is the latest sighting of any of them.
const FORGOTTEN: &str = "
CREATE TABLE forgotten (
    only      INTEGER PRIMARY KEY CHECK (only = 0),
    incidents INTEGER NOT NULL,
    sightings INTEGER NOT NULL,
    last_ms   INTEGER NOT NULL
) STRICT;
";

/// From format 1 to 2.
const PARENTS: &str = "
ALTER TABLE incident ADD COLUMN parent_pid INTEGER;
ALTER TABLE incident ADD COLUMN parent_comm BLOB;
";

/// From format 2 to 3.
const SOURCES: &str = "
ALTER TABLE incident ADD COLUMN source TEXT NOT NULL DEFAULT 'audit';
ALTER TABLE incident ADD COLUMN errno INTEGER NOT NULL DEFAULT -1;
DROP INDEX incident_key;
CREATE UNIQUE INDEX incident_key
    ON incident (unit, manager, event, arch, call_number, call_name, action, exe, source, errno);
";

/// Whose file it is.
#[derive(Debug, PartialEq, Eq)]
enum Header {
    /// Nobody's yet.
    Fresh,
    /// Ours, of an earlier format.
    Older(i64),
    /// Ours, of [`SCHEMA`].
    Ours,
}

/// Reads the header without changing anything.
fn header(conn: &Connection, path: &Path) -> Result<Header, StoreError> {
    let number = |pragma: &str| conn.query_row(pragma, (), |row| row.get::<_, i64>(0));
    let read = || -> rusqlite::Result<_> {
        Ok((
            number("PRAGMA application_id")?,
            number("PRAGMA user_version")?,
            number("SELECT count(*) FROM sqlite_schema")?,
        ))
    };
    match read().map_err(|source| StoreError::from_sqlite(path, source))? {
        (0, 0, 0) => Ok(Header::Fresh),
        (APPLICATION_ID, SCHEMA, _) => Ok(Header::Ours),
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
    match header(conn, path)? {
        Header::Ours => Ok(()),
        Header::Older(_) => Err(StoreError::Older { path: path.to_owned() }),
        Header::Fresh => Err(StoreError::Missing { path: path.to_owned() }),
    }
}

/// Checks that the writer understands the file, makes the tables in an empty one, and brings an older one up to date.
pub(super) fn prepare(conn: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let found = header(conn, path)?;
    let fresh = found == Header::Fresh;
    let sqlite = |source| StoreError::from_sqlite(path, source);
    if fresh {
        // Only possible before the first table.
        conn.execute_batch("PRAGMA auto_vacuum = INCREMENTAL").map_err(sqlite)?;
    }
    conn.execute_batch("PRAGMA journal_mode = WAL").map_err(sqlite)?;
    let tables: &[&str] = match found {
        Header::Fresh => &[TABLES, FORGOTTEN],
        Header::Older(1) => &[PARENTS, FORGOTTEN, SOURCES],
        Header::Older(_) => &[SOURCES],
        Header::Ours => &[],
    };
    if found != Header::Ours {
        let transaction = conn.transaction_with_behavior(TransactionBehavior::Immediate).map_err(sqlite)?;
        let ours = format!("PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA};");
        transaction.execute_batch(&format!("{} {ours}", tables.concat())).map_err(sqlite)?;
        transaction.commit().map_err(sqlite)?;
    }
    let verdict: String = conn.query_row("PRAGMA quick_check(1)", (), |row| row.get(0)).map_err(sqlite)?;
    if verdict == "ok" { Ok(()) } else { Err(StoreError::Damaged { path: path.to_owned(), detail: verdict }) }
}
