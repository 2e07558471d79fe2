// Reports calls that fail because the process lacks a capability, or because its mount of a writable file system is read-only:
// as they happen, of all processes. src/kernel/call_failures.rs loads this and reads the reports.
//
// Programs at the end of the kernel's capability check and of its checks of mounts see what the current call lacks. Most calls fail
// for it then, and are reported. For others the check decides nothing yet: it is noted by thread, and a program at the end of the
// call, or of the function that makes or opens its file, looks at the result. So nothing is reported without a failed call, and a
// call that succeeds costs little: no note exists while no check failed.
//
// The fewer functions have a program, the better: Linux waits for a grace period of its tasks (`synchronize_rcu_tasks`) to end each.
#include "failed_call.h"
#include "paths.h"

// How many levels of a cgroup's path a report has, from the root on, as the notes of src/kernel/exit_cgroups.rs.
#define LEVELS 12
// The level of the cgroup that stands for the owner of a process: a service, or the slice of a user.
#define OWNER_LEVEL 2

// How many threads can be between a failed check and the end of their call, in 0.7 MB of the kernel's memory, and how many of one
// owner: a thread can stay there, such as in an open of a FIFO.
#define DRAFTS 512
#define MOST_DRAFTS_OF_OWNER 64
// How many different failures are counted, in 0.3 MB of the kernel's memory.
#define COUNTS 4096
// How many owners have a limit of their own, and how many different failures of an owner are reported in a time.
#define OWNERS 1024
#define MOST_OF_OWNER 32
#define WINDOW_NS 10000000000ULL
// The size of the reports that wait to be read, in bytes.
#define RING (1 << 19)

#define PF_EXITING 0x4        // `include/linux/sched.h`
#define PF_DUMPCORE 0x200     // `include/linux/sched.h`
#define PF_IO_WORKER 0x10     // `include/linux/sched.h`
#define PF_KTHREAD 0x200000   // `include/linux/sched.h`
#define CAP_OPT_NOAUDIT 2     // `include/linux/security.h`
#define INITIAL_USERS 0xeffffffd // `PROC_USER_INIT_INO`, `include/linux/proc_ns.h`
#define SIGCONT 18            // `asm-generic/signal.h`
#define MNT_READONLY 0x40     // `include/linux/mount.h`
#define SB_RDONLY 1           // `include/linux/fs.h`
#define AT_FDCWD (-100)       // `linux/fcntl.h`
// CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER and CAP_FSETID, which another user than root lacks everywhere.
#define FILE_MODES 0x1eULL
// With CAP_CHOWN and CAP_MKNOD, what root lacks while it looks at files as another user (`cap_task_fix_setuid`).
#define OF_FILES (FILE_MODES | 1ULL | 1ULL << 27)

// What a failed check means for its call. src/kernel/call_failures/final_checks.rs has these by the call's number.
struct check_rule {
    u64 refused;   // The capabilities without which the call fails with EPERM.
    u64 forbidden; // The capabilities without which the call fails with EACCES.
    u64 noted;     // The capabilities whose lack decides nothing yet: a program looks at the result.
    u32 mounts;    // What a read-only mount means: 0 for nothing, `FINAL` or `NOTED`.
    u32 condition; // When the lack of a capability is final: 0 for always, `USER_IDS`, `GROUP_IDS` or `SIGNAL`.
};

#define FINAL 1 // The call fails.
#define NOTED 2 // It decides nothing yet.

#define USER_IDS 1  // If the call asks for a user id that the process has not.
#define GROUP_IDS 2 // The same of a group id.
#define SIGNAL 3    // If the signal is for one process, and not SIGCONT.

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

struct {
    NUMBER(type, ARRAY);
    NUMBER(max_entries, CALLS);
    TYPE(key, u32);
    TYPE(value, struct check_rule);
} checks SECTION(".maps");

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

// By owner, the number of its drafts.
struct {
    NUMBER(type, LRU_HASH);
    NUMBER(max_entries, OWNERS);
    TYPE(key, u64);
    TYPE(value, u64);
} drafts_of_owner SECTION(".maps");

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

// Returns what a failed check means for the current call; null for nothing.
INLINE const struct check_rule *find_check(u32 call)
{
    unsigned int flags = 0;
    READ(flags, ((struct task_struct *)current_task())->flags);
    if ((flags & (PF_KTHREAD | PF_IO_WORKER | PF_EXITING | PF_DUMPCORE)) || is_compat() || current_pid_tgid() >> 32 == watcher)
        return 0;
    return map_lookup(&checks, &call);
}

INLINE u32 current_call(void)
{
    return call_number(task_registers(current_task_typed()));
}

