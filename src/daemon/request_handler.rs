//! The requests of clients to the daemon.

use super::attributor::Attributor;
use crate::incidents::Folded;
use crate::kernel::clock::now_millis;
use crate::outlet::client_requests::{ClientRequest, PendingRequest};

/// Handles a request and answers its client. Returns the incidents that the request changed.
#[must_use]
pub(super) fn handle_request(request: PendingRequest, attributor: &mut Attributor) -> Vec<Folded> {
    // The client already got the answer "too busy", so the request must have no effect. Only the end of a rehearsal
    // still counts.
    if request.is_abandoned() && !matches!(request.request, ClientRequest::EndRehearsal(_)) {
        return Vec::new();
    }
    let pipeline = attributor.pipeline_mut();
    let changed = match &request.request {
        ClientRequest::BeginRehearsal(unit) => {
            tracing::info!("{} is rehearsed: what is logged of it is no alert", unit.name);
            pipeline.begin_rehearsal(unit.clone(), now_millis());
            Vec::new()
        }
        ClientRequest::EndRehearsal(unit) => {
            tracing::info!("{} is no longer rehearsed", unit.name);
            pipeline.end_rehearsal(unit, now_millis());
            Vec::new()
        }
        ClientRequest::AddIncidents(incidents) => {
            incidents.iter().map(|incident| pipeline.add_incident(incident.clone())).collect()
        }
    };
    request.finish();
    changed
}
