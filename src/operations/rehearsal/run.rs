//! Runs a rehearsal, from its first change until every change is undone.

use super::feed::{RehearsalFeed, RehearsalObserver};
use super::plan::RehearsalPlan;
use super::session::{RehearsalSession, Restoration, StoppedUnit, name_survivors};
use super::watch::{RehearsalEnd, watch};
use crate::host::unit_processes::{UnitProcess, still_running};
use crate::incidents::Incident;
use crate::operations::interruption::Interruption;
use crate::operations::local_machine::LocalMachine;
use crate::operations::service_manager::ServiceManagers;
use crate::outlet::wire::MAX_COUNT_LAG;
use crate::policy::Policy;
use anyhow::anyhow;
use std::time::Duration;
use tokio::time::Instant;

/// How long the daemon may take to store a call: twice its interval, to allow for its other work.
const STORE_DELAY: Duration = if cfg!(test) { Duration::ZERO } else { MAX_COUNT_LAG.saturating_mul(2) };

/// How many times to read the feed again if it fails at the end.
const RETRIES: usize = 5;

/// A rehearsal that is over; the unit has its own settings again.
#[must_use]
#[derive(Debug)]
pub(crate) struct FinishedRehearsal {
    pub(crate) end: RehearsalEnd,
    pub(crate) took: Duration,
    pub(crate) restoration: Restoration,
    pub(crate) calls: Vec<Incident>,
    /// The processes that outlive the rehearsal. They run without the unit's own settings until they end.
    pub(crate) survivors: Vec<UnitProcess>,
}

impl FinishedRehearsal {
    /// Adds to a later error how the unit `name` is left, what is left to do, and which processes outlive the rehearsal.
    pub(crate) fn explain(&self, error: anyhow::Error, name: &str) -> anyhow::Error {
        error.context(self.restoration.describe_fully(name, &self.survivors))
    }
}

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

/// A run that is over, with its unit stopped.
struct RunOutcome<'a, M: ServiceManagers> {
    end: RehearsalEnd,
    took: Duration,
    /// The unit's processes before its stop.
    processes: Vec<UnitProcess>,
    unit: StoppedUnit<'a, M>,
}

/// Rehearses a unit.
///
/// # Errors
/// The rehearsal failed. Either the unit has its own settings again, or the error says how to bring them back.
pub(crate) async fn rehearse<M: ServiceManagers>(
    machine: LocalMachine<'_, M>,
    plan: &RehearsalPlan,
    feed: &mut impl RehearsalFeed,
    observer: &mut impl RehearsalObserver,
    interruption: &mut Interruption,
) -> anyhow::Result<FinishedRehearsal> {
    let run = run_until_stopped(machine, plan, feed, observer, interruption).await?;
    let RunOutcome { end, took, processes, unit } = run;
    let restored = unit.finish(false, interruption).await;
    feed.end().await;
    let finished = match restored {
        Ok(restoration) => match read_last_calls(feed, observer).await {
            Ok(calls) => Ok(FinishedRehearsal { end, took, restoration, calls, survivors: still_running(processes) }),
            Err(error) => Err(restoration.explain(ask_later(plan, error), plan.target.unit.name.as_str(), processes)),
        },
        Err(error) => Err(name_survivors(error, processes)),
    };
    observer.finish();
    finished
}

