//! Starts the units of a tap once it watches, and sees when they have ended.

use super::targets::ResolvedTarget;
use crate::audit::Note;
use crate::kernel::tap::{Tap, TapOptions, TapTarget};
use crate::operations::local_machine::LocalMachine;
use crate::operations::own_unit::ensure_survives;
use crate::operations::requested_start::RequestedStart;
use crate::operations::service_manager::{ServiceManager, ServiceManagers};
use crate::systemd::manager::active_state::has_ended;
use crate::systemd::manager::{SystemdError, UnitJob, UnitState};
use crate::units::cgroup_name::unescape_unit_name;
use crate::units::{Unit, UnitName};
use anyhow::Context as _;
use std::os::unix::ffi::OsStrExt as _;
use std::time::{Duration, Instant};

/// The time between two looks at the units.
const STEP: Duration = Duration::from_millis(500);

/// The units that a tap restarts.
pub(crate) struct StartedUnits<M: ServiceManagers> {
    units: Vec<WatchedStart<M>>,
    looked: Instant,
}

/// A unit whose restart was requested.
struct WatchedStart<M: ServiceManagers> {
    unit: Unit,
    /// What tells the start from earlier ones, if the manager answered.
    start: Option<RequestedStart>,
    /// Keeps the unit loaded.
    _manager: M::Connection,
}

/// Checks that the tap can survive the restart of its units.
///
/// # Errors
/// This program would stop with one of them, or a manager does not answer.
pub(crate) async fn ensure_can_restart<M: ServiceManagers>(
    machine: LocalMachine<'_, M>,
    watched: &[ResolvedTarget],
) -> anyhow::Result<()> {
    for unit in watched.iter().filter_map(|target| target.unit.as_ref()) {
        ensure_survives(&machine.connect(unit.manager).await?, &unit.name).await?;
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
        machine.connect(unit.manager).await?.run_job(&name, UnitJob::Start).await?;
    }
    Ok(())
}

impl<M: ServiceManagers> StartedUnits<M> {
    /// Restarts the units, or starts those that do not run. Does not wait for them.
    ///
    /// # Errors
    /// A manager refuses.
    pub(crate) async fn start(machine: LocalMachine<'_, M>, watched: &[ResolvedTarget]) -> anyhow::Result<Self> {
        let mut units = Vec::new();
        for unit in watched.iter().filter_map(|target| target.unit.clone()) {
            let restart = async {
                let manager = machine.connect(unit.manager).await?;
                let start = RequestedStart::prepare(&manager, &unit.name).await.ok();
                manager.start_job(&unit.name, UnitJob::Restart).await?;
                Ok::<_, SystemdError>((start, manager))
            };
            let (start, manager) = restart.await.with_context(|| format!("{} was not restarted", unit.name))?;
            units.push(WatchedStart { unit, start, _manager: manager });
        }
        Ok(Self { units, looked: Instant::now() })
    }

    /// Whether all units have failed or ended, and none will start again by itself. Looks only now and then.
    pub(crate) async fn have_ended(&mut self, machine: LocalMachine<'_, M>) -> bool {
        if self.looked.elapsed() < STEP {
            return false;
        }
        self.looked = Instant::now();
        for WatchedStart { unit, .. } in &self.units {
            if find_ended(machine, unit).await.is_none() {
                return false;
            }
        }
        true
    }

    /// Returns notes about units that systemd did not start.
    pub(crate) async fn describe_missing(&self, machine: LocalMachine<'_, M>) -> Vec<Note> {
        let mut notes = Vec::new();
        for WatchedStart { unit, start, .. } in &self.units {
            let Some((start, (manager, state))) = start.zip(find_ended(machine, unit).await) else { continue };
            if let Err(error) = start.ensure_happened(&manager, &unit.name, &state).await {
                notes.push(Note::new("not-started", format!("{error:#}")));
            }
        }
        notes
    }
}

/// Returns the state of a unit that has failed or ended, with the manager; `None` for another unit, or if the manager does
/// not answer.
async fn find_ended<M: ServiceManagers>(
    machine: LocalMachine<'_, M>,
    unit: &Unit,
) -> Option<(M::Connection, UnitState)> {
    let manager = machine.connect(unit.manager).await.ok()?;
    let state = manager.unit_state(&unit.name).await.ok()?;
    (!state.busy && has_ended(&state.outcome.active_state)).then_some((manager, state))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operations::fake_manager::FakeMachine;
    use crate::units::Manager;

    #[test]
    fn unit_that_systemd_did_not_start_is_noted() {
        for lacks in [false, true] {
            let fake = FakeMachine::new(Manager::System);
            if lacks {
                fake.link("Requires", "db.service", "failed");
            }
            let target = ResolvedTarget::from_process(1, Some(fake.unit.clone()));
            let notes = fake.run(async {
                let started = StartedUnits::start(fake.machine(), &[target]).await.unwrap();
                started.describe_missing(fake.machine()).await
            });
            let texts: Vec<String> = notes.unwrap().into_iter().map(|note| note.text).collect();
            assert_eq!(texts.len(), usize::from(lacks), "{texts:?}");
            assert!(texts.iter().all(|text| text.contains("units that do not run: db.service is failed")), "{texts:?}");
        }
    }
}
