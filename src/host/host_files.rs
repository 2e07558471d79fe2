//! What the host has at a path: the kind of file, what its modes forbid, and the rights that it gives to a process.

use super::access_verdict::{FileKind, ForbiddenByModes};
use super::file_rights::FileRights;
use crate::incidents::DeviceNode;
use crate::kernel::failed_call::ProcessCredentials;
use crate::kernel::fuse_guard::{LastLink, open_handle};
use std::fs::{File, Metadata};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

/// The bits of a directory's mode by which its owner, and others, search it.
const SEARCH_BY_OWNER: u32 = 0o100;
const SEARCH_BY_OTHERS: u32 = 0o011;

/// Returns the metadata of a file, or of a link itself. The process chose the path.
pub(super) fn symlink_metadata(path: &Path) -> io::Result<Metadata> {
    open_handle(path, LastLink::Itself)?.metadata()
}

/// Returns what kind of file a path leads to; `None` if there is none.
pub(crate) fn file_kind(path: &Path) -> Option<FileKind> {
    let metadata = symlink_metadata(path).ok()?;
    let kind = metadata.file_type();
    if !kind.is_char_device() && !kind.is_block_device() {
        let is_program = kind.is_file() && metadata.mode() & 0o111 != 0;
        return Some(if is_program { FileKind::Program } else { FileKind::Other });
    }
    let (major, minor) = (libc::major(metadata.rdev()), libc::minor(metadata.rdev()));
    Some(FileKind::Device(DeviceNode { is_block: kind.is_block_device(), major, minor }))
}

/// Returns what modes forbid a user for certain.
pub(crate) fn forbidden_by_modes(path: &Path, credentials: &ProcessCredentials) -> ForbiddenByModes {
    ForbiddenByModes {
        write: is_write_protected(path, credentials),
        reach: is_unreachable(path, credentials),
        open: is_closed(path, credentials),
    }
}

/// Whether a file's mode gives a user nothing for certain. The user's further groups are unknown.
fn is_closed(path: &Path, credentials: &ProcessCredentials) -> bool {
    symlink_metadata(path).is_ok_and(|file| {
        let given = if file.uid() == credentials.effective_uid { 0o700 } else { 0o077 };
        credentials.effective_uid != 0 && file.mode() & given == 0
    })
}

/// Returns the user and the group of a file, and of its directory, as far as they exist.
pub(crate) fn find_owners(path: &Path) -> Vec<(u32, u32)> {
    let files = path.ancestors().take(2).filter_map(|path| symlink_metadata(path).ok());
    files.map(|file| (file.uid(), file.gid())).collect()
}

/// Whether modes forbid a user for certain to write to a path, or to make it. The user's further groups are unknown.
fn is_write_protected(path: &Path, credentials: &ProcessCredentials) -> bool {
    let existing = path.ancestors().take(2).find_map(|path| symlink_metadata(path).ok());
    existing.is_some_and(|file| {
        let may_write = if file.uid() == credentials.effective_uid { 0o200 } else { 0o022 };
        credentials.effective_uid != 0 && file.mode() & may_write == 0
    })
}

/// Whether modes forbid a user for certain to search one of the directories above a path.
fn is_unreachable(path: &Path, credentials: &ProcessCredentials) -> bool {
    let forbids = |directory: &Path| {
        symlink_metadata(directory).is_ok_and(|directory| {
            let is_owner = directory.uid() == credentials.effective_uid;
            directory.mode() & (if is_owner { SEARCH_BY_OWNER } else { SEARCH_BY_OTHERS }) == 0
        })
    };
    credentials.effective_uid != 0 && path.ancestors().skip(1).any(forbids)
}

/// Returns the capabilities that a file has of its own, as bits (`capabilities(7)`).
pub(crate) fn file_capabilities(path: &Path) -> u64 {
    open_handle(path, LastLink::Itself).map_or(0, |handle| read_capabilities(&handle))
}

fn read_capabilities(handle: &File) -> u64 {
    let Ok(path) = std::ffi::CString::new(format!("/proc/self/fd/{}", handle.as_raw_fd())) else { return 0 };
    let mut data = [0_u8; 64];
    // SAFETY: both strings end with a zero byte and outlive the call, which writes at most `data.len()` bytes to `data`.
    let size =
        unsafe { libc::getxattr(path.as_ptr(), c"security.capability".as_ptr(), data.as_mut_ptr().cast(), data.len()) };
    usize::try_from(size).ok().and_then(|size| data.get(..size)).map_or(0, parse_capabilities)
}

/// Returns the permitted capabilities of `struct vfs_cap_data` (`linux/capability.h`): a word with the version, then the low
/// halves of the permitted and the inheritable set, then the high ones.
fn parse_capabilities(data: &[u8]) -> u64 {
    let half = |index: usize| {
        let bytes = data.get(index * 4..index * 4 + 4).and_then(|bytes| bytes.first_chunk::<4>());
        bytes.map_or(0, |bytes| u64::from(u32::from_le_bytes(*bytes)))
    };
    half(1) | half(3) << 32
}

