//! The calls of `bpf(2)` that are needed: a map, a program, a tracepoint, a look.

use super::instruction::Instruction;
use std::ffi::CStr;
use std::io;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

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

/// A table from one plain value to another, in which the entry not used for longest gives way.
#[derive(Debug)]
pub(super) struct Map<K, V> {
    fd: OwnedFd,
    of: PhantomData<(K, V)>,
}

/// Types of which any bytes are a value, without padding.
pub(super) trait Plain: Copy {}
impl Plain for u32 {}
impl Plain for u64 {}
impl<const N: usize> Plain for [u8; N] {}
impl<const N: usize> Plain for [u64; N] {}

impl<K: Plain, V: Plain> Map<K, V> {
    /// Makes one.
    pub(super) fn new(entries: u32) -> io::Result<Self> {
        let size = |size| u32::try_from(size).map_err(io::Error::other);
        let attr = MapAttr {
            kind: LRU_HASH,
            key_size: size(size_of::<K>())?,
            value_size: size(size_of::<V>())?,
            max_entries: entries,
        };
        // SAFETY: a map needs no memory of ours.
        Ok(Self { fd: unsafe { bpf_fd(MAP_CREATE, &attr) }?, of: PhantomData })
    }

    /// The number by which programs know it.
    pub(super) fn number(&self) -> i32 {
        self.fd.as_raw_fd()
    }

    /// What it has for a key.
    pub(super) fn get(&self, key: K) -> Option<V> {
        let mut value = MaybeUninit::<V>::uninit();
        let attr = LookAttr {
            map: number(self.fd.as_fd()).ok()?,
            padding: 0,
            key: (&raw const key).expose_provenance() as u64,
            value: value.as_mut_ptr().expose_provenance() as u64,
            flags: 0,
        };
        // SAFETY: key and value are as large as the map was made for, and outlive the call.
        unsafe { bpf(MAP_LOOKUP_ELEM, &attr) }.ok()?;
        // SAFETY: the kernel filled it, and any bytes are a value.
        Some(unsafe { value.assume_init() })
    }
}

/// Has the kernel check and take a program.
fn load(instructions: &[Instruction]) -> io::Result<OwnedFd> {
    let attr = ProgramAttr {
        kind: RAW_TRACEPOINT,
        length: u32::try_from(instructions.len()).map_err(io::Error::other)?,
        instructions: instructions.as_ptr().expose_provenance() as u64,
        license: LICENSE.as_ptr().expose_provenance() as u64,
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

/// Has the kernel run a program whenever it passes a tracepoint, until the descriptor is closed.
pub(super) fn attach(instructions: &[Instruction], tracepoint: &CStr) -> io::Result<OwnedFd> {
    let program = load(instructions)?;
    let program = program.as_fd();
    let attr =
        TracepointAttr { name: tracepoint.as_ptr().expose_provenance() as u64, program: number(program)?, padding: 0 };
    // SAFETY: the string outlives the call, which copies it.
    unsafe { bpf_fd(RAW_TRACEPOINT_OPEN, &attr) }
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
