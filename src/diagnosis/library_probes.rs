//! Files that common libraries read for any program, and do without.

/// The files, each with what its library takes in its absence: what it says on nearly every machine, or another way to
/// the same answer.
const PROBED: [&[u8]; 5] = [
    // libselinux asks whether the kernel has SELinux, and looks among the mounts instead.
    b"/proc/filesystems",
    // libcap tries the capabilities one by one (prctl(2), PR_CAPBSET_READ).
    b"/proc/sys/kernel/cap_last_cap",
    // sysconf(3) of glibc takes 65536, the kernel's own limit, and 32.
    b"/proc/sys/kernel/ngroups_max",
    b"/proc/sys/kernel/rtsig-max",
    // malloc(3) of glibc takes the kernel's default.
    b"/proc/sys/vm/overcommit_memory",
];

/// Whether a library looks for the path and works the same without it, so that a program misses nothing.
pub(super) fn is_library_probe(path: &[u8]) -> bool {
    PROBED.contains(&path)
}
