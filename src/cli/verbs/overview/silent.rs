//! The units that can refuse calls without a record, from the settings that their managers hold.

use crate::audit::Note;
use crate::audit::text::{escape, plural};
use crate::cli::lookup::incident_source::ManagerScope;
use crate::cli::terminal::clock::local_time_now;
use crate::cli::terminal::page::{BOLD, Page, styled};
use crate::cli::terminal::progress::Steps;
use crate::cli::terminal::words::describe_manager;
use crate::host::unit_settings::load_manager_context;
use crate::operations::local_machine::LocalMachine;
use crate::operations::refusal_logging::state::ActiveLogging;
use crate::policy::Directive;
use crate::syscalls::Groups;
use crate::systemd::manager::{Managers, SystemdError, UnitProperties};
use crate::units::{Manager, UnitName};
use serde::Serialize;
use std::cell::RefCell;
use std::collections::BTreeMap;

/// A unit that can refuse calls without a record.
#[derive(Debug, Serialize)]
pub(crate) struct SilentUnit {
    pub(crate) unit: String,
    /// `system`, or `user:UID`.
    pub(crate) manager: String,
    /// The directives that refuse with an error, `SystemCallFilter` first.
    pub(crate) directives: Vec<&'static str>,
    /// Its `ActiveState`: `active`, `inactive`, `failed`, …
    state: String,
    /// Whether the manager logs refusals now, for processes started since logging began.
    pub(crate) recorded: bool,
}

impl SilentUnit {
    /// Returns whether its filter refuses calls, and not only a directive that most units have.
    pub(crate) fn is_filtered(&self) -> bool {
        self.directives.first() == Some(&Directive::SystemCallFilter.key())
    }
}

/// All such units of the managers that answer.
#[derive(Debug, Default)]
pub(crate) struct SilentUnits {
    /// Sorted by name; those with a filter first.
    pub(crate) units: Vec<SilentUnit>,
    /// The managers that log refusals, each with its time range in words.
    recorded: Vec<(String, String)>,
    pub(crate) notes: Vec<Note>,
}

/// The loaded units of one manager.
pub(crate) struct LoadedUnits {
    manager: Manager,
    /// Their settings, and whether the list is complete.
    units: Result<(Vec<UnitProperties>, bool), SystemdError>,
    /// How the manager logs refusals now, if it does.
    logging: Option<ActiveLogging>,
}

impl LoadedUnits {
    /// Asks the system manager and the caller's own manager concurrently.
    pub(crate) async fn query(managers: &Managers, which: ManagerScope) -> Vec<Self> {
        let own = Manager::User(nix::unistd::geteuid().as_raw());
        let steps = RefCell::new(Steps::new("units"));
        let ask = async |manager: Manager, at: usize| {
            if !which.includes(Some(manager)) {
                return None;
            }
            let report = |done, of| steps.borrow_mut().set(at, done, of);
            match managers.connect(manager).await {
                Ok(running) => {
                    let logging = ActiveLogging::find(LocalMachine::new(managers), manager);
                    let (units, logging) = tokio::join!(running.list_loaded_units(report), logging);
                    Some(Self { manager, units, logging })
                }
                // Most users, and root, have no manager of their own.
                Err(SystemdError::Unreachable { .. }) if manager == own => None,
                Err(error) => Some(Self { manager, units: Err(error), logging: None }),
            }
        };
        let (system, user) = tokio::join!(ask(Manager::System, 0), ask(own, 1));
        system.into_iter().chain(user).collect()
    }
}

impl SilentUnits {
    /// Finds those of the loaded units that can refuse calls without a record.
    pub(crate) fn find_in(loaded: Vec<LoadedUnits>, groups: &Groups) -> Self {
        let mut silent = Self::default();
        for loaded in loaded {
            silent.add(loaded, groups);
        }
        silent.units.sort_by(|one, other| {
            let key = |unit: &SilentUnit| (!unit.is_filtered(), unit.manager.clone(), unit.unit.clone());
            key(one).cmp(&key(other))
        });
        silent
    }

