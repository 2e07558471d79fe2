//! The scheduling priority of threads.

/// Gives the calling thread the usual priority (nice 0), if it has a higher one. Linux keeps the priority per thread
/// (`setpriority(2)`, "C library/kernel differences"), and a new thread inherits it.
pub(crate) fn give_up_priority() {
    // SAFETY: the call takes three numbers. A thread with a lower priority may not raise it, and keeps it.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 0) };
}
