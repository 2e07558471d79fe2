//! Maps, programs and raw tracepoints, by the commands of `bpf(2)`.

use super::instruction::Instruction;
use std::ffi::CStr;
use std::io;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Commands (`enum bpf_cmd`).
const MAP_CREATE: libc::c_int = 0;
const MAP_LOOKUP_ELEM: libc::c_int = 1;
const MAP_UPDATE_ELEM: libc::c_int = 2;
const MAP_DELETE_ELEM: libc::c_int = 3;
const MAP_GET_NEXT_KEY: libc::c_int = 4;
const PROG_LOAD: libc::c_int = 5;
const RAW_TRACEPOINT_OPEN: libc::c_int = 17;

/// `BPF_MAP_TYPE_HASH`: refuses entries beyond its size.
const HASH: u32 = 1;
/// `BPF_MAP_TYPE_ARRAY`: has all its entries from the start, as zeros.
const ARRAY: u32 = 2;
/// `BPF_MAP_TYPE_CGROUP_ARRAY`: cgroups of the unified hierarchy.
const CGROUP_ARRAY: u32 = 8;
/// `BPF_MAP_TYPE_LRU_HASH`: drops the entry that was unused for longest.
const LRU_HASH: u32 = 9;
/// `BPF_PROG_TYPE_RAW_TRACEPOINT`.
const RAW_TRACEPOINT: u32 = 17;

/// The programs' licences. The helpers that read kernel memory require the GPL.
const LICENSE: &CStr = c"Dual MIT/GPL";

/// `BPF_OBJ_NAME_LEN`.
const NAME: usize = 16;

/// The size of the buffer for the verifier's log, and how much of the log's end is kept, in bytes. The last lines say why
/// the verifier refused the program.
const LOG_BUFFER: usize = 1 << 20;
const LOG_KEPT: usize = 8 << 10;

/// Variants of `union bpf_attr`, each up to the last field that is used. The kernel takes the rest as zero.
#[repr(C)]
struct MapAttr {
    kind: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
}

#[repr(C)]
struct ElementAttr {
    map: u32,
    padding: u32,
    key: u64,
    /// The value, or the next key.
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
    name: [u8; NAME],
}

#[repr(C)]
struct TracepointAttr {
    name: u64,
    program: u32,
    padding: u32,
}

/// A map of the kernel's from one plain type to another. Dropping it frees it, unless a program uses it.
#[derive(Debug)]
pub(crate) struct BpfMap<K, V> {
    fd: OwnedFd,
    types: PhantomData<(K, V)>,
}

/// An array of numbers.
pub(crate) type BpfArray = BpfMap<u32, u64>;

/// Cgroups of the unified hierarchy, by their directories' descriptors. A program can check whether the current process is
/// below one of them.
pub(crate) type CgroupArray = BpfMap<u32, u32>;

/// A type without padding for which any bytes are a value.
pub(crate) trait Plain: Copy {}
impl Plain for u32 {}
impl Plain for u64 {}
impl<const N: usize> Plain for [u8; N] {}
impl<const N: usize> Plain for [u32; N] {}
impl<const N: usize> Plain for [u64; N] {}

impl BpfArray {
    /// Makes an array of `count` zeros.
    pub(crate) fn new_array(count: u32) -> io::Result<Self> {
        Self::new(ARRAY, count)
    }
}

impl CgroupArray {
    /// Makes an array with room for `count` cgroups.
    pub(crate) fn new_cgroup_array(count: u32) -> io::Result<Self> {
        Self::new(CGROUP_ARRAY, count)
    }

    /// Sets the cgroup at an index, by its open directory.
    pub(crate) fn insert_cgroup(&self, index: u32, directory: BorrowedFd<'_>) -> io::Result<()> {
        self.insert(index, number(directory)?)
    }
}

impl<K: Plain, V: Plain> BpfMap<K, V> {
    /// Makes a map that refuses entries beyond its size.
    pub(crate) fn new_hash(entries: u32) -> io::Result<Self> {
        Self::new(HASH, entries)
    }

    /// Makes a map that drops the entry that was unused for longest where it is full.
    pub(crate) fn new_lru(entries: u32) -> io::Result<Self> {
        Self::new(LRU_HASH, entries)
    }

    fn new(kind: u32, entries: u32) -> io::Result<Self> {
        Ok(Self { fd: make_map(kind, size_of::<K>(), size_of::<V>(), entries)?, types: PhantomData })
    }

    /// Returns the descriptor's number, by which a program that is loaded names the map.
    pub(crate) fn fd_number(&self) -> i32 {
        self.fd.as_raw_fd()
    }

