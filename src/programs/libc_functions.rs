//! The table of libc's functions and the calls that each makes.
//!
//! Sources: `syscalls.list` and `sysdeps/unix/sysv/linux/` of glibc 2.31 to 2.40, `src/` of musl 1.2, and the manual pages'
//! sections "C library/kernel differences". A call may name alternatives, `access/faccessat`: the first one that the ABI
//! has is made. Calls that the ABI lacks do not count. Names are separated by spaces.

/// Functions of libc with the same calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wrapper {
    pub(super) functions: &'static str,
    pub(super) glibc: &'static str,
    pub(super) musl: &'static str,
}

const fn same(functions: &'static str, calls: &'static str) -> Wrapper {
    Wrapper { functions, glibc: calls, musl: calls }
}

const fn differ(functions: &'static str, glibc: &'static str, musl: &'static str) -> Wrapper {
    Wrapper { functions, glibc, musl }
}

/// Functions that pass their arguments to the call of the same name.
pub(super) const DIRECT: &str = "\
            accept4 acct arch_prctl bind brk capget capset chdir chroot clone close close_range connect \
            copy_file_range delete_module dup dup3 epoll_create1 epoll_ctl epoll_pwait epoll_pwait2 execve \
            execveat fallocate fanotify_init fanotify_mark fchdir fchmod fchmodat fchownat fdatasync fgetxattr \
            flistxattr flock fremovexattr fsconfig fsetxattr fsmount fsopen fspick fsync get_mempolicy getcwd \
            getdents64 getitimer getpeername getpgid getpid getppid getpriority getrandom getrusage getsid \
            getsockname getsockopt gettid getxattr init_module inotify_add_watch inotify_init1 inotify_rm_watch \
            io_cancel io_destroy io_getevents io_setup io_submit ioctl ioperm iopl ioprio_set keyctl kill \
            lgetxattr linkat listen listxattr llistxattr lremovexattr lsetxattr madvise mbind memfd_create mincore \
            mkdirat mknodat mlock mlock2 mlockall modify_ldt mount mount_setattr move_mount mprotect mq_notify \
            mq_open mq_unlink mremap msgctl msgget msgrcv msgsnd msync munlock munlockall munmap name_to_handle_at \
            open_by_handle_at open_tree personality pidfd_getfd pidfd_open pidfd_send_signal pipe2 pivot_root \
            pkey_alloc pkey_free pkey_mprotect prctl preadv preadv2 process_madvise process_mrelease \
            process_vm_readv process_vm_writev ptrace pwritev pwritev2 quotactl read readahead readlinkat readv \
            reboot recvfrom recvmsg remap_file_pages removexattr sched_get_priority_max sched_get_priority_min \
            sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_setaffinity sched_setattr \
            sched_setparam sched_setscheduler sched_yield semctl semget semtimedop sendmmsg sendmsg sendto \
            set_mempolicy setdomainname sethostname setitimer setns setpgid setpriority setsid setsockopt setxattr \
            shmat shmctl shmdt shmget shutdown sigaltstack socket socketpair splice statx swapoff swapon symlinkat \
            sync sync_file_range syncfs sysinfo tee timer_create timer_delete timer_getoverrun timerfd_create \
            times umask umount2 uname unlinkat unshare vhangup vmsplice wait4 waitid write writev";

/// Functions that most programs import for rare cases: fewer than three in ten of the recorded programs that import one
/// made its calls (`tests/data/imports`).
pub(super) const RARELY_USED: &str = "abort chroot clock copy_file_range daemon fchmodat fgetxattr flistxattr fremovexattr \
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
pub(super) const RARELY_USED_IN_GO: &str = "accept ioctl madvise recvmsg sendmsg sendto shutdown";

