//! The BPF programs of a tap, instruction by instruction.
//!
//! A call that a filter refuses leaves the kernel (`sys_exit`) without having entered it (`sys_enter`). So the first
//! program notes for each thread that it entered a call, and the second counts threads that leave without this note. The
//! other two keep the notes right when threads begin and end.

use crate::kernel::bpf::helper::{
    CURRENT_TASK_UNDER_CGROUP, GET_CURRENT_COMM, GET_CURRENT_PID_TGID, GET_CURRENT_TASK, GET_CURRENT_UID_GID,
    KTIME_GET_NS, MAP_DELETE_ELEM, MAP_LOOKUP_ELEM, MAP_UPDATE_ELEM, PROBE_READ_KERNEL,
};
use crate::kernel::bpf::{
    Assembly, Btf, Condition, Instruction, Label, R0, R1, R2, R3, R4, R6, R7, R8, R9, STACK, add, add_to_memory, and,
    call, copy, finish, load, map_address, or, read, set, shift_right, store,
};
use crate::policy::errno;

/// What identifies a count: the thread, the process, the call's number, the target's index with [flags](FIRST), and what
/// the call returned.
pub(crate) type RefusalKey = [u32; 5];
/// A count: the number of refusals, the times of the first and the latest (`CLOCK_MONOTONIC`), the latest call's address,
/// the uid, and the thread's name at the latest in two words.
pub(crate) type RefusalCount = [u64; 7];

/// The bits of the target's index in its word of a [`RefusalKey`].
pub(crate) const TARGET: u32 = 0xffff;
/// Flag: the thread was unknown, so it may have been in this call when the tap began.
pub(crate) const FIRST: u32 = 1 << 16;
/// Flag: a call of the machine's 32-bit ABI.
pub(crate) const COMPAT: u32 = 1 << 17;
/// Stands for every returned value that is no error: no filter of systemd's answered the call.
pub(crate) const NO_ERROR: u32 = 1;

/// The indexes of the numbers that the programs and this process share: whether to count, and what had no room.
pub(crate) const LIVE: u32 = 0;
pub(crate) const REFUSALS_LOST: u32 = 1;
pub(crate) const THREADS_LOST: u32 = 2;
pub(crate) const SHARED: u32 = 3;

/// The maps, by descriptor.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TapMaps {
    /// The shared numbers.
    pub(crate) shared: i32,
    /// By thread, whether it is in a call.
    pub(crate) threads: i32,
    /// The counts of refusals.
    pub(crate) refusals: i32,
    /// The watched cgroups, and their number.
    pub(crate) cgroups: (i32, u32),
    /// The watched processes with their targets' indexes, if a target is a process.
    pub(crate) processes: Option<i32>,
}

/// The offsets in bytes of what the programs read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TapOffsets {
    /// The call's number among the registers, and its size.
    number: (u32, i32),
    /// The instruction pointer among the registers.
    ip: u32,
    /// The word of `task_struct` that marks a call of the 32-bit ABI, and its bits.
    compat: Option<(u32, i32)>,
    /// `task_struct.pid` and `.tgid`.
    pid: u32,
    tgid: u32,
    /// `task_struct.signal` and `signal_struct.live`.
    signal: u32,
    live: u32,
}

impl TapOffsets {
    /// Finds the offsets in the running kernel's type information; `None` on architectures whose registers are unknown here.
    pub(crate) fn find(btf: &Btf<'_>) -> Option<Self> {
        let [info, pid, tgid, signal] = btf.offsets("task_struct", ["thread_info", "pid", "tgid", "signal"])?;
        let [live] = btf.offsets("signal_struct", ["live"])?;
        let (number, ip, compat) = if cfg!(target_arch = "x86_64") {
            let [number, ip] = btf.offsets("pt_regs", ["orig_ax", "ip"])?;
            let [status] = btf.offsets("thread_info", ["status"])?;
            // TS_COMPAT.
            ((number, 8), ip, Some((info.checked_add(status)?, 2)))
        } else if cfg!(all(target_arch = "aarch64", target_endian = "little")) {
            let [number] = btf.offsets("pt_regs", ["syscallno"])?;
            let [user] = btf.offsets("user_pt_regs", ["pc"])?;
            let [flags] = btf.offsets("thread_info", ["flags"])?;
            // TIF_32BIT. `pt_regs` begins with `user_pt_regs`.
            ((number, 4), user, Some((info.checked_add(flags)?, 1 << 22)))
        } else if cfg!(target_arch = "riscv64") {
            let [number, ip] = btf.offsets("pt_regs", ["a7", "epc"])?;
            ((number, 8), ip, None)
        } else {
            return None;
        };
        Some(Self { number, ip, compat, pid, tgid, signal, live })
    }
}

