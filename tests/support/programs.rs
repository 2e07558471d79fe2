//! The BPF programs that the kernel has, by the name that their owner gave them.

use std::ffi::CStr;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

/// Commands (`enum bpf_cmd`), and how long what they take is.
const PROG_GET_NEXT_ID: libc::c_int = 11;
const PROG_GET_FD_BY_ID: libc::c_int = 13;
const OBJ_GET_INFO_BY_FD: libc::c_int = 15;

#[repr(C)]
struct InfoAttr {
    fd: u32,
    length: u32,
    address: u64,
}

/// How many have this name.
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
    let fd = i32::try_from(bpf(PROG_GET_FD_BY_ID, &mut [id, 0, 0])?).ok()?;
    // SAFETY: the kernel made it for us.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // `struct bpf_prog_info`, as far as the name, which is at 64.
    let mut info = [0_u8; 80];
    let address = (&raw mut info).expose_provenance() as u64;
    let length = u32::try_from(info.len()).unwrap();
    let mut attr = InfoAttr { fd: fd.as_raw_fd().cast_unsigned(), length, address };
    bpf(OBJ_GET_INFO_BY_FD, &mut attr)?;
    Some(CStr::from_bytes_until_nul(&info[64..]).ok()?.to_str().ok()?.to_owned())
}

fn bpf<T>(command: libc::c_int, attr: &mut T) -> Option<libc::c_long> {
    // SAFETY: `attr` is as long as told, and what it points to lives on.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) };
    (result >= 0).then_some(result)
}
