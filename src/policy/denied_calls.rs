//! The calls that a unit's own settings deny, without regard to any denial.

use super::directive::Directive;
use super::effect::Effect;
use super::unit_file::Origin;
use super::unit_policy::Policy;
use super::verdict::{DirectiveCause, Verdict};
use crate::syscalls::{Abi, Groups};

/// Calls that one line denies in one way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeniedCalls {
    /// The directive.
    pub(crate) directive: Directive,
    /// Its line, if the setting comes from one.
    pub(crate) origin: Option<Origin>,
    /// What happens to the calls.
    pub(crate) effect: Effect,
    /// Whether that depends on the arguments of some of the calls.
    pub(crate) is_conditional: bool,
    /// The calls, by name.
    pub(crate) calls: Vec<&'static str>,
}

impl Policy {
    /// Returns the calls of an ABI that the unit's settings deny, by the line that decides.
    #[must_use]
    pub(crate) fn denied_calls(&self, abi: Abi, groups: &Groups) -> Vec<DeniedCalls> {
        let mut denied = Vec::new();
        for (_, call) in abi.calls().filter(|(_, call)| groups.is_known(call)) {
            match self.verdict(abi, call) {
                Verdict::Denied { by, .. } => {
                    if let Some(cause) = by.first() {
                        add(&mut denied, cause, call, false);
                    }
                }
                Verdict::Possible { by } => by.iter().for_each(|cause| add(&mut denied, cause, call, true)),
                Verdict::Permitted | Verdict::LogOnly { .. } => {}
            }
        }
        denied
    }
}

fn add(denied: &mut Vec<DeniedCalls>, cause: &DirectiveCause, call: &'static str, is_conditional: bool) {
    let Some(effect) = cause.effect else { return };
    let same =
        |one: &&mut DeniedCalls| one.directive == cause.directive && one.origin == cause.origin && one.effect == effect;
    if let Some(one) = denied.iter_mut().find(same) {
        one.calls.push(call);
        one.is_conditional |= is_conditional;
    } else {
        let (directive, origin) = (cause.directive, cause.origin.clone());
        denied.push(DeniedCalls { directive, origin, effect, is_conditional, calls: vec![call] });
    }
}
