//! The methods and signals of `org.hardenwhy1`, for callers that were admitted.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use zbus::Connection;
use zbus::message::Header;
use zbus::object_server::SignalEmitter;

use super::access::Trust;
use super::admission::{Admission, busy, denied, sender};
use super::client_requests::{ClientRequest, RequestQueue};
use super::rehearsals::RehearsalRegistry;
use super::subscribers::{Subscriber, Subscribers};
use super::wire::{BusError, IncidentDict, MAX_INCIDENTS, MAX_UNITS, NO_MANAGER, Reported, Status, UnitDict};
use crate::incidents::{Incident, Query, SightingSource, Store, StoreError, Stored};
use crate::units::{BadManager, Manager, Unit};

/// How many calls read the store at once, each in a thread.
const READERS: usize = 2;
/// A function that returns the daemon's status. It may read `/proc`, at most once a second.
pub type StatusSource = Arc<dyn Fn() -> Status + Send + Sync>;

/// The methods of the interface.
pub(super) struct Service {
    pub(super) admission: Admission,
    dir: PathBuf,
    status: StatusSource,
    subscribers: Subscribers,
    readers: Arc<Semaphore>,
    rehearsals: RehearsalRegistry,
    requests: RequestQueue,
}

#[zbus::interface(name = "org.hardenwhy1.Manager")]
impl Service {
    /// Returns the units with incidents since a time (milliseconds since the epoch, 0 for all), the one with the newest
    /// incident first.
    async fn list_units(&self, since: i64, #[zbus(header)] header: Header<'_>) -> Result<Vec<UnitDict>, BusError> {
        let (_, access) = self.admission.caller(&sender(&header)?)?;
        let manager = access.narrow(None).map_err(|_| denied())?;
        let query = Query { manager, since: parse_since(since), limit: Some(MAX_UNITS), ..Query::default() };
        self.read(move |store| Ok(store.units(&query)?.iter().map(UnitDict::from).collect())).await
    }

