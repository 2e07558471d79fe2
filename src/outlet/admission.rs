//! Admits calls of the D-Bus interface by the message's header, before its arguments are read.
//!
//! zbus reads arguments before a method runs, on the thread that receives records from the kernel. So arguments must be
//! small by then, and come from a user who may call the method.

use super::access::{BusCaller, CallerAccess, Trust};
use super::user_room::UserRoom;
use super::wire::BusError;
use nix::unistd::{Gid, Uid, User, getgrouplist};
use std::collections::HashMap;
use std::io;
use std::os::fd::AsFd as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::task::spawn_blocking;
use zbus::Connection;
use zbus::fdo::DBusProxy;
use zbus::message::Header;
use zbus::names::{BusName, OwnedUniqueName};

/// The most calls at once of one connection, and of one user except root.
const MOST_OF_ONE: usize = 16;

/// The limits on calls at once.
const ROOM: UserRoom = UserRoom { of_one: MOST_OF_ONE, of_all: 64 };

/// The largest arguments of a call, in bytes: they are names of units. The arguments of `Report` are incidents of up to
/// some 5 KiB each.
const MOST_BYTES: usize = 4 << 10;
const MOST_BYTES_REPORTED: usize = 4 << 20;

/// The method that receives incidents.
const REPORT: &str = "Report";

/// The calls under way.
#[derive(Debug)]
pub(crate) struct Admission {
    trust: Trust,
    connections: Mutex<HashMap<OwnedUniqueName, ConnectionCalls>>,
}

/// The calls of one connection.
#[derive(Debug, Default)]
struct ConnectionCalls {
    calls: usize,
    /// The admitted calls; the user of the others is unknown yet.
    admitted: usize,
    /// The connection's user, and what the user may read.
    caller: Option<(u32, CallerAccess)>,
}

/// A call under way: it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct CallPermit<'a> {
    admission: &'a Admission,
    name: OwnedUniqueName,
    admitted: bool,
}

impl Admission {
    pub(crate) fn new(trust: Trust) -> Self {
        Self { trust, connections: Mutex::default() }
    }

    /// Admits a call of a method with so many bytes of arguments.
    ///
    /// # Errors
    /// The arguments are too large, or the caller has too many calls under way or may not call the method.
    pub(crate) async fn enter(
        &self,
        method: &str,
        bytes: usize,
        header: &Header<'_>,
        connection: &Connection,
    ) -> Result<CallPermit<'_>, BusError> {
        let most = if method == REPORT { MOST_BYTES_REPORTED } else { MOST_BYTES };
        if bytes > most {
            return Err(BusError::InvalidArgument(format!("{method} takes at most {most} bytes of arguments")));
        }
        // The call counts for its connection first, because only a query to the bus shows the connection's user.
        let mut permit = self.begin(sender(header)?)?;
        let caller @ (uid, _) = match self.caller(&permit.name) {
            Ok(caller) => caller,
            Err(_) => self.look_up(&permit.name, connection).await?,
        };
        self.admit(&mut permit, caller)?;
        if method == REPORT && uid != 0 {
            return Err(BusError::AccessDenied("only root may report what a tap saw".to_owned()));
        }
        Ok(permit)
    }

    /// Returns the uid of an admitted connection, and what it may read.
    ///
    /// # Errors
    /// No call of the connection was admitted.
    pub(crate) fn caller(&self, name: &OwnedUniqueName) -> Result<(u32, CallerAccess), BusError> {
        self.lock().get(name).and_then(|calls| calls.caller).ok_or_else(denied)
    }

    fn begin(&self, name: OwnedUniqueName) -> Result<CallPermit<'_>, BusError> {
        let mut all = self.lock();
        let calls = all.entry(name.clone()).or_default();
        if calls.calls >= MOST_OF_ONE {
            return Err(busy());
        }
        calls.calls += 1;
        Ok(CallPermit { admission: self, name, admitted: false })
    }

    fn admit(&self, permit: &mut CallPermit<'_>, caller: (u32, CallerAccess)) -> Result<(), BusError> {
        let mut all = self.lock();
        let admitted = all.values().filter_map(|calls| Some((calls.caller?.0, calls.admitted)));
        let has_room = ROOM.is_left(admitted, caller.0);
        if let Some(calls) = all.get_mut(&permit.name) {
            calls.caller = Some(caller);
            if has_room {
                calls.admitted += 1;
                permit.admitted = true;
                return Ok(());
            }
        }
        Err(busy())
    }

    /// Asks the bus for a connection's uid and groups.
    async fn look_up(&self, name: &OwnedUniqueName, connection: &Connection) -> Result<(u32, CallerAccess), BusError> {
        // dbus 1.16 adds a descriptor of the process, and zbus closes a connection without room for one.
        let room = io::stderr().as_fd().try_clone_to_owned();
        drop(room.map_err(|error| zbus::Error::InputOutput(error.into()))?);
        let bus = DBusProxy::new(connection).await?;
        let credentials = bus.get_connection_credentials(BusName::from(name)).await.map_err(zbus::Error::from)?;
        let uid = credentials.unix_user_id().ok_or_else(denied)?;
        let groups = match credentials.into_unix_group_ids() {
            Some(groups) => groups,
            // An old bus does not report groups: these are the groups of the account.
            None => spawn_blocking(move || account_groups(uid)).await.unwrap_or_default(),
        };
        Ok((uid, CallerAccess::from_caller(&BusCaller { uid, groups }, &self.trust)))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<OwnedUniqueName, ConnectionCalls>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for CallPermit<'_> {
    fn drop(&mut self) {
        let mut all = self.admission.lock();
        if let Some(calls) = all.get_mut(&self.name) {
            calls.calls -= 1;
            calls.admitted -= usize::from(self.admitted);
            if calls.calls == 0 {
                all.remove(&self.name);
            }
        }
    }
}

