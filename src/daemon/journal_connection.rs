//! The daemon's connection to the journal. The journal can be slow or unavailable for a time. After a failure the
//! connection waits before the next attempt, each time longer.

use super::retry::Retry;
use crate::outlet::journal::{AlertEntry, JournalSocket};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The wait after a first failure to reach the journal.
const FIRST_RETRY: Duration = Duration::from_millis(50);

/// The socket of the journal, and when to try again.
pub(super) struct JournalConnection {
    path: PathBuf,
    socket: Option<JournalSocket>,
    retry: Retry,
    /// A change that [`take_change`](Self::take_change) has not returned yet.
    change: Option<JournalChange>,
}

/// A change in whether alerts reach the journal.
#[derive(Debug)]
pub(super) enum JournalChange {
    /// Alerts reach the journal again.
    Recovered,
    /// Alerts do not reach the journal, for this reason.
    Failed(String),
}

impl JournalConnection {
    /// Creates a connection to the socket at `path`. The first alert opens it.
    pub(super) fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), socket: None, retry: Retry::new(FIRST_RETRY), change: None }
    }

    /// Sends an entry. Returns whether the journal accepted it.
    pub(super) fn send(&mut self, entry: &AlertEntry, now: Instant) -> bool {
        let socket = match self.socket.take() {
            Some(socket) => Ok(socket),
            None => JournalSocket::connect(&self.path),
        };
        match socket.and_then(|socket| socket.send(entry).map(|()| socket)) {
            Ok(socket) => {
                self.socket = Some(socket);
                if self.retry.succeed() {
                    tracing::info!("the journal accepts alerts again");
                    self.change = Some(JournalChange::Recovered);
                }
                true
            }
            Err(error) => {
                if !self.retry.is_failing() {
                    tracing::warn!("{error}; alerts wait until the journal accepts them");
                    self.change = Some(JournalChange::Failed(error.to_string()));
                }
                self.retry.fail(now);
                false
            }
        }
    }

    /// Returns when to try again after a failure; `None` after a success.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        self.retry.at()
    }

    /// Ends the wait after a failure.
    pub(super) fn retry_now(&mut self) {
        self.retry.succeed();
    }

    /// Returns whether the journal failed or recovered since the last call.
    pub(super) fn take_change(&mut self) -> Option<JournalChange> {
        self.change.take()
    }
}
