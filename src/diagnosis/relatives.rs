//! Relatives of a call: calls that give a program no further power once it may make the call itself.
//!
//! A program calls its C library, and the library makes a call that the library and the kernel both know. After an
//! upgrade, on another architecture or with a 64-bit clock, the library makes another call. A remedy that allows the
//! relatives as well keeps the next upgrade from breaking the unit again.
//!
//! Relatives are the same kernel function under another name, calls that do a part of what the call does, and calls
//! that the kernel permits by the same capability. A call that does more is no relative: `unlinkat` can do what `rmdir`
//! does, so it has `rmdir` as a relative, but `rmdir` does not have `unlinkat`.

use super::privileged_calls;
use crate::syscalls::{Abi, Groups};

/// Calls that are each other's relatives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallFamily {
    /// The calls, by the names of any ABI.
    pub calls: &'static [&'static str],
    /// What swaps the calls, and why.
    pub reason: &'static str,
}

/// Calls that do a part of what some other calls do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallParts {
    /// The calls that do more.
    pub of: &'static [&'static str],
    /// The calls that do a part of it.
    pub calls: &'static [&'static str],
    /// Why a program makes them instead.
    pub reason: &'static str,
}

/// A relative of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Relative {
    /// The call.
    pub call: &'static str,
    /// Why it may be made instead.
    pub reason: &'static str,
}

impl Relative {
    /// Whether it does the work of the call or a part of it, and not only needs the same capability.
    pub(crate) fn does_same_work(&self) -> bool {
        !BY_CAPABILITY.contains(&self.reason)
    }
}

/// Returns the relatives of a call that its ABI has and this systemd knows.
pub fn find_relatives<'a>(abi: Abi, call: &'a str, groups: &'a Groups) -> impl Iterator<Item = Relative> + 'a {
    let families = FAMILIES.iter().map(|family| (family.calls, family.calls, family.reason));
    let parts = PARTS.iter().map(|parts| (parts.of, parts.calls, parts.reason));
    families
        .chain(parts)
        .filter(move |(of, _, _)| of.contains(&call))
        .flat_map(|(_, calls, reason)| calls.iter().map(move |call| Relative { call, reason }))
        .filter(move |relative| relative.call != call && abi.call_number(relative.call).is_some())
        .filter(move |relative| groups.is_known(relative.call))
}

/// Returns the calls that do what a call does, or more, under any ABI: an owner who excludes one of them does not want
/// the call either. The calls of one capability do different things, and a multiplexer stands for many calls.
pub(super) fn find_equivalents(call: &str) -> impl Iterator<Item = &'static str> {
    let families = FAMILIES.iter().map(|family| (family.calls, family.calls, family.reason));
    let parts = PARTS.iter().map(|parts| (parts.of, parts.calls, parts.reason));
    families
        .chain(parts)
        .filter(|(_, _, reason)| !BY_CAPABILITY.contains(reason) && *reason != MULTIPLEXER)
        .filter(move |(_, calls, _)| calls.contains(&call))
        .flat_map(|(of, _, _)| of.iter().copied())
}

/// Whether a call is the older form of one that takes flags. Libraries that make the newer form do not go back to it.
pub(super) fn is_older_form(call: &str) -> bool {
    FAMILIES.iter().any(|family| family.reason == FLAGS && family.calls.first() == Some(&call))
}

const fn family(calls: &'static [&'static str], reason: &'static str) -> CallFamily {
    CallFamily { calls, reason }
}

const WIDE_TIME: &str =
    "32-bit libraries with a 64-bit clock make the _time64 call, and the old one where it is missing";