INLINE void forget_draft(void)
{
    u32 tid = current_pid_tgid();
    struct failure_report *draft = map_lookup(&drafts, &tid);
    if (!draft)
        return;
    u64 owner = draft->cgroups[OWNER_LEVEL];
    if (map_delete(&drafts, &tid))
        return;
    __sync_fetch_and_add(&draft_count, -1);
    u64 *held = map_lookup(&drafts_of_owner, &owner);
    if (held && *held)
        __sync_fetch_and_add(held, -1);
}

// Makes the draft for the current call, or finds the one that an earlier check of the same call made, unless this check is final;
// null if there is no room.
INLINE struct failure_report *find_draft(u32 call, int is_final)
{
    struct pt_regs *registers = task_registers(current_task_typed());
    u64 thread = current_pid_tgid();
    u32 tid = thread;
    struct failure_report *draft = map_lookup(&drafts, &tid);
    if (draft && !is_final && draft->key.call == call && draft->pid == thread >> 32)
        return draft;
    if (draft)
        forget_draft();
    u64 owner = current_ancestor_cgroup(OWNER_LEVEL), one = 1;
    u64 *held = map_lookup(&drafts_of_owner, &owner);
    if ((held && *held >= MOST_DRAFTS_OF_OWNER) || map_update(&drafts, &tid, &no_report, ANY)) {
        count_lost();
        return 0;
    }
    if (held)
        __sync_fetch_and_add(held, 1);
    else
        map_update(&drafts_of_owner, &owner, &one, ANY);
    __sync_fetch_and_add(&draft_count, 1);
    draft = map_lookup(&drafts, &tid);
    if (!draft)
        return 0;
    draft->cgroups[OWNER_LEVEL] = owner;
    struct call_rule *rule = map_lookup(&rules, &call);
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
    if (rule && rule->path >= 2 && (rule->distinct & (1 << (rule->path - 2))))
        directory = argument_at(&arguments, rule->path - 1);
    describe(draft, directory);
    return draft;
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
CHECKED_ONCE int report(struct failure_report *draft, s64 returned)
{
    u64 now = monotonic_time();
    if (!draft)
        return 0;
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
        return 0;
    }
    failure->count = failure->ready = 1;
    failure->first = failure->last = now;
    struct report_count one = {.count = 1, .last = now};
    if (admit(now) && ring_output(&reports, draft, sizeof(*draft), 0) == 0)
        map_update(&counts, &key, &one, ANY);
    else
        count_lost();
    return 0;
}

// Whether a call asks for an id that the process has not. It may take its own ids without the capability, which the kernel checks
// before it compares the ids, or after.
INLINE int asks_other_ids(u32 call, u32 condition, const struct cred *cred, const struct call_arguments *arguments)
{
    u32 real = 0, effective = 0, saved = 0, namespace = 0;
    struct user_namespace *users = 0;
    READ(users, cred->user_ns);
    READ(namespace, users->ns.inum);
    struct call_rule *rule = map_lookup(&rules, &call);
    // The ids of the arguments are those of the namespace.
    if (!rule || namespace != INITIAL_USERS)
        return 0;
    if (condition == USER_IDS) {
        READ(real, cred->uid.val);
        READ(effective, cred->euid.val);
        READ(saved, cred->suid.val);
    } else {
        READ(real, cred->gid.val);
        READ(effective, cred->egid.val);
        READ(saved, cred->sgid.val);
    }
    int asks = 0;
#pragma unroll
    for (int index = 0; index < 3; index++) {
        u32 id = arguments->of[index];
        int is_own = id == real || id == effective || id == saved || id == (u32)-1;
        asks |= (rule->distinct & (1 << index)) && !is_own;
    }
    return asks;
}

// Whether the current call fails for lack of a capability. Its arguments can decide that.
INLINE int is_final(const struct check_rule *check, u32 call, const struct cred *cred)
{
    struct call_arguments arguments = {};
    if (!check->condition)
        return 1;
    read_arguments(&arguments, task_registers(current_task_typed()));
    if (check->condition != SIGNAL)
        return asks_other_ids(call, check->condition, cred, &arguments);
    struct call_rule *rule = map_lookup(&rules, &call);
    // The signal distinguishes failures.
    u32 signal = rule && (rule->distinct & 4) ? arguments.of[2] : arguments.of[1];
    return (s32)arguments.of[0] > 0 && signal != SIGCONT;
}

