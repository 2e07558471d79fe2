//! A unit under a temporary drop-in: writes the drop-in, confirms it, and removes it again, even after a failure.
//!
//! The unit stops before its own settings come back, so that `ExecStop=` and `ExecStopPost=` run without them. systemd
//! takes the settings of a command from the unit as it is when the command starts (`service_spawn`).

use super::marker;
use super::target::{TemporaryTarget, ensure_is_free};
use crate::audit::Note;
use crate::audit::text::escape;
use crate::host::unit_processes;
use crate::host::unit_processes::{UnitProcess, describe_survivors, still_running};
use crate::kernel::clock::Clocks;
use crate::operations::change_error::ChangeError;
use crate::operations::drop_in;
use crate::operations::drop_in::{DropInError, Undo};
use crate::operations::interruption::Interruption;
use crate::operations::local_machine::LocalMachine;
use crate::operations::requested_start::RequestedStart;
use crate::operations::reread::{SettingsLayer, reread_with_drop_in};
use crate::operations::service_manager::{JOB_PATIENCE, ServiceManager as _, ServiceManagers};
use crate::policy::Policy;
use crate::systemd::manager::active_state::is_up;
use crate::systemd::manager::{SystemdError, UnitJob, UnitOutcome};
use crate::units::UnitName;
use anyhow::Context as _;
use std::time::Duration;

/// How long `ExecReload=` may take.
const RELOAD_PATIENCE: Duration = Duration::from_secs(10);

/// How long the program may take for a reload after `ExecReload=` ended.
const RELOAD_WORK: Duration = if cfg!(test) { Duration::ZERO } else { Duration::from_secs(1) };

/// A unit with a temporary drop-in.
#[must_use = "the unit's own settings have to come back"]
pub(crate) struct RehearsalSession<'a, M: ServiceManagers> {
    target: &'a TemporaryTarget,
    machine: LocalMachine<'a, M>,
    /// This connection keeps the unit loaded for as long as the connection lives.
    manager: M::Connection,
    undo: Undo,
    /// Whether this session requested the unit's restart.
    restarted: bool,
    /// When the unit's processes could first start without its own settings, in nanoseconds since boot.
    since: i64,
}

/// A unit whose own settings are in force again. It stays stopped until [`finish`](Self::finish).
#[must_use = "a unit that ran before has to run again"]
pub(crate) struct StoppedUnit<'a, M: ServiceManagers> {
    target: &'a TemporaryTarget,
    /// The drop-in under its second name; `None` if another process removed it.
    undo: Option<Undo>,
    /// Keeps the unit loaded.
    _first: M::Connection,
    manager: M::Connection,
    /// The job that gives the unit the state that it had before.
    job: Option<UnitJob>,
}

/// How a unit got its own settings back.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Restoration {
    pub(crate) action: RestoreAction,
    /// The unit's state after its job; `None` if the job takes too long, the manager does not answer, or a signal came.
    pub(crate) outcome: Option<UnitOutcome>,
    /// What is left to do.
    pub(crate) notes: Vec<Note>,
}

/// The action that gave the unit its own settings back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RestoreAction {
    /// It ran before, so it was restarted.
    Restarted,
    /// It did not run before, so it was stopped, unless it had ended by itself.
    Stopped,
    /// It was not started under the drop-in, so it needed no job.
    Left,
}

impl<'a, M: ServiceManagers> RehearsalSession<'a, M> {
    /// Writes the drop-in, which systemd reads later.
    ///
    /// # Errors
    /// The manager is unreachable, or the drop-in cannot be written. Nothing is changed in either case.
    pub(crate) async fn open(
        machine: LocalMachine<'a, M>,
        target: &'a TemporaryTarget,
        text: &str,
    ) -> anyhow::Result<Self> {
        let manager = machine.connect(target.unit.manager).await?;
        // Another process may have begun since the check of the plan.
        ensure_is_free(&target.path, &target.unit.name)?;
        let undo = drop_in::write_new(&target.path, text.as_bytes())?;
        Ok(Self { target, machine, manager, undo, restarted: false, since: i64::MAX })
    }

    /// Replaces the text of the drop-in, which systemd reads later.
    ///
    /// # Errors
    /// The drop-in was changed or removed by another process, or cannot be written.
    pub(crate) fn rewrite(&mut self, text: &str) -> anyhow::Result<()> {
        self.undo.rewrite(text.as_bytes())?;
        Ok(())
    }

    /// Returns the connection to the unit's manager.
    pub(crate) fn manager(&self) -> &M::Connection {
        &self.manager
    }

