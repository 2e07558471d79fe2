//! Profiles of tasks that programs do, each with the calls that the task needs.
//!
//! A program does several tasks: it serves a socket, drops root, keeps data safe on disk. Each task needs a few calls
//! together, so one denied call predicts others. No profile names a program. The calls of each task and its frequency
//! follow from the purpose of the calls, and were checked against recorded programs (`tests/data/programs`).
//!
//! The names are those of 64-bit ABIs.

use CallFrequency::{Mostly, Nearly, Often, Rarely, Sometimes};

/// A task of ordinary programs, and the calls that it needs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CallProfile {
    /// Which programs do the task, and what the calls are for.
    pub reason: &'static str,
    /// How many programs do the task.
    pub prevalence: Prevalence,
    /// The calls, and how many of these programs make each.
    pub calls: &'static [(&'static str, CallFrequency)],
}

/// How many programs do a task.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Prevalence {
    /// All.
    All,
    /// This part of all programs.
    Part(f64),
    /// Most of the programs whose unit allows Internet sockets, and this part of the others.
    Internet(f64),
    /// This part of the programs that run as root; others cannot do the task.
    Root(f64),
}

/// How many of the programs that do a task make a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum CallFrequency {
    /// One in twelve.
    Rarely,
    /// One in five.
    Sometimes,
    /// Nearly half.
    Often,
    /// Two in three.
    Mostly,
    /// Nineteen in twenty.
    Nearly,
}

impl CallFrequency {
    /// Returns the part of the programs, between 0 and 1.
    #[must_use]
    pub(crate) const fn part(self) -> f64 {
        match self {
            Rarely => 0.08,
            Sometimes => 0.2,
            Often => 0.45,
            Mostly => 0.7,
            Nearly => 0.95,
        }
    }
}

const fn profile(
    prevalence: Prevalence,
    calls: &'static [(&'static str, CallFrequency)],
    reason: &'static str,
) -> CallProfile {
    CallProfile { reason, prevalence, calls }
}

