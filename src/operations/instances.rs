//! Restarts the running instances of a template.

use super::interruption::Interruption;
use super::local_machine::LocalMachine;
use super::service_manager::{JOB_PATIENCE, ServiceManager as _, ServiceManagers};
use crate::audit::text::{join, quote_arguments};
use crate::systemd::manager::{SystemdError, UnitJob, UnitOutcome};
use crate::units::{Manager, Unit, UnitName};
use std::collections::VecDeque;

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
/// The manager refuses or does not answer, or a signal came. The error names the instances that were restarted, the one
/// that restarts, and those that were not.
pub(crate) async fn restart_instances<M: ServiceManagers>(
    machine: LocalMachine<'_, M>,
    template: &Unit,
    interruption: &mut Interruption,
) -> anyhow::Result<RestartedInstances> {
    let (mut instances, mut rest) = (RestartedInstances::default(), VecDeque::new());
    let mut requested: Option<UnitName> = None;
    let restart = async {
        let manager = machine.connect(template.manager).await?;
        let running = manager.list_instances(&template.name).await?.into_iter().filter(|one| one.is_running);
        let (connections, others): (Vec<_>, Vec<_>) =
            running.map(|one| one.name).partition(UnitName::is_per_connection);
        instances.connections = connections;
        rest = others.into();
        while let Some(name) = rest.pop_front() {
            // A signal can end the wait for the answer.
            requested = Some(name.clone());
            let answer = manager.start_job(&name, UnitJob::Restart).await;
            if answer.as_ref().is_err_and(SystemdError::is_refusal) {
                rest.extend(requested.take());
                rest.rotate_right(1);
            }
            answer?;
            let outcome = manager.wait_for_job(&name, JOB_PATIENCE).await?;
            instances.restarted.push((name, outcome));
            requested = None;
        }
        Ok(())
    };
    match interruption.or(restart).await {
        Ok(()) => Ok(instances),
        Err(error) => {
            let restarted = instances.restarted.iter().map(|(name, _)| name);
            let words = describe_progress(template.manager, restarted, requested.as_ref(), rest.iter());
            Err(if words.is_empty() { error } else { error.context(words) })
        }
    }
}

/// Says which instances were restarted, which one restarts, and which ones were not restarted.
fn describe_progress<'a>(
    manager: Manager,
    restarted: impl Iterator<Item = &'a UnitName>,
    requested: Option<&UnitName>,
    rest: impl Iterator<Item = &'a UnitName>,
) -> String {
    let restarted = join(restarted.map(ToString::to_string));
    let rest: Vec<&str> = rest.map(UnitName::as_str).collect();
    let mut parts = Vec::new();
    if !restarted.is_empty() {
        parts.push(format!("{restarted} restarted"));
    }
    if let Some(requested) = requested {
        parts.push(format!("{requested} still restarts"));
    }
    if !rest.is_empty() {
        let restart = manager.systemctl(&format!("restart {}", quote_arguments(rest.iter().copied())));
        let but = if parts.is_empty() { "" } else { "but " };
        parts.push(format!("{but}not {} ({restart})", join(rest.into_iter().map(str::to_owned))));
    }
    parts.join(", ")
}

/// The running instances of a template, in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct RunningInstances {
    /// Those that serve a connection.
    pub(crate) connections: usize,
    pub(crate) others: usize,
}

/// Counts the running instances of a template.
///
/// # Errors
/// The manager does not answer.
pub(crate) async fn count_running_instances<M: ServiceManagers>(
    machine: LocalMachine<'_, M>,
    template: &Unit,
) -> Result<RunningInstances, SystemdError> {
    let listed = machine.connect(template.manager).await?.list_instances(&template.name).await?;
    let running = listed.into_iter().filter(|instance| instance.is_running);
    let (connections, others): (Vec<_>, Vec<_>) = running.partition(|instance| instance.name.is_per_connection());
    Ok(RunningInstances { connections: connections.len(), others: others.len() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operations::fake_manager::{FakeMachine, Fault};

    fn template() -> Unit {
        Unit { manager: Manager::System, name: "a@.service".parse().unwrap() }
    }

    fn machine() -> FakeMachine {
        let fake = FakeMachine::running();
        for name in ["a@1.service", "a@2.service", "a@3.service", "b@1.service"] {
            fake.add_instance(name);
        }
        fake
    }

    #[test]
    fn restart_that_ends_early_names_what_was_restarted_and_what_was_not() {
        for (number, fault, expected) in [
            (
                4,
                Fault::Refused,
                "a@1.service restarted, but not a@2.service and a@3.service (systemctl restart a@2.service a@3.service): ",
            ),
            (7, Fault::Signal, "a@1.service and a@2.service restarted, a@3.service still restarts: "),
            (
                3,
                Fault::LostAnswer,
                "a@1.service still restarts, but not a@2.service and a@3.service (systemctl restart a@2.service \
                 a@3.service): ",
            ),
            (
                2,
                Fault::LostAnswer,
                "a@1.service still restarts, but not a@2.service and a@3.service (systemctl restart a@2.service \
                 a@3.service): ",
            ),
            (
                2,
                Fault::Refused,
                "not a@1.service, a@2.service and a@3.service (systemctl restart a@1.service a@2.service a@3.service): ",
            ),
        ] {
            let fake = machine();
            fake.fail_at(number, fault);
            let restart = async { restart_instances(fake.machine(), &template(), &mut fake.interruption()).await };
            let error = format!("{:#}", fake.run(restart).unwrap().unwrap_err());
            assert!(error.starts_with(expected), "{}: {error}", fake.failed_call());
        }
    }

    #[test]
    fn running_instances_are_unknown_without_an_answer() {
        let count = |fault: Option<usize>| {
            let fake = machine();
            if let Some(number) = fault {
                fake.fail_at(number, Fault::LostRequest);
            }
            fake.run(async { count_running_instances(fake.machine(), &template()).await }).unwrap()
        };
        assert_eq!(count(None).unwrap(), RunningInstances { connections: 0, others: 3 });
        assert!(count(Some(0)).is_err() && count(Some(1)).is_err());
    }
}
