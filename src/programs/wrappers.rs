//! The table of libc's functions and the calls that each makes.
//!
//! Sources: `syscalls.list` and `sysdeps/unix/sysv/linux/` of glibc 2.31 to 2.40, `src/` of musl 1.2, and the manual pages'
//! sections "C library/kernel differences". A call may name alternatives, `access/faccessat`: the first one that the ABI
//! has is made. Calls that the ABI lacks do not count. Names are separated by spaces.

use crate::syscalls::Abi;
use std::collections::HashMap;
use std::sync::LazyLock;

/// The C library of a program: each makes its own calls for the same function.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Libc {
    /// The GNU C library.
    #[default]
    Glibc,
    /// musl, on Alpine Linux and others.
    Musl,
}

/// Functions of libc with the same calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wrapper {
    functions: &'static str,
    glibc: &'static str,
    musl: &'static str,
    /// Why the calls do not have the function's name.
    reason: &'static str,
}

const fn same(functions: &'static str, calls: &'static str, reason: &'static str) -> Wrapper {
    Wrapper { functions, glibc: calls, musl: calls, reason }
}

const fn differ(functions: &'static str, glibc: &'static str, musl: &'static str, reason: &'static str) -> Wrapper {
    Wrapper { functions, glibc, musl, reason }
}

/// Functions that pass their arguments to the call of the same name.
const DIRECT: &str = "accept4 bind brk capget capset chdir chroot clone close connect copy_file_range dup dup3 \
            epoll_create1 epoll_ctl epoll_pwait epoll_pwait2 execve fallocate fanotify_init fanotify_mark fchdir \
            fchmod fchmodat fchownat fdatasync fgetxattr flistxattr flock fremovexattr fsetxattr fsync \
            get_mempolicy getcwd getdents64 getitimer getpeername getpgid getpid getppid getpriority getrandom getrusage \
            getsid getsockname getsockopt gettid getxattr inotify_add_watch inotify_init1 inotify_rm_watch \
            io_cancel io_destroy io_getevents io_setup io_submit ioctl ioprio_set keyctl kill lgetxattr linkat \
            listen listxattr llistxattr lsetxattr madvise mbind memfd_create mincore mkdirat mknodat mlock \
            mlock2 mlockall mount mprotect mq_open mremap msgctl msgget msgrcv msgsnd msync munlock munlockall \
            munmap personality pipe2 prctl preadv preadv2 ptrace pwritev pwritev2 read readlinkat readv recvfrom \
            recvmsg removexattr sched_get_priority_max sched_get_priority_min sched_getaffinity \
            sched_getparam sched_getscheduler sched_setaffinity sched_setparam sched_setscheduler sched_yield \
            semctl semget semtimedop sendmmsg sendmsg sendto set_mempolicy setitimer setns setpgid setpriority \
            setsid setsockopt setxattr shmat shmctl shmdt shmget shutdown sigaltstack socket socketpair splice \
            statx symlinkat sync sync_file_range syncfs sysinfo tee timer_create timer_delete timerfd_create \
            times umask umount2 uname unlinkat unshare wait4 waitid write writev";

/// Functions that most programs import for rare cases: fewer than three in ten of the recorded programs that import one
/// made its calls (`tests/data/imports`).
const RARELY_USED: &str = "abort chroot clock copy_file_range daemon fchmodat fgetxattr flistxattr fremovexattr \
            fsetxattr ftruncate get_current_dir_name getpass getpgid getpgrp getrusage getsid getxattr inotify_init \
            inotify_rm_watch io_destroy io_setup io_submit killpg lgetxattr link listxattr llistxattr lsetxattr \
            mbind mkdirat mkfifo mkfifoat mknod mknodat mlockall mremap msgget msgrcv msgsnd msync munlock \
            munlockall posix_fadvise pthread_setaffinity_np pwritev raise readlinkat readv recvfrom removexattr \
            renameat rmdir sched_get_priority_min sched_setaffinity sd_notify sd_notifyf sd_pid_notify \
            sd_pid_notify_with_fds sd_pid_notifyf semctl semget semop sendfile sendmmsg setitimer setns setpgid \
            setpriority setsid setxattr shmat shmget sigsuspend sleep splice symlink symlinkat syncfs sysinfo \
            tcgetpgrp unshare usleep utime utimes wait wait3";

/// Functions that Go links into every program with sockets or mapped files, and that few of them use (the Go programs of
/// `tests/data/programs`).
const RARELY_USED_IN_GO: &str = "accept ioctl madvise recvmsg sendmsg sendto shutdown";

