//! The kernel's audit stream: the read-only multicast group of `NETLINK_AUDIT`.
//!
//! It needs `CAP_AUDIT_READ` and the initial network namespace, and works beside auditd, without
//! it, and with `audit_enabled=0` (`kernel/audit.c`, `kauditd_send_multicast_skb`).

mod batch;
mod stream;

pub use stream::AuditStream;

use crate::audit::record::SECCOMP;
use batch::Batch;
use netlink_sys::protocols::NETLINK_AUDIT;
use netlink_sys::{Socket, SocketAddr};
use nix::sys::socket::{setsockopt, sockopt};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd as _, IntoRawFd as _, OwnedFd, RawFd};

/// `AUDIT_NLGRP_READLOG` (`linux/audit.h`).
const READLOG: u32 = 1;

/// What is asked of the kernel as receive buffer, in bytes. The default of 208 KiB holds about
/// 200 records, a millisecond of a storm.
pub const RECEIVE_BUFFER: usize = 64 << 20;

/// `struct nlmsghdr`.
const HEADER: usize = 16;

/// The stream, non-blocking.
#[derive(Debug)]
pub struct AuditSocket {
    socket: Socket,
    batch: Batch,
    receive_buffer: usize,
}

/// One datagram.
#[derive(Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// A SECCOMP record as the kernel wrote it: `audit(TIME:SERIAL): FIELDS`.
    Seccomp(&'a [u8]),
    /// An audit message of another type; its serial number still counts.
    Other(&'a [u8]),
    /// Not sent by the kernel, or no netlink message: ignored.
    Foreign,
}

/// Why the stream cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The kernel has no audit.
    #[error("this kernel has no audit support (CONFIG_AUDIT), so it reports no denials")]
    NoAudit,
    /// The right to listen is missing.
    #[error(
        "not allowed to join the kernel's audit stream: it takes root, or CAP_AUDIT_READ, outside a user namespace \
         (PrivateUsers=, rootless container), or harden-whyd.socket, which joins it beforehand"
    )]
    NotAllowed,
    /// Anything else.
    #[error("the kernel's audit stream cannot be opened: {0}")]
    Io(io::Error),
}

/// Why nothing was received.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// The receive buffer was full: messages were lost, the stream goes on (`ENOBUFS`, `netlink(7)`).
    #[error("the kernel's audit stream overran the receive buffer")]
    Overrun,
    /// The socket is of no more use.
    #[error("the kernel's audit stream cannot be read: {0}")]
    Io(io::Error),
}

impl AuditSocket {
    /// Joins the group, with as large a receive buffer as permitted up to [`RECEIVE_BUFFER`].
    ///
    /// # Errors
    /// Says which right or feature is missing.
    pub fn open() -> Result<Self, OpenError> {
        let explain = |error: io::Error| match error.raw_os_error() {
            Some(libc::EPROTONOSUPPORT | libc::EAFNOSUPPORT) => OpenError::NoAudit,
            Some(libc::EPERM | libc::EACCES) => OpenError::NotAllowed,
            _ => OpenError::Io(error),
        };
        let mut socket = Socket::new(NETLINK_AUDIT).map_err(explain)?;
        socket.set_non_blocking(true).map_err(OpenError::Io)?;
        // Beyond net.core.rmem_max only CAP_NET_ADMIN may go; without it the kernel grants what it may.
        if setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
            socket.set_rx_buf_sz(i32::try_from(RECEIVE_BUFFER).unwrap_or(i32::MAX)).map_err(OpenError::Io)?;
        }
        let receive_buffer = socket.get_rx_buf_sz().map_err(OpenError::Io)?;
        socket.bind(&SocketAddr::new(0, 0)).map_err(explain)?;
        socket.add_membership(READLOG).map_err(explain)?;
        Ok(Self { socket, batch: Batch::new(), receive_buffer })
    }

    /// Takes over a socket that systemd opened (`ListenNetlink=audit 1`): what came while nobody read is still in it,
    /// and no right is needed. `None` where it is another kind of socket.
    ///
    /// # Errors
    /// It is no socket.
    pub fn inherit(fd: OwnedFd) -> io::Result<Option<Self>> {
        let domain = socket_option(&fd, libc::SO_DOMAIN)?;
        if domain != libc::AF_NETLINK || socket_option(&fd, libc::SO_PROTOCOL)? != libc::NETLINK_AUDIT {
            return Ok(None);
        }
        // SAFETY: the descriptor was owned, and is handed over.
        let socket = unsafe { Socket::from_raw_fd(fd.into_raw_fd()) };
        let mut address = SocketAddr::new(0, 0);
        socket.get_address(&mut address)?;
        if address.multicast_groups() & READLOG == 0 {
            return Ok(None);
        }
        socket.set_non_blocking(true)?;
        let receive_buffer = socket.get_rx_buf_sz()?;
        Ok(Some(Self { socket, batch: Batch::new(), receive_buffer }))
    }

    /// The receive buffer the kernel granted, in bytes of its own accounting (`SO_RCVBUF`, `socket(7)`:
    /// twice what was asked).
    #[must_use]
    pub fn receive_buffer(&self) -> usize {
        self.receive_buffer
    }

    /// Receives the next batch, once all of the latest was taken; false when there is none yet. All of a batch has
    /// arrived before the first of it is handed out.
    ///
    /// # Errors
    /// [`ReceiveError::Overrun`] is to be counted; after any other the stream is gone.
    pub fn refill(&mut self) -> Result<bool, ReceiveError> {
        while self.batch.is_over() {
            match self.batch.receive(self.socket.as_raw_fd()) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => return Err(ReceiveError::Overrun),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(ReceiveError::Io(error)),
            }
        }
        Ok(true)
    }

    /// The next datagram of the batch; `None` when all were taken.
    pub fn take(&mut self) -> Option<Message<'_>> {
        (!self.batch.is_over()).then(|| open_envelope(self.batch.take()))
    }

    /// The next datagram, of whatever batch; `None` when there is none yet.
    ///
    /// # Errors
    /// Those of [`refill`](Self::refill).
    pub fn receive(&mut self) -> Result<Option<Message<'_>>, ReceiveError> {
        Ok(if self.refill()? { self.take() } else { None })
    }
}

