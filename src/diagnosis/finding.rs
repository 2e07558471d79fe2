//! One incident with its cause.

use super::before_exec::is_before_exec;
use super::cause;
use super::cause::DenialCause;
use super::denied_call::DeniedCall;
use super::situation::Situation;
use crate::incidents::Incident;
use crate::syscalls::Groups;

/// One incident, explained.
#[derive(Debug)]
pub struct Finding {
    /// The incident.
    pub incident: Incident,
    /// Why it happened.
    pub cause: DenialCause,
    /// The groups that hold the call, smallest first.
    pub groups: Vec<Box<str>>,
    /// Whether systemd's own code made the call, after it loaded the filter and before it executed the program.
    pub before_exec: bool,
}

impl Finding {
    pub(super) fn new(incident: Incident, situation: Option<&Situation>, groups: &Groups) -> Self {
        Self {
            cause: cause::find_cause(&incident, situation, groups),
            groups: incident
                .denial()
                .and_then(|denial| denial.call.name())
                .map_or_else(Vec::new, |call| groups.containing(call).into_iter().map(Into::into).collect()),
            before_exec: is_before_exec(&incident),
            incident,
        }
    }

    /// Whether the program handles the error as it does on a kernel without the call, so that nothing has to change.
    #[must_use]
    pub fn needs_no_change(&self) -> bool {
        let unchanged = matches!(self.cause, DenialCause::Unit { changed: false, .. });
        unchanged && self.denied_call().is_some_and(|call| call.is_handled_as_missing())
    }

    /// Returns the denied call, if the unit's settings denied it.
    pub(super) fn denied_call(&self) -> Option<DeniedCall<'_>> {
        DeniedCall::from_incident(&self.incident, &self.cause)
    }
}
