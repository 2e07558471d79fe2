//! Turns logging on, or makes it last longer.

use super::end::{ensure_idle, switch_off};
use super::log_switch::{FILE, LogSwitch, manager_text};
use super::marker::RefusalLogMarker;
use super::state::{find_other_cause, find_other_line, is_same_manager, user_config_dir};
use super::timer::{end_command, restart_timer, stop_timer};
use super::units::{LoggedUnit, UnitSelection, decide_restarts, restart_units, select_units};
use crate::audit::text::{escape, shown_path};
use crate::host::blind_spots;
use crate::host::blind_spots::BlindSpot;
use crate::incidents::local_time::LocalTime;
use crate::kernel::clock::now_millis;
use crate::operations::drop_in::DropInError;
use crate::operations::interruption::Interruption;
use crate::operations::local_machine::LocalMachine;
use crate::operations::outcome::RefusalLogOutcome;
use crate::operations::owner_marker::OwnerMarker;
use crate::operations::service_manager::{ServiceManager, ServiceManagers};
use crate::policy::manager_context::parse_major;
use crate::syscalls::Groups;
use crate::systemd::bus_address::BusAddress;
use crate::units::Manager;
use anyhow::{Context as _, bail, ensure};
use std::path::Path;
use std::time::Duration;

/// The first systemd with `ManagerEnvironment=`.
const FIRST_SYSTEMD: u32 = 248;

/// Logging to turn on.
#[derive(Debug)]
pub(crate) struct LoggingRequest {
    pub(crate) manager: Manager,
    pub(crate) units: UnitSelection,
    /// How long to log.
    pub(crate) duration: Duration,
    /// Whether all units keep running.
    pub(crate) no_restart: bool,
    /// The bus that the timer's command connects to.
    pub(crate) bus: BusAddress,
}

/// Whether there is anything to turn on.
pub(crate) enum LoggingPreparation<M: ServiceManagers> {
    /// Another configuration has turned logging on.
    OnByOthers { cause: String, units: Vec<LoggedUnit> },
    /// Nothing prevents logging.
    Ready(LoggingPlan<M>),
}

/// Logging that can be turned on.
pub(crate) struct LoggingPlan<M: ServiceManagers> {
    pub(crate) units: Vec<LoggedUnit>,
    connection: M::Connection,
    switch: LogSwitch,
    /// The marker of logging that is on already.
    before: Option<RefusalLogMarker>,
    manager_started: u64,
    duration: Duration,
    bus: BusAddress,
}

/// Checks whether logging can be turned on. Removes the files of logging that ended with an earlier manager.
///
/// # Errors
/// The error says what prevents logging.
pub(crate) async fn prepare<M: ServiceManagers>(
    machine: LocalMachine<'_, M>,
    request: LoggingRequest,
    groups: &Groups,
) -> anyhow::Result<LoggingPreparation<M>> {
    let LoggingRequest { manager, units, duration, no_restart, bus } = request;
    let connection = machine.connect(manager).await?;
    ensure_can_log(&connection, machine.root()).await?;
    let config = user_config_dir(manager, Some(&connection)).await;
    let config = config.as_deref();
    let switch = LogSwitch::new(machine, manager, config);
    let mut before = ensure_idle(&switch)?;
    if let Some(marker) = &before
        && !is_same_manager(Some(&connection), marker.manager_started).await
    {
        // A manager that started later does not log.
        switch.clear()?;
        before = None;
    }
    let mut units = select_units(machine, &connection, &units, groups).await?;
    if before.is_none() {
        if let Some(cause) = find_other_cause(machine, &switch, config, Some(&connection)).await {
            return Ok(LoggingPreparation::OnByOthers { cause, units });
        }
        ensure_takes_effect(machine, &switch, config)?;
    }
    decide_restarts(&mut units, no_restart);
    let manager_started = connection.started_at().await?;
    Ok(LoggingPreparation::Ready(LoggingPlan { units, connection, switch, before, manager_started, duration, bus }))
}

impl<M: ServiceManagers> LoggingPlan<M> {
    /// Returns the marker of the change, as of now.
    pub(crate) fn marker(&self) -> RefusalLogMarker {
        let since = self.before.as_ref().map_or_else(now_millis, |before| before.since);
        let until = now_millis().saturating_add(i64::try_from(self.duration.as_millis()).unwrap_or(i64::MAX));
        let manager_started = self.manager_started;
        RefusalLogMarker { since, until, manager_started, owner: OwnerMarker::current(), on: true }
    }

