//! Reads which call names this machine's libseccomp knows. systemd resolves names with libseccomp and ignores unknown
//! names, so no line of a unit can allow them.
//!
//! This module reads the library as a file and does not load it: its tables hold every name as a string.

use crate::syscalls::{CallNames, Groups};
use std::collections::HashSet;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// The limit of bytes read; version 2.6 has 0.2 MB.
const MOST: u64 = 8 << 20;

/// Names that every version knows. If one is missing, the file is no libseccomp.
const CERTAIN: [&str; 4] = ["read", "openat", "socket", "accept4"];

/// Returns the groups' calls that the libseccomp below a root does not know; empty if the library cannot be read.
#[must_use]
pub(crate) fn unresolved(root: &Path, groups: &Groups) -> CallNames {
    let Some(library) = library(root) else { return CallNames::new() };
    let strings: HashSet<&[u8]> = library.split(|byte| *byte == 0).collect();
    let knows = |call: &str| strings.contains(call.as_bytes());
    if !CERTAIN.into_iter().all(knows) {
        return CallNames::new();
    }
    let calls = groups.names().filter_map(|name| groups.calls(name)).flatten();
    calls.filter(|call| !knows(call)).cloned().collect()
}

/// Reads the library for this machine's native ABI.
fn library(root: &Path) -> Option<Vec<u8>> {
    let mut directories = vec![PathBuf::from("usr/lib64"), PathBuf::from("usr/lib")];
    let multiarch = |name: &str| name.starts_with(std::env::consts::ARCH) && name.contains("-linux-");
    let entries = std::fs::read_dir(root.join("usr/lib")).into_iter().flatten().flatten();
    let own = entries.filter(|entry| entry.file_name().to_str().is_some_and(multiarch));
    directories.extend(own.map(|entry| Path::new("usr/lib").join(entry.file_name())));
    directories.iter().find_map(|directory| {
        let mut bytes = Vec::new();
        let file = File::open(root.join(directory).join("libseccomp.so.2")).ok()?;
        file.take(MOST).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::syscalls::groups::GroupSource;

    fn unresolved_with(library: Option<&[u8]>) -> Vec<String> {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("usr/lib").join(format!("{}-linux-gnu", std::env::consts::ARCH));
        std::fs::create_dir_all(&directory).unwrap();
        if let Some(library) = library {
            std::fs::write(directory.join("libseccomp.so.2"), library).unwrap();
        }
        let groups =
            Groups::parse("@known\n    read\n    openat\n    mseal\n", GroupSource::Host("257".into())).unwrap();
        unresolved(root.path(), &groups).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn name_missing_in_library_is_unresolved() {
        assert_eq!(unresolved_with(Some(b"\x7fELF\0read\0openat\0socket\0accept4\0msealed\0")), ["mseal"]);
        assert_eq!(unresolved_with(Some(b"\x7fELF\0read\0openat\0socket\0accept4\0mseal\0")), [""; 0]);
    }

    #[test]
    fn unreadable_library_leaves_every_call_resolved() {
        assert_eq!(unresolved_with(None), [""; 0]);
        assert_eq!(unresolved_with(Some(b"")), [""; 0]);
        assert_eq!(unresolved_with(Some(b"\0read\0")), [""; 0]);
    }

    #[test]
    fn library_of_this_machine_knows_common_calls() {
        let groups = Groups::embedded();
        let unresolved = unresolved(Path::new("/"), &groups);
        for call in ["read", "clone3", "accept4", "setuid32", "statx", "pkey_alloc"] {
            assert!(!unresolved.contains(call), "{call}");
        }
    }
}
