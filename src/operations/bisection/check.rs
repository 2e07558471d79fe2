//! The check of a trial: whether the unit works with some lines lifted.

use super::check_command;
use crate::audit::text::{escape, escape_excerpt, join};
use crate::operations::requested_start::RequestedStart;
use crate::operations::service_manager::{JOB_PATIENCE, START_PATIENCE, ServiceManager};
use crate::systemd::manager::active_state::{is_active, is_up};
use crate::systemd::manager::{SystemdError, UnitState};
use crate::units::UnitName;
use anyhow::{bail, ensure};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// The time between two looks at a unit.
const STEP: Duration = Duration::from_millis(if cfg!(test) { 1 } else { 100 });

/// The time between two runs of the command.
const PAUSE: Duration = Duration::from_millis(if cfg!(test) { 1 } else { 500 });

/// Decides whether a unit works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TrialCheck {
    /// The shell command that succeeds if the unit works; `None` if the unit's own state decides.
    pub(crate) command: Option<String>,
    /// How long the unit has to stay active, or how long the command may fail before the unit counts as not working.
    pub(crate) wait: Duration,
    /// Whether the unit does its work and ends (`Type=oneshot`).
    pub(crate) is_oneshot: bool,
}

/// The outcome of a trial.
#[must_use]
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TrialOutcome {
    pub(crate) works: bool,
    /// What is known of a failure, in words.
    pub(crate) detail: Option<String>,
    /// Whether the check failed because the shell could execute no command.
    pub(crate) lacks_command: bool,
}

impl TrialOutcome {
    fn works() -> Self {
        Self { works: true, ..Self::default() }
    }

    fn fails(detail: Option<String>) -> Self {
        Self { detail, ..Self::default() }
    }
}

impl TrialCheck {
    /// Checks that a shell can parse the command, if there is one.
    ///
    /// # Errors
    /// The command is empty, or its syntax is wrong.
    pub(crate) fn ensure_can_run(&self) -> anyhow::Result<()> {
        self.command.as_deref().map_or(Ok(()), check_command::ensure_parses)
    }

    /// Waits for the unit's start, and returns whether the unit works.
    ///
    /// # Errors
    /// The manager does not answer, the unit was not started, its job takes too long, or other units started or stopped
    /// it: the trial has no outcome.
    pub(crate) async fn try_unit(
        &self,
        manager: &impl ServiceManager,
        name: &UnitName,
        start: RequestedStart,
    ) -> anyhow::Result<TrialOutcome> {
        match manager.wait_for_job(name, START_PATIENCE).await {
            Ok(_) => {}
            Err(SystemdError::TimedOut) => bail!(
                "systemd did not finish the restart of {name} within {} seconds, so it is unknown whether {name} works \
                 (TimeoutStartSec= and TimeoutStopSec= set shorter limits)",
                START_PATIENCE.as_secs()
            ),
            Err(error) => return Err(error.into()),
        }
        let state = manager.unit_state(name).await?;
        start.ensure_happened(manager, name, &state).await?;
        let trial = Trial { manager, name, invocation: state.invocation, is_oneshot: self.is_oneshot };
        match &self.command {
            Some(command) => self.try_command(command, &trial).await,
            None => self.watch_state(state, &trial).await,
        }
    }

    /// Whether the unit stays active for the given time, or did its work.
    async fn watch_state(
        &self,
        mut state: UnitState,
        trial: &Trial<'_, impl ServiceManager>,
    ) -> anyhow::Result<TrialOutcome> {
        let begun = Instant::now();
        loop {
            let is_over = begun.elapsed() >= self.wait;
            if trial.is_started_again(&state) {
                return trial.judge_failure(&state).await;
            }
            match state.outcome.active_state.as_str() {
                // A unit that did its work, and counts as active (`RemainAfterExit=`).
                "active" if state.sub_state == "exited" && is_success(&state) => return Ok(TrialOutcome::works()),
                "active" if state.sub_state == "exited" => return Ok(TrialOutcome::fails(None)),
                active if is_active(active) && is_over => return Ok(TrialOutcome::works()),
                active if is_active(active) => {}
                "inactive" if self.is_oneshot && is_success(&state) => return Ok(TrialOutcome::works()),
                "activating" if !is_over => {}
                // Its result is known once it has ended.
                "deactivating" if begun.elapsed() < self.wait + JOB_PATIENCE => {}
                _ => return trial.judge_failure(&state).await,
            }
            sleep(STEP).await;
            state = trial.manager.unit_state(trial.name).await?;
        }
    }