    /// Returns the outcome if nothing fails.
    pub(crate) fn outcome(&self) -> RefusalLogOutcome {
        if self.before.is_some() { RefusalLogOutcome::Extended } else { RefusalLogOutcome::Started }
    }

    /// Turns logging on, restarts the units, and returns the marker.
    ///
    /// # Errors
    /// Another process changed the logging, which stays as that process left it.
    ///
    /// Or a file cannot be written, the manager does not answer, or a signal came. Either logging is off then, or the
    /// error says how to turn it off.
    pub(crate) async fn start(
        &mut self,
        machine: LocalMachine<'_, M>,
        clock: &LocalTime,
        interruption: &mut Interruption,
    ) -> anyhow::Result<RefusalLogMarker> {
        let Self { switch, before, .. } = self;
        // Another process may have changed the logging while the user answered.
        let unchanged = ensure_idle(switch)? == *before;
        let manager = manager_text(switch.manager);
        ensure!(unchanged, "another harden-why has changed {manager} in the meantime: try again");
        let marker = self.marker();
        if let Err(error) = self.switch_on(&marker, clock, interruption).await {
            return Err(self.undo(machine, &marker, error, clock, interruption).await);
        }
        restart_units(&self.connection, &mut self.units, interruption).await;
        Ok(marker)
    }

    /// Turns logging on. The timer starts first, so that logging ends even if this process is killed.
    async fn switch_on(
        &self,
        marker: &RefusalLogMarker,
        clock: &LocalTime,
        interruption: &mut Interruption,
    ) -> anyhow::Result<()> {
        let Self { switch, connection, duration, bus, .. } = self;
        let extends = switch.read()?.is_some();
        if extends {
            // The owner in the marker shows later processes that the change is incomplete.
            switch.write(marker, clock)?;
        }
        let command = end_command(bus, connection.manager())?;
        restart_timer(connection, *duration, &command).await.context("systemd rejects the timer that would end it")?;
        if !extends {
            switch.set(marker, connection, clock, Some(interruption)).await?;
        }
        // The manager logs by now: as plain text, the error is not mistaken for one of a file that the manager never read.
        let complete = switch.write(&RefusalLogMarker { owner: None, ..marker.clone() }, clock);
        complete.map_err(|error| anyhow::Error::msg(error.to_string()))
    }

    /// Turns logging off after a failure. Returns the failure, with what is left.
    async fn undo(
        &self,
        machine: LocalMachine<'_, M>,
        marker: &RefusalLogMarker,
        why: anyhow::Error,
        clock: &LocalTime,
        interruption: &mut Interruption,
    ) -> anyhow::Error {
        let Self { switch, connection, before, .. } = self;
        let is_unread = before.is_none() && why.downcast_ref::<DropInError>().is_some();
        let undone = if is_unread {
            // The manager has not read any file.
            async { Ok(stop_timer(connection).await?) }.await.and_then(|()| Ok(switch.clear()?))
        } else {
            switch_off(machine, switch, connection, Some(marker), clock, Some(interruption)).await
        };
        match undone {
            Ok(()) if is_unread => why,
            Ok(()) => why.context("logging is off again"),
            Err(more) => {
                why.context(format!("and logging cannot be switched off again ({more:#}): {}", switch.undo_command()))
            }
        }
    }
}

/// Checks that the manager knows `ManagerEnvironment=`, and that the kernel logs refused calls.
async fn ensure_can_log(manager: &impl ServiceManager, root: &Path) -> anyhow::Result<()> {
    let version = manager.version().await?;
    ensure!(
        parse_major(&version).is_none_or(|major| major >= FIRST_SYSTEMD),
        "systemd {} cannot log refused calls (this requires {FIRST_SYSTEMD}): use 'harden-why rehearse UNIT' or \
        'harden-why tap UNIT'",
        escape(version.as_bytes())
    );
    let hides_refusals =
        |spot: &BlindSpot| spot.id == "audit-off" || (spot.id == "actions-not-logged" && spot.what.contains("errno"));
    if let Some(spot) = blind_spots::find_blind_spots(root).into_iter().find(hides_refusals) {
        bail!("the kernel would log no refused call: {spot}");
    }
    Ok(())
}

