// Counts the calls of the watched processes that seccomp refuses, and the calls that enter the kernel and fail there as a
// sandbox makes them fail. src/kernel/tap.rs loads this and reads the counts.
//
// A call that a filter refuses leaves the kernel (`sys_exit`) without having entered it (`sys_enter`). So one program notes
// for each thread that it entered a call, and another counts threads that leave without this note. When an entered call
// leaves, the registers still hold its arguments. The other programs keep the notes right when threads begin and end, note
// which capabilities the kernel missed in the call, and follow units into new cgroups.
#include "kernel.h"

// How many targets a tap can have.
#define MOST_TARGETS 16
// How many threads are followed at a time, in 1.5 MB of the kernel's memory.
#define THREADS (16 << 10)
// How many different refusals of living threads are counted, in 2 MB of the kernel's memory.
#define REFUSALS (16 << 10)
// How many watched processes and children of theirs are followed.
#define PROCESSES (8 << 10)
// How many different failures of living processes are counted, in 4 MB of the kernel's memory.
#define FAILURES (8 << 10)
// The highest number of a call plus one.
#define CALLS 1024
// The deepest cgroup that is found for a target that runs already.
#define DEEPEST 64

// The size of the largest socket address (`struct sockaddr_storage`), and the flag in the length of an address.
#define MOST_ADDRESS 128
#define ADDRESS_TEXT (1 << 16)

// The highest error number (`include/linux/err.h`), and those that a sandbox causes.
#define MOST_ERRNO 4095
#define EPERM 1
#define ENOENT 2
#define EACCES 13
#define EINVAL 22
#define EROFS 30

#define NO_NEW_PRIVILEGES 1 // `PFA_NO_NEW_PRIVS` in `task_struct.atomic_flags`.
#define SET_ID 06000        // `S_ISUID | S_ISGID`.

// Flags in the target of a refusal or a failure.
#define FIRST (1 << 16)  // The thread was unknown, so it may have been in this call when the tap began.
#define COMPAT (1 << 17) // A call of the machine's 32-bit ABI.
#define EXEC (1 << 18)   // No call failed, but the program got no privileges from its file.

// Stands for every returned value that is no error: no filter of systemd's answered the call.
#define NO_ERROR 1

// The indexes of the numbers in `shared`: whether to count, and what had no room.
enum { LIVE, REFUSALS_LOST, THREADS_LOST, FAILURES_LOST, SHARED };

// What matters in a call. The loader knows the calls by name.
struct call_rule {
    u8 path;     // The index of the argument that is a path or a socket address, plus one; 0 for none.
    u8 flags;    // `ADDRESS`, `IDENTITY`.
    u8 distinct; // A bit for each argument that distinguishes failures.
    u8 deciding; // The index of the argument that filters decide by, plus one; 0 for none.
};

#define ADDRESS 1  // The path is a socket address; the next argument is its length.
#define IDENTITY 2 // The call takes user or group ids. A user namespace that lacks one makes it fail with EINVAL.

// A cgroup to watch.
struct watched_cgroup {
    // Its id, and how many levels it is below the root; the id is 0 while the unit has no cgroup.
    u64 id;
    u64 level;
    // Where a new cgroup of the unit appears: in the cgroup of this id, under a name with this hash.
    u64 parent;
    u64 name;
};

struct refusal_key {
    u32 tid;
    u32 pid;
    u32 call;
    u32 target; // The target's index, with flags.
    u32 returned;
    u32 argument; // The one that filters decide by; 0 where none is.
};

struct refusal {
    u64 count;
    u64 first; // Times of `CLOCK_MONOTONIC`.
    u64 last;
    u64 ip;
    u64 uid;
    char comm[16];
};

// What a thread is doing.
struct thread {
    u64 in_call;
    // The capabilities that the kernel missed during this call, and those of them for a user namespace that is not the
    // process's own.
    u64 missed;
    u64 missed_elsewhere;
};

struct failure_key {
    u32 pid;
    u32 call;
    u32 target; // The target's index, with flags.
    u32 returned;
    u64 hash; // Of the text and of the arguments that distinguish failures.
};

