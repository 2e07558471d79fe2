//! Who gets to ask, and how much at once: decided from a message's header, before its arguments are read.
//!
//! zbus reads arguments before a method runs, and reads them on the thread that hears the kernel; whatever somebody
//! sends must be small by then, and of one whom the method is for.

use super::access::{Access, BusCaller, Trust};
use super::wire::BusError;
use nix::unistd::{Gid, Uid, User, getgrouplist};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::task::spawn_blocking;
use zbus::Connection;
use zbus::fdo::DBusProxy;
use zbus::message::Header;
use zbus::names::{BusName, OwnedUniqueName};

/// How many calls of one user, and of one connection, are taken at once, and how many of all users but root.
pub(crate) const MOST_OF_ONE: usize = 16;
pub(crate) const MOST: usize = 64;

/// How large the arguments of a call may be, in bytes: names of units. Those of `Report` are incidents, of some 5 KiB
/// at most each.
const MOST_BYTES: usize = 4 << 10;
const MOST_BYTES_REPORTED: usize = 4 << 20;

/// The method that takes incidents.
const REPORT: &str = "Report";

/// Who asks just now.
#[derive(Debug)]
pub(crate) struct Admission {
    trust: Trust,
    inside: Mutex<HashMap<OwnedUniqueName, ConnectionCalls>>,
}

/// The calls of one connection.
#[derive(Debug, Default)]
struct ConnectionCalls {
    calls: usize,
    /// So many of them were let in; of the others it is not known yet whose they are.
    admitted: usize,
    /// The connection's user, and what that one may read.
    caller: Option<(u32, Access)>,
}

/// A call that was let in, until this is dropped.
#[derive(Debug)]
pub(crate) struct CallPermit<'a> {
    gate: &'a Admission,
    name: OwnedUniqueName,
    admitted: bool,
}

impl Admission {
    pub(crate) fn new(trust: Trust) -> Self {
        Self { trust, inside: Mutex::default() }
    }

    /// Lets a call of a method in that has so many bytes of arguments.
    ///
    /// # Errors
    /// It is too large, its caller has too many under way, or the method is not for that one.
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
        // By its connection at first: whose that is takes a question to the bus.
        let mut pass = self.begin(sender(header)?)?;
        let caller @ (uid, _) = match self.caller(&pass.name) {
            Ok(caller) => caller,
            Err(_) => self.look_up(&pass.name, connection).await?,
        };
        self.admit(&mut pass, caller)?;
        if method == REPORT && uid != 0 {
            return Err(BusError::AccessDenied("only root may report what a tap saw".to_owned()));
        }
        Ok(pass)
    }

    /// The uid of one who was let in, and what it may read.
    ///
    /// # Errors
    /// Nobody of that name was.
    pub(crate) fn caller(&self, name: &OwnedUniqueName) -> Result<(u32, Access), BusError> {
        self.lock().get(name).and_then(|inside| inside.caller).ok_or_else(denied)
    }

    fn begin(&self, name: OwnedUniqueName) -> Result<CallPermit<'_>, BusError> {
        let mut all = self.lock();
        let inside = all.entry(name.clone()).or_default();
        if inside.calls >= MOST_OF_ONE {
            return Err(busy());
        }
        inside.calls += 1;
        Ok(CallPermit { gate: self, name, admitted: false })
    }

    fn admit(&self, pass: &mut CallPermit<'_>, caller: (u32, Access)) -> Result<(), BusError> {
        let mut all = self.lock();
        let admitted = all.values().filter_map(|inside| Some((inside.caller?.0, inside.admitted)));
        let room = has_room(admitted, caller.0);
        if let Some(inside) = all.get_mut(&pass.name) {
            inside.caller = Some(caller);
            if room {
                inside.admitted += 1;
                pass.admitted = true;
                return Ok(());
            }
        }
        Err(busy())
    }

    /// Asks the bus for a connection's uid and groups.
    async fn look_up(&self, name: &OwnedUniqueName, connection: &Connection) -> Result<(u32, Access), BusError> {
        let bus = DBusProxy::new(connection).await?;
        let credentials = bus.get_connection_credentials(BusName::from(name)).await.map_err(zbus::Error::from)?;
        let uid = credentials.unix_user_id().ok_or_else(denied)?;
        let groups = match credentials.into_unix_group_ids() {
            Some(groups) => groups,
            // A bus too old to know them: the groups of its account.
            None => spawn_blocking(move || account_groups(uid)).await.unwrap_or_default(),
        };
        Ok((uid, Access::from_caller(&BusCaller { uid, groups }, &self.trust)))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<OwnedUniqueName, ConnectionCalls>> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for CallPermit<'_> {
    fn drop(&mut self) {
        let mut all = self.gate.lock();
        if let Some(inside) = all.get_mut(&self.name) {
            inside.calls -= 1;
            inside.admitted -= usize::from(self.admitted);
            if inside.calls == 0 {
                all.remove(&self.name);
            }
        }
    }
}

