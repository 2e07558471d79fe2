//! Files that common libraries read for any program, and do without.

/// The files. In the absence of one, its library works as it does with what the file says on nearly every machine, or finds the
/// same in another way.
const PROBED: [&[u8]; 3] = [
    // libselinux asks whether the kernel has SELinux, and looks among the mounts instead.
    b"/proc/filesystems",
    // sysconf(3) of glibc takes 65536, the kernel's own limit.
    b"/proc/sys/kernel/ngroups_max",
    // malloc(3) of glibc takes the kernel's default.
    b"/proc/sys/vm/overcommit_memory",
];

/// Whether a library looks for the path and works the same without it, so that a program misses nothing.
pub(super) fn is_library_probe(path: &[u8]) -> bool {
    PROBED.contains(&path)
}