impl AsFd for AuditSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for AuditSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

fn socket_option(fd: &OwnedFd, option: libc::c_int) -> io::Result<libc::c_int> {
    let (mut value, mut length) = (0, libc::socklen_t::try_from(size_of::<libc::c_int>()).unwrap_or_default());
    // SAFETY: value and length are ours, and the kernel writes at most as many bytes as length says.
    let result =
        unsafe { libc::getsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, option, (&raw mut value).cast(), &raw mut length) };
    if result == 0 { Ok(value) } else { Err(io::Error::last_os_error()) }
}

/// Strips `struct nlmsghdr`. A datagram of this group is one message, and its `nlmsg_len` has been
/// with and without the header in the kernel's history, so the datagram's own length counts.
fn open_envelope(datagram: &[u8]) -> Message<'_> {
    let (Some(kind), Some(payload)) = (datagram.get(4..6), datagram.get(HEADER..)) else {
        return Message::Foreign;
    };
    let padding = payload.iter().rev().take_while(|&&byte| byte == 0 || byte == b'\n').count();
    let payload = &payload[..payload.len() - padding];
    if kind == SECCOMP.to_ne_bytes() { Message::Seccomp(payload) } else { Message::Other(payload) }
}

#[cfg(test)]
impl AuditSocket {
    /// Over something else, which need not be a socket.
    pub(crate) fn over(fd: OwnedFd) -> Self {
        // SAFETY: the descriptor was owned, and is handed over.
        let socket = unsafe { Socket::from_raw_fd(fd.into_raw_fd()) };
        Self { socket, batch: Batch::new(), receive_buffer: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datagram(kind: u16, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(payload);
        bytes
    }

    #[test]
    fn only_type_1326_is_a_record() {
        assert_eq!(open_envelope(&datagram(1326, b"audit(1.000:2): \n\0")), Message::Seccomp(b"audit(1.000:2): "));
        assert_eq!(open_envelope(&datagram(1300, b"audit(1.000:2): ")), Message::Other(b"audit(1.000:2): "));
    }

    /// What this machine has, or none; without it where it is required, a failure.
    fn unless_required<T, E: std::fmt::Display>(had: Result<T, E>) -> Option<T> {
        let required = std::env::var_os("HARDEN_WHY_REQUIRE_KERNEL").is_some_and(|value| value == "1");
        had.map_err(|error| assert!(!required, "required: {error}")).ok()
    }

    #[test]
    fn only_the_kernel_is_listened_to() {
        // A bound netlink socket has a port that is not 0; one of this process can send to it.
        let user_socket = || unless_required(Socket::new(netlink_sys::protocols::NETLINK_USERSOCK));
        let (Some(mut from), Some(mut to)) = (user_socket(), user_socket()) else { return };
        from.bind_auto().unwrap();
        let address = to.bind_auto().unwrap();
        let mut audit = AuditSocket { socket: to, batch: Batch::new(), receive_buffer: 0 };
        assert_eq!(audit.receive().unwrap(), None);
        from.send_to(&datagram(1326, b"audit(1.000:2): "), &address, 0).unwrap();
        assert_eq!(audit.receive().unwrap(), Some(Message::Foreign));
    }

    #[test]
    fn only_an_audit_socket_is_taken_over() {
        let other = std::os::unix::net::UnixDatagram::unbound().unwrap();
        assert!(AuditSocket::inherit(other.into()).unwrap().is_none());
        let (reader, _writer) = io::pipe().unwrap();
        assert!(AuditSocket::inherit(reader.into()).is_err());
        // It hears nothing: it is in no group.
        let Some(deaf) = unless_required(Socket::new(NETLINK_AUDIT)) else { return };
        // SAFETY: the descriptor is owned, and is handed over.
        let deaf = unsafe { OwnedFd::from_raw_fd(deaf.into_raw_fd()) };
        assert!(AuditSocket::inherit(deaf).unwrap().is_none());
        let Some(heard) = unless_required(AuditSocket::open()) else { return };
        let buffer = heard.receive_buffer();
        // SAFETY: as above.
        let heard = unsafe { OwnedFd::from_raw_fd(heard.socket.into_raw_fd()) };
        assert_eq!(AuditSocket::inherit(heard).unwrap().unwrap().receive_buffer(), buffer);
    }

    #[test]
    fn what_is_no_socket_is_of_no_use() {
        let (reader, _writer) = io::pipe().unwrap();
        assert!(matches!(AuditSocket::over(reader.into()).receive(), Err(ReceiveError::Io(_))));
    }

    #[test]
    fn what_is_shorter_than_a_header_is_nothing() {
        assert_eq!(open_envelope(&datagram(1326, b"")[..15]), Message::Foreign);
        assert_eq!(open_envelope(b""), Message::Foreign);
    }
}