    /// Runs the command until it succeeds or the time is over.
    async fn try_command(&self, command: &str, trial: &Trial<'_, impl ServiceManager>) -> anyhow::Result<TrialOutcome> {
        let deadline = Instant::now() + self.wait;
        loop {
            let end = check_command::run(command, trial.name).await?;
            if end.is_success {
                return Ok(TrialOutcome::works());
            }
            if Instant::now() + PAUSE >= deadline {
                let state = trial.manager.unit_state(trial.name).await?;
                let judged = trial.judge_failure(&state).await?;
                let status = end.no_command.map(|code| {
                    let command = escape_excerpt(command);
                    format!("the check is no command that a shell can run (exit status {code}): {command}")
                });
                let said = end.last_words.map(|words| format!("the check said: {words}"));
                return Ok(TrialOutcome {
                    detail: status.or(said).or(judged.detail),
                    lacks_command: end.no_command.is_some(),
                    works: false,
                });
            }
            sleep(PAUSE).await;
        }
    }
}

/// A trial whose unit was started.
struct Trial<'a, M> {
    manager: &'a M,
    name: &'a UnitName,
    /// The id of the trial's own start.
    invocation: Option<[u8; 16]>,
    is_oneshot: bool,
}

impl<M: ServiceManager> Trial<'_, M> {
    fn is_started_again(&self, state: &UnitState) -> bool {
        state.invocation.is_some() && state.invocation != self.invocation
    }

    /// Judges a unit that seems not to work.
    ///
    /// # Errors
    /// Something else started or stopped the unit.
    async fn judge_failure(&self, state: &UnitState) -> anyhow::Result<TrialOutcome> {
        let name = self.name;
        if self.is_started_again(state) {
            // Such a unit starts another only after it has ended. Anything else can also restart a running unit.
            let starters = self.manager.linked_units(name, &["TriggeredBy", "UpheldBy"]).await?;
            ensure!(
                !starters.is_empty(),
                "something else restarted {name} during a trial, so it is unknown whether it works"
            );
            let starters = join(starters.iter().map(|(starter, _)| starter.to_string()));
            return Ok(TrialOutcome::fails(Some(format!("it ended, and {starters} started it again"))));
        }
        if state.outcome.active_state != "inactive" || !is_success(state) || self.is_oneshot {
            return Ok(TrialOutcome::fails(None));
        }
        let partners = self.manager.linked_units(name, &["BindsTo"]).await?;
        if let Some((partner, state)) = partners.iter().find(|(_, state)| !is_up(state)) {
            bail!(
                "{name} was stopped during a trial, since it is bound to {partner} (BindsTo=), which is {}: it is unknown \
                 whether {name} works",
                escape(state.as_bytes())
            );
        }
        // systemd counts this signal as success, since it is the one that stops a unit (`KillSignal=`).
        let exit = self.manager.main_exit(name).await?;
        ensure!(
            exit.signal.map(i32::from) != Some(libc::SIGTERM),
            "something else stopped {name} during a trial, so it is unknown whether it works"
        );
        Ok(TrialOutcome::fails(Some("its program ended with success".to_owned())))
    }
}

