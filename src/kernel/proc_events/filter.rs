//! The socket filter that spares us every other event.

use super::message::{ACK, COREDUMP, EXIT, FORK, at};
use crate::audit::record::SIGSYS;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Which thread group leaders' events are let through, beside answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Deaths by SIGSYS, and the core dumps of any thread.
    Deaths,
    /// Births.
    Births,
}

/// Lets only answers and what is wanted through.
///
/// A thread of a dying group has the same status as its leader, and is told by its pid, which
/// is not the group's.
pub(crate) fn attach(socket: BorrowedFd<'_>, wanted: Wanted) -> io::Result<()> {
    // Classic BPF (`linux/filter.h`) reads words as big-endian: so are the numbers compared.
    let load = |at: usize| u32::try_from(at).map(|at| (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, at));
    let equal = |value: u32, yes, no| (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, yes, no, value.to_be());
    let keep = (libc::BPF_MISC | libc::BPF_TAX, 0, 0, 0);
    let is_kept = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_X, 0, 1, 0);
    let pass = (libc::BPF_RET | libc::BPF_K, 0, 0, u32::MAX);
    let drop = (libc::BPF_RET | libc::BPF_K, 0, 0, 0);
    let program = (|| {
        Ok::<_, std::num::TryFromIntError>(match wanted {
            Wanted::Deaths => vec![
                load(at::WHAT)?,
                equal(ACK, 9, 0),
                equal(COREDUMP, 8, 0),
                equal(EXIT, 0, 8),
                load(at::CODE)?,
                (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, 0, 0, 0x7f_u32.to_be()),
                equal(SIGSYS.unsigned_abs(), 0, 5),
                load(at::PID)?,
                keep,
                load(at::TGID)?,
                is_kept,
                pass,
                drop,
            ],
            Wanted::Births => vec![
                load(at::WHAT)?,
                equal(ACK, 5, 0),
                equal(FORK, 0, 5),
                load(at::CHILD_PID)?,
                keep,
                load(at::CHILD_TGID)?,
                is_kept,
                pass,
                drop,
            ],
        })
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
    // SAFETY: the option's value is a sock_fprog of that size, which points at `length`
    // instructions that outlive the call; the kernel copies and checks them.
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

    /// Whether messages pass the filter for what is wanted.
    fn passes(wanted: Wanted) -> impl Fn(Vec<u8>) -> bool {
        let (from, to) = std::os::unix::net::UnixDatagram::pair().unwrap();
        attach(to.as_fd(), wanted).unwrap();
        to.set_nonblocking(true).unwrap();
        move |message: Vec<u8>| {
            from.send(&message).unwrap();
            let mut buffer = [0; 256];
            to.recv(&mut buffer).is_ok_and(|length| buffer[..length] == message)
        }
    }

    #[test]
    fn the_kernel_drops_what_nobody_waits_for() {
        let passes = passes(Wanted::Deaths);
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
    #[test]
    fn of_births_those_of_processes_are_waited_for() {
        let passes = passes(Wanted::Births);
        assert!(passes(message(FORK, 3, 3, 17, 0)) && passes(message(ACK, 0, 0, 0, 0)));
        assert!(!passes(message(FORK, 3, 3, 18, 0)), "a thread");
        for other in [EXIT, COREDUMP, 2, 4, 0x200] {
            assert!(!passes(message(other, 3, 3, 17, 0)));
        }
    }
}
