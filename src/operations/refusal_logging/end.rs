//! The end of an exposure: asked for, at its time, or after one that was killed.

use super::marker::{Record, Switcher};
use super::state::{config_of, is_same, others_say};
use super::switch::{Place, config_dir};
use crate::audit::Note;
use crate::host::unit_settings;
use crate::incidents::local_time::LocalTime;
use crate::kernel::clock::now_millis;
use crate::operations::interruption::Interruption;
use crate::operations::leftover::Leftover;
use crate::policy::seccomp_logging::SeccompLogging;
use crate::systemd::bus_address::BusAddress;
use crate::systemd::manager::{Managers, SystemdManager};
use crate::units::Manager;
use anyhow::Context as _;
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Why there can be something to end.
const KILLED: &str = "was left by a harden-why that was killed";

/// Switches it off and clears everything away, in an order in which whoever comes after a kill can finish it.
pub(crate) async fn end(
    place: &Place,
    manager: &SystemdManager,
    was: Option<&Record>,
    clock: &LocalTime,
    interruption: Option<&mut Interruption>,
) -> anyhow::Result<()> {
    let started = manager.started_at().await?;
    // Without a file the variable would stay as it is.
    let (since, until) = was.map_or_else(|| (now_millis(), now_millis()), |was| (was.since, was.until));
    let off = Record { since, until, manager: started, switcher: Switcher::me(), on: false };
    place.throw(&off, manager, clock, interruption).await?;
    manager.stop_timer(TIMER).await?;
    place.clear()?;
    let config = config_of(place.manager, Some(manager)).await;
    if others_say(place, config.as_deref()).is_some_and(|line| line.sets == SeccompLogging::On) {
        // Somebody else's file has switched it on as well, and is in force again.
        manager.reload().await.context("systemd does not read its files again")?;
    }
    Ok(())
}

/// Exposures of the system's and one's own manager whose time is over, or whose `log-refusals` did not live to finish it.
pub(crate) fn left(bus: &BusAddress) -> Vec<Leftover<'_>> {
    let mut found: Vec<Leftover<'_>> = Vec::new();
    for manager in [Manager::System, Manager::User(nix::unistd::geteuid().as_raw())] {
        // Where its own files are without asking it: at once, since nearly always there is nothing.
        let variable = |name: &&str| Some(format!("{name}={}", std::env::var(name).ok()?));
        let environment: Vec<String> = ["XDG_CONFIG_HOME", "HOME"].iter().filter_map(variable).collect();
        let place = Place::of(manager, Some(&config_dir(&environment, &unit_settings::home_dir(manager))));
        let record = place.look().ok().flatten();
        let why = match &record {
            Some(record) if record.switcher.is_some_and(|switcher| !switcher.lives()) => KILLED,
            Some(Record { switcher: None, until, .. }) if *until <= now_millis() => "was over",
            None if place.is_astray() => KILLED,
            _ => continue,
        };
        found.push(Box::pin(mended(bus, manager, record, why)));
    }
    found
}

/// Ends it, and says what was done.
async fn mended(bus: &BusAddress, manager: Manager, record: Option<Record>, why: &'static str) -> String {
    let what = format!("the logging of refusals for {} {why}", of(manager));
    if manager == Manager::System && !nix::unistd::geteuid().is_root() {
        return format!("{what}: any harden-why that root runs ends it (harden-why restore)");
    }
    match mend(bus, manager, record.as_ref()).await {
        Ok(done) => format!("{what}; {done}"),
        Err(error) => format!("{what}, and it could not be ended: {error:#}; try again: harden-why restore"),
    }
}

async fn mend(bus: &BusAddress, manager: Manager, record: Option<&Record>) -> anyhow::Result<&'static str> {
    let running = Managers::new(bus).connect(manager).await?;
    let place = Place::of(manager, config_of(manager, Some(&running)).await.as_deref());
    if let Some(record) = record
        && !is_same(Some(&running), record.manager).await
    {
        place.clear()?;
        return Ok("a manager that was started since knows nothing of it");
    }
    let clock = LocalTime { now: Some(Timestamp::now()), zone: TimeZone::system() };
    // Signals that are heard once end nothing by themselves any more, and the verb is still to come.
    end(&place, &running, record, &clock, None).await?;
    Ok("it has been ended now")
}

/// Units whose processes came under a filter that logs, and keep it until they start anew.
pub(crate) async fn still_recorded(manager: &SystemdManager, since: i64) -> Option<Note> {
    let (facts, _) = manager.list_loaded_units(|_, _| ()).await.ok()?;
    let started = |micros: u64| i64::try_from(micros / 1000).is_ok_and(|millis| millis >= since);
    let (groups, surroundings) =
        (crate::systemd::syscall_groups::load().groups, crate::host::unit_settings::surroundings(manager.manager()));
    let mut names: Vec<String> = facts
        .iter()
        .filter(|facts| facts.is_running() && super::targets::spared(facts).is_none())
        .filter(|facts| facts.exec_main_start_us.is_some_and(started))
        .filter(|facts| !facts.policy(surroundings.clone(), &groups).loggable_directives().is_empty())
        .map(|facts| facts.id.to_string())
        .collect();
    names.sort_unstable();
    let flag = manager.manager().option();
    (!names.is_empty()).then(|| {
        Note::new(
            "still-logged",
            format!(
                "what began meanwhile stays recorded until it starts anew: systemctl {flag}restart {}",
                names.join(" ")
            ),
        )
    })
}

/// A manager, in a sentence.
pub(crate) fn of(manager: Manager) -> String {
    match manager {
        Manager::System => "the system manager".to_owned(),
        Manager::User(uid) => format!("the user manager of uid {uid}"),
    }
}

/// The timer and the service that end it.
pub(crate) const TIMER: &str = "harden-why-log-refusals";
