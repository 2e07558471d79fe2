//! The units that can be refused calls without a record, by what their managers hold of them.

use crate::audit::Note;
use crate::audit::text::plural;
use crate::cli::lookup::incident_source;
use crate::cli::terminal::page::{BOLD, Page, styled};
use crate::cli::terminal::progress::Steps;
use crate::host::unit_settings::surroundings;
use crate::incidents::local_time::LocalTime;
use crate::operations::local_machine::LocalMachine;
use crate::operations::refusal_logging::state::ActiveLogging;
use crate::policy::Directive;
use crate::systemd::manager::{Managers, SystemdError, SystemdManager, UnitProperties};
use crate::systemd::syscall_groups;
use crate::units::Manager;
use serde::Serialize;
use std::cell::RefCell;

/// How many are named.
const NAMED: usize = 12;

/// A unit that can be refused calls without a record.
#[derive(Debug, Serialize)]
pub(crate) struct SilentUnit {
    pub(crate) unit: String,
    /// `system`, or `user:UID`.
    pub(crate) manager: String,
    /// Its directives that refuse with an error, `SystemCallFilter` first.
    pub(crate) directives: Vec<&'static str>,
    /// What its manager says: `active`, `inactive`, `failed`, …
    state: String,
    /// Refusals are recorded now, of processes started since they are.
    pub(crate) recorded: bool,
}

