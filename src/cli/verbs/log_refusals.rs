//! `expose`: calls that filters refuse with an error are recorded for a time, and so reach the daemon.
//!
//! systemd asks the kernel for that where its own environment says `SYSTEMD_LOG_SECCOMP=1`; processes that start then
//! are recorded for as long as they live. A timer of the manager's ends it, whatever becomes of us.

pub(crate) use crate::operations::refusal_logging::end::left;
pub(crate) use crate::operations::refusal_logging::state::{Recording, RecordingView};

use super::units::managers;
use crate::cli::args::{Common, Expose};
use crate::cli::terminal::page::Page;
use crate::cli::terminal::prompt;
use crate::cli::views::answer::{Clock, shown_path};
use crate::cli::views::answer_page;
use crate::cli::views::refusal_logging::Exposed;
use crate::host::blind_spots::Limitation;
use crate::host::{blind_spots, unit_settings};
use crate::incidents::Moment;
use crate::kernel::clock::now_millis;
use crate::operations::drop_in::DropInError;
use crate::operations::interruption::Interruption;
use crate::operations::refusal_logging::end::{end, of, still_recorded};
use crate::operations::refusal_logging::marker::{Record, Switcher};
use crate::operations::refusal_logging::state::{config_of, is_same, others, others_say};
use crate::operations::refusal_logging::switch::{FILE, Place};
use crate::operations::refusal_logging::targets;
use crate::operations::refusal_logging::targets::Chosen;
use crate::policy::Surroundings;
use crate::policy::manager_context::major;
use crate::systemd::bus_address::BusAddress;
use crate::systemd::manager::{Managers, SystemdError, SystemdManager};
use crate::unit_files;
use crate::units::Manager;
use anyhow::{Context as _, bail, ensure};
use std::io::IsTerminal as _;
use std::path::Path;
use std::time::{Duration, Instant};

/// The timer and the service that end it.
pub(crate) const TIMER: &str = "harden-why-expose";

/// The first systemd that takes its environment from its configuration (`ManagerEnvironment=`).
const SINCE: u32 = 248;

/// How long the timer of before is waited for to be gone.
const GOING: Duration = Duration::from_secs(3);

