//! The calls that a unit's program needs, by evidence about this program: its executables' imports and the unit's
//! settings. Habits of programs in general are no evidence.
//!
//! - An import is evidence for the calls that libc makes for it, unless most programs use the function only in rare cases.
//! - An interpreter's imports show what its language offers. They count for sockets alone, and once a call on a
//!   socket was denied: a script that opens a socket also binds or connects it.
//! - Identity and ownership calls count only where imported, and once one of their kind was denied.
//! - A setting can rule out what the imports show: without a capability, or without address families, the call fails.

use super::privileged_calls;
use super::relatives;
use crate::audit::text::escape;
use crate::policy::{Policy, Settings};
use crate::programs::{ImportedCall, Program, ProgramImage};
use crate::syscalls::{Abi, Groups};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

/// The group of the calls on sockets.
const NETWORK: &str = "@network-io";

/// The calls of a program that tells its manager that it is ready (`sd_notify(3)`).
const NOTIFYING: [&str; 2] = ["sendmsg", "socket"];

/// A kind of call that counts only once a call of the kind was denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum CallKind {
    /// It changes the identity of a process, by this capability.
    Identity(&'static str),
    /// It changes the owner of a file.
    Ownership,
}

/// The evidence about the program of a unit, weighed.
#[derive(Debug, Default)]
pub struct ProgramCalls {
    /// The calls with evidence, and the reason of each in a word group.
    calls: BTreeMap<(Abi, &'static str), Cow<'static, str>>,
    /// Every call that a program imports, whatever it is used for.
    imported: BTreeSet<&'static str>,
    /// Whether the imports of every program of the unit are known.
    is_complete: bool,
}

impl ProgramCalls {
    /// Weighs the evidence, given the calls that were denied.
    #[must_use]
    pub fn weigh(programs: &[Program], denied: &BTreeSet<(Abi, &str)>, policy: &Policy, groups: &Groups) -> Self {
        let names: BTreeSet<&str> = denied.iter().map(|(_, name)| *name).collect();
        let weighing = Weighing { denied: &names, policy, groups };
        let mut weighed = Self {
            is_complete: !programs.is_empty() && programs.iter().all(Program::has_known_imports),
            ..Self::default()
        };
        for program in programs {
            for (abi, imported) in program.imported_calls() {
                weighed.imported.insert(imported.call);
                if weighing.is_evidence(program, &imported) {
                    weighed.add(abi, imported.call, || describe_import(program, &imported));
                }
            }
        }
        for (call, reason) in weighing.calls_of_settings() {
            for abi in denied.iter().map(|(abi, _)| *abi).filter(|abi| abi.call_number(call).is_some()) {
                weighed.add(abi, call, || Cow::Borrowed(reason));
            }
        }
        weighed
    }

    /// Adds a call, unless there is a reason for it that is no longer.
    fn add(&mut self, abi: Abi, call: &'static str, reason: impl FnOnce() -> Cow<'static, str>) {
        let reason = reason();
        match self.calls.get_mut(&(abi, call)) {
            Some(known) if known.len() <= reason.len() => {}
            Some(known) => *known = reason,
            None => {
                self.calls.insert((abi, call), reason);
            }
        }
    }

    /// Returns the calls with evidence, and the reasons.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Abi, &'static str, &Cow<'static, str>)> {
        self.calls.iter().map(|((abi, call), reason)| (*abi, *call, reason))
    }

    /// Whether there is evidence for a call, by the name alone: a filter lists calls for every ABI.
    pub(super) fn has(&self, call: &str) -> bool {
        self.calls.keys().any(|(_, name)| *name == call)
    }

    /// Whether the program shows that it does not make a call: every import is known, and none leads to the call.
    #[must_use]
    pub fn rules_out(&self, call: &str) -> bool {
        let plain = call.strip_suffix("32").unwrap_or(call);
        let can_be_missed = find_kind(call).is_some() || relatives::is_older_form(call);
        self.is_complete && can_be_missed && !self.imported.contains(call) && !self.imported.contains(plain)
    }
}

/// What the weight of an import depends on.
struct Weighing<'a> {
    denied: &'a BTreeSet<&'a str>,
    policy: &'a Policy,
    groups: &'a Groups,
}

impl Weighing<'_> {
    fn is_evidence(&self, program: &Program, imported: &ImportedCall<'_>) -> bool {
        let settings = self.policy.settings.program();
        if let Some(kind) = find_kind(imported.call) {
            // A program that changes its identity does so itself: libraries offer it.
            return imported.library.is_none() && self.is_kind_denied(kind) && can_do(kind, &self.policy.settings);
        }
        let is_network = self.is_network(imported.call);
        let refuses_all = self.policy.families().is_some_and(crate::policy::AddressFamilies::refuses_all);
        if privileged_calls::find_group(imported.call, self.groups).is_some() || (is_network && refuses_all) {
            return false;
        }
        let is_notifying = imported.function.starts_with("sd_") && settings.find_notification().is_some();
        let is_daemonizing = imported.call == "setsid" && settings.kind.as_deref() == Some("forking");
        let is_used = !imported.is_rare || is_notifying || is_daemonizing;
        match program.image {
            ProgramImage::Interpreter(_) => {
                is_used && is_network && self.denied.iter().any(|call| self.is_network(call))
            }
            _ => is_used,
        }
    }

    fn is_network(&self, call: &str) -> bool {
        self.groups.calls(NETWORK).is_some_and(|calls| calls.contains(call))
    }

    fn is_kind_denied(&self, kind: CallKind) -> bool {
        self.denied.iter().any(|call| match (kind, find_kind(call)) {
            (CallKind::Identity(_), Some(CallKind::Identity(_))) => true,
            (kind, other) => Some(kind) == other,
        })
    }

    /// Returns the calls that the settings alone show, and the settings.
    fn calls_of_settings(&self) -> Vec<(&'static str, &'static str)> {
        let notification = self.policy.settings.program().find_notification();
        notification.map_or_else(Vec::new, |setting| NOTIFYING.iter().map(|call| (*call, setting)).collect())
    }
}

/// Returns the kind of a call that has one.
pub(super) fn find_kind(call: &str) -> Option<CallKind> {
    let capability = privileged_calls::find_needed_capability(call)?;
    match capability {
        "CAP_SETUID" | "CAP_SETGID" => Some(CallKind::Identity(capability)),
        "CAP_CHOWN" => Some(CallKind::Ownership),
        _ => None,
    }
}

/// Whether the unit's user and capabilities let a program make a call of a kind.
fn can_do(kind: CallKind, settings: &Settings) -> bool {
    match kind {
        CallKind::Identity(capability) => settings.starts_with_capability(capability),
        // A file's owner may give it to one of their own groups without any capability (`chown(2)`).
        CallKind::Ownership => true,
    }
}

/// Describes why a program can make a call, in a word group.
pub(super) fn describe_import(program: &Program, imported: &ImportedCall<'_>) -> Cow<'static, str> {
    let name = escape(program.name());
    let function = imported.function;
    let by = match imported.library {
        Some(library) => format!("by {} for {name}", escape(library.as_bytes())),
        None => format!("by {name}"),
    };
    if imported.is_direct {
        format!("made {by} without libc").into()
    } else if function == imported.call {
        format!("imported {by}").into()
    } else {
        format!("imported {by} as {function}").into()
    }
}
