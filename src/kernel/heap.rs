//! This process's own memory.

/// Gives memory that a large piece of work has freed back to the system. It would stay resident otherwise, in the thread that
/// did the work.
pub(crate) fn trim() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: the call only releases free memory at the end of each heap and in its middle (`malloc_trim(3)`).
    unsafe {
        nix::libc::malloc_trim(0);
    }
}
