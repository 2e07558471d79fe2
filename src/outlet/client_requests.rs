//! What clients have the daemon's loop do, on its way there.

use super::wire::BusError;
use crate::incidents::Incident;
use crate::units::Unit;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

/// How many wait for the loop at most.
const MOST: usize = 64;

/// How long the loop may take to get to one: it may be busy with a storm.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is to be done.
#[derive(Debug)]
pub enum Order {
    /// A unit is rehearsed from now on.
    Rehearse(Unit),
    /// It is not any more.
    EndRehearsal(Unit),
    /// Somebody else saw these.
    Count(Vec<Incident>),
}

/// An order, and who waits for it.
#[derive(Debug)]
pub struct Ordered {
    /// What is to be done.
    pub order: Order,
    done: oneshot::Sender<()>,
}

/// Where orders go in.
#[derive(Debug, Clone)]
pub struct Orders(mpsc::Sender<Ordered>);

/// A way for orders to the loop.
#[must_use]
pub fn channel() -> (Orders, mpsc::Receiver<Ordered>) {
    let (sender, receiver) = mpsc::channel(MOST);
    (Orders(sender), receiver)
}

impl Ordered {
    /// Whether who gave it waits no more.
    #[must_use]
    pub fn is_given_up(&self) -> bool {
        self.done.is_closed()
    }

    /// Tells who waits that it was done.
    pub fn done(self) {
        // Nobody may wait any more.
        let _ = self.done.send(());
    }
}

impl Orders {
    /// Gives an order and waits until it was done.
    ///
    /// # Errors
    /// The loop is too busy, or stops.
    pub(crate) async fn give(&self, order: Order) -> Result<(), BusError> {
        let busy = || BusError::Busy("harden-whyd is too busy to do that, try again".to_owned());
        let (done, was_done) = oneshot::channel();
        let give = async {
            self.0.send(Ordered { order, done }).await.map_err(|_| busy())?;
            was_done.await.map_err(|_| busy())
        };
        timeout(PATIENCE, give).await.map_err(|_| busy())?
    }
}
