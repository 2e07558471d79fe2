//! A service manager's log line about a process that SIGSYS killed.

use crate::units::{Manager, Unit};
use memchr::memmem;

/// Words in each such line (`unit_log_process_exit` in systemd's `unit.c`; SIGSYS is 31 except on MIPS and a few others).
pub(crate) const WORDS: &[u8] = b"status=31/SYS";

/// How many units are counted by name.
const MAX_UNITS: usize = 16;

/// Deaths by SIGSYS that service managers logged, by unit.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct SigsysExits {
    /// Units and how often each was logged. The uid is [`Manager::SOME_USER`] if the log does not tell which user.
    pub(crate) units: Vec<(Unit, u64)>,
    /// How often further units were logged.
    pub(crate) others: u64,
}

impl SigsysExits {
    pub(crate) fn add(&mut self, unit: Unit) {
        if let Some((_, count)) = self.units.iter_mut().find(|(known, _)| *known == unit) {
            *count += 1;
        } else if self.units.len() < MAX_UNITS {
            self.units.push((unit, 1));
        } else {
            self.others += 1;
        }
    }
}

/// Returns the unit in a line `DATE HOST systemd[PID]: UNIT: Main process exited, code=killed, status=31/SYS`.
///
/// Any program that can write to the log can forge such a line, so it is only a hint.
pub(crate) fn parse_unit(line: &[u8]) -> Option<Unit> {
    const TAG: &[u8] = b" systemd[";
    memmem::find(line, WORDS)?;
    let at = memmem::find(line, TAG)?;
    // Another program's message that contains these words has that program's tag in front.
    if memmem::find(&line[..=at], b": ").is_some() {
        return None;
    }
    let (pid, message) = str::from_utf8(&line[at + TAG.len()..]).ok()?.split_once("]: ")?;
    let (name, event) = message.split_once(": ")?;
    let (_, status) = event.split_once(" process exited, ")?;
    let died =
        ["code=killed, status=31/SYS", "code=dumped, status=31/SYS"].iter().any(|words| status.starts_with(words));
    let manager = if pid == "1" { Manager::System } else { Manager::User(Manager::SOME_USER) };
    let is_pid = !pid.is_empty() && pid.bytes().all(|digit| digit.is_ascii_digit());
    (died && is_pid).then(|| Some(Unit { manager, name: name.parse().ok()? }))?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(line: &str) -> Option<String> {
        parse_unit(line.as_bytes()).map(|unit| format!("{} {}", unit.manager, unit.name))
    }

    #[test]
    fn exit_line_of_manager_names_unit() {
        for line in [
            "Nov 23 22:01:02 web systemd[1]: a.service: Main process exited, code=killed, status=31/SYS",
            "2026-11-23T22:01:02+0000 web systemd[1]: a.service: Control process exited, code=dumped, status=31/SYS\r",
            "[   12.345678] web systemd[1]: a.service: Main process exited, code=dumped, status=31/SYS",
        ] {
            assert_eq!(unit(line).as_deref(), Some("system a.service"), "{line}");
        }
        let user = "Nov 23 22:01:02 web systemd[812]: a.service: Main process exited, code=killed, status=31/SYS";
        assert!(unit(user).is_some_and(|unit| unit.starts_with("user") && unit.ends_with(" a.service")));
    }

    #[test]
    fn line_of_other_program_or_exit_names_no_unit() {
        for line in [
            "Nov 23 22:01:02 web evil[9]: systemd[1]: a.service: Main process exited, code=killed, status=31/SYS",
            "Nov 23 22:01:02 web evil: x systemd[1]: a.service: Main process exited, code=killed, status=31/SYS",
            "Nov 23 22:01:02 web systemd[1]: a.service: Main process exited, code=exited, status=31/SYS",
            "Nov 23 22:01:02 web systemd[1]: a.service: Main process exited, code=killed, status=9/KILL",
            "Nov 23 22:01:02 web systemd[1]: \u{1b}[31m.service: Main process exited, code=killed, status=31/SYS",
            "Nov 23 22:01:02 web systemd[x]: a.service: Main process exited, code=killed, status=31/SYS",
            "status=31/SYS",
        ] {
            assert_eq!(unit(line), None, "{line}");
        }
    }

    #[test]
    fn exits_of_many_units_are_counted_within_bounds() {
        let mut exits = SigsysExits::default();
        for number in 0..100 {
            let name = format!("u{}.service", number / 2);
            exits.add(Unit { manager: Manager::System, name: name.parse().unwrap() });
        }
        assert_eq!((exits.units.len(), exits.others), (MAX_UNITS, 100 - 2 * MAX_UNITS as u64));
        assert!(exits.units.iter().all(|(_, count)| *count == 2));
    }
}
