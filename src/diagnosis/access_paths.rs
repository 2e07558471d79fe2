//! Paths in denials of accesses: their directories, and which directories are of many programs.

use crate::policy::Directive;

/// The parents of directories that a unit's own lines make, and the directives of these lines.
pub(super) const STATE_DIRECTORIES: [(&str, Directive); 4] = [
    ("/var/lib/", Directive::StateDirectory),
    ("/var/cache/", Directive::CacheDirectory),
    ("/var/log/", Directive::LogsDirectory),
    ("/run/", Directive::RuntimeDirectory),
];

/// The parent of data that no line makes.
const SERVED: &str = "/srv/";

/// Returns the directory above a path in which each program has its own data. Configuration and programs are in others.
pub(super) fn find_data_parent(path: &[u8]) -> Option<&'static str> {
    let mut parents = STATE_DIRECTORIES.into_iter().map(|(parent, _)| parent).chain([SERVED]);
    parents.find(|parent| path.starts_with(parent.as_bytes()))
}

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
