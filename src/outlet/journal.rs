//! The journal's native protocol (systemd's "Native Journal Protocol"): one datagram an entry.

use std::io;
use std::io::{IoSlice, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};

/// Where journald listens.
pub const SOCKET: &str = "/run/systemd/journal/socket";

/// Fields and their values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AlertEntry {
    fields: Vec<(&'static str, Vec<u8>)>,
}

impl AlertEntry {
    /// Adds a field. Journald drops fields whose names are not upper-case ASCII letters, digits and
    /// underscores, at most 64 of them, beginning with a letter.
    pub fn push(&mut self, name: &'static str, value: impl Into<Vec<u8>>) {
        self.fields.push((name, value.into()));
    }

    /// The fields in the order they were added.
    pub fn fields(&self) -> impl Iterator<Item = (&'static str, &[u8])> {
        self.fields.iter().map(|(name, value)| (*name, value.as_slice()))
    }

    /// The first value of a field.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.fields().find(|(field, _)| *field == name).map(|(_, value)| value)
    }

    /// The bytes journald reads. A value with a newline could pass for another field, so that one
    /// goes with its length in front: `NAME`, newline, 64-bit little-endian length, value, newline.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (name, value) in &self.fields {
            bytes.extend_from_slice(name.as_bytes());
            if value.contains(&b'\n') {
                bytes.push(b'\n');
                let length = u64::try_from(value.len()).unwrap_or(u64::MAX);
                bytes.extend_from_slice(&length.to_le_bytes());
            } else {
                bytes.push(b'=');
            }
            bytes.extend_from_slice(value);
            bytes.push(b'\n');
        }
        bytes
    }
}

/// Why an entry did not reach the journal.
#[derive(Debug, thiserror::Error)]
pub enum JournalSendError {
    /// Journald has more to read than it can take now: try again later.
    #[error("{}: the journal is behind, an entry was not taken", .0.display())]
    Behind(PathBuf),
    /// Anything else.
    #[error("{}: {why}", .path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// What the kernel said.
        why: io::Error,
    },
}

/// A way to the journal, which survives a restart of journald.
#[derive(Debug)]
pub struct JournalSocket {
    socket: UnixDatagram,
    path: PathBuf,
}

impl JournalSocket {
    /// Finds the journal at a socket, usually [`SOCKET`].
    ///
    /// # Errors
    /// Nobody listens there.
    pub fn connect(path: &Path) -> Result<Self, JournalSendError> {
        let io = |why| JournalSendError::Io { path: path.to_owned(), why };
        UnixDatagram::unbound().and_then(|probe| probe.connect(path)).map_err(io)?;
        let socket = UnixDatagram::unbound().map_err(io)?;
        socket.set_nonblocking(true).map_err(io)?;
        Ok(Self { socket, path: path.to_owned() })
    }

    /// Hands an entry over, without ever waiting for journald.
    ///
    /// # Errors
    /// It was not taken: journald is gone, behind, or out of reach.
    pub fn send(&self, entry: &AlertEntry) -> Result<(), JournalSendError> {
        let bytes = entry.encode();
        // The address each time: a restarted journald listens on a new socket of the same name.
        let sent = match self.socket.send_to(&bytes, &self.path) {
            Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => self.send_file(&bytes),
            sent => sent.map(drop),
        };
        sent.map_err(|source| match source.kind() {
            io::ErrorKind::WouldBlock => JournalSendError::Behind(self.path.clone()),
            _ => JournalSendError::Io { path: self.path.clone(), why: source },
        })
    }

    /// Hands over what is too large for a datagram: in a memfd that nobody can change any more.
    fn send_file(&self, bytes: &[u8]) -> io::Result<()> {
        let memfd = memfd_create("harden-why-alert", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
        let mut file = std::fs::File::from(memfd);
        file.write_all(bytes)?;
        let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SEAL;
        fcntl(file.as_fd(), FcntlArg::F_ADD_SEALS(seals))?;
        let rights = [file.as_raw_fd()];
        let address = UnixAddr::new(&self.path)?;
        let control = [ControlMessage::ScmRights(&rights)];
        loop {
            match sendmsg(self.socket.as_raw_fd(), &[IoSlice::new(&[])], &control, MsgFlags::empty(), Some(&address)) {
                Err(Errno::EINTR) => {}
                sent => return sent.map(drop).map_err(io::Error::from),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newline_cannot_begin_another_field() {
        let mut entry = AlertEntry::default();
        entry.push("A", "plain=\0");
        entry.push("B", "x\nMESSAGE_ID=forged");
        let expected = b"A=plain=\0\nB\n\x13\0\0\0\0\0\0\0x\nMESSAGE_ID=forged\n";
        assert_eq!(entry.encode(), expected);
    }

    #[test]
    fn nobody_listening_is_an_error() {
        assert!(matches!(JournalSocket::connect(Path::new("/nonexistent")), Err(JournalSendError::Io { .. })));
    }
}