/// Returns the rights that a file gives to a process with these credentials that executes it.
pub(crate) fn rights_of_file(path: &Path, credentials: &ProcessCredentials) -> FileRights {
    let handle = open_handle(path, LastLink::Target).ok();
    let opened = handle.and_then(|handle| Some((handle.metadata().ok().filter(Metadata::is_file)?, handle)));
    let Some((file, handle)) = opened else { return FileRights::default() };
    let (sets_user, sets_group) = sets_identity(file.mode(), (file.uid(), file.gid()), credentials);
    let capabilities = match (sets_user && file.uid() == 0, credentials.effective_uid) {
        (true, _) => u64::MAX,
        (false, 0) => 0,
        (false, _) => read_capabilities(&handle),
    };
    FileRights {
        capabilities,
        user: Some(file.uid()).filter(|uid| sets_user && *uid != 0),
        group: Some(file.gid()).filter(|_| sets_group),
    }
}

/// Whether a file's bits give its user, and its group, to a process that has others.
fn sets_identity(mode: u32, (uid, gid): (u32, u32), credentials: &ProcessCredentials) -> (bool, bool) {
    // Without the group's right to execute, the bit means a lock (inode(7)).
    let group = libc::S_ISGID | libc::S_IXGRP;
    (
        mode & libc::S_ISUID != 0 && uid != credentials.effective_uid,
        mode & group == group && gid != credentials.effective_gid,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    fn credentials(uid: u32) -> ProcessCredentials {
        ProcessCredentials {
            uid,
            effective_uid: uid,
            effective_gid: u32::MAX,
            bounding: 0,
            effective: 0,
            user_namespace: 0,
            mount_namespace: 0,
            no_new_privileges: true,
        }
    }

    #[test]
    fn path_is_write_protected_by_the_mode_of_the_file_or_its_directory() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        let own = fs::metadata(&file).unwrap().uid();
        let is_protected = |path: &Path, mode, uid| {
            fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
            fs::set_permissions(directory.path(), Permissions::from_mode(mode)).unwrap();
            is_write_protected(path, &credentials(uid))
        };
        for path in [&file, &directory.path().join("new")] {
            let other = [0o755, 0o775, 0o757].map(|mode| is_protected(path, mode, own + 7));
            assert_eq!(other, [true, false, false], "{path:?}");
            assert!(!is_protected(path, 0o755, own));
        }
        assert!(!is_protected(&directory.path().join("no/directory"), 0o755, own + 7), "unknown");
    }

    #[test]
    fn path_is_unreachable_below_a_directory_that_the_user_cannot_search() {
        let directory = tempfile::tempdir_in("/").or_else(|_| tempfile::tempdir()).unwrap();
        let file = directory.path().join("below/file");
        fs::create_dir(directory.path().join("below")).unwrap();
        let own = fs::metadata(directory.path()).unwrap().uid();
        let is_unreachable = |mode, uid| {
            fs::set_permissions(directory.path(), Permissions::from_mode(mode)).unwrap();
            super::is_unreachable(&file, &credentials(uid))
        };
        assert_eq!([0o700, 0o710, 0o701].map(|mode| is_unreachable(mode, own + 7)), [true, false, false]);
        assert!(!is_unreachable(0o700, own) && !super::is_unreachable(&file, &credentials(0)));
    }

    #[test]
    fn file_is_closed_to_a_user_whom_its_mode_gives_nothing() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let own = fs::metadata(file.path()).unwrap().uid();
        let is_closed = |mode, uid| {
            fs::set_permissions(file.path(), Permissions::from_mode(mode)).unwrap();
            super::is_closed(file.path(), &credentials(uid))
        };
        assert_eq!([0o600, 0o640, 0o604, 0o611].map(|mode| is_closed(mode, own + 7)), [true, false, false, false]);
        assert!(!is_closed(0o600, own) && !is_closed(0o600, 0));
        assert!(!super::is_closed(Path::new("/nonexistent"), &credentials(own + 7)));
        assert_eq!(find_owners(file.path()).len(), 2);
        assert_eq!(find_owners(&file.path().with_file_name("nonexistent")).len(), 1);
    }

    #[test]
    fn kind_of_a_file_has_the_number_of_a_device() {
        assert_eq!(file_kind(Path::new("/dev/null")), Some(FileKind::Device("char 1:3".parse().unwrap())));
        assert_eq!(file_kind(Path::new("/")), Some(FileKind::Other), "a directory");
        assert_eq!(file_kind(&std::env::current_exe().unwrap()), Some(FileKind::Program));
        assert_eq!(file_kind(Path::new("/nonexistent")), None);
    }

    #[test]
    fn rights_of_a_file_follow_from_its_bits_and_its_capabilities() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let (owner, group) = (fs::metadata(file.path()).unwrap().uid(), fs::metadata(file.path()).unwrap().gid());
        let none = FileRights::default();
        let rights = |mode, uid| {
            fs::set_permissions(file.path(), Permissions::from_mode(mode)).unwrap();
            rights_of_file(file.path(), &credentials(uid))
        };
        assert_eq!(rights(0o755, owner + 7), none);
        let of_owner = if owner == 0 {
            FileRights { capabilities: u64::MAX, ..none }
        } else {
            FileRights { user: Some(owner), ..none }
        };
        assert_eq!((rights(0o4755, owner + 7), rights(0o4755, owner)), (of_owner, none));
        let of_group = FileRights { group: Some(group), ..none };
        assert_eq!([rights(0o2755, owner), rights(0o2745, owner)], [of_group, none], "a lock gives nothing");
        assert_eq!(rights_of_file(Path::new("/"), &credentials(owner)), none);
        // CAP_NET_RAW of version 2, as `setcap cap_net_raw+ep` writes it.
        let ping = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(parse_capabilities(&ping), 1 << 13);
        assert_eq!([parse_capabilities(&[]), parse_capabilities(&[0; 7])], [0, 0]);
    }
}
