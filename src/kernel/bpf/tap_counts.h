// Counts refused and failed calls.
#pragma once
#include "tap_calls.h"

#define AF_INET 2
#define AF_INET6 10
#define SIZE_OF_INET 16  // Of `struct sockaddr_in`.
#define SIZE_OF_INET6 28 // Of `struct sockaddr_in6`.
#define S_IFMT 0170000   // `linux/stat.h`
#define S_IFSOCK 0140000

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

// Finds the number of entries that a target added to a map; null if the target has its share of the map already.
INLINE u64 *find_room(u32 target, enum share share, u64 size)
{
    u32 index = (target & TARGET) * 2 + share;
    u64 *now = map_lookup(&added, &index), *gone = map_lookup(&removed, &index);
    // Processors that add at the same time can exceed the share by a few entries.
    return now && gone && *now - *gone < size / target_count ? now : 0;
}

// Adds one to a count of failures, and fills in what a new one needs. Returns the failure if it is new.
INLINE struct failure *add_failure(const struct failure_key *key)
{
    u64 now = monotonic_time();
    struct failure *known = map_lookup(&failures, key);
    int is_new = 0;
    if (!known) {
        u64 *entries = find_room(key->target, OF_FAILURES, FAILURES);
        // Another thread of the process can add the same key at the same time.
        is_new = entries && map_update(&failures, key, &no_failure, NEW) == 0;
        if (is_new)
            __sync_fetch_and_add(entries, 1);
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

// Puts together the address that a descriptor's socket is connected to, as a call would have given it. Returns its size; 0
// without one.
SHARED_FUNCTION u32 read_peer(u32 descriptor, struct text *to)
{
    struct file *file = find_file(descriptor);
    struct inode *inode = 0;
    struct socket *socket = 0;
    struct sock *sock = 0;
    u32 address = 0;
    u16 mode = 0, family = 0, port = 0;
    if (!file)
        return 0;
    READ(inode, file->f_inode);
    READ(mode, inode->i_mode);
    if ((mode & S_IFMT) != S_IFSOCK)
        return 0;
    READ(socket, file->private_data);
    READ(sock, socket->sk);
    READ(family, sock->__sk_common.skc_family);
    READ(port, sock->__sk_common.skc_dport);
    to->words[0] = family | (u64)port << 16;
    if (family == AF_INET) {
        READ(address, sock->__sk_common.skc_daddr);
        to->words[0] |= (u64)address << 32;
        return address ? SIZE_OF_INET : 0;
    }
    if (family == AF_INET6) {
        read_kernel(&to->words[1], 16, &sock->__sk_common.skc_v6_daddr);
        return to->words[1] || to->words[2] ? SIZE_OF_INET6 : 0;
    }
    return 0;
}

// Reads the path or the address of a call. If it gives no address, its connected socket has one: the first argument.
INLINE long read_target(struct text *to, const struct call_rule *rule, const struct call_arguments *arguments)
{
    if (!rule || !(rule->flags & ADDRESS))
        return read_named(to, rule, arguments);
    struct {
        u64 from;
        u64 length;
    } given = {argument_at(arguments, rule->path), argument_at(arguments, rule->path + 1)};
    if ((rule->flags & MESSAGE) && read_user(&given, sizeof(given), (void *)given.from) < 0)
        return -1;
    if (!given.from || !given.length)
        return read_peer(arguments->of[0], to) | ADDRESS_TEXT;
    return read_address(to, given.from, given.length);
}

// Counts a call that was entered and failed. Returns the failure if it is the first of its kind, and not ready yet.
INLINE struct failure *count_failure(struct leaving_call *leaving, struct failure_key *counted, u64 thread, u32 target,
                                     struct pt_regs *registers, s64 returned, u64 missed, u64 elsewhere)
{
    struct failure_key key = {.pid = thread >> 32, .target = target, .returned = (u32)returned};
    key.call = call_number(registers);
    struct call_rule *rule = map_lookup(&rules, &key.call);
    // The rules are those of the machine's own ABI.
    if (!matters(rule, returned) || is_compat())
        return 0;
    struct call_arguments *arguments = &leaving->arguments;
    struct text *text = &leaving->text;
    read_arguments(arguments, registers);
#pragma unroll
    for (int at = 0; at < TEXT_WORDS; at++)
        text->words[at] = 0;
    long length = read_target(text, rule, arguments);
    key.hash = hash_named(text, rule, arguments);
    struct failure *failure = add_failure(&key);
    if (!failure)
        return 0;
    failure->text = *text;
    failure->text_length = length;
    failure->missed = missed;
    failure->missed_elsewhere = elsewhere;
    describe_call(failure, registers, arguments);
    describe_process(failure, thread);
    *counted = key;
    return failure;
}

// Notes that the kernel missed a capability, and whether it was for a user namespace other than the process's own.
INLINE void note_missed(const struct cred *cred, struct user_namespace *users, u32 capability)
{
    u64 thread = current_pid_tgid();
    u32 tid = thread;
    struct thread *state = map_lookup(&threads, &tid);
    // Each thread in a call has a state.
    if (!state)
        return;
    struct user_namespace *own = 0;
    READ(own, cred->user_ns);
    u64 bit = 1ULL << (capability & 63);
    state->missed |= bit;
    if (own != users)
        state->missed_elsewhere |= bit;
}

// Whether the current thread runs under a filter. systemd loads the filters of a unit just before it executes the program.
INLINE int is_filtered(void)
{
    int mode = 0;
    READ(mode, ((struct task_struct *)current_task())->seccomp.mode);
    return mode != 0;
}

// Counts a call that was not entered; or one that was, if filters decide about it by an argument. Returns whether it is the
// first of its kind, which `add_refusal` then adds.
INLINE int count_decision(struct leaving_call *leaving, u64 thread, u32 target, struct pt_regs *registers, s64 returned)
{
    struct refusal_key key = {.tid = thread, .pid = thread >> 32, .target = target};
    key.returned = (target & ENTERED) || returned > 0 || returned < -MOST_ERRNO ? NO_ERROR : (u32)returned;
    key.call = call_number(registers);
    struct call_rule *rule = map_lookup(&rules, &key.call);
    // The rules are those of the machine's own ABI.
    if (is_compat()) {
        key.target |= COMPAT;
    } else if (rule && rule->decided) {
        read_arguments(&leaving->arguments, registers);
        if (!(rule->flags & IF_CREATING) || (argument_at(&leaving->arguments, rule->decided - 1) & O_CREAT)) {
            key.target |= ARGUMENT;
            key.argument = argument_at(&leaving->arguments, rule->decided) & rule->mask;
        }
    }
    // Most arguments that no filter denies are 0.
    if ((target & ENTERED) && !key.argument && !(rule && rule->flags & ANY_ARGUMENT))
        return 0;
    u64 now = monotonic_time(), ip = instruction_pointer(registers);
    struct refusal *known = map_lookup(&refusals, &key);
    // A process can make up any argument, so half of a target's share is for calls without one.
    if (!known && (key.target & ARGUMENT) && !find_room(target, OF_REFUSALS, REFUSALS / 2)) {
        key.target &= ~ARGUMENT;
        key.argument = 0;
        known = map_lookup(&refusals, &key);
    }
    if (!known) {
        struct refusal *new = &leaving->first.refusal;
        leaving->first.key = key;
        new->count = 1;
        new->first = now;
        new->last = now;
        new->ip = ip;
        new->uid = (u32)current_uid_gid();
        current_comm(new->comm, sizeof(new->comm));
        return 1;
    }
    // The count is the thread's own, and a thread runs on one processor at a time: no atomic addition is needed.
    known->count++;
    known->last = now;
    known->ip = ip;
    // A process has another name since it executed its program.
    current_comm(known->comm, sizeof(known->comm));
    return 0;
}

// Adds a refusal that is the first of its kind.
INLINE void add_refusal(const struct first_refusal *first)
{
    u64 *entries = find_room(first->key.target, OF_REFUSALS, REFUSALS);
    if (entries && !map_update(&refusals, &first->key, &first->refusal, ANY))
        __sync_fetch_and_add(entries, 1);
    else
        count_loss(REFUSALS_LOST);
}