/// Functions whose calls have other names. Without a comment, the reason is one of these: the function takes fewer arguments
/// than the call; newer ABIs have only the call that takes a directory or flags; 32-bit ABIs have another call for large
/// files, 32-bit ids or 64-bit times.
pub(super) const WRAPPERS: &[Wrapper] = &[
    // The start of every program.
    // The dynamic linker loads the libraries, and libc starts and ends the program.
    differ(
        "libc_start_main",
        "execve brk mmap2/mmap mprotect munmap access/faccessat openat close read fstat64/fstat/statx \
            fstatat64/newfstatat pread64 arch_prctl set_tid_address set_robust_list rseq prlimit64 getrandom \
            exit_group futex futex_time64",
        "execve brk mmap2/mmap mprotect munmap open/openat close read fstat64/fstat/statx fcntl64/fcntl \
            arch_prctl set_tid_address exit_group futex",
    ),
    // libc's allocator gets and returns memory by them.
    same("malloc calloc realloc free posix_memalign aligned_alloc", "brk mmap2/mmap munmap"),
    same("mmap", "mmap2/mmap"),
    same("posix_madvise", "madvise"),
    same("closefrom", "close_range"),
    // glibc opens the file and changes it below /proc/self/fd.
    differ("lchmod", "openat fstatat64/newfstatat/statx chmod/fchmodat", "fchmodat"),
    // Threads of libc read and write.
    differ(
        "aio_read aio_write aio_fsync lio_listio",
        "clone3 clone rt_sigprocmask pread64 pwrite64 fsync",
        "clone rt_sigprocmask pread64 pwrite64 fsync",
    ),
    // Files.
    same("creat", "creat/openat"),
    // glibc makes openat since 2.26, musl open.
    differ("open openat fopen freopen opendir posix_openpt getpt sem_open shm_open", "openat", "open/openat"),
    // The name of the file is random.
    differ("mkstemp mkostemp mkstemps mkostemps", "openat getrandom", "open/openat"),
    // The name of the file is random, and it becomes a stream.
    differ("tmpfile", "openat getrandom fcntl64/fcntl", "open/openat unlink/unlinkat"),
    // Streams of stdio.
    differ("fread fgets fgetc getc getline getdelim fscanf ungetc", "read", "read readv"),
    differ(
        "fwrite fputs puts printf fprintf vfprintf vprintf perror putchar fputc dprintf vdprintf",
        "write",
        "write writev",
    ),
    same("fclose closedir mq_close", "close"),
    same("lseek fseek fseeko ftell ftello rewind rewinddir seekdir", "_llseek/lseek"),
    same("preadv64v2", "preadv2"),
    same("pwritev64v2", "pwritev2"),
    same("pread", "pread64"),
    same("pwrite", "pwrite64"),
    // glibc makes newfstatat since 2.33, and statx where that is missing.
    differ(
        "stat lstat fstatat xstat lxstat fxstatat",
        "fstatat64/newfstatat/statx",
        "fstatat64/newfstatat/statx stat lstat",
    ),
    // glibc 2.33 to 2.38 makes newfstatat.
    differ("fstat fxstat fdopendir", "fstat64/fstat/statx newfstatat", "fstat64/fstat/statx"),
    same("statfs statvfs", "statfs64/statfs"),
    same("fstatfs fstatvfs", "fstatfs64/fstatfs"),
    same("truncate", "truncate64/truncate"),
    same("ftruncate", "ftruncate64/ftruncate"),
    same("posix_fallocate", "fallocate"),
    same("posix_fadvise", "arm_fadvise64_64/fadvise64_64/fadvise64"),
    same("fcntl lockf fdopen", "fcntl64/fcntl"),
    same("sendfile", "sendfile64/sendfile"),
    differ("access faccessat", "access/faccessat faccessat2", "access/faccessat"),
    // glibc compares the owner and the mode of the file itself.
    differ(
        "eaccess euidaccess",
        "access/faccessat faccessat2 fstatat64/newfstatat/statx",
        "access/faccessat faccessat2",
    ),
    same("chmod", "chmod/fchmodat"),
    same("chown", "chown32/chown/fchownat"),
    same("fchown", "fchown32/fchown"),
    same("lchown", "lchown32/lchown/fchownat"),
    same("link", "link/linkat"),
    same("symlink", "symlink/symlinkat"),
    same("readlink realpath", "readlink/readlinkat"),
    same("unlink remove sem_unlink shm_unlink", "unlink/unlinkat"),
    same("rmdir", "rmdir/unlinkat"),
    same("rename", "rename/renameat/renameat2"),
    same("renameat", "renameat/renameat2"),
    // Without flags, libc makes renameat.
    same("renameat2", "renameat2 renameat"),
    same("mkdir mkdtemp", "mkdir/mkdirat"),
    // glibc makes mknodat since 2.33.
    differ("mknod xmknod mkfifo", "mknodat mknod", "mknod/mknodat"),
    same("xmknodat mkfifoat", "mknodat"),
    same("readdir readdir_r scandir glob getdents", "getdents64"),
    // libc reads the directories in turn.
    same("ftw nftw", "getdents64 fcntl64/fcntl"),
    same("get_current_dir_name", "getcwd"),
    // libc sets all times by utimensat.
    same("utime utimes utimensat futimens futimesat futimes lutimes", "utimensat utimensat_time64"),
    same("dup2", "dup2/dup3"),
    differ("pipe", "pipe2", "pipe/pipe2"),
    differ("inotify_init", "inotify_init/inotify_init1", "inotify_init1"),
    same("eventfd", "eventfd2"),
    same("signalfd", "signalfd4"),
    // libc reads and sets a terminal by ioctl.
    same(
        "isatty tcgetattr tcsetattr tcdrain tcflow tcflush tcgetpgrp tcgetsid tcsendbreak tcsetpgrp ttyname ttyname_r getpass \
            grantpt ptsname ptsname_r sockatmark unlockpt",
        "ioctl",
    ),
    // Processes and threads.
    // glibc makes clone since 2.3.
    differ("fork _Fork", "clone", "fork/clone"),
    differ("openpty", "openat ioctl", "open/openat ioctl"),
    differ("forkpty", "clone openat ioctl setsid dup2/dup3", "fork/clone open/openat ioctl setsid dup2/dup3"),
    differ("vfork", "vfork/clone", "vfork/clone"),
    // libc makes the child by clone3 where the kernel has it, and by clone before.
    differ(
        "posix_spawn posix_spawnp system",
        "clone3 clone wait4 rt_sigprocmask rt_sigaction",
        "clone wait4 rt_sigprocmask rt_sigaction",
    ),
    // libc makes the child by clone3 where the kernel has it, and by clone before.
    differ(
        "popen pclose",
        "clone3 clone wait4 pipe2 rt_sigprocmask rt_sigaction fcntl64/fcntl",
        "clone wait4 pipe2 rt_sigprocmask rt_sigaction fcntl64/fcntl",
    ),
    // The program detaches itself in a child.
    differ("daemon", "clone setsid", "fork/clone setsid"),
    same("execv execl execlp execle execvp execvpe", "execve"),
    // Kernels before 3.19 lack execveat.
    same("fexecve", "execveat execve"),
    same("wait waitpid wait3", "wait4"),
    same("killpg", "kill"),
    // libc signals one thread, which it asks for.
    differ("raise abort pthread_kill pthread_cancel tgkill", "tgkill getpid gettid", "tkill tgkill"),
    // As for posix_spawn; glibc also returns the stack of a thread that ended (advise_stack_range).
    differ("pthread_create thrd_create", "clone3 clone rt_sigprocmask rt_sigaction madvise", "clone rt_sigprocmask"),
    same("pthread_setname_np pthread_getname_np", "prctl"),
    // Newer ABIs have only getpgid.
    differ("getpgrp", "getpgrp/getpgid", "getpgid"),
    same("setpgrp", "setpgid"),
    same("thrd_yield pthread_yield", "sched_yield"),
    same("pthread_setschedparam", "sched_setscheduler"),
    same("pthread_setschedprio", "sched_setparam"),
    same("pthread_setaffinity_np", "sched_setaffinity"),
    same("pthread_getaffinity_np", "sched_getaffinity"),
    // glibc adds to the present priority.
    same("nice", "getpriority setpriority"),
    // libc reads and sets limits by prlimit64.
    same("getrlimit setrlimit prlimit getdtablesize ulimit", "prlimit64"),
    // glibc reads the stack of the main thread from /proc/self/maps; musl tries it by mremap.
    differ(
        "pthread_getattr_np",
        "openat prlimit64 fstat64/fstat/statx newfstatat read close sched_getaffinity",
        "mremap",
    ),
    // The time that a process used is no time of the vDSO (vdso(7)).
    same("clock", "clock_gettime64/clock_gettime"),
    // Signals and waiting.
    // libc makes the call for real-time signals.
    same("sigaction signal sysv_signal bsd_signal sigset sigignore siginterrupt", "rt_sigaction rt_sigreturn"),
    // libc makes the call for real-time signals.
    same(
        "sigprocmask pthread_sigmask siglongjmp sigsetjmp sigblock sigsetmask sighold sigrelse getcontext setcontext \
            swapcontext",
        "rt_sigprocmask",
    ),
    // libc makes the call for real-time signals.
    same("sigsuspend sigpause", "rt_sigsuspend"),
    // libc makes the call for real-time signals.
    same("sigwait sigwaitinfo sigtimedwait", "rt_sigtimedwait_time64/rt_sigtimedwait"),
    // libc makes the call for real-time signals.
    same("sigqueue pthread_sigqueue", "rt_sigqueueinfo getpid getuid32/getuid"),
    // libc makes the call for real-time signals.
    same("sigpending", "rt_sigpending"),
    // Newer ABIs have no call for it.
    same("pause", "pause/ppoll"),
    // Newer ABIs have only setitimer.
    differ("alarm", "alarm/setitimer", "setitimer"),
    same("ualarm", "setitimer"),
    // glibc makes clock_nanosleep since 2.31.
    differ(
        "sleep usleep nanosleep clock_nanosleep thrd_sleep",
        "clock_nanosleep_time64/clock_nanosleep",
        "clock_nanosleep_time64/clock_nanosleep nanosleep",
    ),
    differ("select", "pselect6_time64/pselect6", "pselect6_time64/select/pselect6"),
    same("pselect", "pselect6_time64/pselect6"),
    // Newer ABIs have only ppoll.
    same("poll", "poll/ppoll"),
    same("ppoll", "ppoll_time64/ppoll"),
    differ("epoll_create", "epoll_create/epoll_create1", "epoll_create1"),
    // Newer ABIs have only epoll_pwait.
    differ("epoll_wait", "epoll_wait/epoll_pwait", "epoll_pwait"),
    same("timerfd_settime", "timerfd_settime64/timerfd_settime"),
    same("timerfd_gettime", "timerfd_gettime64/timerfd_gettime"),
    same("timer_settime", "timer_settime64/timer_settime"),
    // glibc makes semtimedop since 2.31.
    differ("semop", "semtimedop", "semop/semtimedop"),
    // Sockets and names.
    same("accept", "accept/accept4"),
    differ("bindresvport", "getpid bind", "bind"),
    same("getservbyname getservbyport getprotobyname", "socket connect _llseek/lseek"),
    same("send", "sendto"),
    same("recv", "recvfrom"),
    same("recvmmsg", "recvmmsg_time64/recvmmsg"),
    // libc sends to /dev/log.
    same("syslog vsyslog openlog", "socket connect sendto"),
    // libc asks name servers, and the kernel for the machine's addresses (rtnetlink(7)).
    same(
        "getaddrinfo gethostbyname gethostbyname_r gethostbyname2 gethostbyname2_r gethostbyaddr \
            gethostbyaddr_r getnameinfo res_query res_nquery res_search res_nsearch",
        "socket connect bind getsockname sendto recvmsg uname poll/ppoll",
    ),
    // libc asks the name service over a socket (nss(5)).
    same(
        "getpwnam getpwnam_r getpwuid getpwuid_r getgrnam getgrnam_r getgrgid getgrgid_r getgrouplist \
            getpwent getgrent getspnam getspnam_r",
        "socket connect _llseek/lseek",
    ),
    // libc asks the name service over a socket (nss(5)).
    same("initgroups", "setgroups32/setgroups socket connect"),
    // libc asks the kernel by rtnetlink(7).
    same("getifaddrs if_nameindex", "socket bind getsockname sendto recvmsg"),
    // libc asks the kernel by netdevice(7).
    same("if_nametoindex if_indextoname", "socket ioctl"),
    // libsystemd makes its buffer larger and sends to the manager (sd_notify(3)).
    same(
        "sd_notify sd_notifyf sd_pid_notify sd_pid_notifyf sd_pid_notify_with_fds",
        "socket getsockopt setsockopt sendmsg",
    ),
    // libsystemd sends to the journal.
    same(
        "sd_journal_send sd_journal_print sd_journal_sendv sd_journal_printv sd_journal_send_with_location \
            sd_journal_print_with_location",
        "socket sendmsg",
    ),
    // libsystemd looks at the socket.
    same("sd_is_socket sd_is_socket_inet sd_is_socket_unix sd_is_socket_sockaddr", "getsockopt getsockname"),
    // The machine.
    same("gethostname getdomainname", "uname"),
    same("klogctl", "syslog"),
    same("get_phys_pages get_avphys_pages getloadavg", "sysinfo"),
    // glibc reads the processors from /sys.
    differ("get_nprocs get_nprocs_conf", "openat read close sched_getaffinity", "sched_getaffinity"),
    // glibc before 2.37 asks how much memory it may use.
    differ("qsort", "sysinfo", ""),
    same("getentropy arc4random arc4random_buf arc4random_uniform", "getrandom"),
    // libnuma asks whether the kernel has several nodes.
    same("numa_available", "get_mempolicy"),
    // Identities.
    same("getuid", "getuid32/getuid"),
    same("geteuid", "geteuid32/geteuid"),
    same("getgid", "getgid32/getgid"),
    same("getegid", "getegid32/getegid"),
    same("getresuid", "getresuid32/getresuid"),
    same("getresgid", "getresgid32/getresgid"),
    same("getgroups", "getgroups32/getgroups"),
    same("setuid", "setuid32/setuid"),
    same("setgid", "setgid32/setgid"),
    same("setgroups", "setgroups32/setgroups"),
    // libc sets the effective id alone by setresuid.
    same("seteuid setresuid", "setresuid32/setresuid"),
    // libc sets the effective id alone by setresgid.
    same("setegid setresgid", "setresgid32/setresgid"),
    same("setreuid", "setreuid32/setreuid"),
    same("setregid", "setregid32/setregid"),
    same("setfsuid", "setfsuid32/setfsuid"),
    same("setfsgid", "setfsgid32/setfsgid"),
    // libcap and libcap-ng set capabilities by capset.
    same("cap_set_proc cap_setuid capng_apply capng_change_id", "capset"),
    // libcap and libcap-ng read capabilities by capget.
    same("cap_get_proc cap_get_pid capng_get_caps_process capng_have_capability", "capget"),
    same("umount", "umount2"),
    // Clocks.
    same("clock_settime settimeofday stime", "clock_settime64/clock_settime"),
    // glibc makes clock_adjtime since 2.31. Older ones make adjtimex, as musl does.
    same(
        "clock_adjtime adjtimex ntp_adjtime ntp_gettime ntp_gettimex adjtime",
        "clock_adjtime64/clock_adjtime adjtimex",
    ),
    same("sched_rr_get_interval", "sched_rr_get_interval_time64/sched_rr_get_interval"),
    same("timer_gettime", "timer_gettime64/timer_gettime"),
    // Message queues.
    same("mq_send mq_timedsend", "mq_timedsend_time64/mq_timedsend"),
    same("mq_receive mq_timedreceive", "mq_timedreceive_time64/mq_timedreceive"),
    same("mq_getattr mq_setattr", "mq_getsetattr"),
];
