//! Adds sightings to the store.

use rusqlite::{Connection, ToSql, TransactionBehavior};

use super::row;
use crate::incidents::incident::Incident;
use crate::units::{Confidence, Rung};

/// A row's number. A file never uses a number twice.
pub type RowId = i64;

/// The state of an incident after it was recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recorded {
    /// Its number.
    pub id: RowId,
    /// The number of all its sightings.
    pub count: u64,
    /// Whether the store did not hold it before.
    pub new: bool,
}

/// Adds sightings in one transaction. See [`Store::record`](super::Store::record).
pub(super) fn record<'a>(
    conn: &mut Connection,
    incidents: impl IntoIterator<Item = &'a Incident>,
) -> rusqlite::Result<Vec<Recorded>> {
    let columns = row::COLUMNS;
    let transaction = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // ?30 lists the evidence that is at least as certain as the new evidence. ?31 lists the evidence of the samples
    // that the new sample does not replace.
    let mut upsert = transaction.prepare(&format!(
        "INSERT INTO incident ({columns})
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24,
            ?25, ?26, ?27, ?28, ?29)
         ON CONFLICT (unit, manager, event, arch, call_number, call_name, action, exe, source, errno, access, path,
            detail) DO UPDATE SET
            count = CASE WHEN count > {max} - excluded.count THEN {max} ELSE count + excluded.count END,
            evidence = CASE WHEN instr(?30, ',' || evidence || ',') THEN evidence ELSE excluded.evidence END,
            first_ms = min(first_ms, coalesce(excluded.first_ms, first_ms)),
            last_ms = excluded.last_ms, last_text = excluded.last_text,
            (pid, comm, uid, ip, subject, parent_pid, parent_comm, login, call_code, caller_code) = (
                SELECT pid, comm, uid, ip, subject, parent_pid, parent_comm, login, call_code, caller_code
                    WHERE instr(?31, ',' || evidence || ',')
                UNION ALL
                SELECT excluded.pid, excluded.comm, excluded.uid, excluded.ip, excluded.subject, excluded.parent_pid,
                    excluded.parent_comm, excluded.login, coalesce(excluded.call_code, call_code),
                    iif(excluded.call_code IS NULL, caller_code, excluded.caller_code)
                LIMIT 1)
         RETURNING id, count",
        max = i64::MAX,
    ))?;
    let mut recorded = Vec::new();
    for incident in incidents {
        let columns = row::Columns::from_incident(incident);
        let (certain, kept) = (at_least_as_certain(incident), keeping_sample(incident));
        let values = columns.values().into_iter().chain([&certain as &dyn ToSql, &kept]);
        let (id, count): (RowId, i64) =
            upsert.query_row(rusqlite::params_from_iter(values), |row| Ok((row.get(0)?, row.get(1)?)))?;
        let count = count.unsigned_abs();
        // Every recorded incident has at least one sighting.
        recorded.push(Recorded { id, count, new: count == incident.count });
    }
    drop(upsert);
    transaction.commit()?;
    Ok(recorded)
}

/// Returns the evidence that is at least as certain as the incident's.
fn at_least_as_certain(incident: &Incident) -> String {
    listed(|rung| incident.rung.is_none_or(|new| rung <= new))
}

/// Returns the evidence of samples that the incident does not replace: if it is a guess, all evidence that is no guess.
fn keeping_sample(incident: &Incident) -> String {
    let is_guess = |rung: Rung| rung.confidence() == Confidence::Guess;
    listed(|rung| incident.rung.is_some_and(is_guess) && !is_guess(rung))
}

/// Returns the matching evidence as words between commas.
fn listed(such: impl Fn(Rung) -> bool) -> String {
    let rungs = Rung::ALL.into_iter().filter(|rung| such(*rung));
    rungs.fold(",".to_owned(), |list, rung| list + rung.as_str() + ",")
}
