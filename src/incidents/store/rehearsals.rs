//! The rehearsals since boot, so that a restarted daemon knows the processes that outlived one.

use super::{Store, StoreError, row};
use crate::units::Unit;
use rusqlite::{Connection, TransactionBehavior};
use std::collections::BTreeSet;

/// A rehearsal of a unit. Times are in milliseconds since the epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RehearsalSpan {
    /// The unit.
    pub unit: Unit,
    /// The begin.
    pub from: i64,
    /// The end; `None` while the rehearsal runs.
    pub until: Option<i64>,
    /// The logins that a process of the unit began.
    pub logins: BTreeSet<u32>,
    /// The cgroup paths of the scopes into which processes of the unit were moved.
    pub scopes: BTreeSet<Vec<u8>>,
}

impl Store {
    /// Replaces the rehearsals on disk. `boot` is the id of this boot: no process outlives it.
    ///
    /// # Errors
    /// The disk is full or read-only, or something is wrong with the file. Nothing is changed then.
    pub fn save_rehearsals(&mut self, boot: &str, spans: &[RehearsalSpan]) -> Result<(), StoreError> {
        save(&mut self.conn, boot, spans).map_err(|source| StoreError::from_sqlite(&self.path, source))
    }

    /// Reads the rehearsals of this boot.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn rehearsals(&self, boot: &str) -> Result<Vec<RehearsalSpan>, StoreError> {
        read(&self.conn, boot).map_err(|source| StoreError::from_sqlite(&self.path, source))
    }
}

fn save(conn: &mut Connection, boot: &str, spans: &[RehearsalSpan]) -> rusqlite::Result<()> {
    let transaction = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute("DELETE FROM rehearsal", ())?;
    for RehearsalSpan { unit, from, until, logins, scopes } in spans {
        let (manager, name) = (unit.manager.to_string(), unit.name.as_str());
        let logins = logins.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        // No path contains a zero byte.
        let scopes = scopes.iter().map(Vec::as_slice).collect::<Vec<_>>().join(&0);
        transaction.execute(
            "INSERT INTO rehearsal (boot, manager, unit, from_ms, until_ms, logins, scopes)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            (boot, manager, name, from, until, logins, scopes),
        )?;
    }
    transaction.commit()
}

fn read(conn: &Connection, boot: &str) -> rusqlite::Result<Vec<RehearsalSpan>> {
    let mut query = conn.prepare(
        "SELECT manager, unit, from_ms, until_ms, logins, scopes FROM rehearsal WHERE boot = ?1 ORDER BY from_ms",
    )?;
    let rows = query.query_map([boot], |row| {
        let (logins, scopes): (String, Vec<u8>) = (row.get(4)?, row.get(5)?);
        let scopes = scopes.split(|byte| *byte == 0).filter(|path| !path.is_empty());
        Ok(row::read_unit(row, 0, 1)?.map(|unit| {
            Ok(RehearsalSpan {
                unit,
                from: row.get(2)?,
                until: row.get(3)?,
                logins: logins.split(' ').filter_map(|login| login.parse().ok()).collect(),
                scopes: scopes.map(<[u8]>::to_vec).collect(),
            })
        }))
    })?;
    rows.filter_map(Result::transpose).map(|span| span?).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Manager;

    #[test]
    fn rehearsals_of_this_boot_are_read_as_they_were_saved() {
        let temp = tempfile::tempdir().unwrap();
        let span = |name: &str, manager, until| RehearsalSpan {
            unit: Unit { manager, name: name.parse().unwrap() },
            from: 1_000,
            until,
            logins: [7, 41].into(),
            scopes: [b"/user.slice/\xff.scope".to_vec(), b"/a".to_vec()].into(),
        };
        let plain = RehearsalSpan { logins: [].into(), scopes: [].into(), ..span("b.service", Manager::System, None) };
        let spans = vec![plain, span("a.service", Manager::User(1000), Some(2_000))];
        let mut store = Store::open(temp.path()).unwrap();
        assert_eq!(store.rehearsals("boot").unwrap(), []);
        store.save_rehearsals("boot", &spans).unwrap();
        assert_eq!(store.rehearsals("boot").unwrap(), spans);
        drop(store);
        let mut store = Store::open(temp.path()).unwrap();
        assert_eq!(store.rehearsals("boot").unwrap(), spans, "after the daemon started again");
        assert_eq!(store.rehearsals("another boot").unwrap(), []);
        store.save_rehearsals("another boot", &spans[..1]).unwrap();
        assert_eq!(store.rehearsals("boot").unwrap(), [], "earlier boots leave nothing");
    }
}
