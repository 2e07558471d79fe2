//! Starts the units of a tap once it watches, and sees when they have ended.

use super::targets::ResolvedTarget;
use crate::audit::Note;
use crate::audit::text::join;
use crate::kernel::tap::{Tap, TapOptions, TapTarget};
use crate::operations::interruption::Interruption;
use crate::operations::local_machine::LocalMachine;
use crate::operations::own_unit::ensure_survives;
use crate::operations::requested_start::RequestedStart;
use crate::operations::service_manager::{ServiceManager, ServiceManagers};
use crate::systemd::manager::active_state::has_ended;
use crate::systemd::manager::{SystemdError, UnitJob, UnitState};
use crate::units::cgroup_name::unescape_unit_name;
use crate::units::{Manager, Unit, UnitName};
use anyhow::Context as _;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::os::unix::ffi::OsStrExt as _;
use std::time::{Duration, Instant};

/// The time between two looks at the units.
const STEP: Duration = Duration::from_millis(500);

/// The units that a tap restarts.
pub(crate) struct StartedUnits<'a, M: ServiceManagers> {
    units: Vec<WatchedStart>,
    /// They keep the units loaded.
    connections: Connections<'a, M>,
    looked: Instant,
}

/// A unit whose restart was requested.
struct WatchedStart {
    unit: Unit,
    /// What tells the start from earlier ones, if the manager answered.
    start: Option<RequestedStart>,
}

/// One connection to each manager.
struct Connections<'a, M: ServiceManagers> {
    machine: LocalMachine<'a, M>,
    open: BTreeMap<Manager, M::Connection>,
}

impl<'a, M: ServiceManagers> Connections<'a, M> {
    fn new(machine: LocalMachine<'a, M>) -> Self {
        Self { machine, open: BTreeMap::new() }
    }

    /// Returns the connection to a manager. Opens it for the first unit of the manager.
    ///
    /// # Errors
    /// The manager does not run, denies access or does not answer.
    async fn get(&mut self, manager: Manager) -> Result<&M::Connection, SystemdError> {
        match self.open.entry(manager) {
            Entry::Occupied(open) => Ok(open.into_mut()),
            Entry::Vacant(vacant) => Ok(vacant.insert(self.machine.connect(manager).await?)),
        }
    }
}

/// Checks that the tap can survive the restart of its units.
///
/// # Errors
/// This program would stop with one of them, or a manager does not answer.
pub(crate) async fn ensure_can_restart<M: ServiceManagers>(
    machine: LocalMachine<'_, M>,
    watched: &[ResolvedTarget],
) -> anyhow::Result<()> {
    let mut connections = Connections::new(machine);
    for unit in watched.iter().filter_map(|target| target.unit.as_ref()) {
        ensure_survives(connections.get(unit.manager).await?, &unit.name).await?;
    }
    Ok(())
}

/// Starts the slices of units, so that the kernel shows in which cgroups those of the units will appear. systemd would start
/// them with the units. Starts none where the kernel lets this process watch nothing.
///
/// # Errors
/// A manager refuses, or a tap is impossible.
pub(crate) async fn start_slices<M: ServiceManagers>(
    machine: LocalMachine<'_, M>,
    watched: &[ResolvedTarget],
) -> anyhow::Result<()> {
    let mut connections = Connections::new(machine);
    let mut is_possible = false;
    for target in watched {
        let (TapTarget::Cgroup(directory), Some(unit)) = (&target.target, &target.unit) else { continue };
        let Some(slice) = directory.parent().filter(|slice| !slice.exists()) else { continue };
        if !is_possible {
            drop(Tap::open_before_start(&[], TapOptions { absent: false, entered: false })?);
            is_possible = true;
        }
        let name = unescape_unit_name(slice.file_name().unwrap_or_default().as_bytes());
        let name: UnitName = std::str::from_utf8(name).unwrap_or_default().parse()?;
        connections.get(unit.manager).await?.run_job(&name, UnitJob::Start).await?;
    }
    Ok(())
}

