//! Answers for units of a log that failed without a record.

use crate::audit::Note;
use crate::audit::text::{join, plural};
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
use crate::units::{Unit, UnitName};
use std::path::Path;

/// The most units that a note names.
const MOST_NAMED: usize = 4;

/// What is known about the cause of a failure without a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FailureSearch {
    /// No line of the unit can be the cause.
    NothingFound,
    /// There was no search: the unit's settings are unknown.
    NoSettings,
    /// There was no search: `--since` or `--until` limits the answer, and messages of programs count whenever they came.
    LimitedTime,
}

/// Returns what the log says of units that failed and that no answer is about.
pub(super) fn failure_note(
    logged: &LoggedFailures,
    question: &LogQuestion,
    answers: &[Answer],
    search: FailureSearch,
) -> Option<Note> {
    // Another note reports a signal.
    let exited = logged.units.iter().filter(|(_, failed)| {
        let UnitFailure { status, result, steps, .. } = &failed.failure;
        status.is_some() || !steps.is_empty() || result.as_deref().is_none_or(|result| result == "exit-code")
    });
    let is_answered = |unit: &Unit| answers.iter().any(|answer| is_about(answer, unit));
    let failed = exited.map(|(unit, _)| unit).filter(|unit| question.shows(Some(unit)) && !is_answered(unit));
    let failed: Vec<&Unit> = failed.collect();
    let first = failed.first()?;
    let names = join(failed.iter().take(MOST_NAMED).map(|unit| unit.name.to_string()));
    let more = failed.len().saturating_sub(MOST_NAMED);
    let names = if more > 0 { format!("{names} and {}", plural(more as u64, "other unit")) } else { names };
    let text = match search {
        FailureSearch::NothingFound => format!(
            "{names} failed, and nothing in the log shows that lines of the unit are the cause. On its machine, \
            'harden-why tap --restart {}' shows what the unit is denied",
            first.to_arguments()
        ),
        FailureSearch::NoSettings => format!(
            "{names} failed, and such a failure can have no record: add --root DIR with the unit files, or paste the output of \
            '{}' into the log, and the answer names the lines that can be the cause",
            first.systemctl("cat")
        ),
        FailureSearch::LimitedTime => format!(
            "{names} failed, within that time or not: without --since and --until, the answer names the lines that can be the \
            cause"
        ),
    };
    Some(Note::new("failed-without-record", text))
}

/// Whether an answer is about a unit, or about its template.
fn is_about(answer: &Answer, unit: &Unit) -> bool {
    let is_named = |name: &UnitName| answer.unit.as_deref() == Some(name.as_str());
    answer.manager.as_deref() == Some(unit.manager.to_string().as_str())
        && (is_named(&unit.name) || unit.name.template_name().as_ref().is_some_and(is_named))
}

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
        // strace shows calls as well that the kernel itself refuses.
        let has_denials = answered.as_ref().is_some_and(|answer| !answer.is_denied_elsewhere());
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
