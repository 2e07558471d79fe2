//! The interface between live sources of audit records and the daemon's loop.

use crate::audit::Malformed;
use crate::audit::Record;
use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};

/// A live source of audit records. It gives records, counts lost ones, and may end.
///
/// Records come in batches. All records of a batch have arrived before the source hands out the first.
pub(crate) trait RecordSource: std::fmt::Debug {
    /// Waits until there is something to [receive](Self::receive).
    ///
    /// # Errors
    /// The async runtime fails.
    fn poll_readable(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Causes no wakeup until the next [`poll_readable`](Self::poll_readable).
    ///
    /// # Errors
    /// The kernel has no memory.
    fn pause(&mut self) -> io::Result<()>;

    /// Receives the next batch without waiting. All messages of the previous batch have to be taken before.
    ///
    /// # Errors
    /// The source has ended.
    fn receive(&mut self) -> Result<Received, SourceEnd>;

    /// Takes the next message of the batch: a record, or none. `None` after the last message.
    fn next_message(&mut self) -> Option<Result<Record<'_>, NoRecord<'_>>>;

    /// The number of audit events that never arrived, since the start.
    fn lost(&self) -> u64;
}

/// What [`RecordSource::receive`] got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Received {
    /// A batch of messages.
    Batch,
    /// Nothing: nothing has arrived yet.
    Nothing,
    /// The receive buffer was full, and records were lost. The source goes on.
    Overrun,
}

/// A message of a batch that is no record.
#[derive(Debug)]
pub(crate) enum NoRecord<'a> {
    /// A SECCOMP record that cannot be parsed.
    Malformed {
        /// The record as the kernel wrote it.
        payload: &'a [u8],
        /// Why it cannot be parsed.
        error: Malformed,
    },
    /// A message of another type or sender.
    Ignored,
}

/// The end of a source: it gives no more records.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub(crate) struct SourceEnd {
    /// Why it ended.
    pub(crate) reason: String,
}

/// Several sources, read in turn.
#[derive(Debug)]
pub(crate) struct RecordSources {
    sources: Vec<Box<dyn RecordSource>>,
    /// The source of the latest batch.
    current: usize,
}

impl RecordSources {
    /// Reads from `sources`.
    #[must_use]
    pub(crate) fn new(sources: Vec<Box<dyn RecordSource>>) -> Self {
        Self { sources, current: 0 }
    }

    /// Waits until one source has something to [receive](Self::receive).
    ///
    /// # Errors
    /// The async runtime fails.
    pub(crate) async fn readable(&mut self) -> io::Result<()> {
        poll_fn(|context| {
            let mut ready = self.sources.iter_mut().map(|source| source.poll_readable(context));
            ready.find(Poll::is_ready).unwrap_or(Poll::Pending)
        })
        .await
    }

    /// Causes no wakeup until the next [`readable`](Self::readable).
    ///
    /// # Errors
    /// The kernel has no memory.
    pub(crate) fn pause(&mut self) -> io::Result<()> {
        self.sources.iter_mut().try_for_each(|source| source.pause())
    }

    /// Receives the next batch of the next source that has one, without waiting.
    ///
    /// # Errors
    /// A source has ended.
    pub(crate) fn receive(&mut self) -> Result<Received, SourceEnd> {
        for _ in 0..self.sources.len() {
            self.current = (self.current + 1) % self.sources.len();
            match self.sources[self.current].receive()? {
                Received::Nothing => {}
                received => return Ok(received),
            }
        }
        Ok(Received::Nothing)
    }

    /// Takes the next message of the batch: a record, or none. `None` after the last message.
    pub(crate) fn next_message(&mut self) -> Option<Result<Record<'_>, NoRecord<'_>>> {
        self.sources.get_mut(self.current)?.next_message()
    }

    /// The number of audit events that never arrived, since the start.
    #[must_use]
    pub(crate) fn lost(&self) -> u64 {
        self.sources.iter().map(|source| source.lost()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A source with a number of batches, of one message each; and whether the message is still to be taken.
    #[derive(Debug)]
    struct Batches(usize, bool);

    impl RecordSource for Batches {
        fn poll_readable(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            if self.0 > 0 { Poll::Ready(Ok(())) } else { Poll::Pending }
        }

        fn pause(&mut self) -> io::Result<()> {
            Ok(())
        }

        fn receive(&mut self) -> Result<Received, SourceEnd> {
            self.1 = self.0 > 0;
            self.0 = self.0.saturating_sub(1);
            Ok(if self.1 { Received::Batch } else { Received::Nothing })
        }

        fn next_message(&mut self) -> Option<Result<Record<'_>, NoRecord<'_>>> {
            std::mem::take(&mut self.1).then_some(Err(NoRecord::Ignored))
        }

        fn lost(&self) -> u64 {
            1
        }
    }

    #[tokio::test]
    async fn sources_are_read_in_turn_until_all_are_empty() {
        let batches = |count| -> Box<dyn RecordSource> { Box::new(Batches(count, false)) };
        let mut sources = RecordSources::new(vec![batches(3), batches(0), batches(1)]);
        sources.readable().await.unwrap();
        let mut read = Vec::new();
        while sources.receive().unwrap() == Received::Batch {
            read.push(sources.current);
            while sources.next_message().is_some() {}
        }
        assert_eq!((read, sources.lost()), (vec![2, 0, 0, 0], 3));
    }
}
