//! `log-refusals`: calls that filters refuse with an error are recorded for a time, and so reach the daemon.
//!
//! systemd asks the kernel for that where its own environment says `SYSTEMD_LOG_SECCOMP=1`; processes that start then
//! are recorded for as long as they live. A timer of the manager's ends it, whatever becomes of us.

pub(crate) use crate::operations::refusal_logging::end::left;
pub(crate) use crate::operations::refusal_logging::state::{Recording, RecordingView};

use crate::audit::Note;
use crate::cli::args::{Common, LogRefusals};
use crate::cli::lookup::unit_names::parse_instance_names;
use crate::cli::terminal::page::Page;
use crate::cli::terminal::prompt;
use crate::cli::views::refusal_logging::RefusalLogging;
use crate::incidents::local_time::LocalTime;
use crate::kernel::clock::now_millis;
use crate::operations::drop_in::DropInError;
use crate::operations::interruption::Interruption;
use crate::operations::refusal_logging::end::{TIMER, end, of, still_recorded};
use crate::operations::refusal_logging::marker::{Record, Switcher};
use crate::operations::refusal_logging::start::{at_peace, can_be_logged, switch, would_hold};
use crate::operations::refusal_logging::state::{config_of, is_same, others};
use crate::operations::refusal_logging::switch::Place;
use crate::operations::refusal_logging::targets;
use crate::operations::refusal_logging::targets::Chosen;
use crate::systemd::manager::Managers;
use crate::units::Manager;
use anyhow::{Context as _, ensure};
use std::io::IsTerminal as _;

/// Switches it on or off.
///
/// # Errors
/// It cannot be, and nothing was changed; or it is said what was.
pub(crate) async fn log_refusals(
    common: &Common,
    asked: &LogRefusals,
    clock: &LocalTime,
) -> anyhow::Result<RefusalLogging> {
    let me = nix::unistd::geteuid();
    let own = Manager::User(me.as_raw());
    let manager = if asked.user || (!asked.system && !me.is_root()) { own } else { Manager::System };
    ensure!(
        manager != Manager::System || me.is_root(),
        "only root can switch the system manager: run harden-why as root, or say --user for your own units"
    );
    let managers = Managers::new(&common.bus);
    if asked.off {
        return off(&managers, manager, clock).await;
    }
    ensure!(
        asked.yes || (std::io::stdin().is_terminal() && !common.json),
        "log-refusals asks before it changes anything, and there is nobody to ask: say --yes"
    );
    let running = managers.connect(manager).await?;
    can_be_logged(&running).await?;
    let mut notes = Vec::new();
    let config = config_of(manager, Some(&running)).await;
    let place = Place::of(manager, config.as_deref());
    let mut before = at_peace(&place)?;
    if let Some(record) = &before
        && !is_same(Some(&running), record.manager).await
    {
        // A manager that was started since knows nothing of it.
        place.clear()?;
        before = None;
    }
    let mut chosen = if asked.all {
        targets::all(&running).await?
    } else {
        targets::named(&managers, manager, &parse_instance_names(&asked.units)?).await?
    };
    if before.is_none() {
        if let Some(by) = others(&place, config.as_deref(), Some(&running)).await {
            notes.push(Note::new(
                "logged-by-others",
                format!("{by} has refusals recorded already: nothing was changed."),
            ));
            notes.extend(runs_on(manager, &chosen));
            return Ok(RefusalLogging::new(manager, "others", clock, None, chosen, notes));
        }
        would_hold(&place, config.as_deref())?;
    }
    targets::decide(&mut chosen, asked.no_restart);
    let started = running.started_at().await?;
    let plan = || {
        let since = before.as_ref().map_or_else(now_millis, |before| before.since);
        let until = now_millis().saturating_add(i64::try_from(asked.duration.as_millis()).unwrap_or(i64::MAX));
        Record { since, until, manager: started, switcher: Switcher::me(), on: true }
    };
    let outcome = if before.is_some() { "extended" } else { "started" };
    let mut logging = RefusalLogging::new(manager, outcome, clock, Some(&plan()), chosen, notes);
    let mut interruption = Interruption::heard()?;
    if !asked.yes && !prompt::ask(&question(&logging), &mut interruption).await.context("nothing was changed")? {
        logging.outcome = "declined";
        return Ok(logging);
    }
    // While it was thought about, time has passed, and another may have come.
    ensure!(at_peace(&place)? == before, "another harden-why has switched {} meanwhile: ask again", of(manager));
    let planned = plan();
    logging.set(&planned, clock);
    let switched = switch(&common.bus, &place, &running, &planned, asked.duration, clock, &mut interruption);
    if let Err(error) = switched.await {
        if before.is_none() && error.downcast_ref::<DropInError>().is_some() {
            // The manager has read nothing of it.
            running.stop_timer(TIMER).await?;
            place.clear()?;
            return Err(error);
        }
        return Err(match end(&place, &running, Some(&planned), clock, Some(&mut interruption)).await {
            Ok(()) => error.context("it was switched off again"),
            Err(more) => error.context(format!("and it could not be switched off again ({more:#}): {}", place.undo())),
        });
    }
    targets::restart(&running, &mut logging.units, &mut interruption).await;
    logging.notes.extend(runs_on(manager, &logging.units));
    Ok(logging)
}

/// Switches it off.
async fn off(managers: &Managers, manager: Manager, clock: &LocalTime) -> anyhow::Result<RefusalLogging> {
    let running = managers.connect(manager).await?;
    let config = config_of(manager, Some(&running)).await;
    let place = Place::of(manager, config.as_deref());
    let before = at_peace(&place)?;
    let mut logging = RefusalLogging::new(manager, "nothing", clock, None, Vec::new(), Vec::new());
    if before.is_none() && !place.is_astray() {
        let others = others(&place, config.as_deref(), Some(&running)).await;
        logging.notes.extend(others.map(|by| {
            Note::new(
                "logged-by-others",
                format!("{by} has refusals recorded, which is not harden-why's to switch off"),
            )
        }));
        return Ok(logging);
    }
    end(&place, &running, before.as_ref(), clock, Some(&mut Interruption::heard()?)).await?;
    logging.outcome = "ended";
    if let Some(before) = before {
        logging.notes.extend(still_recorded(&running, before.since).await);
    }
    Ok(logging)
}

/// What is asked on the terminal.
fn question(logging: &RefusalLogging) -> String {
    let mut notes = Page::default();
    crate::cli::terminal::page::add_notes(&mut notes, &logging.notes);
    format!("{}{}\nDo it?", logging.plan(), notes.finish())
}

/// How to have what runs already and was not started anew recorded, as far as it is well to.
fn runs_on(manager: Manager, units: &[Chosen]) -> Option<Note> {
    let flag = manager.option();
    let left = units.iter().filter(|unit| unit.may_start_anew() && unit.restarted.is_none());
    let names: Vec<&str> = left.map(|unit| unit.name.as_str()).collect();
    (!names.is_empty()).then(|| {
        let names = names.join(" ");
        Note::new(
            "restart-to-log",
            format!("What runs since before is not recorded until it starts anew: systemctl {flag}restart {names}"),
        )
    })
}
