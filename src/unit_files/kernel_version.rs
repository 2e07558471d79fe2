//! The version of the kernel that runs a machine.

use super::rooted::RootedTree;
use std::path::Path;

/// Reads major and minor version of the running kernel.
pub(crate) fn read_kernel_version(tree: RootedTree<'_>) -> Option<(u32, u32)> {
    let release = tree.read(Path::new("/proc/sys/kernel/osrelease")).ok()?;
    parse(std::str::from_utf8(&release).ok()?)
}

/// Parses `6.18.44-cloud` to 6 and 18.
fn parse(release: &str) -> Option<(u32, u32)> {
    let (major, rest) = release.split_once('.')?;
    let minor = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn major_and_minor_version_are_read_from_a_release() {
        assert_eq!(parse("6.18.44-fc-v595\n"), Some((6, 18)));
        assert_eq!(parse("5.15.0-1-amd64"), Some((5, 15)));
        assert_eq!(parse("6.1-cloud"), Some((6, 1)));
        assert_eq!(parse("7.0-rc1"), Some((7, 0)));
        assert_eq!((parse("6"), parse("x.y"), parse("")), (None, None, None));
    }
}
