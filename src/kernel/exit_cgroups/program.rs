//! The two BPF programs, instruction by instruction: one notes a process's cgroup when the process exits, the other notes
//! a cgroup's name when the cgroup is removed.

use crate::audit::record::SIGSYS;
use crate::kernel::bpf::helper::{
    GET_CURRENT_ANCESTOR_CGROUP_ID, GET_CURRENT_PID_TGID, KTIME_GET_BOOT_NS, MAP_UPDATE_ELEM, PROBE_READ_KERNEL,
    PROBE_READ_KERNEL_STR,
};
use crate::kernel::bpf::{
    Assembly, Condition, Instruction, R0, R1, R2, R3, R4, R6, R7, STACK, add, and, call, copy, finish, load,
    map_address, read, set, shift_right, store,
};

/// How many levels of a cgroup's path a note has, from the root on. A user's unit is six levels deep. Only deeper slices
/// and cgroups that a unit made itself are deeper than this.
pub(crate) const LEVELS: usize = 12;

/// The words of a process's note: its start, its exit, its parent's pid in the first four bytes, and the ids of its
/// cgroup's ancestors and the cgroup itself.
pub(crate) const WORDS: usize = 3 + LEVELS;

/// The size of the longest name of a directory (`NAME_MAX`) with a zero byte.
pub(crate) const NAME_SIZE: usize = 256;

/// The offsets in bytes of what the programs read from a task.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TaskOffsets {
    /// `task_struct.seccomp.mode`.
    pub(crate) mode: u32,
    /// `task_struct.group_leader`.
    pub(crate) leader: u32,
    /// `task_struct.start_boottime`.
    pub(crate) start: u32,
    /// `task_struct.real_parent`.
    pub(crate) parent: u32,
    /// `task_struct.tgid`.
    pub(crate) tgid: u32,
    /// `task_struct.exit_code`.
    pub(crate) code: u32,
}

/// The offsets in bytes of what the programs read from a cgroup.
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

/// Registers that calls preserve.
const ARGUMENT: u8 = R6;
const NODE: u8 = R7;
const CODE: u8 = R7;

/// Offsets on the stack: a scratch word, the key, and the value for the map.
const SCRATCH: i16 = -8;
const KEY: i16 = -16;
const NOTE: i16 = KEY - 8 * to_i16(WORDS);
const TEXT: i16 = KEY - to_i16(NAME_SIZE);

/// Builds the program for the raw tracepoint `sched_process_exit`, whose first argument is the current task, which exits.
/// Each thread of a process runs it, and the last one's note stays. Processes that die of SIGSYS have a map of their own,
/// so that other exits cannot push their notes out.
pub(crate) fn build_process_note(killed: i32, other: i32, at: TaskOffsets) -> Option<Vec<Instruction>> {
    let mut code = Assembly::default();
    let [sigsys, out] = [(); 2].map(|()| code.label());
    code.append([load(64, ARGUMENT, R1, 0)]);
    // A process without a seccomp filter has no denials.
    code.append(read(PROBE_READ_KERNEL, SCRATCH, 4, ARGUMENT, at.mode)?);
    code.append([load(32, R1, STACK, SCRATCH)]);
    code.jump_if(Condition::Is, R1, 0, out);
    code.append(read(PROBE_READ_KERNEL, SCRATCH, 4, ARGUMENT, at.code)?);
    code.append([load(32, CODE, STACK, SCRATCH), and(CODE, 0x7f)]);
    // The process started with its first thread.
    code.append(read(PROBE_READ_KERNEL, SCRATCH, 8, ARGUMENT, at.leader)?);
    code.append([load(64, ARGUMENT, STACK, SCRATCH)]);
    code.append(read(PROBE_READ_KERNEL, NOTE, 8, ARGUMENT, at.start)?);
    code.append(read(PROBE_READ_KERNEL, SCRATCH, 8, ARGUMENT, at.parent)?);
    code.append([load(64, ARGUMENT, STACK, SCRATCH), set(R1, 0), store(64, STACK, NOTE + 16, R1)]);
    code.append(read(PROBE_READ_KERNEL, NOTE + 16, 4, ARGUMENT, at.tgid)?);
    code.append([call(KTIME_GET_BOOT_NS), store(64, STACK, NOTE + 8, R0)]);
    for level in 0..LEVELS {
        code.append([set(R1, i32::try_from(level).ok()?), call(GET_CURRENT_ANCESTOR_CGROUP_ID)]);
        code.append([store(64, STACK, NOTE + 24 + 8 * to_i16(level), R0)]);
    }
    code.append([call(GET_CURRENT_PID_TGID), shift_right(R0, 32), store(32, STACK, KEY, R0)]);
    code.jump_if(Condition::Is, CODE, SIGSYS, sigsys);
    insert(&mut code, other, NOTE);
    code.jump(out);
    code.set_label(sigsys);
    insert(&mut code, killed, NOTE);
    finish(code, out)
}