impl<'a, M: ServiceManagers> StartedUnits<'a, M> {
    /// Restarts the units, or starts those that do not run. Does not wait for them.
    ///
    /// # Errors
    /// A manager refuses, or a signal came. The error names the units whose restart was requested before.
    pub(crate) async fn start(
        machine: LocalMachine<'a, M>,
        watched: &[ResolvedTarget],
        interruption: &mut Interruption,
    ) -> anyhow::Result<Self> {
        let (mut units, mut connections) = (Vec::new(), Connections::new(machine));
        let start = async {
            for unit in watched.iter().filter_map(|target| target.unit.clone()) {
                let not_restarted = || format!("{} was not restarted", unit.name);
                let manager = connections.get(unit.manager).await.with_context(not_restarted)?;
                let start = RequestedStart::prepare(manager, &unit.name).await.ok();
                // systemd may carry out the job although a signal ends the wait for its answer.
                units.push(WatchedStart { unit: unit.clone(), start });
                if let Err(error) = manager.start_job(&unit.name, UnitJob::Restart).await {
                    units.truncate(units.len() - usize::from(error.is_refusal()));
                    return Err(anyhow::Error::new(error).context(not_restarted()));
                }
            }
            Ok(())
        };
        if let Err(error) = interruption.or(start).await {
            let names = join(units.iter().map(|started| started.unit.name.to_string()));
            return Err(if units.is_empty() {
                error
            } else {
                error.context(format!("no tap watches the restart of {names}"))
            });
        }
        Ok(Self { units, connections, looked: Instant::now() })
    }

    /// Whether all units have failed or ended, and none will start again by itself. Looks only now and then.
    pub(crate) async fn have_ended(&mut self) -> bool {
        if self.looked.elapsed() < STEP {
            return false;
        }
        self.looked = Instant::now();
        for WatchedStart { unit, .. } in &self.units {
            if find_ended(&mut self.connections, unit).await.is_none() {
                return false;
            }
        }
        true
    }

    /// Returns notes about units that systemd did not start.
    pub(crate) async fn describe_missing(&mut self) -> Vec<Note> {
        let mut notes = Vec::new();
        for WatchedStart { unit, start, .. } in &self.units {
            let ended = find_ended(&mut self.connections, unit).await;
            let Some((start, (manager, state))) = start.zip(ended) else { continue };
            if let Err(error) = start.ensure_happened(manager, &unit.name, &state).await {
                notes.push(Note::new("not-started", format!("{error:#}")));
            }
        }
        notes
    }
}

/// Returns the state of a unit that has failed or ended, with the manager; `None` for another unit, or if the manager does
/// not answer.
async fn find_ended<'a, M: ServiceManagers>(
    connections: &'a mut Connections<'_, M>,
    unit: &Unit,
) -> Option<(&'a M::Connection, UnitState)> {
    let answer = connections.get(unit.manager).await.ok()?.unit_state(&unit.name).await;
    if answer.as_ref().is_err_and(|error| !error.is_refusal()) {
        // A manager that was executed again has a new socket.
        connections.open.remove(&unit.manager);
    }
    let (state, manager) = (answer.ok()?, connections.get(unit.manager).await.ok()?);
    (!state.busy && has_ended(&state.outcome.active_state)).then_some((manager, state))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operations::fake_manager::{FakeMachine, Fault};

    #[test]
    fn end_before_all_units_are_restarted_names_those_that_are() {
        for (number, fault, expected) in [
            (3, Fault::SignalAfterWork, "no tap watches the restart of x.service: interrupted by SIGINT"),
            (6, Fault::SignalAfterWork, "no tap watches the restart of x.service and y.service: interrupted by SIGINT"),
            (6, Fault::Refused, "no tap watches the restart of x.service: y.service was not restarted: "),
            (1, Fault::Signal, "interrupted by SIGINT"),
        ] {
            let fake = FakeMachine::running();
            let other = Unit { manager: Manager::System, name: "y.service".parse().unwrap() };
            let targets = [fake.unit.clone(), other].map(|unit| ResolvedTarget::from_process(1, Some(unit)));
            fake.fail_at(number, fault);
            let started =
                async { StartedUnits::start(fake.machine(), &targets, &mut fake.interruption()).await.err().unwrap() };
            let error = format!("{:#}", fake.run(started).unwrap());
            assert!(error.starts_with(expected), "{}: {error}", fake.failed_call());
        }
    }

    #[test]
    fn unit_that_systemd_did_not_start_is_noted() {
        for lacks in [false, true] {
            let fake = FakeMachine::new(Manager::System);
            if lacks {
                fake.link("Requires", "db.service", "failed");
            }
            let target = ResolvedTarget::from_process(1, Some(fake.unit.clone()));
            let notes = fake.run(async {
                let mut signals = FakeMachine::no_signals();
                let mut started = StartedUnits::start(fake.machine(), &[target], &mut signals).await.unwrap();
                started.describe_missing().await
            });
            let texts: Vec<String> = notes.unwrap().into_iter().map(|note| note.text).collect();
            assert_eq!(texts.len(), usize::from(lacks), "{texts:?}");
            assert!(texts.iter().all(|text| text.contains("units that do not run: db.service is failed")), "{texts:?}");
        }
    }
}
