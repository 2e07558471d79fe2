//! `harden-why --directory DIR`: the alerts in the journals of many machines.

use crate::cli::args::Units;
use crate::cli::lookup::fleet_alerts::FleetAlerts;
use crate::cli::lookup::unit_names::{UnitPattern, parse_scope};
use crate::cli::views::fleet::{FleetCount, FleetReport};
use crate::incidents::local_time::LocalTime;
use crate::outlet::message_ids;
use crate::systemd::journal::gathered::{GatheredAlert, find_files, read_alerts};
use crate::units::{Manager, UnitName};
use anyhow::{Context as _, ensure};
use std::path::{Path, PathBuf};

/// The directory of `--merge`.
const JOURNALS: &str = "/var/log/journal";

/// Lists the alerts of all machines.
///
/// # Errors
/// A name or a time is invalid, or the journals cannot be read.
pub(crate) fn list_alerts(units: &Units, clock: &LocalTime) -> anyhow::Result<FleetReport> {
    let patterns = units.units.iter().map(|word| UnitPattern::parse(word)).collect::<anyhow::Result<Vec<_>>>()?;
    let scope = parse_scope(units, clock)?;
    let files = chosen_files(units)?;
    let micros = |millis: i64| u64::try_from(millis).unwrap_or_default().saturating_mul(1_000);
    let until = scope.times.until.map_or(u64::MAX, micros);
    let mut fleet = FleetAlerts::default();
    let since = scope.times.since.map(micros);
    // A correction can be in an earlier file than its alert.
    read_alerts(&files, &[message_ids::CORRECTION], since, |correction| fleet.add_correction(&correction))?;
    let others: Vec<&str> = message_ids::ALL.into_iter().filter(|id| *id != message_ids::CORRECTION).collect();
    read_alerts(&files, &others, since, |alert| {
        let manager = str::from_utf8(&alert.manager).ok().and_then(|word| word.parse::<Manager>().ok());
        let is_chosen = scope.managers.includes(manager) && is_chosen(&patterns, &alert);
        // A summary of several units names none.
        if alert.at <= until && (is_chosen || alert.unit.is_empty() && alert.is_summary()) {
            fleet.add(&alert);
        }
    })?;
    Ok(FleetReport::new(&fleet, FleetCount::Alerts, Vec::new(), clock, units.lines))
}

fn is_chosen(patterns: &[UnitPattern], alert: &GatheredAlert) -> bool {
    let unit = str::from_utf8(&alert.unit).ok().and_then(|word| word.parse::<UnitName>().ok());
    patterns.is_empty() || unit.is_some_and(|unit| patterns.iter().any(|pattern| pattern.matches(&unit)))
}

/// Returns the journal files that the options name.
fn chosen_files(units: &Units) -> anyhow::Result<Vec<PathBuf>> {
    let journals = &units.journals;
    if !journals.file.is_empty() {
        return Ok(journals.file.clone());
    }
    find_journals(journals.directory.as_deref().unwrap_or(Path::new(JOURNALS)))
}

/// Returns the journal files in a directory and below.
///
/// # Errors
/// A directory cannot be read, or there is no journal.
pub(crate) fn find_journals(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let files = find_files(directory).with_context(|| format!("cannot read {}", directory.display()))?;
    ensure!(!files.is_empty(), "there is no journal (*.journal) in {} and three levels below", directory.display());
    Ok(files)
}
