//! A tap from its beginning to its end.

use super::refusals::{TappedUnit, UnitRefusal};
use super::sightings::{TapSightings, list_targets};
use super::start::{StartedUnits, start_slices};
use super::targets::ResolvedTarget;
use crate::audit::Note;
use crate::host::known_paths::add_known_paths;
use crate::host::program_files::read_programs;
use crate::incidents::Incident;
use crate::kernel::tap::{Tap, TapLosses, TapOptions};
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
    /// Notes about units that systemd did not start.
    pub(crate) not_started: Vec<Note>,
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

    /// Watches the targets until the time is over, a signal comes, or no target runs any more. A signal before the units
    /// have been started is an error. `show` receives the time since the beginning and a function that returns the refusals
    /// and the denied accesses so far.
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
        let Self { watched, units, restarts } = self;
        let targets = list_targets(&watched);
        let mut seen = TapSightings::new(watched, units);
        // The mounts of a new process are unknown.
        let options = TapOptions { absent: restarts || seen.has_own_mounts(), entered: false };
        let (mut tap, mut started) = if restarts {
            let open = async {
                start_slices(machine, seen.watched()).await?;
                Ok(Tap::open_before_start(&targets, options)?)
            };
            let tap = interruption.or(open).await?;
            (tap, Some(StartedUnits::start(machine, seen.watched(), interruption).await?))
        } else {
            (Tap::open(&targets, options)?, None)
        };
        let begun = Instant::now();
        loop {
            let left = duration.saturating_sub(begun.elapsed());
            let interval = if restarts && begun.elapsed() < EARLY { EARLY_INTERVAL } else { Tap::INTERVAL };
            let waited = async {
                tokio::time::sleep(interval.min(left)).await;
                Ok(())
            };
            let interrupted = interruption.or(waited).await.is_err();
            seen.add(tap.collect());
            show(begun.elapsed(), &|| (seen.refusals(), seen.accesses.incidents().cloned().collect()));
            if interrupted || begun.elapsed() >= duration || tap.is_over() {
                break;
            }
            if let Some(started) = &mut started
                && started.have_ended().await
            {
                break;
            }
        }
        seen.add(tap.stop());
        let took = begun.elapsed();
        let not_started = match &mut started {
            Some(started) => started.describe_missing().await,
            None => Vec::new(),
        };

        // Read the settings of units that appeared during the tap only now, when no event waits.
        for (index, unit) in seen.further_units().into_iter().enumerate() {
            seen.add_unit(if index < MOST_FURTHER_UNITS {
                load_unit(machine, unit, groups).await
            } else {
                TappedUnit { unit, settings: None }
            });
        }
        let refusals = seen.refusals();
        let accesses: Vec<Incident> = seen.accesses.incidents().cloned().collect();
        let (unjudged, uncounted) = (seen.accesses.unknown(), seen.uncounted());
        let (watched, mut units) = seen.into_parts();
        read_histories(machine, &watched, &mut units, groups).await;
        for tapped in &mut units {
            let own = accesses.iter().filter(|incident| incident.key.unit == tapped.unit).cloned();
            let own: Vec<Incident> = own.collect();
            if let Some(situation) = tapped.settings.as_mut().and_then(|settings| settings.situation.as_mut()) {
                add_known_paths(situation, &machine.resolve(Path::new("/")), &own);
            }
        }
        Ok(FinishedTap {
            units,
            refusals,
            accesses,
            unjudged,
            sees_capabilities: tap.sees_capabilities(),
            took,
            losses: tap.losses(),
            uncounted,
            not_started,
            watched,
        })
    }
}

impl FinishedTap {
    /// Returns whether the unit is one of the targets.
    pub(crate) fn is_target(&self, unit: Option<&Unit>) -> bool {
        unit.is_some() && self.watched.iter().any(|watched| watched.unit.as_ref() == unit)
    }
}

/// Reads again when the targets' units were started, and their settings changed: a process is judged by the settings of its
/// start.
async fn read_histories<M: ServiceManagers>(
    machine: LocalMachine<'_, M>,
    watched: &[ResolvedTarget],
    units: &mut [TappedUnit],
    groups: &Groups,
) {
    for tapped in units.iter_mut().filter(|tapped| watched.iter().any(|target| target.unit == tapped.unit)) {
        let TappedUnit { unit: Some(unit), settings: Some(settings) } = tapped else { continue };
        let Some(situation) = &mut settings.situation else { continue };
        if let Some(now) = machine.own_settings(unit, groups).await.situation {
            situation.history = now.history;
        }
    }
}

/// Reads the settings of a unit, and its programs.
pub(super) async fn load_unit<M: ServiceManagers>(
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operations::fake_manager::{FakeMachine, GROUPS};
    use crate::operations::interruption::Interrupted;
    use crate::units::Manager;
    use std::task::Poll;

    #[test]
    fn signal_before_the_units_have_started_ends_the_tap() {
        let fake = FakeMachine::new(Manager::System);
        let session = TapSession { watched: Vec::new(), units: Vec::new(), restarts: true };
        let mut interruption = Interruption::new(|_| Poll::Ready("SIGINT"));
        let watch = session.watch(fake.machine(), Duration::from_mins(1), &GROUPS, &mut interruption, |_, _| {});
        let error = fake.run(watch).unwrap().err().unwrap();
        assert!(error.is::<Interrupted>(), "{error:#}");
    }
}
