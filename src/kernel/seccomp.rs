//! Puts the calling thread under a seccomp filter, as systemd does for a unit. The demo and tests use it.

use crate::audit::Action;
use crate::syscalls::Arch;
use std::io;

/// The offsets of a call's number and architecture in `struct seccomp_data` (`linux/seccomp.h`).
const NUMBER: u32 = 0;
const ARCH: u32 = 4;

/// `SECCOMP_RET_ALLOW`.
pub const ALLOW: u32 = 0x7fff_0000;

/// Returns the value with which a filter requests an action. Only [`Action::Errno`] uses the errno.
#[must_use]
pub fn return_value(action: Action, errno: u16) -> u32 {
    let code = action.code().unwrap_or_default();
    if action == Action::Errno { code | u32::from(errno) } else { code }
}

/// A filter for calls of one architecture. It allows calls of any other.
#[derive(Debug, Clone)]
pub struct SeccompFilter {
    program: Vec<libc::sock_filter>,
}

impl SeccompFilter {
    /// Makes a filter that returns the value of a call's rule, and `otherwise` for a call without one. A rule is a call's number
    /// and a [`return_value`].
    #[must_use]
    pub fn new(arch: Arch, rules: &[(u32, u32)], otherwise: u32) -> Self {
        let load = |offset| statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset);
        let give = |code| statement(libc::BPF_RET | libc::BPF_K, code);
        let mut program = vec![load(ARCH), skip_unless(arch.0, 1, 0), give(ALLOW), load(NUMBER)];
        for &(number, code) in rules {
            program.extend([skip_unless(number, 0, 1), give(code)]);
        }
        program.push(give(otherwise));
        Self { program }
    }

    /// Loads the filter for the calling thread, its children and all that they execute. It cannot be removed.
    ///
    /// With `log`, the kernel writes records for every action but allow (`SECCOMP_FILTER_FLAG_LOG`).
    ///
    /// # Errors
    /// Those of `prctl(2)` and `seccomp(2)`.
    pub fn load(&self, log: bool) -> io::Result<()> {
        nix::sys::prctl::set_no_new_privs()?;
        let length = u16::try_from(self.program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        let program = libc::sock_fprog { len: length, filter: self.program.as_ptr().cast_mut() };
        let flags = if log { libc::SECCOMP_FILTER_FLAG_LOG } else { 0 };
        // SAFETY: `program` points to `length` instructions that outlive the call, which reads them only.
        let status =
            unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
        if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

fn statement(code: u32, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: code.try_into().unwrap_or_default(), jt: 0, jf: 0, k }
}

/// Skips `equal` instructions where the loaded value is `value`, else `other`.
fn skip_unless(value: u32, equal: u8, other: u8) -> libc::sock_filter {
    libc::sock_filter { jt: equal, jf: other, ..statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, value) }
}