struct failure {
    u64 count;
    u64 first; // Times of `CLOCK_MONOTONIC`.
    u64 last;
    u64 ready; // Whether the rest is filled in, which is of the first failure.
    u64 arguments[6];
    u64 ip;
    u64 bounding;
    u64 effective;
    u64 missed;
    u64 missed_elsewhere;
    u32 user_namespace;
    u32 mount_namespace;
    u32 uid;
    u32 effective_uid;
    u32 effective_gid;
    u32 tid;
    u32 no_new_privileges;
    s32 text_length; // Of a path with its zero byte, or of an address with a flag; negative where it could not be read.
    char comm[16];
    struct text text;
};

// What the loader sets: the number of cgroups to watch, whether processes are targets, what to count, and the process that
// watches, whose own calls do not count.
volatile const u64 cgroup_count = 0;
volatile const u64 has_processes = 0;
volatile const u64 count_refusals = 0;
volatile const u64 count_failures = 0;
volatile const u64 count_absent = 0;
volatile const u64 watcher = 0;
volatile const u64 root_cgroup = 0;

struct {
    NUMBER(type, ARRAY);
    NUMBER(max_entries, SHARED);
    TYPE(key, u32);
    TYPE(value, u64);
} shared SECTION(".maps");

struct {
    NUMBER(type, ARRAY);
    NUMBER(max_entries, MOST_TARGETS);
    TYPE(key, u32);
    TYPE(value, struct watched_cgroup);
} cgroups SECTION(".maps");

// The watched processes and their children, with their targets' indexes.
struct {
    NUMBER(type, HASH);
    NUMBER(max_entries, PROCESSES);
    TYPE(key, u32);
    TYPE(value, u64);
} processes SECTION(".maps");

// By thread, what it is doing.
struct {
    NUMBER(type, HASH);
    NUMBER(max_entries, THREADS);
    TYPE(key, u32);
    TYPE(value, struct thread);
} threads SECTION(".maps");

struct {
    NUMBER(type, ARRAY);
    NUMBER(max_entries, CALLS);
    TYPE(key, u32);
    TYPE(value, struct call_rule);
} rules SECTION(".maps");

struct {
    NUMBER(type, HASH);
    NUMBER(max_entries, FAILURES);
    TYPE(key, struct failure_key);
    TYPE(value, struct failure);
} failures SECTION(".maps");

// A failure before it is filled in. It would not fit on the stack.
static const struct failure no_failure;

struct {
    NUMBER(type, HASH);
    NUMBER(max_entries, REFUSALS);
    TYPE(key, struct refusal_key);
    TYPE(value, struct refusal);
} refusals SECTION(".maps");

INLINE void count_loss(u32 what)
{
    u64 *count = map_lookup(&shared, &what);
    if (count)
        __sync_fetch_and_add(count, 1);
}

// Returns the index of the target that covers the current process; -1 if none does, or if the tap does not count.
SHARED_FUNCTION int find_target(u32 process)
{
    u32 index = LIVE;
    u64 *live = map_lookup(&shared, &index);
    if (!live || !*live || process == watcher)
        return -1;
#pragma unroll
    for (u32 target = 0; target < MOST_TARGETS; target++) {
        if (target >= cgroup_count)
            break;
        index = target;
        struct watched_cgroup *cgroup = map_lookup(&cgroups, &index);
        if (cgroup && cgroup->id && current_ancestor_cgroup(cgroup->level) == cgroup->id)
            return target;
    }
    if (has_processes) {
        u64 *target = map_lookup(&processes, &process);
        if (target)
            return *target;
    }
    return -1;
}

// Returns whether the current call came through the machine's 32-bit ABI.
INLINE int is_compat(void)
{
#if defined(ARCH_x86_64)
    u32 status = 0;
    READ(status, ((struct task_struct *)current_task())->thread_info.status);
    return (status & 2) != 0; // TS_COMPAT
#elif defined(ARCH_aarch64)
    unsigned long flags = 0;
    READ(flags, ((struct task_struct *)current_task())->thread_info.flags);
    return (flags & (1 << 22)) != 0; // TIF_32BIT
#else
    return 0;
#endif
}

// Returns the number of the current call.
INLINE u32 call_number(struct pt_regs *registers)
{
#if defined(ARCH_x86_64)
    unsigned long number = 0;
    READ(number, registers->orig_ax);
#elif defined(ARCH_aarch64)
    s32 number = 0;
    READ(number, registers->syscallno);
#elif defined(ARCH_riscv64)
    unsigned long number = 0;
    READ(number, registers->a7);
#endif
    return number;
}

