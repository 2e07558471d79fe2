//! Paths in denials of accesses: their directories, which directories are of many programs, and which are guarded.

use crate::policy::{Directive, Policy};

/// The parents of directories that a unit's own lines make, and the directives of these lines.
const STATE_DIRECTORIES: [(&str, Directive); 4] = [
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

/// Returns the directive whose line makes a directory at a path, and the directory's name in that line.
pub(super) fn find_own_directory(path: &str) -> Option<(Directive, &str)> {
    let (name, directive) =
        STATE_DIRECTORIES.into_iter().find_map(|(parent, directive)| Some((path.strip_prefix(parent)?, directive)))?;
    // The directory of `pam_systemd(8)` belongs to no unit.
    let is_name = !name.is_empty() && !name.contains('/') && path != "/run/user";
    is_name.then_some((directive, name))
}

/// Whether a line of such a directive makes the directory, and no other instance loses it: systemd removes a runtime
/// directory when a unit stops. A user manager makes its directories elsewhere.
pub(super) fn can_own_directory(directive: Directive, policy: &Policy) -> bool {
    let is_alone = directive != Directive::RuntimeDirectory || policy.settings.name().template_name().is_none();
    is_alone && !policy.is_of_user_manager()
}

/// Whether a path may be gone after a boot.
pub(super) fn is_volatile(path: &[u8]) -> bool {
    ["/run", "/tmp", "/var/tmp", "/dev", "/sys/fs/cgroup"].iter().any(|above| is_at_or_below(path, above.as_bytes()))
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

/// Where no line shows a path or makes it writable unless a person chooses it: programs, configuration, the kernel, root's
/// files, what rules other services, what runs commands as root, and directories in which any user can make a link.
const GUARDED: [&str; 69] = [
    "/bin",
    "/boot",
    "/dev",
    "/efi",
    "/etc",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/proc",
    "/root",
    "/run/binfmt.d",
    "/run/confexts",
    "/run/containerd",
    "/run/credentials",
    "/run/crio",
    "/run/dbus",
    "/run/docker",
    "/run/docker.sock",
    "/run/extensions",
    "/run/initramfs",
    "/run/libvirt",
    "/run/lock",
    "/run/modprobe.d",
    "/run/modules-load.d",
    "/run/NetworkManager",
    "/run/podman",
    "/run/polkit-1",
    "/run/sudo",
    "/run/sysctl.d",
    "/run/systemd",
    "/run/sysusers.d",
    "/run/tmpfiles.d",
    "/run/udev",
    "/run/user",
    "/sbin",
    "/sys",
    "/tmp",
    "/usr",
    "/var/db/sudo",
    "/var/lib/apt",
    "/var/lib/cloud",
    "/var/lib/confexts",
    "/var/lib/containerd",
    "/var/lib/containers",
    "/var/lib/dkms",
    "/var/lib/docker",
    "/var/lib/dpkg",
    "/var/lib/extensions",
    "/var/lib/flatpak",
    "/var/lib/incus",
    "/var/lib/kubelet",
    "/var/lib/libvirt",
    "/var/lib/lxc",
    "/var/lib/machines",
    "/var/lib/pacman",
    "/var/lib/polkit-1",
    "/var/lib/portables",
    "/var/lib/private",
    "/var/lib/rpm",
    "/var/lib/snapd",
    "/var/lib/sudo",
    "/var/lib/systemd",
    "/var/log/journal",
    "/var/spool/anacron",
    "/var/spool/at",
    "/var/spool/atjobs",
    "/var/spool/cron",
    "/var/tmp",
];

/// Whether a path is of the whole machine or holds such a path, is a hidden file such as `.ssh`, or a directory of cron.
pub(super) fn is_guarded(path: &[u8]) -> bool {
    let is_special = path.split(|byte| *byte == b'/').any(|part| part.starts_with(b".") || part.starts_with(b"cron"));
    let holds = |other: &[u8]| is_at_or_below(path, other) || is_at_or_below(other, path);
    is_special || GUARDED.iter().any(|other| holds(other.as_bytes()))
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
