//! Tells a manager to reload its files and to restart or stop a unit, and waits for the job.

use super::active_state::{has_ended, is_up};
use super::{
    ListedUnit, MANAGER, MOST_DEPENDENTS, PATH, PATIENCE, SystemdError, SystemdManager, UNIT, UnitProperties,
    classify_error,
};
use crate::units::UnitName;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use zbus::OwnedObjectPath;

/// The time limit of a reload or a start.
const LONG: Duration = Duration::from_secs(90);

/// The time between two queries of a job.
const STEP: Duration = Duration::from_millis(50);

/// systemd's answer about a property that it lacks: an older systemd lacks `PropagatesStopTo` and `UpheldBy`.
const UNKNOWN_PROPERTY: &str = "org.freedesktop.DBus.Error.UnknownProperty";

/// A unit's state at the end of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitOutcome {
    /// `active`, `failed`, `activating`, …
    pub active_state: String,
    /// A service's `Result`: `success`, `core-dump`, `signal`, `exit-code`, …
    pub result: Option<String>,
}

/// A job for a unit (`systemctl(1)`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnitJob {
    /// Starts the unit, or restarts it if it runs.
    Restart,
    /// Restarts the unit if it runs.
    TryRestart,
    /// Starts the unit, unless it runs.
    Start,
    /// Stops the unit.
    Stop,
    /// Runs `ExecReload=`. The manager refuses for a unit that has none, or does not run.
    Reload,
}

/// A unit's state at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitState {
    /// Active state and result.
    pub outcome: UnitOutcome,
    /// `running`, `exited`, `auto-restart`, …
    pub sub_state: String,
    /// Whether a job of the unit is queued or running.
    pub busy: bool,
    /// Whether the latest start was skipped because a `Condition…=` failed.
    pub unmet: bool,
    /// Whether the latest start was refused because an `Assert…=` failed.
    pub refuted: bool,
    /// The id of the latest start. It differs for each start, and stays after the unit's end.
    pub invocation: Option<[u8; 16]>,
}

/// How a unit's latest main process ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MainExit {
    /// Its exit status, if it exited with another one than 0.
    pub status: Option<u8>,
    /// The signal that killed it, if one did.
    pub signal: Option<u8>,
    /// When it ended, in microseconds since the epoch; 0 if it did not.
    pub at_us: u64,
}

impl SystemdManager {
    /// Reloads all unit files (`systemctl daemon-reload`) and waits until the manager has read them.
    ///
    /// # Errors
    /// The manager refuses, or takes over 90 seconds.
    pub async fn reload(&self) -> Result<(), SystemdError> {
        self.call_slow("Reload", &()).await
    }

    /// Queues a job for a unit. Before a restart, resets the start counter of a unit that is not active.
    ///
    /// # Errors
    /// The manager refuses.
    pub async fn start_job(&self, name: &UnitName, order: UnitJob) -> Result<(), SystemdError> {
        let method = match order {
            UnitJob::Restart => "RestartUnit",
            UnitJob::TryRestart => "TryRestartUnit",
            UnitJob::Start => "StartUnit",
            UnitJob::Stop => "StopUnit",
            UnitJob::Reload => "ReloadUnit",
        };
        let path: OwnedObjectPath = self.call(PATH, MANAGER, "LoadUnit", &(name.as_str(),)).await?;
        let state: Result<String, SystemdError> = self.get(&path, UNIT, "ActiveState").await;
        if order == UnitJob::Restart && state.is_ok_and(|state| state != "active") {
            // systemd refuses to start a unit that failed too often (StartLimitBurst=) until its counter is reset. If
            // it refuses the reset too, the start may still succeed.
            let _: Result<(), SystemdError> = self.call_slow("ResetFailedUnit", &(name.as_str(),)).await;
        }
        let _job: OwnedObjectPath = self.call_slow(method, &(name.as_str(), "replace")).await?;
        Ok(())
    }

    /// Waits until a unit has no job.
    ///
    /// # Errors
    /// The manager does not answer, or the job takes longer than `longest`.
    pub async fn wait_for_job(&self, name: &UnitName, longest: Duration) -> Result<UnitOutcome, SystemdError> {
        let path: OwnedObjectPath = self.call(PATH, MANAGER, "LoadUnit", &(name.as_str(),)).await?;
        let deadline = Instant::now() + longest;
        while self.is_busy(&path).await? {
            if Instant::now() > deadline {
                return Err(SystemdError::TimedOut);
            }
            tokio::time::sleep(STEP).await;
        }
        self.outcome(name, &path).await
    }

    /// A unit's current state.
    ///
    /// # Errors
    /// The manager does not answer.
    pub async fn unit_state(&self, name: &UnitName) -> Result<UnitState, SystemdError> {
        let path: OwnedObjectPath = self.call(PATH, MANAGER, "LoadUnit", &(name.as_str(),)).await?;
        // The job is read first: if it ends before the state is read, the state is its result.
        let busy = self.is_busy(&path).await?;
        Ok(UnitState {
            busy,
            outcome: self.outcome(name, &path).await?,
            sub_state: self.get(&path, UNIT, "SubState").await?,
            unmet: self.is_unmet(&path, "Condition").await?,
            refuted: self.is_unmet(&path, "Assert").await?,
            invocation: self.get::<Vec<u8>>(&path, UNIT, "InvocationID").await?.try_into().ok(),
        })
    }