    /// Returns the value of a key.
    pub(crate) fn get(&self, key: K) -> Option<V> {
        let mut value = MaybeUninit::<V>::uninit();
        let attr = self.element(Some(&raw const key), value.as_mut_ptr()).ok()?;
        // SAFETY: key and value are as large as the map was made for, and outlive the call.
        unsafe { bpf(MAP_LOOKUP_ELEM, &attr) }.ok()?;
        // SAFETY: the kernel filled it, and any bytes are a value of a plain type.
        Some(unsafe { value.assume_init() })
    }

    /// Sets the value of a key.
    pub(crate) fn insert(&self, key: K, mut value: V) -> io::Result<()> {
        let attr = self.element(Some(&raw const key), &raw mut value)?;
        // SAFETY: key and value are as large as the map was made for, and outlive the call.
        unsafe { bpf(MAP_UPDATE_ELEM, &attr) }.map(drop)
    }

    /// Removes a key, if the map has it.
    pub(crate) fn remove(&self, key: K) {
        if let Ok(attr) = self.element::<V>(Some(&raw const key), std::ptr::null_mut()) {
            // SAFETY: the key is as large as the map was made for, and outlives the call.
            _ = unsafe { bpf(MAP_DELETE_ELEM, &attr) };
        }
    }

    /// Returns all keys of a map from which no program removes any. Keys that a program adds during the call may be missing.
    pub(crate) fn keys(&self) -> Vec<K> {
        let mut keys = Vec::new();
        while let Some(next) = self.key_after(keys.last()) {
            keys.push(next);
        }
        keys
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.key_after(None).is_none()
    }

    /// Returns the key after another, or the first key.
    fn key_after(&self, key: Option<&K>) -> Option<K> {
        let mut next = MaybeUninit::<K>::uninit();
        let attr = self.element(key.map(std::ptr::from_ref), next.as_mut_ptr()).ok()?;
        // SAFETY: both keys are as large as the map was made for, and outlive the call.
        unsafe { bpf(MAP_GET_NEXT_KEY, &attr) }.ok()?;
        // SAFETY: the kernel filled it, and any bytes are a value of a plain type.
        Some(unsafe { next.assume_init() })
    }

    fn element<T>(&self, key: Option<*const K>, value: *mut T) -> io::Result<ElementAttr> {
        Ok(ElementAttr {
            map: number(self.fd.as_fd())?,
            padding: 0,
            key: key.map_or(0, |key| key.expose_provenance() as u64),
            value: value.expose_provenance() as u64,
            flags: 0,
        })
    }
}

fn make_map(kind: u32, key: usize, value: usize, entries: u32) -> io::Result<OwnedFd> {
    let size = |size| u32::try_from(size).map_err(io::Error::other);
    let attr = MapAttr { kind, key_size: size(key)?, value_size: size(value)?, max_entries: entries };
    // SAFETY: the command reads no memory but `attr`.
    unsafe { bpf_fd(MAP_CREATE, &attr) }
}

/// A program or map that the kernel refused.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct BpfError {
    error: io::Error,
    verifier_log: Option<String>,
}

impl BpfError {
    /// Returns the end of the verifier's log, at most 8 KiB, where the verifier refused a program and said why.
    ///
    /// Escape it before you show it.
    #[must_use]
    pub fn verifier_log(&self) -> Option<&str> {
        self.verifier_log.as_deref()
    }

    pub(crate) fn unsupported(why: &str) -> Self {
        io::Error::new(io::ErrorKind::Unsupported, why).into()
    }

    /// Whether the process lacks a right. The verifier answers `EACCES`, too, but with a log.
    pub(crate) fn is_missing_right(&self) -> bool {
        self.verifier_log.is_none() && matches!(self.error.raw_os_error(), Some(libc::EPERM | libc::EACCES))
    }
}

impl From<io::Error> for BpfError {
    fn from(error: io::Error) -> Self {
        Self { error, verifier_log: None }
    }
}

impl From<io::ErrorKind> for BpfError {
    fn from(kind: io::ErrorKind) -> Self {
        io::Error::from(kind).into()
    }
}

/// Loads a program. Asks the verifier for its log only where the kernel refuses the program, since the log costs time
/// and memory.
fn load(name: &[u8; NAME], instructions: &[Instruction]) -> Result<OwnedFd, BpfError> {
    load_with_log(name, instructions, &mut []).or_else(|error| {
        let mut log = vec![0; LOG_BUFFER];
        // The first error is the cause: a log that does not fit makes the second one ENOSPC.
        load_with_log(name, instructions, &mut log).map_err(|_| BpfError { error, verifier_log: log_end(&log) })
    })
}

