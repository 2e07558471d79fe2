//! Resolves the targets of a tap: units and processes.

use crate::kernel::procfs::Procfs;
use crate::kernel::tap::{ProcessOwner, TapError, TapTarget};
use crate::operations::local_machine::LocalMachine;
use crate::operations::service_manager::{ServiceManager, ServiceManagers};
use crate::systemd::manager::SystemdError;
use crate::units::{Manager, Placement, Rung, Unit, UnitName, cgroup};
use anyhow::{bail, ensure};

/// A user's request for a target.
#[derive(Debug, Clone)]
pub(crate) enum TargetRequest {
    /// A process and its children.
    Process(u32),
    /// A unit, by name or alias.
    Unit(UnitName),
}

/// A target that runs.
#[derive(Debug)]
pub(crate) struct ResolvedTarget {
    /// The cgroup or the process to tap.
    pub(crate) target: TapTarget,
    /// Its unit, if it has one.
    pub(crate) unit: Option<Unit>,
    reach: Reach,
}

/// Which processes a tap follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TapScope {
    /// Only processes in the cgroups of the targets.
    TargetCgroups,
    /// Processes of the targets, in any cgroup.
    AnyCgroup,
}

/// Which units a target's processes can belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// A process and its children, in any cgroup.
    Process,
    /// One unit, with everything below its cgroup.
    Unit,
    /// A user manager: its units are below its cgroup.
    UserManager,
    /// A slice: all its processes are in other units.
    Slice,
}

impl TapScope {
    /// The scope of a tap with these targets. The tap follows children of a target process into any cgroup.
    pub(crate) fn from_targets<'a>(mut targets: impl Iterator<Item = &'a TapTarget>) -> Self {
        let by_cgroups = targets.all(|target| matches!(target, TapTarget::Cgroup(_)));
        if by_cgroups { Self::TargetCgroups } else { Self::AnyCgroup }
    }
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
    /// Returns the target of a unit with this cgroup, as its manager reports it.
    ///
    /// # Errors
    /// No unified hierarchy is mounted.
    pub(crate) fn from_unit(unit: Unit, cgroup: &str) -> Result<Self, TapError> {
        let reach = Reach::from_unit(&unit);
        Ok(Self { target: TapTarget::from_control_group(cgroup)?, unit: Some(unit), reach })
    }

    /// Returns the target of a process of this unit.
    pub(super) fn from_process(pid: u32, unit: Option<Unit>) -> Self {
        Self { target: TapTarget::Process(pid), unit, reach: Reach::Process }
    }

    /// Returns the unit of a refusal, and the evidence for the unit.
    pub(crate) fn attribute<'a>(&'a self, owner: &'a ProcessOwner, scope: TapScope) -> Option<(&'a Unit, Rung)> {
        let own = |rung| self.unit.as_ref().map(|unit| (unit, rung));
        match (self.reach, owner) {
            // The kernel saw the process in this very cgroup. The process may move later, as a login process does.
            (Reach::Unit, _) if scope == TapScope::TargetCgroups => own(Rung::OwnCgroup),
            (_, ProcessOwner::Unit(unit)) => Some((unit, Rung::OwnCgroup)),
            // Such a target contains other units, so the refusal's unit is unknown. A user manager is a unit itself.
            (_, ProcessOwner::Nobody) | (Reach::UserManager, ProcessOwner::Unknown) | (Reach::Slice, _) => None,
            (_, ProcessOwner::Manager | ProcessOwner::Unknown) => own(Rung::ParentCgroup),
        }
    }
}

/// Resolves a target. `candidates` are the managers that may run a unit. A unit that `restarts` need not run.
///
/// # Errors
/// The target does not run, the pid is a thread's, or several managers run the unit.
pub(crate) async fn resolve_target<M: ServiceManagers>(
    machine: LocalMachine<'_, M>,
    request: &TargetRequest,
    candidates: &[Manager],
    restarts: bool,
) -> anyhow::Result<ResolvedTarget> {
    match request {
        TargetRequest::Process(pid) => resolve_process(*pid, &Procfs::live()),
        TargetRequest::Unit(name) => resolve_unit(machine, name, candidates, restarts).await,
    }
}

