//! A call that the unit's settings denied, with the directives that denied the call.

use super::cause::DenialCause;
use super::errno_fallback::{FallbackErrno, find_fallback};
use super::relatives::find_relatives;
use crate::incidents::{Incident, SightingSource};
use crate::policy;
use crate::policy::{CauseReason, Directive, Effect, Policy};
use crate::programs::{Program, ProgramImage};
use crate::syscalls::{Abi, Groups};

/// A call that the unit's settings denied.
pub(super) struct DeniedCall<'a> {
    pub(super) abi: Abi,
    pub(super) name: &'a str,
    /// `None` if a directive that looks at arguments may have denied it.
    pub(super) effect: Option<Effect>,
    pub(super) by: &'a [policy::DirectiveCause],
    /// Whether a line of the unit can name the call.
    pub(super) is_nameable: bool,
}

impl<'a> DeniedCall<'a> {
    /// Returns the call of an incident if the unit's settings denied it.
    pub(super) fn from_incident(incident: &'a Incident, cause: &'a DenialCause, is_nameable: bool) -> Option<Self> {
        let (effect, by) = match cause {
            DenialCause::Unit { effect, by, .. } => (Some(*effect), by),
            // The call may have passed without the rehearsal, too: a reason to look, but none to relax a setting.
            DenialCause::Possible { .. } if incident.key.source == SightingSource::Rehearsal => return None,
            DenialCause::Possible { by } => (None, by),
            _ => return None,
        };
        let call = &incident.denial()?.call;
        Some(Self { abi: call.abi()?, name: call.name()?, effect, by, is_nameable })
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
        !self.by.iter().any(lost) && !self.is_left_out()
    }

    /// Whether an allow-list denies the call, nothing else does, and no line can allow it by name.
    pub(super) fn is_unresolved(&self) -> bool {
        let unresolved = |why: &CauseReason| {
            let by_list = matches!(why, CauseReason::NotAllowed(_) | CauseReason::UnknownToSystemd);
            matches!(why, CauseReason::UnknownToLibseccomp(_)) || (by_list && !self.is_nameable)
        };
        self.is_by_filter() && self.by_filter().count() == self.by.len() && self.by_filter().all(unresolved)
    }

    /// Whether an allow-list denies the call and no line can allow it by name.
    fn is_left_out(&self) -> bool {
        !self.is_nameable && self.by_filter().any(|why| matches!(why, CauseReason::NotAllowed(_)))
    }

    /// Whether the call fails as on a kernel without it, and an older call that most programs then make passes.
    pub(super) fn has_fallback(&self, policy: &Policy, groups: &Groups) -> bool {
        let mut older = find_relatives(self.abi, self.name, groups).peekable();
        self.effect == Some(Effect::Errno(libc::ENOSYS))
            && find_fallback(self.name) == Some(FallbackErrno::Enosys)
            && (older.peek().is_none() || older.any(|older| policy.permits(self.abi, older.call)))
    }

    /// Whether the list of architectures denied it, and the executables that were read are all of other architectures. A
    /// 64-bit program that makes 32-bit calls may want to evade a filter. A static executable may be of any.
    pub(super) fn is_of_other_architecture(&self, programs: &[Program]) -> bool {
        let is_listed = |cause: &policy::DirectiveCause| cause.why == CauseReason::Abi;
        let has_static = programs.iter().any(|program| program.image == ProgramImage::Static);
        let mut abis = programs.iter().filter_map(Program::abi).peekable();
        self.by.iter().any(is_listed) && !has_static && abis.peek().is_some() && abis.all(|abi| abi != self.abi)
    }

    /// Whether `LockPersonality=` denied it. Its only remedy permits every execution domain, `READ_IMPLIES_EXEC` among them,
    /// whatever domain the program asked for.
    pub(super) fn is_by_locked_personality(&self) -> bool {
        self.by.iter().any(|cause| cause.directive == Directive::LockPersonality)
    }

    /// Whether a directive that denied it looks at an argument, so that no record tells which of its values to allow.
    /// A list that forbids one value leaves no doubt.
    pub(super) fn needs_argument(&self, policy: &Policy) -> bool {
        self.by.iter().any(|cause| match cause.directive {
            Directive::RestrictAddressFamilies => {
                policy.families().is_none_or(|families| families.allow_list || families.listed.len() != 1)
            }
            Directive::RestrictNamespaces => true,
            _ => false,
        })
    }
}
