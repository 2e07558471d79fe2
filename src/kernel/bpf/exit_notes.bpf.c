// Notes the cgroup of each process under a seccomp filter when the process exits, and the name of each cgroup when it is
// removed. src/kernel/exit_cgroups.rs reads the notes.
#include "kernel.h"

#define SIGSYS 31

// How many levels of a cgroup's path a note has, from the root on. A user's unit is six levels deep. Only deeper slices and
// cgroups that a unit made itself are deeper than this.
#define LEVELS 12

// The size of the longest name of a directory (`NAME_MAX`) with a zero byte.
#define NAME_SIZE 256

// How many notes are kept of processes that SIGSYS killed, and of others: four seconds' worth at 2,000 exits a second under
// filters, in 1.5 MB of the kernel's memory.
#define PROCESSES 8192
// How many names of removed cgroups are kept, in 0.5 MB of the kernel's memory.
#define CGROUPS 1024

struct process_note {
    u64 started;
    u64 exited;
    u64 parent;
    u64 cgroups[LEVELS];
};

struct cgroup_name {
    char text[NAME_SIZE];
};

// Processes that die of SIGSYS have a map of their own, so that other exits cannot push their notes out.
struct {
    NUMBER(type, LRU_HASH);
    NUMBER(max_entries, PROCESSES);
    TYPE(key, u32);
    TYPE(value, struct process_note);
} killed SECTION(".maps");

struct {
    NUMBER(type, LRU_HASH);
    NUMBER(max_entries, PROCESSES);
    TYPE(key, u32);
    TYPE(value, struct process_note);
} ended SECTION(".maps");

struct {
    NUMBER(type, LRU_HASH);
    NUMBER(max_entries, CGROUPS);
    TYPE(key, u64);
    TYPE(value, struct cgroup_name);
} removed SECTION(".maps");

// The argument is the current task, which exits. Each thread of a process runs this, and the last one's note stays.
SECTION("raw_tp/sched_process_exit")
int hardenwhy_exit(struct arguments *arguments)
{
    struct task_struct *task = (void *)arguments->of[0], *leader = 0, *parent = 0;
    int mode = 0, code = 0;
    // A process without a seccomp filter has no denials.
    READ(mode, task->seccomp.mode);
    if (mode == 0)
        return 0;
    READ(code, task->exit_code);
    struct process_note note = {};
    // The process started with its first thread.
    READ(leader, task->group_leader);
    READ(note.started, leader->start_boottime);
    READ(parent, leader->real_parent);
    s32 parent_id = 0;
    READ(parent_id, parent->tgid);
    note.parent = (u32)parent_id;
    note.exited = boot_time();
#pragma unroll
    for (int level = 0; level < LEVELS; level++)
        note.cgroups[level] = current_ancestor_cgroup(level);
    u32 process = current_pid_tgid() >> 32;
    if ((code & 0x7f) == SIGSYS)
        map_update(&killed, &process, &note, ANY);
    else
        map_update(&ended, &process, &note, ANY);
    return 0;
}

// The argument is the removed cgroup.
SECTION("raw_tp/cgroup_rmdir")
int hardenwhy_rmdir(struct arguments *arguments)
{
    REQUIRE_OFFSETS();
    struct cgroup *cgroup = (void *)arguments->of[0];
    struct cgroup_root *root = 0;
    struct kernfs_node *node = 0;
    int hierarchy = 0;
    // Only the unified hierarchy, which is number 0: other hierarchies use the same ids for other cgroups.
    READ(root, cgroup->root);
    READ(hierarchy, root->hierarchy_id);
    if (hierarchy != 0)
        return 0;
    u64 id = 0;
    const char *text = 0;
    struct cgroup_name name = {};
    READ(node, cgroup->kn);
    READ(id, node->id);
    READ(text, node->name);
    read_kernel_string(name.text, sizeof(name.text), text);
    map_update(&removed, &id, &name, ANY);
    return 0;
}
