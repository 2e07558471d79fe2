//! Paths in denials of accesses: their directories, and which directories are of many programs.

/// Directories of many programs: a default remedy opens none of them as a whole.
const SHARED: [&str; 34] = [
    "",
    "/bin",
    "/boot",
    "/dev",
    "/dev/shm",
    "/efi",
    "/etc",
    "/home",
    "/lib",
    "/lib64",
    "/mnt",
    "/media",
    "/opt",
    "/proc",
    "/proc/sys",
    "/root",
    "/run",
    "/run/lock",
    "/run/user",
    "/sbin",
    "/srv",
    "/sys",
    "/tmp",
    "/usr",
    "/usr/bin",
    "/usr/lib",
    "/usr/local",
    "/usr/sbin",
    "/usr/share",
    "/var",
    "/var/cache",
    "/var/lib",
    "/var/log",
    "/var/tmp",
];

/// Whether a directory is of many programs; each directly below `/` is.
pub(super) fn is_shared(directory: &[u8]) -> bool {
    is_below_root(directory) || SHARED.iter().any(|shared| shared.as_bytes() == directory)
}

/// Whether a path is `/`, or directly below it.
fn is_below_root(path: &[u8]) -> bool {
    path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()).count() < 2
}

/// Whether a path is another or below it, by components.
pub(super) fn is_at_or_below(path: &[u8], above: &[u8]) -> bool {
    let above = above.strip_suffix(b"/").unwrap_or(above);
    path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

/// Returns the directory of a path; empty for one directly below `/`.
pub(super) fn directory_of(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
    path.get(..end).unwrap_or_default()
}
