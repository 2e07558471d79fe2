//! A tap from its beginning to its end.

use super::access_evidence::EvidenceCollector;
use super::access_tally::AccessTally;
use super::access_verdict::UnitPrivileges;
use super::refusals::{TappedUnit, UnitRefusal, find_unit, group_by_unit};
use super::start::{StartedUnits, start_slices};
use super::targets::{ResolvedTarget, TapScope};
use crate::host::program_files::read_programs;
use crate::incidents::Incident;
use crate::kernel::procfs::Procfs;
use crate::kernel::tap::{ProcessReader, RefusalTally, Tap, TapLosses, TapOptions, TapReport, TapTarget};
use crate::operations::interruption::Interruption;
use crate::operations::local_machine::LocalMachine;
use crate::operations::service_manager::ServiceManagers;
use crate::policy::{Capability, Policy, Settings};
use crate::syscalls::Groups;
use crate::units::Unit;
use std::path::Path;
use std::time::{Duration, Instant};

/// How many units' settings the tap reads at most, in addition to the targets.
const MOST_FURTHER_UNITS: usize = 256;

/// How long after a restart the tap looks often, and how often: the mounts of a process are gone with it.
const EARLY: Duration = Duration::from_secs(5);
const EARLY_INTERVAL: Duration = Duration::from_millis(10);

/// Targets and their units' settings, before the tap begins.
pub(crate) struct TapSession {
    watched: Vec<ResolvedTarget>,
    units: Vec<TappedUnit>,
    /// Whether the tap restarts the units, or starts them.
    restarts: bool,
}

/// A tap that is over.
#[must_use]
pub(crate) struct FinishedTap {
    /// The units of the targets and of the refusals.
    pub(crate) units: Vec<TappedUnit>,
    pub(crate) refusals: Vec<UnitRefusal>,
    /// What entered calls could not reach because of the sandbox.
    pub(crate) accesses: Vec<Incident>,
    /// The number of failed calls whose processes were gone before their mounts could be read.
    pub(crate) unjudged: u64,
    /// Whether the kernel shows which capabilities a call missed.
    pub(crate) sees_capabilities: bool,
    pub(crate) took: Duration,
    pub(crate) losses: TapLosses,
    /// The number of refusals for which the tally had no place.
    pub(crate) uncounted: u64,
    watched: Vec<ResolvedTarget>,
}

impl TapSession {
    /// Reads the settings of the targets' units.
    pub(crate) async fn load<M: ServiceManagers>(
        machine: LocalMachine<'_, M>,
        watched: Vec<ResolvedTarget>,
        groups: &Groups,
        restarts: bool,
    ) -> Self {
        let mut units: Vec<TappedUnit> = Vec::new();
        for ResolvedTarget { unit, .. } in &watched {
            if units.iter().all(|tapped| tapped.unit != *unit) {
                units.push(load_unit(machine, unit.clone(), groups).await);
            }
        }
        Self { watched, units, restarts }
    }

    /// Returns the policies of the targets' units.
    pub(crate) fn policies(&self) -> Vec<(Unit, Policy)> {
        let policy = |tapped: &TappedUnit| Some((tapped.unit.clone()?, tapped.situation()?.policy.clone()));
        self.units.iter().filter_map(policy).collect()
    }

