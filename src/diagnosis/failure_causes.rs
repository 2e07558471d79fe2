//! Possible causes of a failure that left no record: the unit's own lines that can give the error for the path, address
//! or call that a message names, and the lines that systemd applies in a step that failed.
//!
//! Nothing here is proven. A line is named only if the unit's policy can give this very error.

use super::attempt_causes::{find_attempt_causes, find_error_causes};
use super::exit_steps::{ExitStep, find_step, find_tried};
use super::possible_cause::PossibleCause;
use super::step_causes::find_step_causes;
use crate::incidents::{FailedAttempt, FailedStep, UnitFailure};
use crate::policy::Policy;

/// The most causes of one failure.
const MOST_CAUSES: usize = 8;

/// How a unit failed, and the lines that can be the cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailureDiagnosis {
    /// The step of systemd's own that failed, or what the program could not do.
    pub kind: FailureKind,
    /// The possible causes, the likeliest first.
    pub causes: Vec<PossibleCause>,
    /// The program's other messages for which a line can be the cause, the latest first. Not escaped.
    pub others: Vec<Box<str>>,
    /// Whether the messages are of an earlier run alone.
    pub is_of_earlier_run: bool,
}

/// What failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FailureKind {
    /// systemd did not execute the program: the exit status, and the step's name.
    BeforeProgram(u8, &'static str),
    /// The program could not do something: its message, which is not escaped.
    InProgram(Box<str>),
}

/// Returns the lines of a unit that can be the cause of its failure; `None` if no line can.
#[must_use]
pub fn diagnose_failure(failure: &UnitFailure, policy: &Policy) -> Option<FailureDiagnosis> {
    // A program can end with such a status as well, but then systemd reports no failed step.
    let has_steps = failure.steps.iter().any(|step| find_tried(&step.tried).is_some());
    let of_program = || diagnose_attempts(&failure.attempts, policy);
    let earlier = || Some(FailureDiagnosis { is_of_earlier_run: true, ..diagnose_attempts(&failure.earlier, policy)? });
    let of_step = || {
        let (step, told) = find_failed_step(failure)?;
        let kind = FailureKind::BeforeProgram(step.status, step.name);
        FailureDiagnosis::new(kind, find_step_causes(step, &told, policy))
    };
    if has_steps {
        return of_step();
    }
    of_program().or_else(of_step).or_else(|| diagnose_error(failure, policy)).or_else(earlier)
}

/// Returns the lines that give the latest error of a unit that failed, where no message names what it could not do.
fn diagnose_error(failure: &UnitFailure, policy: &Policy) -> Option<FailureDiagnosis> {
    let has_failed = failure.status.is_some() || failure.result.is_some();
    let latest = failure.attempts.iter().rfind(|attempt| attempt.is_bare()).filter(|_| has_failed)?;
    FailureDiagnosis::new(FailureKind::InProgram(latest.text.clone()), find_error_causes(latest.errno, policy))
}

/// Returns the lines that can be the cause of what the programs could not do, the latest first.
fn diagnose_attempts(attempts: &[FailedAttempt], policy: &Policy) -> Option<FailureDiagnosis> {
    let mut messages: Vec<Box<str>> = Vec::new();
    let mut causes = Vec::new();
    for attempt in attempts.iter().rev() {
        let found = find_attempt_causes(attempt, policy);
        if !found.is_empty() && !messages.contains(&attempt.text) {
            messages.push(attempt.text.clone());
        }
        causes.extend(found);
    }
    let mut messages = messages.into_iter();
    let found = FailureDiagnosis::new(FailureKind::InProgram(messages.next()?), causes)?;
    Some(FailureDiagnosis { others: messages.collect(), ..found })
}

impl FailureDiagnosis {
    /// Joins the causes that are one line; `None` if there is no cause.
    fn new(kind: FailureKind, causes: Vec<PossibleCause>) -> Option<Self> {
        let mut distinct: Vec<PossibleCause> = Vec::new();
        for cause in causes {
            match distinct.iter().position(|known| known.is_same_line(&cause)) {
                Some(at) => distinct[at].add_help(cause),
                None if distinct.len() < MOST_CAUSES => distinct.push(cause),
                None => {}
            }
        }
        (!distinct.is_empty()).then_some(Self { kind, causes: distinct, others: Vec::new(), is_of_earlier_run: false })
    }
}

/// Returns the latest step that failed, and what systemd tells about it.
fn find_failed_step(failure: &UnitFailure) -> Option<(ExitStep, Vec<&FailedStep>)> {
    let steps = || failure.steps.iter().filter_map(|told| Some((find_tried(&told.tried)?.0, told)));
    let of_status = failure.status.and_then(find_step);
    let step = of_status.filter(|step| steps().next().is_none() || steps().any(|(other, _)| other == *step));
    let step = step.or_else(|| steps().next_back().map(|(step, _)| step))?;
    let told = steps().filter(|(other, _)| *other == step).map(|(_, told)| told).collect();
    Some((step, told))
}

#[cfg(test)]
mod tests;
