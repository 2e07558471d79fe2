//! Whether two paths lead to one file.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Returns whether two paths name the same file. Links count as the files that they lead to.
pub(crate) fn is_same_file(one: &Path, other: &Path) -> bool {
    let identity = |path: &Path| fs::metadata(path).ok().map(|file| (file.dev(), file.ino()));
    one == other || identity(one).is_some_and(|one| Some(one) == identity(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_compared_by_their_inodes() {
        let own = std::env::current_exe().unwrap();
        let copy = tempfile::NamedTempFile::new().unwrap();
        let link = Path::new("/proc/self/exe");
        assert!(is_same_file(link, &own));
        assert!(!is_same_file(link, copy.path()), "another file of this name");
        assert!(!is_same_file(Path::new("/none"), &own), "a missing file");
    }
}
