//! The rehearsals under way: one client at a time for each unit, until the client ends it or leaves the bus.

use super::client_requests::{ClientRequest, RequestQueue};
use super::user_room::UserRoom;
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

/// The limits on units that users rehearse at once.
const ROOM: UserRoom = UserRoom { of_one: 8, of_all: 64 };

/// How often, and at what interval, the end of a rehearsal is sent to a loop that is too busy.
const TRIES: u32 = 60;
const INTERVAL: Duration = Duration::from_secs(1);

/// A rehearsal under way.
#[derive(Debug)]
struct ActiveRehearsal {
    client: OwnedUniqueName,
    uid: u32,
    /// The task that waits for the client to leave the bus.
    watch: AbortHandle,
}

type SharedRehearsals = Arc<Mutex<BTreeMap<Unit, ActiveRehearsal>>>;

/// The rehearsals under way, by unit.
#[derive(Debug)]
pub(super) struct RehearsalRegistry {
    active: SharedRehearsals,
    requests: RequestQueue,
}

impl RehearsalRegistry {
    pub(super) fn new(requests: RequestQueue) -> Self {
        Self { active: SharedRehearsals::default(), requests }
    }

    /// Begins a rehearsal for a client.
    ///
    /// # Errors
    /// Another client rehearses the unit, or there are too many rehearsals.
    pub(super) async fn begin(
        &self,
        unit: Unit,
        (client, uid): (OwnedUniqueName, u32),
        connection: &Connection,
    ) -> Result<(), BusError> {
        let bus = DBusProxy::new(connection).await?;
        // Subscribe before checking that the client is on the bus, so that its departure is not missed.
        let departure = bus.receive_name_owner_changed_with_args(&[(0, client.as_str())]).await?;
        if !bus.name_has_owner(BusName::from(&client)).await.map_err(zbus::Error::from)? {
            return Ok(());
        }
        {
            let mut active = lock(&self.active);
            if active.contains_key(&unit) {
                return Err(BusError::Busy(format!("{} is being rehearsed already", unit.name)));
            }
            if !ROOM.is_left(active.values().map(|rehearsal| (rehearsal.uid, 1)), uid) {
                return Err(BusError::Busy("too many units are being rehearsed already".to_owned()));
            }
            let (shared, requests, ended) = (Arc::clone(&self.active), self.requests.clone(), unit.clone());
            let watch = tokio::spawn(async move {
                {
                    let mut departure = pin!(departure);
                    // Any change is the departure: a unique name never gets another owner, and without a bus there are
                    // no names.
                    let _ = poll_fn(|context| departure.as_mut().poll_next(context)).await;
                }
                for _ in 0..TRIES {
                    // If the loop has stopped, every try fails, and nothing is lost.
                    if requests.send(ClientRequest::EndRehearsal(ended.clone())).await.is_ok() {
                        break;
                    }
                    sleep(INTERVAL).await;
                }
                lock(&shared).remove(&ended);
            });
            active.insert(unit.clone(), ActiveRehearsal { client, uid, watch: watch.abort_handle() });
        }
        let begun = self.requests.send(ClientRequest::BeginRehearsal(unit.clone())).await;
        if begun.is_err() {
            self.remove(&unit);
        }
        begun
    }

    /// Ends a client's rehearsal of a unit.
    ///
    /// # Errors
    /// The client does not rehearse the unit.
    pub(super) async fn end(&self, unit: Unit, client: &OwnedUniqueName) -> Result<(), BusError> {
        if lock(&self.active).get(&unit).is_none_or(|rehearsal| rehearsal.client != *client) {
            return Err(BusError::InvalidArgument(format!("you do not rehearse {}", unit.name)));
        }
        self.requests.send(ClientRequest::EndRehearsal(unit.clone())).await?;
        self.remove(&unit);
        Ok(())
    }

    fn remove(&self, unit: &Unit) {
        if let Some(rehearsal) = lock(&self.active).remove(unit) {
            rehearsal.watch.abort();
        }
    }
}

fn lock(active: &SharedRehearsals) -> MutexGuard<'_, BTreeMap<Unit, ActiveRehearsal>> {
    active.lock().unwrap_or_else(PoisonError::into_inner)
}
