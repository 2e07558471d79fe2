//! The BPF programs of a tap, instruction by instruction.
//!
//! A call that a filter refuses leaves the kernel (`sys_exit`) without having entered it (`sys_enter`), so the first
//! program notes for each thread that it entered, and the second counts whoever leaves without. All is counted in the
//! kernel, so no burst is too fast. The other two keep the notes of threads right that begin and end.

use crate::kernel::bpf::helper::{
    CURRENT_TASK_UNDER_CGROUP, GET_CURRENT_COMM, GET_CURRENT_PID_TGID, GET_CURRENT_TASK, GET_CURRENT_UID_GID,
    KTIME_GET_NS, MAP_DELETE_ELEM, MAP_LOOKUP_ELEM, MAP_UPDATE_ELEM, PROBE_READ_KERNEL,
};
use crate::kernel::bpf::{
    Assembly, Btf, Condition, Instruction, Label, R0, R1, R2, R3, R4, R6, R7, R8, R9, STACK, add, add_to_memory, and,
    call, copy, exit, load, map_address, or, read, set, shift_right, store,
};
use crate::policy::errno;

/// A refusal: thread, process, number of the call, whose process and [flags](FIRST), what the call returned.
pub(crate) type Key = [u32; 5];
/// How often, when first and last (`CLOCK_MONOTONIC`), from where last, the uid, the name of the thread.
pub(crate) type Value = [u64; 7];

/// The place of whose process it is in its word of a [`Key`].
pub(crate) const TARGET: u32 = 0xffff;
/// The thread was not known before: it may have been in this call when the tap began.
pub(crate) const FIRST: u32 = 1 << 16;
/// A call of the machine's 32-bit ABI.
pub(crate) const COMPAT: u32 = 1 << 17;
/// In the place of what a call returned: no error, so a filter of systemd's did not answer it.
pub(crate) const NO_ERROR: u32 = 1;

/// The places of the numbers that programs and we share: whether to count; what there was no room for.
pub(crate) const LIVE: u32 = 0;
pub(crate) const REFUSALS_LOST: u32 = 1;
pub(crate) const THREADS_LOST: u32 = 2;
pub(crate) const SHARED: u32 = 3;

/// The maps by number.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Maps {
    /// The shared numbers.
    pub(crate) shared: i32,
    /// Whether a thread is in a call.
    pub(crate) threads: i32,
    /// What was refused.
    pub(crate) refusals: i32,
    /// The cgroups that are watched, and how many.
    pub(crate) cgroups: (i32, u32),
    /// The processes that are watched, where any are, with their target.
    pub(crate) processes: Option<i32>,
}

/// Where the kernel has what is read, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Offsets {
    /// The number of the call among the registers, and how long it is.
    number: (u32, i32),
    /// The instruction among them.
    ip: u32,
    /// In the task, what tells a call of the 32-bit ABI: where, and which bits.
    compat: Option<(u32, i32)>,
    /// `task_struct.pid` and `.tgid`.
    pid: u32,
    tgid: u32,
    /// `task_struct.signal` and `signal_struct.live`.
    signal: u32,
    live: u32,
}

impl Offsets {
    /// Finds them in the running kernel's type information, on architectures whose registers are known here.
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
            // TIF_32BIT. What user space sees of the registers comes first.
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

/// Where things are on the stack.
const TID: i16 = -8;
const STATE: i16 = -16;
const SCRATCH: i16 = -24;
const KEY: i16 = -48;
const TGID: i16 = -56;
const VALUE: i16 = TGID - 56;

/// What calls keep: the first argument, the second, whose process, and process and thread.
const FIRST_ARGUMENT: u8 = R6;
const SECOND_ARGUMENT: u8 = R7;
const WHOSE: u8 = R8;
const WHO: u8 = R9;

/// For `sys_enter`: the thread is in a call.
pub(crate) fn entered(maps: Maps) -> Option<Vec<Instruction>> {
    let mut code = Assembly::default();
    let (new, out) = (code.label(), code.label());
    begin(&mut code, maps, out);
    find(&mut code, maps.threads, TID);
    code.jump_if(Condition::Is, R0, 0, new);
    code.append([set(R1, 1), store(64, R0, 0, R1)]);
    code.jump(out);
    code.set_label(new);
    // Where there is no room, sys_exit tells.
    put(&mut code, maps.threads, TID, 1);
    end(code, out)
}

/// For `sys_exit`, with the registers and what the call returned: a call that was not entered was refused.
pub(crate) fn left(maps: Maps, at: Offsets) -> Option<Vec<Instruction>> {
    let mut code = Assembly::default();
    let [new, lost, refused, seen, out] = [(); 5].map(|()| code.label());
    begin(&mut code, maps, out);
    find(&mut code, maps.threads, TID);
    code.jump_if(Condition::Is, R0, 0, new);
    code.append([load(64, R1, R0, 0)]);
    code.jump_if(Condition::Is, R1, 0, refused);
    code.append([set(R1, 0), store(64, R0, 0, R1)]);
    code.jump(out);

    code.set_label(new);
    put(&mut code, maps.threads, TID, 0);
    code.jump_if(Condition::IsNot, R0, 0, lost);
    // Whatever it was in came to its usual end.
    code.jump_if(Condition::Above, SECOND_ARGUMENT, 0, out);
    code.jump_if(Condition::Below, SECOND_ARGUMENT, -errno::MAX, out);
    code.append([or(WHOSE, FIRST.cast_signed())]);

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
        code.append([or(WHOSE, COMPAT.cast_signed())]);
        code.set_label(native);
    }
    code.append(read(PROBE_READ_KERNEL, SCRATCH, at.number.1, FIRST_ARGUMENT, at.number.0)?);
    code.append([load(32, R1, STACK, SCRATCH), store(32, STACK, KEY + 8, R1)]);
    code.append([store(32, STACK, KEY, WHO), store(32, STACK, KEY + 12, WHOSE)]);
    code.append([store(32, STACK, KEY + 16, SECOND_ARGUMENT), copy(R1, WHO), shift_right(R1, 32)]);
    code.append([store(32, STACK, KEY + 4, R1)]);
    code.append(read(PROBE_READ_KERNEL, VALUE + 24, 8, FIRST_ARGUMENT, at.ip)?);
    code.append([call(KTIME_GET_NS), copy(SECOND_ARGUMENT, R0)]);
    find(&mut code, maps.refusals, KEY);
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
    count(&mut code, maps, REFUSALS_LOST, out);
    code.jump(out);

