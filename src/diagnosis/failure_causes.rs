//! Possible causes of a failure that left no record: the unit's own lines that can give the error for the path, address
//! or call that a message names, and the lines that systemd applies in a step that failed.
//!
//! Nothing here is proven. A line is named only if the unit's policy can give this very error.

use super::attempt_causes::find_attempt_causes;
use super::exit_steps::{ExitStep, find_step, find_tried};
use super::possible_cause::PossibleCause;
use super::step_causes::find_step_causes;
use crate::incidents::{FailedStep, UnitFailure};
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
    let of_program = || {
        let newest_first = failure.attempts.iter().rev();
        let mut told = newest_first.map(|attempt| (attempt, find_attempt_causes(attempt, policy)));
        let (attempt, causes) = told.find(|(_, causes)| !causes.is_empty())?;
        Some((FailureKind::InProgram(attempt.text.clone()), causes))
    };
    let of_step = || {
        let (step, told) = find_failed_step(failure)?;
        Some((FailureKind::BeforeProgram(step.status, step.name), find_step_causes(step, &told, policy)))
    };
    let (kind, causes) = if has_steps { of_step() } else { of_program().or_else(of_step) }?;
    let mut distinct: Vec<PossibleCause> = Vec::new();
    for cause in causes {
        if distinct.len() < MOST_CAUSES && !distinct.iter().any(|known| known.is_same_line(&cause)) {
            distinct.push(cause);
        }
    }
    (!distinct.is_empty()).then_some(FailureDiagnosis { kind, causes: distinct })
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
