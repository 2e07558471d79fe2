//! This process's own memory.

/// Gives memory that a large piece of work has freed back to the system. It would stay resident otherwise, in the thread that
/// did the work.
pub(crate) fn trim() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: the call only releases free memory at the end of the first heap and in the middle of all (`malloc_trim(3)`).
    unsafe {
        nix::libc::malloc_trim(0);
    }
}

/// Makes all threads share one heap, and give memory back that they free at its end (`mallopt(3)`). glibc would make a heap for
/// each thread, which keeps remains of what the thread once did, and at its end up to twice the largest block that was ever freed
/// (`M_TRIM_THRESHOLD`).
pub(crate) fn trim_always() {
    /// What a heap may keep, in bytes: glibc's own value before it adapts it.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    const KEPT: nix::libc::c_int = 128 << 10;
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: the calls set numbers in glibc, under glibc's lock.
    unsafe {
        nix::libc::mallopt(nix::libc::M_ARENA_MAX, 1);
        nix::libc::mallopt(nix::libc::M_TRIM_THRESHOLD, KEPT);
    }
}
