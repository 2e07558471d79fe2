//! The calls that a unit's programs can make and its policy would deny, before any of them is denied.
//!
//! - Likely: a native program imports the function, and most programs that import it use it. Interpreters count with
//!   the calls of their own start.
//! - Possible: programs that import the function use it in rare cases, a script may use it, or a setting makes its use
//!   improbable.
//! - Unknown: nothing shows the calls of a program without imports.

use super::privileged_calls::find_needed_capability;
use super::program_calls::{describe_import, find_kind};
use super::relatives;
use crate::policy::{DirectiveCause, Effect, Policy, Verdict};
use crate::programs::{ImportedCall, Program, ProgramImage};
use crate::syscalls::{Abi, Groups};
use serde::Serialize;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

/// The groups of calls that services in general make.
const TYPICAL: [&str; 2] = ["@default", "@system-service"];

/// How many denials, one a restart, a call of each kind of [`DenialForecast`] leads to. `tests/rooted/replay.rs` measures
/// the sum on recorded programs. A kind for calls that programs import for rare cases did not improve it.
const WEIGHTS: [f64; 3] = [0.5, 0.01, 0.07];

/// How likely a program makes a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Likelihood {
    /// Most such programs make it.
    Likely,
    /// Some do.
    Possible,
}

/// A call that a program imports and the policy denies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeseenCall<'a> {
    /// The ABI of the program.
    pub abi: Abi,
    /// The call.
    pub call: &'static str,
    /// How likely the program makes it.
    pub likelihood: Likelihood,
    /// Why the program can make it, in a word group.
    pub reason: Cow<'static, str>,
    /// The program.
    pub program: &'a Program,
    /// What the denial does.
    pub effect: Effect,
    /// The directives that deny it.
    pub by: Vec<DirectiveCause>,
}

/// Returns the calls that the programs import and the policy denies whatever the arguments, each once: for the program
/// that most likely makes it.
#[must_use]
pub fn foresee_denials<'a>(programs: &'a [Program], policy: &Policy) -> Vec<ForeseenCall<'a>> {
    let mut found: BTreeMap<(Abi, &'static str), ForeseenCall<'a>> = BTreeMap::new();
    for program in programs {
        for (abi, imported) in program.imported_calls() {
            let Verdict::Denied { effect, by, .. } = policy.verdict(abi, imported.call) else { continue };
            let likelihood = judge(program, &imported, policy);
            let (call, reason) = (imported.call, describe_import(program, &imported));
            let foreseen = ForeseenCall { abi, call, likelihood, reason, program, effect, by };
            let known = found.entry((abi, call)).or_insert_with(|| foreseen.clone());
            if foreseen.likelihood < known.likelihood {
                *known = foreseen;
            }
        }
    }
    found.into_values().collect()
}

/// Judges how likely a program makes a call that it imports.
fn judge(program: &Program, imported: &ImportedCall<'_>, policy: &Policy) -> Likelihood {
    /// The functions that start every program.
    const START: [&str; 2] = ["__libc_start_main", "malloc"];
    let is_used = match program.image {
        ProgramImage::Interpreter(_) => START.contains(&imported.function),
        _ => !imported.is_rare,
    };
    // Of the recorded programs that start as another user than root and import chown, none called it.
    let has_power = find_needed_capability(imported.call)
        .is_none_or(|capability| policy.settings.starts_with_capability(capability));
    if is_used && has_power { Likelihood::Likely } else { Likelihood::Possible }
}

/// The further calls that a policy would deny, counted by the evidence for each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DenialForecast {
    /// Calls that the programs likely make. Calls that one denial opens together count once.
    pub likely: usize,
    /// Other calls of services in general: code in libraries and other programs may make them.
    pub others: usize,
    /// Calls of services in general, for a unit with a program whose imports are unknown.
    pub unknown: usize,
}

impl DenialForecast {
    /// Counts the calls of the native ABI.
    #[must_use]
    pub fn new(programs: &[Program], policy: &Policy, groups: &Groups) -> Self {
        let native = policy.native();
        let mut forecast = Self::default();
        let foreseen: BTreeMap<&str, Likelihood> = foresee_denials(programs, policy)
            .into_iter()
            .filter(|foreseen| foreseen.abi == native)
            .map(|foreseen| (foreseen.call, foreseen.likelihood))
            .collect();
        let are_known = !programs.is_empty() && programs.iter().all(Program::has_known_imports);
        let likely = foreseen.iter().filter(|(_, likelihood)| **likelihood == Likelihood::Likely);
        forecast.likely = count_kinds(native, likely.map(|(call, _)| *call), groups);
        let typical = TYPICAL.iter().filter_map(|group| groups.calls(group)).flatten();
        let is_denied = |call: &str| {
            native.call_number(call).is_some() && matches!(policy.verdict(native, call), Verdict::Denied { .. })
        };
        let typical = typical.filter(|call| !foreseen.contains_key(&***call) && is_denied(call)).count();
        *(if are_known { &mut forecast.others } else { &mut forecast.unknown }) = typical;
        forecast
    }

    /// Returns how many further denials, one a restart, are expected until the unit works.
    #[must_use]
    pub fn expected_denials(&self) -> f64 {
        let counts = [self.likely, self.others, self.unknown];
        let weighted = counts.into_iter().zip(WEIGHTS);
        weighted.map(|(count, weight)| f64::from(u32::try_from(count).unwrap_or(u32::MAX)) * weight).sum()
    }
}

/// Counts calls; those count once that the remedy of one of them opens together.
fn count_kinds<'a>(abi: Abi, calls: impl Iterator<Item = &'a str>, groups: &Groups) -> usize {
    let mut opened: BTreeSet<&str> = BTreeSet::new();
    let mut kinds = BTreeSet::new();
    let mut count = 0;
    for call in calls {
        let is_known = match find_kind(call) {
            Some(kind) => !kinds.insert(kind),
            None => opened.contains(call),
        };
        opened.extend(relatives::find_relatives(abi, call, groups).map(|relative| relative.call));
        count += usize::from(!is_known);
    }
    count
}
