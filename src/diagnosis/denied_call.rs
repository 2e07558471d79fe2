//! A call that the unit's settings denied, with the directives that denied the call.

use super::cause::DenialCause;
use super::errno_fallback::{FallbackErrno, find_fallback};
use crate::incidents::{Incident, SightingSource};
use crate::policy;
use crate::policy::{CauseReason, Directive, Effect};
use crate::syscalls::Abi;

/// A call that the unit's settings denied.
pub(super) struct DeniedCall<'a> {
    pub(super) abi: Abi,
    pub(super) name: &'a str,
    /// `None` if a directive that looks at arguments may have denied it.
    pub(super) effect: Option<Effect>,
    pub(super) by: &'a [policy::DirectiveCause],
}

impl<'a> DeniedCall<'a> {
    /// Returns the call of an incident if the unit's settings denied it.
    pub(super) fn from_incident(incident: &'a Incident, cause: &'a DenialCause) -> Option<Self> {
        let (effect, by) = match cause {
            DenialCause::Unit { effect, by, .. } => (Some(*effect), by),
            // The call may have passed without the rehearsal, too: a reason to look, but none to relax a setting.
            DenialCause::Possible { .. } if incident.key.source == SightingSource::Rehearsal => return None,
            DenialCause::Possible { by } => (None, by),
            _ => return None,
        };
        let call = &incident.denial()?.call;
        Some(Self { abi: call.abi()?, name: call.name()?, effect, by })
    }

    /// Returns why `SystemCallFilter=` denies the call, once per line that denies the call.
    pub(super) fn by_filter(&self) -> impl Iterator<Item = &CauseReason> {
        self.by.iter().filter(|cause| cause.directive == Directive::SystemCallFilter).map(|cause| &cause.why)
    }

    pub(super) fn is_by_filter(&self) -> bool {
        self.by_filter().next().is_some()
    }

    /// Whether any setting of the unit can let the call pass.
    pub(super) fn can_be_lifted(&self) -> bool {
        let lost = |cause: &policy::DirectiveCause| {
            cause.directive == Directive::DynamicUser
                || matches!(
                    cause.why,
                    CauseReason::UnknownToSystemd | CauseReason::UnknownToLibseccomp(_) | CauseReason::ManagersAbi
                )
        };
        !self.by.iter().any(lost)
    }

    /// Whether programs handle the error as they do on a kernel without the call.
    ///
    /// A directive refuses a new call with ENOSYS if it cannot see the call's arguments. The program then makes an
    /// older call whose arguments the directive can see. If the directive denies the older call as well, that is a
    /// separate denial. `SystemCallFilter=` does not count here, because it refuses the older call, too.
    pub(super) fn is_handled_as_missing(&self) -> bool {
        self.effect == Some(Effect::Errno(libc::ENOSYS))
            && find_fallback(self.name) == Some(FallbackErrno::Enosys)
            && !self.is_by_filter()
    }
}
