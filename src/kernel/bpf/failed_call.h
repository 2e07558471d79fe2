// A call that the kernel executes and that fails: what matters in it, and what is told of it.
#pragma once
#include "calls.h"

// The highest number of a call plus one.
#define CALLS 1024

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

// What matters in a call. The loader knows the calls by name.
struct call_rule {
    u8 path;     // The index of the argument that is a path or a socket address, plus one; 0 for none.
    u8 flags;    // `ADDRESS`, `IDENTITY`, `ANY_ARGUMENT`, `IF_CREATING`, `MESSAGE`.
    u8 distinct; // A bit for each argument that distinguishes failures.
    u8 decided;  // The index of the argument that filters decide by, plus one; 0 for none.
    u32 mask;    // The bits of that argument that filters look at.
};

#define ADDRESS 1  // The path is a socket address; the next argument is its length.
#define IDENTITY 2 // The call takes user or group ids. A user namespace that lacks one makes it fail with EINVAL.
#define ANY_ARGUMENT 4 // Filters deny 0 as well.
#define IF_CREATING 8  // Filters look at the argument only if the one before it has `O_CREAT`. Else it can hold anything.
#define MESSAGE 16     // With `ADDRESS`: the argument is a `struct msghdr`, which begins with the address and its length.
#define O_CREAT 0100   // `asm-generic/fcntl.h`

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
    char program[32]; // The name of the file that the process executes; the process itself cannot choose it.
    struct text text;
};

struct {
    NUMBER(type, ARRAY);
    NUMBER(max_entries, CALLS);
    TYPE(key, u32);
    TYPE(value, struct call_rule);
} rules SECTION(".maps");

// Finds an open file of the current process; null for none.
INLINE struct file *find_file(u32 descriptor)
{
    struct files_struct *files = 0;
    struct fdtable *table = 0;
    struct file **all = 0, *file = 0;
    u32 size = 0;
    READ(files, ((struct task_struct *)current_task())->files);
    READ(table, files->fdt);
    READ(size, table->max_fds);
    READ(all, table->fd);
    if (descriptor < size)
        read_kernel(&file, sizeof(file), all + descriptor);
    return file;
}

// Reads a socket address. Returns its length with the flag; a negative number if it cannot be read.
INLINE long read_address(struct text *to, u64 from, u64 length)
{
    u32 size = length;
    if (size > MOST_ADDRESS)
        size = MOST_ADDRESS;
    long failed = read_user(to, size, (void *)from);
    return failed < 0 ? failed : (long)(size | ADDRESS_TEXT);
}

// Reads the path or the address that the call names. Returns its length for `text_length`.
INLINE long read_named(struct text *text, const struct call_rule *rule, const struct call_arguments *arguments)
{
    if (!rule || (rule->flags & MESSAGE))
        return 0;
    u64 from = argument_at(arguments, rule->path);
    if (rule->flags & ADDRESS)
        return read_address(text, from, argument_at(arguments, rule->path + 1));
    return rule->path ? read_user_string(text, sizeof(*text), (void *)from) : 0;
}

// Returns the hash of what distinguishes failures of one call.
INLINE u64 hash_named(const struct text *text, const struct call_rule *rule, const struct call_arguments *arguments)
{
    u64 hash = hash_text(text);
    u8 distinct = rule ? rule->distinct : 0;
#pragma unroll
    for (int index = 0; index < 6; index++) {
        if (distinct & (1 << index))
            hash = (hash ^ arguments->of[index]) * HASH_PRIME;
    }
    return hash;
}

// Fills in what the call is.
INLINE void describe_call(struct failure *failure, struct pt_regs *registers, const struct call_arguments *arguments)
{
#pragma unroll
    for (int index = 0; index < 6; index++)
        failure->arguments[index] = arguments->of[index];
    failure->ip = instruction_pointer(registers);
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
    struct mm_struct *memory = 0;
    struct file *file = 0;
    struct dentry *entry = 0;
    const unsigned char *name = 0;
    READ(memory, task->mm);
    READ(file, memory->exe_file);
    READ(entry, file->f_path.dentry);
    READ(name, entry->d_name.name);
    read_kernel_string(failure->program, sizeof(failure->program), name);
}
