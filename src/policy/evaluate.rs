//! Evaluates a policy for one call: every directive that denies the call is a cause, and the strongest action decides.

use super::call_list::Mode;
use super::directive::{Directive, Introduced, Rule, Targets};
use super::effect::Effect;
use super::manager_context::Mdwe;
use super::syscall_filter::Reason;
use super::unit_policy::Policy;
use super::verdict::{CauseReason, DirectiveCause, Verdict};
use crate::audit::text::join_or;
use crate::syscalls::Abi;
use std::collections::BTreeSet;
use std::sync::Arc;

impl Policy {
    /// Returns the verdict on a call of an ABI.
    pub fn verdict(&self, abi: Abi, call: &str) -> Verdict {
        let of_filter = self.filter_cause(call).map(|cause| (cause, true));
        let mut causes: Vec<(DirectiveCause, bool)> = self.other_causes(abi, call).chain(of_filter).collect();
        causes.sort_by_key(|(cause, _)| cause.directive);
        // Once an ABI is blocked, systemd installs no further filter for it. Earlier filters stay.
        if causes.iter().any(|(cause, _)| cause.why == CauseReason::Abi) {
            causes.retain(|(cause, _)| cause.directive <= Directive::SystemCallArchitectures);
        }
        if !self.filters_blocked_abis && self.context.manager.blocks(abi, self.native) {
            causes.retain(|(cause, _)| cause.why == CauseReason::ManagersAbi);
        }
        let mut effect: Option<Effect> = None;
        for (cause, _) in causes.iter().filter(|(_, certain)| *certain) {
            effect = match (effect, cause.effect) {
                (Some(before), Some(this)) if !before.yields_to(this) => Some(before),
                (before, this) => this.or(before),
            };
        }
        let (certain, possible): (Vec<_>, Vec<_>) = causes.into_iter().partition(|(_, certain)| *certain);
        // The deciding cause comes first: the strongest, or the last installed of several equally strong causes.
        let by_strength = |causes: Vec<(DirectiveCause, bool)>| {
            let mut causes: Vec<DirectiveCause> = causes.into_iter().rev().map(|(cause, _)| cause).collect();
            causes.sort_by_key(|cause| std::cmp::Reverse(cause.effect.map(Effect::severity)));
            causes
        };
        let (by, possible) = (by_strength(certain), by_strength(possible));
        match effect {
            Some(effect) => Verdict::Denied { effect, by, possible },
            None if !possible.is_empty() => Verdict::Possible { by: possible },
            None => self.log_cause(call).map_or(Verdict::Permitted, |by| Verdict::LogOnly { by }),
        }
    }

    /// Whether the call passes with some arguments: its [verdict](Self::verdict) is no denial.
    #[must_use]
    pub fn permits(&self, abi: Abi, call: &str) -> bool {
        // Where the verdict leaves a cause out, another one denies the call.
        self.filter.as_ref().is_none_or(|filter| filter.permits(call))
            && !self.other_causes(abi, call).any(|(_, certain)| certain)
    }

    /// Returns the directives that refuse some call with an error rather than kill, in order.
    #[must_use]
    pub fn refusing_directives(&self) -> Vec<Directive> {
        let is_errno = |effect: Option<Effect>| matches!(effect, Some(Effect::Errno(_)));
        let causes = self.rules.iter().filter_map(|(directive, rule)| self.rule_cause(*directive, rule, ""));
        let rules = causes.map(|(cause, _)| cause).filter(|cause| is_errno(cause.effect));
        let families = self.families().filter(|families| families.restricts());
        let filter = self.filter.as_ref().filter(|filter| filter.refuses());
        let found: BTreeSet<Directive> = rules
            .map(|cause| cause.directive)
            .chain(families.map(|_| Directive::RestrictAddressFamilies))
            .chain(filter.map(|_| Directive::SystemCallFilter))
            .collect();
        found.into_iter().collect()
    }

    /// Returns the [refusing directives](Self::refusing_directives) whose refusals leave a record if the manager logs
    /// refusals. A refusal by the kernel itself, without a filter, leaves no record.
    #[must_use]
    pub fn loggable_directives(&self) -> Vec<Directive> {
        let kernels =
            |directive: &Directive| *directive == Directive::MemoryDenyWriteExecute && self.mdwe == Mdwe::Kernel;
        let mut refusing = self.refusing_directives();
        refusing.retain(|directive| !kernels(directive));
        refusing
    }

