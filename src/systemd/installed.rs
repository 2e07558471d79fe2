//! Reads from the files below a root which systemd is installed there: its version and its ABI.

use crate::syscalls::{Abi, Arch};
use crate::unit_files::rooted::{EntryKind, RootedTree};
use std::path::{Path, PathBuf};

/// The directories of libraries. Each can have one more directory for each ABI (`x86_64-linux-gnu`).
const LIBRARIES: [&str; 4] = ["/usr/lib64", "/usr/lib", "/lib64", "/lib"];

/// The systemd that is installed below a root.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct InstalledSystemd {
    /// Its version, as in the name of its shared library: `252`, or `253.7-1.fc38`.
    pub(crate) version: Option<Box<str>>,
    /// The ABI for which it is built.
    pub(crate) native: Option<Abi>,
}

impl InstalledSystemd {
    /// Reads the name and the ELF header of systemd's shared library.
    #[must_use]
    pub(crate) fn find(root: &Path) -> Self {
        let tree = RootedTree::new(root);
        library_dirs(tree).iter().find_map(|dir| Self::find_in(tree, &dir.join("systemd"))).unwrap_or_default()
    }

    fn find_in(tree: RootedTree<'_>, dir: &Path) -> Option<Self> {
        let files = tree.list(dir).ok()?;
        files.iter().find_map(|(file, _)| {
            let version = file.strip_prefix("libsystemd-shared-")?.strip_suffix(".so")?;
            let is_plain = version.starts_with(|c: char| c.is_ascii_digit())
                && version.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.+~^".contains(&byte));
            let header = tree.read_start(&dir.join(file), ELF_HEADER).unwrap_or_default();
            is_plain.then(|| Self { version: Some(version.into()), native: abi_of_elf(&header) })
        })
    }
}

/// Returns the directories below a root that can hold libraries, without those that are missing or links.
pub(super) fn library_dirs(tree: RootedTree<'_>) -> Vec<PathBuf> {
    let mut dirs: Vec<PathBuf> = LIBRARIES.iter().map(PathBuf::from).collect();
    for library in &LIBRARIES {
        let entries = tree.list(Path::new(library)).unwrap_or_default();
        let multiarch = |(name, kind): &&(String, EntryKind)| *kind == EntryKind::Other && name.contains("-linux-");
        dirs.extend(entries.iter().filter(multiarch).map(|(name, _)| Path::new(library).join(name)));
    }
    dirs
}

/// How many bytes of an ELF file [`abi_of_elf`] reads.
const ELF_HEADER: u64 = 20;

/// Returns the ABI of an ELF file (`elf(5)`). `AUDIT_ARCH_*` tokens derive from the same fields (`linux/audit.h`).
pub(super) fn abi_of_elf(bytes: &[u8]) -> Option<Abi> {
    let (&[wide, little], machine) = (bytes.strip_prefix(b"\x7fELF")?.first_chunk::<2>()?, bytes.get(18..20)?);
    let machine = <[u8; 2]>::try_from(machine).ok()?;
    let (machine, little) = match little {
        1 => (u16::from_le_bytes(machine), 0x4000_0000),
        2 => (u16::from_be_bytes(machine), 0),
        _ => return None,
    };
    let wide = if wide == 2 { 0x8000_0000 } else { 0 };
    Arch(u32::from(machine) | wide | little).abi(None)
}

/// The start of a little-endian ELF file.
#[cfg(test)]
pub(super) fn elf_header(wide: bool, machine: u16) -> Vec<u8> {
    let mut header = vec![0; 64];
    header[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', if wide { 2 } else { 1 }, 1]);
    header[18..20].copy_from_slice(&machine.to_le_bytes());
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(file: &str, content: &[u8]) -> InstalledSystemd {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
        InstalledSystemd::find(root.path())
    }

    #[test]
    fn shared_library_tells_version_and_abi() {
        for (file, wide, machine, version, native) in [
            ("usr/lib/aarch64-linux-gnu/systemd/libsystemd-shared-252.so", true, 183, "252", Abi::Aarch64),
            ("usr/lib64/systemd/libsystemd-shared-253.7-1.fc38.so", true, 62, "253.7-1.fc38", Abi::X86_64),
            ("lib/systemd/libsystemd-shared-245.so", false, 40, "245", Abi::Arm),
        ] {
            let found = find(file, &elf_header(wide, machine));
            assert_eq!((found.version.as_deref(), found.native), (Some(version), Some(native)), "{file}");
        }
        assert_eq!(find("usr/lib/systemd/libsystemd-shared-252.so", b"").native, None);
        assert_eq!(find("usr/lib/systemd/libsystemd-shared-\u{1b}[2J.so", b""), InstalledSystemd::default());
        assert_eq!(find("usr/lib/systemd/system/a.service", b""), InstalledSystemd::default());
    }

    #[test]
    fn systemd_of_this_machine_has_the_native_abi() {
        let found = InstalledSystemd::find(Path::new("/"));
        assert!(found.native.is_none_or(|native| native == Abi::native()), "{found:?}");
    }
}
