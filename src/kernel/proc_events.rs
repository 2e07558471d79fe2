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

pub(crate) mod births;
pub(crate) mod filter;
pub(crate) mod message;

pub use births::BirthListener;
pub use message::{Birth, Dying, Exit, Notice};

use filter::Wanted;
use message::{ACK, COREDUMP, PROC, at, event, parse, word};
use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{setsockopt, sockopt};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::{Duration, Instant};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// `NETLINK_CONNECTOR` (`linux/netlink.h`).
const CONNECTOR: isize = 11;
/// `PROC_CN_MCAST_LISTEN` and `PROC_CN_MCAST_IGNORE`.
const LISTEN: u32 = 1;
const IGNORE: u32 = 2;
/// `PROC_EVENT_NONZERO_EXIT`, a wish that Linux 6.6 and later understand.
const NONZERO_EXIT: u32 = 0x2000_0000;

/// What is asked of the kernel as receive buffer, in bytes: room for some 10,000 deaths.
const RECEIVE_BUFFER: usize = 8 << 20;

/// How long the kernel, which answers at once, is given to answer.
const PATIENCE: Duration = Duration::from_millis(500);

/// Hears of every death by SIGSYS, and of every other core dump.
///
/// Nonblocking; readable when there is something to receive.
pub struct ExitListener {
    connector: Connector,
}

/// The way to the kernel's other end, which is told when it is not listened to any more: before Linux 6.6 it goes on for
/// all that was not told, whoever has gone.
struct Connector {
    socket: Socket,
}

impl Drop for Connector {
    fn drop(&mut self) {
        // Who goes has nobody to tell of it.
        _ = ask(&self.socket, std::process::id(), &[IGNORE]);
    }
}

impl ExitListener {
    /// Asks the kernel for exit events.
    ///
    /// # Errors
    /// `Unsupported` where there is no connector: another network, PID or user namespace
    /// than the initial one, or a kernel without `CONFIG_PROC_EVENTS`. `PermissionDenied`
    /// without `CAP_NET_ADMIN` where the kernel wants it.
    pub fn open() -> io::Result<Self> {
        // Since Linux 6.6 other events are not even copied for us.
        Ok(Self { connector: open(Wanted::Deaths, NONZERO_EXIT | COREDUMP)? })
    }

    /// Joins tokio's event loop.
    ///
    /// # Errors
    /// The event loop has no room.
    pub fn into_async(self) -> io::Result<AsyncFd<Self>> {
        // SAFETY: the socket owns its descriptor, and nothing here replaces or closes it before it is dropped.
        Ok(unsafe { AsyncFd::register_with_interest(self, Interest::READABLE) }?)
    }

    /// The next notice; `None` where there is none yet.
    ///
    /// # Errors
    /// Raw error `ENOBUFS` means that events were lost: count it and go on.
    pub fn receive(&mut self) -> io::Result<Option<Notice>> {
        while let Some(message) = receive(&self.connector.socket)? {
            if let Some(notice) = parse(message.bytes()) {
                return Ok(Some(notice));
            }
        }
        Ok(None)
    }
}

impl AsFd for ExitListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.connector.socket.as_fd()
    }
}

impl AsRawFd for ExitListener {
    fn as_raw_fd(&self) -> RawFd {
        self.connector.socket.as_raw_fd()
    }
}

/// Asks the kernel for events: those that the socket filter lets through, and of these, since Linux 6.6, those that are
/// wished for.
fn open(wanted: Wanted, wish: u32) -> io::Result<Connector> {
    // Without a connector in the kernel there is no protocol, or nobody at its other end.
    let no_connector = |err: io::Error| match err.raw_os_error() {
        Some(libc::EPROTONOSUPPORT | libc::ECONNREFUSED) => {
            unsupported("the kernel has no proc connector in this network namespace")
        }
        _ => err,
    };
    let mut socket = Socket::new(CONNECTOR).map_err(no_connector)?;
    socket.set_non_blocking(true)?;
    filter::attach(socket.as_fd(), wanted)?;
    // Beyond net.core.rmem_max only CAP_NET_ADMIN may go; without it the kernel grants what it may.
    if setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
        socket.set_rx_buf_sz(i32::try_from(RECEIVE_BUFFER).unwrap_or(i32::MAX))?;
    }
    socket.bind(&SocketAddr::new(0, PROC))?;
    let token = std::process::id();
    ask(&socket, token, &[LISTEN]).map_err(no_connector)?;
    wait_for_ack(&socket, token.wrapping_add(1))?;
    let connector = Connector { socket };
    // Older kernels ignore a request of this length.
    ask(&connector.socket, token, &[LISTEN, wish])?;
    Ok(connector)
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
                match poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)], left) {
                    Ok(0) => {
                        return Err(unsupported(
                            "the proc connector does not answer: this is not the initial PID and user namespace",
                        ));
                    }
                    Ok(_) | Err(Errno::EINTR) => {}
                    Err(err) => return Err(err.into()),
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