/// Returns the sender of a message, as the bus guarantees it. A message without a sender is an error.
pub(crate) fn sender(header: &Header<'_>) -> Result<OwnedUniqueName, BusError> {
    header.sender().map(|name| name.to_owned().into()).ok_or_else(denied)
}

pub(crate) fn denied() -> BusError {
    BusError::AccessDenied("only root and members of adm, systemd-journal or wheel may read these incidents".to_owned())
}

pub(crate) fn busy() -> BusError {
    BusError::Busy("too many calls at once, try again".to_owned())
}

/// Returns the groups of a uid's account; none if there is no such account.
fn account_groups(uid: u32) -> Vec<u32> {
    let Ok(Some(user)) = User::from_uid(Uid::from_raw(uid)) else { return vec![] };
    let Ok(name) = std::ffi::CString::new(user.name) else { return vec![] };
    getgrouplist(&name, user.gid).unwrap_or_default().into_iter().map(Gid::as_raw).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate() -> Admission {
        Admission::new(Trust { daemon: 0, groups: vec![] })
    }

    fn name(number: usize) -> OwnedUniqueName {
        format!(":1.{number}").as_str().try_into().unwrap()
    }

    /// Begins a call of a user's connection, if there is room.
    fn call(gate: &Admission, number: usize, uid: u32) -> Option<CallPermit<'_>> {
        let mut permit = gate.begin(name(number)).ok()?;
        gate.admit(&mut permit, (uid, CallerAccess::Own(uid))).ok()?;
        Some(permit)
    }

    #[test]
    fn account_of_root_has_group_of_root() {
        assert!(account_groups(0).contains(&0));
        assert!(account_groups(u32::MAX - 1).is_empty());
    }

    #[test]
    fn calls_of_one_connection_and_of_one_user_are_limited() {
        let gate = gate();
        let mut calls: Vec<_> = (0..MOST_OF_ONE).map(|_| call(&gate, 1, 1000).unwrap()).collect();
        assert!(call(&gate, 1, 1000).is_none() && call(&gate, 2, 1000).is_none());
        let other = call(&gate, 3, 1001);
        assert!(other.is_some() && gate.caller(&name(2)).is_err());
        calls.pop();
        assert!(call(&gate, 2, 1000).is_some());
        drop((calls, other));
        assert!(gate.lock().is_empty(), "connections without calls are forgotten");
    }

    #[test]
    fn calls_of_all_users_leave_room_for_root() {
        let gate = gate();
        let fill = |uid: u32| {
            let calls = (0..MOST_OF_ONE).filter_map(|_| call(&gate, uid as usize, uid));
            calls.collect::<Vec<_>>()
        };
        let users: Vec<_> = (1..10).flat_map(fill).collect();
        assert_eq!(users.len(), ROOM.of_all);
        assert_eq!(fill(0).len(), MOST_OF_ONE);
    }

    #[test]
    fn calls_of_unknown_users_take_no_room_of_others() {
        let gate = gate();
        let _unknown: Vec<_> = (0..100).map(|number| gate.begin(name(number)).unwrap()).collect();
        assert!(call(&gate, 100, 1000).is_some());
    }
}
