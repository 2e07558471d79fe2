//! A manager's private socket. The manager speaks D-Bus on it without a bus.
//!
//! The manager sends its well-known name as the sender. D-Bus requires a unique name there, and zbus refuses the
//! message. This module reads each whole message and makes the name unique: it replaces the first letter `o` with `:`.
//! The other end can be any user's process, so this module limits the size of a message.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use zbus::Message;
use zbus::connection::socket::{ReadHalf, Socket, Split, WriteHalf};
use zbus::export::async_trait::async_trait;
use zbus::fdo::ConnectionCredentials;

/// Bytes of the fixed part of a message's header (D-Bus specification, "Message Format").
const FIXED: usize = 16;
/// The longest accepted message, in bytes: a thousand times a unit's properties.
const LONGEST: usize = 16 * 1024 * 1024;
/// The code of the header field SENDER.
const SENDER: u8 = 7;

/// A connected private socket.
#[derive(Debug)]
pub(crate) struct PrivateSocket(pub(crate) UnixStream);

impl Socket for PrivateSocket {
    type ReadHalf = PrivateReader;
    type WriteHalf = PrivateWriter;

    fn split(self) -> Split<PrivateReader, PrivateWriter> {
        let (read, write) = self.0.into_split();
        Split::new(PrivateReader(read), PrivateWriter(write))
    }
}

/// Reads messages.
#[derive(Debug)]
pub(crate) struct PrivateReader(OwnedReadHalf);

#[async_trait]
impl ReadHalf for PrivateReader {
    async fn receive_message(
        &mut self,
        seq: u64,
        received: &mut Vec<u8>,
        _: &mut Vec<OwnedFd>,
    ) -> zbus::Result<Message> {
        let mut bytes = std::mem::take(received);
        while bytes.len() < FIXED {
            self.more(&mut bytes, FIXED).await?;
        }
        let length = length(&bytes).filter(|&length| length <= LONGEST).ok_or(zbus::Error::ExcessData)?;
        while bytes.len() < length {
            self.more(&mut bytes, length).await?;
        }
        *received = bytes.split_off(length);
        make_sender_unique(&mut bytes);
        BufferedMessage(io::Cursor::new(bytes)).receive_message(seq, &mut Vec::new(), &mut Vec::new()).await
    }

    async fn recvmsg(&mut self, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
        Ok((self.0.read(buffer).await?, Vec::new()))
    }
}

