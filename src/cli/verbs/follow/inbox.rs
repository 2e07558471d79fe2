//! What the daemon tells, put aside while something is asked of it: signals and answers come over one connection, which
//! reads no answer while it has signals that nobody takes.

use crate::incidents::Stored;
use crate::outlet::client::{HardenWhyProxy, IncidentSeen, IncidentSeenStream, PATIENCE};
use crate::outlet::wire::BusError;
use anyhow::{Context as _, bail};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use tokio::time::timeout;
use zbus::export::futures_core::Stream;

/// How many signals are put aside.
const MOST: usize = 4 << 10;

/// The incidents of which the daemon tells.
pub(crate) struct Seen {
    stream: Pin<Box<IncidentSeenStream>>,
    aside: VecDeque<IncidentSeen>,
    /// How many there was no place for.
    dropped: u64,
}

impl Seen {
    /// From now on.
    pub(crate) async fn of(client: &HardenWhyProxy<'static>) -> zbus::Result<Self> {
        let stream = Box::pin(client.receive_incident_seen().await?);
        Ok(Self { stream, aside: VecDeque::new(), dropped: 0 })
    }

    /// The next one; `None` when the bus is gone.
    pub(crate) async fn next(&mut self) -> Option<anyhow::Result<Stored>> {
        let signal = match self.aside.pop_front() {
            Some(signal) => signal,
            None => next(&mut self.stream).await?,
        };
        let read = || Ok(signal.args()?.incident().clone().try_into()?);
        Some(read())
    }

    /// The answer to a call.
    ///
    /// # Errors
    /// The bus is gone, or there is no answer in time.
    pub(crate) async fn during<T>(
        &mut self,
        call: impl Future<Output = Result<T, BusError>>,
    ) -> anyhow::Result<Result<T, BusError>> {
        let mut call = pin!(timeout(PATIENCE, call));
        loop {
            tokio::select! {
                answer = &mut call => return answer.context("harden-whyd does not answer in time"),
                signal = next(&mut self.stream) => match signal {
                    Some(signal) if self.aside.len() < MOST => self.aside.push_back(signal),
                    Some(_) => self.dropped += 1,
                    None => bail!("the bus is gone"),
                },
            }
        }
    }

    /// How many were dropped since this was asked.
    pub(crate) fn dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }
}

/// The next item of a stream.
pub(crate) async fn next<S: Stream>(stream: &mut Pin<Box<S>>) -> Option<S::Item> {
    poll_fn(|context| stream.as_mut().poll_next(context)).await
}
