//! The daemon's connection to the bus. The bus can be unavailable for a time. A separate task owns the connection, so a
//! slow bus never delays the loop.

use super::retry::Retry;
use crate::incidents::{FairQueue, Owner, Stored};
use crate::outlet::StatusSource;
use crate::outlet::bus::{BusServer, serve};
use crate::outlet::client_requests::RequestQueue;
use crate::systemd::bus_address::BusAddress;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// How many incidents can wait for their announcement. Subscribers can query the incidents that they missed.
const MAX_WAITING: usize = 1024;

/// How long the bus may take to accept the daemon.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The wait after a first failure to connect.
const FIRST_RETRY: Duration = Duration::from_millis(250);

/// The loop's handle of the connection. Dropping the handle leaves the bus.
#[derive(Debug)]
pub(super) struct BusConnection {
    announcements: Arc<Announcements>,
    task: JoinHandle<()>,
    /// Fires after the first attempt to connect.
    first_attempt: oneshot::Receiver<()>,
    /// How many incidents the daemon did not announce, because the bus was too far behind.
    missed: u64,
}

impl BusConnection {
    /// Starts a task that connects to a bus, and reconnects when the connection is lost.
    pub(super) fn start(address: BusAddress, state_dir: PathBuf, status: StatusSource, orders: RequestQueue) -> Self {
        let announcements = Arc::new(Announcements::default());
        let waiting = Arc::clone(&announcements);
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
        match self.announcements.push(stored) {
            Some(missed) => {
                if self.missed == 0 {
                    tracing::warn!("the bus is behind: subscribers miss incident {}", missed.id);
                }
                self.missed += 1;
            }
            None if self.missed > 0 => {
                tracing::warn!("the bus has caught up: subscribers missed {} incidents", self.missed);
                self.missed = 0;
            }
            None => {}
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

/// The incidents that wait for their announcement. If there is no room, the owner with the most loses its oldest.
#[derive(Debug)]
struct Announcements {
    waiting: Mutex<FairQueue<Owner, Stored>>,
    is_new: Notify,
}

impl Default for Announcements {
    fn default() -> Self {
        Self { waiting: Mutex::new(FairQueue::new(MAX_WAITING)), is_new: Notify::new() }
    }
}

impl Announcements {
    /// Appends an incident. If there is no room, removes another and returns it.
    fn push(&self, stored: Stored) -> Option<Stored> {
        let owner = Owner::new(&stored.incident.key, &stored.incident.sample);
        let missed = self.lock().push(owner, stored);
        self.is_new.notify_one();
        missed
    }

    /// Waits for the next incident.
    async fn next(&self) -> Stored {
        loop {
            let next = self.lock().pop_front();
            match next {
                Some(stored) => return stored,
                None => self.is_new.notified().await,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, FairQueue<Owner, Stored>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
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
    async fn run(self, waiting: Arc<Announcements>, attempted: oneshot::Sender<()>) {
        let Self { address, state_dir, .. } = &self;
        let mut attempted = Some(attempted);
        let mut reported = None;
        let mut retry = Retry::new(FIRST_RETRY);
        loop {
            let outcome = self.connect().await;
            if let Some(attempted) = attempted.take() {
                _ = attempted.send(());
            }
            match outcome {
                Ok(bus) => {
                    tracing::info!("answering on the {address} bus");
                    reported = None;
                    retry.succeed();
                    announce_all(&bus, &waiting).await;
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
            sleep(retry.fail(Instant::now())).await;
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
async fn announce_all(bus: &BusServer, waiting: &Announcements) {
    loop {
        tokio::select! {
            () = bus.closed() => return,
            stored = waiting.next() => {
                if let Err(error) = bus.announce(&stored).await {
                    tracing::warn!("cannot send incident {} to subscribers on the bus: {error}", stored.id);
                }
            }
        }
    }
}
