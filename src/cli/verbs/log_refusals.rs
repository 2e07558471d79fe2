//! `log-refusals`: logs calls that filters refuse with an error, for a limited time, so that the daemon sees them.

use crate::audit::Note;
use crate::audit::text::{plural, quote_arguments};
use crate::cli::args::{Common, LogRefusals, ManagerFlags};
use crate::cli::exit_status::UsageError;
use crate::cli::lookup::unit_names::require_instance;
use crate::cli::lookup::unit_words::ChosenUnit;
use crate::cli::terminal::page::{Page, add_notes};
use crate::cli::terminal::prompt;
use crate::cli::views::refusal_logging::RefusalLogging;
use crate::incidents::local_time::LocalTime;
use crate::operations::interruption::Interruption;
use crate::operations::local_machine::LocalMachine;
use crate::operations::outcome::{RefusalLogOutcome, RequiresRoot};
use crate::operations::refusal_logging::end::{TurnedOff, turn_off};
use crate::operations::refusal_logging::start::{LoggingPreparation, LoggingRequest, prepare};
use crate::operations::refusal_logging::units::{LoggedUnit, UnitSelection};
use crate::operations::service_manager::ServiceManagers;
use crate::systemd::manager::{Managers, SystemdError};
use crate::systemd::syscall_groups;
use crate::units::{Manager, UnitName};
use anyhow::{Context as _, bail, ensure};
use std::io::IsTerminal as _;

/// Turns logging on or off.
///
/// # Errors
/// Logging cannot be turned on or off. Nothing was changed, unless the error lists changes.
pub(crate) async fn log_refusals(
    common: &Common,
    asked: &LogRefusals,
    clock: &LocalTime,
) -> anyhow::Result<RefusalLogging> {
    let managers = Managers::new(&common.bus);
    let machine = LocalMachine::new(&managers);
    let is_root = machine.uid() == 0;
    let own = Manager::User(machine.uid());
    let ManagerFlags { system, user } = asked.managers;
    let manager = if user || (!system && !is_root) { own } else { Manager::System };
    ensure!(
        manager != Manager::System || is_root,
        RequiresRoot("only root can change the system manager (for your own units add --user)".to_owned())
    );
    // A person without root may mean a system unit.
    if !user && manager == own && matches!(managers.connect(own).await, Err(SystemdError::Unreachable { .. })) {
        bail!(RequiresRoot("your user manager does not run, and only root can change the system manager".to_owned()));
    }
    if asked.off {
        return end_logging(machine, manager, clock).await;
    }
    ensure!(
        asked.yes || (std::io::stdin().is_terminal() && !common.is_json()),
        UsageError("log-refusals asks before it changes anything, but there is no terminal: add --yes".to_owned())
    );
    let units = if asked.all {
        UnitSelection::All
    } else {
        let find = |word: &String| require_instance(ChosenUnit::find(word, manager.into())?.name);
        UnitSelection::Named(asked.units.iter().map(find).collect::<Result<_, _>>()?)
    };
    let (duration, no_restart, bus) = (asked.duration, asked.no_restart, common.bus.clone());
    let request = LoggingRequest { manager, units, duration, no_restart, bus };
    let mut plan = match prepare(machine, request, &syscall_groups::load().groups).await? {
        LoggingPreparation::Ready(plan) => plan,
        LoggingPreparation::OnByOthers { cause, units } => {
            let text = format!("{cause} logs refusals already. Nothing was changed.");
            let mut notes = vec![Note::new("logged-by-others", text)];
            notes.extend(restart_hint(manager, &units));
            return Ok(RefusalLogging::new(manager, RefusalLogOutcome::OnByOthers, clock, None, units, notes));
        }
    };
    let (outcome, marker) = (plan.outcome(), plan.marker());
    let mut logging = RefusalLogging::new(manager, outcome, clock, Some(&marker), plan.units.clone(), Vec::new());
    let mut interruption = Interruption::from_signals()?;
    if !asked.yes && !prompt::ask(&question(&logging), &mut interruption).await.context("nothing was changed")? {
        logging.outcome = RefusalLogOutcome::Declined;
        return Ok(logging);
    }
    let marker = plan.start(machine, clock, &mut interruption).await?;
    logging.set_period(&marker, clock);
    logging.units = plan.units;
    logging.notes.extend(restart_hint(manager, &logging.units));
    Ok(logging)
}

/// Turns logging off.
async fn end_logging<M: ServiceManagers>(
    machine: LocalMachine<'_, M>,
    manager: Manager,
    clock: &LocalTime,
) -> anyhow::Result<RefusalLogging> {
    let groups = syscall_groups::load().groups;
    let turned_off = turn_off(machine, manager, &groups, clock, &mut Interruption::from_signals()?).await?;
    let (outcome, note) = match turned_off {
        TurnedOff::Nothing { other_cause } => (
            RefusalLogOutcome::Nothing,
            other_cause.map(|by| {
                let text = format!("{by} logs refusals; harden-why switches off only its own logging");
                Note::new("logged-by-others", text)
            }),
        ),
        TurnedOff::Ended { still_logging } => {
            let names: Vec<&str> = still_logging.iter().map(UnitName::as_str).collect();
            let note = (!names.is_empty()).then(|| {
                let restart = manager.systemctl(&format!("restart {}", quote_arguments(names.iter().copied())));
                let text = format!("processes that started in the meantime keep logging until they restart: {restart}");
                Note::new("still-logged", text)
            });
            (RefusalLogOutcome::Ended, note)
        }
    };
    Ok(RefusalLogging::new(manager, outcome, clock, None, Vec::new(), note.into_iter().collect()))
}

/// The question on the terminal.
fn question(logging: &RefusalLogging) -> String {
    let mut notes = Page::default();
    add_notes(&mut notes, &logging.notes);
    let what = match logging.units_to_restart().count() {
        0 => "Log refused calls?".to_owned(),
        count => format!("Log refused calls, and restart {}?", plural(count as u64, "unit")),
    };
    format!("{}{}\n{what}", logging.describe_plan(), notes.finish())
}

/// Notes how to log units that were already running and were not restarted.
fn restart_hint(manager: Manager, units: &[LoggedUnit]) -> Option<Note> {
    let running = units.iter().filter(|unit| unit.can_be_restarted() && unit.restarted.is_none());
    let names: Vec<&str> = running.map(|unit| unit.name.as_str()).collect();
    (!names.is_empty()).then(|| {
        let restart = manager.systemctl(&format!("restart {}", quote_arguments(names.iter().copied())));
        let text = format!("Units that ran before are not logged until they restart: {restart}");
        Note::new("restart-to-log", text)
    })
}