/// Switches it on or off.
///
/// # Errors
/// It cannot be, and nothing was changed; or it is said what was.
pub(crate) async fn expose(common: &Common, asked: &Expose, clock: &Clock) -> anyhow::Result<Exposed> {
    let me = nix::unistd::geteuid();
    let own = Manager::User(me.as_raw());
    let manager = if asked.user || (!asked.system && !me.is_root()) { own } else { Manager::System };
    ensure!(
        manager != Manager::System || me.is_root(),
        "only root can switch the system manager: run harden-why as root, or say --user for your own units"
    );
    let managers = managers(&common.bus);
    if asked.off {
        return off(&managers, manager, clock).await;
    }
    ensure!(
        asked.yes || (std::io::stdin().is_terminal() && !common.json),
        "expose asks before it changes anything, and there is nobody to ask: say --yes"
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
        targets::named(&managers, manager, &asked.units).await?
    };
    if before.is_none() {
        if let Some(by) = others(&place, config.as_deref(), Some(&running)).await {
            notes.push(format!("{by} has refusals recorded already: nothing was changed."));
            notes.extend(runs_on(manager, &chosen));
            return Ok(Exposed::new(manager, "others", clock, None, chosen, notes));
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
    let outcome = if before.is_some() { "extended" } else { "exposed" };
    let mut exposed = Exposed::new(manager, outcome, clock, Some(&plan()), chosen, notes);
    let mut interruption = Interruption::heard()?;
    if !asked.yes && !prompt::agreed(&question(&exposed), &mut interruption).await.context("nothing was changed")? {
        exposed.outcome = "declined";
        return Ok(exposed);
    }
    // While it was thought about, time has passed, and another may have come.
    ensure!(at_peace(&place)? == before, "another harden-why has switched {} meanwhile: ask again", of(manager));
    let planned = plan();
    exposed.set(&planned, clock);
    let switched = switch(common, &place, &running, &planned, asked.duration, clock, &mut interruption);
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
    targets::restart(&running, &mut exposed.units, &mut interruption).await;
    exposed.notes.extend(runs_on(manager, &exposed.units));
    Ok(exposed)
}

/// Switches it on, so that it ends whatever happens: the timer first.
async fn switch(
    common: &Common,
    place: &Place,
    manager: &SystemdManager,
    record: &Record,
    duration: Duration,
    clock: &Clock,
    interruption: &mut Interruption,
) -> anyhow::Result<()> {
    // From here on, whoever comes after us knows that it is not whole.
    let extends = place.look()?.is_some();
    if extends {
        place.note(record, clock)?;
    }
    let command = ending(&common.bus, manager.manager())?;
    time(manager, duration, &command).await.context("systemd takes no timer that would end it")?;
    if !extends {
        place.throw(record, manager, clock, Some(interruption)).await?;
    }
    place.note(&Record { switcher: None, ..record.clone() }, clock)?;
    Ok(())
}

/// Sets the timer, in the place of one that is there.
async fn time(manager: &SystemdManager, duration: Duration, command: &[String]) -> Result<(), SystemdError> {
    let deadline = Instant::now() + GOING;
    let words = "End of harden-why expose: refused calls are not recorded any more";
    loop {
        manager.stop_timer(TIMER).await?;
        match manager.start_timer(TIMER, words, duration, command).await {
            Err(SystemdError::UnitExists(_)) if Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            set => return set,
        }
    }
}

/// The command that ends it.
fn ending(bus: &BusAddress, manager: Manager) -> anyhow::Result<Vec<String>> {
    let program = std::env::current_exe().context("where this program is cannot be told")?;
    let program = program.into_os_string().into_string().ok().context("the path of this program is not UTF-8")?;
    // What an upgrade put in its place.
    let program = program.strip_suffix(" (deleted)").unwrap_or(&program).to_owned();
    let which = if manager == Manager::System { "--system" } else { "--user" };
    Ok(vec![program, "--bus".to_owned(), bus.to_string(), "expose".to_owned(), "--off".to_owned(), which.to_owned()])
}

/// Switches it off.
async fn off(managers: &Managers, manager: Manager, clock: &Clock) -> anyhow::Result<Exposed> {
    let running = managers.connect(manager).await?;
    let config = config_of(manager, Some(&running)).await;
    let place = Place::of(manager, config.as_deref());
    let before = at_peace(&place)?;
    let mut exposed = Exposed::new(manager, "nothing", clock, None, Vec::new(), Vec::new());
    if before.is_none() && !place.is_astray() {
        let others = others(&place, config.as_deref(), Some(&running)).await;
        exposed
            .notes
            .extend(others.map(|by| format!("{by} has refusals recorded, which is not harden-why's to switch off")));
        return Ok(exposed);
    }
    end(&place, &running, before.as_ref(), clock, Some(&mut Interruption::heard()?)).await?;
    exposed.outcome = "ended";
    if let Some(before) = before {
        exposed.notes.extend(still_recorded(&running, before.since).await);
    }
    Ok(exposed)
}

/// What is on by our doing, if nobody is at it.
fn at_peace(place: &Place) -> anyhow::Result<Option<Record>> {
    let record = place.look()?;
    if let Some(switcher) = record.as_ref().and_then(|record| record.switcher).filter(|switcher| switcher.lives()) {
        bail!("another harden-why (pid {}) is switching {} just now: wait for it", switcher.pid, of(place.manager));
    }
    Ok(record)
}

/// The manager understands the switch, and the kernel logs what it is asked to.
async fn can_be_logged(manager: &SystemdManager) -> anyhow::Result<()> {
    let version = manager.version().await?;
    ensure!(
        major(&version).is_none_or(|major| major >= SINCE),
        "systemd {} cannot be told to have refusals recorded, which takes {SINCE}: 'harden-why rehearse UNIT' and \
         'harden-why tap UNIT' show them otherwise",
        crate::audit::text::escape(version.as_bytes())
    );
    let deafens = |limit: &Limitation| {
        limit.id == "audit-off" || (limit.id == "actions-not-logged" && limit.what.contains("errno"))
    };
    if let Some(limit) = blind_spots::limitations(Path::new("/")).into_iter().find(deafens) {
        bail!("no refusal would be recorded: {limit}");
    }
    Ok(())
}

/// No other file hides ours, or undoes what it says.
fn would_hold(place: &Place, config: Option<&Path>) -> anyhow::Result<()> {
    let hiding = Path::new("/etc/systemd/system.conf.d").join(FILE);
    ensure!(
        place.manager != Manager::System || hiding.symlink_metadata().is_err(),
        "{} hides the drop-in that expose writes below /run: move it away first",
        shown_path(&hiding)
    );
    let Some(line) = others_say(place, config) else { return Ok(()) };
    let name = line.origin.path.file_name().unwrap_or_default();
    ensure!(
        // A drop-in's name decides, and none of the main file's is a drop-in.
        line.origin.path.parent().is_none_or(|dir| dir.extension() != Some("d".as_ref())) || name < FILE,
        "{} comes after the drop-in that expose writes and would undo it: take that line away first",
        line.origin
    );
    Ok(())
}

/// What surrounds the units of a manager.
pub(crate) fn surroundings(manager: Manager) -> Surroundings {
    unit_files::surroundings(Path::new("/"), manager, Some(&unit_settings::home_of(manager))).0
}

/// What is asked on the terminal.
fn question(exposed: &Exposed) -> String {
    let mut notes = Page::default();
    answer_page::notes(&mut notes, &exposed.notes);
    format!("{}{}\nDo it?", exposed.plan(), notes.finish())
}

/// How to have what runs already and was not started anew recorded, as far as it is well to.
fn runs_on(manager: Manager, units: &[Chosen]) -> Option<String> {
    let flag = if manager == Manager::System { "" } else { "--user " };
    let left = units.iter().filter(|unit| unit.may_start_anew() && unit.restarted.is_none());
    let names: Vec<&str> = left.map(|unit| unit.name.as_str()).collect();
    (!names.is_empty()).then(|| {
        let names = names.join(" ");
        format!("What runs since before is not recorded until it starts anew: systemctl {flag}restart {names}")
    })
}

/// A time in milliseconds since the epoch, as the screen shows it.
pub(crate) fn shown(millis: i64, clock: &Clock) -> String {
    clock.show(&Moment::At(millis)).unwrap_or_default()
}
