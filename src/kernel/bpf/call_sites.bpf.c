// Notes where in its code a process made the call that a filter kills it for, and where that function was called from.
// src/kernel/call_sites.rs reads the notes.
//
// The kernel raises SIGSYS in the process that made the call (`force_sig_seccomp`), so a program that runs then is in time
// even if the process is gone before its record is read. The signal is raised and delivered with interrupts disabled, and
// the kernel finds one mapping each time interrupts are disabled (`bpf_find_vma`). So one program looks up the code of the
// call, and another the code that called it.
#include "kernel.h"

#define SIGSYS 31
#define VM_EXEC 4

// How many notes are kept, in 0.5 MB of the kernel's memory. The reader takes a note when the process's record arrives.
#define NOTES 512

// A path has at most this many names and mounts, and room for its names; each name has a limit. Longer paths are cut.
#define DEEPEST 32
#define NAMES 256
#define LONGEST_NAME 128

// An id of a build by the linker is a SHA-1 hash.
#define BUILD_ID 20
#define ELF_MAGIC 0x464c457f // The bytes "\x7fELF".
#define PT_NOTE 4
#define NT_GNU_BUILD_ID 3
#define GNU_NAME 0x554e47 // The bytes "GNU\0".
#define MOST_SEGMENTS 16
#define MOST_NOTES 4
// How many pages the code of a file can be away from where its offset in the file says, as lld lays out files.
#define MOST_SHIFTS 4

// How far a call's instruction is from the start of its function at most. Most functions of libc that keep nothing on the
// stack have it within 32 bytes.
#define LONGEST_WRAPPER 64

// The shift of a page's size. The loader sets it.
volatile const u64 page_shift = 12;

// A place in the code of a file.
struct code_place {
    // Whether the rest is filled in. The reader copies from the start.
    u32 ready;
    u32 build_id_length;
    u64 inode;
    u64 device;
    u64 offset;
    u8 build_id[BUILD_ID + 4];
    // The names of the path, from the file's own to the topmost, each with a zero byte; and whether these are all.
    u32 path_length;
    u32 is_whole_path;
    char path[NAMES + LONGEST_NAME];
};

struct call_note {
    u64 time; // Of `CLOCK_BOOTTIME`.
    u64 ip;
    u64 return_address; // 0 if the function that made the call was not called in a way that is known.
    u64 thread;
    u64 wrapper_length;
    u8 wrapper[LONGEST_WRAPPER]; // The code of that function up to the call.
    struct code_place code;
    struct code_place caller;
};

// A note before it is filled in. It would not fit on the stack.
static const struct call_note no_note;

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

struct elf_header {
    u32 magic;
    u8 unused[28];
    u64 segments; // `e_phoff`
    u8 unused_too[14];
    u16 segment_size;
    u16 segment_count;
    u8 rest[6];
};

struct elf_segment {
    u32 type;
    u32 flags;
    u64 offset;
    u64 address;
    u64 physical;
    u64 size;
    u64 memory_size;
    u64 align;
};

struct elf_note {
    u32 name_size;
    u32 size;
    u32 type;
    u32 name;
};

// Reads the id of the build from a segment of notes.
INLINE int read_build_id(struct code_place *place, u64 at, u64 end)
{
    for (int index = 0; index < MOST_NOTES; index++) {
        struct elf_note note = {};
        if (at + sizeof(note) > end || read_user(&note, sizeof(note), (void *)at) || note.name_size > 64 || note.size > 4096)
            return 0;
        if (note.type == NT_GNU_BUILD_ID && note.name_size == 4 && note.name == GNU_NAME) {
            if (note.size != BUILD_ID || read_user(place->build_id, BUILD_ID, (void *)(at + sizeof(note))))
                return 0;
            place->build_id_length = BUILD_ID;
            return 1;
        }
        // Names and contents are padded to 4 bytes.
        at += 12 + ((note.name_size + 3) & ~3U) + ((note.size + 3) & ~3U);
    }
    return 0;
}

// Reads the id of the build of a file whose start is mapped at an address. It is in the process's memory, so the process can
// have changed it: the reader compares it with the file's.
INLINE int find_build_id(struct code_place *place, u64 start)
{
    struct elf_header header = {};
    if (read_user(&header, sizeof(header), (void *)start) || header.magic != ELF_MAGIC ||
        header.segment_size != sizeof(struct elf_segment))
        return 0;
    for (int index = 0; index < MOST_SEGMENTS; index++) {
        struct elf_segment segment = {};
        if (index >= header.segment_count)
            break;
        u64 at = start + header.segments + index * sizeof(segment);
        if (read_user(&segment, sizeof(segment), (void *)at))
            break;
        if (segment.type == PT_NOTE &&
            read_build_id(place, start + segment.offset, start + segment.offset + segment.size))
            break;
    }
    return 1;
}

