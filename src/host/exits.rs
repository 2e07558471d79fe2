//! Deaths by SIGSYS, told by the kernel's proc connector (`linux/cn_proc.h`,
//! `drivers/connector/cn_proc.c`).
//!
//! A process that seccomp kills is often gone before its record is read. The kernel announces
//! its core dump (also where none is written) while it and its parent still live, and its exit
//! when only the parent may. Both name the parent. A socket filter in the kernel lets only
//! these through, so a machine on which nothing dies of such signals never wakes us.
//!
//! Events carry pids of the initial PID namespace. Other PID and user namespaces are not
//! served, and other network namespaces have no connector at all. Needs `CAP_NET_ADMIN`
//! before Linux 6.6.

use crate::audit::record::SIGSYS;
use netlink_sys::{Socket, SocketAddr};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::{Duration, Instant};

/// `NETLINK_CONNECTOR` (`linux/netlink.h`).
const CONNECTOR: isize = 11;
/// `CN_IDX_PROC` and `CN_VAL_PROC` (`linux/connector.h`); the former is also the group.
const PROC: u32 = 1;
/// `PROC_CN_MCAST_LISTEN`.
const LISTEN: u32 = 1;
/// `PROC_EVENT_NONE`: the answer to a request.
const ACK: u32 = 0;
/// `PROC_EVENT_EXIT`.
const EXIT: u32 = 0x8000_0000;
/// `PROC_EVENT_COREDUMP`.
const COREDUMP: u32 = 0x4000_0000;
/// `PROC_EVENT_NONZERO_EXIT`, a wish that Linux 6.6 and later understand.
const NONZERO_EXIT: u32 = 0x2000_0000;

/// Where things are in a message: `nlmsghdr`, `cn_msg`, `proc_event` without padding between.
mod at {
    pub(super) const CN_INDEX: usize = 16;
    pub(super) const CN_VALUE: usize = 20;
    pub(super) const CN_ACK: usize = 28;
    pub(super) const WHAT: usize = 36;
    pub(super) const TIME: usize = 44;
    pub(super) const PID: usize = 52;
    pub(super) const ERROR: usize = 52;
    pub(super) const TGID: usize = 56;
    pub(super) const CODE: usize = 60;
    pub(super) const DYING_PARENT_TGID: usize = 64;
    pub(super) const EXIT_PARENT_TGID: usize = 72;
}

/// How long the kernel, which answers at once, is given to answer.
const PATIENCE: Duration = Duration::from_millis(500);

/// What the kernel tells of a death.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// It is about to die: the best moment to look at it.
    Dying(Dying),
    /// It died of SIGSYS.
    Exit(Exit),
}

/// A process is about to die of a signal that dumps core; which signal is not told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dying {
    /// Its thread group id in the initial PID namespace.
    pub pid: u32,
    /// The thread group of its parent; `None` where the kernel had lost track.
    pub parent: Option<u32>,
    /// When, in nanoseconds of `CLOCK_MONOTONIC`.
    pub timestamp_ns: u64,
}

/// A process died of SIGSYS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// Its thread group id in the initial PID namespace.
    pub pid: u32,
    /// The thread group of its parent; `None` where that had reaped it already.
    pub parent: Option<u32>,
    /// When, in nanoseconds of `CLOCK_MONOTONIC`.
    pub timestamp_ns: u64,
    /// Whether its status says that it dumped core.
    pub core_dumped: bool,
}

/// Hears of every death by SIGSYS, and of every other core dump. Nonblocking; readable when there is something to receive.
pub struct ExitListener {
    socket: Socket,
}

impl ExitListener {
    /// Asks the kernel for exit events.
    ///
    /// # Errors
    /// `Unsupported` where there is no connector: another network, PID or user namespace
    /// than the initial one, or a kernel without `CONFIG_PROC_EVENTS`. `PermissionDenied`
    /// without `CAP_NET_ADMIN` where the kernel wants it.
    pub fn open() -> io::Result<Self> {
        // Without a connector in the kernel there is no protocol, or nobody at its other end.
        let no_connector = |err: io::Error| match err.raw_os_error() {
            Some(libc::EPROTONOSUPPORT | libc::ECONNREFUSED) => {
                unsupported("the kernel has no proc connector in this network namespace")
            }
            _ => err,
        };
        let mut socket = Socket::new(CONNECTOR).map_err(no_connector)?;
        socket.set_non_blocking(true)?;
        attach_filter(&socket)?;
        socket.bind(&SocketAddr::new(0, PROC))?;
        let token = std::process::id();
        ask(&socket, token, &[LISTEN]).map_err(no_connector)?;
        wait_for_ack(&socket, token.wrapping_add(1))?;
        // Since Linux 6.6: other events are not even copied for us. Older kernels ignore a
        // request of this length, and the socket filter alone decides.
        ask(&socket, token, &[LISTEN, NONZERO_EXIT | COREDUMP])?;
        Ok(Self { socket })
    }

