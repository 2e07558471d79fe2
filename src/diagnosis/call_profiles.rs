//! What programs do that make one call and will soon make another.
//!
//! A program is a bundle of habits: it serves a socket, it drops root, it keeps data safe on disk. Each
//! habit takes a few calls together, so a denied one foretells others. No habit names a program; how
//! common each is and which calls belong to it was reasoned from what the calls are for, and checked
//! against recorded programs (`tests/data/programs`).
//!
//! The names are those of 64-bit ABIs.

use Share::{Mostly, Nearly, Often, Rarely, Sometimes};

/// Something that ordinary programs do by a few calls together.
#[derive(Debug, Clone, Copy)]
pub struct Habit {
    /// Who has it and what the calls are for.
    pub reason: &'static str,
    /// How many programs have it.
    pub common: Common,
    /// Its calls, and how many of the programs that have it make each.
    pub calls: &'static [(&'static str, Share)],
}

/// How many programs have a habit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Common {
    /// All.
    All,
    /// This part.
    Part(f64),
    /// Most that use the Internet, whom the unit lets, and this part of the others.
    Internet(f64),
    /// This part of those that run as root. Others cannot.
    Root(f64),
}

/// How many of the programs that have a habit make a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Share {
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

impl Share {
    /// As a number.
    #[must_use]
    pub const fn part(self) -> f64 {
        match self {
            Rarely => 0.08,
            Sometimes => 0.2,
            Often => 0.45,
            Mostly => 0.7,
            Nearly => 0.95,
        }
    }
}

const fn habit(common: Common, calls: &'static [(&'static str, Share)], reason: &'static str) -> Habit {
    Habit { reason, common, calls }
}

