//! The client's side of `org.hardenwhy1`.

use super::wire::{BusError, IncidentDict, NAME, Status, UnexpectedValue, UnitDict};
use crate::audit::text::escape;
use crate::systemd::bus_address::BusAddress;
use anyhow::Context as _;
use std::time::Duration;

/// A client's proxy of the daemon.
#[zbus::proxy(
    interface = "org.hardenwhy1.Manager",
    default_service = "org.hardenwhy1",
    default_path = "/org/hardenwhy1"
)]
pub trait HardenWhy {
    /// Returns the units with incidents since a time (milliseconds since the epoch, 0 for all), the newest first.
    async fn list_units(&self, since: i64) -> Result<Vec<UnitDict>, BusError>;

    /// Returns incidents, newest first; an empty unit or manager means all that the caller may read.
    async fn list_incidents(
        &self,
        unit: &str,
        manager: &str,
        since: i64,
        offset: u32,
        limit: u32,
    ) -> Result<Vec<IncidentDict>, BusError>;

    /// Returns what the daemon receives, what it has lost, and what the caller may read.
    async fn status(&self) -> Result<Status, BusError>;

    /// Starts `IncidentSeen` signals to the caller.
    async fn subscribe(&self) -> Result<(), BusError>;

    /// Stops the signals.
    async fn unsubscribe(&self) -> Result<(), BusError>;

    /// Treats the logged calls of a unit as its rehearsal's, until `EndRehearsal` or until the caller leaves the bus.
    async fn begin_rehearsal(&self, unit: &str, manager: &str) -> Result<(), BusError>;

    /// Ends the caller's rehearsal of a unit.
    async fn end_rehearsal(&self, unit: &str, manager: &str) -> Result<(), BusError>;

    /// Stores incidents that a tap saw, at most 500 at a time.
    async fn report(&self, incidents: &[IncidentDict]) -> Result<(), BusError>;

    /// Deletes the incidents of a unit, and returns how many it deleted.
    async fn forget(&self, unit: &str, manager: &str) -> Result<u64, BusError>;

    /// Makes the next denial of a process no incident; only root may call it.
    async fn announce_demonstration(&self, pid: u32) -> Result<(), BusError>;

    /// The version of harden-whyd.
    #[zbus(property(emits_changed_signal = "const"))]
    fn version(&self) -> zbus::Result<String>;

    /// An incident as it is stored after a sighting.
    #[zbus(signal)]
    fn incident_seen(&self, incident: IncidentDict) -> zbus::Result<()>;
}

/// Connects to the daemon, and waits for its first answer.
///
/// # Errors
/// There is no such bus, or the daemon is not on it.
pub(crate) async fn connect(bus: &BusAddress) -> anyhow::Result<HardenWhyProxy<'static>> {
    let answered = async {
        let connection = bus.builder().build().await.map_err(|error| explain_error(error.into()))?;
        let daemon = HardenWhyProxy::new(&connection).await.map_err(|error| explain_error(error.into()))?;
        retry_while_busy(|| daemon.status()).await.map_err(explain_error)?;
        Ok(daemon)
    };
    tokio::time::timeout(PATIENCE, answered).await.context("no answer in time")?
}

/// Announces to a running daemon that a process will provoke a denial. Does not start a daemon.
///
/// # Errors
/// No daemon runs, it refuses, or it does not answer in time.
pub(crate) async fn announce_demonstration(bus: &BusAddress, pid: u32) -> anyhow::Result<()> {
    let announce = async {
        let connection = bus.builder().build().await.map_err(|error| explain_error(error.into()))?;
        let names = zbus::fdo::DBusProxy::new(&connection).await?;
        anyhow::ensure!(names.name_has_owner(NAME.try_into()?).await?, "harden-whyd does not run");
        let daemon = HardenWhyProxy::new(&connection).await.map_err(|error| explain_error(error.into()))?;
        retry_while_busy(|| daemon.announce_demonstration(pid)).await.map_err(explain_error)
    };
    tokio::time::timeout(PATIENCE, announce).await.context("no answer in time")?
}

/// Makes a call, and repeats it for a while if the daemon is busy.
///
/// # Errors
/// Those of the call.
pub(crate) async fn retry_while_busy<T, F>(ask: impl Fn() -> F) -> Result<T, BusError>
where
    F: Future<Output = Result<T, BusError>>,
{
    for _ in 1..TRIES {
        match ask().await {
            Err(BusError::Busy(_)) => tokio::time::sleep(AGAIN).await,
            answer => return answer,
        }
    }
    ask().await
}

/// Returns a D-Bus error for a person to read, and escapes text of other processes.
pub(crate) fn explain_error(error: BusError) -> anyhow::Error {
    let why = match error {
        BusError::AccessDenied(why)
        | BusError::Busy(why)
        | BusError::InvalidArgument(why)
        | BusError::NoStore(why)
        | BusError::Store(why) => why,
        BusError::ZBus(zbus::Error::FDO(error)) if matches!(*error, zbus::fdo::Error::ServiceUnknown(_)) => {
            "it is not running".to_owned()
        }
        // The name of such an error says no more.
        BusError::ZBus(zbus::Error::MethodError(_, Some(text), _)) => text,
        BusError::ZBus(error) => error.to_string(),
    };
    anyhow::anyhow!(escape(why.as_bytes()))
}

/// Reads a dictionary of the daemon's answer.
///
/// # Errors
/// The daemon is of another version, with values that this one does not know.
pub(crate) fn read_answer<D, T: TryFrom<D, Error = UnexpectedValue>>(dict: D) -> anyhow::Result<T> {
    dict.try_into().context("cannot read harden-whyd's answer")
}

/// How often, and at what interval, a call to a busy daemon is repeated.
pub(crate) const TRIES: u32 = 20;

pub(crate) const AGAIN: Duration = Duration::from_millis(100);

/// How long a client waits for the daemon, which the bus may have to start.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn value_of_another_version_is_an_error_of_the_answer() {
        let dict = IncidentDict { evidence: Some("oracle".to_owned()), ..IncidentDict::default() };
        let error = read_answer::<_, crate::incidents::Stored>(dict).unwrap_err();
        assert_eq!(format!("{error:#}"), "cannot read harden-whyd's answer: invalid evidence");
    }

    #[tokio::test]
    async fn call_to_busy_daemon_is_repeated_and_other_errors_are_not() {
        let asked = Cell::new(0);
        let answer = |busy_until, error: fn(String) -> BusError| {
            asked.set(0);
            let asked = &asked;
            retry_while_busy(move || async move {
                asked.set(asked.get() + 1);
                if asked.get() < busy_until { Err(error("no".to_owned())) } else { Ok(7) }
            })
        };
        assert_eq!((answer(3, BusError::Busy).await.unwrap(), asked.get()), (7, 3));
        assert!(answer(3, BusError::Store).await.is_err() && asked.get() == 1);
        assert!(answer(u32::MAX, BusError::Busy).await.is_err() && asked.get() == TRIES);
    }
}
