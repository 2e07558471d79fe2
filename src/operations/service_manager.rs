//! The requests of operations to a service manager, as traits that a fake implements in tests.

use crate::systemd::manager::{
    LoadedInstance, MainExit, Managers, SystemdError, SystemdManager, UnitJob, UnitOutcome, UnitProperties, UnitState,
};
use crate::units::{Manager, UnitName};
use std::time::Duration;

/// How long a unit may take to start or stop.
pub(crate) const JOB_PATIENCE: Duration = Duration::from_secs(90);

/// How long a unit waits for its start: systemd ends a start that hangs after 90 seconds, unless `TimeoutStartSec=` says
/// otherwise.
pub(crate) const START_PATIENCE: Duration = Duration::from_secs(JOB_PATIENCE.as_secs() + 15);

/// A connection to one service manager.
pub(crate) trait ServiceManager {
    /// Returns which manager this is.
    fn manager(&self) -> Manager;

    /// Returns the manager's version, for example `252.39-1~deb12u1`.
    async fn version(&self) -> Result<String, SystemdError>;

    /// Returns the environment that the manager gives to its units.
    async fn environment(&self) -> Result<Vec<String>, SystemdError>;

    /// Returns when the manager was started, in microseconds since the epoch.
    async fn started_at(&self) -> Result<u64, SystemdError>;

    /// Returns when the manager last read its files, in microseconds since the epoch.
    async fn units_loaded_at(&self) -> Result<u64, SystemdError>;

    /// Returns the properties of a unit, which the manager loads if needed.
    async fn unit_properties(&self, name: &UnitName) -> Result<UnitProperties, SystemdError>;

    /// Returns the properties of a unit, and waits while the manager is too busy to answer.
    async fn wait_for_unit_properties(
        &self,
        name: &UnitName,
        longest: Duration,
    ) -> Result<UnitProperties, SystemdError>;

    /// Returns the properties of the loaded units that can run processes, and whether the list is complete.
    async fn list_loaded_units(&self) -> Result<(Vec<UnitProperties>, bool), SystemdError>;

    /// Lists the loaded instances of a template.
    async fn list_instances(&self, template: &UnitName) -> Result<Vec<LoadedInstance>, SystemdError>;

    /// Returns the state of a unit.
    async fn unit_state(&self, name: &UnitName) -> Result<UnitState, SystemdError>;

    /// Returns the running units that stop when the unit stops.
    async fn running_dependents(&self, name: &UnitName) -> Result<Vec<UnitName>, SystemdError>;

    /// Returns the units that a unit's properties of these names list, each with its active state.
    async fn linked_units(&self, name: &UnitName, properties: &[&str])
    -> Result<Vec<(UnitName, String)>, SystemdError>;

    /// Returns how a unit's latest main process ended.
    async fn main_exit(&self, name: &UnitName) -> Result<MainExit, SystemdError>;

    /// Returns the cgroup of a unit that runs.
    async fn control_group(&self, name: &UnitName) -> Result<Option<String>, SystemdError>;

    /// Returns the cgroup that a unit has, or will have once it starts.
    async fn coming_control_group(&self, name: &UnitName) -> Result<String, SystemdError>;

    /// Rereads all unit files and the manager's configuration (`systemctl daemon-reload`).
    async fn reload(&self) -> Result<(), SystemdError>;

    /// Enqueues a job for a unit and does not wait for it.
    async fn start_job(&self, name: &UnitName, job: UnitJob) -> Result<(), SystemdError>;

    /// Waits until a unit has no job, and returns its state.
    async fn wait_for_job(&self, name: &UnitName, longest: Duration) -> Result<UnitOutcome, SystemdError>;

    /// Keeps a unit loaded after it ends, for as long as the connection lives.
    async fn keep_loaded(&self, name: &UnitName) -> Result<(), SystemdError>;

    /// Starts a transient timer that runs a command once `delay` is over.
    async fn start_timer(
        &self,
        name: &str,
        description: &str,
        delay: Duration,
        command: &[String],
    ) -> Result<(), SystemdError>;