const WIDE_FILE: &str = "32-bit libraries make the 64-bit call for large files; 64-bit ABIs have one alone";
const WIDE_ID: &str = "32-bit ABIs have it for 16-bit ids under the old name, and for 32-bit ids as another call";
const AT: &str = "newer libraries, and ABIs without the old call, make the one that takes a directory";
const FLAGS: &str = "newer libraries, and ABIs without the old call, make the one that takes flags";
const FIXED: &str = "an older form with fixed flags or arguments";
const BY_SETUID: &str = "the kernel permits it by CAP_SETUID, as it does the denied call";
const BY_SETGID: &str = "the kernel permits it by CAP_SETGID, as it does the denied call";
const BY_CHOWN: &str = "the kernel permits it by CAP_CHOWN, as it does the denied call";
const BY_CAPABILITY: [&str; 3] = [BY_SETUID, BY_SETGID, BY_CHOWN];
const MULTIPLEXER: &str = "some 32-bit libraries reach it through the multiplexer, others directly";

/// Every family of mutual relatives.
pub const FAMILIES: &[CallFamily] = &[
    family(
        &["clone", "clone3"],
        "libc makes processes and threads by clone3 where the kernel has it, and by clone before",
    ),
    family(&["fork", "vfork"], "libraries make either, depending on what the child does"),
    family(&["execve", "execveat"], "fexecve(3) makes execveat, and execve by way of /proc where it is missing"),
    family(
        &["wait4", "waitpid", "waitid"],
        "waitpid(3) is wait4 on most ABIs, waitid on new ones; runtimes that hold pidfds make waitid",
    ),
    family(&["exit", "exit_group"], "the last thread may end by either"),
    family(&["tkill", "tgkill"], "raise(3) and pthread_kill(3) were tkill before tgkill existed"),
    // Files.
    family(
        &["open", "openat", "openat2"],
        "newer libraries make openat; programs that resolve paths carefully make openat2, and openat on older kernels",
    ),
    family(
        &["access", "faccessat", "faccessat2"],
        "libc makes faccessat2 for flags since glibc 2.33, and faccessat on older kernels",
    ),
    family(
        &["chmod", "fchmodat", "fchmodat2"],
        "libc makes fchmodat2 for flags since glibc 2.39, and fchmodat on older kernels",
    ),
    family(privileged_calls::OWNERSHIP, BY_CHOWN),
    family(
        &["stat", "newfstatat", "stat64", "fstatat64", "statx", "oldstat"],
        "stat(2) has been a new call four times; statx is what newer libraries and 32-bit ABIs make",
    ),
    family(
        &["lstat", "newfstatat", "lstat64", "fstatat64", "statx", "oldlstat"],
        "lstat(2) has been a new call four times; statx is what newer libraries and 32-bit ABIs make",
    ),
    family(
        &["fstat", "newfstatat", "fstat64", "fstatat64", "statx", "oldfstat"],
        "fstat(2) is newfstatat from glibc 2.33 to 2.38 and fstat again since; newer ABIs have statx alone",
    ),
    family(&["statfs", "statfs64"], WIDE_FILE),
    family(&["fstatfs", "fstatfs64"], WIDE_FILE),
    family(&["truncate", "truncate64"], WIDE_FILE),
    family(&["ftruncate", "ftruncate64"], WIDE_FILE),
    family(&["fcntl", "fcntl64"], WIDE_FILE),
    family(&["lseek", "_llseek"], WIDE_FILE),
    family(&["sendfile", "sendfile64"], WIDE_FILE),
    family(&["fadvise64", "fadvise64_64", "arm_fadvise64_64"], "its 64-bit arguments have another order on some ABIs"),
    family(
        &["sync_file_range", "sync_file_range2", "arm_sync_file_range"],
        "its 64-bit arguments have another order on some ABIs",
    ),
    family(&["mmap", "mmap2"], "32-bit ABIs count the offset in pages"),
    family(&["link", "linkat"], AT),
    family(&["symlink", "symlinkat"], AT),
    family(&["readlink", "readlinkat"], AT),
    family(&["unlink", "unlinkat"], AT),
    family(
        &["rename", "renameat", "renameat2"],
        "new ABIs have renameat2 alone, and programs that must not overwrite a file make it",
    ),
    family(&["mkdir", "mkdirat"], AT),
    family(&["mknod", "mknodat"], AT),
    family(&["getdents", "getdents64", "readdir"], WIDE_FILE),
    family(
        &["utime", "utimes", "futimesat", "utimensat", "utimensat_time64"],
        "libc sets all times by utimensat since it exists",
    ),
    family(&["preadv", "preadv2"], "libc makes preadv2 for flags, and preadv on older kernels"),
    family(&["pwritev", "pwritev2"], "libc makes pwritev2 for flags, and pwritev on older kernels"),
    family(&["setxattr", "setxattrat"], AT),
    family(&["getxattr", "getxattrat"], AT),
    family(&["listxattr", "listxattrat"], AT),
    family(&["removexattr", "removexattrat"], AT),
    family(&["dup2", "dup3"], FLAGS),
    family(&["pipe", "pipe2"], FLAGS),
    family(&["eventfd", "eventfd2"], FLAGS),
    family(&["signalfd", "signalfd4"], FLAGS),
    family(&["inotify_init", "inotify_init1"], FLAGS),
    family(&["close", "close_range"], "closefrom(3) makes close_range, and many times close on older kernels"),
    // Waiting.
    family(&["epoll_create", "epoll_create1"], FLAGS),
    family(
        &["epoll_wait", "epoll_pwait", "epoll_pwait2"],
        "epoll_wait(3) is epoll_pwait where the ABI has no other; epoll_pwait2 is made for finer timeouts",
    ),
    family(
        &["select", "_newselect", "pselect6", "pselect6_time64"],
        "select(3) is pselect6 on new ABIs and in newer libraries",
    ),
    family(&["poll", "ppoll", "ppoll_time64"], "poll(3) is ppoll on new ABIs and in newer libraries"),
    family(&["io_pgetevents", "io_pgetevents_time64"], WIDE_TIME),
    family(&["futex", "futex_time64"], WIDE_TIME),
    family(&["nanosleep", "clock_nanosleep", "clock_nanosleep_time64"], "sleep(3) is clock_nanosleep since glibc 2.31"),
    // Sockets.
    family(&["accept", "accept4"], FLAGS),
    family(&["recvmmsg", "recvmmsg_time64"], WIDE_TIME),
    family(&["semop", "semtimedop", "semtimedop_time64"], "semop(3) is semtimedop without a timeout since glibc 2.31"),
    family(&["mq_timedsend", "mq_timedsend_time64"], WIDE_TIME),
    family(&["mq_timedreceive", "mq_timedreceive_time64"], WIDE_TIME),
    // Signals.
    family(&["signal", "sigaction", "rt_sigaction"], "libc makes the rt_ call; the others are older forms"),
    family(&["sigprocmask", "rt_sigprocmask"], "libc makes the rt_ call; the other is an older form"),
    family(&["sigpending", "rt_sigpending"], "libc makes the rt_ call; the other is an older form"),
    family(&["sigsuspend", "rt_sigsuspend"], "libc makes the rt_ call; the other is an older form"),
    family(&["sigreturn", "rt_sigreturn"], "which one ends a handler depends on how it was set up"),
    family(&["rt_sigtimedwait", "rt_sigtimedwait_time64"], WIDE_TIME),
    family(&["rt_sigqueueinfo", "rt_tgsigqueueinfo"], "sigqueue(3) aims at a process, pthread_sigqueue(3) at a thread"),
    // Clocks and timers.
    family(
        &["time", "gettimeofday", "clock_gettime", "clock_gettime64"],
        "each is made where the vDSO cannot answer, by which depends on the library",
    ),
    family(&["clock_getres", "clock_getres_time64"], WIDE_TIME),
    family(
        &["settimeofday", "clock_settime", "clock_settime64", "stime"],
        "settimeofday(3) is clock_settime since glibc 2.31",
    ),
    family(&["adjtimex", "clock_adjtime", "clock_adjtime64"], "adjtimex(3) is clock_adjtime since glibc 2.31"),
    family(&["timer_gettime", "timer_gettime64"], WIDE_TIME),
    family(&["timer_settime", "timer_settime64"], WIDE_TIME),
    family(&["timerfd_gettime", "timerfd_gettime64"], WIDE_TIME),
    family(&["timerfd_settime", "timerfd_settime64"], WIDE_TIME),
    family(&["sched_rr_get_interval", "sched_rr_get_interval_time64"], WIDE_TIME),
    // Limits and scheduling.
    family(&["getrlimit", "ugetrlimit"], "32-bit ABIs have it for larger limits under the second name"),
    family(
        &["sched_getattr", "sched_getparam", "sched_getscheduler"],
        "newer programs make sched_getattr, and the others on older kernels",
    ),
    family(&["mlock", "mlock2"], FLAGS),
    family(&["uname", "olduname", "oldolduname"], "uname(2) has been a new call twice"),
    // Identities.
    family(&["getuid", "getuid32"], WIDE_ID),
    family(&["getgid", "getgid32"], WIDE_ID),
    family(&["geteuid", "geteuid32"], WIDE_ID),
    family(&["getegid", "getegid32"], WIDE_ID),
    family(&["getresuid", "getresuid32"], WIDE_ID),
    family(&["getresgid", "getresgid32"], WIDE_ID),
    family(&["getgroups", "getgroups32"], WIDE_ID),
    family(privileged_calls::USER_IDENTITY, BY_SETUID),
    family(privileged_calls::GROUP_IDENTITY, BY_SETGID),
    // Calls that only an administrator's program makes.
    family(&["umount", "umount2"], FLAGS),
    family(
        &["init_module", "finit_module"],
        "kmod loads modules by file descriptor, and by memory where they are compressed",
    ),
    family(&["quotactl", "quotactl_fd"], "newer tools name the file system by descriptor"),
];