/// Every habit.
pub const HABITS: &[Habit] = &[
    habit(
        Common::All,
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
        "any program is loaded with its libraries and reads its configuration",
    ),
    habit(
        Common::Part(0.9),
        &[
            ("rt_sigaction", Nearly),
            ("rt_sigprocmask", Nearly),
            ("kill", Sometimes),
            ("tgkill", Sometimes),
            ("sigaltstack", Sometimes),
            ("rt_sigsuspend", Rarely),
            ("rt_sigtimedwait", Rarely),
        ],
        "who shall stop in good order handles signals and holds them back meanwhile",
    ),
    habit(
        Common::Part(0.5),
        &[
            ("clone3", Nearly),
            ("rt_sigprocmask", Nearly),
            ("prctl", Mostly),
            ("tgkill", Sometimes),
            ("clone", Sometimes),
        ],
        "who has threads makes, names and stops them",
    ),
    habit(
        Common::Part(0.5),
        &[
            ("clone", Mostly),
            ("wait4", Nearly),
            ("dup2", Mostly),
            ("kill", Often),
            ("vfork", Sometimes),
            ("waitid", Rarely),
            ("setpgid", Rarely),
        ],
        "who has child processes connects, waits for and signals them",
    ),
    habit(
        Common::Part(0.55),
        &[
            ("epoll_ctl", Nearly),
            ("epoll_wait", Nearly),
            ("epoll_create1", Mostly),
            ("epoll_create", Sometimes),
            ("eventfd2", Sometimes),
            ("epoll_pwait", Rarely),
        ],
        "who waits for many descriptors keeps them in an epoll",
    ),
    habit(
        Common::Part(0.6),
        &[("poll", Nearly), ("pselect6", Sometimes), ("select", Rarely), ("ppoll", Rarely)],
        "who waits for a few descriptors polls them, and so does libc when it asks a name service",
    ),
    habit(
        Common::Part(0.7),
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
        "who keeps files makes, renames and removes them and has a directory for them",
    ),
    habit(
        Common::Part(0.07),
        &[("inotify_init1", Nearly), ("inotify_add_watch", Nearly), ("inotify_rm_watch", Sometimes)],
        "who notices that files change watches them",
    ),
    habit(
        Common::All,
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
        "any program starts so: libc asks what machine it is on, whether a terminal is there and whether a name \
         service answers, and its allocator returns memory",
    ),
    habit(
        Common::Part(0.6),
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
        "who looks up users, hosts or addresses, or logs: libc asks the name service and netlink",
    ),
    habit(
        Common::Internet(0.85),
        &[
            ("socket", Nearly),
            ("bind", Nearly),
            ("setsockopt", Mostly),
            ("getsockname", Sometimes),
            ("getsockopt", Sometimes),
        ],
        "who uses the network makes sockets, sets their options and binds them",
    ),
    habit(
        Common::Part(0.85),
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
        "a server listens, accepts connections, asks who calls, reads and answers",
    ),
    habit(
        Common::Part(0.15),
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
    habit(
        Common::Root(0.5),
        &[("setgroups", Nearly), ("setgid", Nearly), ("setuid", Nearly)],
        "a daemon started as root becomes another user for good",
    ),
    habit(
        Common::Root(0.25),
        &[("setgroups", Nearly), ("setresgid", Nearly), ("setresuid", Nearly), ("capset", Sometimes)],
        "a daemon started as root becomes another user, by the calls that set every id",
    ),
    habit(Common::Root(0.15), &[("capset", Nearly)], "a daemon started as root keeps some capabilities only"),
    habit(
        Common::Root(0.25),
        &[("fchown", Mostly), ("chown", Often), ("umask", Often), ("chroot", Sometimes)],
        "a daemon started as root makes its files and directories over to another user",
    ),
    habit(
        Common::Part(0.35),
        &[
            ("socketpair", Mostly),
            ("pipe2", Mostly),
            ("recvmsg", Often),
            ("sendmsg", Often),
            ("umask", Often),
            ("setsid", Sometimes),
            ("alarm", Sometimes),
        ],
        "who has worker processes talks with them and hands descriptors over",
    ),
    habit(
        Common::Part(0.2),
        &[("setsid", Mostly), ("umask", Mostly), ("flock", Sometimes)],
        "a daemon that detaches itself makes a session, sets its umask and locks its pid file",
    ),
    habit(
        Common::Part(0.25),
        &[
            ("fsync", Mostly),
            ("fdatasync", Often),
            ("flock", Sometimes),
            ("umask", Sometimes),
            ("sync_file_range", Rarely),
            ("msync", Rarely),
        ],
        "who keeps data makes sure that it is on disk, and that no other writes it",
    ),
    habit(
        Common::Part(0.03),
        &[("shmget", Nearly), ("shmat", Nearly), ("shmdt", Mostly), ("shmctl", Mostly)],
        "who shares memory of System V makes, attaches, detaches and removes it",
    ),
    habit(
        Common::Part(0.02),
        &[("semget", Nearly), ("semctl", Nearly), ("semop", Mostly)],
        "who uses semaphores of System V makes, sets and removes them",
    ),
    habit(
        Common::Part(0.06),
        &[("timer_create", Nearly), ("timer_settime", Nearly), ("timer_delete", Often)],
        "who makes a POSIX timer sets it",
    ),
    habit(
        Common::Part(0.03),
        &[("timerfd_create", Nearly), ("timerfd_settime", Nearly), ("timerfd_gettime", Rarely)],
        "who makes a timer descriptor sets it",
    ),
    habit(Common::Part(0.1), &[("alarm", Often), ("setitimer", Often)], "who must not wait for ever sets an alarm"),
    habit(
        Common::Part(0.07),
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
        "who cares when its threads run asks for the range and sets it",
    ),
    habit(
        Common::Root(0.05),
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
        "who opens sessions for users, by PAM, acts as them for a while",
    ),
    habit(Common::Part(0.05), &[("sendfile", Nearly)], "who serves files sends them without copying"),
    habit(
        Common::Part(0.06),
        &[("get_mempolicy", Mostly), ("set_mempolicy", Mostly), ("mbind", Sometimes)],
        "a library for machines of several memory nodes asks how memory is placed",
    ),
    habit(
        Common::Part(0.06),
        &[("mlock", Mostly), ("munlock", Often), ("mlockall", Sometimes)],
        "who holds secrets, or must not wait for the disk, keeps memory from being swapped out",
    ),
    habit(
        Common::Part(0.03),
        &[("io_uring_setup", Nearly), ("io_uring_enter", Nearly), ("io_uring_register", Sometimes)],
        "who makes a ring for input and output submits to it",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::syscalls::Abi;

    #[test]
    fn every_call_is_one_and_no_habit_names_it_twice() {
        for habit in HABITS {
            for (index, (call, _)) in habit.calls.iter().enumerate() {
                assert!(Abi::X86_64.call_number(call).is_some(), "{call}");
                assert!(habit.calls.iter().skip(index + 1).all(|(other, _)| other != call), "{call} twice");
            }
        }
    }

    #[test]
    fn shares_are_ordered_parts() {
        let parts = [Rarely, Sometimes, Often, Mostly, Nearly].map(Share::part);
        assert!(parts.is_sorted() && parts.iter().all(|part| (0.0..1.0).contains(part)));
    }
}
