//! The connections that receive `IncidentSeen` signals.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use zbus::Connection;
use zbus::fdo::DBusProxy;
use zbus::names::{BusName, OwnedUniqueName};

use super::access::CallerAccess;
use super::wire::BusError;
use crate::incidents::FairQueue;
use crate::units::Manager;

/// The most subscribers of all users except root, of one of them, and of root.
const MAX_SUBSCRIBERS: usize = 256;
const MAX_SUBSCRIBERS_PER_UID: usize = 16;
const MAX_SUBSCRIBERS_OF_ROOT: usize = 64;

/// A connection that called `Subscribe`.
#[derive(Debug)]
pub(super) struct Subscriber {
    pub(super) name: OwnedUniqueName,
    pub(super) uid: u32,
    pub(super) access: CallerAccess,
}

/// The subscribers, shared by the service and the sender of signals.
#[derive(Debug, Clone)]
pub(super) struct Subscribers(Arc<Mutex<Places>>);

/// The places of subscribers. If those of users are taken, the user with the most loses one.
#[derive(Debug)]
struct Places {
    of_root: Vec<Subscriber>,
    of_users: FairQueue<u32, Subscriber>,
}

impl Default for Subscribers {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Places { of_root: Vec::new(), of_users: FairQueue::new(MAX_SUBSCRIBERS) })))
    }
}

impl Subscribers {
    /// Adds a subscriber. It replaces an earlier subscriber of the same connection.
    ///
    /// # Errors
    /// Its user has too many. Subscribers of others are no reason.
    pub(super) fn add(&self, subscriber: Subscriber) -> Result<(), BusError> {
        self.remove(&subscriber.name);
        let mut all = self.lock();
        let is_root = subscriber.uid == 0;
        let most = if is_root { MAX_SUBSCRIBERS_OF_ROOT } else { MAX_SUBSCRIBERS_PER_UID };
        if all.iter().filter(|other| other.uid == subscriber.uid).count() >= most {
            return Err(BusError::Busy("there are too many subscribers".to_owned()));
        }
        if is_root {
            all.of_root.push(subscriber);
        } else if let Some(Subscriber { uid, .. }) = all.of_users.push(subscriber.uid, subscriber) {
            tracing::warn!("there are too many subscribers: uid {uid}, which has the most, loses one");
        }
        Ok(())
    }

    /// Removes the subscriber of a connection.
    pub(super) fn remove(&self, name: &OwnedUniqueName) {
        let mut all = self.lock();
        all.of_root.retain(|subscriber| subscriber.name != *name);
        all.of_users.retain(|subscriber| subscriber.name != *name);
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

    fn names(&self, permits: impl Fn(CallerAccess) -> bool) -> Vec<OwnedUniqueName> {
        let all = self.lock();
        let such = all.iter().filter(|subscriber| permits(subscriber.access));
        such.map(|subscriber| subscriber.name.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Places> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Places {
    fn iter(&self) -> impl Iterator<Item = &Subscriber> {
        self.of_root.iter().chain(self.of_users.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscriber(number: usize, uid: u32) -> Subscriber {
        let name = format!(":1.{number}").as_str().try_into().unwrap();
        let access = if uid == 0 { CallerAccess::Everything } else { CallerAccess::Own(uid) };
        Subscriber { name, uid, access }
    }

    #[test]
    fn subscribers_of_one_user_are_limited() {
        let all = Subscribers::default();
        let added = (0..100).filter(|number| all.add(subscriber(*number, 7)).is_ok()).count();
        assert_eq!(added, MAX_SUBSCRIBERS_PER_UID);
    }

    #[test]
    fn subscribers_of_others_refuse_neither_root_nor_another_user() {
        let all = Subscribers::default();
        let mut number = 0;
        let mut add = |uid| {
            number += 1;
            all.add(subscriber(number, uid)).is_ok()
        };
        for uid in 1..=20 {
            assert!((0..MAX_SUBSCRIBERS_PER_UID).all(|_| add(uid)), "uid {uid}");
        }
        assert!((0..MAX_SUBSCRIBERS_OF_ROOT).all(|_| add(0)) && !add(0));
        assert!(add(1_000), "a user without subscribers");
        let own = |uid| all.lock().iter().filter(|subscriber| subscriber.uid == uid).count();
        assert_eq!((own(0), own(1_000)), (MAX_SUBSCRIBERS_OF_ROOT, 1));
        assert_eq!((1..=1_000).map(own).sum::<usize>(), MAX_SUBSCRIBERS);
    }
}
