//! Tests of rehearsals of a fake manager's unit: their end, the order of their jobs, and the unit afterwards.

mod faults;

use super::*;
use crate::host::unit_settings::REHEARSAL_DROP_IN;
use crate::operations::fake_manager::{FakeMachine, Fault, denial};
use crate::operations::rehearsal::fake_rehearsal::{
    FakeFeed, FakeObserver, NO_LIMITS, SHORT, WATCHING, machine, prepare, run, run_with,
};
use crate::operations::rehearsal::plan::Limits;
use crate::operations::rehearsal::session::RestoreAction;
use crate::systemd::manager::UnitJob;
use std::cell::Cell;
use std::rc::Rc;
use std::task::Poll;

#[test]
fn running_unit_is_restarted_under_its_own_settings() {
    let fake = FakeMachine::running();
    let plan = prepare(&fake, SHORT).unwrap();
    let before = fake.snapshot();
    let mut feed = FakeFeed { calls: vec![denial(&fake.unit)], ..FakeFeed::default() };
    let finished = run_with(&fake, &plan, &mut feed).unwrap().unwrap();
    assert_eq!((&finished.end, finished.calls.len()), (&RehearsalEnd::Time, 1));
    assert_eq!(finished.restoration.action, RestoreAction::Restarted);
    assert!(feed.ended.get());
    assert_eq!(fake.snapshot(), before);
}

#[test]
fn stopped_unit_is_stopped_again() {
    let fake = machine(false);
    let plan = prepare(&fake, SHORT).unwrap();
    let before = fake.snapshot();
    let finished = run(&fake, &plan).unwrap().unwrap();
    assert_eq!(finished.restoration.action, RestoreAction::Stopped);
    assert_eq!(fake.snapshot(), before);
}

#[test]
fn unit_reloads_and_stops_before_its_own_settings_return() {
    let jobs = |is_running, reloads| {
        let fake = machine(is_running);
        let mut plan = prepare(&fake, SHORT).unwrap();
        plan.reloads = reloads;
        let _ = run(&fake, &plan).unwrap().unwrap();
        fake.jobs_with(REHEARSAL_DROP_IN)
    };
    let [start, reload, stop] = [UnitJob::Restart, UnitJob::Reload, UnitJob::Stop].map(|job| (job, true));
    assert_eq!(jobs(true, true), [start, reload, stop, (UnitJob::Restart, false)]);
    assert_eq!(jobs(true, false), [start, stop, (UnitJob::Restart, false)]);
    assert_eq!(jobs(false, false), [start, stop, (UnitJob::Stop, false)], "a queued start is cancelled");
}

#[test]
fn unit_that_systemd_does_not_start_is_an_error() {
    let name_cause = |quirk: &dyn Fn(&FakeMachine)| {
        let fake = machine(false);
        let plan = prepare(&fake, NO_LIMITS).unwrap();
        quirk(&fake);
        format!("{:#}", run(&fake, &plan).unwrap().unwrap_err())
    };
    let error = name_cause(&|fake| fake.link("Requires", "db.service", "failed"));
    assert!(error.contains("it needs units that do not run: db.service is failed"), "{error}");
    let error = name_cause(&FakeMachine::refute);
    assert!(error.contains("its assertions are not met"), "{error}");
}

#[test]
fn unit_that_fails_to_start_ends_the_rehearsal() {
    let fake = machine(false);
    let plan = prepare(&fake, NO_LIMITS).unwrap();
    fake.fail_to_start();
    let finished = run(&fake, &plan).unwrap().unwrap();
    assert!(matches!(&finished.end, RehearsalEnd::Unit(state) if state.outcome.active_state == "failed"));
    assert!(!fake.snapshot().holds(REHEARSAL_DROP_IN));
}

#[test]
fn drop_in_that_systemd_ignores_ends_the_rehearsal_without_a_restart() {
    let fake = FakeMachine::running();
    let plan = prepare(&fake, SHORT).unwrap();
    let before = fake.snapshot();
    fake.ignore_drop_ins();
    let error = format!("{:#}", run(&fake, &plan).unwrap().unwrap_err());
    assert!(error.contains("systemd reads no drop-ins in"), "{error}");
    assert!(error.contains("x.service has its own settings again, and is active"), "{error}");
    assert_eq!(fake.snapshot(), before);
}

#[test]
fn rehearsal_ends_after_a_time_without_a_new_call() {
    let fake = FakeMachine::running();
    let limits = Limits { time: None, idle: Some(Duration::from_millis(8)) };
    let plan = prepare(&fake, limits).unwrap();
    assert_eq!(run(&fake, &plan).unwrap().unwrap().end, RehearsalEnd::Idle);
}

#[test]
fn signal_ends_the_rehearsal_and_restores_the_unit() {
    let fake = FakeMachine::running();
    let plan = prepare(&fake, NO_LIMITS).unwrap();
    let before = fake.snapshot();
    fake.fail_at(WATCHING, Fault::Signal);
    let finished = run(&fake, &plan).unwrap().unwrap();
    assert_eq!(finished.end, RehearsalEnd::Signal("SIGINT"));
    assert_eq!(fake.snapshot(), before);
}

#[test]
fn signal_during_a_read_of_the_feed_comes_after_its_end() {
    let fake = FakeMachine::running();
    let plan = prepare(&fake, NO_LIMITS).unwrap();
    let open = Rc::new(Cell::new(0));
    let mut feed = FakeFeed { open: Rc::clone(&open), takes: Duration::from_millis(2), ..FakeFeed::default() };
    let mut sent = false;
    let mut interruption = Interruption::new(move |_| {
        if open.get() > 0 && !std::mem::replace(&mut sent, true) { Poll::Ready("SIGINT") } else { Poll::Pending }
    });
    let mut observer = FakeObserver::default();
    let work = rehearse(fake.machine(), &plan, &mut feed, &mut observer, &mut interruption);
    let finished = fake.run(work).unwrap().unwrap();
    assert_eq!(finished.end, RehearsalEnd::Signal("SIGINT"));
    assert_eq!(feed.open.get(), 0, "a read that is dropped does not end");
}

#[test]
fn feed_that_fails_for_good_leaves_the_unit_restored() {
    let fake = FakeMachine::running();
    let plan = prepare(&fake, SHORT).unwrap();
    let before = fake.snapshot();
    let mut feed = FakeFeed { failures: usize::MAX, ..FakeFeed::default() };
    let error = format!("{:#}", run_with(&fake, &plan, &mut feed).unwrap().unwrap_err());
    assert!(error.contains("'harden-why x.service' shows them later"), "{error}");
    assert_eq!(fake.snapshot(), before);
}

#[test]
fn dependents_that_cannot_start_again_are_named() {
    let fake = FakeMachine::running();
    fake.add_dependent("app.service");
    let plan = prepare(&fake, SHORT).unwrap();
    fake.refuse_dependents();
    let finished = run(&fake, &plan).unwrap().unwrap();
    let text = &finished.restoration.notes[0].text;
    assert!(text.starts_with("app.service stopped because of x.service and cannot be started again: "), "{text}");
    assert!(text.ends_with("(systemctl start app.service)"), "{text}");
    let mut feed = FakeFeed { failures: usize::MAX, ..FakeFeed::default() };
    fake.renew_signals();
    let error = format!("{:#}", run_with(&fake, &plan, &mut feed).unwrap().unwrap_err());
    assert!(error.contains("app.service stopped because of x.service"), "{error}");
}