/// Offsets on the stack.
const TID: i16 = -8;
const STATE: i16 = -16;
const SCRATCH: i16 = -24;
const KEY: i16 = -48;
const TGID: i16 = -56;
const VALUE: i16 = TGID - 56;

/// Registers that calls preserve: the first and the second argument, the target's index with flags, process and thread.
const FIRST_ARGUMENT: u8 = R6;
const SECOND_ARGUMENT: u8 = R7;
const TARGET_AND_FLAGS: u8 = R8;
const PID_AND_TID: u8 = R9;

/// Builds the program for `sys_enter`: notes that the thread is in a call.
pub(crate) fn build_sys_enter(maps: TapMaps) -> Option<Vec<Instruction>> {
    let mut code = Assembly::default();
    let (new, out) = (code.label(), code.label());
    begin_if_watched(&mut code, maps, out);
    look_up(&mut code, maps.threads, TID);
    code.jump_if(Condition::Is, R0, 0, new);
    code.append([set(R1, 1), store(64, R0, 0, R1)]);
    code.jump(out);
    code.set_label(new);
    // `sys_exit` counts the threads that the map has no room for.
    put(&mut code, maps.threads, TID, 1);
    finish(code, out)
}

/// Builds the program for `sys_exit`, whose arguments are the registers and the returned value: counts calls that were not
/// entered.
pub(crate) fn build_sys_exit(maps: TapMaps, at: TapOffsets) -> Option<Vec<Instruction>> {
    let mut code = Assembly::default();
    let [new, lost, refused, seen, out] = [(); 5].map(|()| code.label());
    begin_if_watched(&mut code, maps, out);
    look_up(&mut code, maps.threads, TID);
    code.jump_if(Condition::Is, R0, 0, new);
    code.append([load(64, R1, R0, 0)]);
    code.jump_if(Condition::Is, R1, 0, refused);
    code.append([set(R1, 0), store(64, R0, 0, R1)]);
    code.jump(out);

    code.set_label(new);
    put(&mut code, maps.threads, TID, 0);
    code.jump_if(Condition::IsNot, R0, 0, lost);
    // Without an error, a call from before the tap came to its usual end.
    code.jump_if(Condition::Above, SECOND_ARGUMENT, 0, out);
    code.jump_if(Condition::Below, SECOND_ARGUMENT, -errno::MAX, out);
    code.append([or(TARGET_AND_FLAGS, FIRST.cast_signed())]);

    code.set_label(refused);
    let (odd, fits) = (code.label(), code.label());
    code.jump_if(Condition::Above, SECOND_ARGUMENT, 0, odd);
    code.jump_if(Condition::Below, SECOND_ARGUMENT, -errno::MAX, odd);
    code.jump(fits);
    code.set_label(odd);
    code.append([set(SECOND_ARGUMENT, NO_ERROR.cast_signed())]);
    code.set_label(fits);
    if let Some((compat, mask)) = at.compat {
        let native = code.label();
        code.append([call(GET_CURRENT_TASK), copy(R3, R0)]);
        code.append(read(PROBE_READ_KERNEL, SCRATCH, 4, R3, compat)?);
        code.append([load(32, R1, STACK, SCRATCH), and(R1, mask)]);
        code.jump_if(Condition::Is, R1, 0, native);
        code.append([or(TARGET_AND_FLAGS, COMPAT.cast_signed())]);
        code.set_label(native);
    }
    code.append(read(PROBE_READ_KERNEL, SCRATCH, at.number.1, FIRST_ARGUMENT, at.number.0)?);
    code.append([load(32, R1, STACK, SCRATCH), store(32, STACK, KEY + 8, R1)]);
    code.append([store(32, STACK, KEY, PID_AND_TID), store(32, STACK, KEY + 12, TARGET_AND_FLAGS)]);
    code.append([store(32, STACK, KEY + 16, SECOND_ARGUMENT), copy(R1, PID_AND_TID), shift_right(R1, 32)]);
    code.append([store(32, STACK, KEY + 4, R1)]);
    code.append(read(PROBE_READ_KERNEL, VALUE + 24, 8, FIRST_ARGUMENT, at.ip)?);
    code.append([call(KTIME_GET_NS), copy(SECOND_ARGUMENT, R0)]);
    look_up(&mut code, maps.refusals, KEY);
    code.jump_if(Condition::IsNot, R0, 0, seen);
    code.append([set(R1, 1), store(64, STACK, VALUE, R1)]);
    code.append([store(64, STACK, VALUE + 8, SECOND_ARGUMENT), store(64, STACK, VALUE + 16, SECOND_ARGUMENT)]);
    code.append([call(GET_CURRENT_UID_GID), store(32, STACK, VALUE + 32, R0), set(R1, 0)]);
    code.append([store(32, STACK, VALUE + 36, R1), copy(R1, STACK), add(R1, (VALUE + 40).into()), set(R2, 16)]);
    code.append([call(GET_CURRENT_COMM)]);
    code.append(map_address(R1, maps.refusals));
    code.append([copy(R2, STACK), add(R2, KEY.into()), copy(R3, STACK), add(R3, VALUE.into()), set(R4, 0)]);
    code.append([call(MAP_UPDATE_ELEM)]);
    code.jump_if(Condition::Is, R0, 0, out);
    count_loss(&mut code, maps, REFUSALS_LOST, out);
    code.jump(out);

    // The count is the thread's own, and a thread runs on one processor at a time: no atomic addition is needed.
    code.set_label(seen);
    code.append([load(64, R1, R0, 0), add(R1, 1), store(64, R0, 0, R1), store(64, R0, 16, SECOND_ARGUMENT)]);
    code.append([load(64, R1, STACK, VALUE + 24), store(64, R0, 24, R1)]);
    // A process has another name since it executed its program.
    code.append([copy(R1, R0), add(R1, 40), set(R2, 16), call(GET_CURRENT_COMM)]);
    code.jump(out);

    code.set_label(lost);
    count_loss(&mut code, maps, THREADS_LOST, out);
    finish(code, out)
}