/// Every profile.
pub(crate) const PROFILES: &[CallProfile] = &[
    profile(
        Prevalence::All,
        &[
            ("read", Nearly),
            ("write", Nearly),
            ("close", Nearly),
            ("openat", Nearly),
            ("newfstatat", Nearly),
            ("access", Nearly),
            ("pread64", Nearly),
            ("fcntl", Nearly),
            ("lseek", Mostly),
            ("getdents64", Mostly),
            ("fstat", Sometimes),
            ("readlink", Sometimes),
            ("statfs", Sometimes),
        ],
        "every program loads its libraries and reads its configuration",
    ),
    profile(
        Prevalence::Part(0.9),
        &[
            ("rt_sigaction", Nearly),
            ("rt_sigprocmask", Nearly),
            ("kill", Sometimes),
            ("tgkill", Sometimes),
            ("sigaltstack", Sometimes),
            ("rt_sigsuspend", Rarely),
            ("rt_sigtimedwait", Rarely),
        ],
        "a program that stops cleanly handles signals and blocks them for a time",
    ),
    profile(
        Prevalence::Part(0.5),
        &[
            ("clone3", Nearly),
            ("rt_sigprocmask", Nearly),
            ("prctl", Mostly),
            ("tgkill", Sometimes),
            ("clone", Sometimes),
        ],
        "a program with threads creates, names and stops them",
    ),
    profile(
        Prevalence::Part(0.5),
        &[
            ("clone", Mostly),
            ("wait4", Nearly),
            ("dup2", Mostly),
            ("kill", Often),
            ("vfork", Sometimes),
            ("waitid", Rarely),
            ("setpgid", Rarely),
        ],
        "a program with child processes connects, waits for and signals them",
    ),
    profile(
        Prevalence::Part(0.55),
        &[
            ("epoll_ctl", Nearly),
            ("epoll_wait", Nearly),
            ("epoll_create1", Mostly),
            ("epoll_create", Sometimes),
            ("eventfd2", Sometimes),
            ("epoll_pwait", Rarely),
        ],
        "a program that waits for many descriptors uses epoll",
    ),
    profile(
        Prevalence::Part(0.6),
        &[("poll", Nearly), ("pselect6", Sometimes), ("select", Rarely), ("ppoll", Rarely)],
        "a program that waits for a few descriptors polls them, and so does libc when it queries a name service",
    ),
    profile(
        Prevalence::Part(0.7),
        &[
            ("unlink", Nearly),
            ("chdir", Often),
            ("mkdir", Often),
            ("getcwd", Often),
            ("ftruncate", Sometimes),
            ("rename", Sometimes),
            ("fchmod", Sometimes),
            ("chmod", Sometimes),
            ("fstatfs", Sometimes),
            ("unlinkat", Rarely),
            ("utimensat", Rarely),
            ("fallocate", Rarely),
        ],
        "a program that keeps files creates, renames and removes them in a directory",
    ),
    profile(
        Prevalence::Part(0.07),
        &[("inotify_init1", Nearly), ("inotify_add_watch", Nearly), ("inotify_rm_watch", Sometimes)],
        "a program that notices changes of files watches them",
    ),
    profile(
        Prevalence::All,
        &[
            ("ioctl", Often),
            ("uname", Often),
            ("umask", Often),
            ("sysinfo", Often),
            ("madvise", Often),
            ("socket", Mostly),
            ("connect", Often),
            ("pipe2", Often),
            ("mremap", Rarely),
        ],
        "every program starts with these: libc looks up the machine, the terminal and the name service, and its \
         allocator returns memory",
    ),
    profile(
        Prevalence::Part(0.6),
        &[
            ("socket", Nearly),
            ("connect", Nearly),
            ("getsockname", Nearly),
            ("sendto", Nearly),
            ("bind", Mostly),
            ("recvmsg", Mostly),
            ("uname", Often),
            ("setsockopt", Sometimes),
        ],
        "a program looks up users, hosts or addresses, or logs: libc queries the name service and netlink",
    ),
    profile(
        Prevalence::Internet(0.85),
        &[
            ("socket", Nearly),
            ("bind", Nearly),
            ("setsockopt", Mostly),
            ("getsockname", Sometimes),
            ("getsockopt", Sometimes),
        ],
        "a program on the network creates sockets, sets their options and binds them",
    ),
    profile(
        Prevalence::Part(0.85),
        &[
            ("socket", Nearly),
            ("listen", Nearly),
            ("bind", Nearly),
            ("setsockopt", Mostly),
            ("accept4", Often),
            ("accept", Often),
            ("getpeername", Often),
            ("getsockopt", Often),
            ("recvfrom", Often),
            ("sendto", Sometimes),
            ("shutdown", Sometimes),
            ("sendmsg", Rarely),
        ],
        "a server listens, accepts connections, looks up the peer, reads and answers",
    ),
    profile(
        Prevalence::Part(0.15),
        &[
            ("socket", Nearly),
            ("bind", Nearly),
            ("recvmsg", Mostly),
            ("sendmsg", Mostly),
            ("sendto", Often),
            ("recvfrom", Often),
            ("sendmmsg", Sometimes),
            ("recvmmsg", Sometimes),
        ],
        "a server of datagrams reads and answers with addresses",
    ),
    profile(
        Prevalence::Root(0.5),
        &[("setgroups", Nearly), ("setgid", Nearly), ("setuid", Nearly)],
        "a daemon started as root changes to another user",
    ),
    profile(
        Prevalence::Root(0.25),
        &[("setgroups", Nearly), ("setresgid", Nearly), ("setresuid", Nearly), ("capset", Sometimes)],
        "a daemon started as root changes to another user, by the calls that set every id",
    ),
    profile(Prevalence::Root(0.15), &[("capset", Nearly)], "a daemon started as root keeps only some capabilities"),
    profile(
        Prevalence::Root(0.25),
        &[("fchown", Mostly), ("chown", Often), ("umask", Often), ("chroot", Sometimes)],
        "a daemon started as root gives its files and directories to another user",
    ),
    profile(
        Prevalence::Part(0.35),
        &[
            ("socketpair", Mostly),
            ("pipe2", Mostly),
            ("recvmsg", Often),
            ("sendmsg", Often),
            ("umask", Often),
            ("setsid", Sometimes),
            ("alarm", Sometimes),
        ],
        "a program with worker processes exchanges messages and descriptors with them",
    ),
    profile(
        Prevalence::Part(0.2),
        &[("setsid", Mostly), ("umask", Mostly), ("flock", Sometimes)],
        "a daemon that detaches itself creates a session, sets its umask and locks its pid file",
    ),
    profile(
        Prevalence::Part(0.25),
        &[
            ("fsync", Mostly),
            ("fdatasync", Often),
            ("flock", Sometimes),
            ("umask", Sometimes),
            ("sync_file_range", Rarely),
            ("msync", Rarely),
        ],
        "a program that keeps data flushes it to disk, and locks it",
    ),
    profile(
        Prevalence::Part(0.03),
        &[("shmget", Nearly), ("shmat", Nearly), ("shmdt", Mostly), ("shmctl", Mostly)],
        "a program with System V shared memory creates, attaches, detaches and removes it",
    ),
    profile(
        Prevalence::Part(0.02),
        &[("semget", Nearly), ("semctl", Nearly), ("semop", Mostly)],
        "a program with System V semaphores creates, sets and removes them",
    ),
    profile(
        Prevalence::Part(0.06),
        &[("timer_create", Nearly), ("timer_settime", Nearly), ("timer_delete", Often)],
        "a program with a POSIX timer sets it",
    ),
    profile(
        Prevalence::Part(0.03),
        &[("timerfd_create", Nearly), ("timerfd_settime", Nearly), ("timerfd_gettime", Rarely)],
        "a program with a timer descriptor sets it",
    ),
    profile(
        Prevalence::Part(0.1),
        &[("alarm", Often), ("setitimer", Often)],
        "a program that limits a wait sets an alarm",
    ),
    profile(
        Prevalence::Part(0.07),
        &[
            ("setpriority", Often),
            ("getpriority", Often),
            ("sched_setscheduler", Often),
            ("sched_getscheduler", Often),
            ("sched_getparam", Often),
            ("sched_get_priority_max", Often),
            ("sched_get_priority_min", Often),
            ("sched_setaffinity", Sometimes),
        ],
        "a program that sets the priority of threads reads the range first",
    ),
    profile(
        Prevalence::Root(0.05),
        &[
            ("setregid", Mostly),
            ("setreuid", Mostly),
            ("setsid", Mostly),
            ("keyctl", Often),
            ("setfsuid", Often),
            ("setfsgid", Often),
            ("setpriority", Often),
            ("getpriority", Often),
        ],
        "a program that opens sessions for users by PAM acts as these users",
    ),
    profile(Prevalence::Part(0.05), &[("sendfile", Nearly)], "a server of files sends them without copying"),
    profile(
        Prevalence::Part(0.06),
        &[("get_mempolicy", Mostly), ("set_mempolicy", Mostly), ("mbind", Sometimes)],
        "a library for machines with several memory nodes reads the placement of memory",
    ),
    profile(
        Prevalence::Part(0.06),
        &[("mlock", Mostly), ("munlock", Often), ("mlockall", Sometimes)],
        "a program with secrets, or one that cannot wait for the disk, locks memory against swapping",
    ),
    profile(
        Prevalence::Part(0.03),
        &[("io_uring_setup", Nearly), ("io_uring_enter", Nearly), ("io_uring_register", Sometimes)],
        "a program with an io_uring submits to it",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::syscalls::Abi;

    #[test]
    fn profile_names_only_real_calls_and_each_once() {
        for profile in PROFILES {
            for (index, (call, _)) in profile.calls.iter().enumerate() {
                assert!(Abi::X86_64.call_number(call).is_some(), "{call}");
                assert!(profile.calls.iter().skip(index + 1).all(|(other, _)| other != call), "{call} twice");
            }
        }
    }

    #[test]
    fn frequencies_are_ordered_and_below_one() {
        let parts = [Rarely, Sometimes, Often, Mostly, Nearly].map(CallFrequency::part);
        assert!(parts.is_sorted() && parts.iter().all(|part| (0.0..1.0).contains(part)));
    }
}
