//! Rehearsals in which a call to the manager fails, a signal comes or this process is killed, at every step; and the
//! recovery of the unit after a kill.

use crate::host::unit_settings::REHEARSAL_DROP_IN;
use crate::operations::fake_manager::{FakeMachine, Fault};
use crate::operations::recovery::find_stale;
use crate::operations::rehearsal::fake_rehearsal::{SHORT, kill_rehearsal, machine, prepare, run};
use crate::systemd::manager::UnitJob;

/// Makes a call to the manager fail at each step in turn. Checks that the unit is as before, or that the error
/// names `harden-why restore`, which restores the unit. Returns the number of steps.
fn fail_at_every_step(faults: &[Fault], is_running: bool) -> usize {
    let mut steps = 0;
    for &fault in faults {
        // Later calls only read the unit's state.
        for number in 0..24 {
            let fake = machine(is_running);
            let plan = prepare(&fake, SHORT).unwrap();
            let before = fake.snapshot();
            fake.fail_at(number, fault);
            let result = run(&fake, &plan);
            if !fake.has_failed() {
                break;
            }
            steps += 1;
            let step = format!("{fault:?} at {} ({number}): {result:?}", fake.failed_call());
            if fake.snapshot() != before {
                if let Some(result) = result {
                    let error = format!("{:#}", result.expect_err(&step));
                    assert!(error.contains("harden-why restore"), "{step}");
                }
                let messages = fake.recover();
                assert_eq!(messages.len(), 1, "{step}: {messages:?}");
                assert_eq!(fake.snapshot(), before, "{step}: {messages:?}");
            }
            assert!(fake.recover().is_empty(), "{step}");
        }
    }
    steps
}

#[test]
fn running_unit_is_restored_when_the_manager_fails_at_any_step() {
    assert!(fail_at_every_step(&Fault::OF_MANAGER, true) >= 40);
}

#[test]
fn stopped_unit_is_restored_when_the_manager_fails_at_any_step() {
    assert!(fail_at_every_step(&Fault::OF_MANAGER, false) >= 40);
}

#[test]
fn running_unit_is_restored_when_a_signal_comes_at_any_step() {
    assert!(fail_at_every_step(&Fault::SIGNALS, true) >= 20);
}

#[test]
fn stopped_unit_is_restored_when_a_signal_comes_at_any_step() {
    assert!(fail_at_every_step(&Fault::SIGNALS, false) >= 20);
}

#[test]
fn running_unit_is_restored_after_a_kill_at_any_step() {
    assert!(fail_at_every_step(&Fault::KILLS, true) >= 20);
}

#[test]
fn stopped_unit_is_restored_after_a_kill_at_any_step() {
    assert!(fail_at_every_step(&Fault::KILLS, false) >= 20);
}

#[test]
fn unit_runs_with_the_drop_in_during_the_rehearsal() {
    let fake = FakeMachine::running();
    kill_rehearsal(&fake);
    assert_eq!(fake.failed_call(), "unit_state");
    assert!(fake.snapshot().holds(REHEARSAL_DROP_IN) && fake.snapshot().runs_with(REHEARSAL_DROP_IN));
}

#[test]
fn units_that_a_killed_rehearsal_stopped_run_again_after_the_recovery() {
    let fake = machine(false);
    fake.link("Conflicts", "rival.service", "active");
    kill_rehearsal(&fake);
    assert!(fake.other_jobs().is_empty());
    // The unit ended by itself.
    fake.stop();
    let messages = fake.recover();
    assert_eq!(fake.other_jobs(), [("rival.service".to_owned(), UnitJob::Start)], "{messages:?}");
}

#[test]
fn recovery_that_fails_or_is_killed_at_any_step_is_completed_by_the_next() {
    for is_running in [true, false] {
        for fault in Fault::KILLS.into_iter().chain(Fault::OF_MANAGER) {
            for number in 0..8 {
                let fake = machine(is_running);
                let before = fake.snapshot();
                kill_rehearsal(&fake);
                fake.end_process();
                fake.fail_at(number, fault);
                fake.recover_once();
                let messages = fake.recover();
                assert_eq!(fake.snapshot(), before, "{fault:?} at {number}: {messages:?}");
            }
        }
    }
}

#[test]
fn recovery_by_another_user_leaves_a_system_unit_and_names_root() {
    let fake = FakeMachine::running();
    kill_rehearsal(&fake);
    fake.end_process();
    let machine = fake.machine_of(4_242);
    let recovered = find_stale(machine).into_iter().map(|change| fake.run(change.recover(machine)).unwrap());
    let messages: Vec<String> = recovered.collect();
    assert!(messages[0].contains("the next harden-why of root restores it"), "{messages:?}");
    assert!(fake.snapshot().runs_with(REHEARSAL_DROP_IN));
}
