//! The client's side of `org.hardenwhy1`.

use super::wire::{BusError, IncidentDict, Status, UnitDict};

/// The daemon, as its clients see it.
#[zbus::proxy(
    interface = "org.hardenwhy1.Manager",
    default_service = "org.hardenwhy1",
    default_path = "/org/hardenwhy1"
)]
pub trait HardenWhy {
    /// Units with incidents since a moment (milliseconds since the epoch, 0 for all), newest first.
    async fn list_units(&self, since: i64) -> Result<Vec<UnitDict>, BusError>;

    /// Incidents, newest first; an empty unit or manager means any that one may read.
    async fn list_incidents(
        &self,
        unit: &str,
        manager: &str,
        since: i64,
        offset: u32,
        limit: u32,
    ) -> Result<Vec<IncidentDict>, BusError>;

    /// How well the daemon hears.
    async fn status(&self) -> Result<Status, BusError>;

    /// Asks for `IncidentSeen` signals.
    async fn subscribe(&self) -> Result<(), BusError>;

    /// Asks for no more.
    async fn unsubscribe(&self) -> Result<(), BusError>;

    /// Takes what is logged of a unit from now on for its rehearsal's, until the end or until we leave the bus.
    async fn begin_rehearsal(&self, unit: &str, manager: &str) -> Result<(), BusError>;

    /// Ends a rehearsal of ours.
    async fn end_rehearsal(&self, unit: &str, manager: &str) -> Result<(), BusError>;

    /// Takes incidents that a tap saw, at most 500 at a time.
    async fn report(&self, incidents: &[IncidentDict]) -> Result<(), BusError>;

    /// The version of harden-whyd.
    #[zbus(property(emits_changed_signal = "const"))]
    fn version(&self) -> zbus::Result<String>;

    /// An incident as it stands after a sighting.
    #[zbus(signal)]
    fn incident_seen(&self, incident: IncidentDict) -> zbus::Result<()>;
}