const ALLOCATOR: &str = "libc's allocator gets and returns memory by them";
const AT: &str = "newer ABIs have only the call that takes a directory";
const FLAGS: &str = "newer libraries, and newer ABIs, make the call that takes flags";
const LARGE: &str = "32-bit ABIs have another call for large files";
const NAMES: &str = "libc asks the name service over a socket (nss(5))";
const RT: &str = "libc makes the call for real-time signals";
const SHORTER: &str = "the function takes fewer arguments than the call, or other ones";
const SPAWN: &str = "libc makes the child by clone3 where the kernel has it, and by clone before";
const STREAM: &str = "a stream of stdio reads and writes its file so";
const TERMINAL: &str = "libc reads and sets a terminal by ioctl";
const WIDE_ID: &str = "32-bit ABIs have another call for 32-bit ids";
const WIDE_TIME: &str = "32-bit ABIs have another call for 64-bit times";

/// Functions whose calls have other names.
const WRAPPERS: &[Wrapper] = &[
    // The start of every program.
    differ(
        "libc_start_main",
        "execve brk mmap2/mmap mprotect munmap access/faccessat openat close read fstat64/fstat/statx \
            fstatat64/newfstatat pread64 arch_prctl set_tid_address set_robust_list rseq prlimit64 getrandom \
            exit_group futex futex_time64",
        "execve brk mmap2/mmap mprotect munmap open/openat close read fstat64/fstat/statx fcntl64/fcntl \
            arch_prctl set_tid_address exit_group futex",
        "the dynamic linker loads the libraries, and libc starts and ends the program",
    ),
    same("malloc calloc realloc free posix_memalign aligned_alloc", "brk mmap2/mmap munmap", ALLOCATOR),
    same("mmap", "mmap2/mmap", LARGE),
    same("posix_madvise", "madvise", SHORTER),
    // Files.
    same("creat", "creat/openat", AT),
    differ("open openat fopen freopen opendir", "openat", "open/openat", "glibc makes openat since 2.26, musl open"),
    differ("mkstemp mkostemp mkstemps mkostemps", "openat getrandom", "open/openat", "the name of the file is random"),
    differ(
        "tmpfile",
        "openat getrandom fcntl64/fcntl",
        "open/openat unlink/unlinkat",
        "the name of the file is random, and it becomes a stream",
    ),
    differ("fread fgets fgetc getc getline getdelim fscanf ungetc", "read", "read readv", STREAM),
    differ(
        "fwrite fputs puts printf fprintf vfprintf vprintf perror putchar fputc dprintf vdprintf",
        "write",
        "write writev",
        STREAM,
    ),
    same("fclose closedir", "close", STREAM),
    same("lseek fseek fseeko ftell ftello rewind rewinddir seekdir", "_llseek/lseek", LARGE),
    same("pread", "pread64", LARGE),
    same("pwrite", "pwrite64", LARGE),
    differ(
        "stat lstat fstatat xstat lxstat fxstatat",
        "fstatat64/newfstatat/statx",
        "fstatat64/newfstatat/statx stat lstat",
        "glibc makes newfstatat since 2.33, and statx where that is missing",
    ),
    differ(
        "fstat fxstat",
        "fstat64/fstat/statx newfstatat",
        "fstat64/fstat/statx",
        "glibc 2.33 to 2.38 makes newfstatat",
    ),
    same("statfs statvfs", "statfs64/statfs", LARGE),
    same("fstatfs fstatvfs", "fstatfs64/fstatfs", LARGE),
    same("truncate", "truncate64/truncate", LARGE),
    same("ftruncate", "ftruncate64/ftruncate", LARGE),
    same("posix_fallocate", "fallocate", SHORTER),
    same("posix_fadvise", "arm_fadvise64_64/fadvise64_64/fadvise64", SHORTER),
    same("fcntl lockf", "fcntl64/fcntl", LARGE),
    same("sendfile", "sendfile64/sendfile", LARGE),
    differ("access faccessat", "access/faccessat faccessat2", "access/faccessat", AT),
    differ(
        "eaccess euidaccess",
        "access/faccessat faccessat2 fstatat64/newfstatat/statx",
        "access/faccessat faccessat2",
        "glibc compares the owner and the mode of the file itself",
    ),
    same("chmod", "chmod/fchmodat", AT),
    same("chown", "chown32/chown/fchownat", WIDE_ID),
    same("fchown", "fchown32/fchown", WIDE_ID),
    same("lchown", "lchown32/lchown/fchownat", WIDE_ID),
    same("link", "link/linkat", AT),
    same("symlink", "symlink/symlinkat", AT),
    same("readlink realpath", "readlink/readlinkat", AT),
    same("unlink remove", "unlink/unlinkat", AT),
    same("rmdir", "rmdir/unlinkat", AT),
    same("rename", "rename/renameat/renameat2", AT),
    same("renameat", "renameat/renameat2", FLAGS),
    same("renameat2", "renameat2 renameat", "without flags, libc makes renameat"),
    same("mkdir mkdtemp", "mkdir/mkdirat", AT),
    differ("mknod xmknod mkfifo", "mknodat mknod", "mknod/mknodat", "glibc makes mknodat since 2.33"),
    same("xmknodat mkfifoat", "mknodat", SHORTER),
    same("readdir readdir_r scandir glob getdents", "getdents64", LARGE),
    same("ftw nftw", "getdents64 fcntl64/fcntl", "libc reads the directories in turn"),
    same("get_current_dir_name", "getcwd", SHORTER),
    same(
        "utime utimes utimensat futimens futimesat futimes lutimes",
        "utimensat utimensat_time64",
        "libc sets all times by utimensat",
    ),
    same("dup2", "dup2/dup3", FLAGS),
    differ("pipe", "pipe2", "pipe/pipe2", FLAGS),
    differ("inotify_init", "inotify_init/inotify_init1", "inotify_init1", FLAGS),
    same("eventfd", "eventfd2", FLAGS),
    same("signalfd", "signalfd4", FLAGS),
    same(
        "isatty tcgetattr tcsetattr tcflush tcsendbreak tcgetpgrp tcsetpgrp ttyname ttyname_r getpass ptsname \
            ptsname_r",
        "ioctl",
        TERMINAL,
    ),
    // Processes and threads.
    differ("fork forkpty", "clone", "fork/clone", "glibc makes clone since 2.3"),
    differ("vfork", "vfork/clone", "vfork/clone", AT),
    differ(
        "posix_spawn posix_spawnp system",
        "clone3 clone wait4 rt_sigprocmask rt_sigaction",
        "clone wait4 rt_sigprocmask rt_sigaction",
        SPAWN,
    ),
    differ(
        "popen pclose",
        "clone3 clone wait4 pipe2 rt_sigprocmask rt_sigaction fcntl64/fcntl",
        "clone wait4 pipe2 rt_sigprocmask rt_sigaction fcntl64/fcntl",
        SPAWN,
    ),
    differ("daemon", "clone setsid", "fork/clone setsid", "the program detaches itself in a child"),
    same("execv execl execlp execle execvp execvpe", "execve", SHORTER),
    same("fexecve", "execveat execve", "kernels before 3.19 lack execveat"),
    same("wait waitpid wait3", "wait4", SHORTER),
    same("killpg", "kill", SHORTER),
    differ(
        "raise abort pthread_kill pthread_cancel tgkill",
        "tgkill getpid gettid",
        "tkill tgkill",
        "libc signals one thread, which it asks for",
    ),
    differ(
        "pthread_create thrd_create",
        "clone3 clone rt_sigprocmask rt_sigaction madvise",
        "clone rt_sigprocmask",
        "as for posix_spawn; glibc also returns the stack of a thread that ended (advise_stack_range)",
    ),
    same("pthread_setname_np", "prctl", SHORTER),
    differ("getpgrp", "getpgrp/getpgid", "getpgid", "newer ABIs have only getpgid"),
    same("setpgrp", "setpgid", SHORTER),
    same("thrd_yield pthread_yield", "sched_yield", SHORTER),
    same("pthread_setschedparam", "sched_setscheduler", SHORTER),
    same("pthread_setaffinity_np", "sched_setaffinity", SHORTER),
    same("pthread_getaffinity_np", "sched_getaffinity", SHORTER),
    same("nice", "getpriority setpriority", "glibc adds to the present priority"),
    same("getrlimit setrlimit prlimit", "prlimit64", "libc reads and sets limits by prlimit64"),
    same("clock", "clock_gettime64/clock_gettime", "the time that a process used is no time of the vDSO (vdso(7))"),
    // Signals and waiting.
    same("sigaction signal sysv_signal bsd_signal sigset siginterrupt", "rt_sigaction rt_sigreturn", RT),
    same("sigprocmask pthread_sigmask siglongjmp sigsetjmp sigblock sigsetmask", "rt_sigprocmask", RT),
    same("sigsuspend", "rt_sigsuspend", RT),
    same("sigwait sigwaitinfo sigtimedwait", "rt_sigtimedwait_time64/rt_sigtimedwait", RT),
    same("sigqueue pthread_sigqueue", "rt_sigqueueinfo getpid getuid32/getuid", RT),
    same("sigpending", "rt_sigpending", RT),
    same("pause", "pause/ppoll", "newer ABIs have no call for it"),
    differ("alarm", "alarm/setitimer", "setitimer", "newer ABIs have only setitimer"),
    same("ualarm", "setitimer", SHORTER),
    differ(
        "sleep usleep nanosleep clock_nanosleep thrd_sleep",
        "clock_nanosleep_time64/clock_nanosleep",
        "clock_nanosleep_time64/clock_nanosleep nanosleep",
        "glibc makes clock_nanosleep since 2.31",
    ),
    differ("select", "pselect6_time64/pselect6", "pselect6_time64/select/pselect6", WIDE_TIME),
    same("pselect", "pselect6_time64/pselect6", WIDE_TIME),
    same("poll", "poll/ppoll", "newer ABIs have only ppoll"),
    same("ppoll", "ppoll_time64/ppoll", WIDE_TIME),
    differ("epoll_create", "epoll_create/epoll_create1", "epoll_create1", FLAGS),
    differ("epoll_wait", "epoll_wait/epoll_pwait", "epoll_pwait", "newer ABIs have only epoll_pwait"),
    same("timerfd_settime", "timerfd_settime64/timerfd_settime", WIDE_TIME),
    same("timerfd_gettime", "timerfd_gettime64/timerfd_gettime", WIDE_TIME),
    same("timer_settime", "timer_settime64/timer_settime", WIDE_TIME),
    differ("semop", "semtimedop", "semop/semtimedop", "glibc makes semtimedop since 2.31"),
    // Sockets and names.
    same("accept", "accept/accept4", FLAGS),
    same("send", "sendto", SHORTER),
    same("recv", "recvfrom", SHORTER),
    same("recvmmsg", "recvmmsg_time64/recvmmsg", WIDE_TIME),
    same("syslog vsyslog openlog", "socket connect sendto", "libc sends to /dev/log"),
    same(
        "getaddrinfo gethostbyname gethostbyname_r gethostbyname2 gethostbyname2_r gethostbyaddr \
            gethostbyaddr_r getnameinfo res_query res_nquery res_search res_nsearch",
        "socket connect bind getsockname sendto recvmsg uname poll/ppoll",
        "libc asks name servers, and the kernel for the machine's addresses (rtnetlink(7))",
    ),
    same(
        "getpwnam getpwnam_r getpwuid getpwuid_r getgrnam getgrnam_r getgrgid getgrgid_r getgrouplist \
            getpwent getgrent getspnam getspnam_r",
        "socket connect _llseek/lseek",
        NAMES,
    ),
    same("initgroups", "setgroups32/setgroups socket connect", NAMES),
    same("getifaddrs if_nameindex", "socket bind getsockname sendto recvmsg", "libc asks the kernel by rtnetlink(7)"),
    same("if_nametoindex if_indextoname", "socket ioctl", "libc asks the kernel by netdevice(7)"),
    same(
        "sd_notify sd_notifyf sd_pid_notify sd_pid_notifyf sd_pid_notify_with_fds",
        "socket getsockopt setsockopt sendmsg",
        "libsystemd makes its buffer larger and sends to the manager (sd_notify(3))",
    ),
    same(
        "sd_journal_send sd_journal_print sd_journal_sendv sd_journal_printv sd_journal_send_with_location \
            sd_journal_print_with_location",
        "socket sendmsg",
        "libsystemd sends to the journal",
    ),
    same(
        "sd_is_socket sd_is_socket_inet sd_is_socket_unix sd_is_socket_sockaddr",
        "getsockopt getsockname",
        "libsystemd looks at the socket",
    ),
    // The machine.
    same("gethostname", "uname", SHORTER),
    same("get_phys_pages get_avphys_pages", "sysinfo", SHORTER),
    differ("qsort", "sysinfo", "", "glibc before 2.37 asks how much memory it may use"),
    same("getentropy arc4random arc4random_buf arc4random_uniform", "getrandom", SHORTER),
    same("numa_available", "get_mempolicy", "libnuma asks whether the kernel has several nodes"),
    // Identities.
    same("getuid", "getuid32/getuid", WIDE_ID),
    same("geteuid", "geteuid32/geteuid", WIDE_ID),
    same("getgid", "getgid32/getgid", WIDE_ID),
    same("getegid", "getegid32/getegid", WIDE_ID),
    same("getresuid", "getresuid32/getresuid", WIDE_ID),
    same("getresgid", "getresgid32/getresgid", WIDE_ID),
    same("getgroups", "getgroups32/getgroups", WIDE_ID),
    same("setuid", "setuid32/setuid", WIDE_ID),
    same("setgid", "setgid32/setgid", WIDE_ID),
    same("setgroups", "setgroups32/setgroups", WIDE_ID),
    same("seteuid setresuid", "setresuid32/setresuid", "libc sets the effective id alone by setresuid"),
    same("setegid setresgid", "setresgid32/setresgid", "libc sets the effective id alone by setresgid"),
    same("setreuid", "setreuid32/setreuid", WIDE_ID),
    same("setregid", "setregid32/setregid", WIDE_ID),
    same("setfsuid", "setfsuid32/setfsuid", WIDE_ID),
    same("setfsgid", "setfsgid32/setfsgid", WIDE_ID),
    same(
        "cap_set_proc cap_setuid capng_apply capng_change_id",
        "capset",
        "libcap and libcap-ng set capabilities by capset",
    ),
    same(
        "cap_get_proc cap_get_pid capng_get_caps_process capng_have_capability",
        "capget",
        "libcap and libcap-ng read capabilities by capget",
    ),
    same("umount", "umount2", SHORTER),
];

