//! Our presence on the bus, which can be away for a while: a task of its own, so that no bus keeps
//! the loop from listening.

use crate::incidents::Stored;
use crate::outlet::StatusSource;
use crate::outlet::bus::{Bus, serve};
use crate::outlet::client_requests::Orders;
use crate::systemd::bus_address::BusAddress;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Receiver, Sender};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// How many incidents wait to be told; subscribers can ask for what they missed.
const MOST: usize = 1024;

/// How long a bus may take to let us in.
const PATIENCE: Duration = Duration::from_secs(10);

/// When the bus is tried again at first, and at last.
const SOON: Duration = Duration::from_millis(250);
const LATE: Duration = Duration::from_mins(1);

/// The loop's end of it. Dropping it leaves the bus.
#[derive(Debug)]
pub(crate) struct Presence {
    news: Sender<Stored>,
    task: JoinHandle<()>,
    /// Says that the bus was tried once.
    tried: oneshot::Receiver<()>,
    /// How many incidents the bus was too far behind to be told of.
    untold: u64,
}

impl Presence {
    /// Goes to a bus, and again whenever it was away.
    pub(crate) fn start(address: BusAddress, state_dir: PathBuf, status: StatusSource, orders: Orders) -> Self {
        let (news, heard) = mpsc::channel(MOST);
        let (trying, tried) = oneshot::channel();
        Self { news, task: tokio::spawn(stay(address, state_dir, status, orders, heard, trying)), tried, untold: 0 }
    }

    /// Returns once the bus let us in, or did not.
    pub(crate) async fn tried(&mut self) {
        // It cannot fail before it was sent: the task ends with us.
        _ = (&mut self.tried).await;
    }

    /// Tells the subscribers of an incident.
    pub(crate) fn tell(&mut self, stored: Stored) {
        match self.news.try_send(stored) {
            Err(TrySendError::Full(stored)) => {
                if self.untold == 0 {
                    tracing::warn!("the bus is behind: subscribers are not told of incident {}", stored.id);
                }
                self.untold += 1;
            }
            _ if self.untold > 0 => {
                tracing::warn!("the bus has caught up: subscribers were not told of {} incidents", self.untold);
                self.untold = 0;
            }
            _ => {}
        }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn stay(
    address: BusAddress,
    state_dir: PathBuf,
    status: StatusSource,
    orders: Orders,
    mut news: Receiver<Stored>,
    trying: oneshot::Sender<()>,
) {
    let mut trying = Some(trying);
    let mut said = None;
    let mut wait = SOON;
    loop {
        let outcome = arrive(&address, &state_dir, &status, &orders).await;
        if let Some(trying) = trying.take() {
            _ = trying.send(());
        }
        match outcome {
            Ok(bus) => {
                tracing::info!("answering on the {address} bus");
                (said, wait) = (None, SOON);
                attend(&bus, &mut news).await;
                tracing::warn!("the {address} bus is gone; it is tried again");
            }
            // The same is not said twice.
            Err(why) if said.as_ref() == Some(&why) => {}
            Err(why) => {
                tracing::error!("{why}; meanwhile 'harden-why --state-dir {}' reads the store", state_dir.display());
                said = Some(why);
            }
        }
        sleep(wait).await;
        wait = (2 * wait).min(LATE);
    }
}

async fn arrive(address: &BusAddress, state_dir: &Path, status: &StatusSource, orders: &Orders) -> Result<Bus, String> {
    match timeout(PATIENCE, serve(address, state_dir, StatusSource::clone(status), orders.clone())).await {
        Ok(outcome) => outcome.map_err(|error| error.to_string()),
        Err(_) => Err(format!("the {address} bus does not answer")),
    }
}

/// Passes the news on until the bus is gone.
async fn attend(bus: &Bus, news: &mut Receiver<Stored>) {
    loop {
        tokio::select! {
            () = bus.closed() => return,
            Some(stored) = news.recv() => {
                if let Err(error) = bus.announce(&stored).await {
                    tracing::warn!("subscribers on the bus were not told of incident {}: {error}", stored.id);
                }
            }
        }
    }
}
