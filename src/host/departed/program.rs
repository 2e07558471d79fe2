//! The BPF program that notes a process's cgroup as it dies, instruction by instruction
//! (`Documentation/bpf/standardization/instruction-set.rst`).

/// How many levels of a cgroup's path are noted, from the root on. A user's unit is six deep; beyond
/// these levels there are only deeper slices, or cgroups a unit made itself.
pub(super) const LEVELS: usize = 12;

/// What is noted of a process: its start, its death, the ids of its cgroup's ancestors and itself.
pub(super) const WORDS: usize = 2 + LEVELS;

/// Where the kernel has what we read, in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Offsets {
    /// `task_struct.seccomp.mode`.
    pub(super) mode: u32,
    /// `task_struct.group_leader`.
    pub(super) leader: u32,
    /// `task_struct.start_boottime`.
    pub(super) start: u32,
}

/// `struct bpf_insn`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

/// Registers: the result, the arguments, one that calls keep, the stack's end.
const R0: u8 = 0;
const R1: u8 = 1;
const R2: u8 = 2;
const R3: u8 = 3;
const R4: u8 = 4;
const TASK: u8 = 6;
const STACK: u8 = 10;

/// Helper functions (`enum bpf_func_id`).
const MAP_UPDATE_ELEM: i32 = 2;
const GET_CURRENT_PID_TGID: i32 = 14;
const PROBE_READ_KERNEL: i32 = 113;
const GET_CURRENT_ANCESTOR_CGROUP_ID: i32 = 123;
const KTIME_GET_BOOT_NS: i32 = 125;

/// Where things are on the stack: a scratch word, the key, and the note as it goes into the map.
const SCRATCH: i16 = -8;
const KEY: i16 = -16;
const NOTE: i16 = KEY - 8 * as_offset(WORDS);

/// The program, for the raw tracepoint `sched_process_exit`, whose first argument is the task that exits:
/// the current one. Threads count too: the last one's note stands.
pub(super) fn program(map: i32, at: Offsets) -> Option<Vec<Instruction>> {
    let mut code = vec![load(64, TASK, R1, 0)];
    // Nobody asks about a process that no filter is on.
    code.extend(read_kernel(SCRATCH, 4, TASK, at.mode)?);
    code.extend([load(32, R1, STACK, SCRATCH), skip_unless_zero(R1, 2), set(R0, 0), exit()]);
    // A process is as old as its first thread.
    code.extend(read_kernel(SCRATCH, 8, TASK, at.leader)?);
    code.push(load(64, TASK, STACK, SCRATCH));
    code.extend(read_kernel(NOTE, 8, TASK, at.start)?);
    code.extend([call(KTIME_GET_BOOT_NS), store(64, STACK, NOTE + 8, R0)]);
    for level in 0..LEVELS {
        code.extend([
            set(R1, i32::try_from(level).ok()?),
            call(GET_CURRENT_ANCESTOR_CGROUP_ID),
            store(64, STACK, NOTE + 16 + 8 * as_offset(level), R0),
        ]);
    }
    code.extend([call(GET_CURRENT_PID_TGID), shift_right(R0, 32), store(32, STACK, KEY, R0)]);
    code.extend(map_address(R1, map));
    code.extend([copy(R2, STACK), add(R2, KEY.into()), copy(R3, STACK), add(R3, NOTE.into()), set(R4, 0)]);
    code.extend([call(MAP_UPDATE_ELEM), set(R0, 0), exit()]);
    Some(code)
}

/// Reads kernel memory at a register and an offset onto the stack; zeros where that fails.
fn read_kernel(to: i16, size: i32, base: u8, offset: u32) -> Option<[Instruction; 6]> {
    Some([
        copy(R1, STACK),
        add(R1, to.into()),
        set(R2, size),
        copy(R3, base),
        add(R3, i32::try_from(offset).ok()?),
        call(PROBE_READ_KERNEL),
    ])
}

const fn as_offset(number: usize) -> i16 {
    assert!(number < 64, "the stack is small");
    #[expect(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "checked in the line above")]
    let number = number as i16;
    number
}

fn instruction(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> Instruction {
    // Two bit fields of four, in the order of the machine.
    let registers = if cfg!(target_endian = "little") { from << 4 | to } else { to << 4 | from };
    Instruction { code, registers, offset, immediate }
}

/// Loads from memory: `to = *(from + offset)`.
fn load(bits: u8, to: u8, from: u8, offset: i16) -> Instruction {
    instruction(if bits == 64 { 0x79 } else { 0x61 }, to, from, offset, 0)
}

/// Stores to memory: `*(to + offset) = from`.
fn store(bits: u8, to: u8, offset: i16, from: u8) -> Instruction {
    instruction(if bits == 64 { 0x7b } else { 0x63 }, to, from, offset, 0)
}

fn set(to: u8, value: i32) -> Instruction {
    instruction(0xb7, to, 0, 0, value)
}

fn copy(to: u8, from: u8) -> Instruction {
    instruction(0xbf, to, from, 0, 0)
}

fn add(to: u8, value: i32) -> Instruction {
    instruction(0x07, to, 0, 0, value)
}

fn shift_right(to: u8, bits: i32) -> Instruction {
    instruction(0x77, to, 0, 0, bits)
}

/// Goes on with the next instruction only if the register is zero.
fn skip_unless_zero(register: u8, skipped: i16) -> Instruction {
    instruction(0x55, register, 0, skipped, 0)
}

fn call(helper: i32) -> Instruction {
    instruction(0x85, 0, 0, 0, helper)
}

fn exit() -> Instruction {
    instruction(0x95, 0, 0, 0, 0)
}

/// The address of a map, by its descriptor (`BPF_PSEUDO_MAP_FD`): two instructions long.
fn map_address(to: u8, map: i32) -> [Instruction; 2] {
    [instruction(0x18, to, 1, 0, map), instruction(0, 0, 0, 0, 0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instruction_is_eight_bytes_as_the_kernel_lays_them_out() {
        assert_eq!(size_of::<Instruction>(), 8);
        let Instruction { code, registers, offset, immediate } = load(64, TASK, R1, 0);
        let expected = if cfg!(target_endian = "little") { 0x16 } else { 0x61 };
        assert_eq!((code, registers, offset, immediate), (0x79, expected, 0, 0));
    }

    #[test]
    fn the_stack_has_room() {
        assert!(NOTE >= -512);
        assert_eq!((NOTE % 8, NOTE + 8 * as_offset(WORDS)), (0, KEY));
    }

    #[test]
    fn an_offset_the_machine_cannot_add_makes_no_program() {
        let at = Offsets { mode: u32::MAX, leader: 0, start: 0 };
        assert!(program(3, at).is_none());
    }
}
