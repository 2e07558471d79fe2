//! A tap in a thread of its own, next to an operation that waits for other things: a rehearsal.

use super::report::{failure_notes, loss_notes};
use super::session::load_unit;
use super::sightings::TapSightings;
use super::start::start_slices;
use super::targets::ResolvedTarget;
use crate::audit::Note;
use crate::incidents::Incident;
use crate::kernel::tap::{Tap, TapError, TapOptions};
use crate::operations::local_machine::LocalMachine;
use crate::operations::service_manager::{ServiceManager as _, ServiceManagers};
use crate::syscalls::Groups;
use crate::units::Unit;
use anyhow::{Context as _, ensure};
use std::slice;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

/// How often the thread looks: the mounts of a process are gone with it.
const INTERVAL: Duration = Duration::from_millis(20);

/// A tap of one unit, from its next start on. It ends when this is dropped.
pub(crate) struct BackgroundTap {
    state: Arc<Mutex<TapState>>,
    thread: Option<JoinHandle<()>>,
}

struct TapState {
    tap: Tap,
    seen: TapSightings,
    is_over: bool,
}

impl BackgroundTap {
    /// Watches a unit that will start, and all calls that its settings deny by an argument, whether or not a filter refuses
    /// them.
    ///
    /// # Errors
    /// The caller is not root, or the kernel does not let this process tap.
    pub(crate) async fn start<M: ServiceManagers>(
        machine: LocalMachine<'_, M>,
        unit: &Unit,
        groups: &Groups,
    ) -> anyhow::Result<Self> {
        ensure!(machine.uid() == 0, TapError::NotAllowed);
        let cgroup = machine.connect(unit.manager).await?.coming_control_group(&unit.name).await?;
        let target = ResolvedTarget::from_unit(unit.clone(), &cgroup)?;
        start_slices(machine, slice::from_ref(&target)).await?;
        let targets = [target.target.clone()];
        let seen = TapSightings::new(vec![target], vec![load_unit(machine, Some(unit.clone()), groups).await]);
        let tap = Tap::open_before_start(&targets, TapOptions { absent: true, entered: true })?;
        let state = Arc::new(Mutex::new(TapState { tap, seen, is_over: false }));
        let shared = Arc::clone(&state);
        let look = move || {
            while !lock(&shared).look() {
                std::thread::sleep(INTERVAL);
            }
        };
        let thread = Builder::new().name("tap".to_owned()).spawn(look).context("cannot start a thread")?;
        Ok(Self { state, thread: Some(thread) })
    }

    /// Returns what was denied since the last call.
    pub(crate) fn take_incidents(&self) -> Vec<Incident> {
        let mut state = lock(&self.state);
        state.look();
        state.seen.take_incidents()
    }

    /// Returns notes about denials that the tap missed or could not judge.
    pub(crate) fn notes(&self) -> Vec<Note> {
        let state = lock(&self.state);
        let mut notes = loss_notes(state.tap.losses(), state.seen.uncounted());
        notes.extend(failure_notes(state.seen.accesses.unknown(), state.tap.sees_capabilities()));
        notes
    }
}

impl TapState {
    /// Reads what the tap counted. Returns whether the tap is over.
    fn look(&mut self) -> bool {
        let report = self.tap.collect();
        self.seen.add(report);
        self.is_over
    }
}

impl Drop for BackgroundTap {
    fn drop(&mut self) {
        lock(&self.state).is_over = true;
        // A thread that panicked has nothing to tell here.
        _ = self.thread.take().map(JoinHandle::join);
    }
}

fn lock(state: &Mutex<TapState>) -> MutexGuard<'_, TapState> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