// Returns the address of the instruction after the call.
INLINE u64 instruction_pointer(struct pt_regs *registers)
{
    u64 ip = 0;
#if defined(ARCH_x86_64)
    READ(ip, registers->ip);
#elif defined(ARCH_aarch64)
    READ(ip, registers->pc);
#elif defined(ARCH_riscv64)
    READ(ip, registers->epc);
#endif
    return ip;
}

struct call_arguments {
    u64 of[6];
};

INLINE void read_arguments(struct call_arguments *to, struct pt_regs *registers)
{
#if defined(ARCH_x86_64)
    READ(to->of[0], registers->di);
    READ(to->of[1], registers->si);
    READ(to->of[2], registers->dx);
    READ(to->of[3], registers->r10);
    READ(to->of[4], registers->r8);
    READ(to->of[5], registers->r9);
#elif defined(ARCH_aarch64)
    // The returned value is in the first register.
    READ(to->of[0], registers->orig_x0);
    READ(to->of[1], registers->regs[1]);
    READ(to->of[2], registers->regs[2]);
    READ(to->of[3], registers->regs[3]);
    READ(to->of[4], registers->regs[4]);
    READ(to->of[5], registers->regs[5]);
#elif defined(ARCH_riscv64)
    READ(to->of[0], registers->orig_a0);
    READ(to->of[1], registers->a1);
    READ(to->of[2], registers->a2);
    READ(to->of[3], registers->a3);
    READ(to->of[4], registers->a4);
    READ(to->of[5], registers->a5);
#endif
}

// Returns the argument of an index that is not constant. `place` is the index plus one, or 0 for none.
INLINE u64 argument_at(const struct call_arguments *arguments, u8 place)
{
    switch (place) {
    case 1:
        return arguments->of[0];
    case 2:
        return arguments->of[1];
    case 3:
        return arguments->of[2];
    case 4:
        return arguments->of[3];
    case 5:
        return arguments->of[4];
    case 6:
        return arguments->of[5];
    default:
        return 0;
    }
}

// Whether a sandbox can make a call fail with that error.
INLINE int matters(const struct call_rule *rule, s64 returned)
{
    switch (-returned) {
    case EPERM:
    case EACCES:
    case EROFS:
        return 1;
    case ENOENT:
        return count_absent && rule && rule->path && !(rule->flags & ADDRESS);
    case EINVAL:
        return rule && rule->flags & IDENTITY;
    default:
        return 0;
    }
}

// Adds one to a count of failures, and fills in what a new one needs. Returns the failure if it is new.
INLINE struct failure *add_failure(const struct failure_key *key)
{
    u64 now = monotonic_time();
    struct failure *known = map_lookup(&failures, key);
    int is_new = 0;
    if (!known) {
        // Another thread of the process can add the same key at the same time.
        is_new = map_update(&failures, key, &no_failure, NEW) == 0;
        known = map_lookup(&failures, key);
    }
    if (!known) {
        count_loss(FAILURES_LOST);
        return 0;
    }
    __sync_fetch_and_add(&known->count, 1);
    known->last = now;
    if (!is_new)
        return 0;
    known->first = now;
    return known;
}

// Fills in what the process may do, since it can be gone soon.
INLINE void describe_process(struct failure *failure, u64 thread)
{
    struct task_struct *task = current_task();
    const struct cred *cred = 0;
    struct user_namespace *users = 0;
    struct nsproxy *namespaces = 0;
    struct mnt_namespace *mounts = 0;
    unsigned long flags = 0;
    READ(cred, task->cred);
    READ_CAPABILITIES(failure->bounding, cred->cap_bset);
    READ_CAPABILITIES(failure->effective, cred->cap_effective);
    READ(failure->effective_uid, cred->euid.val);
    READ(failure->effective_gid, cred->egid.val);
    READ(users, cred->user_ns);
    READ(failure->user_namespace, users->ns.inum);
    READ(namespaces, task->nsproxy);
    READ(mounts, namespaces->mnt_ns);
    READ(failure->mount_namespace, mounts->ns.inum);
    READ(flags, task->atomic_flags);
    failure->no_new_privileges = flags & NO_NEW_PRIVILEGES;
    failure->uid = current_uid_gid();
    failure->tid = thread;
    current_comm(failure->comm, sizeof(failure->comm));
}

