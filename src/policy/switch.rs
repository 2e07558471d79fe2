//! Settings that are on or off, and what systemd does at a value that is neither.

use super::directive::Directive;
use super::lists::parse_boolean;
use super::unit_file::{Assignment, Origin, UnitFile};
use crate::audit::text::escape_excerpt;

/// A yes-or-no setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Switch {
    /// Its last valid value.
    pub on: bool,
    /// The line of that value.
    pub origin: Origin,
}

impl Switch {
    /// Parses a line of a switch; `None` if its value is neither yes nor no. `ProtectHostname=` also takes a host name
    /// after a colon, and `private`, which only unshares the name (systemd 257).
    pub(super) fn parse(directive: Directive, line: &Assignment) -> Option<Self> {
        let on = match directive {
            Directive::ProtectHostname => match line.value.split(':').next()? {
                "private" => false,
                mode => parse_boolean(mode)?,
            },
            _ => parse_boolean(&line.value)?,
        };
        Some(Self { on, origin: line.origin.clone() })
    }
}

/// Whether systemd stops reading a file at a line: it ignores other bad lines (`config_parse_bool` in
/// `load-fragment.c`, with `DynamicUser=` alone marked as fatal).
pub(super) fn is_refused(line: &Assignment) -> bool {
    *line.key == *Directive::DynamicUser.key() && Switch::parse(Directive::DynamicUser, line).is_none()
}

/// Says what systemd does at a value that is neither yes nor no. It loads no unit whose own file has a line that it
/// refuses.
pub(super) fn describe_bad_value(line: &Assignment, fragment: Option<&UnitFile>) -> String {
    let value = escape_excerpt(&line.value);
    if !is_refused(line) {
        return format!("{value} is neither yes nor no, ignored");
    }
    let is_in_fragment = fragment.is_some_and(|fragment| *fragment.path == *line.origin.path);
    let effect = if is_in_fragment { "systemd does not load the unit" } else { "systemd ignores the rest of the file" };
    format!("{}={value} is neither yes nor no: {effect}", line.key)
}

#[cfg(test)]
mod tests {
    use super::super::settings::Settings;
    use super::*;
    use std::path::Path;

    fn file(path: &str, lines: &str) -> UnitFile {
        UnitFile::parse(Path::new(path), format!("[Service]\n{lines}").as_bytes())
    }

    #[test]
    fn bad_value_of_dynamic_user_ends_the_drop_in_and_refuses_the_unit() {
        let bad = "LockPersonality=yes\nDynamicUser=maybe\nProtectClock=yes\n";
        let on = |settings: &Settings| {
            [Directive::LockPersonality, Directive::ProtectClock, Directive::ProtectKernelLogs]
                .map(|directive| settings.is_on(directive))
        };
        let dropins = vec![file("/x.d/10.conf", bad), file("/x.d/20.conf", "ProtectKernelLogs=yes\n")];
        let below = Settings::new(&"x.service".parse().unwrap(), Some(file("/x", "")), dropins);
        assert_eq!(on(&below), [true, false, true]);
        assert!(below.notes()[0].text.ends_with("is neither yes nor no: systemd ignores the rest of the file"));
        let own = Settings::new(&"x.service".parse().unwrap(), Some(file("/x", bad)), Vec::new());
        assert!(own.notes()[0].text.ends_with("is neither yes nor no: systemd does not load the unit"));
    }

    #[test]
    fn private_host_name_installs_no_filter() {
        let is_on = |value: &str| {
            let line = &file("/x", &format!("ProtectHostname={value}\n")).assignments[0];
            Switch::parse(Directive::ProtectHostname, line).map(|switch| switch.on)
        };
        assert_eq!(["private:x", "yes:x", "x"].map(is_on), [Some(false), Some(true), None]);
    }
}
