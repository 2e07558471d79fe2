//! Whom to tap: the units and processes that were asked for, found where they run.

use super::super::args::Tap;
use super::super::source;
use super::super::units::{RUNTIME, unit_name};
use crate::host::procfs::Procfs;
use crate::host::systemd::{Managers, SystemdError};
use crate::host::tap::Target;
use crate::units::{Manager, Placement, Unit, UnitName, cgroup};
use anyhow::{bail, ensure};
use std::fs;

/// How many users' managers are asked for a unit.
const MOST_USERS: usize = 256;

/// One that was asked for.
#[derive(Debug)]
pub(super) struct Watched {
    /// Where its processes are.
    pub(super) target: Target,
    /// Whose they are, where a unit's.
    pub(super) unit: Option<Unit>,
}

/// Finds each.
///
/// # Errors
/// One does not run, or is none.
pub(super) async fn find(asked: &Tap, managers: &Managers) -> anyhow::Result<Vec<Watched>> {
    let mut found = Vec::new();
    for name in &asked.targets {
        found.push(match name.parse() {
            Ok(pid) => process(pid, &Procfs::live())?,
            Err(_) => unit(&unit_name(name)?, source::Managers::of(asked.system, asked.user), managers).await?,
        });
    }
    Ok(found)
}

fn process(pid: u32, procfs: &Procfs) -> anyhow::Result<Watched> {
    match procfs.thread_group(pid) {
        None => bail!("there is no process {pid}"),
        Some(process) => ensure!(process == pid, "{pid} is a thread of process {process}: watch that"),
    }
    let placement = procfs.cgroup(pid).map(|bytes| cgroup::place(&bytes));
    let unit = if let Some(Placement::Unit(unit)) = placement { Some(unit) } else { None };
    Ok(Watched { target: Target::Process(pid), unit })
}

/// A unit's processes, by the one manager that runs it.
async fn unit(name: &UnitName, scope: source::Managers, managers: &Managers) -> anyhow::Result<Watched> {
    let (mut running, mut errors, mut known) = (Vec::new(), Vec::new(), false);
    let everybody = std::iter::once(Manager::System).chain(users());
    for manager in everybody.filter(|manager| scope.include(Some(*manager))) {
        let asked = match managers.of(manager).await {
            Ok(connected) => connected.control_group(name).await,
            Err(error) => Err(error),
        };
        match asked {
            Ok(Some(cgroup)) => running.push((manager, cgroup)),
            Ok(None) => known = true,
            Err(SystemdError::NoSuchUnit(_)) => {}
            Err(error) => errors.push(error.to_string()),
        }
    }
    match (running.pop(), running.is_empty()) {
        (Some((manager, path)), true) => {
            Ok(Watched { target: Target::control_group(&path)?, unit: Some(Unit { manager, name: name.clone() }) })
        }
        (Some(_), false) => bail!("several managers run a unit of the name {name}: say --system, or give its PIDs"),
        (None, _) if known || errors.is_empty() => {
            bail!("{name} does not run: start it first, since a tap sees running processes alone")
        }
        (None, _) => bail!("it cannot be told where {name} runs: {}", errors.join("; ")),
    }
}

/// Who has a manager of their own, as it seems.
fn users() -> impl Iterator<Item = Manager> {
    let entries = fs::read_dir(RUNTIME).into_iter().flatten().flatten().take(MOST_USERS);
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok().map(Manager::User))
}
