//! Describes what an action did to the process, for answers and alerts.

use super::access::AccessDenial;
use super::access_words::describe_access_denial;
use super::incident::{Denial, Incident, IncidentEvent, SightingSource};
use crate::audit::Action;
use crate::policy::Effect;
use std::borrow::Cow;

/// The phrases for one action.
struct ActionWords {
    /// Completes "the process …".
    outcome: &'static str,
    /// Completes "/usr/bin/x …": the words before the call's name, and those after it.
    with_call: (&'static str, &'static str),
}

impl ActionWords {
    fn new(action: Action) -> Self {
        let (outcome, with_call) = match action {
            Action::KillProcess | Action::Kill => ("was killed by SIGSYS", ("was killed by SIGSYS for calling", "")),
            Action::KillThread => ("lost a thread to SIGSYS", ("had a thread killed by SIGSYS for calling", "")),
            Action::Trap => ("was sent SIGSYS", ("was sent SIGSYS for calling", "")),
            Action::Errno => ("got an error from the call", ("was refused the call", "")),
            Action::UserNotif => ("waited for a supervisor's decision", ("had the call", " put before its supervisor")),
            Action::Trace => ("was stopped for its tracer", ("had the call", " put before its tracer")),
            Action::Log => ("was logged, and the call was made", ("made the call", ", which a filter logs and allows")),
            Action::Other(_) => {
                ("met an action this version does not know", ("had the call", " answered by a filter with code "))
            }
        };
        Self { outcome, with_call }
    }
}

/// Returns what happened to the process, in words that complete "the process …".
#[must_use]
pub fn describe_outcome(incident: &Incident) -> Cow<'static, str> {
    if let Some(AccessDenial { errno, .. }) = incident.access() {
        return match *errno {
            0 => "ran without the rights of the file".into(),
            errno => format!("got {} from the call", Effect::Errno(errno)).into(),
        };
    }
    let Some(denial) = incident.denial() else { return "was killed by SIGSYS".into() };
    match incident.key.source {
        SightingSource::Tap { errno: 0 } => "got success from the call, though the kernel did not make it".into(),
        SightingSource::Tap { errno } | SightingSource::Strace { errno, .. } => {
            format!("got {} from the call", Effect::Errno(errno)).into()
        }
        SightingSource::Rehearsal => "made the call, unblocked by a rehearsal".into(),
        SightingSource::Audit | SightingSource::Log => ActionWords::new(denial.action).outcome.into(),
    }
}

/// Returns what happened in a few words that follow the call's name. `effect` is what the unit's settings do to the call,
/// if they deny it.
pub(crate) fn describe_briefly(incident: &Incident, effect: Option<Effect>) -> String {
    let fails = |effect: Effect| format!("failed with {effect}");
    if let Some(denial) = incident.access() {
        return describe_access_denial(denial);
    }
    let Some(denial) = incident.denial() else { return "process killed (SIGSYS), call unknown".to_owned() };
    match incident.key.source {
        SightingSource::Tap { errno: 0 } => return "answered, and not made".to_owned(),
        SightingSource::Tap { errno } | SightingSource::Strace { errno, .. } => {
            return format!("denied, {}", fails(Effect::Errno(errno)));
        }
        SightingSource::Rehearsal => return "would be denied, seen in a rehearsal".to_owned(),
        SightingSource::Audit | SightingSource::Log => {}
    }
    match (denial.action, effect) {
        (Action::KillProcess | Action::Kill, _) => "denied, process killed (SIGSYS)".to_owned(),
        (Action::KillThread, _) => "denied, a thread was killed (SIGSYS)".to_owned(),
        (Action::Trap, _) => "denied, SIGSYS sent to the process".to_owned(),
        (Action::Errno, Some(effect @ Effect::Errno(_))) => format!("denied, {}", fails(effect)),
        (Action::Errno, _) => "denied, failed with an error".to_owned(),
        (Action::UserNotif, _) => "put before a supervisor".to_owned(),
        (Action::Trace, _) => "put before a tracer".to_owned(),
        (Action::Log, _) => "logged, and allowed".to_owned(),
        (Action::Other(_), _) => "met an action unknown to this version".to_owned(),
    }
}

/// Returns what happened, in words that follow the call's name in a headline.
pub(crate) fn describe_headline(incident: &Incident) -> String {
    if let Some(denial) = incident.access() {
        return describe_access_denial(denial);
    }
    match incident.denial() {
        None if incident.key.source == SightingSource::Log => {
            "killed the process; the log has no record of it".to_owned()
        }
        None => "killed the process, and the kernel sent no record".to_owned(),
        Some(denial) if denial.action == Action::Log && incident.key.source == SightingSource::Audit => {
            "the call was logged, and made".to_owned()
        }
        Some(_) => format!("the process {}", describe_outcome(incident)),
    }
}

/// Returns what happened, in words that follow the program's name; `call` is the call's name.
pub(crate) fn describe_event(event: &IncidentEvent, call: &str) -> String {
    let action = match event {
        IncidentEvent::Denial(Denial { action, .. }) => action,
        IncidentEvent::Access(denial) => return format!("called {call}, which {}", describe_access_denial(denial)),
        IncidentEvent::UnrecordedDeath => return "was killed by SIGSYS without a record".to_owned(),
    };
    let (before, after) = ActionWords::new(*action).with_call;
    match action {
        Action::Other(code) => format!("{before} {call}{after}{code:#x}"),
        _ => format!("{before} {call}{after}"),
    }
}
