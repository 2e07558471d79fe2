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
    /// Make the next denial of a process, which root provokes, no incident.
    AnnounceDemonstration(u32),
    /// Delete the incidents of a unit.
    Forget(ForgetRequest),
}

/// A request to delete the incidents of a unit.
#[derive(Debug)]
pub struct ForgetRequest {
    /// The unit; `None` stands for all processes whose unit is unknown.
    pub unit: Option<Unit>,
    /// The user who dismisses them.
    pub uid: u32,
    answer: oneshot::Sender<Result<u64, String>>,
}

impl ForgetRequest {
    /// Reports to the client how many incidents were deleted, or why none could be.
    pub fn finish(self, outcome: Result<u64, String>) {
        // The client may no longer wait.
        let _ = self.answer.send(outcome);
    }
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

    /// Separates the request from its confirmation.
    #[must_use]
    pub fn split(self) -> (ClientRequest, Confirmation) {
        (self.request, Confirmation(self.done))
    }
}

/// Confirms a request to its client.
#[derive(Debug)]
pub struct Confirmation(oneshot::Sender<()>);

impl Confirmation {
    /// Reports to the client that the request was carried out, or was passed on to the part that answers it.
    pub fn send(self) {
        // The client may no longer wait.
        let _ = self.0.send(());
    }
}

impl RequestQueue {
    /// Sends a request and waits until the loop has carried it out.
    ///
    /// # Errors
    /// The loop is too busy, or stops.
    pub(crate) async fn send(&self, request: ClientRequest) -> Result<(), BusError> {
        let (done, was_done) = oneshot::channel();
        let send = async {
            self.0.send(PendingRequest { request, done }).await.map_err(|_| busy())?;
            was_done.await.map_err(|_| busy())
        };
        timeout(PATIENCE, send).await.map_err(|_| busy())?
    }

    /// Deletes the incidents of a unit, as a user asked. Returns how many were deleted.
    ///
    /// # Errors
    /// The loop is too busy or stops, or the store cannot be written.
    pub(crate) async fn forget(&self, unit: Option<Unit>, uid: u32) -> Result<u64, BusError> {
        let (answer, answered) = oneshot::channel();
        self.send(ClientRequest::Forget(ForgetRequest { unit, uid, answer })).await?;
        let outcome = timeout(PATIENCE, answered).await.map_err(|_| busy())?.map_err(|_| busy())?;
        outcome.map_err(BusError::Store)
    }
}

fn busy() -> BusError {
    BusError::Busy("harden-whyd is too busy to do that, try again".to_owned())
}
