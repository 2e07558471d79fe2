// Reports calls that fail because the process lacks a capability, or because its mount of a writable file system is read-only:
// as they happen, of all processes. src/kernel/call_failures.rs loads this and reads the reports.
//
// A program at the end of the kernel's capability check, and others at the end of its checks of mounts, note by thread what the
// current call lacked. A program at the end of each call that can fail for it looks at the result. So nothing is reported without
// a failed call, and a call that succeeds costs little: no note exists while no check failed.
#include "failed_call.h"
#include "paths.h"

// How many levels of a cgroup's path a report has, from the root on, as the notes of src/kernel/exit_cgroups.rs.
#define LEVELS 12
// The level of the cgroup that stands for the owner of a process: a service, or the slice of a user.
#define OWNER_LEVEL 2

// How many threads can be between a failed check and the end of their call, in 0.7 MB of the kernel's memory.
#define DRAFTS 512
// How many different failures are counted, in 0.3 MB of the kernel's memory.
#define COUNTS 4096
// How many owners have a limit of their own, and how many different failures of an owner are reported in a time.
#define OWNERS 1024
#define MOST_OF_OWNER 32
#define WINDOW_NS 10000000000ULL
// The size of the reports that wait to be read, in bytes.
#define RING (1 << 19)

#define PF_EXITING 0x4        // `include/linux/sched.h`
#define PF_IO_WORKER 0x10     // `include/linux/sched.h`
#define PF_KTHREAD 0x200000   // `include/linux/sched.h`
#define CAP_OPT_NOAUDIT 2     // `include/linux/security.h`
#define MNT_READONLY 0x40     // `include/linux/mount.h`
#define SB_RDONLY 1           // `include/linux/fs.h`
#define AT_FDCWD (-100)       // `linux/fcntl.h`
// CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER and CAP_FSETID, which another user than root lacks everywhere.
#define FILE_MODES 0x1eULL

// A flag in the rule of a call: a program is attached to its end.
#define WATCHED_CALL 128

// What identifies a failure.
struct report_key {
    u64 cgroup;
    u64 hash;
    u64 missed;
    u32 call;
    u32 returned;
};

struct report_count {
    u64 count;
    u64 last; // A time of `CLOCK_MONOTONIC`.
};

// How many different failures of an owner were reported in its current window.
struct owner_rate {
    u64 began;
    u64 reports;
};

// A report of a call that failed.
struct failure_report {
    struct report_key key;
    u32 pid;
    u32 is_at_root; // Whether the root directory of the process is that of its mount namespace.
    u64 read_only;  // Whether the latest mount is read-only, on a file system that is not.
    u64 cgroups[LEVELS];
    struct path_names program;   // The file that the process executes.
    struct path_names directory; // Where a relative path starts.
    struct failure failure;
};

// The number of drafts.
volatile u64 draft_count = 0;
// The process that reads the reports, whose own calls do not count.
volatile const u64 watcher = 0;

// By thread, the report of its current call, which lacks something and has not failed yet.
struct {
    NUMBER(type, HASH);
    NUMBER(max_entries, DRAFTS);
    TYPE(key, u32);
    TYPE(value, struct failure_report);
} drafts SECTION(".maps");

// A report before it is filled in. It would not fit on the stack.
static const struct failure_report no_report;

struct {
    NUMBER(type, LRU_HASH);
    NUMBER(max_entries, COUNTS);
    TYPE(key, struct report_key);
    TYPE(value, struct report_count);
} counts SECTION(".maps");

struct {
    NUMBER(type, LRU_HASH);
    NUMBER(max_entries, OWNERS);
    TYPE(key, u64);
    TYPE(value, struct owner_rate);
} owners SECTION(".maps");

// The number of failures that were not reported: beyond an owner's limit, or for lack of room.
struct {
    NUMBER(type, ARRAY);
    NUMBER(max_entries, 1);
    TYPE(key, u32);
    TYPE(value, u64);
} lost SECTION(".maps");

