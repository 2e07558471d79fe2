//! Looks up users in the `/etc/passwd` below a root (`passwd(5)`), not through this machine's name services.

use super::rooted::RootedTree;
use std::path::{Path, PathBuf};

/// The users of a machine, read once.
#[derive(Debug, Clone, Default)]
pub struct Passwd {
    text: Vec<u8>,
}

impl Passwd {
    /// Reads the `/etc/passwd` below a root. A file that cannot be read, or is larger than 1 MiB, counts as empty.
    #[must_use]
    pub fn load(root: &Path) -> Self {
        Self { text: RootedTree::new(root).read(Path::new("/etc/passwd")).unwrap_or_default() }
    }

    /// The uid of a user name.
    #[must_use]
    pub fn uid_of_user(&self, name: &[u8]) -> Option<u32> {
        self.find_line(|fields| fields.first().copied() == Some(name), parse_uid)
    }

    /// The home directory of a uid; `None` if no line of the uid has an absolute path.
    pub(crate) fn home_of_uid(&self, uid: u32) -> Option<PathBuf> {
        let home = |fields: &[&[u8]]| {
            let home = str::from_utf8(fields.get(5)?).ok()?;
            home.starts_with('/').then(|| PathBuf::from(home))
        };
        self.find_line(|fields| parse_uid(fields) == Some(uid) && home(fields).is_some(), home)
    }

    fn find_line<T>(&self, is_it: impl Fn(&[&[u8]]) -> bool, value: impl FnOnce(&[&[u8]]) -> Option<T>) -> Option<T> {
        let mut lines =
            self.text.split(|&byte| byte == b'\n').map(|line| line.split(|&byte| byte == b':').collect::<Vec<_>>());
        value(&lines.find(|fields| fields.len() > 1 && is_it(fields))?)
    }
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
        let users = Passwd::load(root.path());
        std::fs::remove_file(root.path().join("etc/passwd")).unwrap();
        assert_eq!(users.home_of_uid(1000), Some("/home/a".into()), "the file is read only once");
        assert_eq!((users.home_of_uid(100), users.home_of_uid(1001)), (None, None));
        assert_eq!((users.uid_of_user(b"a"), users.uid_of_user(b"bad")), (Some(1000), None));
    }
}
