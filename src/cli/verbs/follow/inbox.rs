//! Queues the daemon's signals during a method call: both arrive over one connection, and the call's answer is not read
//! while signals wait.

use crate::incidents::Stored;
use crate::outlet::client::{HardenWhyProxy, IncidentSeen, IncidentSeenStream, PATIENCE, read_answer};
use crate::outlet::wire::BusError;
use anyhow::{Context as _, bail};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use tokio::time::timeout;
use zbus::export::futures_core::Stream;

/// The most signals that are queued.
const CAPACITY: usize = 4 << 10;

/// The daemon's `IncidentSeen` signals.
pub(crate) struct Inbox {
    stream: Pin<Box<IncidentSeenStream>>,
    queue: VecDeque<IncidentSeen>,
    /// Signals dropped because the queue was full.
    dropped: u64,
}

impl Inbox {
    /// Starts receiving.
    ///
    /// # Errors
    /// The bus is gone.
    pub(crate) async fn open(client: &HardenWhyProxy<'static>) -> zbus::Result<Self> {
        let stream = Box::pin(client.receive_incident_seen().await?);
        Ok(Self { stream, queue: VecDeque::new(), dropped: 0 })
    }

    /// Returns the next incident; `None` when the bus is gone.
    pub(crate) async fn next(&mut self) -> Option<anyhow::Result<Stored>> {
        let signal = match self.queue.pop_front() {
            Some(signal) => signal,
            None => next_item(&mut self.stream).await?,
        };
        let read = || read_answer(signal.args()?.incident().clone());
        Some(read())
    }

    /// Awaits the answer of a method call while signals queue up.
    ///
    /// # Errors
    /// The bus is gone, or the daemon does not answer in time.
    pub(crate) async fn call<T>(
        &mut self,
        answer: impl Future<Output = Result<T, BusError>>,
    ) -> anyhow::Result<Result<T, BusError>> {
        let mut call = pin!(timeout(PATIENCE, answer));
        loop {
            tokio::select! {
                answer = &mut call => return answer.context("harden-whyd does not answer in time"),
                signal = next_item(&mut self.stream) => match signal {
                    Some(signal) if self.queue.len() < CAPACITY => self.queue.push_back(signal),
                    Some(_) => self.dropped += 1,
                    None => bail!("the bus is gone"),
                },
            }
        }
    }

    /// Returns how many signals were dropped since the last call.
    pub(crate) fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }
}

/// Returns the next item of a stream.
pub(crate) async fn next_item<S: Stream>(stream: &mut Pin<Box<S>>) -> Option<S::Item> {
    poll_fn(|context| stream.as_mut().poll_next(context)).await
}