struct {
    NUMBER(type, RING_BUFFER);
    NUMBER(max_entries, RING);
} reports SECTION(".maps");

INLINE void count_lost(void)
{
    u32 index = 0;
    u64 *count = map_lookup(&lost, &index);
    if (count)
        __sync_fetch_and_add(count, 1);
}

// Reads a path at an address in the kernel.
CHECKED_ONCE int read_path_at(struct path_names *to, u64 address)
{
    if (!to)
        return 0;
    to->length = to->is_whole = 0;
    if (address)
        read_path(to, (const struct path *)address);
    return 0;
}

// Returns the address of the path of an open file of the current process; 0 for none.
INLINE u64 find_path(s32 descriptor)
{
    struct file *file = find_file(descriptor);
    return file ? (u64)&file->f_path : 0;
}

// Fills in the current process. A relative path starts in an open directory, or in the working directory. The same call of
// another program or user, or from another directory, is another failure.
CHECKED_ONCE int describe(struct failure_report *draft, s32 directory)
{
    struct task_struct *task = current_task();
    struct fs_struct *fs = 0;
    struct mm_struct *memory = 0;
    struct file *file = 0;
    struct inode *program = 0;
    struct dentry *start = 0;
    if (!draft)
        return 0;
#pragma unroll
    for (int level = 0; level < LEVELS; level++)
        draft->cgroups[level] = current_ancestor_cgroup(level);
    READ(memory, task->mm);
    READ(file, memory->exe_file);
    READ(program, file->f_inode);
    read_path_at(&draft->program, file ? (u64)&file->f_path : 0);
    READ(fs, task->fs);
    read_path_at(&draft->directory, (u64)&fs->root);
    draft->is_at_root = draft->directory.is_whole && draft->directory.length == 0;
    u64 path = directory == AT_FDCWD ? (u64)&fs->pwd : find_path(directory);
    read_path_at(&draft->directory, path);
    describe_process(&draft->failure, current_pid_tgid());
    char first = draft->failure.text.words[0];
    if (path && first && first != '/')
        READ(start, ((const struct path *)path)->dentry);
    u64 hash = (draft->key.hash ^ (u64)program) * HASH_PRIME;
    hash = (hash ^ (u64)start) * HASH_PRIME;
    draft->key.hash = (hash ^ draft->failure.effective_uid) * HASH_PRIME;
    return 0;
}

// Finds the draft for the current call, or makes one; null if no program looks at the end of the call.
INLINE struct failure_report *find_draft(void)
{
    struct task_struct *task = current_task_typed();
    u64 thread = current_pid_tgid();
    unsigned int flags = 0;
    READ(flags, task->flags);
    if ((flags & (PF_KTHREAD | PF_IO_WORKER | PF_EXITING)) || is_compat() || thread >> 32 == watcher)
        return 0;
    struct pt_regs *registers = task_registers(task);
    u32 tid = thread, call = call_number(registers);
    struct call_rule *rule = map_lookup(&rules, &call);
    if (!rule || !(rule->flags & WATCHED_CALL))
        return 0;
    struct failure_report *draft = map_lookup(&drafts, &tid);
    if (draft && draft->key.call == call && draft->pid == thread >> 32)
        return draft;
    int is_new = !draft;
    if (map_update(&drafts, &tid, &no_report, ANY)) {
        count_lost();
        return 0;
    }
    if (is_new)
        __sync_fetch_and_add(&draft_count, 1);
    draft = map_lookup(&drafts, &tid);
    if (!draft)
        return 0;
    struct call_arguments arguments = {};
    read_arguments(&arguments, registers);
    draft->key.call = call;
    draft->key.cgroup = current_cgroup();
    draft->pid = thread >> 32;
    draft->failure.text_length = read_named(&draft->failure.text, rule, &arguments);
    draft->key.hash = hash_named(&draft->failure.text, rule, &arguments);
    describe_call(&draft->failure, registers, &arguments);
    s32 directory = AT_FDCWD;
    // The directory is the argument before the path, and it distinguishes failures.
    if (rule->path >= 2 && (rule->distinct & (1 << (rule->path - 2))))
        directory = argument_at(&arguments, rule->path - 1);
    describe(draft, directory);
    return draft;
}