/// Builds the program for `sched_process_fork`, whose arguments are the parent, which runs it, and the child. The child
/// begins in the call that made it, and has its parent's target.
pub(crate) fn build_fork(maps: TapMaps, at: TapOffsets) -> Option<Vec<Instruction>> {
    let mut code = Assembly::default();
    let out = code.label();
    begin_if_watched(&mut code, maps, out);
    code.append(read(PROBE_READ_KERNEL, TID, 4, SECOND_ARGUMENT, at.pid)?);
    put(&mut code, maps.threads, TID, 1);
    if let Some(processes) = maps.processes {
        code.append(read(PROBE_READ_KERNEL, TGID, 4, SECOND_ARGUMENT, at.tgid)?);
        code.append([store(64, STACK, STATE, TARGET_AND_FLAGS)]);
        put_state(&mut code, processes, TGID);
        let fits = code.label();
        code.jump_if(Condition::Is, R0, 0, fits);
        count_loss(&mut code, maps, THREADS_LOST, out);
        code.set_label(fits);
    }
    finish(code, out)
}

/// Builds the program for `sched_process_exit`, whose argument is the task that ends, which runs it: forgets the task, since
/// the kernel reuses its numbers.
pub(crate) fn build_exit(maps: TapMaps, at: TapOffsets) -> Option<Vec<Instruction>> {
    let mut code = Assembly::default();
    let out = code.label();
    begin_always(&mut code);
    delete(&mut code, maps.threads, TID);
    if let Some(processes) = maps.processes {
        code.append(read(PROBE_READ_KERNEL, SCRATCH, 8, FIRST_ARGUMENT, at.signal)?);
        code.append([load(64, R3, STACK, SCRATCH)]);
        code.append(read(PROBE_READ_KERNEL, SCRATCH, 4, R3, at.live)?);
        code.append([load(32, R1, STACK, SCRATCH)]);
        code.jump_if(Condition::IsNot, R1, 0, out);
        delete(&mut code, processes, TGID);
    }
    finish(code, out)
}

