//! The audit socket as a [`RecordSource`] on tokio's event loop, without a wakeup for every record.
//!
//! tokio watches its descriptors at all times (`EPOLLET`), so every record would wake the loop, even while the daemon
//! lets a storm's records gather: tens of thousands of times a second, and each wakeup costs more than the record.
//! So the socket is behind its own epoll, which reports once that it is readable (`EPOLLONESHOT`, `epoll_ctl(2)`) and
//! stays silent until it is armed again.

use super::{AuditMessage, AuditSocket, ReceiveError};
use crate::audit::serials::Serials;
use crate::audit::{Record, parse_record, parse_serial};
use crate::intake::record_source::{NoRecord, Received, RecordSource, SourceEnd};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::task::{Context, Poll, ready};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Reports readability once.
fn readable_once() -> EpollEvent {
    EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLONESHOT, 0)
}

/// An [`AuditSocket`] that tasks can wait for, and the serial numbers of its messages.
#[derive(Debug)]
pub(crate) struct AuditStream {
    socket: AuditSocket,
    epoll: AsyncFd<OneShotEpoll>,
    /// Whether the epoll has yet to report that the socket is readable.
    is_armed: bool,
    serials: Serials,
}

/// An epoll that watches only the audit socket.
#[derive(Debug)]
struct OneShotEpoll(Epoll);

impl AsRawFd for OneShotEpoll {
    fn as_raw_fd(&self) -> RawFd {
        self.0.0.as_raw_fd()
    }
}

impl AuditStream {
    /// Registers the socket with the event loop of the calling task.
    ///
    /// # Errors
    /// Those of `epoll_create1(2)` and `epoll_ctl(2)`.
    pub(crate) fn new(socket: AuditSocket) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&socket, readable_once())?;
        // SAFETY: the epoll owns its descriptor, and nothing here replaces or closes it before it is dropped.
        let epoll = unsafe { AsyncFd::register_with_interest(OneShotEpoll(epoll), Interest::READABLE) }?;
        Ok(Self { socket, epoll, is_armed: true, serials: Serials::default() })
    }
}

impl RecordSource for AuditStream {
    /// If the caller leaves datagrams unread, the next call returns at once.
    fn poll_readable(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.is_armed {
            self.epoll.get_ref().0.modify(&self.socket, &mut readable_once())?;
            self.is_armed = true;
        }
        loop {
            let mut ready = ready!(self.epoll.poll_read_ready_mut(context))?;
            ready.clear_ready();
            // Taking the event disarms the epoll. There is no event if the socket was emptied without waiting.
            if ready.get_inner().0.wait(&mut [EpollEvent::empty()], EpollTimeout::ZERO)? > 0 {
                self.is_armed = false;
                return Poll::Ready(Ok(()));
            }
        }
    }

    fn pause(&mut self) -> io::Result<()> {
        if self.is_armed {
            // This withdraws an event that the loop has not taken yet; an event that it has taken stays valid.
            self.epoll.get_ref().0.modify(&self.socket, &mut EpollEvent::new(EpollFlags::EPOLLONESHOT, 0))?;
            self.is_armed = false;
        }
        Ok(())
    }

    fn receive(&mut self) -> Result<Received, SourceEnd> {
        match self.socket.refill() {
            Ok(true) => Ok(Received::Batch),
            Ok(false) => Ok(Received::Nothing),
            Err(ReceiveError::Overrun) => Ok(Received::Overrun),
            Err(error @ ReceiveError::Io(_)) => Err(SourceEnd { reason: error.to_string() }),
        }
    }

    fn next_message(&mut self) -> Option<Result<Record<'_>, NoRecord<'_>>> {
        let Self { socket, serials, .. } = self;
        Some(match socket.take()? {
            AuditMessage::Seccomp(payload) => match parse_record(payload) {
                Ok(record) => {
                    serials.observe(record.serial);
                    Ok(record)
                }
                Err(error) => {
                    observe_serial(serials, payload);
                    Err(NoRecord::Malformed { payload, error })
                }
            },
            AuditMessage::Other(payload) => {
                observe_serial(serials, payload);
                Err(NoRecord::Ignored)
            }
            AuditMessage::Foreign => Err(NoRecord::Ignored),
        })
    }

    fn lost(&self) -> u64 {
        self.serials.missing()
    }
}

fn observe_serial(serials: &mut Serials, payload: &[u8]) {
    if let Some(serial) = parse_serial(payload) {
        serials.observe(serial);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::io::Write as _;
    use std::time::Duration;

    /// Whether the stream becomes readable within 100 ms.
    async fn becomes_readable(stream: &mut AuditStream) -> bool {
        let readable = poll_fn(|context| stream.poll_readable(context));
        tokio::time::timeout(Duration::from_millis(100), readable).await.is_ok_and(|result| result.is_ok())
    }

    #[tokio::test]
    async fn readable_socket_wakes_task_only_while_armed() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let mut byte = [0];
        let mut take = {
            let reader = reader.try_clone().unwrap();
            move || nix::unistd::read(&reader, &mut byte).unwrap()
        };
        let mut stream = AuditStream::new(AuditSocket::from_fd(reader.into())).unwrap();
        assert!(!becomes_readable(&mut stream).await, "nothing was written");
        writer.write_all(b"ab").unwrap();
        assert!(becomes_readable(&mut stream).await);
        // Disarmed: a further byte causes no wakeup.
        writer.write_all(b"c").unwrap();
        let woken = tokio::time::timeout(Duration::from_millis(100), stream.epoll.readable());
        assert!(woken.await.is_err());
        for _ in 0..3 {
            assert!(becomes_readable(&mut stream).await, "bytes are left");
            take();
        }
        assert!(!becomes_readable(&mut stream).await, "all was taken");
        // Disarming loses no bytes, whether or not the event loop has taken the event.
        for is_taken in [false, true] {
            writer.write_all(b"r").unwrap();
            if is_taken {
                assert!(stream.epoll.readable().await.is_ok());
            }
            stream.pause().unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
            writer.write_all(b"s").unwrap();
            for _ in 0..2 {
                assert!(becomes_readable(&mut stream).await, "bytes are left");
                take();
            }
            assert!(!becomes_readable(&mut stream).await, "all was taken");
        }
        stream.pause().unwrap();
        writer.write_all(b"t").unwrap();
        assert!(tokio::time::timeout(Duration::from_millis(100), stream.epoll.readable()).await.is_err());
        assert!(becomes_readable(&mut stream).await);
        take();
        assert!(!becomes_readable(&mut stream).await);
        // Emptied without waiting, while armed.
        writer.write_all(b"d").unwrap();
        take();
        assert!(!becomes_readable(&mut stream).await);
        writer.write_all(b"e").unwrap();
        assert!(becomes_readable(&mut stream).await, "the epoll is still armed");
    }
}
