//! `forget`: dismisses the denials of units until they come back, as `systemctl reset-failed` does for failures.

use crate::audit::Note;
use crate::audit::text::{escape_excerpt, plural};
use crate::cli::args::{Common, Forget};
use crate::cli::exit_status::{ExitStatus, UnknownUnitError};
use crate::cli::lookup::incident_source::{IncidentScope, IncidentSource, ManagerScope, OtherSource};
use crate::cli::lookup::sighting_times::SightingTimes;
use crate::cli::lookup::unit_names::{UnitPattern, managers_to_ask, query_own_name, resolve_alias};
use crate::cli::lookup::unit_words::{ChosenUnit, list_unit_files};
use crate::cli::terminal::output::SCHEMA;
use crate::cli::terminal::output::{Detail, Reply};
use crate::cli::terminal::page::{BOLD, Page, add_notes, styled};
use crate::cli::terminal::words::describe_manager;
use crate::incidents::UnitSummary;
use crate::operations::outcome::RequiresRoot;
use crate::outlet::access::OWN_UNITS_ONLY;
use crate::systemd::manager::Managers;
use crate::units::{Manager, Unit};
use anyhow::bail;
use serde::Serialize;

/// The dismissed denials.
#[derive(Debug, Serialize)]
pub(crate) struct DismissedDenials {
    schema: u32,
    /// The units whose denials were dismissed, newest first.
    forgotten: Vec<ForgottenUnit>,
    /// What limits the answer.
    notes: Vec<Note>,
    /// What the command names, for a page that has no units.
    #[serde(skip)]
    asked: String,
    /// Whether the caller may see the denials of their own units only.
    #[serde(skip)]
    own_units_only: bool,
}

/// A unit whose denials were dismissed.
#[derive(Debug, Serialize)]
struct ForgottenUnit {
    /// The unit's name; null for processes of an unknown unit.
    unit: Option<String>,
    /// `system`, or `user:UID`.
    manager: Option<String>,
    /// How many incidents were deleted.
    incidents: u64,
}

/// Dismisses the denials of the named units, or of processes whose unit is unknown.
///
/// # Errors
/// A name is invalid, the caller may not change a unit, or the daemon or its store fails.
pub(crate) async fn forget(common: &Common, asked: &Forget) -> anyhow::Result<DismissedDenials> {
    let scope = ManagerScope::from_flags(asked.managers);
    let managers = Managers::new(&common.bus);
    let mut patterns: Vec<(UnitPattern, ManagerScope)> = Vec::new();
    for word in &asked.units {
        if let Ok(glob @ UnitPattern::Glob(_)) = UnitPattern::parse(word) {
            patterns.push((glob, scope));
            continue;
        }
        let ChosenUnit { name, managers: of } = ChosenUnit::find(word, scope)?;
        let own = resolve_alias(&name, of, &managers).await;
        patterns.extend([name].into_iter().chain(own).map(|name| (UnitPattern::Name(name), of)));
    }
    let (incidents, notes) = IncidentSource::open(common, &asked.source, OtherSource::Store).await?;
    let own_units_only = incidents.status().await.is_some_and(|status| status.only_manager.is_some());
    let is_named = |unit: &Unit| {
        patterns.iter().any(|(pattern, of)| pattern.matches(&unit.name) && of.includes(Some(unit.manager)))
    };
    let summaries = incidents.units(IncidentScope { managers: scope, times: SightingTimes::default() }).await?;
    let units: Vec<Option<Unit>> = summaries
        .into_iter()
        .map(|UnitSummary { unit, .. }| unit)
        .filter(|unit| unit.as_ref().map_or(asked.unknown, is_named))
        .collect();
    if matches!(incidents, IncidentSource::Daemon(_)) {
        ensure_may_forget(&units, asked)?;
        // A store can be that of another machine.
        if units.is_empty() && !own_units_only {
            ensure_are_known(&patterns, &managers).await?;
        }
    }
    let mut forgotten = Vec::new();
    for unit in &units {
        let incidents = incidents.forget(unit.as_ref()).await?;
        let (unit, manager) = unit.as_ref().map(|unit| (unit.name.to_string(), unit.manager.to_string())).unzip();
        forgotten.push(ForgottenUnit { unit, manager, incidents });
    }
    let asked = if asked.unknown {
        "processes of unknown units".to_owned()
    } else {
        asked.units.iter().map(|name| escape_excerpt(name)).collect::<Vec<_>>().join(", ")
    };
    Ok(DismissedDenials { schema: SCHEMA, forgotten, notes, asked, own_units_only })
}

/// Checks that at least one of the units without denials exists.
async fn ensure_are_known(patterns: &[(UnitPattern, ManagerScope)], managers: &Managers) -> anyhow::Result<()> {
    let files = list_unit_files();
    for (pattern, of) in patterns {
        if files.iter().any(|name| pattern.matches(name)) {
            return Ok(());
        }
        let UnitPattern::Name(name) = pattern else { continue };
        for manager in managers_to_ask(*of) {
            // A manager that does not answer may have the unit.
            let is_silent = manager == Manager::System && managers.connect(manager).await.is_err();
            if is_silent || query_own_name(name, manager, managers).await.is_some() {
                return Ok(());
            }
        }
    }
    match patterns {
        [] => Ok(()),
        [(pattern @ UnitPattern::Name(_), _), ..] => bail!(UnknownUnitError(format!("Unit {pattern} not found."))),
        [(pattern, _), ..] => bail!(UnknownUnitError(format!("Units {pattern} not found."))),
    }
}

/// Checks that the caller may dismiss the denials of all units, before any is dismissed.
fn ensure_may_forget(units: &[Option<Unit>], asked: &Forget) -> anyhow::Result<()> {
    let uid = nix::unistd::geteuid().as_raw();
    let is_foreign = |unit: &&Option<Unit>| unit.as_ref().map(|unit| unit.manager) != Some(Manager::User(uid));
    let Some(foreign) = units.iter().find(|unit| uid != 0 && is_foreign(unit)) else { return Ok(()) };
    let what = if asked.unknown {
        "processes of unknown units".to_owned()
    } else {
        foreign
            .as_ref()
            .map_or_else(String::new, |unit| format!("{} ({})", unit.name, describe_manager(&unit.manager.to_string())))
    };
    bail!(RequiresRoot(format!("only root may forget denials of {what}")))
}

impl Reply for DismissedDenials {
    fn page(&self, _detail: Detail) -> String {
        let mut page = Page::default();
        for ForgottenUnit { unit, manager, incidents } in &self.forgotten {
            let name = unit.as_deref().unwrap_or("Unit unknown");
            let whose = manager.as_deref().filter(|manager| *manager != "system");
            let whose = whose.map_or_else(String::new, |manager| format!(" ({})", describe_manager(manager)));
            let denials = plural(*incidents, "denial");
            let what = format!("{}{whose}: forgot {denials}; the next one is new again.", styled(BOLD, name));
            page.paragraph(0, &what);
        }
        if page.is_empty() && self.own_units_only {
            page.paragraph(0, &format!("Nothing to forget: {OWN_UNITS_ONLY}."));
        } else if page.is_empty() {
            page.paragraph(0, &format!("Nothing to forget: no denials of {} are known.", self.asked));
        }
        add_notes(&mut page, &self.notes);
        page.finish()
    }

    fn exit_status(&self) -> ExitStatus {
        // A unit without denials is what the caller wants.
        if self.own_units_only && self.forgotten.is_empty() { ExitStatus::NoRights } else { ExitStatus::Done }
    }
}