    /// Makes systemd read the drop-in, confirms its settings, and requests the unit's restart without waiting for it.
    /// `confirm` judges the policy that systemd then holds.
    ///
    /// # Errors
    /// systemd does not answer, or holds other settings than the drop-in needs.
    pub(crate) async fn start(
        &mut self,
        confirm: impl FnOnce(&Policy) -> anyhow::Result<()>,
    ) -> anyhow::Result<RequestedStart> {
        let TemporaryTarget { unit, loaded, path, .. } = self.target;
        let (manager, change) = (&self.manager, (unit, path.as_path()));
        let reread = reread_with_drop_in(self.machine, manager, change, SettingsLayer::InForce, &loaded.groups).await;
        confirm(&reread.map_err(ChangeError::into_error)?.policy)?;
        let start = RequestedStart::prepare(&self.manager, &unit.name).await?;
        self.since = self.since.min(Clocks::now().boot_ns());
        // systemd may carry out a job although its answer is lost. Of several restarts, an earlier one counts as well.
        let was_restarted = std::mem::replace(&mut self.restarted, true);
        let started = self.manager.start_job(&unit.name, UnitJob::Restart).await;
        if started.as_ref().is_err_and(SystemdError::is_refusal) {
            self.restarted = was_restarted;
        }
        started.with_context(|| format!("{} does not start again", unit.name))?;
        Ok(start)
    }

    /// Reloads the unit once (`ExecReload=`) if asked to, and stops it, both without its own settings. Returns the
    /// processes that started without them, and ran before the stop.
    ///
    /// A signal ends the wait. A failure ends nothing: after the restoration a job stops what still runs.
    pub(crate) async fn stop(&self, reloads: bool, interruption: &mut Interruption) -> Vec<UnitProcess> {
        if !self.restarted {
            return Vec::new();
        }
        let unit = &self.target.unit;
        if reloads {
            let reload = async {
                self.manager.start_job(&unit.name, UnitJob::Reload).await?;
                self.manager.wait_for_job(&unit.name, RELOAD_PATIENCE).await?;
                // ExecReload= often only sends a signal, and the program then does the work.
                tokio::time::sleep(RELOAD_WORK).await;
                Ok(())
            };
            // A unit that has no way to reload, or does not run, refuses.
            let _ = interruption.or(reload).await;
        }
        let processes = unit_processes::find_started_since(unit, self.since);
        let stop = async { Ok(self.manager.run_job(&unit.name, UnitJob::Stop).await?) };
        // The manager may be gone for a moment; the restoration connects again.
        let _ = interruption.or(stop).await;
        processes
    }

    /// Brings the unit's own settings back into force.
    ///
    /// No signal prevents this, since signals come in pairs when a login session ends.
    ///
    /// # Errors
    /// systemd does not answer, or the drop-in cannot be renamed or removed. The next harden-why completes the work.
    pub(crate) async fn restore(mut self) -> anyhow::Result<StoppedUnit<'a, M>> {
        let name = &self.target.unit.name;
        let is_ours = match self.undo.set_aside(&marker::disarmed_path(&self.target.path)) {
            Ok(()) => true,
            // Another process removed the file; systemd may still hold its settings.
            Err(DropInError::Gone(_)) => false,
            Err(error) => {
                let error = anyhow::Error::from(error);
                return Err(
                    error.context(format!("{name} still runs without its own settings: remove that file yourself"))
                );
            }
        };
        let (manager, job) = self.reset().await.with_context(|| may_still_run(name))?;
        Ok(StoppedUnit { target: self.target, undo: is_ours.then_some(self.undo), _first: self.manager, manager, job })
    }

    /// Reloads the manager. Returns the job that ends processes without the unit's own settings, and gives the unit the
    /// state that it had before.
    async fn reset(&self) -> anyhow::Result<(M::Connection, Option<UnitJob>)> {
        let TemporaryTarget { unit, marker, .. } = self.target;
        // The first connection may be lost.
        let manager = self.machine.connect(unit.manager).await?;
        manager.reload().await?;
        let job = match manager.wait_for_unit_properties(&unit.name, JOB_PATIENCE).await {
            Err(SystemdError::NoSuchUnit(_)) => None,
            Err(error) => return Err(error.into()),
            // A stop also cancels a start that is still queued.
            Ok(_) => self.restarted.then_some(if marker.ran { UnitJob::Restart } else { UnitJob::Stop }),
        };
        Ok((manager, job))
    }
}