impl PrivateReader {
    /// Reads more bytes, up to `length` in all.
    async fn more(&mut self, bytes: &mut Vec<u8>, length: usize) -> io::Result<()> {
        let missing = u64::try_from(length.saturating_sub(bytes.len())).unwrap_or_default();
        match (&mut self.0).take(missing).read_buf(bytes).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

/// A completely received message.
#[derive(Debug)]
struct BufferedMessage(io::Cursor<Vec<u8>>);

#[async_trait]
impl ReadHalf for BufferedMessage {
    async fn recvmsg(&mut self, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
        Ok((io::Read::read(&mut self.0, buffer)?, Vec::new()))
    }
}

/// Writes messages without changes.
#[derive(Debug)]
pub(crate) struct PrivateWriter(OwnedWriteHalf);

#[async_trait]
impl WriteHalf for PrivateWriter {
    async fn sendmsg(&mut self, buffer: &[u8], _: &[BorrowedFd<'_>]) -> io::Result<usize> {
        self.0.write(buffer).await
    }

    async fn peer_credentials(&mut self) -> io::Result<ConnectionCredentials> {
        let pid = self.0.as_ref().peer_cred()?.pid().and_then(|pid| u32::try_from(pid).ok());
        let credentials = ConnectionCredentials::default();
        Ok(pid.map_or_else(ConnectionCredentials::default, |pid| credentials.set_process_id(pid)))
    }

    async fn close(&mut self) -> io::Result<()> {
        self.0.shutdown().await
    }
}

/// Reads a 32-bit number in a message. The message's first byte gives the byte order.
fn number(message: &[u8], at: usize) -> Option<usize> {
    let bytes = *message.get(at..)?.first_chunk()?;
    let number = if message.first() == Some(&b'B') { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) };
    usize::try_from(number).ok()
}

/// The length of a message: fixed header, fields padded to eight bytes, body.
fn length(message: &[u8]) -> Option<usize> {
    let fields = number(message, 12)?.checked_next_multiple_of(8)?;
    FIXED.checked_add(fields)?.checked_add(number(message, 4)?)
}

/// Makes the first letter of a sender's name a colon.
fn make_sender_unique(message: &mut [u8]) {
    let Some(end) = number(message, 12).and_then(|length| FIXED.checked_add(length)) else { return };
    let mut at = FIXED;
    while at < end {
        // A field consists of its code, the signature of its value, and the value.
        let (Some([code, 1, kind, 0]), Some(value)) =
            (message.get(at..).and_then(|field| field.first_chunk()), at.checked_add(4))
        else {
            return;
        };
        let next = match kind {
            b's' | b'o' if *code == SENDER => {
                if let Some(first) = value.checked_add(4).and_then(|text| message.get_mut(text)) {
                    *first = b':';
                }
                return;
            }
            b's' | b'o' => number(message, value).and_then(|length| value.checked_add(5)?.checked_add(length)),
            b'g' => message.get(value).and_then(|&length| value.checked_add(2)?.checked_add(length.into())),
            b'u' => value.checked_add(4),
            _ => None,
        };
        match next.and_then(|next| next.checked_next_multiple_of(8)) {
            Some(next) => at = next,
            None => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A reply with its reply serial, signature, sender and body.
    fn message(sender: &str) -> Vec<u8> {
        let mut fields = vec![5, 1, b'u', 0, 9, 0, 0, 0, 8, 1, b'g', 0, 1, b's', 0, 0, SENDER, 1, b's', 0];
        fields.extend(u32::try_from(sender.len()).unwrap().to_le_bytes());
        fields.extend(sender.bytes().chain([0]));
        let mut message = vec![b'l', 2, 0, 1, 8, 0, 0, 0, 1, 0, 0, 0];
        message.extend(u32::try_from(fields.len()).unwrap().to_le_bytes());
        message.extend(fields);
        message.resize(message.len().next_multiple_of(8), 0);
        message.extend(b"\x03\0\0\0abc\0");
        message
    }

    #[test]
    fn sender_becomes_unique_name() {
        let mut bytes = message("org.freedesktop.systemd1");
        assert_eq!(length(&bytes), Some(bytes.len()));
        make_sender_unique(&mut bytes);
        assert_eq!(bytes, message(":rg.freedesktop.systemd1"));
    }

    #[test]
    fn too_long_message_is_refused_at_once() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            let mut endless = message("a.b");
            endless[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
            theirs.write_all(&endless).await.unwrap();
            let (mut reader, _writer) = PrivateSocket(ours).split().take();
            let answer = reader.receive_message(0, &mut Vec::new(), &mut Vec::new()).await;
            assert!(matches!(answer, Err(zbus::Error::ExcessData)), "{answer:?}");
        });
    }

    #[test]
    fn messages_are_separated_wherever_a_read_ends() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let one = message("org.freedesktop.systemd1");
            let both = [&one[..], &one[..]].concat();
            for early in [0, 1, 15, 16, 17, one.len(), one.len() + 1, both.len()] {
                let (ours, mut theirs) = UnixStream::pair().unwrap();
                theirs.write_all(&both[early..]).await.unwrap();
                let (mut reader, _writer) = PrivateSocket(ours).split().take();
                let mut received = both[..early].to_vec();
                for _ in 0..2 {
                    let reply = reader.receive_message(0, &mut received, &mut Vec::new()).await.unwrap();
                    assert_eq!(reply.body().deserialize::<String>().unwrap(), "abc");
                    assert_eq!(reply.header().sender().unwrap().as_str(), ":rg.freedesktop.systemd1");
                }
                assert_eq!(received, [0; 0]);
            }
        });
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_keep_their_length(mut bytes: Vec<u8>) {
            let before = bytes.len();
            make_sender_unique(&mut bytes);
            prop_assert_eq!(bytes.len(), before);
            let _ = length(&bytes);
        }
    }
}