/// Checks that no other file hides the drop-in or overrides it.
fn ensure_takes_effect<M: ServiceManagers>(
    machine: LocalMachine<'_, M>,
    switch: &LogSwitch,
    config: Option<&Path>,
) -> anyhow::Result<()> {
    let hiding = machine.resolve(Path::new("/etc/systemd/system.conf.d")).join(FILE);
    ensure!(
        switch.manager != Manager::System || hiding.symlink_metadata().is_err(),
        "{} hides the drop-in that log-refusals writes below /run: move it away first",
        shown_path(&hiding)
    );
    let Some(line) = find_other_line(machine, switch, config) else { return Ok(()) };
    let name = line.origin.path.file_name().unwrap_or_default();
    ensure!(
        // Drop-ins apply in the order of their names, after the main file.
        line.origin.path.parent().is_none_or(|dir| dir.extension() != Some("d".as_ref())) || name < FILE,
        "{} overrides the drop-in that log-refusals writes: remove that line first",
        line.origin
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operations::fake_manager::{FakeMachine, Fault, GROUPS, Snapshot};
    use crate::operations::outcome::NothingToDo;
    use crate::operations::refusal_logging::end::{TurnedOff, turn_off};
    use crate::operations::refusal_logging::state::{ActiveLogging, LoggingCause};
    use jiff::tz::TimeZone;

    const HOUR: Duration = Duration::from_hours(1);

    fn clock() -> LocalTime {
        LocalTime { now: None, zone: TimeZone::UTC }
    }

    fn user() -> Manager {
        Manager::User(nix::unistd::geteuid().as_raw())
    }

    /// A machine on which the unit runs.
    fn machine(manager: Manager) -> FakeMachine {
        let fake = FakeMachine::new(manager);
        fake.start_unit();
        fake
    }

    fn prepare_for(fake: &FakeMachine, duration: Duration) -> anyhow::Result<LoggingPreparation<FakeMachine>> {
        let request = LoggingRequest {
            manager: fake.unit.manager,
            units: UnitSelection::Named(vec![fake.unit.name.clone()]),
            duration,
            no_restart: false,
            bus: BusAddress::System,
        };
        fake.run(prepare(fake.machine(), request, &GROUPS)).unwrap()
    }

    fn plan(fake: &FakeMachine, duration: Duration) -> LoggingPlan<FakeMachine> {
        match prepare_for(fake, duration).unwrap() {
            LoggingPreparation::Ready(plan) => plan,
            LoggingPreparation::OnByOthers { cause, .. } => panic!("{cause}"),
        }
    }

    fn start(fake: &FakeMachine, plan: &mut LoggingPlan<FakeMachine>) -> Option<anyhow::Result<RefusalLogMarker>> {
        fake.run(plan.start(fake.machine(), &clock(), &mut fake.interruption()))
    }

    fn off(fake: &FakeMachine) -> Option<anyhow::Result<TurnedOff>> {
        fake.run(turn_off(fake.machine(), fake.unit.manager, &GROUPS, &clock(), &mut FakeMachine::no_signals()))
    }

    fn is_on(snapshot: &Snapshot) -> bool {
        snapshot.logs_refusals && snapshot.has_timer
    }

    /// Makes a call fail at each step of turning logging on. Returns the number of steps.
    fn fail_start_at_every_step(faults: &[Fault], manager: Manager) -> usize {
        let mut steps = 0;
        for &fault in faults {
            for number in 0.. {
                let fake = machine(manager);
                let mut plan = plan(&fake, HOUR);
                let before = fake.snapshot();
                fake.fail_at(number, fault);
                let result = start(&fake, &mut plan);
                if !fake.has_failed() {
                    break;
                }
                steps += 1;
                let step = format!("{fault:?} at {} ({number}): {result:?}", fake.failed_call());
                match result {
                    Some(Ok(_)) => assert!(is_on(&fake.snapshot()), "{step}"),
                    Some(Err(error)) if !fake.snapshot().is_like_before_logging(&before) => {
                        assert!(format!("{error:#}").contains("harden-why log-refusals --off"), "{step}");
                        let messages = fake.recover();
                        assert!(fake.snapshot().is_like_before_logging(&before), "{step}: {messages:?}");
                    }
                    Some(Err(_)) => {}
                    None => {
                        let messages = fake.recover();
                        // A kill after the last change leaves logging on, until its timer ends it.
                        let after = fake.snapshot();
                        assert!(is_on(&after) || after.is_like_before_logging(&before), "{step}: {messages:?}");
                    }
                }
                assert!(fake.recover().is_empty(), "{step}");
            }
        }
        steps
    }

    /// Makes a call fail at each step of turning logging off. Returns the number of steps.
    fn fail_end_at_every_step(faults: &[Fault], manager: Manager) -> usize {
        let mut steps = 0;
        for &fault in faults {
            for number in 0.. {
                let fake = machine(manager);
                let mut plan = plan(&fake, HOUR);
                let before = fake.snapshot();
                start(&fake, &mut plan).unwrap().unwrap();
                fake.fail_at(number, fault);
                let result = off(&fake);
                if !fake.has_failed() {
                    break;
                }
                steps += 1;
                let step = format!("{fault:?} at {} ({number}): {result:?}", fake.failed_call());
                let messages = fake.recover();
                let after = fake.snapshot();
                let is_off = after.is_like_before_logging(&before);
                // A failure before the first change leaves logging on, with its timer.
                let is_unchanged = is_on(&after) && !matches!(result, Some(Ok(_)));
                assert!(is_off || is_unchanged, "{step}: {messages:?}");
            }
        }
        steps
    }

    #[test]
    fn logging_of_the_system_manager_is_on_with_a_timer_and_leaves_no_file() {
        let fake = machine(Manager::System);
        let mut plan = plan(&fake, HOUR);
        let before = fake.snapshot();
        assert_eq!(plan.outcome(), RefusalLogOutcome::Started);
        let marker = start(&fake, &mut plan).unwrap().unwrap();
        assert_eq!(marker.until - marker.since, 3_600_000);
        assert!(is_on(&fake.snapshot()));
        assert_eq!(plan.units.len(), 1);
        assert!(matches!(&plan.units[0].restarted, Some(Ok(outcome)) if outcome.active_state == "active"));
        assert!(matches!(off(&fake).unwrap().unwrap(), TurnedOff::Ended { .. }));
        assert!(fake.snapshot().is_like_before_logging(&before));
    }

    #[test]
    fn logging_of_a_user_manager_leaves_no_file_that_the_manager_reads() {
        let fake = machine(user());
        let mut plan = plan(&fake, HOUR);
        start(&fake, &mut plan).unwrap().unwrap();
        let after = fake.snapshot();
        assert!(is_on(&after));
        assert!(!after.has_file_below("user.conf.d"));
    }

    #[test]
    fn start_is_all_or_nothing_when_the_manager_fails_at_any_step() {
        for manager in [Manager::System, user()] {
            assert!(fail_start_at_every_step(&Fault::OF_MANAGER, manager) >= 12);
        }
    }

    #[test]
    fn start_is_all_or_nothing_when_a_signal_comes_at_any_step() {
        for manager in [Manager::System, user()] {
            assert!(fail_start_at_every_step(&Fault::SIGNALS, manager) >= 6);
        }
    }

    #[test]
    fn killed_start_is_undone_by_the_next_process_or_by_the_timer() {
        for manager in [Manager::System, user()] {
            assert!(fail_start_at_every_step(&Fault::KILLS, manager) >= 6);
        }
    }

    #[test]
    fn end_is_completed_by_the_next_process_when_the_manager_fails_at_any_step() {
        for manager in [Manager::System, user()] {
            assert!(fail_end_at_every_step(&Fault::OF_MANAGER, manager) >= 12);
        }
    }

    #[test]
    fn killed_end_is_completed_by_the_next_process() {
        for manager in [Manager::System, user()] {
            assert!(fail_end_at_every_step(&Fault::KILLS, manager) >= 6);
        }
    }

    #[test]
    fn extension_keeps_the_beginning_and_moves_the_end() {
        let fake = machine(Manager::System);
        let first = start(&fake, &mut plan(&fake, HOUR)).unwrap().unwrap();
        let mut plan = plan(&fake, HOUR * 2);
        assert_eq!(plan.outcome(), RefusalLogOutcome::Extended);
        fake.renew_signals();
        let second = start(&fake, &mut plan).unwrap().unwrap();
        assert!(second.since == first.since && second.until > first.until);
        assert!(is_on(&fake.snapshot()));
    }

    /// Without a timer, logging stays on until a user runs harden-why again.
    #[test]
    fn extension_killed_at_any_step_leaves_a_timer() {
        let mut steps = 0;
        for (manager, fault) in
            [Manager::System, user()].into_iter().flat_map(|one| Fault::KILLS.map(|kill| (one, kill)))
        {
            for number in 0.. {
                let fake = machine(manager);
                start(&fake, &mut plan(&fake, HOUR)).unwrap().unwrap();
                let mut extension = plan(&fake, HOUR * 2);
                fake.renew_signals();
                fake.fail_at(number, fault);
                let result = start(&fake, &mut extension);
                if !fake.has_failed() {
                    break;
                }
                steps += 1;
                let step = format!("{fault:?} at {} ({number}): {result:?}", fake.failed_call());
                assert!(is_on(&fake.snapshot()), "{step}");
                fake.end_process();
                fake.renew_signals();
                let mut again = plan(&fake, HOUR * 3);
                start(&fake, &mut again).unwrap().unwrap();
                assert!(is_on(&fake.snapshot()), "{step}");
                assert!(matches!(off(&fake).unwrap().unwrap(), TurnedOff::Ended { .. }), "{step}");
                assert!(!fake.snapshot().has_timer, "{step}");
            }
        }
        assert!(steps >= 6, "{steps}");
    }

    #[test]
    fn logging_by_another_configuration_is_left_alone() {
        let fake = machine(Manager::System);
        fake.write("etc/systemd/system.conf", "[Manager]\nManagerEnvironment=SYSTEMD_LOG_SECCOMP=1\n");
        fake.reload();
        let before = fake.snapshot();
        let preparation = prepare_for(&fake, HOUR).unwrap();
        assert!(matches!(preparation, LoggingPreparation::OnByOthers { cause, .. } if cause.contains("system.conf:2")));
        assert!(matches!(off(&fake).unwrap().unwrap(), TurnedOff::Nothing { other_cause: Some(_) }));
        assert_eq!(fake.snapshot(), before);
    }

    #[test]
    fn line_that_overrides_the_drop_in_is_refused() {
        let fake = machine(Manager::System);
        fake.write("etc/systemd/system.conf.d/zzz.conf", "[Manager]\nManagerEnvironment=SYSTEMD_LOG_SECCOMP=0\n");
        let error = prepare_for(&fake, HOUR).err().unwrap().to_string();
        assert!(error.contains("overrides the drop-in"), "{error}");
    }

    #[test]
    fn unit_that_refuses_nothing_silently_has_nothing_to_log() {
        let fake = machine(Manager::System);
        fake.write("etc/systemd/system/x.service", "[Service]\nExecStart=/bin/true\n");
        fake.reload();
        assert!(prepare_for(&fake, HOUR).err().unwrap().is::<NothingToDo>());
    }

    #[test]
    fn change_is_refused_during_a_change_by_a_living_process() {
        let fake = machine(Manager::System);
        let mut plan = plan(&fake, HOUR);
        fake.fail_at(2, Fault::Kill);
        assert!(start(&fake, &mut plan).is_none());
        fake.repair();
        let error = prepare_for(&fake, HOUR).err().unwrap().to_string();
        assert!(error.contains("is changing the system manager: wait for it"), "{error}");
        let error = format!("{:#}", off(&fake).unwrap().unwrap_err());
        assert!(error.contains("is changing the system manager: wait for it"), "{error}");
    }

    #[test]
    fn overdue_logging_is_turned_off_by_the_next_process() {
        let fake = machine(Manager::System);
        let mut plan = plan(&fake, Duration::ZERO);
        let before = fake.snapshot();
        start(&fake, &mut plan).unwrap().unwrap();
        let messages = fake.recover();
        assert_eq!(messages, ["the logging of refusals for the system manager was over; it is off now"]);
        assert!(fake.snapshot().is_like_before_logging(&before));
    }

    #[test]
    fn state_names_the_cause_of_the_logging() {
        let fake = machine(Manager::System);
        let find = || fake.run(ActiveLogging::find(fake.machine(), Manager::System)).unwrap();
        assert_eq!(find(), None);
        let marker = start(&fake, &mut plan(&fake, HOUR)).unwrap().unwrap();
        let cause = LoggingCause::HardenWhy { since: marker.since, until: marker.until };
        assert_eq!(find(), Some(ActiveLogging { manager: Manager::System, cause }));
    }

    #[test]
    fn signal_during_the_restarts_leaves_logging_on() {
        let fake = machine(Manager::System);
        let mut plan = plan(&fake, HOUR);
        // start_timer, stop_timer and reload come first.
        fake.fail_at(3, Fault::Signal);
        start(&fake, &mut plan).unwrap().unwrap();
        assert_eq!(fake.failed_call(), "start_job");
        assert!(matches!(&plan.units[0].restarted, Some(Err(error)) if error.contains("interrupted by SIGINT")));
        assert!(is_on(&fake.snapshot()));
    }
}
