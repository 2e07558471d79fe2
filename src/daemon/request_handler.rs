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
    let pipeline = attributor.pipeline_mut();
    let mut changed = Vec::new();
    match &request.request {
        ClientRequest::BeginRehearsal(unit) => {
            tracing::info!("{} is rehearsed: its logged calls raise no alerts", unit.name);
            pipeline.begin_rehearsal(unit.clone(), now_millis());
        }
        ClientRequest::EndRehearsal(unit) => {
            tracing::info!("{} is no longer rehearsed", unit.name);
            pipeline.end_rehearsal(unit, now_millis());
        }
        ClientRequest::AddIncidents(incidents) => {
            changed.extend(incidents.iter().map(|incident| pipeline.add_incident(incident.clone())));
        }
        ClientRequest::AnnounceDemonstration(_) | ClientRequest::Forget(_) => {}
    }
    if let ClientRequest::AnnounceDemonstration(pid) = request.request {
        // The process acts once the client has its answer.
        attributor.announce_demonstration(pid, Instant::now());
    }
    if let ClientRequest::Forget(forget) = request.finish() {
        storage.forget(attributor.fold_mut(), forget);
    }
    changed
}
