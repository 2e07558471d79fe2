//! Answers for units of a log that failed without a record.

use crate::cli::lookup::log_failures::collect_failures;
use crate::cli::lookup::log_incidents::LogQuestion;
use crate::cli::views::answer::Answer;
use crate::cli::views::failure::FailureView;
use crate::diagnosis::{diagnose, diagnose_failure};
use crate::host::log_machine::LogMachine;
use crate::host::unit_settings::LoadedSettings;
use crate::incidents::UnitFailure;
use crate::incidents::local_time::LocalTime;
use crate::intake::failures::LoggedFailures;
use crate::units::Unit;
use std::path::Path;

/// Adds the units that failed and have no denial, if lines of theirs can be the cause.
pub(super) fn add_failures(
    units: &mut Vec<Answer>,
    logged: &LoggedFailures,
    question: &LogQuestion,
    root: &Path,
    (machine, clock): (&LogMachine, &LocalTime),
) {
    let commands = |unit: &Unit| {
        let situation = machine.load_settings(root, unit, &[]).0.situation?;
        Some(situation.policy.settings.commands().to_vec())
    };
    for (unit, failure) in collect_failures(logged, question.assumed.as_ref(), commands) {
        let answered = units.iter_mut().find(|answer| answer.unit.as_deref() == Some(unit.name.as_str()));
        let has_denials = answered.as_ref().is_some_and(|answer| !answer.denials.is_empty());
        if has_denials || !question.shows(Some(&unit)) {
            continue;
        }
        let Some((mut answer, view)) = explain_failure(&unit, &failure, root, machine, clock) else { continue };
        if let Some(answered) = answered {
            answered.failure = Some(view);
        } else {
            answer.failure = Some(view);
            units.push(answer);
        }
    }
}

fn explain_failure(
    unit: &Unit,
    failure: &UnitFailure,
    root: &Path,
    machine: &LogMachine,
    clock: &LocalTime,
) -> Option<(Answer, FailureView)> {
    let (LoadedSettings { situation, notes, .. }, groups) = machine.load_settings(root, unit, &[]);
    let found = diagnose_failure(failure, &situation?.policy)?;
    let nothing = diagnose(Vec::new(), None, &groups);
    let mut answer = Answer::new(Some(unit), &nothing, None, &groups, clock, notes);
    answer.is_of_log = true;
    Some((answer, FailureView::new(unit, &found, root)))
}
