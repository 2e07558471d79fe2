//! The rehearsals under way: one client at a time for each unit, until the client ends it or leaves the bus.

use super::client_requests::{ClientRequest, RequestQueue};
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

/// The most units that users other than root rehearse at once, and the most of one user.
const MOST: usize = 64;
const MOST_OF_ONE: usize = 8;

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
            if !has_room(active.values().map(|rehearsal| rehearsal.uid), uid) {
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

/// Whether a user may begin a rehearsal, given the users of those under way. Root always may.
fn has_room(active: impl Iterator<Item = u32>, uid: u32) -> bool {
    let users: Vec<u32> = active.filter(|other| *other != 0).collect();
    uid == 0 || (users.len() < MOST && users.iter().filter(|other| **other == uid).count() < MOST_OF_ONE)
}

fn lock(active: &SharedRehearsals) -> MutexGuard<'_, BTreeMap<Unit, ActiveRehearsal>> {
    active.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_at_limit_leaves_room_for_other_users_and_root() {
        let by = |uid, count| std::iter::repeat_n(uid, count);
        assert!(has_room(by(1000, MOST_OF_ONE - 1), 1000));
        assert!(!has_room(by(1000, MOST_OF_ONE), 1000));
        assert!(has_room(by(1000, MOST_OF_ONE), 1001));
        assert!(!has_room(by(1000, MOST), 1001), "all users together");
        assert!(has_room(by(1000, MOST), 0) && has_room(by(0, MOST_OF_ONE), 0), "root always may");
        assert!(has_room(by(0, MOST), 1000), "root's do not count");
    }
}
