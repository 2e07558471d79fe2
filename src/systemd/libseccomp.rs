//! Reads which call names this machine's libseccomp knows. systemd resolves names with libseccomp and ignores unknown
//! names, so no line of a unit can allow them.
//!
//! This module reads the library as a file and does not load it: its tables hold every name as a string.

use super::installed::{abi_of_elf, library_dirs};
use crate::syscalls::{Abi, CallNames, Groups};
use crate::unit_files::rooted::RootedTree;
use std::collections::HashSet;
use std::path::Path;

/// The limit of bytes read; version 2.6 has 0.2 MB.
const MOST: u64 = 8 << 20;

/// The name under which programs load the library.
const LIBRARY: &str = "libseccomp.so.2";

/// Names that every version knows. If one is missing, the file is no libseccomp.
const CERTAIN: [&str; 4] = ["read", "openat", "socket", "accept4"];

/// Returns the calls, of the groups and of all ABIs, that the libseccomp below a root does not know; `None` if the library cannot be read. With
/// libraries of several ABIs, the one of the groups' systemd counts.
#[must_use]
pub(crate) fn unresolved(root: &Path, groups: &Groups) -> Option<CallNames> {
    let library = read_library(RootedTree::new(root), groups.native())?;
    let strings: HashSet<&[u8]> = library.split(|byte| *byte == 0).collect();
    let knows = |call: &str| strings.contains(call.as_bytes());
    if !CERTAIN.into_iter().all(knows) {
        return None;
    }
    let grouped = groups.names().filter_map(|name| groups.calls(name)).flatten().map(AsRef::as_ref);
    let further = Abi::all().flat_map(Abi::calls).map(|(_, call)| call);
    Some(grouped.chain(further).filter(|call| !knows(call)).map(Into::into).collect())
}

/// Whether a library of this ABI is in the usual places, or in the loader's cache (`ld.so(8)`).
#[must_use]
pub(crate) fn is_installed(root: &Path, native: Abi) -> bool {
    let tree = RootedTree::new(root);
    let cache = tree.read_start(Path::new("/etc/ld.so.cache"), MOST).unwrap_or_default();
    let is_cached = cache.split(|byte| *byte == 0).any(|text| text == LIBRARY.as_bytes());
    is_cached || read_library(tree, native).is_some()
}

/// Reads the library of an ABI.
fn read_library(tree: RootedTree<'_>, native: Abi) -> Option<Vec<u8>> {
    library_dirs(tree).iter().find_map(|dir| {
        let bytes = tree.read_start(&dir.join(LIBRARY), MOST).ok()?;
        (abi_of_elf(&bytes) == Some(native)).then_some(bytes)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::syscalls::groups::GroupSource;
    use crate::systemd::installed::elf_header;

    /// The calls that a library with these strings does not know.
    fn unresolved_with(strings: Option<&[u8]>) -> Option<Vec<String>> {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("usr/lib").join("x86_64-linux-gnu");
        std::fs::create_dir_all(&directory).unwrap();
        if let Some(strings) = strings {
            let library = [&elf_header(true, 62), strings].concat();
            std::fs::write(directory.join("libseccomp.so.2.5.4"), library).unwrap();
            std::os::unix::fs::symlink("libseccomp.so.2.5.4", directory.join("libseccomp.so.2")).unwrap();
        }
        let groups =
            Groups::parse("@known\n    read\n    openat\n    mseal\n", GroupSource::Host("257".into())).unwrap();
        let groups = groups.with_native(Abi::X86_64);
        let names = unresolved(root.path(), &groups)?;
        // The calls of other ABIs are not strings of this small library.
        assert!(names.contains("afs_syscall"), "a call of no group");
        Some(names.intersection(groups.calls("@known")?).map(ToString::to_string).collect())
    }

    #[test]
    fn name_missing_in_library_is_unresolved() {
        assert_eq!(
            unresolved_with(Some(b"\0read\0openat\0socket\0accept4\0msealed\0")),
            Some(vec!["mseal".to_owned()])
        );
        assert_eq!(unresolved_with(Some(b"\0read\0openat\0socket\0accept4\0mseal\0")), Some(Vec::new()));
    }

    #[test]
    fn missing_or_other_library_shows_nothing() {
        assert_eq!(unresolved_with(None), None);
        assert_eq!(unresolved_with(Some(b"")), None);
        assert_eq!(unresolved_with(Some(b"\0read\0")), None);
    }

    #[test]
    fn library_of_this_machine_knows_common_calls() {
        let groups = Groups::embedded();
        let unresolved = unresolved(Path::new("/"), &groups).unwrap_or_default();
        for call in ["read", "clone3", "accept4", "setuid32", "statx", "pkey_alloc"] {
            assert!(!unresolved.contains(call), "{call}");
        }
    }
}
