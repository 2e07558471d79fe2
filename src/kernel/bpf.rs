//! BPF programs put together instruction by instruction, maps, tracepoints, and the offsets of the kernel structures that
//! the programs read.

pub(crate) mod assembly;
pub(crate) mod btf;
pub(crate) mod instruction;
pub(crate) mod syscall;

pub(crate) use assembly::{Assembly, Label};
pub(crate) use btf::Btf;
pub(crate) use instruction::{
    Condition, Instruction, add, add_to_memory, and, call, copy, exit, load, map_address, or, set, shift_right, store,
};
pub(crate) use syscall::{BpfArray, BpfError, BpfMap, CgroupArray, attach};

/// Registers: the result (0), arguments (1 to 5), those that calls preserve (6 to 9), and the end of the stack (10).
pub(crate) const R0: u8 = 0;
pub(crate) const R1: u8 = 1;
pub(crate) const R2: u8 = 2;
pub(crate) const R3: u8 = 3;
pub(crate) const R4: u8 = 4;
pub(crate) const R6: u8 = 6;
pub(crate) const R7: u8 = 7;
pub(crate) const R8: u8 = 8;
pub(crate) const R9: u8 = 9;
pub(crate) const STACK: u8 = 10;

/// Helper functions (`enum bpf_func_id`).
pub(crate) mod helper {
    pub(crate) const MAP_LOOKUP_ELEM: i32 = 1;
    pub(crate) const MAP_UPDATE_ELEM: i32 = 2;
    pub(crate) const MAP_DELETE_ELEM: i32 = 3;
    pub(crate) const KTIME_GET_NS: i32 = 5;
    pub(crate) const GET_CURRENT_PID_TGID: i32 = 14;
    pub(crate) const GET_CURRENT_UID_GID: i32 = 15;
    pub(crate) const GET_CURRENT_COMM: i32 = 16;
    pub(crate) const GET_CURRENT_TASK: i32 = 35;
    pub(crate) const CURRENT_TASK_UNDER_CGROUP: i32 = 37;
    pub(crate) const PROBE_READ_KERNEL: i32 = 113;
    pub(crate) const PROBE_READ_KERNEL_STR: i32 = 115;
    pub(crate) const GET_CURRENT_ANCESTOR_CGROUP_ID: i32 = 123;
    pub(crate) const KTIME_GET_BOOT_NS: i32 = 125;
}

/// Copies kernel memory at a register plus an offset to the stack; zeros where that fails.
pub(crate) fn read(helper: i32, to: i16, size: i32, base: u8, offset: u32) -> Option<[Instruction; 6]> {
    Some([
        copy(R1, STACK),
        add(R1, to.into()),
        set(R2, size),
        copy(R3, base),
        add(R3, i32::try_from(offset).ok()?),
        call(helper),
    ])
}

/// Ends a program: a jump to `out` returns 0. `None` as for [`Assembly::finish`].
pub(crate) fn finish(mut code: Assembly, out: Label) -> Option<Vec<Instruction>> {
    code.set_label(out);
    code.append([set(R0, 0), exit()]);
    code.finish()
}
