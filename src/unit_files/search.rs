//! Where systemd looks for units, highest priority first (`systemd.unit(5)`, UNIT FILE LOAD PATH;
//! `path-lookup.c`). `SYSTEMD_UNIT_PATH` and the `XDG_*` variables of a manager are not known here.

use super::rooted::Tree;
use crate::units::Manager;
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
    // The same directory, but where /lib is no link to /usr/lib.
    "/lib/systemd/system",
    "/run/systemd/generator.late",
];

/// The search path of a manager; of a user's without a home, what all users share.
pub(crate) fn path(manager: Manager, home: Option<&Path>) -> Vec<PathBuf> {
    match manager {
        Manager::System => SYSTEM.iter().map(PathBuf::from).collect(),
        Manager::User(uid) => user(uid, home),
    }
}

fn user(uid: u32, home: Option<&Path>) -> Vec<PathBuf> {
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

/// The homes a user's units may be in: the one given, else the one in `/etc/passwd`, else every one
/// below `/home` and root's.
pub(crate) fn homes(tree: Tree<'_>, uid: u32, given: Option<&Path>) -> Vec<PathBuf> {
    if let Some(home) = given {
        return vec![home.to_path_buf()];
    }
    if let Some(home) = tree.read(Path::new("/etc/passwd")).ok().and_then(|passwd| home_of(&passwd, uid)) {
        return vec![home];
    }
    let names = tree.list(Path::new("/home")).unwrap_or_default();
    names.into_iter().map(|(name, _)| Path::new("/home").join(name)).chain([PathBuf::from("/root")]).collect()
}

/// The home directory of a uid (`passwd(5)`).
fn home_of(passwd: &[u8], uid: u32) -> Option<PathBuf> {
    let uid = uid.to_string();
    String::from_utf8_lossy(passwd).lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let home = *fields.get(5).filter(|home| home.starts_with('/'))?;
        (*fields.get(2)? == uid).then(|| PathBuf::from(home))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_is_found_by_uid() {
        let passwd = b"root:x:0:0:root:/root:/bin/sh\nbad\na:x:1000:1000::/home/a:/bin/sh\n";
        assert_eq!(home_of(passwd, 1000), Some("/home/a".into()));
        assert_eq!(home_of(passwd, 100), None);
    }

    #[test]
    fn a_users_own_directories_come_before_the_administrators() {
        let path = path(Manager::User(1000), Some(Path::new("/home/a")));
        let at = |wanted: &str| path.iter().position(|dir| dir == Path::new(wanted)).unwrap();
        assert!(at("/home/a/.config/systemd/user.control") < at("/run/user/1000/systemd/transient"));
        assert!(at("/home/a/.config/systemd/user") < at("/etc/systemd/user"));
        assert!(at("/etc/systemd/user") < at("/home/a/.local/share/systemd/user"));
        assert!(at("/home/a/.local/share/systemd/user") < at("/usr/lib/systemd/user"));
    }
}
