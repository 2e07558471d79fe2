//! One incident with its cause.

use super::access_default::may_be_default;
use super::access_needs::withholding_directives;
use super::access_remedy::find_grant;
use super::before_exec::{is_before_exec, is_systemds_own};
use super::cause;
use super::cause::DenialCause;
use super::denied_call::DeniedCall;
use super::library_probes::is_library_probe;
use super::possible_intrusion::may_be_intrusion;
use super::remedy::Reservation;
use super::situation::Situation;
use crate::incidents::{Access, AccessDenial, Denial, Incident, IncidentEvent};
use crate::policy::{Directive, find_possible_directives};
use crate::syscalls::Groups;
use std::collections::BTreeSet;

/// One incident, explained.
#[derive(Debug)]
pub struct Finding {
    /// The incident.
    pub incident: Incident,
    /// Why it happened.
    pub cause: DenialCause,
    /// The groups that hold the call, smallest first.
    pub groups: Vec<Box<str>>,
    /// Why no default remedy lets the call pass, if a setting of the unit denied it.
    pub reservation: Option<Reservation>,
    /// The directives that may have decided the call, if the unit's settings were not read.
    pub possible: BTreeSet<Directive>,
    /// Whether a line of the unit can name the call: systemd and its libseccomp know the name.
    is_nameable: bool,
    /// Whether systemd's own code made the call, after it loaded the filter and before it executed the program.
    pub before_exec: bool,
}

impl Finding {
    pub(super) fn new(incident: Incident, situation: Option<&Situation>, groups: &Groups) -> Self {
        let cause = cause::find_cause(&incident, situation, groups);
        let cause_is_unread = cause == DenialCause::SettingsUnread;
        let is_known = |denial: &Denial| denial.call.name().is_none_or(|call| groups.is_known(call));
        let is_nameable = incident.denial().is_none_or(is_known);
        let denied = DeniedCall::from_incident(&incident, &cause, is_nameable);
        let of_access = || {
            let denial = incident.access().filter(|_| cause.is_by_unit())?;
            reserve_access(&incident, denial, &cause, situation?, groups)
        };
        Self {
            reservation: situation
                .zip(denied)
                .and_then(|(situation, call)| find_reservation(&incident, &call, situation, groups))
                .or_else(of_access),
            cause,
            groups: incident
                .denial()
                .and_then(|denial| denial.call.name())
                .map_or_else(Vec::new, |call| groups.containing(call).into_iter().map(Into::into).collect()),
            possible: match &incident.key.event {
                IncidentEvent::Denial(denial) if cause_is_unread => {
                    find_possible_directives(&denial.call, denial.action, groups)
                }
                IncidentEvent::Access(denial) if cause_is_unread => {
                    withholding_directives(&denial.access).iter().copied().collect()
                }
                _ => BTreeSet::new(),
            },
            is_nameable,
            before_exec: is_before_exec(&incident),
            incident,
        }
    }

    /// Whether most callers make an older call in place of the denied one.
    #[must_use]
    pub fn has_fallback(&self) -> bool {
        self.reservation == Some(Reservation::HasFallback)
    }

    /// Whether a program misses nothing by it: most callers make an older call, or a library goes on without the path.
    #[must_use]
    pub fn is_harmless(&self) -> bool {
        matches!(self.reservation, Some(Reservation::HasFallback | Reservation::LibraryProbe))
    }

    /// Whether a rehearsal saw a call of systemd's own, which a default remedy leaves denied.
    #[must_use]
    pub fn is_systemds_own(&self) -> bool {
        self.reservation == Some(Reservation::BeforeExec)
    }

    /// Returns the access that failed, if the unit's settings withheld it.
    pub(super) fn denied_access(&self) -> Option<&AccessDenial> {
        self.incident.access().filter(|_| self.cause.is_by_unit())
    }

    /// Whether a setting of the unit can let the denied call pass.
    #[must_use]
    pub fn can_be_lifted(&self) -> bool {
        self.denied_call().is_some_and(|call| call.can_be_lifted())
    }

    /// Returns the denied call, if the unit's settings denied it.
    pub(super) fn denied_call(&self) -> Option<DeniedCall<'_>> {
        DeniedCall::from_incident(&self.incident, &self.cause, self.is_nameable)
    }
}

/// Returns why a default remedy leaves a failed access as it is: a process that may not be the unit's own asked for it,
/// a library does without it, or a person has to choose the lines that grant it.
fn reserve_access(
    incident: &Incident,
    denial: &AccessDenial,
    cause: &DenialCause,
    situation: &Situation,
    groups: &Groups,
) -> Option<Reservation> {
    let settings = &situation.policy.settings;
    if denial.call.name().is_some_and(|call| may_be_intrusion(incident, call, settings, groups)) {
        return Some(Reservation::PossibleIntrusion);
    }
    if matches!(&denial.access, Access::HiddenPath(path) if is_library_probe(path.as_bytes())) {
        return Some(Reservation::LibraryProbe);
    }
    let first = cause.directives().first()?;
    // Without lines there is no remedy at all.
    let grant = find_grant(denial, &situation.policy)?;
    let is_narrow =
        grant.unlisted.is_empty() && !grant.shows_another && may_be_default(denial, first.directive, &grant.lines);
    (!is_narrow).then_some(Reservation::WiderThanDenied)
}

/// Returns why a default remedy leaves a denied call as it is.
fn find_reservation(
    incident: &Incident,
    call: &DeniedCall<'_>,
    situation: &Situation,
    groups: &Groups,
) -> Option<Reservation> {
    if is_systemds_own(incident) {
        Some(Reservation::BeforeExec)
    } else if may_be_intrusion(incident, call.name, &situation.policy.settings, groups) {
        Some(Reservation::PossibleIntrusion)
    } else if call.is_of_other_architecture(&situation.programs) {
        Some(Reservation::OtherArchitecture)
    } else if call.has_fallback(&situation.policy, groups) {
        Some(Reservation::HasFallback)
    } else if call.needs_argument(&situation.policy) {
        Some(Reservation::UnknownArgument)
    } else {
        call.is_by_locked_personality().then_some(Reservation::WiderThanDenied)
    }
}
