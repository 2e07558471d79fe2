//! Looks up users in the `/etc/passwd` below a root (`passwd(5)`), not through this machine's name services.

use super::rooted::RootedTree;
use std::path::{Path, PathBuf};

/// The uid of a user name.
#[must_use]
pub fn uid_of_user(root: &Path, name: &[u8]) -> Option<u32> {
    find_line(RootedTree::new(root), |fields| fields.first().copied() == Some(name), parse_uid)
}

/// The home directory of a uid; `None` if no line of the uid has an absolute path.
pub(crate) fn home_of_uid(tree: RootedTree<'_>, uid: u32) -> Option<PathBuf> {
    let home = |fields: &[&[u8]]| {
        let home = str::from_utf8(fields.get(5)?).ok()?;
        home.starts_with('/').then(|| PathBuf::from(home))
    };
    find_line(tree, |fields| parse_uid(fields) == Some(uid) && home(fields).is_some(), home)
}

fn find_line<T>(
    tree: RootedTree<'_>,
    is_it: impl Fn(&[&[u8]]) -> bool,
    value: impl FnOnce(&[&[u8]]) -> Option<T>,
) -> Option<T> {
    let passwd = tree.read(Path::new("/etc/passwd")).ok()?;
    let mut lines =
        passwd.split(|&byte| byte == b'\n').map(|line| line.split(|&byte| byte == b':').collect::<Vec<_>>());
    value(&lines.find(|fields| fields.len() > 1 && is_it(fields))?)
}

fn parse_uid(fields: &[&[u8]]) -> Option<u32> {
    str::from_utf8(fields.get(2)?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwd_gives_home_by_uid_and_uid_by_name() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("etc")).unwrap();
        let passwd = "root:x:0:0:root:/root:/bin/sh\nbad\na:x:1000:1000::/home/a:/bin/sh\nb:x:1001:1::home:\n";
        std::fs::write(root.path().join("etc/passwd"), passwd).unwrap();
        let tree = RootedTree::new(root.path());
        assert_eq!(home_of_uid(tree, 1000), Some("/home/a".into()));
        assert_eq!((home_of_uid(tree, 100), home_of_uid(tree, 1001)), (None, None));
        assert_eq!((uid_of_user(root.path(), b"a"), uid_of_user(root.path(), b"bad")), (Some(1000), None));
    }
}
