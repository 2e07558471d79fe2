//! `harden-why UNIT…`: the answer for units of this machine.

use crate::cli::args::{Common, Units};
use crate::cli::exit_status::UnknownUnitError;
use crate::cli::lookup::context::Context;
use crate::cli::lookup::incident_source::{IncidentScope, ManagerScope, OtherSource};
use crate::cli::lookup::similar_names::{hint_for_verb_of_others, similar_verb};
use crate::cli::lookup::unit_answer::{answer_for_unknown_units, answers_for_instances, answers_for_name};
use crate::cli::lookup::unit_names::{UnitPattern, parse_scope};
use crate::cli::lookup::unit_words::{ChosenUnit, list_unit_files};
use crate::cli::terminal::output::SCHEMA;
use crate::cli::views::answer::Report;
use crate::incidents::local_time::LocalTime;
use crate::units::UnitName;

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
    for (managers, names) in group_instances(&chosen) {
        let scope = IncidentScope { managers, ..scope };
        let answers = match names.as_slice() {
            [first, _, ..] if first.template_name().is_some() => {
                let template = first.template_name().unwrap_or_else(|| first.clone());
                answers_for_instances(&context, &template, &names, scope, asked.lines).await?
            }
            alone => {
                let mut answers = Vec::new();
                for name in alone {
                    answers.extend(answers_for_name(&context, name, scope, asked.lines).await?);
                }
                answers
            }
        };
        units.extend(answers);
    }
    // Evicted incidents are older than the latest denial of a unit that has later ones.
    let latest = units.iter().map(|answer| answer.denials.iter().filter_map(|denial| denial.times.last_millis).max());
    let evicted = latest.min().flatten().max(scope.times.since);
    let mut notes = context.notes.clone();
    notes.extend(context.eviction_note(evicted));
    Ok(Report { schema: SCHEMA, demo: None, units, log: None, notes })
}

/// Groups the instances of each template, and leaves other units alone, in the order of the first of each group.
fn group_instances(chosen: &[ChosenUnit]) -> Vec<(ManagerScope, Vec<UnitName>)> {
    let mut groups: Vec<(ManagerScope, Vec<UnitName>)> = Vec::new();
    for ChosenUnit { name, managers } in chosen {
        let template = name.template_name().filter(|_| !name.is_template());
        let is_same = |(of, names): &&mut (ManagerScope, Vec<UnitName>)| {
            let first = names.first().filter(|first| !first.is_template()).and_then(UnitName::template_name);
            template.is_some() && of == managers && first == template
        };
        match groups.iter_mut().find(is_same) {
            Some((_, names)) => names.push(name.clone()),
            None => groups.push((*managers, vec![name.clone()])),
        }
    }
    groups
}

/// Returns the error for a first word that resembles a verb and names no unit file: a typing error needs no daemon to be
/// found.
fn find_mistyped_verb(words: &[String]) -> Option<anyhow::Error> {
    let word = words.first()?;
    let question = match hint_for_verb_of_others(word) {
        Some(hint) => hint.to_owned(),
        None => format!("Did you mean the command '{}'?", similar_verb(word)?),
    };
    let name = ChosenUnit::find(word, ManagerScope::All).ok()?.name;
    if list_unit_files().contains(&name) {
        return None;
    }
    Some(UnknownUnitError(format!("Unit {name} not found. {question}")).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_of_one_template_are_one_group_and_other_units_stay_alone() {
        let chosen = |name: &str, managers| ChosenUnit { name: name.parse().unwrap(), managers };
        let all = ManagerScope::All;
        let chosen = [
            chosen("inst@0.service", all),
            chosen("web.service", all),
            chosen("inst@1.service", all),
            chosen("inst@2.service", ManagerScope::System),
            chosen("other@0.service", all),
            chosen("inst@.service", all),
        ];
        let groups = group_instances(&chosen);
        let names = groups.iter().map(|(_, names)| names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "));
        assert_eq!(
            names.collect::<Vec<_>>(),
            ["inst@0.service inst@1.service", "web.service", "inst@2.service", "other@0.service", "inst@.service"]
        );
    }
}
