//! The manager's timer, which turns logging off.

use crate::operations::service_manager::ServiceManager;
use crate::systemd::bus_address::BusAddress;
use crate::systemd::manager::SystemdError;
use crate::units::Manager;
use anyhow::Context as _;
use std::time::Duration;
use tokio::time::Instant;

/// The names of the timer and of its service. An extension uses the name that is free.
const TIMERS: [&str; 2] = ["harden-why-log-refusals", "harden-why-log-refusals-extended"];

/// How long to wait for the manager to unload a stopped timer.
const UNLOAD_PATIENCE: Duration = Duration::from_secs(3);

/// Starts the timer, and replaces an existing one. The old one stops last, so that a process killed at any step leaves
/// a timer that turns logging off.
///
/// # Errors
/// The manager refuses or does not answer.
pub(crate) async fn restart_timer(
    manager: &impl ServiceManager,
    duration: Duration,
    command: &[String],
) -> Result<(), SystemdError> {
    let deadline = Instant::now() + UNLOAD_PATIENCE;
    let description = "Stop the logging of refused calls (harden-why log-refusals)";
    let [first, second] = TIMERS;
    loop {
        let mut existing = None;
        for (new, old) in [(first, second), (second, first)] {
            match manager.start_timer(new, description, duration, command).await {
                Ok(()) => return manager.stop_timer(old).await.map(drop),
                Err(error @ SystemdError::UnitExists(_)) => existing = Some(error),
                Err(error) => return Err(error),
            }
        }
        // A killed extension left both, or the manager has not unloaded a stopped one yet.
        match existing.filter(|_| Instant::now() >= deadline) {
            Some(error) => return Err(error),
            None => manager.stop_timer(first).await?,
        };
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Stops the timer under each of its names.
///
/// # Errors
/// The manager refuses or does not answer.
pub(crate) async fn stop_timer(manager: &impl ServiceManager) -> Result<(), SystemdError> {
    for name in TIMERS {
        manager.stop_timer(name).await?;
    }
    Ok(())
}

/// Returns the command that the timer runs.
///
/// # Errors
/// The path of this program is unknown, or not UTF-8.
pub(crate) fn end_command(bus: &BusAddress, manager: Manager) -> anyhow::Result<Vec<String>> {
    let program = std::env::current_exe().context("cannot find the path of this program")?;
    let program = program.into_os_string().into_string().ok().context("the path of this program is not UTF-8")?;
    // After an upgrade, the new program is at the old path.
    let program = program.strip_suffix(" (deleted)").unwrap_or(&program);
    let manager = if manager == Manager::System { "--system" } else { "--user" };
    let bus = bus.to_string();
    Ok([program, "--bus", &bus, "log-refusals", "--off", manager].map(str::to_owned).to_vec())
}