/// Builds the program for the raw tracepoint `cgroup_rmdir`, whose first argument is the removed cgroup.
pub(crate) fn build_cgroup_note(map: i32, at: CgroupOffsets) -> Option<Vec<Instruction>> {
    let mut code = Assembly::default();
    let out = code.label();
    code.append([load(64, ARGUMENT, R1, 0)]);
    // Only the unified hierarchy, which is number 0: other hierarchies use the same ids for other cgroups.
    code.append(read(PROBE_READ_KERNEL, SCRATCH, 8, ARGUMENT, at.root)?);
    code.append([load(64, NODE, STACK, SCRATCH)]);
    code.append(read(PROBE_READ_KERNEL, SCRATCH, 4, NODE, at.hierarchy)?);
    code.append([load(32, R1, STACK, SCRATCH)]);
    code.jump_if(Condition::IsNot, R1, 0, out);
    code.append(read(PROBE_READ_KERNEL, SCRATCH, 8, ARGUMENT, at.node)?);
    code.append([load(64, NODE, STACK, SCRATCH)]);
    code.append(read(PROBE_READ_KERNEL, KEY, 8, NODE, at.id)?);
    code.append(read(PROBE_READ_KERNEL, SCRATCH, 8, NODE, at.name)?);
    code.append([load(64, NODE, STACK, SCRATCH)]);
    code.append(read(PROBE_READ_KERNEL_STR, TEXT, i32::try_from(NAME_SIZE).ok()?, NODE, 0)?);
    insert(&mut code, map, TEXT);
    finish(code, out)
}

/// Appends the insertion of the value on the stack under its key into a map.
fn insert(code: &mut Assembly, map: i32, value: i16) {
    code.append(map_address(R1, map));
    code.append([copy(R2, STACK), add(R2, KEY.into()), copy(R3, STACK), add(R3, value.into()), set(R4, 0)]);
    code.append([call(MAP_UPDATE_ELEM)]);
}

const fn to_i16(number: usize) -> i16 {
    assert!(number <= 512, "the stack has 512 bytes");
    #[expect(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "checked in the line above")]
    let number = number as i16;
    number
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_fit_on_the_stack() {
        const { assert!(NOTE >= -512 && TEXT >= -512) };
        assert_eq!((NOTE % 8, NOTE + 8 * to_i16(WORDS)), (0, KEY));
        assert_eq!((TEXT % 8, TEXT + to_i16(NAME_SIZE)), (0, KEY));
    }

    #[test]
    fn offset_beyond_31_bits_makes_no_program() {
        assert!(
            build_process_note(3, 4, TaskOffsets { mode: u32::MAX, leader: 0, start: 0, parent: 0, tgid: 0, code: 0 })
                .is_none()
        );
        let at = CgroupOffsets { root: 0, hierarchy: 0, node: 0, id: u32::MAX, name: 0 };
        assert!(build_cgroup_note(3, at).is_none());
    }
}
