//! `harden-why UNIT…`: the answer for units of this machine.

use crate::cli::args::Cli;
use crate::cli::lookup::caveats::unheard;
use crate::cli::lookup::incident_source::Source;
use crate::cli::lookup::unit_answer::{none_known, of_name, unknown};
use crate::cli::lookup::unit_names::{instances, scope, unit_name};
use crate::cli::views::answer::{Report, SCHEMA};
use crate::incidents::local_time::Clock;
use crate::systemd::manager::Managers;
use crate::systemd::syscall_groups;
use crate::systemd::syscall_groups::groups_note;
use crate::units::UnitName;

/// Answers for each of the units.
///
/// # Errors
/// A name is none, a time is none, or there is nobody to ask.
pub(crate) async fn answer(cli: &Cli, clock: &Clock) -> anyhow::Result<Report> {
    let names: Vec<UnitName> = cli.units.units.iter().map(|name| unit_name(name)).collect::<Result<_, _>>()?;
    let scope = scope(&cli.units, clock)?;
    let (source, mut notes) = Source::open(&cli.common, &cli.units.source).await?;
    let loaded = syscall_groups::load();
    notes.extend(groups_note(&loaded));
    notes.extend(unheard(&source, clock).await);
    if cli.units.unknown {
        let units = vec![unknown(scope, &source, &loaded.groups, clock).await?];
        return Ok(Report { schema: SCHEMA, demo: None, units, log: None, notes });
    }
    let managers = Managers::new(&cli.common.bus);
    let mut units = Vec::new();
    for name in &names {
        let meant = instances(name, &source, scope).await?;
        if meant.is_empty() {
            units.push(none_known(name, scope, &managers, &loaded.groups, clock).await);
        }
        for name in &meant {
            units.extend(of_name(name, scope, &source, &managers, &loaded.groups, clock).await?);
        }
    }
    Ok(Report { schema: SCHEMA, demo: None, units, log: None, notes })
}
