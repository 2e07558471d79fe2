//! Whom to tap: the units and processes that were asked for, found where they run.

use crate::cli::args::Tap;
use crate::cli::lookup::incident_source;
use crate::cli::lookup::unit_names::parse_instance_name;
use crate::kernel::procfs::Procfs;
use crate::kernel::tap::{ProcessOwner, TapTarget};
use crate::systemd::manager::{Managers, SystemdError, SystemdManager};
use crate::systemd::manager_lookup::all_managers;
use crate::units::{Manager, Placement, Rung, Unit, UnitName, cgroup};
use anyhow::{bail, ensure};

/// One that was asked for.
#[derive(Debug)]
pub(crate) struct Watched {
    /// Where its processes are.
    pub(crate) target: TapTarget,
    /// Whose they are, where a unit's.
    pub(crate) unit: Option<Unit>,
    reach: Reach,
}

/// How far a target goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// A process and its children, wherever those go.
    Process,
    /// One unit, with all that is below its cgroup.
    Unit,
    /// A user's manager: below its cgroup are its own units.
    UserManager,
    /// A slice, which has processes in other units alone.
    Slice,
}

impl Reach {
    fn of(unit: &Unit) -> Self {
        match (unit.manager, unit.name.suffix()) {
            (_, "slice") => Self::Slice,
            (Manager::System, "service") if unit.name.as_str().starts_with("user@") => Self::UserManager,
            _ => Self::Unit,
        }
    }
}

impl Watched {
    /// The unit that a refusal was of, and what that stands on. Where a tap is by cgroups alone, no child is followed
    /// out of them.
    pub(crate) fn whose<'a>(&'a self, owner: &'a ProcessOwner, by_cgroups: bool) -> Option<(&'a Unit, Rung)> {
        let own = |rung| self.unit.as_ref().map(|unit| (unit, rung));
        match (self.reach, owner) {
            // The kernel saw it in this very cgroup. It may have moved since, as who logs in does.
            (Reach::Unit, _) if by_cgroups => own(Rung::OwnCgroup),
            (_, ProcessOwner::Unit(unit)) => Some((unit, Rung::OwnCgroup)),
            // Below a target with units of their own, it is not known which it was; a user's manager is itself one.
            (_, ProcessOwner::Nobody) | (Reach::UserManager, ProcessOwner::Unknown) | (Reach::Slice, _) => None,
            (_, ProcessOwner::Manager | ProcessOwner::Unknown) => own(Rung::ParentCgroup),
        }
    }
}

/// Finds each.
///
/// # Errors
/// One does not run, or is none.
pub(crate) async fn find(asked: &Tap, managers: &Managers) -> anyhow::Result<Vec<Watched>> {
    let mut found = Vec::new();
    for name in &asked.targets {
        found.push(match name.parse() {
            Ok(pid) => process(pid, &Procfs::live())?,
            Err(_) => {
                unit(
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

fn process(pid: u32, procfs: &Procfs) -> anyhow::Result<Watched> {
    match procfs.thread_group(pid) {
        None => bail!("there is no process {pid}"),
        Some(process) => ensure!(process == pid, "{pid} is a thread of process {process}: watch that"),
    }
    let placement = procfs.cgroup(pid).map(|bytes| cgroup::place(&bytes));
    let unit = if let Some(Placement::Unit(unit)) = placement { Some(unit) } else { None };
    Ok(Watched { target: TapTarget::Process(pid), unit, reach: Reach::Process })
}

/// A unit's processes, by the one manager that runs it.
async fn unit(name: &UnitName, scope: incident_source::ManagerScope, managers: &Managers) -> anyhow::Result<Watched> {
    let (mut running, mut errors, mut known) = (Vec::new(), Vec::new(), false);
    for manager in all_managers(managers).filter(|manager| scope.includes(Some(*manager))) {
        let asked = match managers.connect(manager).await {
            Ok(connected) => running_as(&connected, name).await,
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
            let reach = Reach::of(&unit);
            Ok(Watched { target: TapTarget::from_control_group(&path)?, unit: Some(unit), reach })
        }
        (Some(_), false) => bail!("several managers run a unit of the name {name}: say --system, or give its PIDs"),
        (None, _) if known || errors.is_empty() => {
            bail!("{name} does not run: start it first, since a tap sees running processes alone")
        }
        (None, _) => bail!("it cannot be told where {name} runs: {}", errors.join("; ")),
    }
}

/// A unit's own name, where the one given is an alias, and its cgroup, where it has one.
async fn running_as(manager: &SystemdManager, name: &UnitName) -> Result<Option<(UnitName, String)>, SystemdError> {
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
    fn a_refusal_is_its_process_own_units_and_less_sure_once_that_is_gone() {
        let other = ProcessOwner::Unit(unit("other.service"));
        let parent = Some(Rung::ParentCgroup);
        for (name, by_cgroups, [of_other, of_manager, of_nobody, of_gone]) in [
            ("a.service", true, [Some(Rung::OwnCgroup); 4]),
            ("a.service", false, [None, parent, None, parent]),
            ("user@1000.service", true, [None, parent, None, None]),
            ("system.slice", true, [None; 4]),
        ] {
            let of = unit(name);
            let watched = Watched { target: TapTarget::Process(1), reach: Reach::of(&of), unit: Some(of.clone()) };
            for (owner, expected) in [
                (
                    &other,
                    of_other.map_or(Some((unit("other.service"), Rung::OwnCgroup)), |rung| Some((of.clone(), rung))),
                ),
                (&ProcessOwner::Manager, of_manager.map(|rung| (of.clone(), rung))),
                (&ProcessOwner::Nobody, of_nobody.map(|rung| (of.clone(), rung))),
                (&ProcessOwner::Unknown, of_gone.map(|rung| (of.clone(), rung))),
            ] {
                let whose = watched.whose(owner, by_cgroups).map(|(unit, rung)| (unit.clone(), rung));
                assert_eq!(whose, expected, "{name} {owner:?}");
            }
        }
        let watched = Watched { target: TapTarget::Process(1), reach: Reach::Process, unit: Some(unit("a.service")) };
        assert_eq!(watched.whose(&ProcessOwner::Unknown, false), Some((&unit("a.service"), Rung::ParentCgroup)));
        assert_eq!(watched.whose(&ProcessOwner::Nobody, false), None, "a login session");
    }
}
