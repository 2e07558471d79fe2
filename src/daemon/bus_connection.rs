//! The daemon's connection to the bus. The bus can be unavailable for a time. A separate task owns the connection, so a
//! slow bus never delays the loop.

use crate::incidents::Stored;
use crate::outlet::StatusSource;
use crate::outlet::bus::{BusServer, serve};
use crate::outlet::client_requests::RequestQueue;
use crate::systemd::bus_address::BusAddress;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Receiver, Sender};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// How many incidents can wait for their announcement. Subscribers can query the incidents that they missed.
const MAX_WAITING: usize = 1024;

/// How long the bus may take to accept the daemon.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The first and the longest wait between attempts to connect.
const FIRST_RETRY: Duration = Duration::from_millis(250);
const MAX_RETRY: Duration = Duration::from_mins(1);

/// The loop's handle of the connection. Dropping the handle leaves the bus.
#[derive(Debug)]
pub(super) struct BusConnection {
    announcements: Sender<Stored>,
    task: JoinHandle<()>,
    /// Fires after the first attempt to connect.
    first_attempt: oneshot::Receiver<()>,
    /// How many incidents the daemon did not announce, because the bus was too far behind.
    missed: u64,
}

impl BusConnection {
    /// Starts a task that connects to a bus, and reconnects when the connection is lost.
    pub(super) fn start(address: BusAddress, state_dir: PathBuf, status: StatusSource, orders: RequestQueue) -> Self {
        let (announcements, waiting) = mpsc::channel(MAX_WAITING);
        let (attempted, first_attempt) = oneshot::channel();
        let server = Server { address, state_dir, status, orders };
        Self { announcements, task: tokio::spawn(server.run(waiting, attempted)), first_attempt, missed: 0 }
    }

    /// Waits until the first attempt to connect succeeded or failed.
    pub(super) async fn first_attempt(&mut self) {
        // This cannot fail: the task lives as long as this handle.
        _ = (&mut self.first_attempt).await;
    }

    /// Announces an incident to the subscribers.
    pub(super) fn announce(&mut self, stored: Stored) {
        match self.announcements.try_send(stored) {
            Err(TrySendError::Full(stored)) => {
                if self.missed == 0 {
                    tracing::warn!("the bus is behind: subscribers miss incident {}", stored.id);
                }
                self.missed += 1;
            }
            _ if self.missed > 0 => {
                tracing::warn!("the bus has caught up: subscribers missed {} incidents", self.missed);
                self.missed = 0;
            }
            _ => {}
        }
    }

    /// Leaves the bus.
    pub(super) fn leave(&self) {
        self.task.abort();
    }
}

impl Drop for BusConnection {
    fn drop(&mut self) {
        self.leave();
    }
}

/// The task's end of the connection.
struct Server {
    address: BusAddress,
    state_dir: PathBuf,
    status: StatusSource,
    orders: RequestQueue,
}

impl Server {
    async fn run(self, mut waiting: Receiver<Stored>, attempted: oneshot::Sender<()>) {
        let Self { address, state_dir, .. } = &self;
        let mut attempted = Some(attempted);
        let mut reported = None;
        let mut wait = FIRST_RETRY;
        loop {
            let outcome = self.connect().await;
            if let Some(attempted) = attempted.take() {
                _ = attempted.send(());
            }
            match outcome {
                Ok(bus) => {
                    tracing::info!("answering on the {address} bus");
                    (reported, wait) = (None, FIRST_RETRY);
                    announce_all(&bus, &mut waiting).await;
                    tracing::warn!("the {address} bus is gone; harden-whyd tries again");
                }
                // The same error is logged once.
                Err(why) if reported.as_ref() == Some(&why) => {}
                Err(why) => {
                    tracing::error!(
                        "{why}; until it answers, 'harden-why --state-dir {}' reads the store",
                        state_dir.display()
                    );
                    reported = Some(why);
                }
            }
            sleep(wait).await;
            wait = (2 * wait).min(MAX_RETRY);
        }
    }

    async fn connect(&self) -> Result<BusServer, String> {
        let Self { address, state_dir, status, orders } = self;
        match timeout(CONNECT_TIMEOUT, serve(address, state_dir, StatusSource::clone(status), orders.clone())).await {
            Ok(outcome) => outcome.map_err(|error| error.to_string()),
            Err(_) => Err(format!("the {address} bus does not answer")),
        }
    }
}

/// Announces incidents until the bus is gone.
async fn announce_all(bus: &BusServer, waiting: &mut Receiver<Stored>) {
    loop {
        tokio::select! {
            () = bus.closed() => return,
            Some(stored) = waiting.recv() => {
                if let Err(error) = bus.announce(&stored).await {
                    tracing::warn!("cannot send incident {} to subscribers on the bus: {error}", stored.id);
                }
            }
        }
    }
}