/// The calls of a function, by libc.
#[derive(Debug, Clone, Copy)]
enum Calls {
    Direct(&'static str),
    Other(&'static Wrapper),
}

static BY_FUNCTION: LazyLock<HashMap<&'static str, Calls>> = LazyLock::new(|| {
    let direct = DIRECT.split_whitespace().map(|name| (name, Calls::Direct(name)));
    let other =
        WRAPPERS.iter().flat_map(|row| row.functions.split_whitespace().map(move |name| (name, Calls::Other(row))));
    direct.chain(other).collect()
});

/// Returns the plain name of a function. The variants do the same: `__read_chk` checks a buffer's size (`FORTIFY_SOURCE`),
/// `open64` takes a 64-bit offset, `__open_2` refuses a third argument, `__nanosleep64` takes a 64-bit time.
fn find_function(name: &str) -> Option<(&'static str, Calls)> {
    let plain = name.strip_prefix("__").unwrap_or(name);
    let short = plain.strip_suffix("_chk").or_else(|| plain.strip_suffix("_2")).unwrap_or(plain);
    let narrow = short.strip_suffix("64").unwrap_or(short);
    [name, plain, short, narrow]
        .into_iter()
        .find_map(|name| BY_FUNCTION.get_key_value(name).map(|(name, calls)| (*name, *calls)))
}

