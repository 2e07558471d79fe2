//! The directories in which systemd looks for units, highest priority first (`systemd.unit(5)`, UNIT FILE LOAD PATH;
//! `path-lookup.c`), and the directories for new drop-ins.
//!
//! The `SYSTEMD_UNIT_PATH` and `XDG_*` variables of a manager are unknown here.

use super::passwd::Passwd;
use super::rooted::RootedTree;
use crate::units::{Manager, Unit};
use std::path::{Path, PathBuf};

const SYSTEM: [&str; 13] = [
    "/etc/systemd/system.control",
    "/run/systemd/system.control",
    "/run/systemd/transient",
    "/run/systemd/generator.early",
    "/etc/systemd/system",
    "/etc/systemd/system.attached",
    "/run/systemd/system",
    "/run/systemd/system.attached",
    "/run/systemd/generator",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    // Differs from the previous directory only if /lib is not a link to /usr/lib.
    "/lib/systemd/system",
    "/run/systemd/generator.late",
];

/// The search path of a manager. For a user manager without a home, the directories that all users share.
pub(crate) fn search_path(manager: Manager, home: Option<&Path>) -> Vec<PathBuf> {
    match manager {
        Manager::System => SYSTEM.iter().map(PathBuf::from).collect(),
        Manager::User(uid) => user_search_path(uid, home),
    }
}

fn user_search_path(uid: u32, home: Option<&Path>) -> Vec<PathBuf> {
    let run = PathBuf::from(format!("/run/user/{uid}/systemd"));
    let config = home.map(|home| home.join(".config/systemd"));
    let config = |name: &str| config.as_ref().map(|dir| dir.join(name));
    let shared = |path: &str| Some(PathBuf::from(path));
    [
        config("user.control"),
        Some(run.join("user.control")),
        Some(run.join("transient")),
        Some(run.join("generator.early")),
        config("user"),
        shared("/etc/xdg/systemd/user"),
        shared("/etc/systemd/user"),
        Some(run.join("user")),
        shared("/run/systemd/user"),
        Some(run.join("generator")),
        home.map(|home| home.join(".local/share/systemd/user")),
        shared("/usr/local/share/systemd/user"),
        shared("/usr/share/systemd/user"),
        shared("/usr/local/lib/systemd/user"),
        shared("/usr/lib/systemd/user"),
        Some(run.join("generator.late")),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The home directories that can contain a user's units: the given directory, else the directory in `/etc/passwd`, else
/// `/root` and every directory below `/home`.
pub(crate) fn home_dirs(tree: RootedTree<'_>, uid: u32, given: Option<&Path>) -> Vec<PathBuf> {
    if let Some(home) = given {
        return vec![home.to_path_buf()];
    }
    if let Some(home) = Passwd::load(tree.root()).home_of_uid(uid) {
        return vec![home];
    }
    let names = tree.list(Path::new("/home")).unwrap_or_default();
    names.into_iter().map(|(name, _)| Path::new("/home").join(name)).chain([PathBuf::from("/root")]).collect()
}

/// The unit or template whose drop-ins take an instance's remedies: the template, if it is the instance's unit file. Any
/// other unit takes its own.
#[must_use]
pub(crate) fn drop_in_owner(unit: &Unit, fragment: Option<&Path>) -> Unit {
    let file = fragment.and_then(Path::file_name).and_then(|file| file.to_str());
    let template = unit.name.template_name().filter(|template| file == Some(template.as_str()));
    let name = template.unwrap_or_else(|| unit.name.clone());
    Unit { manager: unit.manager, name }
}

/// Whether a directory of the search path has a unit file or drop-ins of this name. The directories that a manager gets
/// from its environment are not searched.
#[must_use]
pub(crate) fn has_own_files(root: &Path, unit: &Unit, home: &Path) -> bool {
    let tree = RootedTree::new(root);
    let home = matches!(unit.manager, Manager::User(_)).then_some(home);
    let has = |dir: &PathBuf, name: &str| tree.symlink_metadata(&dir.join(name)).is_ok();
    let (file, dir) = (unit.name.as_str(), format!("{}.d", unit.name));
    search_path(unit.manager, home).iter().any(|path| has(path, file) || has(path, &dir))
}

/// The path of a drop-in that survives a reboot. A user's unit has it below the home.
#[must_use]
pub fn dropin_path(unit: &Unit, home: &Path, file_name: &str) -> PathBuf {
    dropin_in_dir(&persistent_dir(unit.manager, home), unit, file_name)
}

/// The directory of a manager's own units and drop-ins that survive a reboot.
#[must_use]
pub fn persistent_dir(manager: Manager, home: &Path) -> PathBuf {
    match manager {
        Manager::System => PathBuf::from("/etc/systemd/system"),
        Manager::User(_) => home.join(".config/systemd/user"),
    }
}

/// The path of a drop-in that does not survive a reboot. The end of a user's last session also removes a user's
/// drop-in.
#[must_use]
pub fn runtime_dropin_path(unit: &Unit, file_name: &str) -> PathBuf {
    dropin_in_dir(&runtime_dir(unit.manager), unit, file_name)
}

/// The directory of a manager's units and drop-ins that do not survive a reboot.
#[must_use]
pub fn runtime_dir(manager: Manager) -> PathBuf {
    match manager {
        Manager::System => PathBuf::from("/run/systemd/system"),
        Manager::User(uid) => PathBuf::from(format!("/run/user/{uid}/systemd/user")),
    }
}

fn dropin_in_dir(dir: &Path, unit: &Unit, file_name: &str) -> PathBuf {
    dir.join(format!("{}.d", unit.name)).join(file_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_directories_come_before_administrator_directories() {
        let path = search_path(Manager::User(1000), Some(Path::new("/home/a")));
        let at = |directory: &str| path.iter().position(|dir| dir == Path::new(directory)).unwrap();
        assert!(at("/home/a/.config/systemd/user.control") < at("/run/user/1000/systemd/transient"));
        assert!(at("/home/a/.config/systemd/user") < at("/etc/systemd/user"));
        assert!(at("/etc/systemd/user") < at("/home/a/.local/share/systemd/user"));
        assert!(at("/home/a/.local/share/systemd/user") < at("/usr/lib/systemd/user"));
    }

    #[test]
    fn instance_of_a_template_file_shares_its_drop_ins() {
        let owner = |unit: &str, file: Option<&str>| {
            let unit = Unit { manager: Manager::System, name: unit.parse().unwrap() };
            drop_in_owner(&unit, file.map(Path::new)).name.to_string()
        };
        assert_eq!(owner("a@b.service", Some("/lib/systemd/system/a@.service")), "a@.service");
        assert_eq!(owner("a@b.service", Some("/etc/systemd/system/a@b.service")), "a@b.service");
        assert_eq!(owner("a@b.service", None), "a@b.service");
        assert_eq!(owner("a.service", Some("/etc/systemd/system/a.service")), "a.service");
    }

    #[test]
    fn new_dropin_path_is_below_etc_or_home_config() {
        let system = Unit { manager: Manager::System, name: "x.service".parse().unwrap() };
        let user = Unit { manager: Manager::User(1000), name: "x.service".parse().unwrap() };
        assert_eq!(
            dropin_path(&system, Path::new("/root"), "50-a.conf"),
            Path::new("/etc/systemd/system/x.service.d/50-a.conf")
        );
        assert_eq!(
            dropin_path(&user, Path::new("/home/a"), "50-a.conf"),
            Path::new("/home/a/.config/systemd/user/x.service.d/50-a.conf")
        );
    }
}
