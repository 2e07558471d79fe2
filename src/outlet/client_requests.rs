//! Requests of D-Bus clients on their way to the daemon's loop.

use super::wire::BusError;
use crate::incidents::Incident;
use crate::units::Unit;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

/// The most requests that wait for the loop.
const MOST: usize = 64;

/// How long a request waits for the loop, which may be busy with a storm.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a client asks the daemon's loop to do.
#[derive(Debug)]
pub enum ClientRequest {
    /// Treat the unit's logged calls as its rehearsal's.
    BeginRehearsal(Unit),
    /// End the unit's rehearsal.
    EndRehearsal(Unit),
    /// Add incidents that a client saw.
    AddIncidents(Vec<Incident>),
}

/// A request whose client waits for it.
#[derive(Debug)]
pub struct PendingRequest {
    /// The client's request.
    pub request: ClientRequest,
    done: oneshot::Sender<()>,
}

/// The sending end of the queue of requests.
#[derive(Debug, Clone)]
pub struct RequestQueue(mpsc::Sender<PendingRequest>);

/// Makes a queue and its receiving end, for the loop.
#[must_use]
pub fn channel() -> (RequestQueue, mpsc::Receiver<PendingRequest>) {
    let (sender, receiver) = mpsc::channel(MOST);
    (RequestQueue(sender), receiver)
}

impl PendingRequest {
    /// Whether the client no longer waits.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.done.is_closed()
    }

    /// Reports to the client that the request was carried out.
    pub fn finish(self) {
        // The client may no longer wait.
        let _ = self.done.send(());
    }
}

impl RequestQueue {
    /// Sends a request and waits until the loop has carried it out.
    ///
    /// # Errors
    /// The loop is too busy, or stops.
    pub(crate) async fn send(&self, request: ClientRequest) -> Result<(), BusError> {
        let busy = || BusError::Busy("harden-whyd is too busy to do that, try again".to_owned());
        let (done, was_done) = oneshot::channel();
        let send = async {
            self.0.send(PendingRequest { request, done }).await.map_err(|_| busy())?;
            was_done.await.map_err(|_| busy())
        };
        timeout(PATIENCE, send).await.map_err(|_| busy())?
    }
}