    /// The next notice; `None` where there is none yet.
    ///
    /// # Errors
    /// Raw error `ENOBUFS` means that events were lost: count it and go on.
    pub fn receive(&mut self) -> io::Result<Option<Notice>> {
        while let Some(message) = receive(&self.socket)? {
            if let Some(notice) = parse(message.bytes()) {
                return Ok(Some(notice));
            }
        }
        Ok(None)
    }
}

impl AsFd for ExitListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for ExitListener {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// One message of the kernel's.
struct Message {
    buffer: [u8; 256],
    length: usize,
}

impl Message {
    fn bytes(&self) -> &[u8] {
        self.buffer.get(..self.length).unwrap_or_default()
    }
}

/// The kernel's next message; `None` where there is none yet. Everybody else's are dropped.
fn receive(socket: &Socket) -> io::Result<Option<Message>> {
    loop {
        let mut buffer = [0; 256];
        match socket.recv_from(&mut &mut buffer[..], libc::MSG_DONTWAIT) {
            Ok((length, sender)) if sender.port_number() == 0 => return Ok(Some(Message { buffer, length })),
            Ok(_) => {}
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
            Err(err) => return Err(err),
        }
    }
}

/// Reads a native-endian number.
fn word(message: &[u8], at: usize) -> Option<u32> {
    message.get(at..)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

/// The event of a message of the proc connector.
fn event(message: &[u8]) -> Option<u32> {
    let ours = word(message, at::CN_INDEX)? == PROC && word(message, at::CN_VALUE)? == PROC;
    word(message, at::WHAT).filter(|_| ours)
}

/// Reads a notice. A message can be older than the filter, so an exit is looked at again.
fn parse(message: &[u8]) -> Option<Notice> {
    let what = event(message)?;
    let pid = word(message, at::TGID)?;
    let timestamp_ns = u64::from_ne_bytes(*message.get(at::TIME..)?.first_chunk()?);
    let parent = |at| word(message, at).map(|parent| Some(parent).filter(|&parent| parent != 0));
    match what {
        COREDUMP => Some(Notice::Dying(Dying { pid, parent: parent(at::DYING_PARENT_TGID)?, timestamp_ns })),
        EXIT => {
            let code = word(message, at::CODE)?;
            let leader = word(message, at::PID)? == pid;
            let parent = parent(at::EXIT_PARENT_TGID)?;
            let exit = Exit { pid, parent, timestamp_ns, core_dumped: code & 0x80 != 0 };
            (leader && code & 0x7f == SIGSYS.unsigned_abs()).then_some(Notice::Exit(exit))
        }
        _ => None,
    }
}

/// Sends the connector a request of these words.
fn ask(socket: &Socket, token: u32, request: &[u32]) -> io::Result<()> {
    let payload = u32::try_from(request.len() * 4).map_err(io::Error::other)?;
    // nlmsghdr: length, type NLMSG_DONE and flags, sequence, port (ours is filled in).
    let mut words = vec![36 + payload, u32::from_ne_bytes(pair(3, 0)), 0, 0];
    // cn_msg: index, value, sequence, acknowledgement, length and flags.
    words.extend([
        PROC,
        PROC,
        0,
        token,
        u32::from_ne_bytes(pair(u16::try_from(payload).map_err(io::Error::other)?, 0)),
    ]);
    words.extend(request);
    let bytes: Vec<u8> = words.into_iter().flat_map(u32::to_ne_bytes).collect();
    socket.send_to(&bytes, &SocketAddr::new(0, 0), 0).map(drop)
}

/// Two numbers as they stand in memory.
fn pair(first: u16, second: u16) -> [u8; 4] {
    let ([a, b], [c, d]) = (first.to_ne_bytes(), second.to_ne_bytes());
    [a, b, c, d]
}

/// Waits for the answer. The kernel ignores other namespaces without one.
fn wait_for_ack(socket: &Socket, expected: u32) -> io::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match receive(socket) {
            Ok(Some(message)) => {
                let bytes = message.bytes();
                // Answers go to all listeners.
                if event(bytes) == Some(ACK) && word(bytes, at::CN_ACK) == Some(expected) {
                    return match word(bytes, at::ERROR).and_then(|errno| i32::try_from(errno).ok()) {
                        Some(0) => Ok(()),
                        Some(errno) => Err(io::Error::from_raw_os_error(errno)),
                        None => Err(unsupported("the proc connector's answer makes no sense")),
                    };
                }
            }
            Ok(None) => {
                let left = deadline.saturating_duration_since(Instant::now());
                let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
                let readable = poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)], left)?;
                if readable == 0 {
                    return Err(unsupported(
                        "the proc connector does not answer: this is not the initial PID and user namespace",
                    ));
                }
            }
            // A storm of other events before the answer: it is lost or still to come.
            Err(err) if err.raw_os_error() == Some(libc::ENOBUFS) => {}
            Err(err) => return Err(err),
        }
    }
}

