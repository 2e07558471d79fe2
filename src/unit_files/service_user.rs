//! As whom a unit's processes run, as far as its files say: what a guess must not contradict.

use super::rooted::Tree;
use crate::policy::UnitFile;
use crate::policy::lists::parse_boolean;
use std::path::Path;

/// The uids that systemd gives to `DynamicUser=` (`DYNAMIC_UID_MIN` and `_MAX`).
const DYNAMIC: std::ops::RangeInclusive<u32> = 61_184..=65_519;

/// The uids of people who log in (`UID_MIN` and `UID_MAX` of `login.defs(5)`). What they run can pose as anything.
const PEOPLE: std::ops::RangeInclusive<u32> = 1_000..=60_000;

/// A unit's account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Account {
    /// Root at first, and then whoever of the system's users it makes itself.
    Root,
    /// Anybody: nothing tells.
    Any,
    Uid(u32),
    Dynamic,
}

impl Account {
    /// From the section that counts of a unit's files, in the order in which they merge.
    pub(crate) fn new<'a>(tree: Tree<'_>, files: impl Iterator<Item = &'a UnitFile>, section: &str) -> Self {
        let (mut user, mut dynamic) = ("", false);
        for line in files.flat_map(|file| &file.assignments).filter(|line| &*line.section == section) {
            match &*line.key {
                "User" => user = &line.value,
                "DynamicUser" => dynamic = parse_boolean(&line.value).unwrap_or(dynamic),
                _ => {}
            }
        }
        match (user, dynamic) {
            ("", true) => Self::Dynamic,
            ("", false) => Self::Root,
            (user, _) => match uid_of(tree, user) {
                Some(uid) => Self::Uid(uid),
                None if dynamic => Self::Dynamic,
                // It may be known elsewhere, or stand for something (`%i`).
                None => Self::Any,
            },
        }
    }

    /// Whether a process of this uid can be one of the unit's.
    pub(crate) fn may_be(self, uid: u32) -> bool {
        match self {
            Self::Root => !PEOPLE.contains(&uid),
            Self::Any => true,
            Self::Uid(own) => own == uid,
            Self::Dynamic => DYNAMIC.contains(&uid),
        }
    }
}

/// The uid that the root's `/etc/passwd` gives a user.
fn uid_of(tree: Tree<'_>, user: &str) -> Option<u32> {
    if let Ok(uid) = user.parse() {
        return Some(uid);
    }
    if user == "root" {
        return Some(0);
    }
    let passwd = tree.read(Path::new("/etc/passwd")).ok()?;
    let mut lines = passwd.split(|&byte| byte == b'\n');
    let line = lines.find(|line| line.strip_prefix(user.as_bytes()).is_some_and(|rest| rest.starts_with(b":")))?;
    str::from_utf8(line.split(|&byte| byte == b':').nth(2)?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of these uids a unit's processes may have: root, man, a person, a dynamic one.
    fn may_be(lines: &str) -> Vec<u32> {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("etc")).unwrap();
        std::fs::write(root.path().join("etc/passwd"), "root:x:0:0::/:\nman:x:6:12::/:\n").unwrap();
        let file =
            UnitFile::parse(Path::new("x.service"), format!("[Service]\n{lines}\n[Socket]\nUser=9\n").as_bytes());
        let account = Account::new(Tree::new(root.path()), [&file].into_iter(), "Service");
        [0, 6, 1000, 65_000].into_iter().filter(|uid| account.may_be(*uid)).collect()
    }

    #[test]
    fn a_unit_runs_as_its_user() {
        assert_eq!(may_be("User=man"), [6]);
        assert_eq!(may_be("User=man\nUser=1000"), [1000]);
        assert_eq!(may_be("User=root"), [0]);
        assert_eq!(may_be("DynamicUser=yes"), [65_000]);
        assert_eq!(may_be("DynamicUser=yes\nUser=new"), [65_000]);
        assert_eq!(may_be("DynamicUser=yes\nUser=man"), [6]);
        for system in ["", "User=man\nUser="] {
            assert_eq!(may_be(system), [0, 6, 65_000], "{system}");
        }
        for anybody in ["User=%i", "User=elsewhere"] {
            assert_eq!(may_be(anybody), [0, 6, 1000, 65_000], "{anybody}");
        }
    }
}