    /// Watches the targets until the time is over, a signal comes, or no target runs any more. `show` receives the time
    /// since the beginning and a function that returns the refusals and the denied accesses so far.
    ///
    /// # Errors
    /// The kernel does not let this process tap, or a unit cannot be restarted.
    pub(crate) async fn watch<M: ServiceManagers>(
        self,
        machine: LocalMachine<'_, M>,
        duration: Duration,
        groups: &Groups,
        interruption: &mut Interruption,
        mut show: impl FnMut(Duration, &dyn Fn() -> (Vec<UnitRefusal>, Vec<Incident>)),
    ) -> anyhow::Result<FinishedTap> {
        let Self { watched, mut units, restarts } = self;
        let targets: Vec<TapTarget> = watched.iter().map(|watched| watched.target.clone()).collect();
        let mut seen = TapSightings::new(&targets, &watched, &units, restarts);
        let (mut tap, mut started) = if restarts {
            start_slices(machine, &watched).await?;
            let tap = Tap::open_before_start(&targets, seen.options)?;
            (tap, Some(StartedUnits::start(machine, &watched).await?))
        } else {
            (Tap::open(&targets, seen.options)?, None)
        };
        let scope = TapScope::from_targets(&targets);
        let begun = Instant::now();
        loop {
            let left = duration.saturating_sub(begun.elapsed());
            let interval = if restarts && begun.elapsed() < EARLY { EARLY_INTERVAL } else { Tap::INTERVAL };
            let waited = async {
                tokio::time::sleep(interval.min(left)).await;
                Ok(())
            };
            let interrupted = interruption.or(waited).await.is_err();
            seen.add(tap.collect(), &watched);
            show(begun.elapsed(), &|| {
                let refusals =
                    group_by_unit(&seen.refusals, &units, |target, owner| find_unit(&watched, scope, target, owner));
                (refusals, seen.accesses.incidents().cloned().collect())
            });
            if interrupted || begun.elapsed() >= duration || tap.is_over() {
                break;
            }
            if let Some(started) = &mut started
                && started.have_ended(machine).await
            {
                break;
            }
        }
        seen.add(tap.stop(), &watched);
        let took = begun.elapsed();

        // Read the settings of units that appeared during the tap only now, when no event waits.
        let owners = seen.refusals.owners();
        let mut further: Vec<Option<Unit>> =
            owners.map(|(target, owner)| find_unit(&watched, scope, target, owner).map(|(unit, _)| unit)).collect();
        further.extend(seen.accesses.incidents().map(|incident| incident.key.unit.clone()));
        further.sort();
        further.dedup();
        further.retain(|unit| units.iter().all(|tapped| tapped.unit != *unit));
        for (index, unit) in further.into_iter().enumerate() {
            units.push(if index < MOST_FURTHER_UNITS {
                load_unit(machine, unit, groups).await
            } else {
                TappedUnit { unit, settings: None }
            });
        }
        let refusals = group_by_unit(&seen.refusals, &units, |target, owner| find_unit(&watched, scope, target, owner));
        Ok(FinishedTap {
            units,
            refusals,
            accesses: seen.accesses.incidents().cloned().collect(),
            unjudged: seen.accesses.unknown(),
            sees_capabilities: tap.sees_capabilities(),
            took,
            losses: tap.losses(),
            uncounted: seen.refusals.uncounted().saturating_add(seen.accesses.uncounted()),
            watched,
        })
    }
}

/// What a tap saw so far.
struct TapSightings {
    options: TapOptions,
    refusals: RefusalTally,
    accesses: AccessTally,
    processes: ProcessReader,
    procfs: Procfs,
    targets: Vec<TapTarget>,
    /// By target, what the unit's settings withhold, and its policy.
    settings: Vec<(UnitPrivileges, Option<Policy>)>,
}

impl TapSightings {
    fn new(targets: &[TapTarget], watched: &[ResolvedTarget], units: &[TappedUnit], restarts: bool) -> Self {
        let evidence = EvidenceCollector::from_this_process();
        // Only mounts of its own can hide a path from a process. Those of a new process are unknown.
        let absent = restarts || targets.iter().flat_map(TapTarget::processes).any(|pid| evidence.has_own_mounts(pid));
        let settings = |target: &ResolvedTarget| {
            let tapped = units.iter().find(|tapped| tapped.unit == target.unit)?;
            let policy = &tapped.situation()?.policy;
            Some((unit_privileges(&policy.settings), Some(policy.clone())))
        };
        Self {
            options: TapOptions { failures: true, absent },
            refusals: RefusalTally::default(),
            accesses: AccessTally::new(evidence),
            processes: ProcessReader::default(),
            procfs: Procfs::live(),
            targets: targets.to_vec(),
            settings: watched.iter().map(|target| settings(target).unwrap_or_default()).collect(),
        }
    }

    fn add(&mut self, report: TapReport, watched: &[ResolvedTarget]) {
        self.refusals.add(report.refusals, &mut self.processes, &self.procfs);
        self.accesses.begin_poll(self.targets.iter().flat_map(TapTarget::processes));
        let settings = |target: usize| {
            let known = self.settings.get(target);
            known.map(|(privileges, policy)| (*privileges, policy.as_ref())).unwrap_or_default()
        };
        self.accesses.add(report.failures, watched, &mut self.processes, settings);
    }
}

/// Returns what a unit's settings withhold.
fn unit_privileges(settings: &Settings) -> UnitPrivileges {
    let is_withheld =
        |number: &u8| Capability::new(*number).name().is_some_and(|name| !settings.starts_with_capability(name));
    UnitPrivileges {
        is_user: !settings.starts_as_root(),
        withheld: (0..64).filter(is_withheld).fold(0, |bits, number| bits | 1 << number),
    }
}

impl FinishedTap {
    /// Returns whether the unit is one of the targets.
    pub(crate) fn is_target(&self, unit: Option<&Unit>) -> bool {
        unit.is_some() && self.watched.iter().any(|watched| watched.unit.as_ref() == unit)
    }
}

async fn load_unit<M: ServiceManagers>(
    machine: LocalMachine<'_, M>,
    unit: Option<Unit>,
    groups: &Groups,
) -> TappedUnit {
    let mut settings = match &unit {
        Some(unit) => Some(machine.own_settings(unit, groups).await),
        None => None,
    };
    let situation = settings.as_mut().and_then(|settings| settings.situation.as_mut());
    if let Some((situation, unit)) = situation.zip(unit.as_ref()) {
        read_programs(situation, unit.manager, &machine.resolve(Path::new("/")), &[]);
    }
    TappedUnit { unit, settings }
}