impl<M: ServiceManagers> StoppedUnit<'_, M> {
    /// Gives the unit the state that it had before, unless `is_started` says that it was started under its own settings
    /// since. Removes the drop-in.
    ///
    /// # Errors
    /// systemd does not answer. The next harden-why completes the work.
    pub(crate) async fn finish(self, is_started: bool, interruption: &mut Interruption) -> anyhow::Result<Restoration> {
        let Self { target: TemporaryTarget { unit, marker, .. }, undo, manager, job, .. } = self;
        let name = &unit.name;
        let job = job.filter(|_| !is_started);
        if let Some(job) = job {
            manager.start_job(name, job).await.with_context(|| may_still_run(name))?;
        }
        let mut notes = Vec::new();
        if job.is_some() || (is_started && marker.ran) {
            notes.extend(marker.start_interrupted(name, &manager).await);
        } else if is_started {
            notes.extend(marker.note_interrupted(name));
        }
        if let Some(error) = undo.and_then(|undo| undo.undo().err()) {
            notes.push(Note::new("drop-in-left", format!("{error} (harden-why restore)")));
        }
        let action = match job {
            _ if is_started => RestoreAction::Restarted,
            None => RestoreAction::Left,
            Some(UnitJob::Stop) => RestoreAction::Stopped,
            Some(_) => RestoreAction::Restarted,
        };
        let outcome = interruption.or(async { Ok(manager.wait_for_job(name, JOB_PATIENCE).await?) }).await.ok();
        Ok(Restoration { action, outcome, notes })
    }
}

fn may_still_run(name: &UnitName) -> String {
    format!("{name} may still run without its own settings: harden-why restore brings them back")
}

impl Restoration {
    /// Describes how the unit is left, what is left to do, and which processes outlive the run, without a full stop.
    pub(crate) fn describe_fully(&self, name: &str, survivors: &[UnitProcess]) -> String {
        let state = self.describe(name).trim_end_matches('.').to_owned();
        let notes = self.notes.iter().map(|note| note.text.clone());
        let all = std::iter::once(state).chain(notes).chain(describe_survivors(survivors));
        all.collect::<Vec<_>>().join("; ")
    }

    /// Describes the restoration in a sentence about the unit `name`.
    pub(crate) fn describe(&self, name: &str) -> String {
        let Some(outcome) = &self.outcome else {
            let gets = match self.action {
                RestoreAction::Restarted => "restarts under its own settings",
                RestoreAction::Stopped => "stops, since it did not run before",
                RestoreAction::Left => "has its own settings again",
            };
            return format!("{name} {gets}; systemd is not done with it yet.");
        };
        let state = describe_state(outcome);
        match self.action {
            RestoreAction::Restarted => format!("{name} restarted under its own settings, and is {state}."),
            RestoreAction::Stopped if is_up(&state) => {
                format!("{name} was stopped, since it did not run before. Something started it again: it is {state}.")
            }
            RestoreAction::Stopped => format!("{name} was stopped, since it did not run before, and is {state}."),
            RestoreAction::Left => format!("{name} has its own settings again, and is {state}."),
        }
    }
}

impl RestoreAction {
    /// The word in JSON.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Restarted => "restarted",
            Self::Stopped => "stopped",
            Self::Left => "left",
        }
    }
}

/// Adds to the error of a run how the unit is left, or why it did not get its own settings back, and the processes that
/// outlive the run.
pub(crate) fn explain_failure(
    error: anyhow::Error,
    restored: anyhow::Result<Restoration>,
    name: &UnitName,
    processes: Vec<UnitProcess>,
) -> anyhow::Error {
    match restored {
        Ok(restoration) => error.context(restoration.describe_fully(name.as_str(), &still_running(processes))),
        Err(why) => name_survivors(why, processes).context(format!("{error:#}")),
    }
}

/// Adds to an error the processes that outlive a run.
pub(crate) fn name_survivors(error: anyhow::Error, processes: Vec<UnitProcess>) -> anyhow::Error {
    match describe_survivors(&still_running(processes)) {
        Some(survivors) => error.context(survivors),
        None => error,
    }
}

/// Returns a unit's state, with the result if the unit failed.
pub(crate) fn describe_state(outcome: &UnitOutcome) -> String {
    let state = escape(outcome.active_state.as_bytes());
    match outcome.result.as_deref().filter(|result| *result != "success" && outcome.active_state == "failed") {
        Some(result) => format!("{state} ({})", escape(result.as_bytes())),
        None => state,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_that_something_starts_again_is_not_called_stopped() {
        let describe = |action, state: &str| {
            let outcome = UnitOutcome { active_state: state.to_owned(), result: None };
            Restoration { action, outcome: Some(outcome), notes: Vec::new() }.describe("x.service")
        };
        for state in ["activating", "active", "reloading", "refreshing"] {
            let expected = format!("Something started it again: it is {state}.");
            assert!(describe(RestoreAction::Stopped, state).ends_with(&expected), "{state}");
        }
        let stopped = "x.service was stopped, since it did not run before, and is inactive.";
        assert_eq!(describe(RestoreAction::Stopped, "inactive"), stopped);
        let restarted = "x.service restarted under its own settings, and is activating.";
        assert_eq!(describe(RestoreAction::Restarted, "activating"), restarted);
    }
}
