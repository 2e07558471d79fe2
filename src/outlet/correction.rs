//! The correction of an alert: a death that had no record has one after all.

use super::alert::push_unit;
use super::journal::AlertEntry;
use crate::units::{Manager, Unit};

/// `MESSAGE_ID=` of a correction.
pub const CORRECTION: &str = "d5e4f8c1b9a0437e8f2d6c3a71be9054";

/// `PRIORITY=` of `syslog(3)`.
const NOTICE: &str = "5";

/// Returns the journal entry that corrects the alert about the death of a process of a unit.
#[must_use]
pub fn entry(unit: Option<&Unit>, pid: u32) -> AlertEntry {
    let mut entry = AlertEntry::default();
    let whose = match unit {
        Some(Unit { manager: Manager::System, name }) => format!("{name}: "),
        Some(Unit { manager: Manager::User(uid), name }) => format!("{name} of user {uid}: "),
        None => String::new(),
    };
    let message = format!("{whose}the record of the death of pid {pid} arrived late: it did not die without a record");
    entry.push("MESSAGE", message);
    entry.push("MESSAGE_ID", CORRECTION);
    entry.push("PRIORITY", NOTICE);
    entry.push("SYSLOG_IDENTIFIER", "harden-whyd");
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
        let message =
            "a.service of user 1000: the record of the death of pid 7 arrived late: it did not die without a record";
        assert!(fields.contains(&("MESSAGE", message)), "{fields:?}");
        assert!(fields.contains(&("OBJECT_SYSTEMD_USER_UNIT", "a.service")), "{fields:?}");
    }
}
