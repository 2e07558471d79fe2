//! The kernel's audit stream: the read-only multicast group of `NETLINK_AUDIT`.
//!
//! Joining it needs `CAP_AUDIT_READ` and the initial network namespace. It works with and without auditd, and with
//! `audit_enabled=0` (`kernel/audit.c`, `kauditd_send_multicast_skb`).

mod batch;
mod stream;

pub(crate) use stream::AuditStream;

use crate::audit::record::SECCOMP;
use batch::Batch;
use netlink_sys::protocols::NETLINK_AUDIT;
use netlink_sys::{Socket, SocketAddr};
use nix::sys::socket::{setsockopt, sockopt};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd as _, IntoRawFd as _, OwnedFd, RawFd};

/// `AUDIT_NLGRP_READLOG` (`linux/audit.h`).
const READLOG: u32 = 1;

/// The receive buffer to request, in bytes. The default of 208 KiB holds about 200 records, a millisecond of a storm.
pub(crate) const RECEIVE_BUFFER: usize = 64 << 20;

/// The size of `struct nlmsghdr`, in bytes.
const HEADER: usize = 16;

/// A non-blocking socket in the multicast group.
#[derive(Debug)]
pub struct AuditSocket {
    socket: Socket,
    batch: Batch,
    receive_buffer: usize,
}

/// One datagram of the stream.
#[derive(Debug, PartialEq, Eq)]
pub enum AuditMessage<'a> {
    /// A SECCOMP record as the kernel wrote it: `audit(TIME:SERIAL): FIELDS`.
    Seccomp(&'a [u8]),
    /// An audit message of another type; its serial number still counts.
    Other(&'a [u8]),
    /// No netlink message, a truncated one, or one that is not from the kernel: ignored.
    Foreign,
}

/// Why the stream cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The kernel has no audit, or a container blocks it (systemd-nspawn: `EAFNOSUPPORT`).
    #[error("no kernel audit here (CONFIG_AUDIT is off, or a container blocks it)")]
    NoAudit,
    /// The right to join the group is missing.
    #[error(
        "not allowed to join the kernel's audit stream: it requires CAP_AUDIT_READ outside of a user namespace, or \
         harden-whyd.socket, which joins it beforehand"
    )]
    NotAllowed,
    /// Another error.
    #[error("cannot open the kernel's audit stream: {0}")]
    Io(io::Error),
}

/// Why nothing was received.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// The receive buffer was full: messages were lost, but the stream continues (`ENOBUFS`, `netlink(7)`).
    #[error("the kernel's audit stream overran the receive buffer")]
    Overrun,
    /// The socket is unusable.
    #[error("cannot read the kernel's audit stream: {0}")]
    Io(io::Error),
}

impl AuditSocket {
    /// Joins the group, with the largest permitted receive buffer up to [`RECEIVE_BUFFER`].
    ///
    /// # Errors
    /// The missing right or kernel feature.
    pub fn open() -> Result<Self, OpenError> {
        let explain = |error: io::Error| match error.raw_os_error() {
            Some(libc::EPROTONOSUPPORT | libc::EAFNOSUPPORT) => OpenError::NoAudit,
            Some(libc::EPERM | libc::EACCES) => OpenError::NotAllowed,
            _ => OpenError::Io(error),
        };
        let mut socket = Socket::new(NETLINK_AUDIT).map_err(explain)?;
        socket.set_non_blocking(true).map_err(OpenError::Io)?;
        // Only CAP_NET_ADMIN may exceed net.core.rmem_max; without it the kernel grants less.
        if setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
            socket.set_rx_buf_sz(i32::try_from(RECEIVE_BUFFER).unwrap_or(i32::MAX)).map_err(OpenError::Io)?;
        }
        let receive_buffer = socket.get_rx_buf_sz().map_err(OpenError::Io)?;
        socket.bind(&SocketAddr::new(0, 0)).map_err(explain)?;
        socket.add_membership(READLOG).map_err(explain)?;
        Ok(Self { socket, batch: Batch::new(), receive_buffer })
    }

    /// Takes over a socket that systemd opened (`ListenNetlink=audit 1`); `None` for any other kind of socket.
    ///
    /// The socket still holds the messages that arrived while no process read it. Taking it over needs no right.
    ///
    /// # Errors
    /// The descriptor is no socket.
    pub(crate) fn inherit(fd: OwnedFd) -> io::Result<Option<Self>> {
        let domain = get_socket_option(&fd, libc::SO_DOMAIN)?;
        if domain != libc::AF_NETLINK || get_socket_option(&fd, libc::SO_PROTOCOL)? != libc::NETLINK_AUDIT {
            return Ok(None);
        }
        // SAFETY: `fd` owned the descriptor and hands it over.
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

    /// Returns the size of the granted receive buffer in bytes, as the kernel counts it: twice the request
    /// (`SO_RCVBUF`, `socket(7)`).
    #[must_use]
    pub(crate) fn receive_buffer(&self) -> usize {
        self.receive_buffer
    }

    /// Receives the next batch once all of the current one was taken; false if no datagram is there yet.
    ///
    /// All datagrams of a batch have arrived before [`take`](Self::take) returns the first.
    ///
    /// # Errors
    /// Callers count [`ReceiveError::Overrun`] and continue. After any other error the socket is unusable.
    pub fn refill(&mut self) -> Result<bool, ReceiveError> {
        while self.batch.is_empty() {
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

    /// Returns the next datagram of the batch; `None` after the last.
    pub fn take(&mut self) -> Option<AuditMessage<'_>> {
        (!self.batch.is_empty()).then(|| parse_datagram(self.batch.take()))
    }

    /// Returns the next datagram of this batch or the next; `None` if no datagram is there yet.
    ///
    /// # Errors
    /// As [`refill`](Self::refill).
    pub fn receive(&mut self) -> Result<Option<AuditMessage<'_>>, ReceiveError> {
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

fn get_socket_option(fd: &OwnedFd, option: libc::c_int) -> io::Result<libc::c_int> {
    let (mut value, mut length) = (0, libc::socklen_t::try_from(size_of::<libc::c_int>()).unwrap_or_default());
    // SAFETY: `value` and `length` outlive the call, and the kernel writes at most `length` bytes.
    let result =
        unsafe { libc::getsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, option, (&raw mut value).cast(), &raw mut length) };
    if result == 0 { Ok(value) } else { Err(io::Error::last_os_error()) }
}

/// Strips `struct nlmsghdr` off a datagram, which is one message in this group.
///
/// The length is the datagram's: kernel versions differ on whether `nlmsg_len` includes the header.
pub(crate) fn parse_datagram(datagram: &[u8]) -> AuditMessage<'_> {
    let (Some(kind), Some(payload)) = (datagram.get(4..6), datagram.get(HEADER..)) else {
        return AuditMessage::Foreign;
    };
    let padding = payload.iter().rev().take_while(|&&byte| byte == 0 || byte == b'\n').count();
    let payload = &payload[..payload.len() - padding];
    if kind == SECCOMP.to_ne_bytes() { AuditMessage::Seccomp(payload) } else { AuditMessage::Other(payload) }
}