    /// Returns how the unit's latest main process ended.
    ///
    /// # Errors
    /// The manager does not answer.
    pub async fn main_exit(&self, name: &UnitName) -> Result<MainExit, SystemdError> {
        let path: OwnedObjectPath = self.call(PATH, MANAGER, "LoadUnit", &(name.as_str(),)).await?;
        let Some(interface) = super::interface(name.suffix()) else { return Ok(MainExit::default()) };
        // Only services have these.
        let code: i32 = self.get(&path, interface, "ExecMainCode").await.unwrap_or_default();
        let status: i32 = self.get(&path, interface, "ExecMainStatus").await.unwrap_or_default();
        let at_us = self.get(&path, interface, "ExecMainExitTimestamp").await.unwrap_or_default();
        let number = u8::try_from(status).ok().filter(|number| *number > 0);
        let of_code = |wanted: &[i32]| number.filter(|_| wanted.contains(&code));
        let (status, signal) = (of_code(&[libc::CLD_EXITED]), of_code(&[libc::CLD_KILLED, libc::CLD_DUMPED]));
        Ok(MainExit { status, signal, at_us })
    }

    /// Waits for the manager and returns the unit's properties. After a reload, the manager can take long to answer.
    ///
    /// # Errors
    /// Those of [`unit_properties`](Self::unit_properties), and no answer for `longest`.
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

    /// Keeps the unit loaded after it stopped, as long as this connection to the manager's bus lasts (`RefUnit`).
    ///
    /// # Errors
    /// The manager refuses, or is not on a bus.
    pub async fn keep_loaded(&self, name: &UnitName) -> Result<(), SystemdError> {
        self.call_slow("RefUnit", &(name.as_str(),)).await
    }

    /// Returns the running units that stop when the unit stops. systemd propagates a stop along these dependencies
    /// (`UNIT_ATOM_PROPAGATE_STOP`), and so does each unit that it stops.
    ///
    /// # Errors
    /// The manager does not answer, or there are more than [`MOST_DEPENDENTS`].
    pub async fn running_dependents(&self, name: &UnitName) -> Result<Vec<UnitName>, SystemdError> {
        let mut found: Vec<UnitName> = Vec::new();
        let mut next = vec![name.clone()];
        while let Some(unit) = next.pop() {
            let path: OwnedObjectPath = self.call(PATH, MANAGER, "LoadUnit", &(unit.as_str(),)).await?;
            for property in ["RequiredBy", "RequisiteOf", "BoundBy", "ConsistsOf", "PropagatesStopTo"] {
                for other in self.list_linked(&path, property).await? {
                    let is_known = other == *name || found.contains(&other);
                    if !is_known && self.is_active(&other).await? {
                        if found.len() >= MOST_DEPENDENTS {
                            return Err(SystemdError::TooManyDependents(name.clone()));
                        }
                        found.push(other.clone());
                        next.push(other);
                    }
                }
            }
        }
        Ok(found)
    }

    /// Returns the units that a unit's properties of these names list (`Requires`, `TriggeredBy`, …), each with its active
    /// state. Leaves out those that neither run nor can be started, because they have no file or are masked.
    ///
    /// # Errors
    /// The manager does not answer.
    pub async fn linked_units(
        &self,
        name: &UnitName,
        properties: &[&str],
    ) -> Result<Vec<(UnitName, String)>, SystemdError> {
        let path: OwnedObjectPath = self.call(PATH, MANAGER, "LoadUnit", &(name.as_str(),)).await?;
        let mut names = BTreeSet::new();
        for property in properties {
            names.extend(self.list_linked(&path, property).await?);
        }
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let names: Vec<&str> = names.iter().map(UnitName::as_str).collect();
        let listed: Vec<ListedUnit> = self.call(PATH, MANAGER, "ListUnitsByNames", &(names,)).await?;
        let linked = listed.into_iter().filter_map(|(name, _, load_state, active_state, ..)| {
            let is_there = load_state == "loaded" || !has_ended(&active_state);
            Some((name.parse().ok().filter(|_| is_there)?, active_state))
        });
        Ok(linked.collect())
    }

    /// Returns the units that a property lists; none if this systemd has no such property.
    async fn list_linked(&self, path: &OwnedObjectPath, property: &str) -> Result<Vec<UnitName>, SystemdError> {
        let names: Vec<String> = match self.get(path, UNIT, property).await {
            Err(error) if error.is_named(UNKNOWN_PROPERTY) => Vec::new(),
            names => names?,
        };
        Ok(names.into_iter().filter_map(|name| name.parse().ok()).collect())
    }

    async fn is_active(&self, name: &UnitName) -> Result<bool, SystemdError> {
        let path: OwnedObjectPath = self.call(PATH, MANAGER, "LoadUnit", &(name.as_str(),)).await?;
        let state: String = self.get(&path, UNIT, "ActiveState").await?;
        Ok(is_up(&state))
    }

    /// Returns whether the `Condition…=` or `Assert…=` lines were last found not to be met.
    async fn is_unmet(&self, path: &OwnedObjectPath, kind: &str) -> Result<bool, SystemdError> {
        let when: u64 = self.get(path, UNIT, &format!("{kind}Timestamp")).await?;
        let met: bool = self.get(path, UNIT, &format!("{kind}Result")).await?;
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

    /// Calls a manager method that can take up to 90 seconds.
    async fn call_slow<B, T>(&self, method: &str, body: &B) -> Result<T, SystemdError>
    where
        B: serde::Serialize + zbus::DynamicType,
        T: for<'a> zbus::wire::DynamicDeserialize<'a>,
    {
        let destination = self.connection.is_bus().then_some(super::SERVICE);
        let call = self.connection.call_method(destination, PATH, Some(MANAGER), method, body);
        let reply = tokio::time::timeout(LONG + PATIENCE, call).await.map_err(|_| SystemdError::TimedOut)?;
        reply.map_err(classify_error)?.body().deserialize().map_err(classify_error)
    }
}
