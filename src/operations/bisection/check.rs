//! The check of a trial: whether the unit works with some lines lifted.

use crate::audit::text::escape_excerpt;
use crate::operations::service_manager::{JOB_PATIENCE, ServiceManager};
use crate::systemd::manager::{SystemdError, UnitState};
use crate::units::UnitName;
use anyhow::{Context as _, bail, ensure};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long a unit waits for its start: systemd ends a start that hangs after 90 seconds, unless `TimeoutStartSec=` says
/// otherwise.
const START_PATIENCE: Duration = Duration::from_secs(JOB_PATIENCE.as_secs() + 15);

/// The time between two looks at a unit or at the check's process.
const STEP: Duration = Duration::from_millis(if cfg!(test) { 1 } else { 100 });

/// The time between two runs of the command.
const PAUSE: Duration = Duration::from_millis(if cfg!(test) { 1 } else { 500 });

/// The longest run of the command.
const COMMAND_PATIENCE: Duration = Duration::from_mins(1);

/// The statuses by which a shell says that it cannot execute a command, or finds none (`sh(1)`).
const NO_COMMAND: [i32; 2] = [126, 127];

/// The variable with the unit's name in the command's environment.
const UNIT_VARIABLE: &str = "UNIT";

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

impl TrialCheck {
    /// Waits for the unit's start, and returns whether the unit works.
    ///
    /// # Errors
    /// The manager does not answer, the unit's conditions are not met, or the command cannot run.
    pub(crate) async fn is_working(&self, manager: &impl ServiceManager, name: &UnitName) -> anyhow::Result<bool> {
        let is_started = match manager.wait_for_job(name, START_PATIENCE).await {
            Ok(_) => true,
            Err(SystemdError::TimedOut) => false,
            Err(error) => return Err(error.into()),
        };
        let state = manager.unit_state(name).await?;
        ensure!(!state.unmet, "{name} was not started, since its conditions are not met");
        match &self.command {
            Some(command) => self.try_command(command, name).await,
            None if is_started => self.stays_active(state, manager, name).await,
            None => Ok(false),
        }
    }

    /// Whether the unit stays active for the given time, or did its work.
    async fn stays_active(
        &self,
        mut state: UnitState,
        manager: &impl ServiceManager,
        name: &UnitName,
    ) -> anyhow::Result<bool> {
        let deadline = Instant::now() + self.wait;
        loop {
            let UnitState { outcome, sub_state, .. } = &state;
            let is_success = outcome.result.as_deref().is_none_or(|result| result == "success");
            match outcome.active_state.as_str() {
                // A unit that did its work, and counts as active (`RemainAfterExit=`).
                "active" if sub_state == "exited" => return Ok(is_success),
                "active" | "reloading" if Instant::now() >= deadline => return Ok(true),
                "active" | "reloading" => {}
                "inactive" => return Ok(self.is_oneshot && is_success),
                "activating" if Instant::now() < deadline => {}
                _ => return Ok(false),
            }
            sleep(STEP).await;
            state = manager.unit_state(name).await?;
        }
    }

    /// Runs the command until it succeeds or the time is over.
    async fn try_command(&self, command: &str, name: &UnitName) -> anyhow::Result<bool> {
        let deadline = Instant::now() + self.wait;
        loop {
            let shown = escape_excerpt(command);
            let mut check = CheckProcess::start(command, name).with_context(|| format!("cannot run {shown}"))?;
            let status = check.wait().await.with_context(|| format!("cannot run {shown}"))?;
            if status.is_some_and(|status| status.success()) {
                return Ok(true);
            }
            if let Some(code) = status.and_then(|status| status.code()).filter(|code| NO_COMMAND.contains(code)) {
                bail!("the check is no command that a shell can run (exit status {code}): {shown}");
            }
            if Instant::now() + PAUSE >= deadline {
                return Ok(false);
            }
            sleep(PAUSE).await;
        }
    }
}

/// A running check. It leads a process group, which is killed once this is dropped.
struct CheckProcess(Child);

impl CheckProcess {
    fn start(command: &str, name: &UnitName) -> std::io::Result<Self> {
        let mut shell = Command::new("/bin/sh");
        shell.arg("-c").arg(command).env(UNIT_VARIABLE, name.as_str());
        shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        // SAFETY: prctl(2) is async-signal-safe, and takes no pointer here.
        unsafe {
            // The check ends with this process, even if that is killed.
            shell.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            });
        }
        shell.spawn().map(Self)
    }

    /// Waits for the end; `None` if the command takes too long.
    async fn wait(&mut self) -> std::io::Result<Option<ExitStatus>> {
        let deadline = Instant::now() + COMMAND_PATIENCE;
        loop {
            if let Some(status) = self.0.try_wait()? {
                return Ok(Some(status));
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            sleep(STEP).await;
        }
    }
}

impl Drop for CheckProcess {
    fn drop(&mut self) {
        // Processes of the group may outlive the shell. The group's number stays in use as long as one of them runs.
        let _ = killpg(Pid::from_raw(self.0.id().cast_signed()), Signal::SIGKILL);
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operations::fake_manager::FakeMachine;

    fn check(command: Option<&str>, is_oneshot: bool) -> TrialCheck {
        TrialCheck { command: command.map(str::to_owned), wait: Duration::from_millis(5), is_oneshot }
    }

    /// Returns whether the fake's unit works.
    fn judge(fake: &FakeMachine, check: &TrialCheck) -> anyhow::Result<bool> {
        let name = fake.unit.name.clone();
        let judged = fake.run(async {
            let manager = fake.machine().connect(fake.unit.manager).await?;
            check.is_working(&manager, &name).await
        });
        judged.unwrap()
    }

    #[test]
    fn unit_that_stays_active_works_and_a_stopped_one_only_if_oneshot() {
        let fake = FakeMachine::running();
        assert!(judge(&fake, &check(None, false)).unwrap());
        fake.stop();
        assert!(!judge(&fake, &check(None, false)).unwrap());
        assert!(judge(&fake, &check(None, true)).unwrap());
    }

    #[test]
    fn command_decides_whatever_the_state_and_knows_the_unit() {
        let fake = FakeMachine::new(crate::units::Manager::System);
        assert!(judge(&fake, &check(Some("test \"$UNIT\" = x.service"), false)).unwrap());
        assert!(!judge(&fake, &check(Some("exit 3"), false)).unwrap());
        let error = judge(&fake, &check(Some("no-such-command-here"), false)).unwrap_err().to_string();
        assert!(error.contains("no command that a shell can run (exit status 127): no-such-command-here"), "{error}");
    }

    #[test]
    fn dropped_check_is_killed_with_its_children() {
        let name = "x.service".parse().unwrap();
        let check = CheckProcess::start("sleep 600 & sleep 600", &name).unwrap();
        let group = Pid::from_raw(check.0.id().cast_signed());
        drop(check);
        let gone = (0..2_000).any(|_| {
            std::thread::sleep(Duration::from_millis(1));
            killpg(group, None).is_err()
        });
        assert!(gone, "a process of the group runs on");
    }
}
