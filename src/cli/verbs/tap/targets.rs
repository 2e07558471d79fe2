//! The targets of a tap: units and processes, resolved to cgroups and pids.

use crate::cli::args::Tap;
use crate::cli::lookup::incident_source;
use crate::cli::lookup::unit_names::parse_instance_name;
use crate::kernel::procfs::Procfs;
use crate::kernel::tap::{ProcessOwner, TapTarget};
use crate::systemd::manager::{Managers, SystemdError, SystemdManager};
use crate::systemd::manager_lookup::all_managers;
use crate::units::{Manager, Placement, Rung, Unit, UnitName, cgroup};
use anyhow::{bail, ensure};

/// A resolved target.
#[derive(Debug)]
pub(crate) struct ResolvedTarget {
    /// Its cgroup or pid.
    pub(crate) target: TapTarget,
    /// Its unit, and which processes below it belong to that unit.
    pub(crate) unit: Option<Unit>,
    reach: Reach,
}

/// How far a target goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// A process and its children, in any cgroup.
    Process,
    /// A unit: everything below its cgroup.
    Unit,
    /// A user manager: its own units are below its cgroup.
    UserManager,
    /// A slice: all its processes belong to other units.
    Slice,
}

impl Reach {
    fn from_unit(unit: &Unit) -> Self {
        match (unit.manager, unit.name.suffix()) {
            (_, "slice") => Self::Slice,
            (Manager::System, "service") if unit.name.as_str().starts_with("user@") => Self::UserManager,
            _ => Self::Unit,
        }
    }
}

impl ResolvedTarget {
    /// Attributes a refusal to a unit. A tap by cgroups alone follows no child out of them.
    pub(crate) fn attribute<'a>(&'a self, owner: &'a ProcessOwner, by_cgroups: bool) -> Option<(&'a Unit, Rung)> {
        let own = |rung| self.unit.as_ref().map(|unit| (unit, rung));
        match (self.reach, owner) {
            // The kernel saw the process in this cgroup. It may have moved since, as a login does.
            (Reach::Unit, _) if by_cgroups => own(Rung::OwnCgroup),
            (_, ProcessOwner::Unit(unit)) => Some((unit, Rung::OwnCgroup)),
            // Below a slice or a user manager the unit is unknown, unless the process is the manager itself.
            (_, ProcessOwner::Nobody) | (Reach::UserManager, ProcessOwner::Unknown) | (Reach::Slice, _) => None,
            (_, ProcessOwner::Manager | ProcessOwner::Unknown) => own(Rung::ParentCgroup),
        }
    }
}

/// Resolves the targets.
///
/// # Errors
/// A target does not run, or is not a unit or pid.
pub(crate) async fn resolve_targets(asked: &Tap, managers: &Managers) -> anyhow::Result<Vec<ResolvedTarget>> {
    let mut found = Vec::new();
    for name in &asked.targets {
        found.push(match name.parse() {
            Ok(pid) => resolve_process(pid, &Procfs::live())?,
            Err(_) => {
                resolve_unit(
                    &parse_instance_name(name)?,
                    incident_source::ManagerScope::from_flags(asked.system, asked.user),
                    managers,
                )
                .await?
            }
        });
    }
    Ok(found)
}

fn resolve_process(pid: u32, procfs: &Procfs) -> anyhow::Result<ResolvedTarget> {
    match procfs.thread_group(pid) {
        None => bail!("there is no process {pid}"),
        Some(process) => ensure!(process == pid, "{pid} is a thread of process {process}: watch that"),
    }
    let placement = procfs.cgroup(pid).map(|bytes| cgroup::place(&bytes));
    let unit = if let Some(Placement::Unit(unit)) = placement { Some(unit) } else { None };
    Ok(ResolvedTarget { target: TapTarget::Process(pid), unit, reach: Reach::Process })
}

/// Resolves a unit, which one manager must run.
async fn resolve_unit(
    name: &UnitName,
    scope: incident_source::ManagerScope,
    managers: &Managers,
) -> anyhow::Result<ResolvedTarget> {
    let (mut running, mut errors, mut known) = (Vec::new(), Vec::new(), false);
    for manager in all_managers(managers).filter(|manager| scope.includes(Some(*manager))) {
        let asked = match managers.connect(manager).await {
            Ok(connected) => query_cgroup(&connected, name).await,
            Err(error) => Err(error),
        };
        match asked {
            Ok(Some((name, cgroup))) => running.push((Unit { manager, name }, cgroup)),
            Ok(None) => known = true,
            Err(SystemdError::NoSuchUnit(_)) => {}
            Err(error) => errors.push(error.to_string()),
        }
    }
    match (running.pop(), running.is_empty()) {
        (Some((unit, path)), true) => {
            let reach = Reach::from_unit(&unit);
            Ok(ResolvedTarget { target: TapTarget::from_control_group(&path)?, unit: Some(unit), reach })
        }
        (Some(_), false) => bail!("several managers run a unit of the name {name}: say --system, or give its PIDs"),
        (None, _) if known || errors.is_empty() => {
            bail!("{name} does not run: start it first, since a tap sees running processes alone")
        }
        (None, _) => bail!("it cannot be told where {name} runs: {}", errors.join("; ")),
    }
}

/// Returns the unit's own name and its cgroup; `None` if it does not run.
async fn query_cgroup(manager: &SystemdManager, name: &UnitName) -> Result<Option<(UnitName, String)>, SystemdError> {
    let Some(cgroup) = manager.control_group(name).await? else { return Ok(None) };
    Ok(Some((manager.unit_properties(name).await?.id, cgroup)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(name: &str) -> Unit {
        Unit { manager: Manager::System, name: name.parse().unwrap() }
    }

    #[test]
    fn refusal_of_a_gone_process_is_attributed_with_less_confidence() {
        let other = ProcessOwner::Unit(unit("other.service"));
        let parent = Some(Rung::ParentCgroup);
        for (name, by_cgroups, [of_other, of_manager, of_nobody, of_gone]) in [
            ("a.service", true, [Some(Rung::OwnCgroup); 4]),
            ("a.service", false, [None, parent, None, parent]),
            ("user@1000.service", true, [None, parent, None, None]),
            ("system.slice", true, [None; 4]),
        ] {
            let of = unit(name);
            let watched =
                ResolvedTarget { target: TapTarget::Process(1), reach: Reach::from_unit(&of), unit: Some(of.clone()) };
            for (owner, expected) in [
                (
                    &other,
                    of_other.map_or(Some((unit("other.service"), Rung::OwnCgroup)), |rung| Some((of.clone(), rung))),
                ),
                (&ProcessOwner::Manager, of_manager.map(|rung| (of.clone(), rung))),
                (&ProcessOwner::Nobody, of_nobody.map(|rung| (of.clone(), rung))),
                (&ProcessOwner::Unknown, of_gone.map(|rung| (of.clone(), rung))),
            ] {
                let whose = watched.attribute(owner, by_cgroups).map(|(unit, rung)| (unit.clone(), rung));
                assert_eq!(whose, expected, "{name} {owner:?}");
            }
        }
        let watched =
            ResolvedTarget { target: TapTarget::Process(1), reach: Reach::Process, unit: Some(unit("a.service")) };
        assert_eq!(watched.attribute(&ProcessOwner::Unknown, false), Some((&unit("a.service"), Rung::ParentCgroup)));
        assert_eq!(watched.attribute(&ProcessOwner::Nobody, false), None, "a login session");
    }
}
