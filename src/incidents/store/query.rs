//! Reads incidents and units from the store.

use rusqlite::ToSql;

use super::error::StoreError;
use super::{RowId, Store, row};
use crate::incidents::incident::{Incident, Moment};
use crate::units::{Manager, Unit, UnitName};

/// Selects incidents.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    /// Only those of processes whose unit is unknown.
    pub unknown: bool,
    /// Only those of units with this name.
    pub unit: Option<UnitName>,
    /// Only those of this manager's units.
    pub manager: Option<Manager>,
    /// Only those last seen at this time or later, in milliseconds since the epoch.
    pub since: Option<i64>,
    /// At most so many; `None` for all.
    pub limit: Option<u32>,
    /// How many to skip.
    pub offset: u32,
}

/// A stored incident.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its number.
    pub id: RowId,
    /// The incident.
    pub incident: Incident,
}

/// The totals of one unit's incidents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitSummary {
    /// The unit; `None` stands for all processes whose unit is unknown.
    pub unit: Option<Unit>,
    /// The number of incidents.
    pub incidents: u64,
    /// The number of sightings, exact up to 2⁵³.
    pub count: u64,
    /// The latest sighting.
    pub last: Moment,
}

impl Store {
    /// Returns incidents, newest first.
    ///
    /// # Errors
    /// The file cannot be read, or holds values that this program never writes.
    pub fn incidents(&self, query: &Query) -> Result<Vec<Stored>, StoreError> {
        let (sql, values) = select_incidents(query);
        self.select(&sql, &values, |row| Ok(Stored { id: row.get(row::WIDTH)?, incident: row::read_incident(row)? }))
    }

    /// Returns units with incidents, the unit with the newest incident first.
    ///
    /// # Errors
    /// The file cannot be read, or holds values that this program never writes.
    pub fn units(&self, query: &Query) -> Result<Vec<UnitSummary>, StoreError> {
        let (sql, values) = select_units(query);
        self.select(&sql, &values, |row| {
            Ok(UnitSummary {
                unit: row::read_unit(row, 0, 1)?,
                incidents: row.get::<_, i64>(2)?.unsigned_abs(),
                count: row.get::<_, i64>(3)?.unsigned_abs(),
                last: row.get::<_, Option<i64>>(4)?.map_or(Moment::Unknown, Moment::At),
            })
        })
    }

    fn select<T>(
        &self,
        sql: &str,
        values: &[Box<dyn ToSql>],
        read: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, StoreError> {
        let rows = || -> rusqlite::Result<Vec<T>> {
            self.conn.prepare(sql)?.query_map(rusqlite::params_from_iter(values), read)?.collect()
        };
        rows().map_err(|source| match source {
            rusqlite::Error::FromSqlConversionFailure(..) | rusqlite::Error::InvalidColumnType(..) => {
                StoreError::Damaged { path: self.path.clone(), detail: source.to_string() }
            }
            source => StoreError::from_sqlite(&self.path, source),
        })
    }
}

/// A statement, and the values of its parameters.
type BoundSelect = (String, Vec<Box<dyn ToSql>>);

fn select_incidents(query: &Query) -> BoundSelect {
    let (conditions, mut values) = conditions(query);
    let page = page(query, &mut values);
    let columns = row::COLUMNS;
    (format!("SELECT {columns}, id FROM incident{conditions} ORDER BY last_ms DESC, id DESC{page}"), values)
}

fn select_units(query: &Query) -> BoundSelect {
    let (conditions, mut values) = conditions(query);
    let page = page(query, &mut values);
    // sum() fails if the sum overflows; total() does not.
    let sql = format!(
        "SELECT manager, unit, count(*), CAST(total(count) AS INTEGER), max(last_ms) FROM incident{conditions}
         GROUP BY unit, manager ORDER BY max(last_ms) DESC, unit, manager{page}"
    );
    (sql, values)
}

/// Returns the WHERE clause of a query and its values.
fn conditions(query: &Query) -> BoundSelect {
    let mut terms = Vec::new();
    let mut values: Vec<Box<dyn ToSql>> = Vec::new();
    if query.unknown {
        terms.push("manager = ''");
    }
    if let Some(unit) = &query.unit {
        terms.push("unit = ?");
        values.push(Box::new(unit.as_str().to_owned()));
    }
    if let Some(manager) = query.manager {
        terms.push("manager = ?");
        values.push(Box::new(manager.to_string()));
    }
    if let Some(since) = query.since {
        terms.push("last_ms >= ?");
        values.push(Box::new(since));
    }
    let clause = if terms.is_empty() { String::new() } else { format!(" WHERE {}", terms.join(" AND ")) };
    (clause, values)
}

/// Returns the LIMIT clause of a query, and appends its values.
fn page(query: &Query, values: &mut Vec<Box<dyn ToSql>>) -> &'static str {
    // SQLite treats a negative limit as no limit.
    values.push(Box::new(query.limit.map_or(-1, i64::from)));
    values.push(Box::new(query.offset));
    " LIMIT ? OFFSET ?"
}

#[cfg(test)]
impl Store {
    /// Counts the steps of the machine of `SQLite` for the incidents and the units of a query: a measure of the work that the
    /// load of the computer does not change.
    pub(super) fn count_steps(&self, query: &Query) -> i32 {
        use rusqlite::StatementStatus;
        let steps = |(sql, values): BoundSelect| {
            let mut statement = self.conn.prepare(&sql).unwrap();
            let mut rows = statement.query(rusqlite::params_from_iter(&values)).unwrap();
            while rows.next().unwrap().is_some() {}
            drop(rows);
            statement.get_status(StatementStatus::VmStep)
        };
        steps(select_incidents(query)) + steps(select_units(query))
    }
}
