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

/// Questions answered at once; the store is read by so many threads.
const READERS: usize = 2;
/// How the daemon's status is asked for: called at any time, must not wait.
pub type StatusSource = Arc<dyn Fn() -> Status + Send + Sync>;

/// What is asked for, by those who were let in.
pub(super) struct Service {
    pub(super) gate: Admission,
    dir: PathBuf,
    status: StatusSource,
    subscribers: Subscribers,
    readers: Arc<Semaphore>,
    rehearsals: RehearsalRegistry,
    requests: RequestQueue,
}

#[zbus::interface(name = "org.hardenwhy1.Manager")]
impl Service {
    /// Units with incidents since a moment (milliseconds since the epoch, 0 for all), the one with
    /// the newest incident first.
    async fn list_units(&self, since: i64, #[zbus(header)] header: Header<'_>) -> Result<Vec<UnitDict>, BusError> {
        let (_, access) = self.gate.caller(&sender(&header)?)?;
        let manager = access.narrow(None).ok_or_else(denied)?;
        let query = Query { manager, since: since_of(since), limit: Some(MAX_UNITS), ..Query::default() };
        self.read(move |store| Ok(store.units(&query)?.iter().map(UnitDict::from).collect())).await
    }

    /// Incidents, newest first, at most 500 at a time: of one unit or (with an empty name) of all, of
    /// one manager (`system`, `user:1000`) or all that the caller may read, or (`none`) of processes whose unit is not
    /// known.
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
        let (_, access) = self.gate.caller(&sender(&header)?)?;
        let manager: Option<Manager> = access.narrow(asked).ok_or_else(denied)?;
        if unknown && !access.permits(None) {
            return Err(denied());
        }
        let limit = Some(limit.min(MAX_INCIDENTS));
        let query = Query { unknown, unit, manager, since: since_of(since), limit, offset };
        self.read(move |store| Ok(store.incidents(&query)?.iter().map(IncidentDict::from).collect())).await
    }

    /// How well the daemon hears.
    fn status(&self) -> Status {
        (self.status)()
    }

    /// Asks for `IncidentSeen` signals, of what the caller may read, until it leaves the bus.
    async fn subscribe(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(), BusError> {
        let name = sender(&header)?;
        let (uid, access) = self.gate.caller(&sender(&header)?)?;
        self.subscribers.remove_departed(connection).await?;
        self.subscribers.add(Subscriber { name, uid, access })
    }

    /// Asks for no more signals.
    #[expect(clippy::needless_pass_by_value, reason = "zbus hands the header over by value")]
    fn unsubscribe(&self, #[zbus(header)] header: Header<'_>) -> Result<(), BusError> {
        self.subscribers.remove(&sender(&header)?);
        Ok(())
    }

    /// Takes what is logged of a unit from now on for its rehearsal's, until `EndRehearsal` or until the caller leaves
    /// the bus: root's of any unit, others' of units of their own manager. No alerts are raised of it.
    async fn begin_rehearsal(
        &self,
        unit: &str,
        manager: &str,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(), BusError> {
        let unit = unit_of(unit, manager)?;
        let (uid, _) = self.gate.caller(&sender(&header)?)?;
        if uid != 0 && unit.manager != Manager::User(uid) {
            return Err(BusError::AccessDenied("only root and its own user may rehearse a unit".to_owned()));
        }
        self.rehearsals.begin(unit, (sender(&header)?, uid), connection).await
    }

    /// Ends a rehearsal of the caller's.
    async fn end_rehearsal(
        &self,
        unit: &str,
        manager: &str,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(), BusError> {
        self.rehearsals.end(unit_of(unit, manager)?, &sender(&header)?).await
    }

    /// Takes incidents that a tap saw, at most 500 at a time, from root alone. No alerts are raised of them.
    async fn report(&self, incidents: Reported) -> Result<(), BusError> {
        let Some(incidents) = incidents.0 else {
            return Err(BusError::InvalidArgument(format!("at most {MAX_INCIDENTS} incidents are taken at a time")));
        };
        let read = |dict: IncidentDict| match Stored::try_from(dict) {
            Ok(Stored { incident, .. })
                if matches!(incident.key.source, SightingSource::Tap { .. }) && incident.count > 0 =>
            {
                Ok(incident)
            }
            Ok(_) => Err(BusError::InvalidArgument("an incident is none that a tap saw".to_owned())),
            Err(strange) => Err(BusError::InvalidArgument(strange.to_string())),
        };
        let incidents = incidents.into_iter().map(read).collect::<Result<Vec<Incident>, _>>()?;
        self.requests.send(ClientRequest::AddIncidents(incidents)).await
    }

    /// The version of harden-whyd.
    #[zbus(property(emits_changed_signal = "const"))]
    #[expect(clippy::unused_self, reason = "a D-Bus property is a method")]
    fn version(&self) -> &'static str {
        env!("CARGO_PKG_VERSION")
    }

    /// An incident as it stands after a sighting; only to those who called Subscribe.
    #[zbus(signal)]
    pub(super) async fn incident_seen(emitter: &SignalEmitter<'_>, incident: IncidentDict) -> zbus::Result<()>;
}

impl Service {
    /// A service for the store in `dir`.
    pub(super) fn new(trust: Trust, dir: &Path, status: StatusSource, requests: RequestQueue) -> Self {
        Self {
            gate: Admission::new(trust),
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

    /// Asks the store, in a thread of its own.
    async fn read<T, F>(&self, ask: F) -> Result<T, BusError>
    where
        T: Send + 'static,
        F: FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    {
        let permit = Arc::clone(&self.readers).acquire_owned().await.map_err(|_| busy())?;
        let dir = self.dir.clone();
        // Opened anew each time: the daemon may have set a damaged file aside meanwhile.
        let answer = spawn_blocking(move || {
            let answer = Store::open_read_only(&dir).and_then(|store| ask(&store));
            drop(permit);
            answer
        });
        match answer.await {
            Ok(answer) => answer.map_err(|error| BusError::Store(error.to_string())),
            Err(_) => Err(BusError::Store("the store's reader stopped".to_owned())),
        }
    }
}

/// The unit of two arguments.
fn unit_of(unit: &str, manager: &str) -> Result<Unit, BusError> {
    let name = unit.parse().map_err(|bad| BusError::InvalidArgument(format!("{bad}")))?;
    let manager = manager.parse().map_err(|bad: BadManager| BusError::InvalidArgument(bad.to_string()))?;
    Ok(Unit { manager, name })
}

fn since_of(millis: i64) -> Option<i64> {
    (millis > 0).then_some(millis)
}