fn unsupported(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, why)
}

/// Lets only answers, core dumps and thread group leaders' deaths by SIGSYS through.
///
/// A thread of a dying group has the same status as its leader, and is told by its pid, which
/// is not the group's.
fn attach_filter(socket: &Socket) -> io::Result<()> {
    // Classic BPF (`linux/filter.h`) reads words as big-endian: so are the numbers compared.
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
            load(at::PID)?,
            (libc::BPF_MISC | libc::BPF_TAX, 0, 0, 0),
            load(at::TGID)?,
            (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_X, 0, 1, 0),
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

    fn message(what: u32, pid: u32, tgid: u32, code: u32, parent: u32) -> Vec<u8> {
        let words = [76, 3, 0, 0, PROC, PROC, 0, 0, 40, what, 0, 5, 0, pid, tgid, code, 17, parent, parent];
        words.into_iter().flat_map(u32::to_ne_bytes).collect()
    }

    fn exit(message: &[u8]) -> Option<Exit> {
        match parse(message) {
            Some(Notice::Exit(exit)) => Some(exit),
            _ => None,
        }
    }

    #[test]
    fn a_death_by_sigsys_is_read() {
        let death = exit(&message(EXIT, 7, 7, 31 | 0x80, 3)).unwrap();
        assert_eq!((death.pid, death.parent, death.core_dumped), (7, Some(3), true));
        assert_eq!(death.timestamp_ns.to_ne_bytes(), [5_u32.to_ne_bytes(), [0; 4]].concat()[..]);
        let death = exit(&message(EXIT, 7, 7, 31, 0)).unwrap();
        assert_eq!((death.parent, death.core_dumped), (None, false));
    }

    #[test]
    fn a_core_dump_of_any_thread_is_an_announcement() {
        // Its parent stands where an exit has the signal to the parent.
        let announced = parse(&message(COREDUMP, 8, 7, 2, 3));
        assert!(matches!(announced, Some(Notice::Dying(Dying { pid: 7, parent: Some(17), .. }))), "{announced:?}");
    }

    #[test]
    fn everything_else_is_not() {
        for other in [
            message(EXIT, 7, 7, 11, 3),
            message(EXIT, 7, 7, 31 << 8, 3),
            message(EXIT, 8, 7, 31, 3),
            message(2, 7, 7, 31, 3),
            message(ACK, 7, 7, 31, 3),
        ] {
            assert_eq!(parse(&other), None);
        }
        let mut other_connector = message(EXIT, 7, 7, 31, 3);
        other_connector[at::CN_INDEX..at::CN_VALUE].copy_from_slice(&9_u32.to_ne_bytes());
        assert_eq!(parse(&other_connector), None);
    }

    #[test]
    fn a_short_message_is_nothing() {
        for what in [EXIT, COREDUMP] {
            let whole = message(what, 7, 7, 31, 3);
            let shortest = if what == EXIT { whole.len() } else { at::DYING_PARENT_TGID + 4 };
            assert!((0..shortest).all(|length| parse(&whole[..length]).is_none()));
            assert!(parse(&whole[..shortest]).is_some());
        }
    }
}
