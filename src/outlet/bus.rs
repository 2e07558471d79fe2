//! The server of `org.hardenwhy1` on D-Bus. Its clients use [`client`](super::client).
//!
//! Every user may call it; the caller's credentials decide what the answer holds. A signal goes to each subscriber
//! alone, since a broadcast would show every incident to every user.

use std::path::Path;

use nix::unistd::{Group, geteuid};
use tokio::task::spawn_blocking;
use zbus::Connection;
use zbus::names::BusName;
use zbus::object_server::SignalEmitter;

use super::access::{TRUSTED_GROUPS, Trust};
use super::admitted_interface::AdmittedInterface;
use super::client_requests::RequestQueue;
use super::service::{Service, StatusSource};
use super::subscribers::Subscribers;
use super::wire::{IncidentDict, NAME, PATH};
use crate::incidents::Stored;
use crate::systemd::bus_address::BusAddress;

/// Why the service could not be put on the bus.
#[derive(Debug, thiserror::Error)]
#[error("cannot offer {NAME} on the {address} bus: {why}")]
pub struct ServeError {
    address: BusAddress,
    why: zbus::Error,
}

/// The service on the bus, until this is dropped.
#[derive(Debug)]
pub struct BusServer {
    connection: Connection,
    subscribers: Subscribers,
}

/// Puts the service for the store in `dir` on a bus. Must be called in a tokio runtime.
///
/// # Errors
/// There is no such bus, or it refuses the name.
pub async fn serve(
    address: &BusAddress,
    dir: &Path,
    status: StatusSource,
    requests: RequestQueue,
) -> Result<BusServer, ServeError> {
    // The name service can be slow, and zbus must not wait for it later.
    let trust = spawn_blocking(find_trusted_users)
        .await
        .unwrap_or_else(|_| Trust { daemon: geteuid().as_raw(), groups: vec![] });
    let service = Service::new(trust, dir, status, requests);
    let subscribers = service.subscribers();
    // The defaults of zbus would take the name from its owner, and give it up to the next process that requests it.
    let builder = address.builder().allow_name_replacements(false).replace_existing_names(false);
    let built = builder.serve_at(PATH, AdmittedInterface(service)).name(NAME).build().await;
    let connection = built.map_err(|why| ServeError { address: address.clone(), why })?;
    Ok(BusServer { connection, subscribers })
}

impl BusServer {
    /// Sends an incident to the subscribers that may read it. It waits for the bus, so the path that receives records
    /// must not call it.
    ///
    /// # Errors
    /// The bus is gone. Without subscribers, it sends nothing.
    pub async fn announce(&self, stored: &Stored) -> zbus::Result<()> {
        let manager = stored.incident.key.unit.as_ref().map(|unit| unit.manager);
        for name in self.subscribers.readers_of(manager) {
            let emitter = SignalEmitter::new(&self.connection, PATH)?.set_destination(BusName::from(name));
            Service::incident_seen(&emitter, IncidentDict::from(stored)).await?;
        }
        Ok(())
    }

    /// Waits until the bus is gone.
    pub async fn closed(&self) {
        self.connection.closed().await;
    }
}

fn find_trusted_users() -> Trust {
    let gid = |name| Group::from_name(name).ok().flatten().map(|group| group.gid.as_raw());
    Trust { daemon: geteuid().as_raw(), groups: TRUSTED_GROUPS.into_iter().filter_map(gid).collect() }
}
