//! Boolean variables in a manager's own environment that decide about its filters. `ManagerEnvironment=` sets that
//! environment (`systemd-system.conf(5)`); systemd's `docs/ENVIRONMENT.md` lists the variables.

use super::lists::parse_boolean;
use super::unit_file::{Assignment, Origin, UnitFile};
use super::words::{MOST_WORDS, Split, split};

/// A variable that a manager reads from its own environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ManagerVariable {
    /// Whether the kernel logs the calls that filters refuse with an error.
    LogSeccomp,
    /// Whether the manager installs filters at all (since systemd 247).
    Seccomp,
}

impl ManagerVariable {
    /// The variable's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::LogSeccomp => "SYSTEMD_LOG_SECCOMP",
            Self::Seccomp => "SYSTEMD_SECCOMP",
        }
    }
}

/// A line of a manager's configuration that sets or clears a variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VariableLine {
    /// The line's effect.
    pub sets: VariableEffect,
    /// The file and line.
    pub origin: Origin,
}

/// The effect of a line on a variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VariableEffect {
    /// The variable is true.
    On,
    /// The variable is false.
    Off,
    /// The variable keeps its earlier value: the line empties the list, or sets neither yes nor no.
    Unchanged,
}

/// Returns the last line that sets or clears a variable. The files are in the order in which systemd reads them.
#[must_use]
pub(crate) fn last_variable_line<'a>(
    files: impl IntoIterator<Item = &'a UnitFile>,
    variable: ManagerVariable,
) -> Option<VariableLine> {
    let is_environment = |line: &&Assignment| &*line.section == "Manager" && &*line.key == "ManagerEnvironment";
    let variable_line = |line: &Assignment| {
        let sets =
            if line.value.is_empty() { VariableEffect::Unchanged } else { parse_variable(&line.value, variable)? };
        Some(VariableLine { sets, origin: line.origin.clone() })
    };
    files.into_iter().flat_map(|file| &file.assignments).filter(is_environment).filter_map(variable_line).last()
}

/// Parses a list of `NAME=VALUE`. Returns the effect of the last assignment to a variable, if there is one.
#[must_use]
pub(crate) fn parse_variable(list: &str, variable: ManagerVariable) -> Option<VariableEffect> {
    let words = split(list, Split::Command, MOST_WORDS).words;
    words.iter().rev().find_map(|word| parse_assignment(word, variable))
}

/// Parses one `NAME=VALUE`; `None` if it sets another variable.
#[must_use]
pub(crate) fn parse_assignment(assignment: &str, variable: ManagerVariable) -> Option<VariableEffect> {
    let value = assignment.strip_prefix(variable.name())?.strip_prefix('=')?;
    Some(match parse_boolean(value) {
        Some(true) => VariableEffect::On,
        Some(false) => VariableEffect::Off,
        None => VariableEffect::Unchanged,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn logging(text: &str) -> Option<VariableEffect> {
        let file = UnitFile::parse(Path::new("/a.conf"), text.as_bytes());
        last_variable_line([&file], ManagerVariable::LogSeccomp).map(|line| line.sets)
    }

    #[test]
    fn variable_is_read_from_a_list_of_assignments() {
        assert_eq!(logging("[Manager]\nManagerEnvironment=A=B \"SYSTEMD_LOG_SECCOMP=1\"\n"), Some(VariableEffect::On));
        assert_eq!(
            logging("[Manager]\nManagerEnvironment=SYSTEMD_LOG_SECCOMP=1 SYSTEMD_LOG_SECCOMP=no"),
            Some(VariableEffect::Off)
        );
        assert_eq!(logging("[Manager]\nManagerEnvironment=SYSTEMD_LOG_SECCOMP=maybe"), Some(VariableEffect::Unchanged));
        assert_eq!(logging("[Manager]\nManagerEnvironment=SYSTEMD_LOG_SECCOMP_NOT=1 XSYSTEMD_LOG_SECCOMP=1"), None);
    }

    #[test]
    fn each_variable_has_lines_of_its_own() {
        let file = UnitFile::parse(Path::new("/a.conf"), b"[Manager]\nManagerEnvironment=SYSTEMD_SECCOMP=0\n");
        let sets = |variable| last_variable_line([&file], variable).map(|line| line.sets);
        assert_eq!(sets(ManagerVariable::Seccomp), Some(VariableEffect::Off));
        assert_eq!(sets(ManagerVariable::LogSeccomp), None);
    }

    #[test]
    fn empty_line_leaves_the_variable_and_other_sections_are_ignored() {
        assert_eq!(
            logging("[Manager]\nManagerEnvironment=SYSTEMD_LOG_SECCOMP=1\nManagerEnvironment=\n"),
            Some(VariableEffect::Unchanged)
        );
        assert_eq!(logging("[Service]\nManagerEnvironment=SYSTEMD_LOG_SECCOMP=1\n"), None);
        assert_eq!(logging("[Manager]\nDefaultEnvironment=SYSTEMD_LOG_SECCOMP=1\n"), None);
    }
}
