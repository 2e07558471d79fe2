// What the programs of a tap keep, and what they share with src/kernel/tap.rs: limits, layouts, constants and maps.
#pragma once
#include "failed_call.h"

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
// The deepest cgroup that is found for a target that runs already.
#define DEEPEST 64

// The bits of the target's index in the target of a refusal or a failure, and flags there.
#define TARGET 0xffff
#define FIRST (1 << 16)  // The thread was unknown, so it may have been in this call when the tap began.
#define COMPAT (1 << 17) // A call of the machine's 32-bit ABI.
#define EXEC (1 << 18)   // No call failed, but the program got no privileges from its file.
#define ENTERED (1 << 19)  // No filter refused the call: a rehearsal lets it pass.
#define ARGUMENT (1 << 20) // The argument that filters decide by is known.

// Stands for every returned value that is no error: no filter of systemd's answered the call.
#define NO_ERROR 1

// The indexes of the numbers in `shared`: whether to count, and what had no room.
enum { LIVE, REFUSALS_LOST, THREADS_LOST, FAILURES_LOST, SHARED };

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
    u32 argument; // The argument that filters decide by, or 0.
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

// What the loader sets: the number of cgroups to watch, whether processes are targets, the number of targets, what to count in
// addition, and the process that watches, whose own calls do not count.
volatile const u64 cgroup_count = 0;
volatile const u64 has_processes = 0;
volatile const u64 target_count = 1;
volatile const u64 count_absent = 0;
volatile const u64 count_entered = 0;
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
    NUMBER(type, HASH);
    NUMBER(max_entries, FAILURES);
    TYPE(key, struct failure_key);
    TYPE(value, struct failure);
} failures SECTION(".maps");

// By target, how many entries of the two maps the programs added, and how many the reader removed: failures first, then
// refusals. The difference is the target's share, which is limited, so that one target's noise leaves room for others.
enum share { OF_FAILURES, OF_REFUSALS };

struct {
    NUMBER(type, ARRAY);
    NUMBER(max_entries, 2 * MOST_TARGETS);
    TYPE(key, u32);
    TYPE(value, u64);
} added SECTION(".maps");

struct {
    NUMBER(type, ARRAY);
    NUMBER(max_entries, 2 * MOST_TARGETS);
    TYPE(key, u32);
    TYPE(value, u64);
} removed SECTION(".maps");

// A failure before it is filled in. It would not fit on the stack.
static const struct failure no_failure;

struct {
    NUMBER(type, HASH);
    NUMBER(max_entries, REFUSALS);
    TYPE(key, struct refusal_key);
    TYPE(value, struct refusal);
} refusals SECTION(".maps");

// A refusal that is the first of its kind.
struct first_refusal {
    struct refusal_key key;
    struct refusal refusal;
};

// What a program knows of the call that leaves. It would not fit on the stack, and the program is not preempted.
struct leaving_call {
    struct text text;
    struct call_arguments arguments;
    struct first_refusal first;
};

struct {
    NUMBER(type, PERCPU_ARRAY);
    NUMBER(max_entries, 1);
    TYPE(key, u32);
    TYPE(value, struct leaving_call);
} leaving_calls SECTION(".maps");