    /// Adds those of one manager.
    fn add(&mut self, LoadedUnits { manager, units, logging }: LoadedUnits, groups: &Groups) {
        let whose = describe_manager(&manager.to_string());
        let (facts, complete) = match units {
            Ok(units) => units,
            Err(error) => {
                let note = format!("cannot find the units of the {whose} that are refused calls silently: {error}");
                return self.notes.push(Note::new("units-unknown", note));
            }
        };
        let settings_of_manager = load_manager_context(manager);
        let refusing = |facts: &UnitProperties| {
            let policy = facts.policy(settings_of_manager.clone(), groups);
            let mut directives = policy.refusing_directives();
            directives.sort_by_key(|directive| *directive != Directive::SystemCallFilter);
            (!directives.is_empty()).then(|| SilentUnit {
                unit: facts.id.to_string(),
                manager: manager.to_string(),
                directives: directives.into_iter().map(Directive::key).collect(),
                state: escape(facts.active_state.as_bytes()),
                recorded: logging.is_some() && !policy.loggable_directives().is_empty(),
            })
        };
        self.units.extend(facts.iter().filter_map(refusing));
        self.recorded.extend(logging.map(|logging| (manager.to_string(), logging.when(&local_time_now()))));
        if !complete {
            self.notes.push(Note::new(
                "units-incomplete",
                format!("the {whose} did not list all its units in time: more of them may be refused calls silently"),
            ));
        }
    }

    /// Finds a unit by its name and manager.
    pub(crate) fn find(&self, unit: &str, manager: &str) -> Option<&SilentUnit> {
        self.units.iter().find(|silent| silent.unit == unit && silent.manager == manager)
    }

    /// Adds the units to a page: one line each for those without a record and those that are logged now, or with `all`
    /// every name.
    pub(crate) fn add_to_page(&self, page: &mut Page, all: bool) {
        let unrecorded: Vec<&SilentUnit> = self.units.iter().filter(|unit| !unit.recorded).collect();
        if all && !unrecorded.is_empty() {
            page.gap();
            page.paragraph(
                0,
                &styled(BOLD, format_args!("Units whose refusals leave no record: {}", unrecorded.len())),
            );
            add_units(page, &unrecorded);
            page.paragraph(
                2,
                "To see them: 'harden-why rehearse UNIT', 'harden-why tap UNIT' or 'harden-why log-refusals UNIT'.",
            );
        } else if !unrecorded.is_empty() {
            let units = plural(unrecorded.len() as u64, "unit");
            page.paragraph(
                0,
                &format!("{units} can be refused calls without a record: 'harden-why --all' names them."),
            );
        }
        for (manager, when) in &self.recorded {
            let recorded: Vec<&SilentUnit> =
                self.units.iter().filter(|unit| unit.recorded && unit.manager == *manager).collect();
            if all {
                page.gap();
                page.line(styled(BOLD, format_args!("Units whose refusals are logged now: {}", recorded.len())));
                add_units(page, &recorded);
                page.paragraph(2, &format!("For the {}, processes started {when}.", describe_manager(manager)));
            } else {
                let units = plural(recorded.len() as u64, "unit");
                page.paragraph(
                    0,
                    &format!(
                        "The {} logs the refusals of {units} now, of processes started {when}.",
                        describe_manager(manager)
                    ),
                );
            }
        }
    }
}

/// Adds the names of the units with a filter, and of the others.
fn add_units(page: &mut Page, units: &[&SilentUnit]) {
    let (filtered, others) = units.split_at(units.iter().take_while(|unit| unit.is_filtered()).count());
    for (label, units) in [("  SystemCallFilter=  ", filtered), ("  other settings     ", others)] {
        if !units.is_empty() {
            page.item(label, &fold_names(units).join(", "));
        }
    }
}

/// Returns the names, with one for all instances of a template.
fn fold_names(units: &[&SilentUnit]) -> Vec<String> {
    let key = |unit: &SilentUnit| Some((unit.unit.parse::<UnitName>().ok()?.template_name()?, unit.manager.clone()));
    let mut counts: BTreeMap<(UnitName, String), usize> = BTreeMap::new();
    for key in units.iter().filter_map(|unit| key(unit)) {
        *counts.entry(key).or_default() += 1;
    }
    let mut names = Vec::new();
    for unit in units {
        // The first instance of a template names all of them.
        match key(unit).map(|key| (counts.remove(&key), key.0)) {
            Some((None, _)) => {}
            Some((Some(count), template)) if count > 1 => {
                names.push(format!("{template} ({})", plural(count as u64, "instance")));
            }
            _ => names.push(name(unit)),
        }
    }
    names
}

fn name(unit: &SilentUnit) -> String {
    if unit.manager == "system" { unit.unit.clone() } else { format!("{} (your own)", unit.unit) }
}
