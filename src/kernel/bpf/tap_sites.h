// Notes where in its code a process made a refused or failed call.
#pragma once
#include "call_notes.h"
#include "tap_layout.h"

// How many notes are kept, in 1 MB of the kernel's memory. The reader takes a note with the count of its call.
#define SITES 1024

// The keys are those of failures and of refusals. No key is one of both: in the place of an error's number, a refusal's key has
// its target.
struct {
    NUMBER(type, LRU_HASH);
    NUMBER(max_entries, SITES);
    TYPE(key, struct failure_key);
    TYPE(value, struct call_note);
} sites SECTION(".maps");

// Returns the key of a refusal's note.
INLINE struct failure_key site_key(const struct refusal_key *key)
{
    struct failure_key of = {.pid = key->tid, .call = key->pid, .target = key->call, .returned = key->target};
    of.hash = key->returned | (u64)key->argument << 32;
    return of;
}

// What is looked up in the mappings of a process.
struct site_lookup {
    struct failure_key key;
    u64 address;
    u32 is_caller;
};

// The mapping holds the address that is looked up.
static long describe_site(struct task_struct *task, struct vm_area_struct *mapping, struct site_lookup *lookup)
{
    struct call_note *note = map_lookup(&sites, &lookup->key);
    if (note)
        fill_place(lookup->is_caller ? &note->caller : &note->code, mapping, lookup->address);
    return 0;
}

// Notes the place of the current call, which leaves the kernel.
SHARED_FUNCTION int note_site(const struct failure_key *key)
{
    struct task_struct *task = current_task_typed();
    struct pt_regs *registers = task_registers(task);
    struct site_lookup lookup = {.key = *key};
    u64 ip = 0;
    map_update(&sites, &lookup.key, &no_note, ANY);
    struct call_note *note = map_lookup(&sites, &lookup.key);
    if (!note)
        return 0;
    READ(ip, INSTRUCTION_POINTER(registers));
    note->time = boot_time();
    note->thread = current_pid_tgid();
    note->ip = ip;
    find_return_address(note, registers);
    // The address is that of the next instruction, which another mapping can hold.
    lookup.address = ip - 1;
    find_mapping(task, lookup.address, describe_site, &lookup, 0);
    if (note->return_address) {
        lookup.address = note->return_address - 1;
        lookup.is_caller = 1;
        find_mapping(task, lookup.address, describe_site, &lookup, 0);
    }
    return 0;
}
