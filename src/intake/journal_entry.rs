//! What two kinds of journal entries tell of a process that is gone, and who may say so.
//!
//! Anybody can log anything. Fields that begin with an underscore are journald's own (`systemd.journal-fields(7)`):
//! by them it is known that PID 1, a user's manager or systemd-coredump wrote an entry.

use crate::audit::record::SIGSYS;
use crate::units::{Manager, Placement, Unit, cgroup};
use std::ffi::CStr;

/// A process of a unit exited (`SD_MESSAGE_UNIT_PROCESS_EXIT`).
pub(crate) const EXIT: &str = "98e322203f7a4ed290d09fe03c09fe15";
/// A process dumped core (`SD_MESSAGE_COREDUMP`).
pub(crate) const COREDUMP: &str = "fc2e22bc6ee647b6b90729ab34a250b1";

/// What is told, with its time in milliseconds since the epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// When: the death itself, or when it was noticed.
    pub at: i64,
    /// Whose process it was.
    pub unit: Unit,
    /// Which; a manager does not tell the pid of what ended.
    pub pid: Option<u32>,
}

/// Reads an entry that journald received at a time (microseconds since the epoch), unless it is of no use, or written by
/// somebody who may not say so.
pub(crate) fn read(received: u64, get: impl Fn(&CStr) -> Option<Vec<u8>>) -> Option<Entry> {
    let text = |name: &CStr| String::from_utf8(get(name)?).ok();
    let id = text(c"MESSAGE_ID")?;
    if id == COREDUMP {
        // It has become the dead process's user by then, but only PID 1 starts anybody in that unit.
        let unit = text(c"_SYSTEMD_UNIT")?;
        if !(unit.starts_with("systemd-coredump@") && unit.ends_with(".service"))
            || get(c"_SYSTEMD_USER_UNIT").is_some()
        {
            return None;
        }
        let Placement::Unit(unit) = cgroup::place_path(&get(c"COREDUMP_CGROUP")?) else { return None };
        let at = text(c"COREDUMP_TIMESTAMP")?.parse().ok()?;
        return Some(Entry { at: millis(at), unit, pid: Some(text(c"COREDUMP_PID")?.parse().ok()?) });
    }
    let died = matches!(text(c"EXIT_CODE")?.as_str(), "killed" | "dumped");
    if id != EXIT || !died || text(c"EXIT_STATUS")?.parse() != Ok(SIGSYS) || text(c"_TRANSPORT")? != "journal" {
        return None;
    }
    let uid: u32 = text(c"_UID")?.parse().ok()?;
    let (manager, name) = if text(c"_PID")? == "1" && uid == 0 {
        (Manager::System, text(c"UNIT")?)
    } else if text(c"_SYSTEMD_UNIT")? == format!("user@{uid}.service") {
        // Whoever is in there, the user's manager or what it started, can blame that user's units alone.
        (Manager::User(uid), text(c"USER_UNIT")?)
    } else {
        return None;
    };
    Some(Entry { at: millis(received), unit: Unit { manager, name: name.parse().ok()? }, pid: None })
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

    /// What is read of an entry with some fields changed, or taken away.
    fn read_with(entry: &[(&str, &str)], changes: &[(&str, Option<&str>)]) -> Option<(String, i64, Option<u32>)> {
        let mut fields: HashMap<&str, &str> = entry.iter().copied().collect();
        for (name, value) in changes {
            match value {
                Some(value) => fields.insert(name, value),
                None => fields.remove(name),
            };
        }
        let get = |name: &CStr| fields.get(name.to_str().unwrap()).map(|value| value.as_bytes().to_vec());
        read(9_000_000, get).map(|entry| (format!("{} {}", entry.unit.manager, entry.unit.name), entry.at, entry.pid))
    }

    #[test]
    fn pid_1_tells_of_a_death_without_a_pid() {
        let told = Some(("system a.service".to_owned(), 9_000, None));
        assert_eq!(read_with(&EXITED, &[]), told);
        assert_eq!(read_with(&EXITED, &[("EXIT_CODE", Some("dumped"))]), told);
        for other in [("EXIT_CODE", "exited"), ("EXIT_STATUS", "9"), ("UNIT", "../a"), ("MESSAGE_ID", "x")] {
            assert_eq!(read_with(&EXITED, &[(other.0, Some(other.1))]), None, "{other:?}");
        }
        for (name, _) in EXITED.iter().filter(|(name, _)| *name != "_SYSTEMD_UNIT") {
            assert_eq!(read_with(&EXITED, &[(name, None)]), None, "without {name}");
        }
    }

    #[test]
    fn nobody_else_speaks_for_the_systems_units() {
        assert_eq!(read_with(&EXITED, &[("_PID", Some("7"))]), None);
        assert_eq!(read_with(&EXITED, &[("_UID", Some("7"))]), None);
        assert_eq!(read_with(&EXITED, &[("_PID", Some("7")), ("PID", Some("1"))]), None);
        assert_eq!(read_with(&EXITED, &[("_TRANSPORT", Some("stdout"))]), None);
    }

    #[test]
    fn a_users_manager_speaks_for_that_users_units() {
        let of = |uid: &'static str, within: &'static str| {
            [
                ("_PID", Some("7")),
                ("_UID", Some(uid)),
                ("_SYSTEMD_UNIT", Some(within)),
                ("USER_UNIT", Some("b.service")),
            ]
        };
        let told = Some(("user:1000 b.service".to_owned(), 9_000, None));
        assert_eq!(read_with(&EXITED, &of("1000", "user@1000.service")), told);
        assert_eq!(read_with(&EXITED, &of("1001", "user@1000.service")), None);
        assert_eq!(read_with(&EXITED, &of("1000", "session-3.scope")), None);
        assert_eq!(read_with(&EXITED, &of("0", "evil.service")), None);
    }

    #[test]
    fn systemd_coredump_tells_the_pid_and_the_cgroup() {
        assert_eq!(read_with(&DUMPED, &[]), Some(("user:1000 a.service".to_owned(), 5_000, Some(7))));
        let session = "/user.slice/user-0.slice/session-1.scope";
        assert_eq!(read_with(&DUMPED, &[("COREDUMP_CGROUP", Some(session))]), None);
        for forged in ["evil.service", "systemd-coredump@3.socket", "user@1000.service"] {
            assert_eq!(read_with(&DUMPED, &[("_SYSTEMD_UNIT", Some(forged))]), None, "{forged}");
        }
        assert_eq!(read_with(&DUMPED, &[("_SYSTEMD_USER_UNIT", Some("x.service"))]), None);
        for (name, _) in DUMPED.iter().filter(|(name, _)| *name != "_UID") {
            assert_eq!(read_with(&DUMPED, &[(name, None)]), None, "without {name}");
        }
        assert_eq!(read_with(&DUMPED, &[("COREDUMP_PID", Some("-7"))]), None);
    }
}
