//! The connections that receive `IncidentSeen` signals.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use zbus::Connection;
use zbus::fdo::DBusProxy;
use zbus::names::{BusName, OwnedUniqueName};

use super::access::Access;
use super::wire::BusError;
use crate::units::Manager;

/// The most subscribers of all users, and of one user.
const MAX_SUBSCRIBERS: usize = 256;
const MAX_SUBSCRIBERS_PER_UID: usize = 16;

/// A connection that called `Subscribe`.
#[derive(Debug)]
pub(super) struct Subscriber {
    pub(super) name: OwnedUniqueName,
    pub(super) uid: u32,
    pub(super) access: Access,
}

/// The subscribers, shared by the service and the sender of signals.
#[derive(Debug, Clone, Default)]
pub(super) struct Subscribers(Arc<Mutex<Vec<Subscriber>>>);

impl Subscribers {
    /// Adds a subscriber. It replaces an earlier subscriber of the same connection.
    ///
    /// # Errors
    /// There are too many.
    pub(super) fn add(&self, subscriber: Subscriber) -> Result<(), BusError> {
        self.remove(&subscriber.name);
        let mut all = self.lock();
        let own = all.iter().filter(|other| other.uid == subscriber.uid).count();
        if all.len() >= MAX_SUBSCRIBERS || own >= MAX_SUBSCRIBERS_PER_UID {
            return Err(BusError::Busy("there are too many subscribers".to_owned()));
        }
        all.push(subscriber);
        Ok(())
    }

    /// Removes the subscriber of a connection.
    pub(super) fn remove(&self, name: &OwnedUniqueName) {
        self.lock().retain(|subscriber| subscriber.name != *name);
    }

    /// Removes subscribers that have left the bus. The bus never gives a unique name twice.
    pub(super) async fn remove_departed(&self, connection: &Connection) -> Result<(), BusError> {
        let bus = DBusProxy::new(connection).await?;
        for name in self.names(|_| true) {
            if !bus.name_has_owner(BusName::from(&name)).await.map_err(zbus::Error::from)? {
                self.remove(&name);
            }
        }
        Ok(())
    }

    /// Returns the connections that may read incidents of a manager's units; `None` stands for processes of no known
    /// unit.
    pub(super) fn readers_of(&self, manager: Option<Manager>) -> Vec<OwnedUniqueName> {
        self.names(|access| access.permits(manager))
    }

    fn names(&self, permits: impl Fn(Access) -> bool) -> Vec<OwnedUniqueName> {
        let all = self.lock();
        let such = all.iter().filter(|subscriber| permits(subscriber.access));
        such.map(|subscriber| subscriber.name.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Subscriber>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