// The arguments are the credentials, the user namespace of what they are for, the capability and options; the result follows.
SECTION("fexit/cap_capable")
int hardenwhy_cap(struct arguments *arguments)
{
    // Where the kernel does not audit a check, it does without the capability, and the call does not fail.
    if ((s32)arguments->of[4] == 0 || (arguments->of[3] & CAP_OPT_NOAUDIT))
        return 0;
    const struct cred *cred = (void *)arguments->of[0], *own = 0;
    struct user_namespace *users = (void *)arguments->of[1], *own_users = 0;
    u64 bit = 1ULL << (arguments->of[2] & 63), bounding = 0, effective = 0;
    u32 uid = 0;
    READ(own, ((struct task_struct *)current_task())->cred);
    if (own != cred)
        return 0;
    READ(own_users, cred->user_ns);
    READ(uid, cred->euid.val);
    READ_CAPABILITIES(bounding, cred->cap_bset);
    READ_CAPABILITIES(effective, cred->cap_effective);
    if (uid && (bit & FILE_MODES) && !(effective & bit))
        return 0;
    // No setting withholds from root what its bounding set has.
    if (!uid && (bounding & bit) && own_users == users)
        return 0;
    struct failure_report *draft = find_draft();
    if (!draft)
        return 0;
    draft->failure.missed |= bit;
    if (own_users != users)
        draft->failure.missed_elsewhere |= bit;
    return 0;
}

// The argument is a mount that the call wants to change; the result follows.
INLINE int check_mount(struct arguments *arguments)
{
    if ((s32)arguments->of[1] != -EROFS)
        return 0;
    struct vfsmount *mount = (void *)arguments->of[0];
    struct super_block *super_block = 0;
    unsigned long super_flags = 0;
    int flags = 0;
    READ(flags, mount->mnt_flags);
    READ(super_block, mount->mnt_sb);
    READ(super_flags, super_block->s_flags);
    struct failure_report *draft = find_draft();
    if (draft)
        draft->read_only = (flags & MNT_READONLY) && !(super_flags & SB_RDONLY);
    return 0;
}

SECTION("fexit/mnt_want_write")
int hardenwhy_want(struct arguments *arguments)
{
    return check_mount(arguments);
}

// Before Linux 6.8, `mnt_get_write_access` was called `__mnt_want_write`.
SECTION("fexit/mnt_get_write_access")
int hardenwhy_write(struct arguments *arguments)
{
    return check_mount(arguments);
}

// Whether another failure of the current process's owner may be reported now.
INLINE int admit(u64 now)
{
    u64 owner = current_ancestor_cgroup(OWNER_LEVEL);
    struct owner_rate first = {.began = now, .reports = 1};
    struct owner_rate *rate = map_lookup(&owners, &owner);
    if (!rate || now - rate->began > WINDOW_NS) {
        map_update(&owners, &owner, &first, ANY);
        return 1;
    }
    // Processors that count at the same time can exceed the limit by a few.
    return __sync_fetch_and_add(&rate->reports, 1) < MOST_OF_OWNER;
}

// Reports a failure, or counts it if it was reported before.
INLINE void report(struct failure_report *draft, s64 returned)
{
    u64 now = monotonic_time();
    struct failure *failure = &draft->failure;
    // What the call lacked does not matter if it failed for another reason.
    if (returned == -EROFS)
        failure->missed = failure->missed_elsewhere = 0;
    draft->key.missed = failure->missed;
    draft->key.returned = (u32)returned;
    struct report_key key = draft->key;
    struct report_count *known = map_lookup(&counts, &key);
    if (known) {
        __sync_fetch_and_add(&known->count, 1);
        known->last = now;
        return;
    }
    failure->count = failure->ready = 1;
    failure->first = failure->last = now;
    struct report_count one = {.count = 1, .last = now};
    if (admit(now) && ring_output(&reports, draft, sizeof(*draft), 0) == 0)
        map_update(&counts, &key, &one, ANY);
    else
        count_lost();
}

