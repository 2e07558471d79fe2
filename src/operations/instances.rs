//! Restarts the running instances of a template.

use super::interruption::Interruption;
use super::local_machine::LocalMachine;
use super::service_manager::{ServiceManager as _, ServiceManagers};
use crate::systemd::manager::{UnitJob, UnitOutcome};
use crate::units::{Unit, UnitName};

/// The instances of a template after a restart of those that ran.
#[derive(Debug, Default)]
pub(crate) struct RestartedInstances {
    /// Each restarted instance, and what became of it.
    pub(crate) restarted: Vec<(UnitName, UnitOutcome)>,
    /// The instances that serve a connection now. They keep running, because a restart would break the connection.
    pub(crate) connections: Vec<UnitName>,
}

/// Restarts the running instances of a template one after the other, except those that serve a connection.
///
/// # Errors
/// The manager refuses or does not answer, or a signal came. The remaining instances are not restarted.
pub(crate) async fn restart_instances<M: ServiceManagers>(
    machine: LocalMachine<'_, M>,
    template: &Unit,
    interruption: &mut Interruption,
) -> anyhow::Result<RestartedInstances> {
    let restart = async {
        let manager = machine.connect(template.manager).await?;
        let mut instances = RestartedInstances::default();
        for instance in manager.list_instances(&template.name).await?.into_iter().filter(|one| one.is_running) {
            if instance.name.is_per_connection() {
                instances.connections.push(instance.name);
                continue;
            }
            let outcome = manager.run_job(&instance.name, UnitJob::Restart).await?;
            instances.restarted.push((instance.name, outcome));
        }
        Ok(instances)
    };
    interruption.or(restart).await
}

/// The running instances of a template, in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct RunningInstances {
    /// Those that serve a connection.
    pub(crate) connections: usize,
    pub(crate) others: usize,
}

/// Counts the running instances of a template; none if the manager does not answer.
pub(crate) async fn count_running_instances<M: ServiceManagers>(
    machine: LocalMachine<'_, M>,
    template: &Unit,
) -> RunningInstances {
    let listed = async { machine.connect(template.manager).await?.list_instances(&template.name).await };
    let running = listed.await.unwrap_or_default().into_iter().filter(|instance| instance.is_running);
    let (connections, others): (Vec<_>, Vec<_>) = running.partition(|instance| instance.name.is_per_connection());
    RunningInstances { connections: connections.len(), others: others.len() }
}