/// Whether a call of a user has room beside so many of each of these. Nobody keeps root from asking.
fn has_room(admitted: impl Iterator<Item = (u32, usize)>, uid: u32) -> bool {
    let (mut own, mut users) = (0, 0);
    for (of, calls) in admitted {
        own += if of == uid { calls } else { 0 };
        users += if of == 0 { 0 } else { calls };
    }
    own < MOST_OF_ONE && (uid == 0 || users < MOST)
}

/// Who sent a message. The bus vouches for it; without one we do not know whom we talk to.
pub(crate) fn sender(header: &Header<'_>) -> Result<OwnedUniqueName, BusError> {
    header.sender().map(|name| name.to_owned().into()).ok_or_else(denied)
}

pub(crate) fn denied() -> BusError {
    BusError::AccessDenied("only root and the members of adm, systemd-journal or wheel may read that".to_owned())
}

pub(crate) fn busy() -> BusError {
    BusError::Busy("too many questions at once, try again".to_owned())
}

/// The groups of a uid's account; none where there is no such account.
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

    /// A call of a user's connection, let in if there is room.
    fn call(gate: &Admission, number: usize, uid: u32) -> Option<CallPermit<'_>> {
        let mut pass = gate.begin(name(number)).ok()?;
        gate.admit(&mut pass, (uid, Access::Own(uid))).ok()?;
        Some(pass)
    }

    #[test]
    fn the_account_of_root_has_its_group() {
        assert!(account_groups(0).contains(&0));
        assert!(account_groups(u32::MAX - 1).is_empty());
    }

    #[test]
    fn one_connection_and_one_user_have_a_most() {
        let gate = gate();
        let mut inside: Vec<_> = (0..MOST_OF_ONE).map(|_| call(&gate, 1, 1000).unwrap()).collect();
        assert!(call(&gate, 1, 1000).is_none() && call(&gate, 2, 1000).is_none());
        let other = call(&gate, 3, 1001);
        assert!(other.is_some() && gate.caller(&name(2)).is_err());
        inside.pop();
        assert!(call(&gate, 2, 1000).is_some());
        drop((inside, other));
        assert!(gate.lock().is_empty(), "who has left is forgotten");
    }

    #[test]
    fn all_users_together_leave_room_for_root() {
        let gate = gate();
        let of = |uid: u32| {
            let calls = (0..MOST_OF_ONE).filter_map(|_| call(&gate, uid as usize, uid));
            calls.collect::<Vec<_>>()
        };
        let users: Vec<_> = (1..10).flat_map(of).collect();
        assert_eq!(users.len(), MOST);
        assert_eq!(of(0).len(), MOST_OF_ONE);
    }

    #[test]
    fn calls_whose_caller_is_not_known_yet_take_nobodys_room() {
        let gate = gate();
        let _unknown: Vec<_> = (0..100).map(|number| gate.begin(name(number)).unwrap()).collect();
        assert!(call(&gate, 100, 1000).is_some());
    }
}