    /// Returns the directives for which systemd installs a filter on every architecture and with every kernel, in order.
    #[must_use]
    pub fn filtering_directives(&self) -> Vec<Directive> {
        // These filter some architectures only, or do without a filter.
        const UNCERTAIN: [Directive; 4] = [
            Directive::RestrictAddressFamilies,
            Directive::ProtectKernelTunables,
            Directive::MemoryDenyWriteExecute,
            Directive::ProtectHostname,
        ];
        let lists = |mode: Mode, is_empty: bool| mode == Mode::Allow || !is_empty;
        let filter = self.filter.as_ref().is_some_and(|filter| lists(filter.mode(), filter.entries().is_empty()));
        let log = self.log.as_ref().is_some_and(|log| lists(log.mode, log.entries.is_empty()));
        let further = [
            (Directive::SystemCallArchitectures, !self.settings.architectures().listed.is_empty()),
            (Directive::SystemCallLog, log),
            (Directive::SystemCallFilter, filter),
        ];
        let mut found = self.refusing_directives();
        found.retain(|directive| !UNCERTAIN.contains(directive) && *directive != Directive::SystemCallFilter);
        found.extend(further.into_iter().filter_map(|(directive, is_set)| is_set.then_some(directive)));
        found
    }

    /// Returns every directive but the filter that denies the call. The flag is true if the directive denies it whatever
    /// the arguments.
    fn other_causes(&self, abi: Abi, call: &str) -> impl Iterator<Item = (DirectiveCause, bool)> {
        let by_kernel = |directive| directive == Directive::MemoryDenyWriteExecute && self.mdwe == Mdwe::Kernel;
        let is_rule =
            move |(directive, rule): &&(Directive, &Rule)| self.is_target(rule, call) && !by_kernel(*directive);
        let rules = self.rules.iter().filter(is_rule);
        rules
            .filter_map(move |(directive, rule)| self.rule_cause(*directive, rule, call))
            .chain(self.family_cause(abi, call))
            .chain(self.manager_abi_cause(abi).map(|cause| (cause, true)))
            .chain(self.abi_cause(abi).map(|cause| (cause, true)))
    }

    fn is_target(&self, rule: &Rule, call: &str) -> bool {
        match rule.targets {
            Targets::Calls(calls) => calls.contains(&call),
            Targets::Group(group) => self.groups.get(group).is_some_and(|calls| calls.contains(call)),
        }
    }

    fn rule_cause(&self, directive: Directive, rule: &Rule, call: &str) -> Option<(DirectiveCause, bool)> {
        let unsure = match (rule.since, self.systemd) {
            (Introduced::Between { absent, .. }, Some(systemd)) if systemd <= absent => return None,
            (Introduced::Between { present, .. }, systemd) if systemd.is_none_or(|systemd| systemd < present) => {
                Some("whether this systemd refuses it is not known")
            }
            (Introduced::WithDirective | Introduced::Between { .. }, _) => None,
        };
        let (directive, origin, argument) = if directive == Directive::RestrictNamespaces {
            let namespaces = self.settings.namespaces().filter(|namespaces| namespaces.restricts())?;
            let argument = match (rule.argument, namespaces.retained.is_empty()) {
                (Some(_), true) if call == "setns" => None,
                (Some(which), true) => Some(format!("{which}; none is allowed")),
                (Some(which), false) => Some(format!("{which}; allowed are {}", namespaces.retained.join(" "))),
                (None, _) => None,
            };
            (directive, &namespaces.origin, argument)
        } else {
            let (directive, origin) = self.settings.switched_on(directive)?;
            let by_kernel = directive == Directive::MemoryDenyWriteExecute && self.mdwe == Mdwe::Either;
            let caveat = if by_kernel {
                "; with systemd 254 and Linux 6.3 the kernel refuses it with EACCES and no record"
            } else {
                ""
            };
            (directive, origin, rule.argument.or(unsure).map(|argument| format!("{argument}{caveat}")))
        };
        let certain = argument.is_none();
        let why = match argument {
            Some(which) => CauseReason::Argument { which, reason: rule.reason },
            None => CauseReason::Always(rule.reason),
        };
        Some((DirectiveCause { directive, origin: Some(origin.clone()), effect: Some(rule.effect), why }, certain))
    }

    fn family_cause(&self, abi: Abi, call: &str) -> Option<(DirectiveCause, bool)> {
        let families = self.families().filter(|families| families.restricts())?;
        if call != "socket" || !filters_socket(abi) {
            return None;
        }
        let reason = "no sockets but of the families listed";
        let listed: Vec<&str> = families.listed.keys().copied().collect();
        let certain = families.refuses_all();
        let why = match (certain, families.allow_list) {
            (true, _) => CauseReason::Always(reason),
            (false, true) => {
                CauseReason::Argument { which: format!("a family other than {}", join_or(&listed)), reason }
            }
            (false, false) => CauseReason::Argument { which: format!("one of {}", join_or(&listed)), reason },
        };
        let effect = Some(Effect::Errno(libc::EAFNOSUPPORT));
        let origin = Some(families.first_line.clone());
        Some((DirectiveCause { directive: Directive::RestrictAddressFamilies, origin, effect, why }, certain))
    }

