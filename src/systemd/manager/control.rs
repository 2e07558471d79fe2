//! What the client has a manager do: read its files again, start a unit anew, stop it.

use super::{MANAGER, PATH, PATIENCE, SystemdError, SystemdManager, UNIT, UnitProperties, explain};
use crate::units::UnitName;
use std::time::{Duration, Instant};
use zbus::OwnedObjectPath;

/// How long a manager may take to read all its files again, or a unit to start.
const LONG: Duration = Duration::from_secs(90);

/// How often a start is looked at.
const STEP: Duration = Duration::from_millis(50);

/// A unit after it was started anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitOutcome {
    /// `active`, `failed`, `activating`, …
    pub active_state: String,
    /// Of a service: `success`, `core-dump`, `signal`, `exit-code`, …
    pub result: Option<String>,
}

/// What can be done with a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnitJob {
    /// Start it, also where it runs.
    Restart,
    /// Start it anew where it runs.
    TryRestart,
    /// Stop it.
    Stop,
}

/// How a unit is at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitState {
    /// As of an outcome.
    pub outcome: UnitOutcome,
    /// `running`, `exited`, `auto-restart`, …
    pub sub_state: String,
    /// Whether it is being started or stopped, or waits for that.
    pub busy: bool,
    /// Whether it was not started at last, since its conditions were not met.
    pub unmet: bool,
}

impl SystemdManager {
    /// Has it read all unit files again (`systemctl daemon-reload`). Its answer comes when it has.
    ///
    /// # Errors
    /// It refuses, or takes over 90 seconds.
    pub async fn reload(&self) -> Result<(), SystemdError> {
        self.order("Reload", &()).await
    }

    /// Starts a unit anew and waits until its job is done.
    ///
    /// # Errors
    /// It refuses, or the job takes over 90 seconds.
    pub async fn restart(&self, name: &UnitName) -> Result<UnitOutcome, SystemdError> {
        self.start_job(name, UnitJob::Restart).await?;
        self.wait_for_job(name, LONG).await
    }

    /// Starts a unit anew that runs; one that does not is left alone.
    ///
    /// # Errors
    /// It refuses, or the job takes over 90 seconds.
    pub async fn try_restart(&self, name: &UnitName) -> Result<UnitOutcome, SystemdError> {
        self.start_job(name, UnitJob::TryRestart).await?;
        self.wait_for_job(name, LONG).await
    }

    /// Has it begin to start or stop a unit; a start does not count how often it has failed before.
    ///
    /// # Errors
    /// It refuses.
    pub async fn start_job(&self, name: &UnitName, order: UnitJob) -> Result<(), SystemdError> {
        let method = match order {
            UnitJob::Restart => "RestartUnit",
            UnitJob::TryRestart => "TryRestartUnit",
            UnitJob::Stop => "StopUnit",
        };
        let path: OwnedObjectPath = self.ask(PATH, MANAGER, "LoadUnit", &(name.as_str(),)).await?;
        let state: Result<String, SystemdError> = self.get(&path, UNIT, "ActiveState").await;
        if order == UnitJob::Restart && state.is_ok_and(|state| state != "active") {
            // One that has died too often in a while is not started otherwise, whatever was mended. Where that is
            // refused, a start is still worth a try.
            let _: Result<(), SystemdError> = self.order("ResetFailedUnit", &(name.as_str(),)).await;
        }
        let _job: OwnedObjectPath = self.order(method, &(name.as_str(), "replace")).await?;
        Ok(())
    }

    /// Waits until nothing is being done with a unit.
    ///
    /// # Errors
    /// It does not answer, or that takes longer.
    pub async fn wait_for_job(&self, name: &UnitName, longest: Duration) -> Result<UnitOutcome, SystemdError> {
        let path: OwnedObjectPath = self.ask(PATH, MANAGER, "LoadUnit", &(name.as_str(),)).await?;
        let deadline = Instant::now() + longest;
        while self.is_busy(&path).await? {
            if Instant::now() > deadline {
                return Err(SystemdError::TimedOut);
            }
            tokio::time::sleep(STEP).await;
        }
        self.outcome(name, &path).await
    }

    /// How a unit is now.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn unit_state(&self, name: &UnitName) -> Result<UnitState, SystemdError> {
        let path: OwnedObjectPath = self.ask(PATH, MANAGER, "LoadUnit", &(name.as_str(),)).await?;
        // A job that ends between the two questions has left the state that it led to.
        let busy = self.is_busy(&path).await?;
        Ok(UnitState {
            busy,
            outcome: self.outcome(name, &path).await?,
            sub_state: self.get(&path, UNIT, "SubState").await?,
            unmet: self.is_unmet(&path).await?,
        })
    }

    /// What it holds of a unit, once it answers: where it has just read all its files, that can take a while.
    ///
    /// # Errors
    /// Those of [`unit_properties`](Self::unit_properties); it does not answer for so long.
    pub async fn wait_for_unit_properties(
        &self,
        name: &UnitName,
        longest: Duration,
    ) -> Result<UnitProperties, SystemdError> {
        let deadline = Instant::now() + longest;
        loop {
            match self.unit_properties(name).await {
                Err(SystemdError::TimedOut) if Instant::now() < deadline => {}
                facts => return facts,
            }
        }
    }

    /// Keeps what it knows of a unit, also where that has ended, for as long as we are connected to its bus.
    ///
    /// # Errors
    /// It refuses, or cannot tell when we leave.
    pub async fn keep_loaded(&self, name: &UnitName) -> Result<(), SystemdError> {
        self.order("RefUnit", &(name.as_str(),)).await
    }

    async fn is_unmet(&self, path: &OwnedObjectPath) -> Result<bool, SystemdError> {
        let when: u64 = self.get(path, UNIT, "ConditionTimestamp").await?;
        let met: bool = self.get(path, UNIT, "ConditionResult").await?;
        Ok(when != 0 && !met)
    }

    async fn is_busy(&self, path: &OwnedObjectPath) -> Result<bool, SystemdError> {
        let (job, _): (u32, OwnedObjectPath) = self.get(path, UNIT, "Job").await?;
        Ok(job != 0)
    }

    async fn outcome(&self, name: &UnitName, path: &OwnedObjectPath) -> Result<UnitOutcome, SystemdError> {
        let active_state = self.get(path, UNIT, "ActiveState").await?;
        let result = match super::interface(name.suffix()) {
            Some(interface) => self.get(path, interface, "Result").await.ok(),
            None => None,
        };
        Ok(UnitOutcome { active_state, result })
    }

    /// Calls a method of the manager that takes its time.
    async fn order<B, T>(&self, method: &str, body: &B) -> Result<T, SystemdError>
    where
        B: serde::Serialize + zbus::DynamicType,
        T: for<'a> zbus::wire::DynamicDeserialize<'a>,
    {
        let destination = self.connection.is_bus().then_some(super::SERVICE);
        let call = self.connection.call_method(destination, PATH, Some(MANAGER), method, body);
        let reply = tokio::time::timeout(LONG + PATIENCE, call).await.map_err(|_| SystemdError::TimedOut)?;
        reply.map_err(explain)?.body().deserialize().map_err(explain)
    }
}