/// Rehearses a unit, and runs `follow_up` while the unit is stopped under its own settings. If `follow_up` did not start
/// the unit, as it says, the unit gets the state that it had before.
///
/// # Errors
/// Those of [`rehearse`] before the follow-up.
pub(crate) async fn rehearse_then<M: ServiceManagers, T>(
    machine: LocalMachine<'_, M>,
    plan: &RehearsalPlan,
    feed: &mut impl RehearsalFeed,
    observer: &mut impl RehearsalObserver,
    interruption: &mut Interruption,
    follow_up: impl AsyncFnOnce(&StoppedRehearsal) -> (T, bool),
) -> anyhow::Result<FollowedRehearsal<T>> {
    let run = run_until_stopped(machine, plan, feed, observer, interruption).await?;
    let RunOutcome { end, took, processes, unit } = run;
    let calls = read_last_calls(feed, observer).await;
    feed.end().await;
    observer.finish();
    let calls = match calls {
        Ok(calls) => calls,
        Err(error) => {
            return Err(match unit.finish(false, interruption).await {
                Ok(restoration) => {
                    restoration.explain(ask_later(plan, error), plan.target.unit.name.as_str(), processes)
                }
                Err(why) => name_survivors(why, processes).context(format!("{error:#}")),
            });
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

/// Runs the unit under the rehearsal's settings, stops it, and puts its own settings into force.
async fn run_until_stopped<'a, M: ServiceManagers>(
    machine: LocalMachine<'a, M>,
    plan: &'a RehearsalPlan,
    feed: &mut impl RehearsalFeed,
    observer: &mut impl RehearsalObserver,
    interruption: &mut Interruption,
) -> anyhow::Result<RunOutcome<'a, M>> {
    let begun = Instant::now();
    let mut session = match RehearsalSession::open(machine, &plan.target, &plan.text()).await {
        Ok(session) => session,
        Err(error) => {
            feed.end().await;
            return Err(error);
        }
    };
    observer.start();
    let confirm = |policy: &Policy| {
        let verified = plan.rehearsal.verify(policy, &plan.target.loaded.groups);
        verified.map_err(|call| anyhow!("systemd's filter does not treat {call} as a rehearsal requires"))
    };
    let end = match interruption.or(session.start(confirm)).await {
        Ok(start) => watch(plan, start, session.manager(), feed, observer, interruption).await,
        Err(error) => Err(error),
    };
    let took = begun.elapsed();
    observer.show_end();
    let processes = session.stop(plan.reloads, interruption).await;
    let failure = match (end, session.restore().await) {
        (Ok(end), Ok(unit)) => return Ok(RunOutcome { end, took, processes, unit }),
        (Err(error), Ok(unit)) => match unit.finish(false, interruption).await {
            Ok(restoration) => restoration.explain(error, plan.target.unit.name.as_str(), processes),
            Err(why) => name_survivors(why, processes).context(format!("{error:#}")),
        },
        (Ok(_), Err(error)) => name_survivors(error, processes),
        (Err(why), Err(error)) => name_survivors(error, processes).context(format!("{why:#}")),
    };
    feed.end().await;
    observer.finish();
    Err(failure)
}

/// Reads the calls once more, after the daemon had time to store the last calls.
async fn read_last_calls(
    feed: &mut impl RehearsalFeed,
    observer: &mut impl RehearsalObserver,
) -> anyhow::Result<Vec<Incident>> {
    // The first read gives the daemon what the tap saw last, and the next one finds it stored.
    let mut calls = feed.calls().await;
    let mut has_reported = calls.is_ok();
    for _ in 0..=RETRIES {
        tokio::time::sleep(STORE_DELAY).await;
        calls = feed.calls().await;
        if has_reported && calls.is_ok() {
            break;
        }
        // The daemon may be restarting.
        has_reported |= calls.is_ok();
    }
    let calls = calls?;
    observer.show_calls(&calls);
    Ok(calls)
}

/// Adds to the error of a feed where to find the calls of the rehearsal.
fn ask_later(plan: &RehearsalPlan, error: anyhow::Error) -> anyhow::Error {
    let argument = plan.target.unit.name.to_argument();
    error.context(format!("the calls cannot be queried now; 'harden-why {argument}' shows them later"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::unit_settings::REHEARSAL_DROP_IN;
    use crate::incidents::local_time::LocalTime;
    use crate::operations::fake_manager::{FakeMachine, Fault, GROUPS, denial};
    use crate::operations::rehearsal::marker;
    use crate::operations::rehearsal::plan::{Limits, RehearsalRequest};
    use crate::operations::rehearsal::session::RestoreAction;
    use crate::systemd::manager::UnitJob;
    use crate::systemd::syscall_groups::LoadedGroups;
    use crate::units::Manager;
    use jiff::tz::TimeZone;
    use std::cell::Cell;
    use std::collections::BTreeSet;
    use std::rc::Rc;
    use std::task::Poll;

    #[derive(Default)]
    struct FakeFeed {
        calls: Vec<Incident>,
        /// How many of the next reads fail.
        failures: usize,
        ended: Cell<bool>,
        /// How long a read takes.
        takes: Duration,
        /// The number of reads that have begun and not ended.
        open: Rc<Cell<usize>>,
    }

    impl RehearsalFeed for FakeFeed {
        async fn calls(&mut self) -> anyhow::Result<Vec<Incident>> {
            anyhow::ensure!(
                self.failures == 0 || {
                    self.failures -= 1;
                    false
                },
                "the daemon is gone"
            );
            self.open.set(self.open.get() + 1);
            if !self.takes.is_zero() {
                tokio::time::sleep(self.takes).await;
            }
            self.open.set(self.open.get() - 1);
            Ok(self.calls.clone())
        }

        async fn end(&self) {
            self.ended.set(true);
        }
    }

    #[derive(Default)]
    struct FakeObserver {
        shown: usize,
        messages: Vec<String>,
        finished: bool,
    }

    impl RehearsalObserver for FakeObserver {
        fn start(&mut self) {}

        fn show_calls(&mut self, calls: &[Incident]) -> bool {
            let is_new = calls.len() > self.shown;
            self.shown = calls.len();
            is_new
        }

        fn tick(&mut self) {}

        fn show_end(&mut self) {}

        fn say(&mut self, message: &str) {
            self.messages.push(message.to_owned());
        }

        fn finish(&mut self) {
            self.finished = true;
        }
    }

    const NO_LIMITS: Limits = Limits { time: None, idle: None };
    const SHORT: Limits = Limits { time: Some(Duration::from_millis(3)), idle: None };

    fn prepare(fake: &FakeMachine, limits: Limits) -> anyhow::Result<RehearsalPlan> {
        let request = RehearsalRequest {
            unit: fake.unit.name.clone(),
            candidates: vec![fake.unit.manager],
            limits,
            keep: BTreeSet::new(),
            reloads: true,
        };
        let loaded = LoadedGroups { groups: GROUPS.clone(), note: None };
        let clock = LocalTime { now: None, zone: TimeZone::UTC };
        fake.run(RehearsalPlan::prepare(fake.machine(), &request, loaded, &clock)).unwrap()
    }

    fn run_with(
        fake: &FakeMachine,
        plan: &RehearsalPlan,
        feed: &mut FakeFeed,
    ) -> Option<anyhow::Result<FinishedRehearsal>> {
        let mut observer = FakeObserver::default();
        let mut interruption = fake.interruption();
        fake.run(rehearse(fake.machine(), plan, feed, &mut observer, &mut interruption))
    }

    fn run(fake: &FakeMachine, plan: &RehearsalPlan) -> Option<anyhow::Result<FinishedRehearsal>> {
        run_with(fake, plan, &mut FakeFeed::default())
    }

    fn unit(is_running: bool) -> FakeMachine {
        if is_running { FakeMachine::running() } else { FakeMachine::new(Manager::System) }
    }

    /// Makes a call to the manager fail at each step in turn. Checks that the unit is as before, or that the error
    /// names `harden-why restore`, which restores the unit. Returns the number of steps.
    fn fail_at_every_step(faults: &[Fault], is_running: bool) -> usize {
        let mut steps = 0;
        for &fault in faults {
            // Later calls only read the unit's state.
            for number in 0..24 {
                let fake = unit(is_running);
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
    fn unit_reloads_and_stops_before_its_own_settings_return() {
        let jobs = |is_running, reloads| {
            let fake = unit(is_running);
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
    fn follow_up_finds_the_unit_stopped_under_its_own_settings() {
        for (is_running, starts) in [(true, true), (true, false), (false, true), (false, false)] {
            let fake = unit(is_running);
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
            let (mut feed, mut observer) = (FakeFeed::default(), FakeObserver::default());
            let mut interruption = fake.interruption();
            let work = rehearse_then(fake.machine(), &plan, &mut feed, &mut observer, &mut interruption, follow_up);
            let FollowedRehearsal { finished, followed } = fake.run(work).unwrap().unwrap();
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
        let (mut feed, mut observer) = (FakeFeed::default(), FakeObserver::default());
        let mut interruption = fake.interruption();
        let work = rehearse_then(fake.machine(), &plan, &mut feed, &mut observer, &mut interruption, follow_up);
        let FollowedRehearsal { finished, followed } = fake.run(work).unwrap().unwrap();
        assert_eq!(followed, 7);
        let error = format!("{:#}", finished.unwrap_err());
        assert!(error.contains("may still run without its own settings: harden-why restore"), "{error}");
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
            let (mut feed, mut observer) = (FakeFeed::default(), FakeObserver::default());
            let mut interruption = fake.interruption();
            let work = rehearse_then(fake.machine(), &plan, &mut feed, &mut observer, &mut interruption, follow_up);
            let Restoration { outcome, notes, .. } = fake.run(work).unwrap().unwrap().finished.unwrap().restoration;
            assert_eq!(outcome.unwrap().active_state, "active");
            let ids: Vec<_> = notes.iter().map(|note| note.id).collect();
            assert_eq!(ids, if left { vec!["drop-in-left"] } else { vec![] });
        }
    }

    #[test]
    fn unit_that_systemd_does_not_start_is_an_error() {
        let name_cause = |quirk: &dyn Fn(&FakeMachine)| {
            let fake = FakeMachine::new(Manager::System);
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

    #[test]
    fn units_that_conflict_with_a_stopped_unit_run_again_at_its_end() {
        for (is_running, starts, again) in [(false, false, true), (false, true, false), (true, false, false)] {
            let fake = unit(is_running);
            fake.link("Conflicts", "rival.service", "active");
            let plan = prepare(&fake, SHORT).unwrap();
            let follow_up = async |_: &StoppedRehearsal| ((), starts);
            let (mut feed, mut observer) = (FakeFeed::default(), FakeObserver::default());
            let mut interruption = fake.interruption();
            let work = rehearse_then(fake.machine(), &plan, &mut feed, &mut observer, &mut interruption, follow_up);
            let finished = fake.run(work).unwrap().unwrap().finished.unwrap();
            let is_started = fake.other_jobs() == [("rival.service".to_owned(), UnitJob::Start)];
            assert_eq!(is_started, again, "{is_running} {starts}: {:?}", fake.other_jobs());
            let ids: Vec<_> = finished.restoration.notes.iter().map(|note| note.id).collect();
            assert_eq!(ids, if starts { vec!["conflicting-units-stopped"] } else { vec![] });
        }
    }

    #[test]
    fn units_that_a_killed_rehearsal_stopped_run_again_after_the_recovery() {
        let fake = unit(false);
        fake.link("Conflicts", "rival.service", "active");
        let plan = prepare(&fake, NO_LIMITS).unwrap();
        fake.fail_at(7, Fault::Kill);
        assert!(run(&fake, &plan).is_none() && fake.other_jobs().is_empty());
        // The unit ended by itself.
        fake.stop();
        let messages = fake.recover();
        assert_eq!(fake.other_jobs(), [("rival.service".to_owned(), UnitJob::Start)], "{messages:?}");
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
    fn kill_while_the_unit_is_stopped_is_recovered_by_a_start() {
        let fake = FakeMachine::running();
        let plan = prepare(&fake, SHORT).unwrap();
        let before = fake.snapshot();
        let follow_up = async |_: &StoppedRehearsal| {
            fake.kill_process();
            std::future::pending::<((), bool)>().await
        };
        let (mut feed, mut observer) = (FakeFeed::default(), FakeObserver::default());
        let mut interruption = fake.interruption();
        let work = rehearse_then(fake.machine(), &plan, &mut feed, &mut observer, &mut interruption, follow_up);
        assert!(fake.run(work).is_none());
        assert!(!fake.snapshot().runs_with("x.service"));
        let messages = fake.recover();
        assert!(messages[0].contains("under which it was restarted (active)"), "{messages:?}");
        assert_eq!(fake.snapshot(), before);
    }

    #[test]
    fn stopped_unit_is_stopped_again() {
        let fake = FakeMachine::new(Manager::System);
        let plan = prepare(&fake, SHORT).unwrap();
        let before = fake.snapshot();
        let finished = run(&fake, &plan).unwrap().unwrap();
        assert_eq!(finished.restoration.action, RestoreAction::Stopped);
        assert_eq!(fake.snapshot(), before);
    }

    #[test]
    fn unit_runs_with_the_drop_in_during_the_rehearsal() {
        let fake = FakeMachine::running();
        let plan = prepare(&fake, NO_LIMITS).unwrap();
        // This process is killed when it reads the unit's state for the third time.
        fake.fail_at(7, Fault::Kill);
        assert!(run(&fake, &plan).is_none());
        assert_eq!(fake.failed_call(), "unit_state");
        assert!(fake.snapshot().holds(REHEARSAL_DROP_IN) && fake.snapshot().runs_with(REHEARSAL_DROP_IN));
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
    fn signal_ends_the_rehearsal_and_restores_the_unit() {
        let fake = FakeMachine::running();
        let plan = prepare(&fake, NO_LIMITS).unwrap();
        let before = fake.snapshot();
        fake.fail_at(7, Fault::Signal);
        let finished = run(&fake, &plan).unwrap().unwrap();
        assert_eq!(finished.end, RehearsalEnd::Signal("SIGINT"));
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
    fn unit_that_fails_to_start_ends_the_rehearsal() {
        let fake = FakeMachine::new(Manager::System);
        let plan = prepare(&fake, NO_LIMITS).unwrap();
        fake.fail_to_start();
        let finished = run(&fake, &plan).unwrap().unwrap();
        assert!(matches!(&finished.end, RehearsalEnd::Unit(state) if state.outcome.active_state == "failed"));
        assert!(!fake.snapshot().holds(REHEARSAL_DROP_IN));
    }

    #[test]
    fn feed_that_fails_for_a_while_still_reports_the_calls() {
        let fake = FakeMachine::running();
        let plan = prepare(&fake, SHORT).unwrap();
        let mut feed = FakeFeed { calls: vec![denial(&fake.unit)], failures: 4, ..FakeFeed::default() };
        assert_eq!(run_with(&fake, &plan, &mut feed).unwrap().unwrap().calls.len(), 1);
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
    fn rehearsal_of_a_rehearsed_unit_is_refused() {
        let fake = FakeMachine::running();
        let plan = prepare(&fake, SHORT).unwrap();
        fake.fail_at(7, Fault::Kill);
        assert!(run(&fake, &plan).is_none());
        let error = |fake: &FakeMachine| prepare(fake, SHORT).err().unwrap().to_string();
        fake.repair();
        assert!(error(&fake).contains("is rehearsing x.service already"), "{}", error(&fake));
        fake.end_process();
        assert!(error(&fake).contains("left") && error(&fake).contains("harden-why restore"), "{}", error(&fake));
    }

    #[test]
    fn recovery_that_fails_or_is_killed_at_any_step_is_completed_by_the_next() {
        for is_running in [true, false] {
            for fault in Fault::KILLS.into_iter().chain(Fault::OF_MANAGER) {
                for number in 0..8 {
                    let fake = unit(is_running);
                    let plan = prepare(&fake, NO_LIMITS).unwrap();
                    let before = fake.snapshot();
                    fake.fail_at(7, Fault::Kill);
                    assert!(run(&fake, &plan).is_none());
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
    fn refresh_reads_whether_the_unit_runs_now() {
        let fake = FakeMachine::running();
        let mut plan = prepare(&fake, SHORT).unwrap();
        assert!(plan.target.marker.ran);
        fake.stop();
        fake.run(plan.target.refresh(fake.machine())).unwrap().unwrap();
        assert!(!plan.target.marker.ran);
    }

    #[test]
    fn recovery_by_another_user_leaves_a_system_unit_and_names_root() {
        let fake = FakeMachine::running();
        let plan = prepare(&fake, NO_LIMITS).unwrap();
        fake.fail_at(7, Fault::Kill);
        assert!(run(&fake, &plan).is_none());
        fake.end_process();
        let machine = fake.machine_of(4_242);
        let stale = crate::operations::recovery::find_stale(machine);
        let messages: Vec<String> = stale.into_iter().filter_map(|change| fake.run(change.recover(machine))).collect();
        assert!(messages[0].contains("the next harden-why of root restores it"), "{messages:?}");
        assert!(fake.snapshot().runs_with(REHEARSAL_DROP_IN));
    }
}
