//! The correction of an alert: a death that had no record has one after all.

use super::alert_fields::{Priority, push_unit, start_entry};
use super::journal::AlertEntry;
use super::message_ids::CORRECTION;
use crate::units::{Manager, Unit};

/// Returns the journal entry that corrects the alert about the death of a process of a unit.
#[must_use]
pub fn entry(unit: Option<&Unit>, pid: u32) -> AlertEntry {
    let whose = match unit {
        Some(Unit { manager: Manager::System, name }) => format!("{name}: "),
        Some(Unit { manager: Manager::User(uid), name }) => format!("{name} of user {uid}: "),
        None => String::new(),
    };
    let message = format!(
        "{whose}the kernel's record of the death of process {pid} arrived late; the alert that there is none was wrong"
    );
    let mut entry = start_entry(message, CORRECTION, Priority::Notice);
    if let Some(unit) = unit {
        push_unit(&mut entry, unit);
    }
    entry.push("HARDEN_WHY_PID", pid.to_string());
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn correction_is_among_the_lines_of_its_unit() {
        let unit = Unit { manager: Manager::User(1000), name: "a.service".parse().unwrap() };
        let entry = entry(Some(&unit), 7);
        let fields: Vec<_> = entry.fields().map(|(name, value)| (name, str::from_utf8(value).unwrap())).collect();
        let message = "a.service of user 1000: the kernel's record of the death of process 7 arrived late; the alert that \
            there is none was wrong";
        assert!(fields.contains(&("MESSAGE", message)), "{fields:?}");
        assert!(fields.contains(&("OBJECT_SYSTEMD_USER_UNIT", "a.service")), "{fields:?}");
    }
}