const fn parts(of: &'static [&'static str], calls: &'static [&'static str], reason: &'static str) -> CallParts {
    CallParts { of, calls, reason }
}

/// Calls that do a part of what others do.
pub const PARTS: &[CallParts] = &[
    parts(&["clone", "clone3"], &["fork", "vfork"], "older forms, which share nothing and make no namespaces"),
    parts(&["kill"], &["pidfd_send_signal"], "runtimes that hold a pidfd signal by it, and by kill on older kernels"),
    parts(&["getpgid"], &["getpgrp"], FIXED),
    parts(&["open", "openat", "openat2"], &["creat"], FIXED),
    parts(&["unlinkat"], &["rmdir"], FIXED),
    parts(&["setitimer"], &["alarm"], FIXED),
    parts(
        &["futex", "futex_time64"],
        &["futex_requeue", "futex_wait", "futex_waitv", "futex_wake"],
        "the newer calls each do a part of futex's work",
    ),
    parts(&["recvfrom"], &["recv"], FIXED),
    parts(&["sendto"], &["send"], FIXED),
    parts(&["rt_sigsuspend", "sigsuspend"], &["pause"], FIXED),
    parts(&["prlimit64"], &["getrlimit", "setrlimit", "ugetrlimit"], FIXED),
    parts(&["setpriority"], &["nice"], FIXED),
    parts(&["sched_setattr"], &["sched_setparam", "sched_setscheduler"], FIXED),
    parts(&["sched_setscheduler"], &["sched_setparam"], FIXED),
    parts(
        &["socketcall"],
        &[
            "accept4",
            "bind",
            "connect",
            "getpeername",
            "getsockname",
            "getsockopt",
            "listen",
            "recvfrom",
            "recvmsg",
            "sendmsg",
            "sendto",
            "setsockopt",
            "shutdown",
            "socket",
            "socketpair",
        ],
        MULTIPLEXER,
    ),
    parts(
        &["ipc"],
        &["msgctl", "msgget", "msgrcv", "msgsnd", "semctl", "semget", "semop", "shmat", "shmctl", "shmdt", "shmget"],
        MULTIPLEXER,
    ),
];
