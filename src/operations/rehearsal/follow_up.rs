//! A rehearsal with a follow-up: work while the unit is stopped under its own settings (`rehearse --apply`).

use super::feed::{RehearsalFeed, RehearsalObserver};
use super::last_calls::{ask_later, read_last_calls};
use super::plan::RehearsalPlan;
use super::run::{FinishedRehearsal, RunOutcome, run_until_stopped};
use super::session::{explain_failure, name_survivors};
use super::watch::RehearsalEnd;
use crate::host::unit_processes::still_running;
use crate::incidents::Incident;
use crate::operations::interruption::Interruption;
use crate::operations::local_machine::LocalMachine;
use crate::operations::service_manager::ServiceManagers;
use std::time::Duration;

/// A rehearsal whose unit is stopped and has its own settings again.
#[derive(Debug)]
pub(crate) struct StoppedRehearsal {
    pub(crate) end: RehearsalEnd,
    pub(crate) took: Duration,
    pub(crate) calls: Vec<Incident>,
}

/// A rehearsal with a follow-up that may have changed the unit.
#[must_use]
#[derive(Debug)]
pub(crate) struct FollowedRehearsal<T> {
    /// The rehearsal, or why the unit did not get the state that it had before.
    pub(crate) finished: anyhow::Result<FinishedRehearsal>,
    /// The result of the follow-up.
    pub(crate) followed: T,
}

