//! Receives many datagrams with one system call (`recvmmsg(2)`): in a storm the calls cost more than the records.

use nix::sys::socket::{MsgFlags, MultiHeaders, NetlinkAddr, recvmmsg};
use std::io;
use std::io::IoSliceMut;
use std::os::fd::RawFd;

/// How many datagrams one call receives at most.
const MAX_DATAGRAMS: usize = 64;

/// Room for one datagram, in bytes: more than the largest audit message (`MAX_AUDIT_MESSAGE_LENGTH`, 8970) with header.
const LARGEST: usize = 12 << 10;

/// Datagrams that one call received.
pub(super) struct Batch {
    /// Room for [`MAX_DATAGRAMS`] datagrams. Its pages stay untouched, and so unused, until a storm.
    buffer: Vec<u8>,
    headers: MultiHeaders<NetlinkAddr>,
    /// The length of each datagram; `None` if it was truncated or not from the kernel.
    lengths: Vec<Option<usize>>,
    next: usize,
}

impl Batch {
    pub(super) fn new() -> Self {
        Self {
            buffer: vec![0; MAX_DATAGRAMS * LARGEST],
            headers: MultiHeaders::preallocate(MAX_DATAGRAMS, None),
            lengths: Vec::with_capacity(MAX_DATAGRAMS),
            next: 0,
        }
    }

    /// Whether all datagrams were taken.
    pub(super) fn is_empty(&self) -> bool {
        self.next >= self.lengths.len()
    }

    /// Receives the datagrams that are there, without waiting.
    pub(super) fn receive(&mut self, socket: RawFd) -> io::Result<()> {
        self.lengths.clear();
        self.next = 0;
        let mut slices: Vec<_> = self.buffer.chunks_exact_mut(LARGEST).map(|room| [IoSliceMut::new(room)]).collect();
        let received = recvmmsg(socket, &mut self.headers, slices.iter_mut(), MsgFlags::MSG_DONTWAIT, None)?;
        self.lengths.extend(received.map(|datagram| {
            let from_kernel = datagram.address.is_some_and(|sender| sender.pid() == 0);
            (from_kernel && !datagram.flags.contains(MsgFlags::MSG_TRUNC)).then_some(datagram.bytes)
        }));
        Ok(())
    }

    /// Returns the next datagram; empty if it was truncated or not from the kernel.
    pub(super) fn take(&mut self) -> &[u8] {
        let at = self.next;
        self.next += 1;
        let length = self.lengths.get(at).copied().flatten().unwrap_or_default();
        self.buffer.get(at * LARGEST..).and_then(|room| room.get(..length)).unwrap_or_default()
    }
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch").field("lengths", &self.lengths).field("next", &self.next).finish_non_exhaustive()
    }
}
