//! The calls of `bpf(2)` that are needed: a map, a program, a tracepoint, a look.

use super::program::{Instruction, WORDS};
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Commands (`enum bpf_cmd`).
const MAP_CREATE: libc::c_int = 0;
const MAP_LOOKUP_ELEM: libc::c_int = 1;
const PROG_LOAD: libc::c_int = 5;
const RAW_TRACEPOINT_OPEN: libc::c_int = 17;

/// `BPF_MAP_TYPE_LRU_HASH`: the entry not used for longest gives way.
const LRU_HASH: u32 = 9;
/// `BPF_PROG_TYPE_RAW_TRACEPOINT`.
const RAW_TRACEPOINT: u32 = 17;

/// The helpers that read the kernel's memory are for programs under its licence; ours is under both.
const LICENSE: &CStr = c"Dual MIT/GPL";

/// Parts of `union bpf_attr`, each up to the last field that is needed; the kernel takes the rest as zero.
#[repr(C)]
struct MapAttr {
    kind: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
}

#[repr(C)]
struct LookAttr {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
struct ProgramAttr {
    kind: u32,
    length: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

#[repr(C)]
struct TracepointAttr {
    name: u64,
    program: u32,
    padding: u32,
}

/// Makes the map of notes by process.
pub(super) fn make_map(entries: u32) -> io::Result<OwnedFd> {
    let value_size = u32::try_from(8 * WORDS).map_err(io::Error::other)?;
    let attr = MapAttr { kind: LRU_HASH, key_size: 4, value_size, max_entries: entries };
    // SAFETY: a map needs no memory of ours.
    unsafe { bpf_fd(MAP_CREATE, &attr) }
}

/// Has the kernel check and take a program.
pub(super) fn load(instructions: &[Instruction]) -> io::Result<OwnedFd> {
    let attr = ProgramAttr {
        kind: RAW_TRACEPOINT,
        length: u32::try_from(instructions.len()).map_err(io::Error::other)?,
        instructions: instructions.as_ptr().addr() as u64,
        license: LICENSE.as_ptr().addr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
        name: *b"harden_why\0\0\0\0\0\0",
    };
    // SAFETY: the instructions, as many as told, and the string outlive the call, which copies them.
    unsafe { bpf_fd(PROG_LOAD, &attr) }
}

/// Runs a program whenever the kernel passes a tracepoint, until the descriptor is closed.
pub(super) fn attach(program: BorrowedFd<'_>, tracepoint: &CStr) -> io::Result<OwnedFd> {
    let attr = TracepointAttr { name: tracepoint.as_ptr().addr() as u64, program: number(program)?, padding: 0 };
    // SAFETY: the string outlives the call, which copies it.
    unsafe { bpf_fd(RAW_TRACEPOINT_OPEN, &attr) }
}

/// The note of a process, if there is one.
pub(super) fn look(map: BorrowedFd<'_>, pid: u32) -> Option<[u64; WORDS]> {
    let mut note = [0_u64; WORDS];
    let attr = LookAttr {
        map: number(map).ok()?,
        padding: 0,
        key: (&raw const pid).addr() as u64,
        value: (&raw mut note).expose_provenance() as u64,
        flags: 0,
    };
    // SAFETY: key and value are as large as the map was made for, and outlive the call.
    unsafe { bpf(MAP_LOOKUP_ELEM, &attr) }.ok()?;
    Some(note)
}

fn number(fd: BorrowedFd<'_>) -> io::Result<u32> {
    u32::try_from(fd.as_raw_fd()).map_err(io::Error::other)
}

/// A command that gives a descriptor.
///
/// # Safety
/// As [`bpf`].
unsafe fn bpf_fd<T>(command: libc::c_int, attr: &T) -> io::Result<OwnedFd> {
    // SAFETY: the caller's promise.
    let fd: RawFd = unsafe { bpf(command, attr) }?.try_into().map_err(io::Error::other)?;
    // SAFETY: the kernel made it for us; nobody else knows it. It is closed on exec.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Makes the call.
///
/// # Safety
/// All addresses in `attr` must be good for what the command does with them.
unsafe fn bpf<T>(command: libc::c_int, attr: &T) -> io::Result<libc::c_long> {
    // SAFETY: `attr` is as large as told; the rest is the caller's promise.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attr), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
