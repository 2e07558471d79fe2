//! The kernel's BPF programs by name, and what their maps hold.

use std::ffi::CStr;
use std::fs;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

/// Commands (`enum bpf_cmd`).
const MAP_LOOKUP_ELEM: libc::c_int = 1;
const PROG_GET_NEXT_ID: libc::c_int = 11;
const PROG_GET_FD_BY_ID: libc::c_int = 13;
const MAP_GET_FD_BY_ID: libc::c_int = 14;
const OBJ_GET_INFO_BY_FD: libc::c_int = 15;

#[repr(C)]
struct InfoAttr {
    fd: u32,
    length: u32,
    address: u64,
}

#[repr(C)]
struct ElementAttr {
    fd: u64,
    key: u64,
    value: u64,
    flags: u64,
}

/// The first value of the array of numbers that a process holds.
pub(crate) fn first_of_array(pid: u32) -> Option<u64> {
    let entries = fs::read_dir(format!("/proc/{pid}/fdinfo")).ok()?.flatten();
    let mut infos = entries.filter_map(|entry| fs::read_to_string(entry.path()).ok());
    let field = |info: &str, name: &str| {
        info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.trim().parse::<u32>().ok())
    };
    // `BPF_MAP_TYPE_ARRAY`, of four numbers with 64 bits each.
    let shape = |info: &str| ["map_type", "value_size", "max_entries"].map(|name| field(info, name));
    let is_shared = |info: &String| shape(info) == [Some(2), Some(8), Some(4)];
    let array = infos.find(is_shared)?;
    let map = opened(MAP_GET_FD_BY_ID, field(&array, "map_id")?)?;
    let (key, mut value) = (0_u32, 0_u64);
    let mut attr = ElementAttr {
        fd: map.as_raw_fd().cast_unsigned().into(),
        key: (&raw const key).expose_provenance() as u64,
        value: (&raw mut value).expose_provenance() as u64,
        flags: 0,
    };
    bpf(MAP_LOOKUP_ELEM, &mut attr)?;
    Some(value)
}

/// Returns how many programs have this name.
pub(crate) fn named(name: &str) -> usize {
    let (mut id, mut found) = (0, 0);
    while let Some(next) = next(id) {
        id = next;
        found += usize::from(name_of(id).is_some_and(|own| own == name));
    }
    found
}

fn next(id: u32) -> Option<u32> {
    let mut attr = [id, 0, 0];
    bpf(PROG_GET_NEXT_ID, &mut attr).map(|_| attr[1])
}

fn name_of(id: u32) -> Option<String> {
    let fd = opened(PROG_GET_FD_BY_ID, id)?;
    // `struct bpf_prog_info`, as far as the name, which is at 64.
    let mut info = [0_u8; 80];
    let address = (&raw mut info).expose_provenance() as u64;
    let length = u32::try_from(info.len()).unwrap();
    let mut attr = InfoAttr { fd: fd.as_raw_fd().cast_unsigned(), length, address };
    bpf(OBJ_GET_INFO_BY_FD, &mut attr)?;
    Some(CStr::from_bytes_until_nul(&info[64..]).ok()?.to_str().ok()?.to_owned())
}

/// Opens the program or map with this ID.
fn opened(command: libc::c_int, id: u32) -> Option<OwnedFd> {
    let fd = i32::try_from(bpf(command, &mut [id, 0, 0])?).ok()?;
    // SAFETY: the kernel has created it for this call.
    Some(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn bpf<T>(command: libc::c_int, attr: &mut T) -> Option<libc::c_long> {
    // SAFETY: `attr` is as long as told, and what it points to lives on.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) };
    (result >= 0).then_some(result)
}