    /// Returns incidents, newest first, at most 500 at a time: of one unit or (with an empty name) of all, of one manager
    /// (`system`, `user:1000`) or (with an empty word) of all that the caller may read, or (`none`) of processes whose
    /// unit is unknown.
    async fn list_incidents(
        &self,
        unit: &str,
        manager: &str,
        since: i64,
        offset: u32,
        limit: u32,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<Vec<IncidentDict>, BusError> {
        let unit = match unit {
            "" => None,
            name => Some(name.parse().map_err(|bad| BusError::InvalidArgument(format!("{bad}")))?),
        };
        let unknown = manager == NO_MANAGER;
        let asked = match manager {
            "" | NO_MANAGER => None,
            word => Some(word.parse().map_err(|bad: BadManager| BusError::InvalidArgument(bad.to_string()))?),
        };
        let (_, access) = self.admission.caller(&sender(&header)?)?;
        let manager: Option<Manager> = access.narrow(asked).map_err(|_| denied())?;
        if unknown && !access.permits(None) {
            return Err(denied());
        }
        let limit = Some(limit.min(MAX_INCIDENTS));
        let query = Query { unknown, unit, manager, since: parse_since(since), limit, offset };
        self.read(move |store| Ok(store.incidents(&query)?.iter().map(IncidentDict::from).collect())).await
    }

    /// Returns what the daemon receives, what it has lost, and what the caller may read.
    #[expect(clippy::needless_pass_by_value, reason = "zbus hands the header over by value")]
    fn status(&self, #[zbus(header)] header: Header<'_>) -> Result<Status, BusError> {
        let (_, access) = self.admission.caller(&sender(&header)?)?;
        Ok(Status { only_manager: access.only_manager().map(|manager| manager.to_string()), ..(self.status)() })
    }

    /// Sends `IncidentSeen` signals about incidents that the caller may read, until it leaves the bus.
    async fn subscribe(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(), BusError> {
        let name = sender(&header)?;
        let (uid, access) = self.admission.caller(&sender(&header)?)?;
        self.subscribers.remove_departed(connection).await?;
        self.subscribers.add(Subscriber { name, uid, access })
    }

    /// Stops the signals.
    #[expect(clippy::needless_pass_by_value, reason = "zbus hands the header over by value")]
    fn unsubscribe(&self, #[zbus(header)] header: Header<'_>) -> Result<(), BusError> {
        self.subscribers.remove(&sender(&header)?);
        Ok(())
    }

    /// Treats what is logged of a unit as its rehearsal's, without alerts, until `EndRehearsal` or until the caller
    /// leaves the bus. Root may call it for any unit, others for units of their own manager.
    async fn begin_rehearsal(
        &self,
        unit: &str,
        manager: &str,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(), BusError> {
        let unit = parse_unit(unit, manager)?;
        let (uid, _) = self.admission.caller(&sender(&header)?)?;
        if uid != 0 && unit.manager != Manager::User(uid) {
            return Err(BusError::AccessDenied("only root and its own user may rehearse a unit".to_owned()));
        }
        self.rehearsals.begin(unit, (sender(&header)?, uid), connection).await
    }

    /// Ends the caller's rehearsal of a unit.
    async fn end_rehearsal(
        &self,
        unit: &str,
        manager: &str,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(), BusError> {
        self.rehearsals.end(parse_unit(unit, manager)?, &sender(&header)?).await
    }

    /// Stores incidents that a tap saw, at most 500 at a time, without alerts. Only root may call it.
    async fn report(&self, incidents: Reported) -> Result<(), BusError> {
        let Some(incidents) = incidents.0 else {
            return Err(BusError::InvalidArgument(format!("at most {MAX_INCIDENTS} incidents at a time")));
        };
        let read = |dict: IncidentDict| match Stored::try_from(dict) {
            Ok(Stored { incident, .. })
                if matches!(incident.key.source, SightingSource::Tap { .. }) && incident.count > 0 =>
            {
                Ok(incident)
            }
            Ok(_) => Err(BusError::InvalidArgument("an incident cannot come from a tap".to_owned())),
            Err(strange) => Err(BusError::InvalidArgument(strange.to_string())),
        };
        let incidents = incidents.into_iter().map(read).collect::<Result<Vec<Incident>, _>>()?;
        self.requests.send(ClientRequest::AddIncidents(incidents)).await
    }

    /// Deletes the incidents of a unit, or (with an empty name and the manager `none`) of processes whose unit is
    /// unknown, and returns how many it deleted. Root may call it for any unit, others for units of their own manager.
    async fn forget(&self, unit: &str, manager: &str, #[zbus(header)] header: Header<'_>) -> Result<u64, BusError> {
        let unit = match (unit, manager) {
            ("", NO_MANAGER) => None,
            _ => Some(parse_unit(unit, manager)?),
        };
        let (uid, _) = self.admission.caller(&sender(&header)?)?;
        if uid != 0 && unit.as_ref().map(|unit| unit.manager) != Some(Manager::User(uid)) {
            return Err(BusError::AccessDenied("only root and its own user may forget a unit's denials".to_owned()));
        }
        self.requests.forget(unit, uid).await
    }

    /// Makes the next denial of a process no incident: `harden-why demo` provokes it. Only root may call it.
    async fn announce_demonstration(&self, pid: u32, #[zbus(header)] header: Header<'_>) -> Result<(), BusError> {
        let (uid, _) = self.admission.caller(&sender(&header)?)?;
        if uid != 0 {
            return Err(BusError::AccessDenied("only root may announce a demonstration".to_owned()));
        }
        self.requests.send(ClientRequest::AnnounceDemonstration(pid)).await
    }

    /// Returns the version of harden-whyd.
    #[zbus(property(emits_changed_signal = "const"))]
    #[expect(clippy::unused_self, reason = "a D-Bus property is a method")]
    fn version(&self) -> &'static str {
        env!("CARGO_PKG_VERSION")
    }

    /// An incident as it is stored after a sighting, sent only to subscribers.
    #[zbus(signal)]
    pub(super) async fn incident_seen(emitter: &SignalEmitter<'_>, incident: IncidentDict) -> zbus::Result<()>;
}

impl Service {
    /// Makes the service for the store in `dir`.
    pub(super) fn new(trust: Trust, dir: &Path, status: StatusSource, requests: RequestQueue) -> Self {
        Self {
            admission: Admission::new(trust),
            dir: dir.to_owned(),
            status,
            subscribers: Subscribers::default(),
            readers: Arc::new(Semaphore::new(READERS)),
            rehearsals: RehearsalRegistry::new(requests.clone()),
            requests,
        }
    }

    /// Returns the subscribers, which every clone shares.
    pub(super) fn subscribers(&self) -> Subscribers {
        self.subscribers.clone()
    }

    /// Reads from the store in a thread of its own.
    async fn read<T, F>(&self, ask: F) -> Result<T, BusError>
    where
        T: Send + 'static,
        F: FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    {
        let permit = Arc::clone(&self.readers).acquire_owned().await.map_err(|_| busy())?;
        let dir = self.dir.clone();
        // Each call opens the store, because the daemon may have replaced a damaged file since the last call.
        let answer = spawn_blocking(move || {
            let answer = Store::open_read_only(&dir).and_then(|store| ask(&store));
            drop(permit);
            answer
        });
        match answer.await {
            Ok(Err(error @ StoreError::Missing { .. })) => Err(BusError::NoStore(error.to_string())),
            Ok(answer) => answer.map_err(|error| BusError::Store(error.to_string())),
            Err(_) => Err(BusError::Store("the store's reader stopped".to_owned())),
        }
    }
}

/// Returns the unit of two arguments.
fn parse_unit(unit: &str, manager: &str) -> Result<Unit, BusError> {
    let name = unit.parse().map_err(|bad| BusError::InvalidArgument(format!("{bad}")))?;
    let manager = manager.parse().map_err(|bad: BadManager| BusError::InvalidArgument(bad.to_string()))?;
    Ok(Unit { manager, name })
}

fn parse_since(millis: i64) -> Option<i64> {
    (millis > 0).then_some(millis)
}
