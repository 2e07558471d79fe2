//! The audit socket on tokio's event loop, which hears of it only when asked to.
//!
//! tokio watches what is registered with it at all times (`EPOLLET`), so that every record wakes it, also while a
//! storm's are left to gather: tens of thousands of times a second, and each costs more than the record. So the socket
//! stands behind an epoll of its own, and that says once that there is something (`EPOLLONESHOT`, `epoll_ctl(2)`),
//! and nothing more until it is asked anew.

use super::AuditSocket;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// What it says, and how often.
fn once() -> EpollEvent {
    EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLONESHOT, 0)
}

/// The socket, to be waited for.
#[derive(Debug)]
pub struct AuditStream {
    socket: AuditSocket,
    gate: AsyncFd<Gate>,
    /// Whether the gate has yet to say that there is something.
    is_armed: bool,
}

/// An epoll that watches the socket alone.
#[derive(Debug)]
struct Gate(Epoll);

impl AsRawFd for Gate {
    fn as_raw_fd(&self) -> RawFd {
        self.0.0.as_raw_fd()
    }
}

impl AuditStream {
    /// On the event loop that this is called on.
    ///
    /// # Errors
    /// It has no room.
    pub fn new(socket: AuditSocket) -> io::Result<Self> {
        let gate = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        gate.add(&socket, once())?;
        // SAFETY: the epoll owns its descriptor, and nothing here replaces or closes it before it is dropped.
        let gate = unsafe { AsyncFd::register_with_interest(Gate(gate), Interest::READABLE) }?;
        Ok(Self { socket, gate, is_armed: true })
    }

    /// Waits until there is something to receive. Whoever does not receive all of it is told at once, the next time.
    ///
    /// # Errors
    /// The event loop ends.
    pub async fn readable(&mut self) -> io::Result<()> {
        if !self.is_armed {
            self.gate.get_ref().0.modify(&self.socket, &mut once())?;
            self.is_armed = true;
        }
        loop {
            let mut ready = self.gate.readable_mut().await?;
            ready.clear_ready();
            // Taking the event is what disarms it. There is none if all was received without being waited for.
            if ready.get_inner().0.wait(&mut [EpollEvent::empty()], EpollTimeout::ZERO)? > 0 {
                self.is_armed = false;
                return Ok(());
            }
        }
    }

    /// Is not to say anything until it is asked again.
    ///
    /// # Errors
    /// There is no memory.
    pub fn rest(&mut self) -> io::Result<()> {
        if self.is_armed {
            // What it has said meanwhile is either known to the event loop, or withdrawn.
            self.gate.get_ref().0.modify(&self.socket, &mut EpollEvent::new(EpollFlags::EPOLLONESHOT, 0))?;
            self.is_armed = false;
        }
        Ok(())
    }

    /// The socket.
    pub fn socket(&mut self) -> &mut AuditSocket {
        &mut self.socket
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::time::Duration;

    /// Whether it says within a moment that there is something.
    async fn says(stream: &mut AuditStream) -> bool {
        tokio::time::timeout(Duration::from_millis(100), stream.readable()).await.is_ok_and(|said| said.is_ok())
    }

    #[tokio::test]
    async fn it_says_so_each_time_it_is_asked_and_only_then() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let mut byte = [0];
        let mut take = {
            let reader = reader.try_clone().unwrap();
            move || nix::unistd::read(&reader, &mut byte).unwrap()
        };
        let mut stream = AuditStream::new(AuditSocket::over(reader.into())).unwrap();
        assert!(!says(&mut stream).await, "there is nothing");
        writer.write_all(b"ab").unwrap();
        assert!(says(&mut stream).await);
        // What comes while nobody asks wakes nobody.
        writer.write_all(b"c").unwrap();
        let woken = tokio::time::timeout(Duration::from_millis(100), stream.gate.readable());
        assert!(woken.await.is_err());
        for _ in 0..3 {
            assert!(says(&mut stream).await, "some is left");
            take();
        }
        assert!(!says(&mut stream).await, "all was taken");
        // At rest nothing is said, and what was said before is not lost, whether the event loop has heard it or not.
        for heard in [false, true] {
            writer.write_all(b"r").unwrap();
            if heard {
                assert!(stream.gate.readable().await.is_ok());
            }
            stream.rest().unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
            writer.write_all(b"s").unwrap();
            for _ in 0..2 {
                assert!(says(&mut stream).await, "some is left");
                take();
            }
            assert!(!says(&mut stream).await, "all was taken");
        }
        stream.rest().unwrap();
        writer.write_all(b"t").unwrap();
        assert!(tokio::time::timeout(Duration::from_millis(100), stream.gate.readable()).await.is_err());
        assert!(says(&mut stream).await);
        take();
        assert!(!says(&mut stream).await);
        // Taken without being waited for, while it is armed.
        writer.write_all(b"d").unwrap();
        take();
        assert!(!says(&mut stream).await);
        writer.write_all(b"e").unwrap();
        assert!(says(&mut stream).await, "it is armed still");
    }
}