// Reads the names of a file's path, across mounts, up to the root of the process's mount namespace.
INLINE void read_path(struct code_place *place, struct file *file)
{
    struct dentry *dentry = 0, *root = 0;
    struct vfsmount *mount = 0;
    u32 at = 0;
    READ(dentry, file->f_path.dentry);
    READ(mount, file->f_path.mnt);
    for (int level = 0; level < DEEPEST; level++) {
        READ(root, mount->mnt_root);
        if (dentry == root) {
            struct mount *parent = 0, *own = 0;
            own = (void *)((char *)mount - __builtin_preserve_field_info(own->mnt, FIELD_OFFSET));
            READ(parent, own->mnt_parent);
            if (parent == own) {
                place->is_whole_path = 1;
                break;
            }
            READ(dentry, own->mnt_mountpoint);
            mount = &parent->mnt;
            continue;
        }
        const char *name = 0;
        READ(name, dentry->d_name.name);
        if (at >= NAMES)
            break;
        long length = read_kernel_string(place->path + (at & (NAMES - 1)), LONGEST_NAME, name);
        if (length <= 1 || length >= LONGEST_NAME)
            break;
        at += length;
        READ(dentry, dentry->d_parent);
    }
    place->path_length = at;
}

// The mapping holds the address that is looked up.
static long describe_mapping(struct task_struct *task, struct vm_area_struct *mapping, struct lookup *lookup)
{
    struct call_note *note = map_lookup(&notes, &lookup->process);
    if (!note)
        return 0;
    struct code_place *place = lookup->is_caller ? &note->caller : &note->code;
    struct file *file = 0;
    struct inode *inode = 0;
    struct super_block *super_block = 0;
    unsigned long start = 0, first_page = 0, flags = 0;
    u32 device = 0;
    READ(file, mapping->vm_file);
    READ(flags, mapping->vm_flags);
    if (!file || !(flags & VM_EXEC))
        return 0;
    READ(start, mapping->vm_start);
    READ(first_page, mapping->vm_pgoff);
    READ(inode, file->f_inode);
    READ(place->inode, inode->i_ino);
    READ(super_block, inode->i_sb);
    READ(device, super_block->s_dev);
    place->device = device;
    u64 shift = page_shift & 31, offset = (u64)first_page << shift;
    place->offset = lookup->address + 1 - start + offset;
    read_path(place, file);
    u64 begins = start - offset;
    for (int index = 0; index < MOST_SHIFTS; index++) {
        if (find_build_id(place, begins))
            break;
        begins -= 1ULL << shift;
    }
    place->ready = 1;
    return 0;
}

#if defined(ARCH_x86_64)
#define STACK_POINTER(registers) ((registers)->sp)
#define INSTRUCTION_POINTER(registers) ((registers)->ip)

// Reads the distance of a place from the next instruction, which ends an instruction.
INLINE s64 distance(const u8 *code)
{
    return (s32)((u32)code[0] | (u32)code[1] << 8 | (u32)code[2] << 16 | (u32)code[3] << 24);
}

// Returns the function that the instruction before an address calls, and 0 if this is no call with a place in it.
INLINE u64 find_called(u64 address)
{
    u8 code[6] = {};
    u64 target = 0, jump = 0;
    if (read_user(code, sizeof(code), (void *)(address - sizeof(code))))
        return 0;
    if (code[0] == 0xff && code[1] == 0x15) {
        // call *place(%rip)
        read_user(&target, sizeof(target), (void *)(address + distance(code + 2)));
        return target;
    }
    if (code[1] != 0xe8)
        return 0;
    target = address + distance(code + 2);
    // A stub of the linker: endbr64, an optional prefix, and jmp *place(%rip).
    jump = target;
    if (!read_user(code, 4, (void *)jump) && code[0] == 0xf3 && code[1] == 0x0f && code[2] == 0x1e && code[3] == 0xfa)
        jump += 4;
    if (!read_user(code, 1, (void *)jump) && code[0] == 0xf2)
        jump++;
    if (!read_user(code, sizeof(code), (void *)jump) && code[0] == 0xff && code[1] == 0x25) {
        jump += sizeof(code) + distance(code + 2);
        target = 0;
        read_user(&target, sizeof(target), (void *)jump);
    }
    return target;
}

// Notes the address to which the function returns that made the call: the word at the top of the stack, if a call of just this
// function ends there. A function that keeps something on the stack has something else there: the reader looks at its code.
INLINE void find_return_address(struct call_note *note, struct pt_regs *registers)
{
    u64 stack = 0, address = 0;
    READ(stack, STACK_POINTER(registers));
    if (read_user(&address, sizeof(address), (void *)stack) || !address)
        return;
    u64 called = find_called(address), length = note->ip - called;
    if (!called || length > LONGEST_WRAPPER || read_user(note->wrapper, length, (void *)called))
        return;
    note->wrapper_length = length;
    note->return_address = address;
}
#else
#if defined(ARCH_aarch64)
#define INSTRUCTION_POINTER(registers) ((registers)->pc)
#else
#define INSTRUCTION_POINTER(registers) ((registers)->epc)
#endif

// The return address is in a register here, which a function that makes a call need not keep.
INLINE void find_return_address(struct call_note *note, struct pt_regs *registers)
{
}
#endif

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
