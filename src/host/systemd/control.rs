//! What the client has a manager do: read its files again, start a unit anew.

use super::{MANAGER, PATH, PATIENCE, SystemdError, SystemdManager, UNIT, explain};
use crate::units::UnitName;
use std::time::{Duration, Instant};
use zbus::OwnedObjectPath;

/// How long a manager may take to read all its files again, or a unit to start.
const LONG: Duration = Duration::from_secs(90);

/// How often a start is looked at.
const STEP: Duration = Duration::from_millis(50);

/// A unit after it was started anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// `active`, `failed`, `activating`, …
    pub active_state: String,
    /// Of a service: `success`, `core-dump`, `signal`, `exit-code`, …
    pub result: Option<String>,
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
    pub async fn restart(&self, name: &UnitName) -> Result<Outcome, SystemdError> {
        let path: OwnedObjectPath = self.ask(PATH, MANAGER, "LoadUnit", &(name.as_str(),)).await?;
        let _job: OwnedObjectPath = self.order("RestartUnit", &(name.as_str(), "replace")).await?;
        let deadline = Instant::now() + LONG;
        loop {
            let (job, _): (u32, OwnedObjectPath) = self.get(&path, UNIT, "Job").await?;
            if job == 0 {
                break;
            }
            if Instant::now() > deadline {
                return Err(SystemdError::TimedOut);
            }
            tokio::time::sleep(STEP).await;
        }
        let active_state = self.get(&path, UNIT, "ActiveState").await?;
        let result = match super::interface(name.suffix()) {
            Some(interface) => self.get(&path, interface, "Result").await.ok(),
            None => None,
        };
        Ok(Outcome { active_state, result })
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
