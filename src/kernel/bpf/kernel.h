// The parts of the kernel that the BPF programs use: helpers, maps, and the members of structures that they read. The loader
// puts in the offsets of the running kernel (CO-RE), so the structures here list only these members.
#pragma once

struct task_struct;
struct pt_regs;

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef int s32;
typedef long long s64;

#define SECTION(name) __attribute__((section(name), used))
#define INLINE static inline __attribute__((always_inline))
// A function that exists once in the object, however often it is called.
#define SHARED_FUNCTION static __attribute__((noinline))

// A function that the verifier checks once in each program, whatever its callers pass: it knows only the types of the arguments.
#define CHECKED_ONCE __attribute__((noinline))

// Maps, in the notation of libbpf: the types of anonymous members carry the values.
#define NUMBER(name, value) int (*name)[value]
#define TYPE(name, type) type *name

enum map_type { HASH = 1, ARRAY = 2, PERCPU_ARRAY = 6, LRU_HASH = 9, RING_BUFFER = 27 };
enum map_update { ANY = 0, NEW = 1 };

// Helpers (`enum bpf_func_id`).
static void *(*const map_lookup)(void *map, const void *key) = (void *)1;
static long (*const map_update)(void *map, const void *key, const void *value, u64 flags) = (void *)2;
static long (*const map_delete)(void *map, const void *key) = (void *)3;
static u64 (*const monotonic_time)(void) = (void *)5;
static u64 (*const current_pid_tgid)(void) = (void *)14;
static u64 (*const current_uid_gid)(void) = (void *)15;
static long (*const current_comm)(void *buffer, u32 size) = (void *)16;
static void *(*const current_task)(void) = (void *)35;
static u64 (*const current_cgroup)(void) = (void *)80;
static long (*const read_user)(void *to, u32 size, const void *from) = (void *)112;
static long (*const read_kernel)(void *to, u32 size, const void *from) = (void *)113;
static long (*const read_user_string)(void *to, u32 size, const void *from) = (void *)114;
static long (*const read_kernel_string)(void *to, u32 size, const void *from) = (void *)115;
static u64 (*const current_ancestor_cgroup)(int level) = (void *)123;
static u64 (*const boot_time)(void) = (void *)125;
static long (*const ring_output)(void *ring, void *entry, u64 size, u64 flags) = (void *)130;
static struct task_struct *(*const current_task_typed)(void) = (void *)158;
static struct pt_regs *(*const task_registers)(struct task_struct *task) = (void *)175;
// Calls a function with the mapping of an address, and the context.
static long (*const find_mapping)(struct task_struct *task, u64 address, void *function, void *context,
                                  u64 flags) = (void *)180;

// Copies a member of a kernel structure; zeros where that fails.
#define READ(to, member) read_kernel(&(to), sizeof(to), &(member))

// The start of a path, an address or a name, with zeros after it. A name of a directory always fits (`NAME_MAX`).
#define TEXT_WORDS 32
struct text {
    u64 words[TEXT_WORDS];
};

#define HASH_PRIME 0x100000001b3ULL

// FNV-1a over words instead of bytes.
SHARED_FUNCTION u64 hash_text(const struct text *text)
{
    u64 hash = 0xcbf29ce484222325ULL;
    for (int at = 0; at < TEXT_WORDS; at++)
        hash = (hash ^ text->words[at]) * HASH_PRIME;
    return hash;
}

// Copies a set of capabilities.
#define READ_CAPABILITIES(to, set) read_kernel(&(to), sizeof(u64), &(set))

// A raw tracepoint's arguments.
struct arguments {
    u64 of[5];
};

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

// A member that no kernel has.
struct task_struct___absent {
    int absent;
};

struct kernfs_node {
    const char *name;
    u64 id;
};

struct cgroup_subsys_state {
    struct cgroup_subsys_state *parent;
};

struct cgroup_root {
    int hierarchy_id;
};

struct cgroup {
    // The first member, so that a pointer to it is one to the cgroup.
    struct cgroup_subsys_state self;
    int level;
    struct kernfs_node *kn;
    struct cgroup_root *root;
};

struct seccomp {
    int mode;
};

struct thread_info {
#if defined(ARCH_x86_64)
    u32 status;
#else
    unsigned long flags;
#endif
};

typedef struct {
    int counter;
} atomic_t;

struct signal_struct {
    atomic_t live;
};

struct ns_common {
    u32 inum;
};

struct user_namespace {
    struct ns_common ns;
};

struct mnt_namespace {
    struct ns_common ns;
};

