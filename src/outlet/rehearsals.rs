//! Who rehearses which unit: one at a time for each, until told otherwise or gone from the bus.

use super::client_requests::{Order, Orders};
use super::wire::BusError;
use crate::units::Unit;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::task::AbortHandle;
use tokio::time::sleep;
use zbus::Connection;
use zbus::export::futures_core::Stream;
use zbus::fdo::DBusProxy;
use zbus::names::{BusName, OwnedUniqueName};

/// How many units are rehearsed at once by users, and how many by one of them; root always may.
const MOST: usize = 64;
const MOST_OF_ONE: usize = 8;

/// How often, and when, a loop that is too busy is told again of an end. One that stops needs no telling.
const TRIES: u32 = 60;
const AGAIN: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Rehearsal {
    by: OwnedUniqueName,
    uid: u32,
    /// Waits until that one leaves the bus.
    watch: AbortHandle,
}

type Held = Arc<Mutex<BTreeMap<Unit, Rehearsal>>>;

/// The rehearsals under way.
#[derive(Debug)]
pub(super) struct Rehearsals {
    held: Held,
    orders: Orders,
}

impl Rehearsals {
    pub(super) fn new(orders: Orders) -> Self {
        Self { held: Held::default(), orders }
    }

    /// Begins one.
    ///
    /// # Errors
    /// Somebody rehearses the unit already, or there are too many.
    pub(super) async fn begin(
        &self,
        unit: Unit,
        (by, uid): (OwnedUniqueName, u32),
        connection: &Connection,
    ) -> Result<(), BusError> {
        let bus = DBusProxy::new(connection).await?;
        // Heard before it is looked whether they are still there, so that no leaving is missed.
        let leaving = bus.receive_name_owner_changed_with_args(&[(0, by.as_str())]).await?;
        if !bus.name_has_owner(BusName::from(&by)).await.map_err(zbus::Error::from)? {
            return Ok(());
        }
        {
            let mut held = lock(&self.held);
            if held.contains_key(&unit) {
                return Err(BusError::Busy(format!("{} is being rehearsed already", unit.name)));
            }
            if !has_room(held.values().map(|rehearsal| rehearsal.uid), uid) {
                return Err(BusError::Busy("too many units are being rehearsed already".to_owned()));
            }
            let (kept, orders, left) = (Arc::clone(&self.held), self.orders.clone(), unit.clone());
            let watch = tokio::spawn(async move {
                {
                    let mut leaving = pin!(leaving);
                    // A change of its owner is the end of a unique name; without a bus there are no names.
                    let _ = poll_fn(|context| leaving.as_mut().poll_next(context)).await;
                }
                for _ in 0..TRIES {
                    if orders.give(Order::EndRehearsal(left.clone())).await.is_ok() {
                        break;
                    }
                    sleep(AGAIN).await;
                }
                lock(&kept).remove(&left);
            });
            held.insert(unit.clone(), Rehearsal { by, uid, watch: watch.abort_handle() });
        }
        let begun = self.orders.give(Order::Rehearse(unit.clone())).await;
        if begun.is_err() {
            self.forget(&unit);
        }
        begun
    }

    /// Ends one.
    ///
    /// # Errors
    /// It is not the caller's.
    pub(super) async fn end(&self, unit: Unit, by: &OwnedUniqueName) -> Result<(), BusError> {
        if lock(&self.held).get(&unit).is_none_or(|rehearsal| rehearsal.by != *by) {
            return Err(BusError::InvalidArgument(format!("you do not rehearse {}", unit.name)));
        }
        self.orders.give(Order::EndRehearsal(unit.clone())).await?;
        self.forget(&unit);
        Ok(())
    }

    fn forget(&self, unit: &Unit) {
        if let Some(rehearsal) = lock(&self.held).remove(unit) {
            rehearsal.watch.abort();
        }
    }
}

/// Whether a user may begin one beside those of these users.
fn has_room(held: impl Iterator<Item = u32>, uid: u32) -> bool {
    let users: Vec<u32> = held.filter(|by| *by != 0).collect();
    uid == 0 || (users.len() < MOST && users.iter().filter(|by| **by == uid).count() < MOST_OF_ONE)
}

fn lock(held: &Held) -> MutexGuard<'_, BTreeMap<Unit, Rehearsal>> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_does_not_keep_others_from_it() {
        let by = |uid, count| std::iter::repeat_n(uid, count);
        assert!(has_room(by(1000, MOST_OF_ONE - 1), 1000));
        assert!(!has_room(by(1000, MOST_OF_ONE), 1000));
        assert!(has_room(by(1000, MOST_OF_ONE), 1001));
        assert!(!has_room(by(1000, MOST), 1001), "all users together");
        assert!(has_room(by(1000, MOST), 0) && has_room(by(0, MOST_OF_ONE), 0), "root always may");
        assert!(has_room(by(0, MOST), 1000), "and takes no room from others");
    }
}