#[cfg(test)]
impl AuditSocket {
    /// Wraps any descriptor, even one that is no socket.
    pub(crate) fn from_fd(fd: OwnedFd) -> Self {
        // SAFETY: `fd` owned the descriptor and hands it over.
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
    fn datagram_of_type_1326_is_seccomp_record() {
        assert_eq!(
            parse_datagram(&datagram(1326, b"audit(1.000:2): \n\0")),
            AuditMessage::Seccomp(b"audit(1.000:2): ")
        );
        assert_eq!(parse_datagram(&datagram(1300, b"audit(1.000:2): ")), AuditMessage::Other(b"audit(1.000:2): "));
    }

    /// Turns an error into `None`, unless the environment requires this kernel feature.
    fn unless_required<T, E: std::fmt::Display>(result: Result<T, E>) -> Option<T> {
        let is_required = std::env::var_os("HARDEN_WHY_REQUIRE_KERNEL").is_some_and(|value| value == "1");
        result.map_err(|error| assert!(!is_required, "required: {error}")).ok()
    }

    #[test]
    fn datagram_of_other_process_is_foreign() {
        // The kernel sends from port 0. A bound netlink socket has another port.
        let user_socket = || unless_required(Socket::new(netlink_sys::protocols::NETLINK_USERSOCK));
        let (Some(mut from), Some(mut to)) = (user_socket(), user_socket()) else { return };
        from.bind_auto().unwrap();
        let address = to.bind_auto().unwrap();
        let mut audit = AuditSocket { socket: to, batch: Batch::new(), receive_buffer: 0 };
        assert_eq!(audit.receive().unwrap(), None);
        from.send_to(&datagram(1326, b"audit(1.000:2): "), &address, 0).unwrap();
        assert_eq!(audit.receive().unwrap(), Some(AuditMessage::Foreign));
    }

    #[test]
    fn socket_outside_audit_group_is_not_inherited() {
        let other = std::os::unix::net::UnixDatagram::unbound().unwrap();
        assert!(AuditSocket::inherit(other.into()).unwrap().is_none());
        let (reader, _writer) = io::pipe().unwrap();
        assert!(AuditSocket::inherit(reader.into()).is_err());
        let Some(without_group) = unless_required(Socket::new(NETLINK_AUDIT)) else { return };
        // SAFETY: the socket owned the descriptor and hands it over.
        let without_group = unsafe { OwnedFd::from_raw_fd(without_group.into_raw_fd()) };
        assert!(AuditSocket::inherit(without_group).unwrap().is_none());
        let Some(in_group) = unless_required(AuditSocket::open()) else { return };
        let buffer = in_group.receive_buffer();
        // SAFETY: as above.
        let in_group = unsafe { OwnedFd::from_raw_fd(in_group.socket.into_raw_fd()) };
        assert_eq!(AuditSocket::inherit(in_group).unwrap().unwrap().receive_buffer(), buffer);
    }

    #[test]
    fn descriptor_that_is_no_socket_fails_to_receive() {
        let (reader, _writer) = io::pipe().unwrap();
        assert!(matches!(AuditSocket::from_fd(reader.into()).receive(), Err(ReceiveError::Io(_))));
    }

    #[test]
    fn datagram_shorter_than_header_is_foreign() {
        assert_eq!(parse_datagram(&datagram(1326, b"")[..15]), AuditMessage::Foreign);
        assert_eq!(parse_datagram(b""), AuditMessage::Foreign);
    }
}