/// Returns the last lines of a log that ends with a zero byte, as many as fit into [`LOG_KEPT`]; `None` for an empty log.
fn log_end(buffer: &[u8]) -> Option<String> {
    let log = buffer.split(|&byte| byte == 0).next()?.trim_ascii();
    let mut start = log.len().saturating_sub(LOG_KEPT);
    if start > 0 {
        start += log.get(start..)?.iter().position(|&byte| byte == b'\n')? + 1;
    }
    Some(String::from_utf8_lossy(log.get(start..)?).into_owned()).filter(|log| !log.is_empty())
}

/// Loads a program. The verifier writes its log to `log`, unless that is empty.
fn load_with_log(name: &[u8; NAME], instructions: &[Instruction], log: &mut [u8]) -> io::Result<OwnedFd> {
    let attr = ProgramAttr {
        kind: RAW_TRACEPOINT,
        length: u32::try_from(instructions.len()).map_err(io::Error::other)?,
        instructions: instructions.as_ptr().expose_provenance() as u64,
        license: LICENSE.as_ptr().expose_provenance() as u64,
        log_level: u32::from(!log.is_empty()),
        log_size: u32::try_from(log.len()).map_err(io::Error::other)?,
        log: if log.is_empty() { 0 } else { log.as_mut_ptr().expose_provenance() as u64 },
        kernel_version: 0,
        flags: 0,
        name: *name,
    };
    // SAFETY: the instructions, as many as `length` says, and the string outlive the call, which copies them. The log is
    // writable memory of `log_size` bytes.
    unsafe { bpf_fd(PROG_LOAD, &attr) }
}

/// Loads a program, and attaches it to a raw tracepoint until the descriptor is closed. `bpftool prog` shows the name.
pub(crate) fn attach(name: &[u8; NAME], instructions: &[Instruction], tracepoint: &CStr) -> Result<OwnedFd, BpfError> {
    let program = load(name, instructions)?;
    let program = program.as_fd();
    let attr =
        TracepointAttr { name: tracepoint.as_ptr().expose_provenance() as u64, program: number(program)?, padding: 0 };
    // SAFETY: the string outlives the call, which copies it.
    Ok(unsafe { bpf_fd(RAW_TRACEPOINT_OPEN, &attr) }?)
}

fn number(fd: BorrowedFd<'_>) -> io::Result<u32> {
    u32::try_from(fd.as_raw_fd()).map_err(io::Error::other)
}

/// Runs a command that returns a descriptor.
///
/// # Safety
/// As [`bpf`].
unsafe fn bpf_fd<T>(command: libc::c_int, attr: &T) -> io::Result<OwnedFd> {
    // SAFETY: the caller keeps the contract of `bpf`.
    let fd: RawFd = unsafe { bpf(command, attr) }?.try_into().map_err(io::Error::other)?;
    // SAFETY: the kernel made this descriptor for this call, so nothing else owns it. It is closed on exec.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Runs a command of `bpf(2)`.
///
/// # Safety
/// All addresses in `attr` must be valid for what the command does with them.
unsafe fn bpf<T>(command: libc::c_int, attr: &T) -> io::Result<libc::c_long> {
    // SAFETY: `attr` has the size that is passed; the caller vouches for the addresses in it.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attr), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::bpf::exit;

    #[test]
    fn log_end_of_long_log_starts_at_a_line() {
        let lines = "7: r0 = 0\n".repeat(2_000);
        let kept = log_end(format!("{lines}R0 !read_ok\n\0junk").as_bytes()).unwrap();
        assert!(kept.len() <= LOG_KEPT && kept.ends_with("7: r0 = 0\nR0 !read_ok"), "{kept}");
        assert!(kept.lines().all(|line| line == "R0 !read_ok" || line == "7: r0 = 0"), "{kept}");
        assert_eq!(log_end(b"short\n\0").as_deref(), Some("short"));
        assert_eq!((log_end(b"\0\0"), log_end(&[b'x'; 2 * LOG_KEPT])), (None, None));
    }

    #[test]
    fn program_that_verifier_refuses_fails_with_its_log() {
        let error = attach(b"harden_why_test\0", &[exit()], c"sched_process_exit").unwrap_err();
        let Some(log) = error.verifier_log() else {
            let required = std::env::var_os("HARDEN_WHY_REQUIRE_KERNEL").is_some_and(|value| value == "1");
            assert!(error.is_missing_right() && !required, "required: a kernel that loads BPF programs: {error}");
            return;
        };
        assert!(log.contains("R0 !read_ok"), "{log}");
        assert!(!error.is_missing_right(), "{error}");
    }
}