// Counts a call that was entered and failed.
INLINE void count_failure(u64 thread, u32 target, struct pt_regs *registers, s64 returned, u64 missed, u64 elsewhere)
{
    struct failure_key key = {.pid = thread >> 32, .target = target, .returned = (u32)returned};
    key.call = call_number(registers);
    struct call_rule *rule = map_lookup(&rules, &key.call);
    // The rules are those of the machine's own ABI.
    if (!matters(rule, returned) || is_compat())
        return;
    struct call_arguments arguments = {};
    read_arguments(&arguments, registers);
    struct text text = {};
    long length = 0;
    u8 distinct = 0;
    if (rule) {
        distinct = rule->distinct;
        const void *from = (void *)argument_at(&arguments, rule->path);
        if (rule->flags & ADDRESS) {
            u64 size = argument_at(&arguments, rule->path + 1);
            if (size > MOST_ADDRESS)
                size = MOST_ADDRESS;
            length = read_user(&text, size, from);
            length = length < 0 ? length : (long)(size | ADDRESS_TEXT);
        } else if (rule->path) {
            length = read_user_string(&text, sizeof(text), from);
        }
    }
    key.hash = hash_text(&text);
#pragma unroll
    for (int index = 0; index < 6; index++) {
        if (distinct & (1 << index))
            key.hash = (key.hash ^ arguments.of[index]) * HASH_PRIME;
    }
    struct failure *failure = add_failure(&key);
    if (!failure)
        return;
#pragma unroll
    for (int index = 0; index < 6; index++)
        failure->arguments[index] = arguments.of[index];
    failure->text = text;
    failure->text_length = length;
    failure->ip = instruction_pointer(registers);
    failure->missed = missed;
    failure->missed_elsewhere = elsewhere;
    describe_process(failure, thread);
    failure->ready = 1;
}

// Notes that the kernel missed a capability, and whether it was for a user namespace other than the process's own.
INLINE void note_missed(const struct cred *cred, struct user_namespace *users, u32 capability)
{
    u64 thread = current_pid_tgid();
    u32 tid = thread;
    struct thread *state = map_lookup(&threads, &tid);
    if (!state) {
        // Where refusals count, each thread in a call has a state.
        if (count_refusals || find_target(thread >> 32) < 0)
            return;
        struct thread new = {.in_call = 1};
        map_update(&threads, &tid, &new, ANY);
        state = map_lookup(&threads, &tid);
        if (!state)
            return;
    }
    struct user_namespace *own = 0;
    READ(own, cred->user_ns);
    u64 bit = 1ULL << (capability & 63);
    state->missed |= bit;
    if (own != users)
        state->missed_elsewhere |= bit;
}

// Counts a call that was not entered.
INLINE void count_refusal(u64 thread, u32 target, struct pt_regs *registers, s64 returned)
{
    struct refusal_key key = {.tid = thread, .pid = thread >> 32, .target = target};
    key.returned = returned > 0 || returned < -MOST_ERRNO ? NO_ERROR : (u32)returned;
    if (is_compat())
        key.target |= COMPAT;
    key.call = call_number(registers);
    struct call_rule *rule = map_lookup(&rules, &key.call);
    if (rule && rule->deciding && !(key.target & COMPAT)) {
        struct call_arguments arguments = {};
        read_arguments(&arguments, registers);
        key.argument = argument_at(&arguments, rule->deciding);
    }
    u64 now = monotonic_time(), ip = instruction_pointer(registers);
    struct refusal *known = map_lookup(&refusals, &key);
    if (!known) {
        struct refusal new = {.count = 1, .first = now, .last = now, .ip = ip, .uid = (u32)current_uid_gid()};
        current_comm(new.comm, sizeof(new.comm));
        if (map_update(&refusals, &key, &new, ANY))
            count_loss(REFUSALS_LOST);
        return;
    }
    // The count is the thread's own, and a thread runs on one processor at a time: no atomic addition is needed.
    known->count++;
    known->last = now;
    known->ip = ip;
    // A process has another name since it executed its program.
    current_comm(known->comm, sizeof(known->comm));
}

