//! What happened to the caller, in words.

use crate::audit::Action;
use crate::incidents::{Incident, SightingSource};
use crate::policy::Effect;
use std::borrow::Cow;

/// What happened to the caller, in words that complete "the process …".
#[must_use]
pub fn outcome(incident: &Incident) -> Cow<'static, str> {
    let Some(denial) = incident.denial() else { return "was killed by SIGSYS".into() };
    match incident.key.source {
        SightingSource::Tap { errno: 0 } => return "was told that the call succeeded, and it was not made".into(),
        SightingSource::Tap { errno } => return format!("got {} from the call", Effect::Errno(errno)).into(),
        SightingSource::Rehearsal => return "was let through, as its unit was rehearsed".into(),
        SightingSource::Audit => {}
    }
    let words = match denial.action {
        Action::KillProcess | Action::Kill => "was killed by SIGSYS",
        Action::KillThread => "lost a thread to SIGSYS",
        Action::Trap => "was sent SIGSYS",
        Action::Errno => "got an error from the call",
        Action::UserNotif => "had to wait for a supervisor's decision",
        Action::Trace => "was stopped for its tracer",
        Action::Log => "was logged, and the call was made",
        Action::Other(_) => "met an action this version does not know",
    };
    words.into()
}
