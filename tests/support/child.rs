//! Children that really violate a filter, and the kernel's records of them.

use super::skip::skip;
use harden_why::audit::parse_record;
use harden_why::host::blind_spots::find_blind_spots;
use harden_why::intake::netlink::{AuditMessage, AuditSocket, ReceiveError};
use harden_why::kernel::seccomp::SeccompFilter;
use nix::poll::{PollFd, PollFlags, poll};
use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

/// How long a record may take.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// Opens the audit stream, where this process may and the kernel writes records of every action.
pub(crate) fn listen() -> Option<AuditSocket> {
    let tolerable = ["errno-silent", "no-exit-events", "hidepid"];
    if let Some(deaf) = find_blind_spots(Path::new("/")).iter().find(|limitation| !tolerable.contains(&limitation.id)) {
        skip(&deaf.to_string());
        return None;
    }
    match AuditSocket::open() {
        Ok(audit) => Some(audit),
        Err(error) => {
            skip(&error.to_string());
            None
        }
    }
}

/// A child that calls itself `comm`, puts itself under the filter, and makes a call.
pub(crate) fn violate(
    filter: SeccompFilter,
    comm: &'static CStr,
    call: impl Fn() + Send + Sync + 'static,
) -> (u32, ExitStatus) {
    let mut command = Command::new("/nonexistent");
    // SAFETY: between fork and exec, this makes system calls only: it takes no lock and allocates no
    // memory. It does not return.
    unsafe {
        command.pre_exec(move || {
            let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            libc::setrlimit(libc::RLIMIT_CORE, &raw const none);
            libc::prctl(libc::PR_SET_NAME, comm.as_ptr());
            if filter.load(true).is_err() {
                libc::_exit(99);
            }
            call();
            libc::_exit(0);
        });
    }
    let mut child = command.spawn().unwrap();
    (child.id(), child.wait().unwrap())
}

/// Makes a call without arguments.
pub(crate) fn call(number: u32) -> impl Fn() + Send + Sync + 'static {
    move || {
        // SAFETY: these numbers read and write no memory of this program.
        unsafe { libc::syscall(number.cast_signed().into()) };
    }
}

/// Waits for the next record of a process and returns its payload.
pub(crate) fn payload_of(audit: &mut AuditSocket, pid: u32) -> Vec<u8> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match audit.receive() {
            Ok(Some(AuditMessage::Seccomp(payload))) => {
                if parse_record(payload).unwrap().pid == pid {
                    return payload.to_vec();
                }
            }
            Ok(Some(_)) | Err(ReceiveError::Overrun) => {}
            Ok(None) => {
                assert!(Instant::now() < deadline, "no record of {pid}");
                wait(audit);
            }
            Err(error) => panic!("{error}"),
        }
    }
}

pub(crate) fn wait(audit: &AuditSocket) {
    // SAFETY: the socket outlives the borrow.
    let fd = unsafe { BorrowedFd::borrow_raw(audit.as_raw_fd()) };
    poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], 100_u16).unwrap();
}
