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
    for (manager, fault) in [Manager::System, user()].into_iter().flat_map(|one| Fault::KILLS.map(|kill| (one, kill))) {
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
