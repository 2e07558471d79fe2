//! Journal entries about the death of a unit's process.
//!
//! Any program can log anything. But fields that begin with an underscore are journald's own
//! (`systemd.journal-fields(7)`): they show that PID 1, a user manager or systemd-coredump wrote the entry.

use crate::audit::record::SIGSYS;
use crate::units::{Manager, Placement, Unit, cgroup};
use std::ffi::CStr;

/// The message id for the exit of a unit's process (`SD_MESSAGE_UNIT_PROCESS_EXIT`).
pub(crate) const EXIT: &str = "98e322203f7a4ed290d09fe03c09fe15";
/// The message id of a core dump (`SD_MESSAGE_COREDUMP`).
pub(crate) const COREDUMP: &str = "fc2e22bc6ee647b6b90729ab34a250b1";

/// The death of a unit's process, as a trusted journal entry reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeathEntry {
    /// The time of death, or of the entry, in milliseconds since the epoch.
    pub at: i64,
    /// The process's unit.
    pub unit: Unit,
    /// The process; `None` in a manager's entry, which has no such field.
    pub pid: Option<u32>,
}

impl DeathEntry {
    /// Parses the fields of an entry that journald received at `received` (microseconds since the epoch).
    ///
    /// Returns `None` for an entry about something else, or by a program that is not trusted to report this.
    pub(crate) fn parse(received: u64, get: impl Fn(&CStr) -> Option<Vec<u8>>) -> Option<Self> {
        let text = |name: &CStr| String::from_utf8(get(name)?).ok();
        let id = text(c"MESSAGE_ID")?;
        if id == COREDUMP {
            // systemd-coredump runs as the dead process's user, but only PID 1 starts processes in its unit.
            let unit = text(c"_SYSTEMD_UNIT")?;
            if !(unit.starts_with("systemd-coredump@") && unit.ends_with(".service"))
                || get(c"_SYSTEMD_USER_UNIT").is_some()
            {
                return None;
            }
            let Placement::Unit(unit) = cgroup::place_path(&get(c"COREDUMP_CGROUP")?) else { return None };
            let at = text(c"COREDUMP_TIMESTAMP")?.parse().ok()?;
            return Some(Self { at: millis(at), unit, pid: Some(text(c"COREDUMP_PID")?.parse().ok()?) });
        }
        let died = matches!(text(c"EXIT_CODE")?.as_str(), "killed" | "dumped");
        if id != EXIT || !died || text(c"EXIT_STATUS")?.parse() != Ok(SIGSYS) || text(c"_TRANSPORT")? != "journal" {
            return None;
        }
        let uid: u32 = text(c"_UID")?.parse().ok()?;
        let (manager, name) = if text(c"_PID")? == "1" && uid == 0 {
            (Manager::System, text(c"UNIT")?)
        } else if text(c"_SYSTEMD_UNIT")? == format!("user@{uid}.service") {
            // The user manager and the processes that it started can only report that user's units.
            (Manager::User(uid), text(c"USER_UNIT")?)
        } else {
            return None;
        };
        Some(Self { at: millis(received), unit: Unit { manager, name: name.parse().ok()? }, pid: None })
    }
}

