//! Calls whose failure programs handle, so that an error can replace the kill of the process.

/// An error that programs handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FallbackErrno {
    /// The process lacks the privilege.
    Eperm,
    /// The kernel is too old to know the call.
    Enosys,
}

impl FallbackErrno {
    /// Returns the error's name, as unit files write it.
    #[must_use]
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Eperm => "EPERM",
            Self::Enosys => "ENOSYS",
        }
    }
}

/// Returns the error on which programs fall back. `None` if programs cannot work without the call.
#[must_use]
pub(crate) fn find_fallback(call: &str) -> Option<FallbackErrno> {
    let is = |calls: &[&str]| calls.contains(&call);
    if is(NEW) {
        Some(FallbackErrno::Enosys)
    } else if is(OFTEN_REFUSED) {
        Some(FallbackErrno::Eperm)
    } else {
        None
    }
}

/// Calls that older kernels lack, so that libc or the program tries another call.
const NEW: &[&str] = &[
    "cachestat",
    "clone3",
    "close_range",
    "copy_file_range",
    "epoll_pwait2",
    "faccessat2",
    "fchmodat2",
    "futex_waitv",
    "getrandom",
    "io_pgetevents",
    "io_uring_enter",
    "io_uring_register",
    "io_uring_setup",
    "landlock_add_rule",
    "landlock_create_ruleset",
    "landlock_restrict_self",
    "map_shadow_stack",
    "membarrier",
    "memfd_create",
    "mlock2",
    "openat2",
    "pidfd_getfd",
    "pidfd_open",
    "pidfd_send_signal",
    "pkey_alloc",
    "pkey_free",
    "pkey_mprotect",
    "preadv2",
    "process_madvise",
    "process_mrelease",
    "pwritev2",
    "renameat2",
    "rseq",
    "statx",
    "sync_file_range",
];

/// Calls that the kernel often refuses to ordinary users, so that programs go on without them.
const OFTEN_REFUSED: &[&str] = &[
    "add_key",
    "bpf",
    "capset",
    "fanotify_init",
    "get_mempolicy",
    "ioprio_get",
    "ioprio_set",
    "kcmp",
    "keyctl",
    "mbind",
    "migrate_pages",
    "mlock",
    "mlockall",
    "move_pages",
    "munlock",
    "munlockall",
    "name_to_handle_at",
    "nice",
    "open_by_handle_at",
    "perf_event_open",
    "personality",
    "process_vm_readv",
    "process_vm_writev",
    "ptrace",
    "quotactl",
    "quotactl_fd",
    "request_key",
    "sched_setaffinity",
    "sched_setattr",
    "sched_setparam",
    "sched_setscheduler",
    "set_mempolicy",
    "set_mempolicy_home_node",
    "sethostname",
    "setpriority",
    "setrlimit",
    "syslog",
    "unshare",
    "userfaultfd",
    "vhangup",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::syscalls::Abi;

    #[test]
    fn lists_are_sorted_and_disjoint_and_name_real_calls() {
        for list in [NEW, OFTEN_REFUSED] {
            assert!(list.is_sorted());
            for call in list {
                assert!(Abi::all().any(|abi| abi.call_number(call).is_some()), "{call}");
            }
        }
        assert!(NEW.iter().all(|call| !OFTEN_REFUSED.contains(call)));
    }

    #[test]
    fn essential_call_has_no_fallback() {
        for call in ["read", "mmap", "socket", "execve", "futex"] {
            assert_eq!(find_fallback(call), None);
        }
        assert_eq!(find_fallback("clone3").map(FallbackErrno::name), Some("ENOSYS"));
        assert_eq!(find_fallback("setpriority").map(FallbackErrno::name), Some("EPERM"));
    }
}
