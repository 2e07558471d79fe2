// Notes where in its code a process made the call that a filter kills it for, and where that function was called from.
// src/kernel/call_sites.rs reads the notes.
//
// The kernel raises SIGSYS in the process that made the call (`force_sig_seccomp`), so a program that runs then is in time
// even if the process is gone before its record is read. The signal is raised and delivered with interrupts disabled, and
// the kernel finds one mapping each time interrupts are disabled (`bpf_find_vma`). So one program looks up the code of the
// call, and another the code that called it.
#include "call_notes.h"

#define SIGSYS 31

// How many notes are kept, in 0.5 MB of the kernel's memory. The reader takes a note when the process's record arrives.
#define NOTES 512

struct {
    NUMBER(type, LRU_HASH);
    NUMBER(max_entries, NOTES);
    TYPE(key, u32);
    TYPE(value, struct call_note);
} notes SECTION(".maps");

// What is looked up in the mappings of a process.
struct lookup {
    u64 address;
    u32 process;
    u32 is_caller;
};

// The mapping holds the address that is looked up.
static long describe_mapping(struct task_struct *task, struct vm_area_struct *mapping, struct lookup *lookup)
{
    struct call_note *note = map_lookup(&notes, &lookup->process);
    if (note)
        fill_place(lookup->is_caller ? &note->caller : &note->code, mapping, lookup->address);
    return 0;
}

// The arguments are the signal, what is known of it, and the process that gets it, which runs this: the filter kills it.
SECTION("raw_tp/signal_generate")
int hardenwhy_kill(struct arguments *arguments)
{
    if ((s32)arguments->of[0] != SIGSYS || (u64)current_task() != arguments->of[2])
        return 0;
    struct task_struct *task = current_task_typed();
    struct sighand_struct *handlers = 0;
    void *handler = 0;
    int mode = 0;
    READ(mode, task->seccomp.mode);
    READ(handlers, task->sighand);
    READ(handler, handlers->action[SIGSYS - 1].sa.sa_handler);
    // A process with a handler goes on, and can make such calls without an end.
    if (mode == 0 || handler)
        return 0;
    u64 thread = current_pid_tgid(), ip = 0;
    struct lookup lookup = {.process = thread >> 32};
    map_update(&notes, &lookup.process, &no_note, ANY);
    struct call_note *note = map_lookup(&notes, &lookup.process);
    if (!note)
        return 0;
    struct pt_regs *registers = task_registers(task);
    READ(ip, INSTRUCTION_POINTER(registers));
    note->time = boot_time();
    note->thread = thread;
    note->ip = ip;
    find_return_address(note, registers);
    // The address is that of the next instruction, which another mapping can hold.
    lookup.address = ip - 1;
    find_mapping(task, ip - 1, describe_mapping, &lookup, 0);
    return 0;
}

// The first argument is the signal, which the process that runs this gets.
SECTION("raw_tp/signal_deliver")
int hardenwhy_deliver(struct arguments *arguments)
{
    REQUIRE_OFFSETS();
    if ((s32)arguments->of[0] != SIGSYS)
        return 0;
    u64 thread = current_pid_tgid();
    struct lookup lookup = {.process = thread >> 32, .is_caller = 1};
    struct call_note *note = map_lookup(&notes, &lookup.process);
    if (!note || note->thread != thread || !note->return_address || note->caller.ready)
        return 0;
    lookup.address = note->return_address - 1;
    find_mapping(current_task_typed(), lookup.address, describe_mapping, &lookup, 0);
    return 0;
}
