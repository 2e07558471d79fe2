//! The lines that systemd applies before it executes a unit's program, as they are in force.

use super::directive::{Directive, ValueKind};
use super::hardening_keys::SWITCHES;
use super::set_up_keys::has_one_value;
use super::settings::Settings;
use super::unit_file::Assignment;

impl Settings {
    /// Returns the lines of a key that are in force: the last one, or those of a list since it was last emptied. A key
    /// that ends in `*` stands for all that begin so.
    #[must_use]
    pub fn lines_in_force(&self, key: &str) -> Vec<&Assignment> {
        let is_key = |line: &&Assignment| match key.strip_suffix('*') {
            Some(start) => line.key.starts_with(start),
            None => *line.key == *key,
        };
        let is_word = |directive: Directive| {
            matches!(directive.spec().value, ValueKind::Word | ValueKind::Toggle | ValueKind::Switch)
        };
        let is_value = has_one_value(key) || SWITCHES.contains(&key) || Directive::from_key(key).is_some_and(is_word);
        let mut lines: Vec<&Assignment> = Vec::new();
        for line in self.assignments().filter(is_key) {
            if line.value.is_empty() || is_value {
                lines.clear();
            }
            if !line.value.is_empty() {
                lines.push(line);
            }
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::super::unit_file::UnitFile;
    use super::*;
    use std::path::Path;

    #[test]
    fn last_value_and_lines_since_an_empty_one_are_in_force() {
        let text = b"[Service]\nWorkingDirectory=/a\nWorkingDirectory=/b\nLoadCredential=a:/a\nLoadCredential=\n\
            LoadCredential=b:/b\nLoadCredential=c:/c\nGroup=x\nGroup=\nLimitNOFILE=9\nExecStart=/x\n";
        let file = UnitFile::parse(Path::new("/x.service"), text);
        let settings = Settings::new(&"x.service".parse().unwrap(), Some(file), Vec::new());
        let values =
            |key: &str| -> Vec<&str> { settings.lines_in_force(key).into_iter().map(|line| &*line.value).collect() };
        assert_eq!(values("WorkingDirectory"), ["/b"]);
        assert_eq!(values("LoadCredential"), ["b:/b", "c:/c"]);
        assert_eq!((values("Group"), values("Limit*")), (vec![], vec!["9"]));
        assert_eq!(settings.commands().len(), 1, "no other line is a command");
    }
}