struct nsproxy {
    struct mnt_namespace *mnt_ns;
};

// A set of capabilities, which has 64 bits under different names.
typedef struct {
} kernel_cap_t;

typedef struct {
    u32 val;
} kuid_t;

typedef struct {
    u32 val;
} kgid_t;

struct cred {
    kuid_t uid;
    kgid_t gid;
    kuid_t suid;
    kgid_t sgid;
    kuid_t euid;
    kgid_t egid;
    kuid_t fsuid;
    kernel_cap_t cap_effective;
    kernel_cap_t cap_bset;
    struct user_namespace *user_ns;
};

struct super_block {
    u32 s_dev;
    unsigned long s_flags;
};

struct inode {
    u16 i_mode;
    kuid_t i_uid;
    kgid_t i_gid;
    struct super_block *i_sb;
    unsigned long i_ino;
};

struct qstr {
    const unsigned char *name;
};

struct dentry {
    struct dentry *d_parent;
    struct qstr d_name;
};

struct vfsmount {
    struct dentry *mnt_root;
    struct super_block *mnt_sb;
    int mnt_flags;
};

struct mount {
    struct mount *mnt_parent;
    struct dentry *mnt_mountpoint;
    struct vfsmount mnt;
};

struct path {
    struct vfsmount *mnt;
    struct dentry *dentry;
};

struct file {
    struct inode *f_inode;
    struct path f_path;
    void *private_data;
};

struct fdtable {
    unsigned int max_fds;
    struct file **fd;
};

struct files_struct {
    struct fdtable *fdt;
};

struct in6_addr {
};

struct sock_common {
    u32 skc_daddr;
    u16 skc_dport;
    unsigned short skc_family;
    struct in6_addr skc_v6_daddr;
};

struct sock {
    struct sock_common __sk_common;
};

struct socket {
    struct sock *sk;
};

struct fs_struct {
    struct path root;
    struct path pwd;
};

struct mm_struct {
    struct file *exe_file;
};

struct vm_area_struct {
    unsigned long vm_start;
    unsigned long vm_flags;
    unsigned long vm_pgoff;
    struct file *vm_file;
};

struct sigaction {
    void *sa_handler;
};

struct k_sigaction {
    struct sigaction sa;
};

struct sighand_struct {
    struct k_sigaction action[64];
};

struct linux_binprm {
    struct file *file;
    const char *filename;
};

struct task_struct {
    struct thread_info thread_info;
    unsigned int flags;
    struct mm_struct *mm;
    struct fs_struct *fs;
    struct files_struct *files;
    unsigned long atomic_flags;
    const struct cred *real_cred;
    const struct cred *cred;
    struct nsproxy *nsproxy;
    s32 pid;
    s32 tgid;
    int exit_code;
    u64 start_boottime;
    struct task_struct *group_leader;
    struct task_struct *real_parent;
    struct signal_struct *signal;
    struct sighand_struct *sighand;
    struct seccomp seccomp;
};

#if defined(ARCH_x86_64)
struct pt_regs {
    unsigned long r10;
    unsigned long r9;
    unsigned long r8;
    unsigned long dx;
    unsigned long si;
    unsigned long di;
    unsigned long orig_ax;
    unsigned long ip;
    unsigned long sp;
};
#elif defined(ARCH_aarch64)
struct pt_regs {
    u64 regs[31];
    u64 pc;
    u64 orig_x0;
    s32 syscallno;
};
#elif defined(ARCH_riscv64)
struct pt_regs {
    unsigned long epc;
    unsigned long a1;
    unsigned long a2;
    unsigned long a3;
    unsigned long a4;
    unsigned long a5;
    unsigned long a7;
    unsigned long orig_a0;
};
#endif

#pragma clang attribute pop

// Makes the verifier refuse the program, for a call of an unknown helper, if the offsets of the running kernel are not in it. The
// loader answers that the absent member does not exist. Without the kernel's types it puts in nothing, and says nothing.
#define REQUIRE_OFFSETS()                                                                                  \
    do {                                                                                                   \
        struct task_struct___absent *none = 0;                                                             \
        if (__builtin_preserve_field_info(none->absent, FIELD_EXISTS))                                     \
            return unknown_helper();                                                                       \
    } while (0)
#define FIELD_OFFSET 0 // `BPF_FIELD_BYTE_OFFSET`.
#define FIELD_EXISTS 2 // `BPF_FIELD_EXISTS` (`enum bpf_core_relo_kind`).
static int (*const unknown_helper)(void) = (void *)0x7fffffff;

char LICENSE[] SECTION("license") = "Dual MIT/GPL";
