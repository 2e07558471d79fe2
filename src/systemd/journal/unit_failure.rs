//! What the journal tells about a unit that failed: the lines of its manager, and of its processes.

use super::{JournalReadError, JournalReader, LONGEST, MOST_ENTRIES};
use crate::incidents::UnitFailure;
use crate::intake::failures::{AttemptSource, EntryWriter, FailureReader};
use crate::units::{Manager, Unit};
use std::time::Instant;

impl JournalReader {
    /// Reads the lines about a unit since a moment, in microseconds since the epoch.
    ///
    /// Blocks on file reads.
    ///
    /// # Errors
    /// The journal or the library is missing, or reading fails.
    pub(crate) fn unit_failure(&mut self, unit: &Unit, since: u64) -> Result<UnitFailure, JournalReadError> {
        let mut failures = FailureReader::default();
        for (fields, writer) in [
            (fields_of_processes(unit), EntryWriter::Process(unit)),
            (fields_of_manager(unit), EntryWriter::Manager(unit.manager)),
        ] {
            let mut cursor = self.open()?;
            for field in &fields {
                cursor.add_match(field)?;
            }
            cursor.seek(since)?;
            let until = Instant::now() + LONGEST;
            for _ in 0..MOST_ENTRIES {
                if cursor.next()?.is_none() || Instant::now() > until {
                    break;
                }
                failures.read_message(&cursor.get(c"MESSAGE").unwrap_or_default(), writer);
            }
        }
        let mut logged = failures.finish();
        let mut failure = logged.units.remove(unit).unwrap_or_default().failure;
        let attempts = logged.attempts.remove(&AttemptSource::Unit(unit.clone())).unwrap_or_default();
        for attempt in attempts {
            failure.add_attempt(attempt.attempt);
        }
        Ok(failure)
    }
}

/// Returns the fields that journald writes for the processes of a unit.
fn fields_of_processes(unit: &Unit) -> Vec<String> {
    match unit.manager {
        Manager::System => vec![format!("_SYSTEMD_UNIT={}", unit.name)],
        Manager::User(uid) => {
            vec![format!("_SYSTEMD_USER_UNIT={}", unit.name), format!("_SYSTEMD_OWNER_UID={uid}")]
        }
    }
}

/// Returns the fields of a manager's lines about a unit: its own, and those that journald writes. The process that systemd
/// forked for a command writes some of them. It often ends before journald can find its cgroup, but its user is certain: it
/// comes with each line (`SCM_CREDENTIALS`, unix(7)).
fn fields_of_manager(unit: &Unit) -> Vec<String> {
    match unit.manager {
        Manager::System => vec![format!("UNIT={}", unit.name), "_UID=0".to_owned()],
        Manager::User(uid) => {
            vec![format!("USER_UNIT={}", unit.name), format!("_UID={uid}")]
        }
    }
}
