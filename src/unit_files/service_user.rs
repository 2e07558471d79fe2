//! Reads the user of a unit's processes from the unit's files. A guess at a process's unit must not contradict this
//! user.

use super::passwd::Passwd;
use crate::policy::UnitFile;
use crate::policy::lists::parse_boolean;

/// The uids that systemd allocates for `DynamicUser=` (`DYNAMIC_UID_MIN` and `_MAX`).
const DYNAMIC: std::ops::RangeInclusive<u32> = 61_184..=65_519;

/// The uids of people who log in (`UID_MIN` and `UID_MAX` of `login.defs(5)`). Their processes can run any program.
const PEOPLE: std::ops::RangeInclusive<u32> = 1_000..=60_000;

/// The user of a unit's processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ServiceUser {
    /// Root at first; the process may change to any system user.
    Root,
    /// Any uid: the files do not determine the user.
    Unknown,
    Uid(u32),
    Dynamic,
}

impl ServiceUser {
    /// Reads the user from a section of the unit's files, which are in merge order.
    pub(crate) fn parse<'a>(users: &Passwd, files: impl Iterator<Item = &'a UnitFile>, section: &str) -> Self {
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
            (user, _) => match uid_of(users, user) {
                Some(uid) => Self::Uid(uid),
                None if dynamic => Self::Dynamic,
                // Another name service may know the name, or the name has a specifier (`%i`).
                None => Self::Unknown,
            },
        }
    }

    /// Whether a process of the unit can have this uid.
    pub(crate) fn can_have_uid(self, uid: u32) -> bool {
        match self {
            Self::Root => !PEOPLE.contains(&uid),
            Self::Unknown => true,
            Self::Uid(own) => own == uid,
            Self::Dynamic => DYNAMIC.contains(&uid),
        }
    }
}

fn uid_of(users: &Passwd, user: &str) -> Option<u32> {
    if user == "root" {
        return Some(0);
    }
    user.parse().ok().or_else(|| users.uid_of_user(user.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// The uids that a unit with these lines can have, out of those of root, man, a person and `DynamicUser=`.
    fn possible_uids(lines: &str) -> Vec<u32> {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("etc")).unwrap();
        std::fs::write(root.path().join("etc/passwd"), "root:x:0:0::/:\nman:x:6:12::/:\n").unwrap();
        let file =
            UnitFile::parse(Path::new("x.service"), format!("[Service]\n{lines}\n[Socket]\nUser=9\n").as_bytes());
        let user = ServiceUser::parse(&Passwd::load(root.path()), [&file].into_iter(), "Service");
        [0, 6, 1000, 65_000].into_iter().filter(|uid| user.can_have_uid(*uid)).collect()
    }

    #[test]
    fn unit_user_decides_possible_uids() {
        assert_eq!(possible_uids("User=man"), [6]);
        assert_eq!(possible_uids("User=man\nUser=1000"), [1000]);
        assert_eq!(possible_uids("User=root"), [0]);
        assert_eq!(possible_uids("DynamicUser=yes"), [65_000]);
        assert_eq!(possible_uids("DynamicUser=yes\nUser=new"), [65_000]);
        assert_eq!(possible_uids("DynamicUser=yes\nUser=man"), [6]);
        for system in ["", "User=man\nUser="] {
            assert_eq!(possible_uids(system), [0, 6, 65_000], "{system}");
        }
        for anybody in ["User=%i", "User=elsewhere"] {
            assert_eq!(possible_uids(anybody), [0, 6, 1000, 65_000], "{anybody}");
        }
    }
}
