//! The table, and how a file becomes or is recognized as ours.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use super::error::StoreError;

/// The format this program writes (`PRAGMA user_version`).
pub const SCHEMA: i64 = 2;

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
    parent_comm BLOB
) STRICT;
CREATE UNIQUE INDEX incident_key ON incident (unit, manager, event, arch, call_number, call_name, action, exe);
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

/// Whose file it is.
#[derive(Debug, PartialEq, Eq)]
enum Header {
    /// Nobody's yet.
    Fresh,
    /// Ours, of an earlier format.
    Older,
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
    match read().map_err(|source| StoreError::of(path, source))? {
        (0, 0, 0) => Ok(Header::Fresh),
        (APPLICATION_ID, SCHEMA, _) => Ok(Header::Ours),
        (APPLICATION_ID, 1, _) => Ok(Header::Older),
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
        Header::Older => Err(StoreError::Older { path: path.to_owned() }),
        Header::Fresh => Err(StoreError::Missing { path: path.to_owned() }),
    }
}

/// Checks that the writer understands the file, makes the tables in an empty one, and brings an older one up to date.
pub(super) fn prepare(conn: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let found = header(conn, path)?;
    let fresh = found == Header::Fresh;
    let of = |source| StoreError::of(path, source);
    if fresh {
        // Only possible before the first table.
        conn.execute_batch("PRAGMA auto_vacuum = INCREMENTAL").map_err(of)?;
    }
    conn.execute_batch("PRAGMA journal_mode = WAL").map_err(of)?;
    let tables = match found {
        Header::Fresh => TABLES,
        Header::Older => PARENTS,
        Header::Ours => "",
    };
    if found != Header::Ours {
        let transaction = conn.transaction_with_behavior(TransactionBehavior::Immediate).map_err(of)?;
        let ours = format!("PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA};");
        transaction.execute_batch(&format!("{tables} {FORGOTTEN} {ours}")).map_err(of)?;
        transaction.commit().map_err(of)?;
    }
    let verdict: String = conn.query_row("PRAGMA quick_check(1)", (), |row| row.get(0)).map_err(of)?;
    if verdict == "ok" { Ok(()) } else { Err(StoreError::Damaged { path: path.to_owned(), detail: verdict }) }
}
