//! A tap from its beginning to its end.

use super::refusals::{TappedUnit, UnitRefusal, find_unit, group_by_unit};
use super::targets::{ResolvedTarget, TapScope};
use crate::host::program_files::read_programs;
use crate::kernel::procfs::Procfs;
use crate::kernel::tap::{RefusalTally, Tap, TapLosses, TapOptions, TapTarget};
use crate::operations::interruption::Interruption;
use crate::operations::local_machine::LocalMachine;
use crate::operations::service_manager::ServiceManagers;
use crate::policy::Policy;
use crate::syscalls::Groups;
use crate::units::Unit;
use std::path::Path;
use std::time::{Duration, Instant};

/// How many units' settings the tap reads at most, in addition to the targets.
const MOST_FURTHER_UNITS: usize = 256;

/// Targets and their units' settings, before the tap begins.
pub(crate) struct TapSession {
    watched: Vec<ResolvedTarget>,
    units: Vec<TappedUnit>,
}

/// A tap that is over.
#[must_use]
pub(crate) struct FinishedTap {
    /// The units of the targets and of the refusals.
    pub(crate) units: Vec<TappedUnit>,
    pub(crate) refusals: Vec<UnitRefusal>,
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
    ) -> Self {
        let mut units: Vec<TappedUnit> = Vec::new();
        for ResolvedTarget { unit, .. } in &watched {
            if units.iter().all(|tapped| tapped.unit != *unit) {
                units.push(load_unit(machine, unit.clone(), groups).await);
            }
        }
        Self { watched, units }
    }

    /// Returns the policies of the targets' units.
    pub(crate) fn policies(&self) -> Vec<(Unit, Policy)> {
        let policy = |tapped: &TappedUnit| Some((tapped.unit.clone()?, tapped.situation()?.policy.clone()));
        self.units.iter().filter_map(policy).collect()
    }

    /// Watches the targets until the time is over, a signal comes, or no target runs any more. `show` receives the time
    /// since the beginning and a function that returns the refusals so far.
    ///
    /// # Errors
    /// The kernel does not let this process tap.
    pub(crate) async fn watch<M: ServiceManagers>(
        self,
        machine: LocalMachine<'_, M>,
        duration: Duration,
        groups: &Groups,
        interruption: &mut Interruption,
        mut show: impl FnMut(Duration, &dyn Fn() -> Vec<UnitRefusal>),
    ) -> anyhow::Result<FinishedTap> {
        let Self { watched, mut units } = self;
        let targets: Vec<TapTarget> = watched.iter().map(|watched| watched.target.clone()).collect();
        let mut tap = Tap::open(&targets, TapOptions { refusals: true, failures: false, absent: false })?;
        let scope = TapScope::from_targets(&targets);
        let (begun, procfs, mut tally) = (Instant::now(), Procfs::live(), RefusalTally::default());
        loop {
            let left = duration.saturating_sub(begun.elapsed());
            let waited = async {
                tokio::time::sleep(Tap::INTERVAL.min(left)).await;
                Ok(())
            };
            let interrupted = interruption.or(waited).await.is_err();
            tally.add(tap.collect().refusals, &procfs);
            show(begun.elapsed(), &|| {
                group_by_unit(&tally, &units, |target, owner| find_unit(&watched, scope, target, owner))
            });
            if interrupted || begun.elapsed() >= duration || tap.is_over() {
                break;
            }
        }
        tally.add(tap.stop().refusals, &procfs);
        let took = begun.elapsed();

        // Read the settings of units that appeared during the tap only now, when no event waits.
        let owners = tally.owners();
        let mut further: Vec<Option<Unit>> =
            owners.map(|(target, owner)| find_unit(&watched, scope, target, owner).map(|(unit, _)| unit)).collect();
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
        let refusals = group_by_unit(&tally, &units, |target, owner| find_unit(&watched, scope, target, owner));
        Ok(FinishedTap { units, refusals, took, losses: tap.losses(), uncounted: tally.uncounted(), watched })
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
