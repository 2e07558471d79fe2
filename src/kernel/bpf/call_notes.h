// A note of where in its code a process made a call, and where that function was called from.
// src/kernel/call_notes.rs reads these notes.
#pragma once
#include "paths.h"

#define VM_EXEC 4

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
    struct path_names path;
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

// Where the header of a file has the place of its segments' headers (`e_phoff`), and their size and number.
#define ELF_SEGMENTS 32
#define ELF_SEGMENT_SIZE 54

struct elf_segment_table {
    u16 size;
    u16 count;
};

// The start of a segment's header, which is as long as `SEGMENT_HEADER`.
struct elf_segment {
    u32 type;
    u32 flags;
    u64 offset;
    u64 address;
    u64 physical;
    u64 size;
};

#define SEGMENT_HEADER 56

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
    u32 magic = 0;
    u64 segments = 0;
    struct elf_segment_table table = {};
    if (read_user(&magic, sizeof(magic), (void *)start) || magic != ELF_MAGIC ||
        read_user(&segments, sizeof(segments), (void *)(start + ELF_SEGMENTS)) ||
        read_user(&table, sizeof(table), (void *)(start + ELF_SEGMENT_SIZE)) || table.size != SEGMENT_HEADER)
        return 0;
    for (int index = 0; index < MOST_SEGMENTS; index++) {
        struct elf_segment segment = {};
        if (index >= table.count)
            break;
        u64 at = start + segments + index * SEGMENT_HEADER;
        if (read_user(&segment, sizeof(segment), (void *)at))
            break;
        if (segment.type == PT_NOTE &&
            read_build_id(place, start + segment.offset, start + segment.offset + segment.size))
            break;
    }
    return 1;
}

// Fills in the place of an address in a mapping.
INLINE void fill_place(struct code_place *place, struct vm_area_struct *mapping, u64 address)
{
    struct file *file = 0;
    struct inode *inode = 0;
    struct super_block *super_block = 0;
    unsigned long start = 0, first_page = 0, flags = 0;
    u32 device = 0;
    READ(file, mapping->vm_file);
    READ(flags, mapping->vm_flags);
    if (!file || !(flags & VM_EXEC))
        return;
    READ(start, mapping->vm_start);
    READ(first_page, mapping->vm_pgoff);
    READ(inode, file->f_inode);
    READ(place->inode, inode->i_ino);
    READ(super_block, inode->i_sb);
    READ(device, super_block->s_dev);
    place->device = device;
    u64 shift = page_shift & 31, offset = (u64)first_page << shift;
    place->offset = address + 1 - start + offset;
    read_path(&place->path, &file->f_path);
    u64 begins = start - offset;
    for (int index = 0; index < MOST_SHIFTS; index++) {
        if (find_build_id(place, begins))
            break;
        begins -= 1ULL << shift;
    }
    place->ready = 1;
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
