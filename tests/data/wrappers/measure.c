/* Calls functions of libc one by one, each after a marker: a call without a number that any kernel knows. */
#define _GNU_SOURCE
#include <aio.h>
#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <glob.h>
#include <grp.h>
#include <ifaddrs.h>
#include <mqueue.h>
#include <net/if.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <pty.h>
#include <pwd.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/acct.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/fanotify.h>
#include <sys/file.h>
#include <sys/fsuid.h>
#include <sys/inotify.h>
#include <sys/io.h>
#include <sys/klog.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/pidfd.h>
#include <sys/quota.h>
#include <sys/random.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/sendfile.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/times.h>
#include <sys/timex.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <syslog.h>
#include <termios.h>
#include <threads.h>
#include <time.h>
#include <ucontext.h>
#include <ulimit.h>
#include <unistd.h>
#include <utime.h>
#include <utmp.h>

#define MARKER 100000

/* Measures a function: `write` names it on a descriptor that does not exist, and the marker ends it. */
#define MEASURE(function, call)                              \
    do {                                                     \
        syscall(MARKER);                                     \
        write(-1, #function, sizeof #function - 1);          \
        call;                                                \
        syscall(MARKER);                                     \
    } while (0)

static char buffer[4096];

static int visit(const char *path, const struct stat *file, int kind) { return 0; }
static int compare(const void *one, const void *other) { return 0; }
static void *run(void *unused) { return NULL; }
static int run_thread(void *unused) { return 0; }

static void measure_files(void) {
    const char *missing = "/missing/file";
    int file = open("/etc/passwd", O_RDONLY), output = memfd_create("x", 0);
    struct stat status;
    struct statfs system;
    struct statvfs volume;
    struct timespec *now = NULL;
    struct iovec part = {buffer, 1};
    struct dirent **names;
    char *directory = strdup("/tmp/measureXXXXXX"), *name = strdup("/tmp/measureXXXXXX");
    glob_t found;
    DIR *opened;
    int descriptor, pair[2];
    /* The first use counts: glibc remembers the machine's memory. */
    MEASURE(qsort, qsort(buffer, 1024, 4, compare));
    MEASURE(open, open(missing, O_RDONLY));
    MEASURE(creat, creat(missing, 0));
    MEASURE(stat, stat(missing, &status));
    MEASURE(lstat, lstat(missing, &status));
    MEASURE(fstat, fstat(file, &status));
    MEASURE(fstatat, fstatat(AT_FDCWD, missing, &status, 0));
    MEASURE(statfs, statfs(missing, &system));
    MEASURE(statvfs, statvfs(missing, &volume));
    MEASURE(fstatfs, fstatfs(file, &system));
    MEASURE(fstatvfs, fstatvfs(file, &volume));
    MEASURE(truncate, truncate(missing, 0));
    MEASURE(ftruncate, ftruncate(output, 0));
    MEASURE(lseek, lseek(file, 0, SEEK_SET));
    MEASURE(pread, pread(file, buffer, 1, 0));
    MEASURE(pwrite, pwrite(output, buffer, 1, 0));
    MEASURE(preadv, preadv(file, &part, 1, 0));
    MEASURE(pwritev, pwritev(output, &part, 1, 0));
    MEASURE(fcntl, fcntl(file, F_GETFD));
    MEASURE(lockf, lockf(output, F_TEST, 0));
    MEASURE(flock, flock(output, LOCK_UN));
    MEASURE(sendfile, sendfile(output, file, NULL, 1));
    MEASURE(access, access(missing, 0));
    MEASURE(eaccess, eaccess(missing, 0));
    MEASURE(euidaccess, euidaccess(missing, 0));
    MEASURE(faccessat, faccessat(AT_FDCWD, missing, 0, 0));
    MEASURE(chmod, chmod(missing, 0));
    MEASURE(fchmod, fchmod(output, 0600));
    MEASURE(fchmodat, fchmodat(AT_FDCWD, missing, 0, 0));
    MEASURE(chown, chown(missing, 0, 0));
    MEASURE(fchown, fchown(output, -1, -1));
    MEASURE(lchown, lchown(missing, 0, 0));
    MEASURE(fchownat, fchownat(AT_FDCWD, missing, 0, 0, 0));
    MEASURE(link, link(missing, missing));
    MEASURE(linkat, linkat(AT_FDCWD, missing, AT_FDCWD, missing, 0));
    MEASURE(symlink, symlink(missing, missing));
    MEASURE(symlinkat, symlinkat(missing, AT_FDCWD, missing));
    MEASURE(readlink, readlink(missing, buffer, 1));
    MEASURE(readlinkat, readlinkat(AT_FDCWD, missing, buffer, 1));
    MEASURE(realpath, realpath(missing, buffer));
    MEASURE(unlink, unlink(missing));
    MEASURE(unlinkat, unlinkat(AT_FDCWD, missing, 0));
    MEASURE(remove, remove(missing));
    MEASURE(rmdir, rmdir(missing));
    MEASURE(mkdir, mkdir(missing, 0));
    MEASURE(mkdirat, mkdirat(AT_FDCWD, missing, 0));
    MEASURE(mkdtemp, mkdtemp(directory));
    rmdir(directory);
    MEASURE(mkstemp, mkstemp(name));
    unlink(name);
    MEASURE(tmpfile, tmpfile());
    MEASURE(rename, rename(missing, missing));
    MEASURE(renameat, renameat(AT_FDCWD, missing, AT_FDCWD, missing));
    MEASURE(renameat2, renameat2(AT_FDCWD, missing, AT_FDCWD, missing, 0));
    MEASURE(mknod, mknod(missing, S_IFREG, 0));
    MEASURE(mknodat, mknodat(AT_FDCWD, missing, S_IFREG, 0));
    MEASURE(mkfifo, mkfifo(missing, 0));
    MEASURE(mkfifoat, mkfifoat(AT_FDCWD, missing, 0));
    MEASURE(posix_fadvise, posix_fadvise(file, 0, 0, 0));
    MEASURE(posix_fallocate, posix_fallocate(output, 0, 10));
    MEASURE(fallocate, fallocate(output, 0, 0, 10));
    MEASURE(opendir, opened = opendir("/etc"));
    MEASURE(readdir, readdir(opened));
    MEASURE(seekdir, seekdir(opened, 0));
    MEASURE(rewinddir, rewinddir(opened));
    MEASURE(closedir, closedir(opened));
    MEASURE(scandir, scandir("/etc", &names, NULL, NULL));
    MEASURE(ftw, ftw("/etc/systemd", visit, 2));
    MEASURE(glob, glob("/etc/*", 0, NULL, &found));
    MEASURE(getcwd, getcwd(buffer, sizeof buffer));
    MEASURE(get_current_dir_name, get_current_dir_name());
    MEASURE(utime, utime(missing, NULL));
    MEASURE(utimes, utimes(missing, NULL));
    MEASURE(utimensat, utimensat(AT_FDCWD, missing, now, 0));
    MEASURE(futimens, futimens(output, now));
    MEASURE(futimes, futimes(output, NULL));
    MEASURE(lutimes, lutimes(missing, NULL));
    MEASURE(futimesat, futimesat(AT_FDCWD, missing, NULL));
    MEASURE(dup, dup(file));
    MEASURE(dup2, dup2(file, 100));
    MEASURE(dup3, dup3(file, 101, 0));
    MEASURE(pipe, pipe(pair));
    MEASURE(pipe2, pipe2(pair, 0));
    MEASURE(inotify_init, inotify_init());
    MEASURE(inotify_init1, inotify_init1(0));
    MEASURE(eventfd, eventfd(0, 0));
    MEASURE(fsync, fsync(output));
    MEASURE(fdatasync, fdatasync(output));
    MEASURE(sync_file_range, sync_file_range(output, 0, 0, 0));
    MEASURE(splice, splice(file, NULL, output, NULL, 0, 0));
    MEASURE(copy_file_range, copy_file_range(file, NULL, output, NULL, 1, 0));
    MEASURE(umount, umount(missing));
    MEASURE(umount2, umount2(missing, 0));
    MEASURE(mount, mount(missing, missing, "none", 0, NULL));
    MEASURE(isatty, isatty(file));
    MEASURE(tcgetattr, tcgetattr(file, (struct termios *)buffer));
    MEASURE(tcsetattr, tcsetattr(file, 0, (struct termios *)buffer));
    MEASURE(tcflush, tcflush(file, 0));
    MEASURE(tcsendbreak, tcsendbreak(file, 0));
    MEASURE(tcgetpgrp, tcgetpgrp(file));
    MEASURE(tcsetpgrp, tcsetpgrp(file, 1));
    MEASURE(ttyname, ttyname(file));
    descriptor = open("/dev/ptmx", O_RDWR);
    MEASURE(ptsname, ptsname(descriptor));
    MEASURE(ptsname_r, ptsname_r(descriptor, buffer, sizeof buffer));
}

static void measure_processes(void) {
    char *words[] = {"true", NULL}, *none[] = {NULL};
    const char *missing = "/missing/file";
    struct sched_param priority = {0};
    struct rlimit limit;
    struct rusage usage;
    struct tms times_used;
    pthread_t thread;
    thrd_t other;
    cpu_set_t processors;
    FILE *stream;
    int status, self = getpid(), tid = gettid(), uid = getuid(), gid = getgid(), unusable = open("/etc/passwd", O_RDONLY);
    pid_t child;
    MEASURE(getpgid, getpgid(0));
    MEASURE(getpgrp, getpgrp());
    MEASURE(getsid, getsid(0));
    MEASURE(setpgid, setpgid(0, 0));
    MEASURE(setpgrp, setpgrp());
    MEASURE(fork, if (fork() == 0) _exit(0));
    MEASURE(wait, wait(&status));
    MEASURE(vfork, if (vfork() == 0) _exit(0));
    MEASURE(waitpid, waitpid(-1, &status, 0));
    MEASURE(wait3, wait3(&status, WNOHANG, NULL));
    MEASURE(wait4, wait4(-1, &status, WNOHANG, NULL));
    MEASURE(waitid, waitid(P_ALL, 0, (siginfo_t *)buffer, WEXITED | WNOHANG));
    MEASURE(posix_spawn, posix_spawn(&child, "/bin/true", NULL, NULL, words, none));
    waitpid(child, &status, 0);
    MEASURE(system, system("true"));
    MEASURE(popen, stream = popen("true", "r"));
    MEASURE(pclose, pclose(stream));
    MEASURE(execv, execv(missing, words));
    MEASURE(execl, execl(missing, "x", NULL));
    MEASURE(execle, execle(missing, "x", NULL, none));
    MEASURE(execvp, execvp(missing, words));
    MEASURE(execvpe, execvpe(missing, words, none));
    MEASURE(fexecve, fexecve(unusable, words, none));
    MEASURE(kill, kill(self, 0));
    MEASURE(killpg, killpg(self, 0));
    MEASURE(raise, raise(0));
    MEASURE(pthread_kill, pthread_kill(pthread_self(), 0));
    MEASURE(tgkill, tgkill(self, tid, 0));
    MEASURE(pthread_create, pthread_create(&thread, NULL, run, NULL));
    pthread_join(thread, NULL);
    MEASURE(thrd_create, thrd_create(&other, run_thread, NULL));
    thrd_join(other, NULL);
    MEASURE(pthread_setname_np, pthread_setname_np(pthread_self(), "x"));
    MEASURE(sched_yield, sched_yield());
    MEASURE(thrd_yield, thrd_yield());
    MEASURE(pthread_setschedparam, pthread_setschedparam(pthread_self(), 0, &priority));
    MEASURE(pthread_getaffinity_np, pthread_getaffinity_np(pthread_self(), sizeof processors, &processors));
    MEASURE(pthread_setaffinity_np, pthread_setaffinity_np(pthread_self(), sizeof processors, &processors));
    MEASURE(nice, nice(0));
    MEASURE(getrlimit, getrlimit(RLIMIT_NOFILE, &limit));
    MEASURE(setrlimit, setrlimit(RLIMIT_NOFILE, &limit));
    MEASURE(prlimit, prlimit(0, RLIMIT_NOFILE, NULL, &limit));
    MEASURE(getrusage, getrusage(0, &usage));
    MEASURE(times, times(&times_used));
    MEASURE(clock, clock());
    MEASURE(getresuid, getresuid((uid_t *)buffer, (uid_t *)buffer, (uid_t *)buffer));
    MEASURE(getgroups, getgroups(0, NULL));
    MEASURE(setfsuid, setfsuid(-1));
    MEASURE(setuid, setuid(-1));
    MEASURE(seteuid, seteuid(uid));
    MEASURE(setegid, setegid(gid));
    MEASURE(setreuid, setreuid(-1, -1));
    MEASURE(setresuid, setresuid(-1, -1, -1));
}

static void measure_waits(void) {
    struct timespec moment = {0, 1000};
    struct itimerspec off = {{0, 0}, {0, 0}};
    struct itimerval never = {{0, 0}, {0, 0}};
    struct timeval at_once = {0, 0};
    struct sigevent silent = {.sigev_notify = SIGEV_NONE};
    struct sigaction action;
    struct epoll_event event;
    struct pollfd descriptor = {-1, POLLIN, 0};
    struct sembuf up = {0, 1, 0};
    union sigval value = {0};
    sigset_t set;
    timer_t timer;
    int epoll, clock_descriptor, semaphores, self = getpid();
    sigemptyset(&set);
    MEASURE(sigaction, sigaction(SIGUSR2, NULL, &action));
    MEASURE(signal, signal(SIGUSR2, SIG_IGN));
    MEASURE(siginterrupt, siginterrupt(SIGUSR2, 1));
    MEASURE(sigprocmask, sigprocmask(0, NULL, &set));
    MEASURE(pthread_sigmask, pthread_sigmask(0, NULL, &set));
    MEASURE(sigpending, sigpending(&set));
    MEASURE(sigtimedwait, sigtimedwait(&set, NULL, &moment));
    MEASURE(sigqueue, sigqueue(self, 0, value));
    MEASURE(alarm, alarm(0));
    MEASURE(ualarm, ualarm(0, 0));
    MEASURE(sigaltstack, sigaltstack(NULL, NULL));
    MEASURE(sleep, sleep(0));
    MEASURE(usleep, usleep(1));
    MEASURE(nanosleep, nanosleep(&moment, NULL));
    MEASURE(clock_nanosleep, clock_nanosleep(CLOCK_MONOTONIC, 0, &moment, NULL));
    MEASURE(thrd_sleep, thrd_sleep(&moment, NULL));
    MEASURE(select, select(0, NULL, NULL, NULL, &at_once));
    MEASURE(pselect, pselect(0, NULL, NULL, NULL, &moment, NULL));
    MEASURE(poll, poll(&descriptor, 1, 0));
    MEASURE(ppoll, ppoll(&descriptor, 1, &moment, NULL));
    MEASURE(epoll_create, epoll = epoll_create(1));
    MEASURE(epoll_create1, epoll_create1(0));
    MEASURE(epoll_wait, epoll_wait(epoll, &event, 1, 0));
    MEASURE(epoll_pwait, epoll_pwait(epoll, &event, 1, 0, &set));
    MEASURE(signalfd, signalfd(-1, &set, 0));
    MEASURE(timerfd_create, clock_descriptor = timerfd_create(CLOCK_MONOTONIC, 0));
    MEASURE(timerfd_settime, timerfd_settime(clock_descriptor, 0, &off, NULL));
    MEASURE(timerfd_gettime, timerfd_gettime(clock_descriptor, &off));
    MEASURE(timer_create, timer_create(CLOCK_MONOTONIC, &silent, &timer));
    MEASURE(timer_settime, timer_settime(timer, 0, &off, NULL));
    MEASURE(timer_delete, timer_delete(timer));
    MEASURE(setitimer, setitimer(ITIMER_REAL, &never, NULL));
    MEASURE(getitimer, getitimer(ITIMER_REAL, &never));
    MEASURE(semget, semaphores = semget(IPC_PRIVATE, 1, 0600));
    MEASURE(semop, semop(semaphores, &up, 1));
    MEASURE(semtimedop, semtimedop(semaphores, &up, 1, &moment));
    MEASURE(semctl, semctl(semaphores, 0, IPC_RMID));
}

static void measure_the_rest(void) {
    struct iovec part = {buffer, 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    struct mmsghdr messages = {message, 0};
    struct ifaddrs *addresses;
    struct utsname machine;
    int pair[2];
    socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
    MEASURE(accept, accept(pair[0], NULL, NULL));
    MEASURE(accept4, accept4(pair[0], NULL, NULL, 0));
    MEASURE(send, send(pair[0], buffer, 1, 0));
    MEASURE(sendto, sendto(pair[0], buffer, 1, 0, NULL, 0));
    MEASURE(sendmsg, sendmsg(pair[0], &message, 0));
    MEASURE(sendmmsg, sendmmsg(pair[0], &messages, 1, 0));
    MEASURE(recv, recv(pair[1], buffer, 1, 0));
    MEASURE(recvfrom, recvfrom(pair[1], buffer, 1, 0, NULL, NULL));
    MEASURE(recvmsg, recvmsg(pair[1], &message, MSG_DONTWAIT));
    MEASURE(recvmmsg, recvmmsg(pair[1], &messages, 1, MSG_DONTWAIT, NULL));
    MEASURE(openlog, openlog("x", LOG_NDELAY, 0));
    MEASURE(getifaddrs, getifaddrs(&addresses));
    MEASURE(if_nametoindex, if_nametoindex("lo"));
    MEASURE(if_indextoname, if_indextoname(1, buffer));
    MEASURE(if_nameindex, if_nameindex());
    MEASURE(getpwnam, getpwnam("root"));
    MEASURE(getpwuid, getpwuid(0));
    MEASURE(getgrnam, getgrnam("root"));
    MEASURE(gethostname, gethostname(buffer, sizeof buffer));
    MEASURE(uname, uname(&machine));
    MEASURE(get_phys_pages, get_phys_pages());
    MEASURE(get_avphys_pages, get_avphys_pages());
    MEASURE(sysinfo, sysinfo((struct sysinfo *)buffer));
    MEASURE(getentropy, getentropy(buffer, 1));
    MEASURE(getrandom, getrandom(buffer, 1, 0));
    MEASURE(arc4random, arc4random());
    MEASURE(mmap, mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    MEASURE(posix_madvise, posix_madvise(NULL, 4096, 0));
    MEASURE(msync, msync(NULL, 0, 0));
}

/* Without a header in glibc. */
extern int init_module(void *image, unsigned long length, const char *parameters);
extern int delete_module(const char *name, unsigned flags);
extern int pivot_root(const char *root, const char *old);
extern int modify_ldt(int function, void *entry, unsigned long length);
extern int arch_prctl(int code, unsigned long address);

/* Calls that change the machine get arguments that the kernel refuses. */
static void measure_the_machine(void) {
    const char *missing = "/missing/file";
    struct timex clock_state = {0};
    struct ntptimeval ntp;
    struct timespec moment = {0, 0}, never = {0, -1};
    struct timeval no_time = {-1, 0}, old;
    struct iovec part = {buffer, 1};
    struct file_handle handle = {0};
    struct mount_attr attributes = {0};
    struct aiocb job = {.aio_fildes = -1, .aio_buf = buffer, .aio_nbytes = 1};
    struct itimerspec setting;
    struct sched_param priority = {0};
    struct sigevent silent = {.sigev_notify = SIGEV_NONE};
    ucontext_t context, other;
    pthread_attr_t thread_attributes;
    timer_t timer;
    double loads[1];
    int mount_id, master, slave, self = getpid(), unusable = open("/etc/passwd", O_RDONLY);
    char *words[] = {"x", NULL};
    MEASURE(clock_settime, clock_settime(CLOCK_MONOTONIC, &moment));
    MEASURE(clock_adjtime, clock_adjtime(CLOCK_REALTIME, &clock_state));
    MEASURE(settimeofday, settimeofday(&no_time, NULL));
    MEASURE(adjtimex, adjtimex(&clock_state));
    MEASURE(ntp_adjtime, ntp_adjtime(&clock_state));
    MEASURE(ntp_gettime, ntp_gettime(&ntp));
    MEASURE(adjtime, adjtime(NULL, &old));
    MEASURE(sethostname, sethostname(buffer, sizeof buffer));
    MEASURE(setdomainname, setdomainname(buffer, sizeof buffer));
    MEASURE(getdomainname, getdomainname(buffer, sizeof buffer));
    MEASURE(reboot, reboot(0x12345678));
    MEASURE(swapon, swapon(missing, 0));
    MEASURE(swapoff, swapoff(missing));
    MEASURE(acct, acct(missing));
    MEASURE(quotactl, quotactl(QCMD(Q_GETFMT, USRQUOTA), missing, 0, NULL));
    MEASURE(klogctl, klogctl(10, NULL, 0));
    MEASURE(init_module, init_module(NULL, 0, NULL));
    MEASURE(delete_module, delete_module("missing_module", 0));
    MEASURE(iopl, iopl(0));
    MEASURE(ioperm, ioperm(0, 0, 0));
    MEASURE(modify_ldt, modify_ldt(0, NULL, 0));
    MEASURE(arch_prctl, arch_prctl(0, 0));
    MEASURE(pivot_root, pivot_root(missing, missing));
    MEASURE(fsopen, fsopen(NULL, 0));
    MEASURE(fsconfig, fsconfig(-1, 0, NULL, NULL, 0));
    MEASURE(fsmount, fsmount(-1, 0, 0));
    MEASURE(fspick, fspick(-1, missing, 0));
    MEASURE(move_mount, move_mount(-1, missing, -1, missing, 0));
    MEASURE(open_tree, open_tree(-1, missing, 0));
    MEASURE(mount_setattr, mount_setattr(-1, missing, 0, &attributes, sizeof attributes));
    MEASURE(name_to_handle_at, name_to_handle_at(-1, missing, &handle, &mount_id, 0));
    MEASURE(open_by_handle_at, open_by_handle_at(-1, &handle, 0));
    MEASURE(process_vm_readv, process_vm_readv(-1, &part, 1, &part, 1, 0));
    MEASURE(process_vm_writev, process_vm_writev(-1, &part, 1, &part, 1, 0));
    MEASURE(process_madvise, process_madvise(-1, &part, 1, 0, 0));
    MEASURE(process_mrelease, process_mrelease(-1, 0));
    MEASURE(pidfd_open, pidfd_open(-1, 0));
    MEASURE(pidfd_getfd, pidfd_getfd(-1, 0, 0));
    MEASURE(pidfd_send_signal, pidfd_send_signal(-1, 0, NULL, 0));
    MEASURE(execveat, execveat(unusable, "", words, words, AT_EMPTY_PATH));
    MEASURE(close_range, close_range(100000, 100000, 0));
    MEASURE(closefrom, closefrom(100000));
    MEASURE(pkey_alloc, pkey_alloc(-1, 0));
    MEASURE(pkey_free, pkey_free(-1));
    MEASURE(pkey_mprotect, pkey_mprotect(NULL, 0, PROT_NONE, 1));
    MEASURE(remap_file_pages, remap_file_pages(NULL, 0, 0, 0, 0));
    MEASURE(readahead, readahead(unusable, 0, 1));
    MEASURE(vmsplice, vmsplice(-1, &part, 1, 0));
    MEASURE(lremovexattr, lremovexattr(missing, "user.x"));
    MEASURE(lchmod, lchmod(missing, 0));
    MEASURE(mq_open, mq_open("/missing", O_RDONLY));
    MEASURE(mq_unlink, mq_unlink("/missing"));
    MEASURE(mq_send, mq_send(-1, buffer, 1, 0));
    MEASURE(mq_timedsend, mq_timedsend(-1, buffer, 1, 0, &never));
    MEASURE(mq_receive, mq_receive(-1, buffer, 1, NULL));
    MEASURE(mq_timedreceive, mq_timedreceive(-1, buffer, 1, NULL, &never));
    MEASURE(mq_notify, mq_notify(-1, NULL));
    MEASURE(mq_getattr, mq_getattr(-1, (struct mq_attr *)buffer));
    MEASURE(mq_setattr, mq_setattr(-1, (struct mq_attr *)buffer, NULL));
    MEASURE(mq_close, mq_close(-1));
    MEASURE(shm_open, shm_open("/missing", O_RDONLY, 0));
    MEASURE(shm_unlink, shm_unlink("/missing"));
    MEASURE(sem_open, sem_open("/missing", 0));
    MEASURE(sem_unlink, sem_unlink("/missing"));
    MEASURE(aio_read, aio_read(&job));
    MEASURE(sched_rr_get_interval, sched_rr_get_interval(0, &moment));
    MEASURE(pthread_setschedprio, pthread_setschedprio(pthread_self(), 0));
    MEASURE(pthread_getname_np, pthread_getname_np(pthread_self(), buffer, 16));
    MEASURE(pthread_getattr_np, pthread_getattr_np(pthread_self(), &thread_attributes));
    MEASURE(getloadavg, getloadavg(loads, 1));
    MEASURE(get_nprocs, get_nprocs());
    MEASURE(get_nprocs_conf, get_nprocs_conf());
    MEASURE(getdtablesize, getdtablesize());
    MEASURE(ulimit, ulimit(UL_GETFSIZE));
    timer_create(CLOCK_MONOTONIC, &silent, &timer);
    MEASURE(timer_gettime, timer_gettime(timer, &setting));
    MEASURE(timer_getoverrun, timer_getoverrun(timer));
    MEASURE(sighold, sighold(SIGUSR2));
    MEASURE(sigrelse, sigrelse(SIGUSR2));
    MEASURE(sigignore, sigignore(SIGUSR2));
    MEASURE(getcontext, getcontext(&context));
    MEASURE(setcontext, static volatile int again; getcontext(&other); if (!again++) setcontext(&other));
    MEASURE(posix_openpt, master = posix_openpt(O_RDWR | O_NOCTTY));
    MEASURE(grantpt, grantpt(master));
    MEASURE(unlockpt, unlockpt(master));
    MEASURE(openpty, openpty(&master, &slave, NULL, NULL, NULL));
    MEASURE(tcdrain, tcdrain(unusable));
    MEASURE(tcflow, tcflow(unusable, TCOON));
    MEASURE(tcgetsid, tcgetsid(unusable));
    MEASURE(sockatmark, sockatmark(unusable));
    MEASURE(bindresvport, bindresvport(-1, NULL));
    MEASURE(fdopendir, fdopendir(unusable));
    MEASURE(fdopen, fdopen(unusable, "r"));
    MEASURE(getservbyname, getservbyname("missing", "tcp"));
    MEASURE(getservbyport, getservbyport(1, "tcp"));
    MEASURE(getprotobyname, getprotobyname("missing"));
    MEASURE(_Fork, if (_Fork() == 0) _exit(0));
}

int main(void) {
    setvbuf(stdout, NULL, _IONBF, 0);
    measure_files();
    measure_processes();
    measure_waits();
    measure_the_rest();
    measure_the_machine();
    return 0;
}
