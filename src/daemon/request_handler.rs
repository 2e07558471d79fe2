//! The requests of clients to the daemon.

use super::attributor::Attributor;
use super::storage::Storage;
use crate::incidents::Folded;
use crate::kernel::clock::now_millis;
use crate::outlet::client_requests::{ClientRequest, PendingRequest};
use std::time::Instant;

/// Handles a request and answers its client. Returns the incidents that the request changed.
#[must_use]
pub(super) fn handle_request(
    request: PendingRequest,
    attributor: &mut Attributor,
    storage: &mut Storage,
) -> Vec<Folded> {
    // The client already got the answer "too busy", so the request must have no effect. Only the end of a rehearsal
    // still counts.
    if request.is_abandoned() && !matches!(request.request, ClientRequest::EndRehearsal(_)) {
        return Vec::new();
    }
    let (request, confirmation) = request.split();
    let mut changed = Vec::new();
    match request {
        ClientRequest::BeginRehearsal(unit) => {
            tracing::info!("{} is rehearsed: its logged calls raise no alerts", unit.name);
            attributor.pipeline_mut().begin_rehearsal(unit, now_millis());
        }
        ClientRequest::EndRehearsal(unit) => {
            tracing::info!("{} is no longer rehearsed", unit.name);
            attributor.pipeline_mut().end_rehearsal(&unit, now_millis());
        }
        ClientRequest::AddIncidents(incidents) => {
            let pipeline = attributor.pipeline_mut();
            changed.extend(incidents.into_iter().map(|incident| pipeline.add_incident(incident)));
        }
        // The process acts once the client has its answer.
        ClientRequest::AnnounceDemonstration(pid) => attributor.announce_demonstration(pid, Instant::now()),
        ClientRequest::Forget(forget) => storage.forget(forget),
    }
    confirmation.send();
    changed
}
