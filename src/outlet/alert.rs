//! Alerts: journal entries that `journalctl -u foo.service` shows among the unit's own lines.
//!
//! journalctl matches `OBJECT_SYSTEMD_UNIT=` and similar fields only in entries from uid 0 (`src/shared/logs-show.c`:
//! `add_matches_for_unit`, `add_matches_for_user_unit`).

use super::alert_fields::{Priority, push_access, push_call, push_call_site, push_unit, start_entry};
use super::alert_message::message;
use super::explanation::Explanation;
use super::journal::AlertEntry;
use super::message_ids::{ACCESS_DENIAL, DENIAL, LOGGED, POSSIBLE_INTRUSION, UNRECORDED_DEATH};
use crate::audit::text;
use crate::incidents::{Denial, Incident, IncidentEvent, RowId};

/// Returns the journal entry of an incident; `id` is its row in the store, `why` its explanation.
#[must_use]
pub fn entry(incident: &Incident, id: Option<RowId>, why: Option<&Explanation>) -> AlertEntry {
    let Incident { key, rung, count, sample, .. } = incident;
    let is_possible_intrusion = why.is_some_and(Explanation::is_possible_intrusion);
    let (message_id, priority) = match &key.event {
        IncidentEvent::Denial(Denial { action, .. }) if action.is_denial() && is_possible_intrusion => {
            (POSSIBLE_INTRUSION, Priority::Error)
        }
        IncidentEvent::Denial(Denial { action, .. }) if action.is_denial() => (DENIAL, Priority::Error),
        IncidentEvent::Denial(_) => (LOGGED, Priority::Warning),
        IncidentEvent::Access(_) => (ACCESS_DENIAL, Priority::Error),
        IncidentEvent::UnrecordedDeath => (UNRECORDED_DEATH, Priority::Error),
    };
    let mut entry = start_entry(message(incident, why), message_id, priority);
    if let Some(unit) = &key.unit {
        push_unit(&mut entry, unit);
    }
    if let Some(rung) = rung {
        entry.push("HARDEN_WHY_EVIDENCE", rung.as_str());
    }
    if let Some(call) = incident.call() {
        push_call(&mut entry, call);
    }
    match &key.event {
        IncidentEvent::Denial(denial) => entry.push("HARDEN_WHY_ACTION", denial.action.to_string()),
        IncidentEvent::Access(denial) => push_access(&mut entry, denial),
        IncidentEvent::UnrecordedDeath => {}
    }
    if let Some(why) = why {
        why.add_fields(&mut entry);
    }
    // `OBJECT_PID=` would make journald look the process up and add its unit. journald may do that late, when another
    // process has the pid.
    entry.push("HARDEN_WHY_PID", sample.pid.to_string());
    if !sample.uid.is_empty() {
        entry.push("HARDEN_WHY_UID", text::escape(sample.uid.as_bytes()));
    }
    entry.push("HARDEN_WHY_EXE", text::escape(&key.exe));
    entry.push("HARDEN_WHY_COMM", text::escape(&sample.comm));
    if let Some(site) = &sample.call_site {
        push_call_site(&mut entry, site);
    }
    entry.push("HARDEN_WHY_COUNT", count.to_string());
    if let Some(id) = id {
        entry.push("HARDEN_WHY_INCIDENT", id.to_string());
    }
    entry
}

#[cfg(test)]
mod tests;
