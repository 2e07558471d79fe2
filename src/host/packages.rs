//! The package that a file came with, by the database of dpkg.

use crate::unit_files::rooted::RootedTree;
use std::path::Path;
use std::time::{Duration, Instant};

/// The directory with the list of files of each package (`dpkg-query(1)`).
const LISTS: &str = "/var/lib/dpkg/info";

/// The limits on lists, on the bytes of one and of all, and on the time.
const MOST_LISTS: usize = 16_384;
const LARGEST_LIST: u64 = 8 << 20;
const MOST_BYTES: usize = 128 << 20;
const LONGEST: Duration = Duration::from_millis(500);

/// Returns the package of each path, in order. `None` for a file that no package has, on a machine without dpkg, and after a
/// limit was reached.
pub(crate) fn find_packages(tree: RootedTree<'_>, paths: &[&[u8]]) -> Vec<Option<Box<str>>> {
    let mut found = vec![None; paths.len()];
    let lines: Vec<Vec<Vec<u8>>> = paths.iter().map(|path| lines_of_path(path)).collect();
    let (until, mut bytes) = (Instant::now() + LONGEST, 0);
    let names = tree.list(Path::new(LISTS)).unwrap_or_default();
    for (name, _) in names.iter().take(MOST_LISTS) {
        let Some(package) = name.strip_suffix(".list") else { continue };
        if found.iter().all(Option::is_some) || bytes > MOST_BYTES || Instant::now() > until {
            break;
        }
        let Ok(list) = tree.read_start(&Path::new(LISTS).join(name), LARGEST_LIST) else { continue };
        bytes += list.len();
        let list = [b"\n", &list[..], b"\n"].concat();
        for (found, lines) in found.iter_mut().zip(&lines).filter(|(found, _)| found.is_none()) {
            if lines.iter().any(|line| memchr::memmem::find(&list, line).is_some()) {
                // Packages of several architectures have theirs in the name.
                *found = Some(package.split(':').next().unwrap_or(package).into());
            }
        }
    }
    found
}

/// Returns the lines that name a path in a list. Lists can have the path without `/usr`, since `/lib` and others lead there.
fn lines_of_path(path: &[u8]) -> Vec<Vec<u8>> {
    let is_plain = path.starts_with(b"/") && !path.contains(&b'\n');
    let without_usr = path.strip_prefix(b"/usr").filter(|rest| rest.starts_with(b"/"));
    let paths = [Some(path), without_usr].into_iter().flatten().filter(|_| is_plain);
    paths.map(|path| [b"\n", path, b"\n"].concat()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn package_is_the_one_whose_list_has_the_path() {
        let root = tempfile::tempdir().unwrap();
        let lists = root.path().join(&LISTS[1..]);
        let find = |paths: &[&str]| {
            let paths: Vec<&[u8]> = paths.iter().map(|path| path.as_bytes()).collect();
            let found = find_packages(RootedTree::new(root.path()), &paths);
            found.into_iter().map(|name| name.map(Into::into)).collect::<Vec<Option<String>>>()
        };
        assert_eq!(find(&["/usr/bin/a"]), [None], "no dpkg");
        fs::create_dir_all(&lists).unwrap();
        fs::write(lists.join("libc6:amd64.list"), "/.\n/lib\n/lib/libc.so.6\n").unwrap();
        fs::write(lists.join("a.list"), "/.\n/usr\n/usr/bin\n/usr/bin/a\n/usr/bin/a-b").unwrap();
        fs::write(lists.join("a.md5sums"), "\n/usr/bin/other\n").unwrap();
        let some = |name: &str| Some(name.to_owned());
        assert_eq!(
            find(&[
                "/usr/bin/a",
                "/usr/lib/libc.so.6",
                "/usr/bin/a-b",
                "/usr/bin/other",
                "usr",
                "/usr/bi",
                "/\n/usr\n/"
            ]),
            [some("a"), some("libc6"), some("a"), None, None, None, None]
        );
    }
}
