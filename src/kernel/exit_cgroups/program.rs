//! The two BPF programs, instruction by instruction: one notes a process's cgroup as it dies, the other
//! a cgroup's name as it is removed.

use crate::audit::record::SIGSYS;
use crate::kernel::bpf::helper::{
    GET_CURRENT_ANCESTOR_CGROUP_ID, GET_CURRENT_PID_TGID, KTIME_GET_BOOT_NS, MAP_UPDATE_ELEM, PROBE_READ_KERNEL,
    PROBE_READ_KERNEL_STR,
};
use crate::kernel::bpf::{
    Instruction, R0, R1, R2, R3, R4, R6, R7, STACK, add, and, call, copy, exit, load, map_address, read, set,
    shift_right, skip_if, skip_unless_zero, store,
};

/// How many levels of a cgroup's path are noted, from the root on. A user's unit is six deep; beyond
/// these levels there are only deeper slices, or cgroups a unit made itself.
pub(crate) const LEVELS: usize = 12;

/// What is noted of a process: its start, its death, the ids of its cgroup's ancestors and itself.
pub(crate) const WORDS: usize = 2 + LEVELS;

/// Room for the longest name of a directory (`NAME_MAX`) and its end.
pub(crate) const NAME: usize = 256;

/// Where the kernel has what is read of a process, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TaskOffsets {
    /// `task_struct.seccomp.mode`.
    pub(crate) mode: u32,
    /// `task_struct.group_leader`.
    pub(crate) leader: u32,
    /// `task_struct.start_boottime`.
    pub(crate) start: u32,
    /// `task_struct.exit_code`.
    pub(crate) code: u32,
}

/// And of a cgroup.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CgroupOffsets {
    /// `cgroup.root`.
    pub(crate) root: u32,
    /// `cgroup_root.hierarchy_id`.
    pub(crate) hierarchy: u32,
    /// `cgroup.kn`.
    pub(crate) node: u32,
    /// `kernfs_node.id`.
    pub(crate) id: u32,
    /// `kernfs_node.name`.
    pub(crate) name: u32,
}

/// Registers that calls keep.
const KEPT: u8 = R6;
const NODE: u8 = R7;
const CODE: u8 = R7;

/// Where things are on the stack: a scratch word, the key, and what goes into the map.
const SCRATCH: i16 = -8;
const KEY: i16 = -16;
const NOTE: i16 = KEY - 8 * small(WORDS);
const TEXT: i16 = KEY - small(NAME);

/// For the raw tracepoint `sched_process_exit`, whose first argument is the task that exits: the current
/// one. Threads count too: the last one's note stands. Who dies of SIGSYS goes into a map of its own, which
/// no number of other deaths can fill.
pub(crate) fn note_process(killed: i32, other: i32, at: TaskOffsets) -> Option<Vec<Instruction>> {
    let mut code = vec![load(64, KEPT, R1, 0)];
    // Nobody asks about a process that no filter is on.
    code.extend(read(PROBE_READ_KERNEL, SCRATCH, 4, KEPT, at.mode)?);
    code.extend([load(32, R1, STACK, SCRATCH), skip_unless_zero(R1, 2), set(R0, 0), exit()]);
    code.extend(read(PROBE_READ_KERNEL, SCRATCH, 4, KEPT, at.code)?);
    code.extend([load(32, CODE, STACK, SCRATCH), and(CODE, 0x7f)]);
    // A process is as old as its first thread.
    code.extend(read(PROBE_READ_KERNEL, SCRATCH, 8, KEPT, at.leader)?);
    code.push(load(64, KEPT, STACK, SCRATCH));
    code.extend(read(PROBE_READ_KERNEL, NOTE, 8, KEPT, at.start)?);
    code.extend([call(KTIME_GET_BOOT_NS), store(64, STACK, NOTE + 8, R0)]);
    for level in 0..LEVELS {
        code.extend([
            set(R1, i32::try_from(level).ok()?),
            call(GET_CURRENT_ANCESTOR_CGROUP_ID),
            store(64, STACK, NOTE + 16 + 8 * small(level), R0),
        ]);
    }
    code.extend([call(GET_CURRENT_PID_TGID), shift_right(R0, 32), store(32, STACK, KEY, R0)]);
    let other = keep(other, NOTE);
    code.push(skip_if(CODE, SIGSYS, i16::try_from(other.len()).ok()?));
    code.extend(other);
    code.extend(keep(killed, NOTE));
    Some(code)
}

/// For the raw tracepoint `cgroup_rmdir`, whose first argument is the cgroup that was removed.
pub(crate) fn note_cgroup(map: i32, at: CgroupOffsets) -> Option<Vec<Instruction>> {
    let mut code = vec![load(64, KEPT, R1, 0)];
    // Only the unified hierarchy, number 0: the others have the same ids for other cgroups.
    code.extend(read(PROBE_READ_KERNEL, SCRATCH, 8, KEPT, at.root)?);
    code.push(load(64, NODE, STACK, SCRATCH));
    code.extend(read(PROBE_READ_KERNEL, SCRATCH, 4, NODE, at.hierarchy)?);
    code.extend([load(32, R1, STACK, SCRATCH), skip_if(R1, 0, 2), set(R0, 0), exit()]);
    code.extend(read(PROBE_READ_KERNEL, SCRATCH, 8, KEPT, at.node)?);
    code.push(load(64, NODE, STACK, SCRATCH));
    code.extend(read(PROBE_READ_KERNEL, KEY, 8, NODE, at.id)?);
    code.extend(read(PROBE_READ_KERNEL, SCRATCH, 8, NODE, at.name)?);
    code.push(load(64, NODE, STACK, SCRATCH));
    code.extend(read(PROBE_READ_KERNEL_STR, TEXT, i32::try_from(NAME).ok()?, NODE, 0)?);
    code.extend(keep(map, TEXT));
    Some(code)
}

/// Puts what is on the stack under its key into a map, and ends.
fn keep(map: i32, value: i16) -> Vec<Instruction> {
    let mut code = map_address(R1, map).to_vec();
    code.extend([copy(R2, STACK), add(R2, KEY.into()), copy(R3, STACK), add(R3, value.into()), set(R4, 0)]);
    code.extend([call(MAP_UPDATE_ELEM), set(R0, 0), exit()]);
    code
}

const fn small(number: usize) -> i16 {
    assert!(number <= 512, "the stack is small");
    #[expect(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "checked in the line above")]
    let number = number as i16;
    number
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stack_has_room() {
        const { assert!(NOTE >= -512 && TEXT >= -512) };
        assert_eq!((NOTE % 8, NOTE + 8 * small(WORDS)), (0, KEY));
        assert_eq!((TEXT % 8, TEXT + small(NAME)), (0, KEY));
    }

    #[test]
    fn an_offset_the_machine_cannot_add_makes_no_program() {
        assert!(note_process(3, 4, TaskOffsets { mode: u32::MAX, leader: 0, start: 0, code: 0 }).is_none());
        let at = CgroupOffsets { root: 0, hierarchy: 0, node: 0, id: u32::MAX, name: 0 };
        assert!(note_cgroup(3, at).is_none());
    }
}
