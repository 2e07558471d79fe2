//! Paths of cgroups, and `/proc/PID/cgroup`.

use crate::units::cgroup::{Placement, place, place_path, scope_path};
use crate::units::{Manager, Unit};

/// Places a process by bytes that it may have chosen in part.
pub(super) fn check(input: &[u8]) {
    check_path(input, &place_path(input));
    let _ = scope_path(input);
    let line = [b"0::", input, b"\n"].concat();
    let is_one_line = !input.contains(&b'\n');
    if is_one_line {
        // The root alone can be overruled by another hierarchy, and this text has none.
        assert_eq!(place(&line), place_path(input), "one line is placed by its path");
    }
    if let Placement::Unit(unit) = place(input) {
        let paths = input.split(|byte| *byte == b'\n').filter_map(|line| line.splitn(3, |byte| *byte == b':').nth(2));
        assert!(paths.into_iter().any(|path| names_unit(path, &unit)), "{unit:?} stands in no line");
    }
}

fn check_path(path: &[u8], placement: &Placement) {
    if let Placement::Unit(unit) = placement {
        assert!(names_unit(path, unit), "{unit:?} is the manager's own level");
    }
}

/// Whether a path has a level for the unit, below nothing but slices and, for a user's unit, the user's manager.
fn names_unit(path: &[u8], unit: &Unit) -> bool {
    let path = path.strip_suffix(b" (deleted)").unwrap_or(path);
    let Ok(path) = str::from_utf8(path) else {
        // A level after the unit may be of any bytes.
        let valid = path.utf8_chunks().next().map_or("", |chunk| chunk.valid());
        return names_unit(valid.rsplit_once('/').map_or("", |(levels, _)| levels).as_bytes(), unit);
    };
    let levels = path.split('/').skip(1).map(|level| level.strip_prefix('_').unwrap_or(level));
    let mut other = levels.skip_while(|level| is_slice(level));
    match unit.manager {
        Manager::System => other.next() == Some(unit.name.as_str()),
        Manager::User(uid) => {
            other.next() == Some(&format!("user@{uid}.service"))
                && other.find(|level| !is_slice(level)) == Some(unit.name.as_str())
        }
    }
}

fn is_slice(level: &str) -> bool {
    level.rsplit_once('.').is_some_and(|(_, suffix)| suffix == "slice")
}
