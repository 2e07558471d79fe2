//! Units of a log that failed without a record, and what their programs could not do.
//!
//! A program's message counts for a unit if the journal says so, or if its tag is the name of a program which that unit
//! alone runs of those that failed. `--assume-unit` names the unit of messages for which the log names none.

use crate::audit::text::base_name;
use crate::incidents::UnitFailure;
use crate::intake::failures::{AttemptSource, LoggedAttempt, LoggedFailure, LoggedFailures};
use crate::policy::ExecCommand;
use crate::policy::program_path::runs_task;
use crate::units::{Manager, Unit, UnitName};
use std::collections::{BTreeMap, BTreeSet};

/// The most units to read files for.
const MOST_UNITS: usize = 64;

/// A unit that may have failed, and its commands.
struct PossibleOwner<'a> {
    unit: &'a Unit,
    commands: Vec<ExecCommand>,
    /// Whether the user says that messages of unknown units are its own.
    is_assumed: bool,
}

/// Returns the units that failed, each with what its programs could not do. `load` returns the commands of a unit, if it
/// has files.
pub(crate) fn collect_failures(
    logged: &LoggedFailures,
    assumed: Option<&UnitName>,
    load: impl Fn(&Unit) -> Option<Vec<ExecCommand>>,
) -> Vec<(Unit, UnitFailure)> {
    let assumed = assumed.map(|name| Unit { manager: Manager::System, name: name.clone() });
    let of_journal = logged.attempts.keys().filter_map(|source| match source {
        AttemptSource::Unit(unit) => Some(unit),
        _ => None,
    });
    let units: BTreeSet<&Unit> = logged.units.keys().chain(of_journal).chain(&assumed).take(MOST_UNITS).collect();
    let candidate = |unit: &'_ Unit| load(unit).map(|commands| (unit.clone(), commands));
    let known: BTreeMap<Unit, Vec<ExecCommand>> = units.into_iter().filter_map(candidate).collect();
    let candidates: Vec<PossibleOwner<'_>> = known
        .iter()
        .map(|(unit, commands)| PossibleOwner {
            unit,
            commands: commands.clone(),
            is_assumed: assumed.as_ref() == Some(unit),
        })
        .collect();
    let collect = |candidate: &PossibleOwner<'_>| {
        let failed = logged.units.get(candidate.unit);
        let mut failure = failed.map_or_else(UnitFailure::default, |failed| failed.failure.clone());
        let mut own = find_attempts(logged, candidate, &candidates, failed);
        own.sort_by_key(|attempt| attempt.line());
        for attempt in own {
            if failed.is_none_or(|failed| failed.is_of_last_run(attempt.line())) {
                failure.add_attempt(attempt.attempt.clone());
            } else {
                failure.add_earlier(attempt.attempt.clone());
            }
        }
        (candidate.unit.clone(), failure)
    };
    candidates.iter().map(collect).filter(|(_, failure)| *failure != UnitFailure::default()).collect()
}

/// Returns what the programs of a unit could not do shortly before it failed; all of it if the log does not say when.
fn find_attempts<'a>(
    logged: &'a LoggedFailures,
    candidate: &PossibleOwner<'_>,
    candidates: &[PossibleOwner<'_>],
    failed: Option<&LoggedFailure>,
) -> Vec<&'a LoggedAttempt> {
    let tags = logged.attempts.keys().filter(|source| matches!(source, AttemptSource::Tag(_))).count();
    let is_own = |source: &AttemptSource| match source {
        AttemptSource::Unit(unit) => unit == candidate.unit,
        AttemptSource::Tag(tag) => {
            let runs = |candidate: &PossibleOwner<'_>| candidate.commands.iter().any(|command| has_tag(command, tag));
            let runners = candidates.iter().filter(|candidate| runs(candidate)).count();
            // A log of one program is that of the unit which the user assumes.
            (runs(candidate) && runners == 1) || (candidate.is_assumed && runners == 0 && tags == 1)
        }
        AttemptSource::Executable(exe) => {
            let runs = |candidate: &PossibleOwner<'_>| runs_task(&candidate.commands, exe, b"");
            runs(candidate) && candidates.iter().filter(|candidate| runs(candidate)).count() == 1
        }
        AttemptSource::Untagged => candidate.is_assumed,
    };
    let is_near = |attempt: &&LoggedAttempt| failed.is_none_or(|failed| failed.is_near(attempt));
    let own = logged.attempts.iter().filter(|(source, _)| is_own(source));
    own.flat_map(|(_, attempts)| attempts).filter(is_near).collect()
}

/// Whether a program logs under a tag: systemd and libc take the name of its file, which the kernel cuts after 15 bytes.
fn has_tag(command: &ExecCommand, tag: &str) -> bool {
    const SHORT: usize = 15;
    let name = base_name(&command.program);
    !name.is_empty() && (name == tag || (tag.len() == SHORT && name.get(..SHORT) == Some(tag)))
}
