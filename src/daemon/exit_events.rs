//! The kernel's exit events on the event loop. Without them the daemon works with less evidence.

use super::status::SharedStatus;
use crate::kernel::proc_events::{DeathNotice, ExitListener};
use std::io;
use tokio::io::unix::AsyncFd;

/// The listener for exit events, if the kernel provides them.
pub(super) struct ExitEvents {
    listener: Option<AsyncFd<ExitListener>>,
    /// Whether the last [`receive`](Self::receive) left nothing to receive.
    is_drained: bool,
    status: SharedStatus,
}

impl ExitEvents {
    /// Asks the kernel for exit events. If the kernel refuses, the status shows a limitation.
    pub(super) fn open(status: &SharedStatus) -> Self {
        let listener = match ExitListener::open().and_then(ExitListener::into_async) {
            Ok(listener) => Some(listener),
            Err(error) => {
                status.on_exit_events_unavailable(&error);
                None
            }
        };
        Self { listener, is_drained: true, status: status.clone() }
    }

    /// Waits until a notice may be ready to [receive](Self::receive). Never returns without a listener.
    ///
    /// # Errors
    /// The async runtime fails.
    pub(super) async fn readable(&mut self) -> io::Result<()> {
        match &mut self.listener {
            None => std::future::pending().await,
            Some(_) if !self.is_drained => Ok(()),
            Some(listener) => {
                listener.readable_mut().await?.clear_ready();
                Ok(())
            }
        }
    }

    /// Receives the next notice without waiting.
    pub(super) fn receive(&mut self) -> Option<DeathNotice> {
        let received = loop {
            match self.listener.as_mut().map(|listener| listener.get_mut().receive()) {
                Some(Ok(notice)) => break notice,
                Some(Err(error)) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    tracing::warn!("exit events were lost");
                    self.status
                        .add_limitation("exit events were lost: some deaths by SIGSYS without a record went unnoticed");
                }
                Some(Err(error)) => {
                    self.status.on_exit_events_unavailable(&error);
                    self.listener = None;
                }
                None => break None,
            }
        };
        self.is_drained = received.is_none();
        received
    }
}

#[cfg(test)]
impl ExitEvents {
    /// Exit events of a kernel that refuses them.
    pub(super) fn unavailable() -> Self {
        Self { listener: None, is_drained: true, status: SharedStatus::default() }
    }
}
