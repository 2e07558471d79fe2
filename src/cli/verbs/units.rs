//! `harden-why UNIT…`: the answer for units of this machine.

use crate::cli::args::Cli;
use crate::cli::lookup::context::Context;
use crate::cli::lookup::unit_answer::{answer_for_unknown_units, answers_for_name};
use crate::cli::lookup::unit_names::{parse_scope, parse_unit_name};
use crate::cli::views::answer::{Report, SCHEMA};
use crate::incidents::local_time::LocalTime;
use crate::units::UnitName;

/// Answers for each of the named units.
///
/// # Errors
/// A name or a time cannot be parsed, or the incident source fails.
pub(crate) async fn answer(cli: &Cli, local_time: &LocalTime) -> anyhow::Result<Report> {
    let names: Vec<UnitName> = cli.units.units.iter().map(|name| parse_unit_name(name)).collect::<Result<_, _>>()?;
    let scope = parse_scope(&cli.units, local_time)?;
    let context = Context::open(&cli.common, &cli.units.source, local_time).await?;
    let mut units = Vec::new();
    if cli.units.unknown {
        units.push(answer_for_unknown_units(&context, scope).await?);
    }
    for name in &names {
        units.extend(answers_for_name(&context, name, scope).await?);
    }
    // Evicted incidents are older than the latest denial of a unit that has later ones.
    let latest = units.iter().map(|answer| answer.denials.iter().filter_map(|denial| denial.times.last_millis).max());
    let evicted = latest.min().flatten().max(scope.since);
    let mut notes = context.notes.clone();
    notes.extend(context.eviction_note(evicted));
    Ok(Report { schema: SCHEMA, demo: None, units, log: None, notes })
}