// The thread is in a call.
SECTION("raw_tp/sys_enter")
int hardenwhy_enter(struct arguments *arguments)
{
    u64 thread = current_pid_tgid();
    u32 tid = thread;
    if (find_target(thread >> 32) < 0)
        return 0;
    struct thread *state = map_lookup(&threads, &tid);
    if (state) {
        state->in_call = 1;
        state->missed = 0;
        state->missed_elsewhere = 0;
        return 0;
    }
    // `hardenwhy_leave` counts the threads that the map has no room for.
    struct thread new = {.in_call = 1};
    map_update(&threads, &tid, &new, ANY);
    return 0;
}

// The arguments are the registers and the returned value.
SECTION("raw_tp/sys_exit")
int hardenwhy_leave(struct arguments *arguments)
{
    struct pt_regs *registers = (void *)arguments->of[0];
    s64 returned = arguments->of[1];
    u64 thread = current_pid_tgid();
    u32 tid = thread;
    int target = find_target(thread >> 32);
    if (target < 0)
        return 0;
    struct thread *state = map_lookup(&threads, &tid);
    if (state && state->in_call) {
        state->in_call = 0;
        if (count_failures && returned < 0 && returned >= -MOST_ERRNO)
            count_failure(thread, target, registers, returned, state->missed, state->missed_elsewhere);
        return 0;
    }
    if (!state) {
        struct thread new = {};
        if (map_update(&threads, &tid, &new, ANY)) {
            count_loss(THREADS_LOST);
            return 0;
        }
        // Without an error, a call from before the tap came to its usual end.
        if (returned > 0 || returned < -MOST_ERRNO)
            return 0;
        target |= FIRST;
    }
    count_refusal(thread, target, registers, returned);
    return 0;
}

// The same where refusals do not count, so that `hardenwhy_enter` does not run. Only threads that missed a capability have a
// state.
SECTION("raw_tp/sys_exit")
int hardenwhy_fail(struct arguments *arguments)
{
    struct pt_regs *registers = (void *)arguments->of[0];
    s64 returned = arguments->of[1];
    u64 thread = current_pid_tgid();
    u32 tid = thread;
    struct thread known = {}, *state = map_lookup(&threads, &tid);
    if (state) {
        known = *state;
        map_delete(&threads, &tid);
    }
    if (returned >= 0 || returned < -MOST_ERRNO)
        return 0;
    int target = find_target(thread >> 32);
    if (target >= 0)
        count_failure(thread, target, registers, returned, known.missed, known.missed_elsewhere);
    return 0;
}

// The arguments are the credentials, the user namespace of what they are for, another one, the capability and the result.
// Linux has this tracepoint since 6.14.
SECTION("raw_tp/cap_capable")
int hardenwhy_cap(struct arguments *arguments)
{
    if ((s32)arguments->of[4] != 0)
        note_missed((void *)arguments->of[0], (void *)arguments->of[1], arguments->of[3]);
    return 0;
}

// The same for an older Linux, at the end of the function `cap_capable`: its arguments are the credentials, the user
// namespace, the capability and options; the result follows.
SECTION("fexit/cap_capable")
int hardenwhy_capold(struct arguments *arguments)
{
    if ((s32)arguments->of[4] != 0)
        note_missed((void *)arguments->of[0], (void *)arguments->of[1], arguments->of[2]);
    return 0;
}

