//! Places where no drop-in can be written, and the same settings for the system's own configuration.

use crate::policy::Directive;
use crate::units::UnitName;
use nix::sys::statvfs::{FsFlags, statvfs};
use std::path::{Path, PathBuf};

/// The store of NixOS, whose files no program may change, even where it is mounted writable.
const NIX_STORE: &str = "/nix/store";

/// A directory in which no file can be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReadOnlyPlace {
    /// The nearest existing directory.
    pub(crate) dir: PathBuf,
    /// Whether it is in the store of NixOS, and not only on a read-only file system.
    pub(crate) is_store: bool,
}

/// Returns the place at which a file cannot be made because the file system is read-only; `None` if it may be possible.
#[must_use]
pub(crate) fn find_read_only_place(path: &Path) -> Option<ReadOnlyPlace> {
    find_place(path, |dir| statvfs(dir).is_ok_and(|stat| stat.flags().contains(FsFlags::ST_RDONLY)))
}

/// Looks at the nearest directory above a file that exists.
fn find_place(path: &Path, is_read_only: impl Fn(&Path) -> bool) -> Option<ReadOnlyPlace> {
    let dir = path.ancestors().skip(1).find(|dir| dir.exists())?;
    let is_store = is_in_store(dir);
    (is_store || is_read_only(dir)).then(|| ReadOnlyPlace { dir: dir.to_owned(), is_store })
}

/// Whether a path leads into the store of NixOS.
#[must_use]
pub(crate) fn is_in_store(path: &Path) -> bool {
    path.canonicalize().is_ok_and(|real| real.starts_with(NIX_STORE))
}

/// Returns lines of a drop-in as options of a NixOS configuration. `None` for a unit whose type has no such options by
/// name.
///
/// NixOS writes each element of a list as a line of its own, and joins the lists of all modules; `mkAfter` makes these
/// elements the last (`unitOption` in `nixos/lib/systemd-unit-options.nix`).
#[must_use]
pub(crate) fn nixos_options(unit: &UnitName, is_user: bool, lines: &[String]) -> Option<Vec<String>> {
    let (kind, section) = match unit.suffix() {
        "service" => ("services", "serviceConfig"),
        "socket" => ("sockets", "socketConfig"),
        _ => return None,
    };
    let (stem, _) = unit.as_str().rsplit_once('.')?;
    let user = if is_user { "user." } else { "" };
    let attribute = if is_identifier(stem) { stem.to_owned() } else { quote(stem) };
    let prefix = format!("systemd.{user}{kind}.{attribute}.{section}");
    let mut keys: Vec<&str> = Vec::new();
    let assignments: Vec<(&str, &str)> = lines.iter().filter_map(|line| line.split_once('=')).collect();
    for (key, _) in &assignments {
        if !keys.contains(key) {
            keys.push(key);
        }
    }
    let option = |key: &str| {
        let values: Vec<String> =
            assignments.iter().filter(|(other, _)| *other == key).map(|(_, value)| quote(value)).collect();
        let is_list = Directive::from_key(key).is_some_and(|directive| directive.spec().value.is_list());
        match values.as_slice() {
            [.., last] if !is_list => format!("{prefix}.{key} = lib.mkForce {last};"),
            values => format!("{prefix}.{key} = lib.mkAfter [ {} ];", values.join(" ")),
        }
    };
    Some(keys.into_iter().map(option).collect())
}

/// Whether a name needs no quotes in an attribute path.
fn is_identifier(name: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "_-'".contains(c);
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && name.chars().all(is_part)
}

fn quote(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace("${", "\\${"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(unit: &str, lines: &[&str]) -> Vec<String> {
        let lines: Vec<String> = lines.iter().map(ToString::to_string).collect();
        nixos_options(&unit.parse().unwrap(), false, &lines).unwrap()
    }

    #[test]
    fn lists_are_extended_and_switches_replaced() {
        let lines = ["SystemCallFilter=uname", "SystemCallFilter=~mount:EPERM", "ProtectClock=no"];
        assert_eq!(
            options("web.service", &lines),
            [
                "systemd.services.web.serviceConfig.SystemCallFilter = lib.mkAfter [ \"uname\" \"~mount:EPERM\" ];",
                "systemd.services.web.serviceConfig.ProtectClock = lib.mkForce \"no\";",
            ]
        );
    }

    #[test]
    fn template_name_is_quoted() {
        let lines = ["RestrictAddressFamilies=AF_INET"];
        assert_eq!(
            options("echo@.service", &lines),
            ["systemd.services.\"echo@\".serviceConfig.RestrictAddressFamilies = lib.mkAfter [ \"AF_INET\" ];"]
        );
        assert_eq!(nixos_options(&"a.mount".parse().unwrap(), false, &[]), None);
    }

    #[test]
    fn writable_directory_is_not_read_only() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(find_read_only_place(&dir.path().join("a/b/c.conf")), None);
    }

    #[test]
    fn nearest_directory_that_exists_decides_whether_a_file_can_be_made() {
        let dir = tempfile::tempdir().unwrap();
        let (outer, inner) = (dir.path().to_owned(), dir.path().join("inner"));
        std::fs::create_dir(&inner).unwrap();
        let place = |path: &str, read_only: &Path| find_place(&dir.path().join(path), |found| found == read_only);
        let read_only = |dir: &Path| Some(ReadOnlyPlace { dir: dir.to_owned(), is_store: false });
        assert_eq!(place("a/b/c.conf", &outer), read_only(&outer));
        assert_eq!(place("inner/a/c.conf", &inner), read_only(&inner));
        assert_eq!((place("inner/c.conf", &outer), place("c.conf", &inner)), (None, None));
    }
}
