//! start.

use crate::audit::text::shown_path;
use crate::host::blind_spots;
use crate::host::blind_spots::BlindSpot;
use crate::incidents::local_time::LocalTime;
use crate::operations::interruption::Interruption;
use crate::operations::refusal_logging::end::{TIMER, of};
use crate::operations::refusal_logging::marker::Record;
use crate::operations::refusal_logging::state::others_say;
use crate::operations::refusal_logging::switch::{FILE, Place};
use crate::policy::manager_context::parse_major;
use crate::systemd::bus_address::BusAddress;
use crate::systemd::manager::{SystemdError, SystemdManager};
use crate::units::Manager;
use anyhow::{Context as _, bail, ensure};
use std::path::Path;
use std::time::{Duration, Instant};

/// Switches it on, so that it ends whatever happens: the timer first.
pub(crate) async fn switch(
    bus: &BusAddress,
    place: &Place,
    manager: &SystemdManager,
    record: &Record,
    duration: Duration,
    clock: &LocalTime,
    interruption: &mut Interruption,
) -> anyhow::Result<()> {
    // From here on, whoever comes after us knows that it is not whole.
    let extends = place.look()?.is_some();
    if extends {
        place.note(record, clock)?;
    }
    let command = ending(bus, manager.manager())?;
    time(manager, duration, &command).await.context("systemd takes no timer that would end it")?;
    if !extends {
        place.throw(record, manager, clock, Some(interruption)).await?;
    }
    place.note(&Record { switcher: None, ..record.clone() }, clock)?;
    Ok(())
}

/// Sets the timer, in the place of one that is there.
pub(crate) async fn time(manager: &SystemdManager, duration: Duration, command: &[String]) -> Result<(), SystemdError> {
    let deadline = Instant::now() + GOING;
    let words = "End of harden-why log-refusals: refused calls are not recorded any more";
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
pub(crate) fn ending(bus: &BusAddress, manager: Manager) -> anyhow::Result<Vec<String>> {
    let program = std::env::current_exe().context("where this program is cannot be told")?;
    let program = program.into_os_string().into_string().ok().context("the path of this program is not UTF-8")?;
    // What an upgrade put in its place.
    let program = program.strip_suffix(" (deleted)").unwrap_or(&program).to_owned();
    let which = if manager == Manager::System { "--system" } else { "--user" };
    Ok(vec![
        program,
        "--bus".to_owned(),
        bus.to_string(),
        "log-refusals".to_owned(),
        "--off".to_owned(),
        which.to_owned(),
    ])
}

/// What is on by our doing, if nobody is at it.
pub(crate) fn at_peace(place: &Place) -> anyhow::Result<Option<Record>> {
    let record = place.look()?;
    if let Some(switcher) = record.as_ref().and_then(|record| record.switcher).filter(|switcher| switcher.lives()) {
        bail!("another harden-why (pid {}) is switching {} just now: wait for it", switcher.pid, of(place.manager));
    }
    Ok(record)
}

/// The manager understands the switch, and the kernel logs what it is asked to.
pub(crate) async fn can_be_logged(manager: &SystemdManager) -> anyhow::Result<()> {
    let version = manager.version().await?;
    ensure!(
        parse_major(&version).is_none_or(|major| major >= SINCE),
        "systemd {} cannot be told to have refusals recorded, which takes {SINCE}: 'harden-why rehearse UNIT' and \
         'harden-why tap UNIT' show them otherwise",
        crate::audit::text::escape(version.as_bytes())
    );
    let deafens = |limit: &BlindSpot| {
        limit.id == "audit-off" || (limit.id == "actions-not-logged" && limit.what.contains("errno"))
    };
    if let Some(limit) = blind_spots::find_blind_spots(Path::new("/")).into_iter().find(deafens) {
        bail!("no refusal would be recorded: {limit}");
    }
    Ok(())
}

/// No other file hides ours, or undoes what it says.
pub(crate) fn would_hold(place: &Place, config: Option<&Path>) -> anyhow::Result<()> {
    let hiding = Path::new("/etc/systemd/system.conf.d").join(FILE);
    ensure!(
        place.manager != Manager::System || hiding.symlink_metadata().is_err(),
        "{} hides the drop-in that log-refusals writes below /run: move it away first",
        shown_path(&hiding)
    );
    let Some(line) = others_say(place, config) else { return Ok(()) };
    let name = line.origin.path.file_name().unwrap_or_default();
    ensure!(
        // A drop-in's name decides, and none of the main file's is a drop-in.
        line.origin.path.parent().is_none_or(|dir| dir.extension() != Some("d".as_ref())) || name < FILE,
        "{} comes after the drop-in that log-refusals writes and would undo it: take that line away first",
        line.origin
    );
    Ok(())
}

/// The first systemd that takes its environment from its configuration (`ManagerEnvironment=`).
pub(crate) const SINCE: u32 = 248;

/// How long the timer of before is waited for to be gone.
pub(crate) const GOING: Duration = Duration::from_secs(3);