// The arguments are the credentials, the user namespace of what they are for, the capability and options; the result follows.
SECTION("fexit/cap_capable")
int hardenwhy_cap(struct arguments *arguments)
{
    // Where the kernel does not audit a check, it does without the capability, and the call does not fail.
    if ((s32)arguments->of[4] == 0 || (arguments->of[3] & CAP_OPT_NOAUDIT))
        return 0;
    const struct cred *cred = (void *)arguments->of[0], *own = 0, *real = 0;
    struct user_namespace *users = (void *)arguments->of[1], *own_users = 0;
    u64 bit = 1ULL << (arguments->of[2] & 63), bounding = 0, effective = 0;
    u32 uid = 0, file_uid = 0;
    READ(own, ((struct task_struct *)current_task())->cred);
    READ(real, ((struct task_struct *)current_task())->real_cred);
    // The kernel can look at files with the rights of another process, as overlayfs does with those of who mounted it.
    if (own != cred || own != real)
        return 0;
    READ(own_users, cred->user_ns);
    READ(uid, cred->euid.val);
    READ(file_uid, cred->fsuid.val);
    READ_CAPABILITIES(bounding, cred->cap_bset);
    READ_CAPABILITIES(effective, cred->cap_effective);
    u64 of_others = uid ? FILE_MODES : file_uid ? OF_FILES : 0;
    if ((bit & of_others) && !(effective & bit))
        return 0;
    // No setting withholds from root what its bounding set has.
    if (!uid && (bounding & bit) && own_users == users)
        return 0;
    u32 call = current_call();
    const struct check_rule *check = find_check(call);
    if (!check)
        return 0;
    u64 refused = check->refused & bit, final = refused | (check->forbidden & bit);
    if (!final && !(check->noted & bit))
        return 0;
    if (final && !is_final(check, call, cred))
        return 0;
    struct failure_report *draft = find_draft(call, final != 0);
    if (!draft)
        return 0;
    draft->failure.missed |= bit;
    if (own_users != users)
        draft->failure.missed_elsewhere |= bit;
    if (final) {
        report(draft, refused ? -EPERM : -EACCES);
        forget_draft();
    }
    return 0;
}

// The argument is a mount that the call wants to change; the result follows. With `FINAL`, the failure can end the call; with
// `NOTED`, it decides nothing.
INLINE int check_mount(struct arguments *arguments, u32 meaning)
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
    u32 call = current_call();
    const struct check_rule *check = find_check(call);
    int is_read_only = (flags & MNT_READONLY) && !(super_flags & SB_RDONLY);
    if (!check || !(check->mounts == NOTED || check->mounts == meaning))
        return 0;
    if (!is_read_only) {
        // The latest mount counts.
        u32 tid = current_pid_tgid();
        struct failure_report *earlier = draft_count ? map_lookup(&drafts, &tid) : 0;
        if (earlier && earlier->key.call == call)
            earlier->read_only = 0;
        return 0;
    }
    struct failure_report *draft = find_draft(call, check->mounts == FINAL);
    if (!draft)
        return 0;
    draft->read_only = 1;
    if (check->mounts == FINAL) {
        report(draft, -EROFS);
        forget_draft();
    }
    return 0;
}

// All calls that want to change a file by its path, but for those that open it, come here.
SECTION("fexit/mnt_want_write")
int hardenwhy_want(struct arguments *arguments)
{
    return check_mount(arguments, FINAL);
}

// The check within the one above, and that of an opened file. Before Linux 6.8, `mnt_get_write_access` was called
// `__mnt_want_write`.
SECTION("fexit/mnt_get_write_access")
int hardenwhy_write(struct arguments *arguments)
{
    return check_mount(arguments, NOTED);
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
    if ((is_read_only || is_unprivileged) && draft->key.call == current_call())
        report(draft, returned);
    forget_draft();
    return 0;
}

// A process that is killed within a call does not get to the end of the call.
SECTION("raw_tp/sched_process_exit")
int hardenwhy_gone(void *unused)
{
    if (draft_count)
        forget_draft();
    return 0;
}

// Looks at the result of a function, which follows its arguments. It can be an error or the address of a file, which the verifier
// accepts as a number only if it is read as memory.
INLINE int look_at_end(const u64 *result)
{
    u64 returned = 0;
    // Drafts are rare, so that a call costs little.
    if (!draft_count)
        return 0;
    read_kernel(&returned, sizeof(returned), result);
    return look_at(returned);
}

// The kernel's function has the name of the program, and so many arguments.
#define AT_END(function, arguments_of_it)                                                                                      \
    SECTION("fexit/" #function) int at_end_##function(struct arguments *arguments)                                             \
    {                                                                                                                          \
        return look_at_end(&arguments->of[arguments_of_it]);                                                                   \
    }

// These open and make the files of several calls, and return an error in place of an address.
AT_END(do_filp_open, 3)
AT_END(filename_create, 4)
// These are calls: their one argument is the registers.
AT_END(bind, 1)
AT_END(bpf, 1)
AT_END(ioctl, 1)
AT_END(mount, 1)
AT_END(perf_event_open, 1)
AT_END(sched_setattr, 1)
AT_END(sched_setscheduler, 1)
AT_END(setpriority, 1)
AT_END(setsockopt, 1)
AT_END(syslog, 1)
