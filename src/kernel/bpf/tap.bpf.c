// Counts the calls of the watched processes that seccomp refuses, and the calls that enter the kernel and fail there as a
// sandbox makes them fail. src/kernel/tap.rs loads this and reads the counts.
//
// A call that a filter refuses leaves the kernel (`sys_exit`) without having entered it (`sys_enter`). So one program notes
// for each thread that it entered a call, and another counts threads that leave without this note. When an entered call
// leaves, the registers still hold its arguments. The other programs keep the notes right when threads begin and end, note
// which capabilities the kernel missed in the call, and follow units into new cgroups.
#include "tap_counts.h"
#include "tap_sites.h"

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

// The arguments are the registers and the returned value. `notes_sites` is whether to note the places of calls.
INLINE int leave(struct arguments *arguments, int notes_sites)
{
    struct pt_regs *registers = (void *)arguments->of[0];
    s64 returned = arguments->of[1];
    u64 thread = current_pid_tgid();
    u32 tid = thread, only = 0;
    int target = find_target(thread >> 32), is_decided = 0;
    struct failure_key key = {};
    struct failure *failure = 0;
    if (target < 0)
        return 0;
    struct thread *state = map_lookup(&threads, &tid);
    int is_entered = state && state->in_call, has_failed = returned < 0 && returned >= -MOST_ERRNO;
    if (is_entered) {
        state->in_call = 0;
        if (!has_failed && !count_entered)
            return 0;
    }
    struct leaving_call *call = map_lookup(&leaving_calls, &only);
    if (!call)
        return 0;
    if (is_entered) {
        if (count_entered && is_filtered())
            is_decided = count_decision(call, thread, target | ENTERED, registers, returned);
        if (has_failed)
            failure = count_failure(call, &key, thread, target, registers, returned, state->missed,
                                    state->missed_elsewhere);
    } else {
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
        is_decided = count_decision(call, thread, target, registers, returned);
    }
    // The reader takes the note of a call's place with the count: the note is there first.
    if (is_decided && !failure)
        key = site_key(&call->first.key);
    if (notes_sites && (is_decided || failure))
        note_site(&key);
    if (is_decided)
        add_refusal(&call->first);
    if (failure)
        failure->ready = 1;
    return 0;
}

SECTION("raw_tp/sys_exit")
int hardenwhy_leave(struct arguments *arguments)
{
    return leave(arguments, 0);
}

// The same where the kernel can find the mapping of an address, since Linux 5.17.
SECTION("raw_tp/sys_exit")
int hardenwhy_site(struct arguments *arguments)
{
    return leave(arguments, 1);
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
    struct thread new = {.in_call = 1};
    READ(tid, child->pid);
    map_update(&threads, &tid, &new, ANY);
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
    REQUIRE_OFFSETS();
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
