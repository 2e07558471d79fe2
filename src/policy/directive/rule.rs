//! A directive's rules: its effects on calls.

use crate::policy::effect::Effect;

pub(super) const EPERM: Effect = Effect::Errno(libc::EPERM);
pub(super) const ENOSYS: Effect = Effect::Errno(libc::ENOSYS);

/// A directive's effect on some calls when it is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rule {
    /// The calls that the rule is about.
    pub(crate) targets: Targets,
    /// What happens to them.
    pub(crate) effect: Effect,
    /// The arguments that the rule denies; `None` if it denies the call whatever the arguments.
    pub(crate) argument: Option<&'static str>,
    /// Why systemd denies them.
    pub(crate) reason: &'static str,
    /// The versions of systemd that have the rule.
    pub(crate) since: Introduced,
}

/// The calls that a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Targets {
    /// Calls by name.
    Calls(&'static [&'static str]),
    /// A group, as the unit's systemd defines it.
    Group(&'static str),
}

/// The version of systemd that introduced a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Introduced {
    /// The version that introduced the directive.
    WithDirective,
    /// An unknown version after `absent`, at the latest `present`.
    Between {
        /// The newest tested version that lacks the rule.
        absent: u32,
        /// The oldest tested version that has the rule.
        present: u32,
    },
}

impl Rule {
    pub(super) const fn calls(calls: &'static [&'static str], effect: Effect, reason: &'static str) -> Self {
        let since = Introduced::WithDirective;
        Self { targets: Targets::Calls(calls), effect, argument: None, reason, since }
    }

    pub(super) const fn group(group: &'static str, reason: &'static str) -> Self {
        Self { targets: Targets::Group(group), ..Self::calls(&[], EPERM, reason) }
    }

    pub(super) const fn with(self, argument: &'static str) -> Self {
        Self { argument: Some(argument), ..self }
    }

    pub(super) const fn since(self, since: Introduced) -> Self {
        Self { since, ..self }
    }
}