    fn abi_cause(&self, abi: Abi) -> Option<DirectiveCause> {
        let blocked = self.settings.architectures().blocks(abi, self.native);
        blocked.then(|| DirectiveCause {
            directive: Directive::SystemCallArchitectures,
            origin: self.settings.architectures().origin().cloned(),
            effect: Some(Effect::KillThread),
            why: CauseReason::Abi,
        })
    }

    fn manager_abi_cause(&self, abi: Abi) -> impl Iterator<Item = DirectiveCause> {
        self.context.blocking(abi, self.native).map(|architectures| DirectiveCause {
            directive: Directive::SystemCallArchitectures,
            origin: architectures.origin().cloned(),
            effect: Some(Effect::KillThread),
            why: CauseReason::ManagersAbi,
        })
    }

    fn filter_cause(&self, call: &str) -> Option<DirectiveCause> {
        let filter = self.filter.as_ref()?;
        let ruling = filter.ruling(call);
        let effect = ruling.denied?;
        let origin = ruling.word.origin.clone();
        let why = match ruling.reason {
            Reason::Listed => CauseReason::Listed(ruling.word),
            Reason::Removed => CauseReason::TakenOff { word: ruling.word, list: filter.first_line() },
            Reason::NotListed => CauseReason::NotAllowed(ruling.word),
            Reason::Unknown => CauseReason::UnknownToSystemd,
            Reason::Unresolved => CauseReason::UnknownToLibseccomp(ruling.word),
        };
        Some(DirectiveCause { directive: Directive::SystemCallFilter, origin, effect: Some(effect), why })
    }

    /// Returns the part of the filter in a denial of a call that it allows as far as is known here, if the unit's own
    /// systemd may rule otherwise: its groups are not known, or its libseccomp may not know a new call.
    #[must_use]
    pub(crate) fn possible_filter_cause(&self, call: &str) -> Option<DirectiveCause> {
        let filter = self.filter.as_ref().filter(|filter| filter.mode() == Mode::Allow)?;
        let ruling = filter.ruling(call);
        let by_group = ruling.word.text.starts_with('@') && self.has_other_groups;
        let by_name = *ruling.word.text == *call && !self.knows_libseccomp && is_new(call);
        if ruling.denied.is_some() || ruling.reason != Reason::Listed || !(by_group || by_name) {
            return None;
        }
        Some(DirectiveCause {
            directive: Directive::SystemCallFilter,
            origin: ruling.word.origin.clone(),
            effect: Some(filter.default_effect().effect),
            why: CauseReason::AllowedByOtherSystemd(ruling.word),
        })
    }

    fn log_cause(&self, call: &str) -> Option<DirectiveCause> {
        let list = self.log.as_ref()?;
        let (word, why) = match (list.mode, list.entries.get(call), list.removed.get(call)) {
            (Mode::Allow, Some(entry), _) => (&entry.word, CauseReason::Listed(Arc::clone(&entry.word))),
            (Mode::Deny, None, Some(word)) => (word, CauseReason::Listed(Arc::clone(word))),
            (Mode::Deny, None, None) => (&list.first_line, CauseReason::NotExempt),
            _ => return None,
        };
        Some(DirectiveCause { directive: Directive::SystemCallLog, origin: word.origin.clone(), effect: None, why })
    }
}

/// Whether a call is newer than Linux 5.1, from which on it has one number in all ABIs, so that a libseccomp in use may
/// lack it.
fn is_new(call: &str) -> bool {
    const FIRST: u32 = 424;
    Abi::Riscv64.call_number(call).is_some_and(|number| number >= FIRST)
}

/// Whether systemd filters `socket(2)` in this ABI. systemd leaves out ABIs in which `socketcall(2)` reaches the same
/// function (`seccomp_restrict_address_families`).
pub(super) fn filters_socket(abi: Abi) -> bool {
    const FILTERED: [&str; 10] = [
        "x86-64",
        "x32",
        "arm",
        "arm64",
        "loongarch64",
        "mips64",
        "mips64-le",
        "mips64-n32",
        "mips64-le-n32",
        "riscv64",
    ];
    abi.systemd_name().is_some_and(|name| FILTERED.contains(&name))
}

#[cfg(test)]
mod tests;
