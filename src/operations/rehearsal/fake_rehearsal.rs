//! Rehearsals of a fake machine's unit, for tests: a plan, a feed that a test fills, an observer that shows nothing.

use super::feed::{RehearsalFeed, RehearsalObserver};
use super::plan::{Limits, RehearsalPlan, RehearsalRequest};
use super::run::{FinishedRehearsal, rehearse};
use crate::incidents::Incident;
use crate::incidents::local_time::LocalTime;
use crate::operations::fake_manager::{FakeMachine, Fault, GROUPS};
use crate::systemd::syscall_groups::LoadedGroups;
use crate::units::Manager;
use anyhow::ensure;
use jiff::tz::TimeZone;
use std::cell::Cell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

pub(super) const NO_LIMITS: Limits = Limits { time: None, idle: None };
pub(super) const SHORT: Limits = Limits { time: Some(Duration::from_millis(3)), idle: None };

/// The number of a call while the rehearsal watches the unit: the third that reads the unit's state.
pub(super) const WATCHING: usize = 7;

#[derive(Default)]
pub(super) struct FakeFeed {
    pub(super) calls: Vec<Incident>,
    /// How many of the next reads fail.
    pub(super) failures: usize,
    pub(super) ended: Cell<bool>,
    /// How long a read takes.
    pub(super) takes: Duration,
    /// The number of reads that have begun and not ended.
    pub(super) open: Rc<Cell<usize>>,
}

impl RehearsalFeed for FakeFeed {
    async fn calls(&mut self) -> anyhow::Result<Vec<Incident>> {
        let fails = self.failures > 0;
        self.failures = self.failures.saturating_sub(1);
        ensure!(!fails, "the daemon is gone");
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
pub(super) struct FakeObserver {
    /// The number of calls at the latest read.
    known: usize,
}

impl RehearsalObserver for FakeObserver {
    fn start(&mut self) {}

    fn show_calls(&mut self, calls: &[Incident]) -> bool {
        calls.len() > std::mem::replace(&mut self.known, calls.len())
    }

    fn tick(&mut self) {}

    fn say(&mut self, _: &str) {}

    fn show_end(&mut self) {}

    fn finish(&mut self) {}
}

/// A machine with a unit that runs or is stopped.
pub(super) fn machine(is_running: bool) -> FakeMachine {
    if is_running { FakeMachine::running() } else { FakeMachine::new(Manager::System) }
}

pub(super) fn prepare(fake: &FakeMachine, limits: Limits) -> anyhow::Result<RehearsalPlan> {
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

/// Rehearses the unit, until the end or a kill (`None`).
pub(super) fn run(fake: &FakeMachine, plan: &RehearsalPlan) -> Option<anyhow::Result<FinishedRehearsal>> {
    run_with(fake, plan, &mut FakeFeed::default())
}

/// Rehearses the unit with this feed, until the end or a kill (`None`).
pub(super) fn run_with(
    fake: &FakeMachine,
    plan: &RehearsalPlan,
    feed: &mut FakeFeed,
) -> Option<anyhow::Result<FinishedRehearsal>> {
    let mut observer = FakeObserver::default();
    let mut interruption = fake.interruption();
    fake.run(rehearse(fake.machine(), plan, feed, &mut observer, &mut interruption))
}

/// Rehearses the unit, and kills this process while the rehearsal watches the unit.
pub(super) fn kill_rehearsal(fake: &FakeMachine) {
    let plan = prepare(fake, NO_LIMITS).unwrap();
    fake.fail_at(WATCHING, Fault::Kill);
    assert!(run(fake, &plan).is_none());
}