impl SilentUnit {
    /// Whether its filter refuses, rather than a directive that nearly every unit has.
    pub(crate) fn is_filtered(&self) -> bool {
        self.directives.first() == Some(&Directive::SystemCallFilter.key())
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Silent {
    /// Those with a filter first, by name.
    pub(crate) units: Vec<SilentUnit>,
    /// Managers that have refusals recorded, and since when.
    recorded: Vec<(String, String)>,
    pub(crate) notes: Vec<Note>,
}

impl Silent {
    /// Asks the system's manager and one's own, both at once.
    pub(crate) async fn look(managers: &Managers, which: incident_source::ManagerScope, clock: &LocalTime) -> Self {
        let own = Manager::User(nix::unistd::geteuid().as_raw());
        let steps = RefCell::new(Steps::new("units"));
        let ask = async |manager: Manager, at: usize| {
            if !which.includes(Some(manager)) {
                return Self::default();
            }
            let told = |done, of| steps.borrow_mut().set(at, done, of);
            match managers.connect(manager).await {
                Ok(running) => Self::of(managers, &running, told, clock).await,
                // Most users of the system have no manager of their own, root above all.
                Err(SystemdError::Unreachable { .. }) if manager == own => Self::default(),
                Err(error) => Self::unknown(manager, &error),
            }
        };
        let (mut silent, users) = tokio::join!(ask(Manager::System, 0), ask(own, 1));
        silent.units.extend(users.units);
        silent.recorded.extend(users.recorded);
        silent.notes.extend(users.notes);
        silent.units.sort_by(|one, other| {
            let key = |unit: &SilentUnit| (!unit.is_filtered(), unit.manager.clone(), unit.unit.clone());
            key(one).cmp(&key(other))
        });
        silent
    }

    async fn of(
        managers: &Managers,
        running: &SystemdManager,
        told: impl FnMut(usize, usize),
        clock: &LocalTime,
    ) -> Self {
        let manager = running.manager();
        let (facts, complete) = match running.list_loaded_units(told).await {
            Ok(loaded) => loaded,
            Err(error) => return Self::unknown(manager, &error),
        };
        let recording = ActiveLogging::find(LocalMachine::new(managers), manager).await;
        let (groups, surroundings) = (syscall_groups::load().groups, surroundings(manager));
        let refusing = |facts: &UnitProperties| {
            let policy = facts.policy(surroundings.clone(), &groups);
            let mut directives = policy.refusing_directives();
            directives.sort_by_key(|directive| *directive != Directive::SystemCallFilter);
            (!directives.is_empty()).then(|| SilentUnit {
                unit: facts.id.to_string(),
                manager: manager.to_string(),
                directives: directives.into_iter().map(Directive::key).collect(),
                state: crate::audit::text::escape(facts.active_state.as_bytes()),
                recorded: recording.is_some() && !policy.loggable_directives().is_empty(),
            })
        };
        let units = facts.iter().filter_map(refusing).collect();
        let whose = crate::cli::terminal::words::describe_manager(&manager.to_string());
        let recorded = recording.map(|recording| (manager.to_string(), recording.when(clock)));
        let notes = (!complete).then(|| {
            Note::new(
                "units-incomplete",
                format!(
                    "the {whose} did not tell of all its units in time: more of them may be refused calls silently"
                ),
            )
        });
        Self { units, recorded: recorded.into_iter().collect(), notes: notes.into_iter().collect() }
    }

    fn unknown(manager: Manager, error: &SystemdError) -> Self {
        let whose = crate::cli::terminal::words::describe_manager(&manager.to_string());
        let note = format!("which units of the {whose} are refused calls without a record is not known: {error}");
        Self { notes: vec![Note::new("units-unknown", note)], ..Self::default() }
    }

    /// The unit of a line, if it is one of them.
    pub(crate) fn find(&self, unit: &str, manager: &str) -> Option<&SilentUnit> {
        self.units.iter().find(|silent| silent.unit == unit && silent.manager == manager)
    }

    /// Shows them; all by name if so asked.
    pub(crate) fn show(&self, page: &mut Page, all: bool) {
        let unrecorded: Vec<&SilentUnit> = self.units.iter().filter(|unit| !unit.recorded).collect();
        if !unrecorded.is_empty() {
            page.gap();
            page.line(styled(BOLD, format_args!("Units whose refusals leave no record: {}", unrecorded.len())));
            show_some(page, &unrecorded, all);
            page.paragraph(
                2,
                "To see them: 'harden-why rehearse UNIT', 'harden-why tap UNIT' or 'harden-why log-refusals UNIT'.",
            );
        }
        for (manager, when) in &self.recorded {
            let recorded: Vec<&SilentUnit> =
                self.units.iter().filter(|unit| unit.recorded && unit.manager == *manager).collect();
            page.gap();
            page.line(styled(BOLD, format_args!("Units whose refusals are recorded now: {}", recorded.len())));
            show_some(page, &recorded, all);
            page.paragraph(
                2,
                &format!(
                    "Of the {}, of processes started {when}.",
                    crate::cli::terminal::words::describe_manager(manager)
                ),
            );
        }
    }
}

/// Those with a filter by name, and the others.
fn show_some(page: &mut Page, units: &[&SilentUnit], all: bool) {
    let (filtered, others) = units.split_at(units.iter().take_while(|unit| unit.is_filtered()).count());
    if !filtered.is_empty() {
        let most = if all { filtered.len() } else { NAMED };
        page.item("  SystemCallFilter=  ", &names(filtered, most));
    }
    if !others.is_empty() {
        let most = if all { others.len() } else { 0 };
        page.item("  other settings     ", &names(others, most));
    }
}

/// Names, at most so many.
fn names(units: &[&SilentUnit], most: usize) -> String {
    let (shown, rest) = units.split_at(units.len().min(most));
    let shown = shown.iter().map(|unit| name(unit)).collect::<Vec<_>>().join(", ");
    match (shown.is_empty(), rest.len()) {
        (_, 0) => shown,
        (true, rest) => format!("{} ('harden-why --all' names them)", plural(rest as u64, "unit")),
        (false, rest) => format!("{shown} and {rest} more ('harden-why --all' names them)"),
    }
}

fn name(unit: &SilentUnit) -> String {
    if unit.manager == "system" { unit.unit.clone() } else { format!("{} (your own)", unit.unit) }
}
