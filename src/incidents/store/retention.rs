//! Keeps the store within its limits: which incidents it evicts, and how many it has evicted.

use rusqlite::{Connection, TransactionBehavior};
use std::collections::HashMap;
use std::ops::Range;

use super::{MAX_EXE, RowId, Store, StoreError, row};
use crate::incidents::IncidentKey;
use crate::incidents::fair_share::{OwnedRow, choose_leaving};
use crate::incidents::owner::Owner;
use crate::units::Unit;

/// The incidents that the store evicted to make room. It does not count those that reached their age limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Evicted {
    /// How many incidents.
    pub incidents: u64,
    /// How many sightings of them.
    pub sightings: u64,
    /// The latest sighting of any of them, in milliseconds since the epoch.
    pub last: i64,
}

impl Store {
    /// Deletes incidents last seen within `aged` (milliseconds since the epoch), then evicts others until `most` are left:
    /// of the [owner](Owner) with the most incidents, in the rarer half of them, those with the oldest latest sighting.
    /// Releases free space to the file system. Returns how many incidents it deleted.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn prune(&mut self, aged: Range<i64>, most: u32) -> Result<u64, StoreError> {
        prune(&mut self.conn, &aged, most).map_err(|source| StoreError::from_sqlite(&self.path, source))
    }

    /// Returns the latest sighting up to `now`, in milliseconds since the epoch. A later one was stamped by a wrong clock.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn latest_sighting(&self, now: i64) -> Result<Option<i64>, StoreError> {
        let latest = "SELECT max(last_ms) FROM incident WHERE last_ms <= ?1";
        let row = self.conn.query_row(latest, [now], |row| row.get(0));
        row.map_err(|source| StoreError::from_sqlite(&self.path, source))
    }

    /// Deletes the incidents of a unit, or (`None`) those of processes whose unit is unknown, because a person dismissed
    /// them. They do not count as [evicted](Self::evicted). Returns how many it deleted.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn forget_unit(&mut self, unit: Option<&Unit>) -> Result<u64, StoreError> {
        match self.conn.execute("DELETE FROM incident WHERE unit = ?1 AND manager = ?2", unit_columns(unit)) {
            Ok(deleted) => Ok(u64::try_from(deleted).unwrap_or(u64::MAX)),
            Err(source) => Err(StoreError::from_sqlite(&self.path, source)),
        }
    }

    /// Subtracts one sighting of a death without a record, because its record came after all. Deletes the incident if it
    /// has no other sighting.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn subtract_death(&mut self, key: &IncidentKey) -> Result<(), StoreError> {
        subtract_death(&mut self.conn, key).map_err(|source| StoreError::from_sqlite(&self.path, source))
    }

    /// Returns the counts of the incidents evicted so far.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn evicted(&self) -> Result<Evicted, StoreError> {
        let row = self.conn.query_row("SELECT incidents, sightings, last_ms FROM evicted", (), |row| {
            let number = |column| row.get::<_, i64>(column).map(i64::unsigned_abs);
            Ok(Evicted { incidents: number(0)?, sightings: number(1)?, last: row.get(2)? })
        });
        match row {
            Err(rusqlite::Error::QueryReturnedNoRows) => Ok(Evicted::default()),
            row => row.map_err(|source| StoreError::from_sqlite(&self.path, source)),
        }
    }

    /// Makes room in a file that has reached its limit, by evicting a quarter of its rows. Returns false if the file is
    /// far below its limit: then the file system is full.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn make_room(&mut self) -> Result<bool, StoreError> {
        let number = |pragma: &str| self.conn.query_row(pragma, (), |row| row.get::<_, i64>(0));
        let read = || -> rusqlite::Result<_> {
            let (pages, most) = (number("PRAGMA page_count")?, number("PRAGMA max_page_count")?);
            Ok((pages, most, number("SELECT count(*) FROM incident")?))
        };
        let (pages, most, rows) = read().map_err(|source| StoreError::from_sqlite(&self.path, source))?;
        // The page count lacks the failed write, which can be many rows of several pages each.
        if pages < most / 4 * 3 {
            return Ok(false);
        }
        self.prune(0..0, u32::try_from(rows / 4 * 3).unwrap_or(u32::MAX))?;
        Ok(true)
    }
}