// Looks at the result of the current call.
CHECKED_ONCE int look_at(s64 returned)
{
    u32 tid = current_pid_tgid();
    struct failure_report *draft = map_lookup(&drafts, &tid);
    if (!draft)
        return 0;
    int is_read_only = returned == -EROFS && draft->read_only;
    int is_unprivileged = (returned == -EPERM || returned == -EACCES) && draft->failure.missed;
    if ((is_read_only || is_unprivileged) && draft->key.call == call_number(task_registers(current_task_typed())))
        report(draft, returned);
    map_delete(&drafts, &tid);
    __sync_fetch_and_add(&draft_count, -1);
    return 0;
}

// A process that is killed within a call does not get to the end of the call.
SECTION("raw_tp/sched_process_exit")
int hardenwhy_gone(void *unused)
{
    u32 tid = current_pid_tgid();
    if (draft_count && map_delete(&drafts, &tid) == 0)
        __sync_fetch_and_add(&draft_count, -1);
    return 0;
}

// The argument is the registers of the call; the result follows. The kernel's function has the name of the program. Drafts
// are rare, so that a call costs little.
#define AT_END(call)                                                                                                             \
    SECTION("fexit/" #call) int at_end_##call(struct arguments *arguments)                                                      \
    {                                                                                                                          \
        return draft_count ? look_at(arguments->of[1]) : 0;                                                                       \
    }

AT_END(acct)
AT_END(adjtimex)
AT_END(bind)
AT_END(bpf)
AT_END(chmod)
AT_END(chown)
AT_END(chroot)
AT_END(clock_adjtime)
AT_END(clock_settime)
AT_END(creat)
AT_END(delete_module)
AT_END(fchmod)
AT_END(fchmodat)
AT_END(fchmodat2)
AT_END(fchown)
AT_END(fchownat)
AT_END(finit_module)
AT_END(futimesat)
AT_END(init_module)
AT_END(ioctl)
AT_END(ioperm)
AT_END(iopl)
AT_END(kill)
AT_END(lchown)
AT_END(link)
AT_END(linkat)
AT_END(lremovexattr)
AT_END(lsetxattr)
AT_END(mkdir)
AT_END(mkdirat)
AT_END(mknod)
AT_END(mknodat)
AT_END(mlock)
AT_END(mlock2)
AT_END(mlockall)
AT_END(mount)
AT_END(move_mount)
AT_END(open)
AT_END(open_by_handle_at)
AT_END(openat)
AT_END(openat2)
AT_END(perf_event_open)
AT_END(pivot_root)
AT_END(prlimit64)
AT_END(process_vm_readv)
AT_END(ptrace)
AT_END(quotactl)
AT_END(reboot)
AT_END(removexattr)
AT_END(rename)
AT_END(renameat)
AT_END(renameat2)
AT_END(rmdir)
AT_END(sched_setaffinity)
AT_END(sched_setattr)
AT_END(sched_setparam)
AT_END(sched_setscheduler)
AT_END(setdomainname)
AT_END(setgid)
AT_END(setgroups)
AT_END(sethostname)
AT_END(setns)
AT_END(setpriority)
AT_END(setregid)
AT_END(setresgid)
AT_END(setresuid)
AT_END(setreuid)
AT_END(setrlimit)
AT_END(setsockopt)
AT_END(settimeofday)
AT_END(setuid)
AT_END(setxattr)
AT_END(socket)
AT_END(swapoff)
AT_END(swapon)
AT_END(symlink)
AT_END(symlinkat)
AT_END(syslog)
AT_END(tgkill)
AT_END(truncate)
AT_END(umount)
AT_END(unlink)
AT_END(unlinkat)
AT_END(unshare)
AT_END(utime)
AT_END(utimensat)
AT_END(utimes)