fn millis(us: u64) -> i64 {
    i64::try_from(us / 1_000).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    const EXITED: [(&str, &str); 8] = [
        ("MESSAGE_ID", EXIT),
        ("_TRANSPORT", "journal"),
        ("_PID", "1"),
        ("_UID", "0"),
        ("_SYSTEMD_UNIT", "init.scope"),
        ("UNIT", "a.service"),
        ("EXIT_CODE", "killed"),
        ("EXIT_STATUS", "31"),
    ];
    const DUMPED: [(&str, &str); 6] = [
        ("MESSAGE_ID", COREDUMP),
        ("_UID", "1000"),
        ("_SYSTEMD_UNIT", "systemd-coredump@3-77-0.service"),
        ("COREDUMP_PID", "7"),
        ("COREDUMP_CGROUP", "/user.slice/user-1000.slice/user@1000.service/app.slice/a.service"),
        ("COREDUMP_TIMESTAMP", "5000000"),
    ];

    /// Parses an entry with some fields changed or removed.
    fn parse_with(entry: &[(&str, &str)], changes: &[(&str, Option<&str>)]) -> Option<(String, i64, Option<u32>)> {
        let mut fields: HashMap<&str, &str> = entry.iter().copied().collect();
        for (name, value) in changes {
            match value {
                Some(value) => fields.insert(name, value),
                None => fields.remove(name),
            };
        }
        let get = |name: &CStr| fields.get(name.to_str().unwrap()).map(|value| value.as_bytes().to_vec());
        DeathEntry::parse(9_000_000, get)
            .map(|entry| (format!("{} {}", entry.unit.manager, entry.unit.name), entry.at, entry.pid))
    }

    #[test]
    fn exit_entry_of_pid_1_names_system_unit_without_pid() {
        let expected = Some(("system a.service".to_owned(), 9_000, None));
        assert_eq!(parse_with(&EXITED, &[]), expected);
        assert_eq!(parse_with(&EXITED, &[("EXIT_CODE", Some("dumped"))]), expected);
        for other in [("EXIT_CODE", "exited"), ("EXIT_STATUS", "9"), ("UNIT", "../a"), ("MESSAGE_ID", "x")] {
            assert_eq!(parse_with(&EXITED, &[(other.0, Some(other.1))]), None, "{other:?}");
        }
        for (name, _) in EXITED.iter().filter(|(name, _)| *name != "_SYSTEMD_UNIT") {
            assert_eq!(parse_with(&EXITED, &[(name, None)]), None, "without {name}");
        }
    }

    #[test]
    fn exit_entry_of_other_process_names_no_system_unit() {
        assert_eq!(parse_with(&EXITED, &[("_PID", Some("7"))]), None);
        assert_eq!(parse_with(&EXITED, &[("_UID", Some("7"))]), None);
        assert_eq!(parse_with(&EXITED, &[("_PID", Some("7")), ("PID", Some("1"))]), None);
        assert_eq!(parse_with(&EXITED, &[("_TRANSPORT", Some("stdout"))]), None);
    }

    #[test]
    fn exit_entry_of_user_manager_names_only_that_users_unit() {
        let written_by = |uid: &'static str, within: &'static str| {
            [
                ("_PID", Some("7")),
                ("_UID", Some(uid)),
                ("_SYSTEMD_UNIT", Some(within)),
                ("USER_UNIT", Some("b.service")),
            ]
        };
        let expected = Some(("user:1000 b.service".to_owned(), 9_000, None));
        assert_eq!(parse_with(&EXITED, &written_by("1000", "user@1000.service")), expected);
        assert_eq!(parse_with(&EXITED, &written_by("1001", "user@1000.service")), None);
        assert_eq!(parse_with(&EXITED, &written_by("1000", "session-3.scope")), None);
        assert_eq!(parse_with(&EXITED, &written_by("0", "evil.service")), None);
    }

    #[test]
    fn coredump_entry_names_unit_of_cgroup_and_pid() {
        assert_eq!(parse_with(&DUMPED, &[]), Some(("user:1000 a.service".to_owned(), 5_000, Some(7))));
        let session = "/user.slice/user-0.slice/session-1.scope";
        assert_eq!(parse_with(&DUMPED, &[("COREDUMP_CGROUP", Some(session))]), None);
        for forged in ["evil.service", "systemd-coredump@3.socket", "user@1000.service"] {
            assert_eq!(parse_with(&DUMPED, &[("_SYSTEMD_UNIT", Some(forged))]), None, "{forged}");
        }
        assert_eq!(parse_with(&DUMPED, &[("_SYSTEMD_USER_UNIT", Some("x.service"))]), None);
        for (name, _) in DUMPED.iter().filter(|(name, _)| *name != "_UID") {
            assert_eq!(parse_with(&DUMPED, &[(name, None)]), None, "without {name}");
        }
        assert_eq!(parse_with(&DUMPED, &[("COREDUMP_PID", Some("-7"))]), None);
    }
}
