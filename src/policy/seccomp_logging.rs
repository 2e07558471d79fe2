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
pub struct SeccompLogLine {
    /// What it does.
    pub sets: SeccompLogging,
    /// Where.
    pub origin: Origin,
}

/// What becomes of the variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeccompLogging {
    /// Refusals are logged.
    On,
    /// They are not.
    Off,
    /// It keeps the value that it has: a line that empties the list, or sets what is neither yes nor no.
    Unchanged,
}

/// The last such line of the files, which are in the order they are read.
#[must_use]
pub fn last_seccomp_log_line<'a>(files: impl IntoIterator<Item = &'a UnitFile>) -> Option<SeccompLogLine> {
    let is_it = |line: &&Assignment| &*line.section == "Manager" && &*line.key == "ManagerEnvironment";
    let bearing = |line: &Assignment| {
        let sets = if line.value.is_empty() { SeccompLogging::Unchanged } else { parse_seccomp_logging(&line.value)? };
        Some(SeccompLogLine { sets, origin: line.origin.clone() })
    };
    files.into_iter().flat_map(|file| &file.assignments).filter(is_it).filter_map(bearing).last()
}

/// What a list of `NAME=VALUE` sets the variable to, if it does; the last counts.
#[must_use]
pub fn parse_seccomp_logging(list: &str) -> Option<SeccompLogging> {
    let words = split(list, Split::Command, MOST_WORDS).words;
    let value = words.iter().rev().find_map(|word| word.strip_prefix(VARIABLE)?.strip_prefix('='))?;
    Some(match boolean(value) {
        Some(true) => SeccompLogging::On,
        Some(false) => SeccompLogging::Off,
        None => SeccompLogging::Unchanged,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn of(text: &str) -> Option<SeccompLogging> {
        let file = UnitFile::parse(Path::new("/a.conf"), text.as_bytes());
        last_seccomp_log_line([&file]).map(|switch| switch.sets)
    }

    #[test]
    fn the_variable_is_one_of_a_list() {
        assert_eq!(of("[Manager]\nManagerEnvironment=A=B \"SYSTEMD_LOG_SECCOMP=1\"\n"), Some(SeccompLogging::On));
        assert_eq!(
            of("[Manager]\nManagerEnvironment=SYSTEMD_LOG_SECCOMP=1 SYSTEMD_LOG_SECCOMP=no"),
            Some(SeccompLogging::Off)
        );
        assert_eq!(of("[Manager]\nManagerEnvironment=SYSTEMD_LOG_SECCOMP=maybe"), Some(SeccompLogging::Unchanged));
        assert_eq!(of("[Manager]\nManagerEnvironment=SYSTEMD_LOG_SECCOMP_NOT=1 XSYSTEMD_LOG_SECCOMP=1"), None);
    }

    #[test]
    fn an_empty_line_takes_it_back_and_other_sections_say_nothing() {
        assert_eq!(
            of("[Manager]\nManagerEnvironment=SYSTEMD_LOG_SECCOMP=1\nManagerEnvironment=\n"),
            Some(SeccompLogging::Unchanged)
        );
        assert_eq!(of("[Service]\nManagerEnvironment=SYSTEMD_LOG_SECCOMP=1\n"), None);
        assert_eq!(of("[Manager]\nDefaultEnvironment=SYSTEMD_LOG_SECCOMP=1\n"), None);
    }
}
