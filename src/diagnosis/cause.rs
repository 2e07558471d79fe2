//! Why a call was denied: which directives of the unit, or who else.
//!
//! The record holds the action alone, so it is held against what the unit's policy does with the
//! call. What systemd never does, or the policy permits, was somebody else's doing.

use crate::audit::Action;
use crate::incidents::{Denial, Event, Incident};
use crate::policy::{self, Effect, Policy, Verdict};

/// Why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// The unit's settings deny the call, whatever its arguments.
    Unit {
        /// What they do to it.
        effect: Effect,
        /// Each directive that denies it.
        by: Vec<policy::Cause>,
        /// They act otherwise than the record says: they changed since, or a process still ran under older ones.
        changed: bool,
    },
    /// The unit's settings deny the call for some arguments, which no record tells.
    Perhaps {
        /// The directives that may have.
        by: Vec<policy::Cause>,
    },
    /// It was logged and allowed.
    Logged {
        /// The unit's `SystemCallLog=`, if it lists the call.
        by: Option<policy::Cause>,
    },
    /// Not by the unit's settings.
    Elsewhere(Elsewhere),
    /// The unit's settings could not be read.
    Unread,
    /// No name is known for the number, so no setting can name it.
    Nameless,
    /// The process died of SIGSYS and the kernel sent no record.
    Silent,
}

impl Cause {
    /// Whether the unit's settings denied the call, or may have.
    #[must_use]
    pub fn is_units(&self) -> bool {
        matches!(self, Self::Unit { .. } | Self::Perhaps { .. })
    }
}

/// Who else denies calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Elsewhere {
    /// systemd never uses this action: the program's own sandbox, or a container runtime.
    NotSystemdsAction,
    /// The unit's settings permit the call as they are now.
    Permitted,
    /// The unit's settings would have refused the call with an error; something stronger acted.
    Stronger,
}

/// Why an incident happened.
#[must_use]
pub fn of(incident: &Incident, policy: Option<&Policy>) -> Cause {
    match &incident.key.event {
        Event::SilentDeath => Cause::Silent,
        Event::Denial(denial) => of_denial(denial, policy),
    }
}

fn of_denial(denial: &Denial, policy: Option<&Policy>) -> Cause {
    if matches!(denial.action, Action::Trap | Action::UserNotif | Action::Trace) {
        return Cause::Elsewhere(Elsewhere::NotSystemdsAction);
    }
    let Some(policy) = policy else {
        return if denial.action == Action::Log { Cause::Logged { by: None } } else { Cause::Unread };
    };
    let (Some(abi), Some(name)) = (denial.call.abi(), denial.call.name()) else { return Cause::Nameless };
    let verdict = policy.verdict(abi, name);
    if denial.action == Action::Log {
        return match verdict {
            Verdict::LogOnly { by } => Cause::Logged { by: Some(by) },
            _ => Cause::Logged { by: None },
        };
    }
    match verdict {
        Verdict::Permitted | Verdict::LogOnly { .. } => Cause::Elsewhere(Elsewhere::Permitted),
        // A directive that looks at arguments refuses with an error and never kills.
        Verdict::Possible { .. } if denial.action.kills() => Cause::Elsewhere(Elsewhere::Stronger),
        Verdict::Possible { by } => Cause::Perhaps { by },
        Verdict::Denied { effect, by, .. } => {
            let (does, did) = (severity(effect), did(denial.action));
            if did.is_some_and(|did| did > does) {
                Cause::Elsewhere(Elsewhere::Stronger)
            } else {
                Cause::Unit { effect, by, changed: did.is_some_and(|did| did < does) }
            }
        }
    }
}

/// How strong an effect is.
fn severity(effect: Effect) -> u8 {
    match effect {
        Effect::Errno(_) => 0,
        Effect::KillThread => 1,
        Effect::Kill => 2,
    }
}

/// How strong a recorded action is on the same scale; `None` where it can be either of two.
fn did(action: Action) -> Option<u8> {
    match action {
        Action::Errno => Some(0),
        Action::KillThread => Some(1),
        Action::KillProcess => Some(2),
        _ => None,
    }
}