fn resolve_process(pid: u32, procfs: &Procfs) -> anyhow::Result<ResolvedTarget> {
    match procfs.thread_group(pid) {
        None => bail!("process {pid} does not exist"),
        Some(process) => ensure!(process == pid, "{pid} is a thread of process {process}: watch {process}"),
    }
    let placement = procfs.cgroup(pid).map(|bytes| cgroup::place(&bytes));
    let unit = if let Some(Placement::Unit(unit)) = placement { Some(unit) } else { None };
    Ok(ResolvedTarget::from_process(pid, unit))
}

/// Resolves a unit. Exactly one manager must run it.
async fn resolve_unit<M: ServiceManagers>(
    machine: LocalMachine<'_, M>,
    name: &UnitName,
    candidates: &[Manager],
    restarts: bool,
) -> anyhow::Result<ResolvedTarget> {
    let (mut running, mut stopped, mut unreachable, mut silent) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for &manager in candidates {
        let answer = match machine.connect(manager).await {
            Ok(connection) => query_cgroup(&connection, name).await,
            Err(error) => Err(error),
        };
        match answer {
            Ok(Some((name, cgroup))) => running.push((Unit { manager, name }, cgroup)),
            Ok(None) => stopped.push(manager),
            Err(SystemdError::NoSuchUnit(_)) => {}
            Err(error @ SystemdError::Unreachable { .. }) => unreachable.push(error.to_string()),
            Err(error) => silent.push((manager, error)),
        }
    }
    // A unit of that name that another manager has is another unit. But no user can hinder the tap of a system unit.
    let found = running.iter().map(|(unit, _)| unit.manager).chain(stopped.iter().copied()).next();
    let may_have_it = |manager: Manager| manager == Manager::System || found != Some(Manager::System);
    if let Some((manager, error)) = silent.into_iter().find(|(manager, _)| may_have_it(*manager)) {
        let text =
            format!("it is unknown whether the {manager} service manager has a unit {name}: add --system or --user");
        return Err(anyhow::Error::new(error).context(text));
    }
    if let ([], [manager], true) = (&running[..], &stopped[..], restarts) {
        let connection = machine.connect(*manager).await?;
        let own_name = connection.unit_properties(name).await?.id;
        let cgroup = connection.coming_control_group(&own_name).await?;
        running.push((Unit { manager: *manager, name: own_name }, cgroup));
    }
    match (running.pop(), running.is_empty()) {
        (Some((unit, path)), true) => Ok(ResolvedTarget::from_unit(unit, &path)?),
        (Some(_), false) => bail!("several managers run a unit {name}: add --system or --user, or give its PIDs"),
        (None, _) if stopped.is_empty() && unreachable.is_empty() => bail!(SystemdError::NoSuchUnit(name.clone())),
        (None, _) if restarts && stopped.len() > 1 => {
            bail!("several managers have a unit {name}: add --system or --user")
        }
        (None, _) if let Some(manager) = stopped.first() => {
            let unit = Unit { manager: *manager, name: name.clone() };
            bail!(
                "{name} does not run: this starts it, and watches it from its first call on: harden-why tap --restart {}",
                unit.to_arguments()
            )
        }
        (None, _) => bail!("cannot find the processes of {name}: {}", unreachable.join("; ")),
    }
}