    /// Stops a transient timer. Returns whether the timer existed.
    async fn stop_timer(&self, name: &str) -> Result<bool, SystemdError>;

    /// Runs a job for a unit and waits for its end, for at most [`JOB_PATIENCE`].
    async fn run_job(&self, name: &UnitName, job: UnitJob) -> Result<UnitOutcome, SystemdError> {
        self.start_job(name, job).await?;
        self.wait_for_job(name, JOB_PATIENCE).await
    }
}

/// A way to connect to the service managers of a machine.
pub(crate) trait ServiceManagers {
    /// A connection to one manager.
    type Connection: ServiceManager;

    /// Connects to a manager.
    async fn connect(&self, manager: Manager) -> Result<Self::Connection, SystemdError>;
}

impl ServiceManagers for Managers {
    type Connection = SystemdManager;

    async fn connect(&self, manager: Manager) -> Result<SystemdManager, SystemdError> {
        Self::connect(self, manager).await
    }
}

// `Self::` names the inherent method, which does the work.
impl ServiceManager for SystemdManager {
    fn manager(&self) -> Manager {
        Self::manager(self)
    }

    async fn version(&self) -> Result<String, SystemdError> {
        Self::version(self).await
    }

    async fn environment(&self) -> Result<Vec<String>, SystemdError> {
        Self::environment(self).await
    }

    async fn started_at(&self) -> Result<u64, SystemdError> {
        Self::started_at(self).await
    }

    async fn units_loaded_at(&self) -> Result<u64, SystemdError> {
        Self::units_loaded_at(self).await
    }

    async fn unit_properties(&self, name: &UnitName) -> Result<UnitProperties, SystemdError> {
        Self::unit_properties(self, name).await
    }

    async fn wait_for_unit_properties(
        &self,
        name: &UnitName,
        longest: Duration,
    ) -> Result<UnitProperties, SystemdError> {
        Self::wait_for_unit_properties(self, name, longest).await
    }

    async fn list_loaded_units(&self) -> Result<(Vec<UnitProperties>, bool), SystemdError> {
        Self::list_loaded_units(self, |_, _| ()).await
    }

    async fn list_instances(&self, template: &UnitName) -> Result<Vec<LoadedInstance>, SystemdError> {
        Self::list_instances(self, template).await
    }

    async fn unit_state(&self, name: &UnitName) -> Result<UnitState, SystemdError> {
        Self::unit_state(self, name).await
    }

    async fn running_dependents(&self, name: &UnitName) -> Result<Vec<UnitName>, SystemdError> {
        Self::running_dependents(self, name).await
    }

    async fn linked_units(
        &self,
        name: &UnitName,
        properties: &[&str],
    ) -> Result<Vec<(UnitName, String)>, SystemdError> {
        Self::linked_units(self, name, properties).await
    }

    async fn main_exit(&self, name: &UnitName) -> Result<MainExit, SystemdError> {
        Self::main_exit(self, name).await
    }

    async fn control_group(&self, name: &UnitName) -> Result<Option<String>, SystemdError> {
        Self::control_group(self, name).await
    }

    async fn coming_control_group(&self, name: &UnitName) -> Result<String, SystemdError> {
        Self::coming_control_group(self, name).await
    }

    async fn reload(&self) -> Result<(), SystemdError> {
        Self::reload(self).await
    }

    async fn start_job(&self, name: &UnitName, job: UnitJob) -> Result<(), SystemdError> {
        Self::start_job(self, name, job).await
    }

    async fn wait_for_job(&self, name: &UnitName, longest: Duration) -> Result<UnitOutcome, SystemdError> {
        Self::wait_for_job(self, name, longest).await
    }

    async fn keep_loaded(&self, name: &UnitName) -> Result<(), SystemdError> {
        Self::keep_loaded(self, name).await
    }

    async fn start_timer(
        &self,
        name: &str,
        description: &str,
        delay: Duration,
        command: &[String],
    ) -> Result<(), SystemdError> {
        Self::start_timer(self, name, description, delay, command).await
    }

    async fn stop_timer(&self, name: &str) -> Result<bool, SystemdError> {
        Self::stop_timer(self, name).await
    }
}