/// Rehearses a unit, and runs `follow_up` while the unit is stopped under its own settings. If `follow_up` did not start
/// the unit, as it says, the unit gets the state that it had before.
///
/// # Errors
/// Those of [`rehearse`](super::run::rehearse) before the follow-up.
pub(crate) async fn rehearse_then<M: ServiceManagers, T>(
    machine: LocalMachine<'_, M>,
    plan: &RehearsalPlan,
    feed: &mut impl RehearsalFeed,
    observer: &mut impl RehearsalObserver,
    interruption: &mut Interruption,
    follow_up: impl AsyncFnOnce(&StoppedRehearsal) -> (T, bool),
) -> anyhow::Result<FollowedRehearsal<T>> {
    let run = run_until_stopped(machine, plan, feed, observer, interruption).await?;
    let (name, RunOutcome { end, took, processes, unit }) = (&plan.target.unit.name, run);
    let calls = read_last_calls(feed, observer).await;
    feed.end().await;
    observer.finish();
    let calls = match calls {
        Ok(calls) => calls,
        Err(error) => {
            let restored = unit.finish(false, interruption).await;
            return Err(explain_failure(ask_later(error, name), restored, name, processes));
        }
    };
    let stopped = StoppedRehearsal { end, took, calls };
    let (followed, is_started) = follow_up(&stopped).await;
    let restored = unit.finish(is_started, interruption).await;
    let StoppedRehearsal { end, took, calls } = stopped;
    let finished = match restored {
        Ok(restoration) => Ok(FinishedRehearsal { end, took, restoration, calls, survivors: still_running(processes) }),
        Err(error) => Err(name_survivors(error, processes)),
    };
    Ok(FollowedRehearsal { finished, followed })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::unit_settings::REHEARSAL_DROP_IN;
    use crate::operations::fake_manager::{FakeMachine, Fault};
    use crate::operations::rehearsal::fake_rehearsal::{FakeFeed, FakeObserver, SHORT, machine, prepare};
    use crate::operations::rehearsal::marker;
    use crate::operations::rehearsal::session::{Restoration, RestoreAction};
    use crate::systemd::manager::UnitJob;

    /// Rehearses the unit with a follow-up, until the end or a kill (`None`).
    fn run_then<T>(
        fake: &FakeMachine,
        plan: &RehearsalPlan,
        follow_up: impl AsyncFnOnce(&StoppedRehearsal) -> (T, bool),
    ) -> Option<anyhow::Result<FollowedRehearsal<T>>> {
        let (mut feed, mut observer) = (FakeFeed::default(), FakeObserver::default());
        let mut interruption = fake.interruption();
        fake.run(rehearse_then(fake.machine(), plan, &mut feed, &mut observer, &mut interruption, follow_up))
    }

    #[test]
    fn follow_up_finds_the_unit_stopped_under_its_own_settings() {
        for (is_running, starts) in [(true, true), (true, false), (false, true), (false, false)] {
            let fake = machine(is_running);
            let plan = prepare(&fake, SHORT).unwrap();
            let before = fake.snapshot();
            let follow_up = async |stopped: &StoppedRehearsal| {
                let now = fake.snapshot();
                assert!(!now.holds(REHEARSAL_DROP_IN) && stopped.calls.is_empty());
                assert!(!now.runs_with("x.service"));
                if starts {
                    fake.start_unit();
                }
                (7, starts)
            };
            let FollowedRehearsal { finished, followed } = run_then(&fake, &plan, follow_up).unwrap().unwrap();
            let finished = finished.unwrap();
            assert_eq!(followed, 7);
            let action = if starts || is_running { RestoreAction::Restarted } else { RestoreAction::Stopped };
            assert_eq!(finished.restoration.action, action);
            if !starts {
                assert_eq!(fake.snapshot(), before);
            }
            assert!(fake.recover().is_empty());
        }
    }

    #[test]
    fn result_of_the_follow_up_is_kept_if_the_unit_cannot_be_restored() {
        let fake = FakeMachine::running();
        let plan = prepare(&fake, SHORT).unwrap();
        let follow_up = async |_: &StoppedRehearsal| {
            fake.fail_at(0, Fault::ManagerGone);
            (7, false)
        };
        let FollowedRehearsal { finished, followed } = run_then(&fake, &plan, follow_up).unwrap().unwrap();
        assert_eq!(followed, 7);
        let error = format!("{:#}", finished.unwrap_err());
        assert!(error.contains("may still run without its own settings: harden-why restore"), "{error}");
    }

    #[test]
    fn kill_while_the_unit_is_stopped_is_recovered_by_a_start() {
        let fake = FakeMachine::running();
        let plan = prepare(&fake, SHORT).unwrap();
        let before = fake.snapshot();
        let follow_up = async |_: &StoppedRehearsal| {
            fake.kill_process();
            std::future::pending::<((), bool)>().await
        };
        assert!(run_then(&fake, &plan, follow_up).is_none());
        assert!(!fake.snapshot().runs_with("x.service"));
        let messages = fake.recover();
        assert!(messages[0].contains("under which it was restarted (active)"), "{messages:?}");
        assert_eq!(fake.snapshot(), before);
    }

    #[test]
    fn units_that_conflict_with_a_stopped_unit_run_again_at_its_end() {
        for (is_running, starts, again) in [(false, false, true), (false, true, false), (true, false, false)] {
            let fake = machine(is_running);
            fake.link("Conflicts", "rival.service", "active");
            let plan = prepare(&fake, SHORT).unwrap();
            let follow_up = async |_: &StoppedRehearsal| ((), starts);
            let finished = run_then(&fake, &plan, follow_up).unwrap().unwrap().finished.unwrap();
            let is_started = fake.other_jobs() == [("rival.service".to_owned(), UnitJob::Start)];
            assert_eq!(is_started, again, "{is_running} {starts}: {:?}", fake.other_jobs());
            let ids: Vec<_> = finished.restoration.notes.iter().map(|note| note.id).collect();
            assert_eq!(ids, if starts { vec!["conflicting-units-stopped"] } else { vec![] });
        }
    }

    #[test]
    fn drop_in_that_another_process_removed_or_replaced_does_not_fail_the_restoration() {
        for (text, left) in [(None, false), (Some("[Service]\n"), true)] {
            let fake = FakeMachine::running();
            let plan = prepare(&fake, SHORT).unwrap();
            let follow_up = async |_: &StoppedRehearsal| {
                let path = marker::disarmed_path(&plan.target.path);
                std::fs::remove_file(&path).unwrap();
                if let Some(text) = text {
                    std::fs::write(&path, text).unwrap();
                }
                ((), false)
            };
            let Restoration { outcome, notes, .. } =
                run_then(&fake, &plan, follow_up).unwrap().unwrap().finished.unwrap().restoration;
            assert_eq!(outcome.unwrap().active_state, "active");
            let ids: Vec<_> = notes.iter().map(|note| note.id).collect();
            assert_eq!(ids, if left { vec!["drop-in-left"] } else { vec![] });
        }
    }
}
