//! Sends entries to journald by systemd's "Native Journal Protocol": one datagram per entry.

use std::io;
use std::io::{IoSlice, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};

/// The socket of journald.
pub const SOCKET: &str = "/run/systemd/journal/socket";

/// A journal entry: fields and their values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AlertEntry {
    fields: Vec<(&'static str, Vec<u8>)>,
}

impl AlertEntry {
    /// Adds a field. journald drops fields unless their name begins with a letter and has at most 64 upper-case ASCII
    /// letters, digits and underscores.
    pub fn push(&mut self, name: &'static str, value: impl Into<Vec<u8>>) {
        self.fields.push((name, value.into()));
    }

    /// Returns the fields in the order in which they were added.
    pub fn fields(&self) -> impl Iterator<Item = (&'static str, &[u8])> {
        self.fields.iter().map(|(name, value)| (*name, value.as_slice()))
    }

    /// Returns the first value of a field.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.fields().find(|(field, _)| *field == name).map(|(_, value)| value)
    }

    /// Returns the bytes that journald reads. A newline in a value could begin another field, so such a value is sent with
    /// its length: `NAME`, newline, 64-bit little-endian length, value, newline.
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
    /// journald cannot take more entries now; the caller can try again later.
    #[error("{}: the journal is behind and did not accept an entry", .0.display())]
    Behind(PathBuf),
    /// Another error.
    #[error("{}: {why}", .path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// The error of the kernel.
        why: io::Error,
    },
}

/// A socket for entries. It still works after a restart of journald.
#[derive(Debug)]
pub struct JournalSocket {
    socket: UnixDatagram,
    path: PathBuf,
}

impl JournalSocket {
    /// Opens a socket that sends to journald's socket, usually [`SOCKET`].
    ///
    /// # Errors
    /// journald does not listen there.
    pub fn connect(path: &Path) -> Result<Self, JournalSendError> {
        let io = |why| JournalSendError::Io { path: path.to_owned(), why };
        UnixDatagram::unbound().and_then(|probe| probe.connect(path)).map_err(io)?;
        let socket = UnixDatagram::unbound().map_err(io)?;
        socket.set_nonblocking(true).map_err(io)?;
        Ok(Self { socket, path: path.to_owned() })
    }

    /// Sends an entry, without waiting for journald.
    ///
    /// # Errors
    /// journald did not take the entry: it does not run, is behind, or cannot be reached.
    pub fn send(&self, entry: &AlertEntry) -> Result<(), JournalSendError> {
        let bytes = entry.encode();
        // Each entry is sent to the path: a restarted journald listens on a new socket with the same name.
        let sent = match self.socket.send_to(&bytes, &self.path) {
            Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => self.send_file(&bytes),
            sent => sent.map(drop),
        };
        sent.map_err(|source| match source.kind() {
            io::ErrorKind::WouldBlock => JournalSendError::Behind(self.path.clone()),
            _ => JournalSendError::Io { path: self.path.clone(), why: source },
        })
    }

    /// Sends an entry that is too large for a datagram, in a sealed memfd.
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
    fn value_with_newline_is_sent_with_its_length() {
        let mut entry = AlertEntry::default();
        entry.push("A", "plain=\0");
        entry.push("B", "x\nMESSAGE_ID=forged");
        let expected = b"A=plain=\0\nB\n\x13\0\0\0\0\0\0\0x\nMESSAGE_ID=forged\n";
        assert_eq!(entry.encode(), expected);
    }

    #[test]
    fn connecting_without_listener_is_an_error() {
        assert!(matches!(JournalSocket::connect(Path::new("/nonexistent")), Err(JournalSendError::Io { .. })));
    }
}
