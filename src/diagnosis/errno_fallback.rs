//! Calls that programs can do without, if they are told so by an error instead of death.

/// How a call can be refused softly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Softly {
    /// As if the caller lacked the right.
    Eperm,
    /// As if the kernel were too old to know the call.
    Enosys,
}

impl Softly {
    /// The error's name, as unit files have it.
    #[must_use]
    pub fn errno(self) -> &'static str {
        match self {
            Self::Eperm => "EPERM",
            Self::Enosys => "ENOSYS",
        }
    }
}

/// How a call can be refused so that callers fall back; `None` for one that they cannot do without.
#[must_use]
pub fn of(call: &str) -> Option<Softly> {
    let is = |calls: &[&str]| calls.contains(&call);
    if is(NEW) {
        Some(Softly::Enosys)
    } else if is(ASKED_IN_VAIN) {
        Some(Softly::Eperm)
    } else {
        None
    }
}

/// Calls that older kernels lack, so that callers try another: libc, or the program itself.
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

/// Calls that ask for something an ordinary user is often refused, so that callers go on without.
const ASKED_IN_VAIN: &[&str] = &[
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
    fn the_lists_are_sorted_apart_and_of_real_calls() {
        for list in [NEW, ASKED_IN_VAIN] {
            assert!(list.is_sorted());
            for call in list {
                assert!(Abi::all().any(|abi| abi.call_number(call).is_some()), "{call}");
            }
        }
        assert!(NEW.iter().all(|call| !ASKED_IN_VAIN.contains(call)));
    }

    #[test]
    fn what_no_program_can_do_without_is_in_neither() {
        for call in ["read", "mmap", "socket", "execve", "futex"] {
            assert_eq!(of(call), None);
        }
        assert_eq!(of("clone3").map(Softly::errno), Some("ENOSYS"));
        assert_eq!(of("setpriority").map(Softly::errno), Some("EPERM"));
    }
}
