//! The socket filter that drops all events but those of deaths.

use super::message::{ACK, COREDUMP, EXIT, at};
use crate::audit::record::SIGSYS;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Passes only acknowledgements, exits of thread group leaders by SIGSYS, and core dumps of any thread.
///
/// Another thread of a dying group has the leader's status, but a pid that is not the group's.
pub(crate) fn attach(socket: BorrowedFd<'_>) -> io::Result<()> {
    // Classic BPF (`linux/filter.h`) reads words as big-endian, so the constants are big-endian, too.
    let load = |at: usize| u32::try_from(at).map(|at| (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, at));
    let equal = |value: u32, yes, no| (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, yes, no, value.to_be());
    let program = (|| {
        Ok::<_, std::num::TryFromIntError>([
            load(at::WHAT)?,
            equal(ACK, 9, 0),
            equal(COREDUMP, 8, 0),
            equal(EXIT, 0, 8),
            load(at::CODE)?,
            (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, 0, 0, 0x7f_u32.to_be()),
            equal(SIGSYS.unsigned_abs(), 0, 5),
            // The pid is the thread group's.
            load(at::PID)?,
            (libc::BPF_MISC | libc::BPF_TAX, 0, 0, 0),
            load(at::TGID)?,
            (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_X, 0, 1, 0),
            // Pass, drop.
            (libc::BPF_RET | libc::BPF_K, 0, 0, u32::MAX),
            (libc::BPF_RET | libc::BPF_K, 0, 0, 0),
        ])
    })()
    .map_err(io::Error::other)?;
    let mut filter = program
        .into_iter()
        .map(|(code, jt, jf, k)| Ok(libc::sock_filter { code: u16::try_from(code)?, jt, jf, k }))
        .collect::<Result<Vec<_>, std::num::TryFromIntError>>()
        .map_err(io::Error::other)?;
    let length = u16::try_from(filter.len()).map_err(io::Error::other)?;
    let program = libc::sock_fprog { len: length, filter: filter.as_mut_ptr() };
    let size = libc::socklen_t::try_from(size_of_val(&program)).map_err(io::Error::other)?;
    // SAFETY: the option's value is a sock_fprog of that size, which points at `length` instructions that outlive the call.
    // The kernel copies and checks them.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            size,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::proc_events::message::tests::message;
    use std::os::fd::AsFd;

    #[test]
    fn filter_passes_only_sigsys_exits_core_dumps_and_acknowledgements() {
        let (from, to) = std::os::unix::net::UnixDatagram::pair().unwrap();
        attach(to.as_fd()).unwrap();
        to.set_nonblocking(true).unwrap();
        let passes = |message: Vec<u8>| {
            from.send(&message).unwrap();
            let mut buffer = [0; 256];
            to.recv(&mut buffer).is_ok_and(|length| buffer[..length] == message)
        };
        assert!(passes(message(EXIT, 7, 7, 31, 3)) && passes(message(EXIT, 7, 7, 31 | 0x80, 3)));
        assert!(passes(message(COREDUMP, 8, 7, 2, 3)) && passes(message(ACK, 0, 0, 0, 0)));
        for code in [0, 9, 0x8b, 0x1f00, 0x9f00] {
            assert!(!passes(message(EXIT, 7, 7, code, 3)), "status {code:#x}");
        }
        assert!(!passes(message(EXIT, 8, 7, 31, 3)), "a thread");
        for fork_exec_or_other in [1, 2, 4, 0x200] {
            assert!(!passes(message(fork_exec_or_other, 7, 7, 31, 3)));
        }
    }
}
