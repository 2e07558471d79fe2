//! Which lines of a unit's files count: those in the section of its type, with a key that a policy reads, each under
//! the key's name now. A key that systemd does not know leaves a note if it resembles a directive's.

use super::directive::Directive;
use super::exec_command;
use super::hardening_keys::{current_key, is_hardening_key};
use super::program_settings;
use super::set_up_keys::is_set_up_key;
use super::switch::is_refused;
use super::unit_file::{Assignment, FileNote, UnitFile};
use crate::audit::text::escape_excerpt;
use crate::units::UnitName;

/// Returns the section of a unit file that holds the settings of processes (`systemd.exec(5)`); empty for a unit
/// without processes.
pub(crate) fn exec_section(name: &UnitName) -> &'static str {
    match name.suffix() {
        "service" => "Service",
        "socket" => "Socket",
        "mount" => "Mount",
        "swap" => "Swap",
        _ => "",
    }
}

/// Keeps the lines of a file that count.
pub(super) fn select_lines(mut file: UnitFile, section: &str) -> UnitFile {
    file.assignments.retain(|line| &*line.section == section);
    for line in &mut file.assignments {
        let now = current_key(&line.key);
        if now != &*line.key {
            line.key = now.into();
        }
    }
    file.notes.extend(file.assignments.iter().filter_map(describe_mistyped_key));
    file.assignments.retain(|line| is_relevant(&line.key));
    file
}

/// Drops the lines of a drop-in after one at which systemd stops. Its earlier lines count, and so do other drop-ins.
pub(super) fn end_at_refused_line(mut dropin: UnitFile) -> UnitFile {
    if let Some(at) = dropin.assignments.iter().position(is_refused) {
        dropin.assignments.truncate(at + 1);
    }
    dropin
}

/// Whether a policy reads the lines with a key.
fn is_relevant(key: &str) -> bool {
    Directive::from_key(key).is_some()
        || exec_command::KEYS.contains(&key)
        || program_settings::KEYS.contains(&key)
        || is_set_up_key(key)
        || is_hardening_key(key)
}

/// Notes a key that systemd does not know, if it resembles a directive's.
fn describe_mistyped_key(line: &Assignment) -> Option<FileNote> {
    /// How many first letters a mistyped key has right, and in how many places it differs at most.
    const SAME_START: usize = 3;
    const MOST_MISTAKES: usize = 2;
    let key = &*line.key;
    if is_relevant(key) {
        return None;
    }
    let is_near = |known: &&str| {
        known.len().abs_diff(key.len()) <= MOST_MISTAKES && known.get(..SAME_START) == key.get(..SAME_START)
    };
    let distances = Directive::ALL.iter().map(|directive| directive.key()).filter(is_near);
    let distances = distances.map(|known| (strsim::osa_distance(key, known), known));
    let (_, meant) = distances.filter(|(distance, _)| *distance <= MOST_MISTAKES).min()?;
    Some(FileNote::at(&line.origin, format!("{}= is unknown, ignored: did you mean {meant}=?", escape_excerpt(key))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn select(unit: &str, text: &str) -> UnitFile {
        select_lines(UnitFile::parse(Path::new("x.service"), text.as_bytes()), exec_section(&unit.parse().unwrap()))
    }

    #[test]
    fn mistyped_key_is_noted() {
        let noted = |line: &str| {
            let file = select("x.service", &format!("[Service]\n{line}\n"));
            file.notes.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let family = "x.service:2: RestrictAddressFamiles= is unknown, ignored: did you mean RestrictAddressFamilies=?";
        assert_eq!(noted("RestrictAddressFamiles=AF_INET"), [family]);
        let nearest = "x.service:2: ExecPath= is unknown, ignored: did you mean ExecPaths=?";
        assert_eq!(noted("ExecPath=/a"), [nearest]);
        for line in ["ProtectSystem=", "PrivateIPC=yes", "ReadOnlyDirectories=/a", "LogsDirectoryMode=7"] {
            assert_eq!(noted(line), [""; 0], "{line}");
        }
    }

    #[test]
    fn lines_outside_the_section_of_the_unit_type_are_ignored() {
        let text = "[Unit]\nProtectClock=yes\n[Socket]\nProtectClock=yes\n";
        let counted =
            |unit: &str| select(unit, text).assignments.iter().map(|line| line.origin.line).collect::<Vec<_>>();
        assert_eq!(["x.service", "x.socket", "x.timer"].map(counted), [vec![], vec![4], vec![]]);
    }
}