fn is_success(state: &UnitState) -> bool {
    state.outcome.result.as_deref().is_none_or(|result| result == "success")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operations::fake_manager::{FakeMachine, Fault};

    fn check(command: Option<&str>, is_oneshot: bool) -> TrialCheck {
        TrialCheck { command: command.map(str::to_owned), wait: Duration::from_millis(5), is_oneshot }
    }

    /// Judges a unit that has been started, or has not.
    fn judge(fake: &FakeMachine, check: &TrialCheck) -> anyhow::Result<TrialOutcome> {
        let name = fake.unit.name.clone();
        let judged = fake.run(async {
            let manager = fake.machine().connect(fake.unit.manager).await?;
            check.try_unit(&manager, &name, RequestedStart { earlier: None, is_kept: true }).await
        });
        judged.unwrap()
    }

    #[test]
    fn unit_that_stays_active_works_and_a_stopped_one_only_if_oneshot() {
        let fake = FakeMachine::running();
        assert!(judge(&fake, &check(None, false)).unwrap().works);
        fake.stop();
        let outcome = judge(&fake, &check(None, false)).unwrap();
        assert_eq!(outcome, TrialOutcome::fails(Some("its program ended with success".to_owned())));
        assert!(judge(&fake, &check(None, true)).unwrap().works);
    }

    #[test]
    fn command_decides_whatever_the_state() {
        let fake = FakeMachine::running();
        fake.stop();
        assert!(judge(&fake, &check(Some("test \"$UNIT\" = x.service"), false)).unwrap().works);
        let outcome = judge(&fake, &check(Some("echo no answer >&2; exit 3"), false)).unwrap();
        assert_eq!(outcome, TrialOutcome::fails(Some("the check said: no answer".to_owned())));
        let outcome = judge(&fake, &check(Some("no-such-command-here"), false)).unwrap();
        assert!(!outcome.works && outcome.lacks_command);
        let words = "no command that a shell can run (exit status 127): no-such-command-here";
        assert!(outcome.detail.unwrap().contains(words));
    }

    #[test]
    fn unit_that_was_not_started_has_no_outcome() {
        for command in [None, Some("true")] {
            let fake = FakeMachine::new(crate::units::Manager::System);
            let error = judge(&fake, &check(command, true)).unwrap_err().to_string();
            assert!(error.contains("ended its job without a start (see systemctl status x.service)"), "{error}");
            fake.link("Requires", "need.service", "failed");
            let error = judge(&fake, &check(command, true)).unwrap_err().to_string();
            assert!(error.contains("it needs units that do not run: need.service is failed"), "{error}");
        }
    }

    #[test]
    fn unit_whose_job_does_not_end_has_no_outcome() {
        for command in [None, Some("true")] {
            let fake = FakeMachine::running();
            // The connection is the first call.
            fake.fail_at(1, Fault::LostRequest);
            let error = judge(&fake, &check(command, false)).unwrap_err().to_string();
            assert_eq!(fake.failed_call(), "wait_for_job");
            assert!(error.contains("systemd did not finish the restart of x.service within"), "{error}");
        }
    }

    #[test]
    fn unit_that_something_else_restarts_has_no_outcome_unless_that_follows_its_end() {
        for command in [None, Some("false")] {
            let fake = FakeMachine::running();
            fake.start_again_and_again();
            let error = judge(&fake, &check(command, false)).unwrap_err().to_string();
            assert!(error.contains("something else restarted x.service during a trial"), "{error}");
            fake.link("TriggeredBy", "x.socket", "active");
            let outcome = judge(&fake, &check(command, false)).unwrap();
            let words = "it ended, and x.socket started it again".to_owned();
            assert_eq!(outcome, TrialOutcome::fails(Some(words)));
        }
    }

    #[test]
    fn unit_that_is_bound_to_a_stopped_one_has_no_outcome() {
        let fake = FakeMachine::running();
        fake.link("BindsTo", "other.service", "inactive");
        fake.stop();
        let error = judge(&fake, &check(None, false)).unwrap_err().to_string();
        assert!(error.contains("bound to other.service (BindsTo=), which is inactive"), "{error}");
    }
}
