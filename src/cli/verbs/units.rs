//! `harden-why UNIT…`: the answer for units of this machine.

use crate::cli::args::{Common, Units};
use crate::cli::exit_status::UnknownUnitError;
use crate::cli::lookup::context::Context;
use crate::cli::lookup::incident_source::{IncidentScope, ManagerScope, OtherSource};
use crate::cli::lookup::similar_names::similar_verb;
use crate::cli::lookup::unit_answer::{answer_for_unknown_units, answers_for_name};
use crate::cli::lookup::unit_names::{UnitPattern, parse_scope};
use crate::cli::lookup::unit_words::{ChosenUnit, list_unit_files};
use crate::cli::terminal::output::SCHEMA;
use crate::cli::views::answer::Report;
use crate::incidents::local_time::LocalTime;

/// Answers for each of the named units.
///
/// # Errors
/// A name or a time cannot be parsed, or the incident source fails.
pub(crate) async fn answer(common: &Common, asked: &Units, local_time: &LocalTime) -> anyhow::Result<Report> {
    let words = &asked.units;
    // A typing error needs no daemon to be found.
    let is_pattern = |word: &String| matches!(UnitPattern::parse(word), Ok(UnitPattern::Glob(_)));
    let scope = parse_scope(asked, local_time)?;
    let mut named = words.iter().filter(|word| !is_pattern(word));
    named.try_for_each(|word| ChosenUnit::find(word, scope.managers).map(drop))?;
    let mut context = match Context::open(common, &asked.source, OtherSource::ExplainLog).await {
        Ok(context) => context,
        Err(error) => return Err(find_mistyped_verb(words).unwrap_or(error)),
    };
    context.machines.clone_from(&asked.others.machines);
    let list = async || context.list_denied_units(scope.managers).await;
    let chosen = ChosenUnit::find_all(words, scope.managers, "denials", list).await?;
    let mut units = Vec::new();
    if asked.unknown {
        units.push(answer_for_unknown_units(&context, scope, asked.lines).await?);
    }
    for ChosenUnit { name, managers } in &chosen {
        let scope = IncidentScope { managers: *managers, ..scope };
        units.extend(answers_for_name(&context, name, scope, asked.lines).await?);
    }
    // Evicted incidents are older than the latest denial of a unit that has later ones.
    let latest = units.iter().map(|answer| answer.denials.iter().filter_map(|denial| denial.times.last_millis).max());
    let evicted = latest.min().flatten().max(scope.times.since);
    let mut notes = context.notes.clone();
    notes.extend(context.eviction_note(evicted));
    Ok(Report { schema: SCHEMA, demo: None, units, log: None, notes })
}

/// Returns the error for a first word that resembles a verb and names no unit file: a typing error needs no daemon to be
/// found.
fn find_mistyped_verb(words: &[String]) -> Option<anyhow::Error> {
    let word = words.first()?;
    let verb = similar_verb(word)?;
    let name = ChosenUnit::find(word, ManagerScope::All).ok()?.name;
    if list_unit_files().contains(&name) {
        return None;
    }
    Some(UnknownUnitError(format!("Unit {name} not found. Did you mean the command '{verb}'?")).into())
}