/// Whether a function makes calls that the table knows.
#[must_use]
pub(crate) fn is_wrapper(function: &str) -> bool {
    find_function(function).is_some()
}

/// Whether most programs that import a function use it only in rare cases.
#[must_use]
pub(crate) fn is_rarely_used(function: &str) -> bool {
    find_function(function).is_some_and(|(name, _)| RARELY_USED.split_whitespace().any(|rare| rare == name))
}

/// Whether Go links a function into programs although few of them use it.
pub(super) fn is_rarely_used_in_go(function: &str) -> bool {
    find_function(function).is_some_and(|(name, _)| RARELY_USED_IN_GO.split_whitespace().any(|rare| rare == name))
}

/// Returns the calls that a function makes on an ABI.
pub(crate) fn find_calls(function: &str, libc: Libc, abi: Abi) -> impl Iterator<Item = &'static str> {
    let (one, other) = match find_function(function) {
        Some((_, Calls::Direct(name))) => (Some(name), ""),
        Some((_, Calls::Other(row))) if libc == Libc::Musl => (None, row.musl),
        Some((_, Calls::Other(row))) => (None, row.glibc),
        None => (None, ""),
    };
    let has_call = move |call: &&str| abi.call_number(call).is_some();
    one.into_iter()
        .filter(has_call)
        .chain(other.split_whitespace().filter_map(move |calls| calls.split('/').find(has_call)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn calls(function: &str, libc: Libc, abi: Abi) -> Vec<&'static str> {
        find_calls(function, libc, abi).collect()
    }

    #[test]
    fn row_names_only_real_calls_and_each_function_once() {
        let mut seen = BTreeSet::new();
        for name in DIRECT.split_whitespace() {
            assert!(seen.insert(name), "{name} twice");
        }
        for row in WRAPPERS {
            assert!(!row.reason.is_empty());
            assert!(row.functions.split_whitespace().all(|name| seen.insert(name)), "{} twice", row.functions);
            for call in
                row.glibc.split_whitespace().chain(row.musl.split_whitespace()).flat_map(|calls| calls.split('/'))
            {
                assert!(Abi::all().any(|abi| abi.call_number(call).is_some()), "{call}");
            }
        }
        for name in RARELY_USED.split_whitespace() {
            assert!(seen.contains(name), "{name}");
        }
    }

    #[test]
    fn function_makes_the_call_that_its_libc_and_abi_have() {
        use Libc::{Glibc, Musl};
        for (function, libc, abi, expected) in [
            ("open", Glibc, Abi::X86_64, &["openat"][..]),
            ("open", Musl, Abi::X86_64, &["open"]),
            ("open", Musl, Abi::Aarch64, &["openat"]),
            ("fork", Glibc, Abi::X86_64, &["clone"]),
            ("fork", Musl, Abi::X86_64, &["fork"]),
            ("popen", Musl, Abi::Aarch64, &["clone", "wait4", "pipe2", "rt_sigprocmask", "rt_sigaction", "fcntl"]),
            ("stat", Glibc, Abi::X86_64, &["newfstatat"]),
            ("stat", Glibc, Abi::I386, &["fstatat64"]),
            ("nanosleep", Glibc, Abi::Arm, &["clock_nanosleep_time64"]),
            ("accept", Glibc, Abi::X86_64, &["accept"]),
            ("send", Glibc, Abi::X86_64, &["sendto"]),
            ("signal", Musl, Abi::X86_64, &["rt_sigaction", "rt_sigreturn"]),
            ("pthread_create", Glibc, Abi::X86_64, &["clone3", "clone", "rt_sigprocmask", "rt_sigaction", "madvise"]),
            ("rename", Glibc, Abi::Aarch64, &["renameat"]),
            ("rename", Glibc, Abi::Riscv64, &["renameat2"]),
            ("posix_fadvise", Glibc, Abi::Arm, &["arm_fadvise64_64"]),
            ("getpgrp", Glibc, Abi::Aarch64, &["getpgid"]),
            ("setuid", Glibc, Abi::I386, &["setuid32"]),
            ("setuid", Glibc, Abi::Aarch64, &["setuid"]),
            ("listen", Musl, Abi::Riscv64, &["listen"]),
            ("qsort", Musl, Abi::X86_64, &[]),
            ("nginx_own_function", Glibc, Abi::X86_64, &[]),
        ] {
            assert_eq!(calls(function, libc, abi), expected, "{function} {libc:?} {abi:?}");
        }
        assert!(calls("__libc_start_main", Glibc, Abi::X86_64).contains(&"rseq"));
    }

    /// `tests/data/wrappers/measure` recorded the calls with strace(1), which the machines of the tests need not have.
    #[test]
    fn function_makes_the_recorded_calls() {
        let recorded = include_str!("../../tests/data/wrappers/glibc-2.36.txt");
        let start: BTreeSet<&str> = calls("libc_start_main", Libc::Glibc, Abi::X86_64).into_iter().collect();
        let mut read = 0;
        for (function, made) in recorded.lines().filter_map(|line| line.split_once(": ")) {
            let known = calls(function, Libc::Glibc, Abi::X86_64);
            for call in made.split_whitespace().filter(|call| !start.contains(call)) {
                assert!(known.contains(&call), "{function} makes {call}, not only {known:?}");
                read += 1;
            }
        }
        assert!(read > 200, "{read}");
    }

    #[test]
    fn variant_of_a_function_makes_the_calls_of_the_function() {
        for (variant, call) in [
            ("__read_chk", "read"),
            ("open64", "openat"),
            ("__open64_2", "openat"),
            ("pread64", "pread64"),
            ("__pread64_chk", "pread64"),
            ("__fxstat64", "fstat"),
            ("__nanosleep64", "clock_nanosleep"),
            ("__syslog_chk", "socket"),
            ("sendfile64", "sendfile"),
        ] {
            assert!(calls(variant, Libc::Glibc, Abi::X86_64).contains(&call), "{variant}");
        }
    }
}
