//! What a log tells of deaths of SIGSYS beside the kernel's records: a service manager's line of a process that ended so.

use crate::units::{Manager, Unit};
use memchr::memmem;

/// What such a line has (`unit_log_process_exit` in systemd's `unit.c`; 31 is SIGSYS but on MIPS and the like).
pub(crate) const WORDS: &[u8] = b"status=31/SYS";

/// How many units are told apart.
const MOST_UNITS: usize = 16;

/// The units of which a process died of SIGSYS, by the word of their managers.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Deaths {
    /// Each with how often. The manager is [`Manager::SOME_USER`]'s where the log does not tell whose it is.
    pub units: Vec<(Unit, u64)>,
    /// How often it was told of further units.
    pub others: u64,
}

impl Deaths {
    pub(crate) fn add(&mut self, unit: Unit) {
        if let Some((_, count)) = self.units.iter_mut().find(|(known, _)| *known == unit) {
            *count += 1;
        } else if self.units.len() < MOST_UNITS {
            self.units.push((unit, 1));
        } else {
            self.others += 1;
        }
    }
}

/// The unit of a line `DATE HOST systemd[PID]: UNIT: Main process exited, code=killed, status=31/SYS`.
///
/// Whoever can write to a log can write such a line: nothing but a hint may be made of it.
pub(crate) fn unit_of(line: &[u8]) -> Option<Unit> {
    const TAG: &[u8] = b" systemd[";
    memmem::find(line, WORDS)?;
    let at = memmem::find(line, TAG)?;
    // A message that merely contains the words has a tag of its own in front.
    if memmem::find(&line[..=at], b": ").is_some() {
        return None;
    }
    let (pid, message) = str::from_utf8(&line[at + TAG.len()..]).ok()?.split_once("]: ")?;
    let (name, what) = message.split_once(": ")?;
    let (_, how) = what.split_once(" process exited, ")?;
    let died = ["code=killed, status=31/SYS", "code=dumped, status=31/SYS"].iter().any(|words| how.starts_with(words));
    let manager = if pid == "1" { Manager::System } else { Manager::User(Manager::SOME_USER) };
    let is_pid = !pid.is_empty() && pid.bytes().all(|digit| digit.is_ascii_digit());
    (died && is_pid).then(|| Some(Unit { manager, name: name.parse().ok()? }))?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(line: &str) -> Option<String> {
        unit_of(line.as_bytes()).map(|unit| format!("{} {}", unit.manager, unit.name))
    }

    #[test]
    fn a_managers_line_names_the_unit() {
        for line in [
            "Nov 23 22:01:02 web systemd[1]: a.service: Main process exited, code=killed, status=31/SYS",
            "2026-11-23T22:01:02+0000 web systemd[1]: a.service: Control process exited, code=dumped, status=31/SYS\r",
            "[   12.345678] web systemd[1]: a.service: Main process exited, code=dumped, status=31/SYS",
        ] {
            assert_eq!(told(line).as_deref(), Some("system a.service"), "{line}");
        }
        let user = "Nov 23 22:01:02 web systemd[812]: a.service: Main process exited, code=killed, status=31/SYS";
        assert!(told(user).is_some_and(|unit| unit.starts_with("user") && unit.ends_with(" a.service")));
    }

    #[test]
    fn nobody_elses_line_does() {
        for line in [
            "Nov 23 22:01:02 web evil[9]: systemd[1]: a.service: Main process exited, code=killed, status=31/SYS",
            "Nov 23 22:01:02 web evil: x systemd[1]: a.service: Main process exited, code=killed, status=31/SYS",
            "Nov 23 22:01:02 web systemd[1]: a.service: Main process exited, code=exited, status=31/SYS",
            "Nov 23 22:01:02 web systemd[1]: a.service: Main process exited, code=killed, status=9/KILL",
            "Nov 23 22:01:02 web systemd[1]: \u{1b}[31m.service: Main process exited, code=killed, status=31/SYS",
            "Nov 23 22:01:02 web systemd[x]: a.service: Main process exited, code=killed, status=31/SYS",
            "status=31/SYS",
        ] {
            assert_eq!(told(line), None, "{line}");
        }
    }

    #[test]
    fn units_are_bounded() {
        let mut deaths = Deaths::default();
        for number in 0..100 {
            let name = format!("u{}.service", number / 2);
            deaths.add(Unit { manager: Manager::System, name: name.parse().unwrap() });
        }
        assert_eq!((deaths.units.len(), deaths.others), (MOST_UNITS, 100 - 2 * MOST_UNITS as u64));
        assert!(deaths.units.iter().all(|(_, count)| *count == 2));
    }
}