/// Saves the first argument, and the current process and thread.
fn begin_always(code: &mut Assembly) {
    // The tracepoint has a second argument since Linux 6.16. The verifier refuses a program that reads a missing one.
    code.append([load(64, FIRST_ARGUMENT, R1, 0)]);
    code.append([call(GET_CURRENT_PID_TGID), copy(PID_AND_TID, R0), store(32, STACK, TID, R0)]);
    code.append([shift_right(R0, 32), store(32, STACK, TGID, R0)]);
}

/// Saves both arguments, and the current process and thread; jumps to `out` unless the tap counts and a target covers the
/// process.
fn begin_if_watched(code: &mut Assembly, maps: TapMaps, out: Label) {
    code.append([load(64, FIRST_ARGUMENT, R1, 0), load(64, SECOND_ARGUMENT, R1, 8)]);
    code.append([set(R1, LIVE.cast_signed()), store(32, STACK, TID, R1)]);
    look_up(code, maps.shared, TID);
    code.jump_if(Condition::Is, R0, 0, out);
    code.append([load(64, R1, R0, 0)]);
    code.jump_if(Condition::Is, R1, 0, out);
    let found = code.label();
    let (cgroups, count) = maps.cgroups;
    for place in 0..count {
        let place = place.cast_signed();
        code.append([set(TARGET_AND_FLAGS, place)]);
        code.append(map_address(R1, cgroups));
        code.append([set(R2, place), call(CURRENT_TASK_UNDER_CGROUP)]);
        code.jump_if(Condition::Is, R0, 1, found);
    }
    code.append([call(GET_CURRENT_PID_TGID), shift_right(R0, 32), store(32, STACK, TGID, R0)]);
    if let Some(processes) = maps.processes {
        look_up(code, processes, TGID);
        code.jump_if(Condition::Is, R0, 0, out);
        code.append([load(64, TARGET_AND_FLAGS, R0, 0)]);
    } else {
        code.jump(out);
    }
    code.set_label(found);
    code.append([call(GET_CURRENT_PID_TGID), copy(PID_AND_TID, R0), store(32, STACK, TID, R0)]);
}

fn look_up(code: &mut Assembly, map: i32, key: i16) {
    code.append(map_address(R1, map));
    code.append([copy(R2, STACK), add(R2, key.into()), call(MAP_LOOKUP_ELEM)]);
}

fn put(code: &mut Assembly, map: i32, key: i16, value: i32) {
    code.append([set(R1, value), store(64, STACK, STATE, R1)]);
    put_state(code, map, key);
}

fn put_state(code: &mut Assembly, map: i32, key: i16) {
    code.append(map_address(R1, map));
    code.append([copy(R2, STACK), add(R2, key.into()), copy(R3, STACK), add(R3, STATE.into()), set(R4, 0)]);
    code.append([call(MAP_UPDATE_ELEM)]);
}

fn delete(code: &mut Assembly, map: i32, key: i16) {
    code.append(map_address(R1, map));
    code.append([copy(R2, STACK), add(R2, key.into()), call(MAP_DELETE_ELEM)]);
}

/// Adds 1 to a shared number.
fn count_loss(code: &mut Assembly, maps: TapMaps, what: u32, out: Label) {
    code.append([set(R1, what.cast_signed()), store(32, STACK, TID, R1)]);
    look_up(code, maps.shared, TID);
    code.jump_if(Condition::Is, R0, 0, out);
    code.append([set(R1, 1), add_to_memory(R0, 0, R1)]);
}
