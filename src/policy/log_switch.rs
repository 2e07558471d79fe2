//! Whether a manager asks the kernel to log the calls that its units' filters refuse with an error: by the variable
//! `SYSTEMD_LOG_SECCOMP` of its own environment, which `ManagerEnvironment=` sets (`systemd-system.conf(5)`).

use super::lists::boolean;
use super::unit_file::{Assignment, Origin, UnitFile};
use super::words::{Split, split};

/// The variable (systemd's `docs/ENVIRONMENT.md`).
pub const VARIABLE: &str = "SYSTEMD_LOG_SECCOMP";

/// More words of a line are not looked at.
const MOST_WORDS: usize = 1_000;

/// A line of a manager's configuration that bears on the variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSwitch {
    /// What it does.
    pub sets: Sets,
    /// Where.
    pub origin: Origin,
}

/// What becomes of the variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sets {
    /// Refusals are logged.
    On,
    /// They are not.
    Off,
    /// It keeps the value that it has: a line that empties the list, or sets what is neither yes nor no.
    Nothing,
}

/// The last such line of the files, which are in the order they are read.
#[must_use]
pub fn log_switch<'a>(files: impl IntoIterator<Item = &'a UnitFile>) -> Option<LogSwitch> {
    let is_it = |line: &&Assignment| &*line.section == "Manager" && &*line.key == "ManagerEnvironment";
    let bearing = |line: &Assignment| {
        let sets = if line.value.is_empty() { Sets::Nothing } else { set_in(&line.value)? };
        Some(LogSwitch { sets, origin: line.origin.clone() })
    };
    files.into_iter().flat_map(|file| &file.assignments).filter(is_it).filter_map(bearing).last()
}

/// What a list of `NAME=VALUE` sets the variable to, if it does; the last counts.
#[must_use]
pub fn set_in(list: &str) -> Option<Sets> {
    let words = split(list, Split::Command, MOST_WORDS).words;
    let value = words.iter().rev().find_map(|word| word.strip_prefix(VARIABLE)?.strip_prefix('='))?;
    Some(match boolean(value) {
        Some(true) => Sets::On,
        Some(false) => Sets::Off,
        None => Sets::Nothing,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn of(text: &str) -> Option<Sets> {
        let file = UnitFile::parse(Path::new("/a.conf"), text.as_bytes());
        log_switch([&file]).map(|switch| switch.sets)
    }

    #[test]
    fn the_variable_is_one_of_a_list() {
        assert_eq!(of("[Manager]\nManagerEnvironment=A=B \"SYSTEMD_LOG_SECCOMP=1\"\n"), Some(Sets::On));
        assert_eq!(of("[Manager]\nManagerEnvironment=SYSTEMD_LOG_SECCOMP=1 SYSTEMD_LOG_SECCOMP=no"), Some(Sets::Off));
        assert_eq!(of("[Manager]\nManagerEnvironment=SYSTEMD_LOG_SECCOMP=maybe"), Some(Sets::Nothing));
        assert_eq!(of("[Manager]\nManagerEnvironment=SYSTEMD_LOG_SECCOMP_NOT=1 XSYSTEMD_LOG_SECCOMP=1"), None);
    }

    #[test]
    fn an_empty_line_takes_it_back_and_other_sections_say_nothing() {
        assert_eq!(
            of("[Manager]\nManagerEnvironment=SYSTEMD_LOG_SECCOMP=1\nManagerEnvironment=\n"),
            Some(Sets::Nothing)
        );
        assert_eq!(of("[Service]\nManagerEnvironment=SYSTEMD_LOG_SECCOMP=1\n"), None);
        assert_eq!(of("[Manager]\nDefaultEnvironment=SYSTEMD_LOG_SECCOMP=1\n"), None);
    }
}