    // Nobody else writes there: a thread is on one processor at a time.
    code.set_label(seen);
    code.append([load(64, R1, R0, 0), add(R1, 1), store(64, R0, 0, R1), store(64, R0, 16, SECOND_ARGUMENT)]);
    code.append([load(64, R1, STACK, VALUE + 24), store(64, R0, 24, R1)]);
    code.jump(out);

    code.set_label(lost);
    count(&mut code, maps, THREADS_LOST, out);
    end(code, out)
}

/// For `sched_process_fork`, with the parent, which runs this, and the child: what the child does first is leave the
/// call that made it. It is watched as its parent is.
pub(crate) fn forked(maps: Maps, at: Offsets) -> Option<Vec<Instruction>> {
    let mut code = Assembly::default();
    let out = code.label();
    begin(&mut code, maps, out);
    code.append(read(PROBE_READ_KERNEL, TID, 4, SECOND_ARGUMENT, at.pid)?);
    put(&mut code, maps.threads, TID, 1);
    if let Some(processes) = maps.processes {
        code.append(read(PROBE_READ_KERNEL, TGID, 4, SECOND_ARGUMENT, at.tgid)?);
        code.append([store(64, STACK, STATE, WHOSE)]);
        put_state(&mut code, processes, TGID);
        let fits = code.label();
        code.jump_if(Condition::Is, R0, 0, fits);
        count(&mut code, maps, THREADS_LOST, out);
        code.set_label(fits);
    }
    end(code, out)
}

/// For `sched_process_exit`, with the task that ends, which runs this: its numbers will be others'.
pub(crate) fn ended(maps: Maps, at: Offsets) -> Option<Vec<Instruction>> {
    let mut code = Assembly::default();
    let out = code.label();
    begin_unasked(&mut code);
    delete(&mut code, maps.threads, TID);
    if let Some(processes) = maps.processes {
        code.append(read(PROBE_READ_KERNEL, SCRATCH, 8, FIRST_ARGUMENT, at.signal)?);
        code.append([load(64, R3, STACK, SCRATCH)]);
        code.append(read(PROBE_READ_KERNEL, SCRATCH, 4, R3, at.live)?);
        code.append([load(32, R1, STACK, SCRATCH)]);
        code.jump_if(Condition::IsNot, R1, 0, out);
        delete(&mut code, processes, TGID);
    }
    end(code, out)
}

/// Keeps the first argument and who runs this.
fn begin_unasked(code: &mut Assembly) {
    // The second argument came in Linux 6.16, and a program that reads more than there are is not taken.
    code.append([load(64, FIRST_ARGUMENT, R1, 0)]);
    code.append([call(GET_CURRENT_PID_TGID), copy(WHO, R0), store(32, STACK, TID, R0)]);
    code.append([shift_right(R0, 32), store(32, STACK, TGID, R0)]);
}

/// The same, and goes on only if the tap counts and this process is watched.
fn begin(code: &mut Assembly, maps: Maps, out: Label) {
    code.append([load(64, FIRST_ARGUMENT, R1, 0), load(64, SECOND_ARGUMENT, R1, 8)]);
    code.append([set(R1, LIVE.cast_signed()), store(32, STACK, TID, R1)]);
    find(code, maps.shared, TID);
    code.jump_if(Condition::Is, R0, 0, out);
    code.append([load(64, R1, R0, 0)]);
    code.jump_if(Condition::Is, R1, 0, out);
    let found = code.label();
    let (cgroups, count) = maps.cgroups;
    for place in 0..count {
        let place = place.cast_signed();
        code.append([set(WHOSE, place)]);
        code.append(map_address(R1, cgroups));
        code.append([set(R2, place), call(CURRENT_TASK_UNDER_CGROUP)]);
        code.jump_if(Condition::Is, R0, 1, found);
    }
    code.append([call(GET_CURRENT_PID_TGID), shift_right(R0, 32), store(32, STACK, TGID, R0)]);
    if let Some(processes) = maps.processes {
        find(code, processes, TGID);
        code.jump_if(Condition::Is, R0, 0, out);
        code.append([load(64, WHOSE, R0, 0)]);
    } else {
        code.jump(out);
    }
    code.set_label(found);
    code.append([call(GET_CURRENT_PID_TGID), copy(WHO, R0), store(32, STACK, TID, R0)]);
}

fn find(code: &mut Assembly, map: i32, key: i16) {
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

/// Counts in a shared number.
fn count(code: &mut Assembly, maps: Maps, what: u32, out: Label) {
    code.append([set(R1, what.cast_signed()), store(32, STACK, TID, R1)]);
    find(code, maps.shared, TID);
    code.jump_if(Condition::Is, R0, 0, out);
    code.append([set(R1, 1), add_to_memory(R0, 0, R1)]);
}

fn end(mut code: Assembly, out: Label) -> Option<Vec<Instruction>> {
    code.set_label(out);
    code.append([set(R0, 0), exit()]);
    code.finish()
}
