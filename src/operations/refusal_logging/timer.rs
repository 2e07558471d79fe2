//! The manager's timer, which turns logging off.

use crate::operations::service_manager::ServiceManager;
use crate::systemd::bus_address::BusAddress;
use crate::systemd::manager::SystemdError;
use crate::units::Manager;
use anyhow::Context as _;
use std::time::Duration;
use tokio::time::Instant;

/// The name of the timer and of its service.
pub(crate) const TIMER: &str = "harden-why-log-refusals";

/// How long to wait for the manager to unload a stopped timer.
const UNLOAD_PATIENCE: Duration = Duration::from_secs(3);

/// Starts the timer, and replaces an existing one.
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
    loop {
        manager.stop_timer(TIMER).await?;
        match manager.start_timer(TIMER, description, duration, command).await {
            Err(SystemdError::UnitExists(_)) if Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            started => return started,
        }
    }
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
