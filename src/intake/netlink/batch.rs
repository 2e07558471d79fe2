//! Many datagrams at one system call (`recvmmsg(2)`): in a storm the calls cost more than the records.

use nix::sys::socket::{MsgFlags, MultiHeaders, NetlinkAddr, recvmmsg};
use std::io;
use std::io::IoSliceMut;
use std::os::fd::RawFd;

/// How many datagrams one call takes at most.
const MOST: usize = 64;

/// More than the largest audit message (`MAX_AUDIT_MESSAGE_LENGTH`, 8970) with its header.
const LARGEST: usize = 12 << 10;

/// Datagrams that were received together.
pub(super) struct Batch {
    /// Room for [`MOST`] datagrams, of which little is ever touched.
    room: Vec<u8>,
    headers: MultiHeaders<NetlinkAddr>,
    /// Of each datagram its length, if it came whole and from the kernel.
    lengths: Vec<Option<usize>>,
    next: usize,
}

impl Batch {
    pub(super) fn new() -> Self {
        Self {
            room: vec![0; MOST * LARGEST],
            headers: MultiHeaders::preallocate(MOST, None),
            lengths: Vec::with_capacity(MOST),
            next: 0,
        }
    }

    /// Whether all of it was taken.
    pub(super) fn is_over(&self) -> bool {
        self.next >= self.lengths.len()
    }

    /// Receives what is there, without waiting.
    pub(super) fn receive(&mut self, socket: RawFd) -> io::Result<()> {
        self.lengths.clear();
        self.next = 0;
        let mut slices: Vec<_> = self.room.chunks_exact_mut(LARGEST).map(|room| [IoSliceMut::new(room)]).collect();
        let received = recvmmsg(socket, &mut self.headers, slices.iter_mut(), MsgFlags::MSG_DONTWAIT, None)?;
        // No audit message is too long for its room.
        self.lengths.extend(received.map(|one| {
            let from_kernel = one.address.is_some_and(|sender| sender.pid() == 0);
            (from_kernel && !one.flags.contains(MsgFlags::MSG_TRUNC)).then_some(one.bytes)
        }));
        Ok(())
    }

    /// The next datagram; empty if it is not the kernel's.
    pub(super) fn take(&mut self) -> &[u8] {
        let at = self.next;
        self.next += 1;
        let length = self.lengths.get(at).copied().flatten().unwrap_or_default();
        self.room.get(at * LARGEST..).and_then(|room| room.get(..length)).unwrap_or_default()
    }
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch").field("lengths", &self.lengths).field("next", &self.next).finish_non_exhaustive()
    }
}