// The arguments are the task, which runs this, its former thread and the program. A set-id program runs without its rights
// if the task can get no new privileges, and no call fails.
SECTION("raw_tp/sched_process_exec")
int hardenwhy_exec(struct arguments *arguments)
{
    u64 thread = current_pid_tgid();
    int target = find_target(thread >> 32);
    if (target < 0)
        return 0;
    struct task_struct *task = (void *)arguments->of[0];
    struct linux_binprm *program = (void *)arguments->of[2];
    const struct cred *cred = 0;
    struct file *file = 0;
    struct inode *inode = 0;
    const char *name = 0;
    unsigned long flags = 0;
    u32 effective_uid = 0, uid = 0, gid = 0;
    u16 mode = 0;
    READ(flags, task->atomic_flags);
    if (!(flags & NO_NEW_PRIVILEGES))
        return 0;
    READ(cred, task->cred);
    READ(effective_uid, cred->euid.val);
    READ(file, program->file);
    READ(inode, file->f_inode);
    READ(mode, inode->i_mode);
    // The file's capabilities mean nothing to root. The reader looks at them for others.
    if (!(mode & SET_ID) && effective_uid == 0)
        return 0;
    READ(uid, inode->i_uid.val);
    READ(gid, inode->i_gid.val);
    READ(name, program->filename);
    struct text text = {};
    long length = read_kernel_string(&text, sizeof(text), name);
    struct failure_key key = {.pid = thread >> 32, .target = target | EXEC, .hash = hash_text(&text)};
    struct failure *failure = add_failure(&key);
    if (!failure)
        return 0;
    failure->text = text;
    failure->text_length = length;
    failure->arguments[0] = mode;
    failure->arguments[1] = uid;
    failure->arguments[2] = gid;
    describe_process(failure, thread);
    failure->ready = 1;
    return 0;
}

// The arguments are the parent, which runs this, and the child. The child begins in the call that made it, and has its
// parent's target.
SECTION("raw_tp/sched_process_fork")
int hardenwhy_fork(struct arguments *arguments)
{
    int found = find_target(current_pid_tgid() >> 32);
    if (found < 0)
        return 0;
    struct task_struct *child = (void *)arguments->of[1];
    u32 tid = 0, pid = 0;
    u64 target = (u32)found;
    if (count_refusals) {
        struct thread new = {.in_call = 1};
        READ(tid, child->pid);
        map_update(&threads, &tid, &new, ANY);
    }
    if (has_processes) {
        READ(pid, child->tgid);
        if (map_update(&processes, &pid, &target, ANY))
            count_loss(THREADS_LOST);
    }
    return 0;
}

// The first argument is the task that ends, which runs this. The tracepoint has another argument since Linux 6.16. Forgets
// the task, since the kernel reuses its numbers.
SECTION("raw_tp/sched_process_exit")
int hardenwhy_end(struct arguments *arguments)
{
    u64 thread = current_pid_tgid();
    u32 tid = thread, pid = thread >> 32;
    map_delete(&threads, &tid);
    if (has_processes) {
        struct task_struct *task = (void *)arguments->of[0];
        struct signal_struct *signal = 0;
        int live = 0;
        READ(signal, task->signal);
        READ(live, signal->live.counter);
        if (live == 0)
            map_delete(&processes, &pid);
    }
    return 0;
}

// The first argument is a new cgroup. Watches it from its first process on if a target's unit has it.
SECTION("raw_tp/cgroup_mkdir")
int hardenwhy_mkdir(struct arguments *arguments)
{
    struct cgroup *cgroup = (void *)arguments->of[0], *parent = 0;
    struct cgroup_root *root = 0;
    struct kernfs_node *node = 0;
    int hierarchy = 0, level = 0;
    u64 id = 0, parent_id = 0;
    const char *from = 0;
    struct text name = {};
    READ(root, cgroup->root);
    READ(hierarchy, root->hierarchy_id);
    if (hierarchy != 0)
        return 0;
    READ(level, cgroup->level);
    READ(node, cgroup->kn);
    READ(id, node->id);
    READ(from, node->name);
    read_kernel_string(&name, sizeof(name), from);
    READ(parent, cgroup->self.parent);
    READ(node, parent->kn);
    READ(parent_id, node->id);
    u64 hash = hash_text(&name);
#pragma unroll
    for (u32 target = 0; target < MOST_TARGETS; target++) {
        if (target >= cgroup_count)
            break;
        u32 index = target;
        struct watched_cgroup *watched = map_lookup(&cgroups, &index);
        if (watched && watched->parent == parent_id && watched->name == hash) {
            watched->level = level;
            watched->id = id;
        }
    }
    return 0;
}

// Finds the level of the cgroup `root_cgroup`, in which the current process is: the loader runs this for the root of its cgroup
// namespace. Returns -1 if the process is outside.
SECTION("raw_tp")
int hardenwhy_level(struct arguments *arguments)
{
    for (int level = 0; level < DEEPEST; level++) {
        if (current_ancestor_cgroup(level) == root_cgroup)
            return level;
    }
    return -1;
}