/// Returns the unit's own name and its cgroup, if it runs.
async fn query_cgroup(
    manager: &impl ServiceManager,
    name: &UnitName,
) -> Result<Option<(UnitName, String)>, SystemdError> {
    let cgroup = match manager.control_group(name).await {
        // The unit is not loaded, so it does not run. Its properties show whether it exists.
        Err(SystemdError::NoSuchUnit(_)) => None,
        cgroup => cgroup?,
    };
    let own_name = manager.unit_properties(name).await?.id;
    Ok(cgroup.map(|cgroup| (own_name, cgroup)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operations::fake_manager::FakeMachine;

    fn unit(name: &str) -> Unit {
        Unit { manager: Manager::System, name: name.parse().unwrap() }
    }

    fn watched(name: &str) -> ResolvedTarget {
        let unit = unit(name);
        ResolvedTarget { target: TapTarget::Process(1), reach: Reach::from_unit(&unit), unit: Some(unit) }
    }

    #[test]
    fn refusal_belongs_to_the_process_unit_and_is_less_certain_once_the_process_is_gone() {
        let parent = Some(Rung::ParentCgroup);
        let (cgroups, any) = (TapScope::TargetCgroups, TapScope::AnyCgroup);
        for (name, scope, [of_other, of_manager, of_nobody, of_unknown]) in [
            ("a.service", cgroups, [Some(Rung::OwnCgroup); 4]),
            ("a.service", any, [None, parent, None, parent]),
            ("user@1000.service", cgroups, [None, parent, None, None]),
            ("system.slice", cgroups, [None; 4]),
        ] {
            let (own, other) = (unit(name), unit("other.service"));
            let expect = |rung: Option<Rung>| rung.map(|rung| (own.clone(), rung));
            let expected_of_other = expect(of_other).or(Some((other.clone(), Rung::OwnCgroup)));
            for (owner, expected) in [
                (ProcessOwner::Unit(other), expected_of_other),
                (ProcessOwner::Manager, expect(of_manager)),
                (ProcessOwner::Nobody, expect(of_nobody)),
                (ProcessOwner::Unknown, expect(of_unknown)),
            ] {
                let watched = watched(name);
                let found = watched.attribute(&owner, scope).map(|(unit, rung)| (unit.clone(), rung));
                assert_eq!(found, expected, "{name} {owner:?}");
            }
        }
    }

    #[test]
    fn refusal_of_a_target_process_belongs_to_its_unit_unless_it_moved_to_none() {
        let watched = ResolvedTarget { reach: Reach::Process, ..watched("a.service") };
        let found = watched.attribute(&ProcessOwner::Unknown, TapScope::AnyCgroup);
        assert_eq!(found, Some((&unit("a.service"), Rung::ParentCgroup)));
        assert_eq!(watched.attribute(&ProcessOwner::Nobody, TapScope::AnyCgroup), None, "a login session");
    }

    #[test]
    fn stopped_unknown_and_unreachable_units_get_different_errors() {
        let fake = FakeMachine::new(Manager::System);
        let find = |name: &str, candidates: &[Manager]| {
            let request = TargetRequest::Unit(name.parse().unwrap());
            fake.run(resolve_target(fake.machine(), &request, candidates, false)).unwrap().unwrap_err().to_string()
        };
        assert!(find("x.service", &[Manager::System]).ends_with(": harden-why tap --restart x.service"));
        assert!(find("x.service", &[Manager::User(1)]).contains("cannot find the processes of x.service"));
    }

    #[test]
    fn silent_manager_hinders_a_tap_unless_the_unit_is_the_system_managers() {
        let find = |own: Manager, silent: Manager| {
            let fake = FakeMachine::new(own);
            fake.add_silent_manager(silent);
            let request = TargetRequest::Unit(fake.unit.name.clone());
            let candidates = [Manager::System, Manager::User(1), Manager::User(2)];
            let found = fake.run(resolve_target(fake.machine(), &request, &candidates, false));
            found.unwrap().unwrap_err().to_string()
        };
        for (own, silent) in [(Manager::User(1), Manager::System), (Manager::User(1), Manager::User(2))] {
            let error = find(own, silent);
            assert!(error.contains(&format!("unknown whether the {silent} service manager has a unit")), "{error}");
        }
        assert!(find(Manager::System, Manager::User(1)).contains("x.service does not run"));
    }
}
