//! Whether a manager logs the calls that its units' filters refuse with an error. The manager logs them if its own
//! environment has the variable `SYSTEMD_LOG_SECCOMP`. `ManagerEnvironment=` sets that environment
//! (`systemd-system.conf(5)`).

use super::lists::parse_boolean;
use super::unit_file::{Assignment, Origin, UnitFile};
use super::words::{Split, split};

/// The name of the variable (systemd's `docs/ENVIRONMENT.md`).
pub(crate) const VARIABLE: &str = "SYSTEMD_LOG_SECCOMP";

/// The limit on words read from one line.
const MOST_WORDS: usize = 1_000;

/// A line of a manager's configuration that sets or clears the variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeccompLogLine {
    /// The line's effect.
    pub sets: SeccompLogging,
    /// The file and line.
    pub origin: Origin,
}

/// The effect of a line on the logging of refusals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeccompLogging {
    /// The manager logs refusals.
    On,
    /// The manager does not log refusals.
    Off,
    /// The variable keeps its earlier value: the line empties the list, or sets neither yes nor no.
    Unchanged,
}

/// Returns the last line that sets or clears the variable. The files are in the order in which systemd reads them.
#[must_use]
pub(crate) fn last_seccomp_log_line<'a>(files: impl IntoIterator<Item = &'a UnitFile>) -> Option<SeccompLogLine> {
    let is_environment = |line: &&Assignment| &*line.section == "Manager" && &*line.key == "ManagerEnvironment";
    let log_line = |line: &Assignment| {
        let sets = if line.value.is_empty() { SeccompLogging::Unchanged } else { parse_seccomp_logging(&line.value)? };
        Some(SeccompLogLine { sets, origin: line.origin.clone() })
    };
    files.into_iter().flat_map(|file| &file.assignments).filter(is_environment).filter_map(log_line).last()
}

/// Parses a list of `NAME=VALUE`. Returns the effect of the last assignment to the variable, if there is one.
#[must_use]
pub(crate) fn parse_seccomp_logging(list: &str) -> Option<SeccompLogging> {
    let words = split(list, Split::Command, MOST_WORDS).words;
    let value = words.iter().rev().find_map(|word| word.strip_prefix(VARIABLE)?.strip_prefix('='))?;
    Some(match parse_boolean(value) {
        Some(true) => SeccompLogging::On,
        Some(false) => SeccompLogging::Off,
        None => SeccompLogging::Unchanged,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn logging(text: &str) -> Option<SeccompLogging> {
        let file = UnitFile::parse(Path::new("/a.conf"), text.as_bytes());
        last_seccomp_log_line([&file]).map(|line| line.sets)
    }

    #[test]
    fn variable_is_read_from_a_list_of_assignments() {
        assert_eq!(logging("[Manager]\nManagerEnvironment=A=B \"SYSTEMD_LOG_SECCOMP=1\"\n"), Some(SeccompLogging::On));
        assert_eq!(
            logging("[Manager]\nManagerEnvironment=SYSTEMD_LOG_SECCOMP=1 SYSTEMD_LOG_SECCOMP=no"),
            Some(SeccompLogging::Off)
        );
        assert_eq!(logging("[Manager]\nManagerEnvironment=SYSTEMD_LOG_SECCOMP=maybe"), Some(SeccompLogging::Unchanged));
        assert_eq!(logging("[Manager]\nManagerEnvironment=SYSTEMD_LOG_SECCOMP_NOT=1 XSYSTEMD_LOG_SECCOMP=1"), None);
    }

    #[test]
    fn empty_line_leaves_the_variable_and_other_sections_are_ignored() {
        assert_eq!(
            logging("[Manager]\nManagerEnvironment=SYSTEMD_LOG_SECCOMP=1\nManagerEnvironment=\n"),
            Some(SeccompLogging::Unchanged)
        );
        assert_eq!(logging("[Service]\nManagerEnvironment=SYSTEMD_LOG_SECCOMP=1\n"), None);
        assert_eq!(logging("[Manager]\nDefaultEnvironment=SYSTEMD_LOG_SECCOMP=1\n"), None);
    }
}
