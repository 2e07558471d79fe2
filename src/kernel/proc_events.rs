//! Deaths by SIGSYS, from the kernel's proc connector (`linux/cn_proc.h`, `drivers/connector/cn_proc.c`).
//!
//! A process that seccomp kills is often gone before its record is read. The kernel reports its core dump (even where none
//! is written) while the process and its parent still exist, and its exit, at which the parent may still exist. Both
//! events name the parent. A socket filter in the kernel passes only these events, so a machine without such deaths never
//! wakes this process.
//!
//! Events carry pids of the initial PID namespace. The connector does not serve other PID and user namespaces, and does not
//! exist in other network namespaces. Before Linux 6.6 it requires `CAP_NET_ADMIN`.

pub(crate) mod filter;
pub(crate) mod message;

pub use message::{CoreDump, DeathNotice, SigsysExit};

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
/// `PROC_EVENT_NONZERO_EXIT`, which Linux 6.6 and later know.
const NONZERO_EXIT: u32 = 0x2000_0000;

/// The requested receive buffer in bytes: room for some 10,000 events.
const RECEIVE_BUFFER: usize = 8 << 20;

/// How long to wait for the kernel's acknowledgement, which normally comes at once.
const ACK_TIMEOUT: Duration = Duration::from_millis(500);

/// Receives a notice of every death by SIGSYS, and of every other core dump.
///
/// Nonblocking; readable when there is something to receive.
pub struct ExitListener {
    socket: Socket,
}

impl Drop for ExitListener {
    fn drop(&mut self) {
        // Before Linux 6.6 the kernel makes events until every listener has sent this, even for listeners that are gone.
        _ = send_request(&self.socket, std::process::id(), &[IGNORE]);
    }
}

impl ExitListener {
    /// Subscribes to exit events.
    ///
    /// # Errors
    /// `Unsupported` where there is no connector: in a network, PID or user namespace other than the initial one, or
    /// with a kernel without `CONFIG_PROC_EVENTS`. `PermissionDenied` without `CAP_NET_ADMIN` where the kernel
    /// requires it.
    pub fn open() -> io::Result<Self> {
        // Without a connector in the kernel there is no protocol, or nothing answers at its other end.
        let no_connector = |err: io::Error| match err.raw_os_error() {
            Some(libc::EPROTONOSUPPORT | libc::ECONNREFUSED) => {
                unsupported("the kernel has no proc connector in this network namespace")
            }
            _ => err,
        };
        let mut socket = Socket::new(CONNECTOR).map_err(no_connector)?;
        socket.set_non_blocking(true)?;
        filter::attach(socket.as_fd())?;
        // Only CAP_NET_ADMIN may exceed net.core.rmem_max. Without it the kernel grants that limit.
        if setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
            socket.set_rx_buf_sz(i32::try_from(RECEIVE_BUFFER).unwrap_or(i32::MAX))?;
        }
        socket.bind(&SocketAddr::new(0, PROC))?;
        let token = std::process::id();
        send_request(&socket, token, &[LISTEN]).map_err(no_connector)?;
        wait_for_ack(&socket, token.wrapping_add(1))?;
        let listener = Self { socket };
        // Since Linux 6.6 the kernel copies no other events for this socket. Older kernels ignore a request of this length.
        send_request(&listener.socket, token, &[LISTEN, NONZERO_EXIT | COREDUMP])?;
        Ok(listener)
    }

    /// Registers the socket with tokio's event loop.
    ///
    /// # Errors
    /// The event loop has no room.
    pub fn into_async(self) -> io::Result<AsyncFd<Self>> {
        // SAFETY: the socket owns its descriptor, and nothing here replaces or closes it before it is dropped.
        Ok(unsafe { AsyncFd::register_with_interest(self, Interest::READABLE) }?)
    }

    /// Returns the next notice; `None` where there is none yet.
    ///
    /// # Errors
    /// Raw error `ENOBUFS` means that the kernel dropped events: count it and go on.
    pub fn receive(&mut self) -> io::Result<Option<DeathNotice>> {
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

/// A message of the kernel's.
struct ConnectorMessage {
    buffer: [u8; 256],
    length: usize,
}

impl ConnectorMessage {
    fn bytes(&self) -> &[u8] {
        self.buffer.get(..self.length).unwrap_or_default()
    }
}

/// Returns the kernel's next message; `None` where there is none yet. Drops messages of other senders.
fn receive(socket: &Socket) -> io::Result<Option<ConnectorMessage>> {
    loop {
        let mut buffer = [0; 256];
        match socket.recv_from(&mut &mut buffer[..], libc::MSG_DONTWAIT) {
            Ok((length, sender)) if sender.port_number() == 0 => return Ok(Some(ConnectorMessage { buffer, length })),
            Ok(_) => {}
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
            Err(err) => return Err(err),
        }
    }
}

/// Sends the connector a request.
fn send_request(socket: &Socket, token: u32, request: &[u32]) -> io::Result<()> {
    let payload = u32::try_from(request.len() * 4).map_err(io::Error::other)?;
    // nlmsghdr: length, type NLMSG_DONE and flags, sequence, port (the kernel fills it in).
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

/// Returns the bytes of two numbers in memory.
fn pair(first: u16, second: u16) -> [u8; 4] {
    let ([a, b], [c, d]) = (first.to_ne_bytes(), second.to_ne_bytes());
    [a, b, c, d]
}

/// Waits for the acknowledgement. The kernel ignores requests from other namespaces without one.
fn wait_for_ack(socket: &Socket, expected: u32) -> io::Result<()> {
    let deadline = Instant::now() + ACK_TIMEOUT;
    loop {
        match receive(socket) {
            Ok(Some(message)) => {
                let bytes = message.bytes();
                // The kernel sends each acknowledgement to all listeners.
                if event(bytes) == Some(ACK) && word(bytes, at::CN_ACK) == Some(expected) {
                    return match word(bytes, at::ERROR).and_then(|errno| i32::try_from(errno).ok()) {
                        Some(0) => Ok(()),
                        Some(errno) => Err(io::Error::from_raw_os_error(errno)),
                        None => Err(unsupported("the proc connector's answer is invalid")),
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
            // Other events filled the buffer: the acknowledgement is lost or still to come.
            Err(err) if err.raw_os_error() == Some(libc::ENOBUFS) => {}
            Err(err) => return Err(err),
        }
    }
}

fn unsupported(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, why)
}