fn subtract_death(conn: &mut Connection, key: &IncidentKey) -> rusqlite::Result<()> {
    const IS_KEY: &str =
        "unit = ?1 AND manager = ?2 AND event = 'unrecorded-death' AND exe = ?3 AND source = ?4 AND errno = -1";
    let (unit, manager) = unit_columns(key.unit.as_ref());
    let values = (unit, manager, key.exe.get(..MAX_EXE).unwrap_or(&key.exe), key.source.as_str());
    let transaction = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute(&format!("DELETE FROM incident WHERE {IS_KEY} AND count <= 1"), values.clone())?;
    transaction.execute(&format!("UPDATE incident SET count = count - 1 WHERE {IS_KEY}"), values)?;
    transaction.commit()
}

/// Returns the name and the manager of a unit as the columns hold them; empty for `None`.
fn unit_columns(unit: Option<&Unit>) -> (&str, String) {
    unit.map_or_else(Default::default, |unit| (unit.name.as_str(), unit.manager.to_string()))
}

fn prune(conn: &mut Connection, aged: &Range<i64>, most: u32) -> rusqlite::Result<u64> {
    let transaction = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let range = [aged.start, aged.end];
    let aged = transaction.execute("DELETE FROM incident WHERE last_ms >= ?1 AND last_ms < ?2", range)?;
    // Incidents evicted so long ago would have reached their age limit by now.
    transaction.execute("DELETE FROM evicted WHERE last_ms >= ?1 AND last_ms < ?2", range)?;
    let evicted = evict(&transaction, most)?;
    transaction.commit()?;
    // Each step frees one page.
    let mut vacuum = conn.prepare("PRAGMA incremental_vacuum")?;
    let mut pages = vacuum.query(())?;
    while pages.next()?.is_some() {}
    Ok(u64::try_from(aged.saturating_add(evicted)).unwrap_or(u64::MAX))
}

/// Evicts surplus incidents, and counts them: those of the [owner](Owner) with the most.
fn evict(conn: &Connection, most: u32) -> rusqlite::Result<usize> {
    let rows: i64 = conn.query_row("SELECT count(*) FROM incident", (), |row| row.get(0))?;
    let excess = rows - i64::from(most);
    if excess <= 0 {
        return Ok(0);
    }
    conn.execute_batch("CREATE TEMP TABLE IF NOT EXISTS leaving (id INTEGER PRIMARY KEY); DELETE FROM leaving")?;
    let (ids, rows) = rows_by_owner(conn)?;
    let mut leave = conn.prepare("INSERT INTO leaving VALUES (?1)")?;
    for row in choose_leaving(&rows, u64::from(most)) {
        leave.execute([ids[row]])?;
    }
    drop(leave);
    conn.execute_batch(
        "INSERT INTO evicted
            SELECT 0, count(*), CAST(min(total(count), 9e15) AS INTEGER), coalesce(max(last_ms), 0)
            FROM incident WHERE id IN leaving
         ON CONFLICT (id) DO UPDATE SET
            incidents = incidents + excluded.incidents,
            sightings = min(sightings + excluded.sightings, 9000000000000000),
            last_ms = max(last_ms, excluded.last_ms)",
    )?;
    conn.execute("DELETE FROM incident WHERE id IN leaving", ())
}

/// Returns the incidents, the oldest first: their numbers, and the facts that decide which leave.
fn rows_by_owner(conn: &Connection) -> rusqlite::Result<(Vec<RowId>, Vec<OwnedRow<usize>>)> {
    let mut owners: HashMap<Owner, usize> = HashMap::new();
    let (mut ids, mut rows) = (Vec::new(), Vec::new());
    let mut all = conn.prepare(
        "SELECT manager, unit, coalesce(CAST(CAST(login AS TEXT) AS BLOB), uid), id, count, last_ms FROM incident
         ORDER BY last_ms, id",
    )?;
    let mut found = all.query(())?;
    while let Some(incident) = found.next()? {
        let unit = row::read_unit(incident, 0, 1)?;
        let uid = incident.get_ref(2)?.as_blob().map(String::from_utf8_lossy)?;
        let owners_so_far = owners.len();
        let owner = *owners.entry(Owner::from_unit_or_uid(unit.as_ref(), &uid)).or_insert(owners_so_far);
        let seen = incident.get::<_, Option<i64>>(5)?.unwrap_or(i64::MIN);
        ids.push(incident.get(3)?);
        let count = incident.get::<_, i64>(4)?.unsigned_abs();
        rows.push(OwnedRow { owner, cost: 1, is_saved: false, count, seen });
    }
    Ok((ids, rows))
}
