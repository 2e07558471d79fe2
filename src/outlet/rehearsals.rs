//! Who rehearses which unit: one at a time for each, until told otherwise or gone from the bus.

use super::orders::{Order, Orders};
use super::wire::BusError;
use crate::units::Unit;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::task::AbortHandle;
use zbus::Connection;
use zbus::export::futures_core::Stream;
use zbus::fdo::DBusProxy;
use zbus::names::{BusName, OwnedUniqueName};

/// How many units are rehearsed at once.
const MOST: usize = 64;

#[derive(Debug)]
struct Rehearsal {
    by: OwnedUniqueName,
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
    pub(super) async fn begin(&self, unit: Unit, by: OwnedUniqueName, connection: &Connection) -> Result<(), BusError> {
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
            if held.len() >= MOST {
                return Err(BusError::Busy(format!("{MOST} units are being rehearsed already")));
            }
            let (kept, orders, left) = (Arc::clone(&self.held), self.orders.clone(), unit.clone());
            let watch = tokio::spawn(async move {
                {
                    let mut leaving = pin!(leaving);
                    // A change of its owner is the end of a unique name; without a bus there are no names.
                    let _ = poll_fn(|context| leaving.as_mut().poll_next(context)).await;
                }
                if lock(&kept).remove(&left).is_some() {
                    // A loop that stops needs no order.
                    let _ = orders.give(Order::EndRehearsal(left)).await;
                }
            });
            held.insert(unit.clone(), Rehearsal { by, watch: watch.abort_handle() });
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

fn lock(held: &Held) -> MutexGuard<'_, BTreeMap<Unit, Rehearsal>> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}
