//! Selects the units to log and restarts them. Their policy can refuse a call without a record.

use crate::audit::note;
use crate::host::unit_settings;
use crate::operations::interruption::Interruption;
use crate::operations::local_machine::LocalMachine;
use crate::operations::outcome::NothingToDo;
use crate::operations::own_unit::find_own_unit;
use crate::operations::service_manager::{ServiceManager, ServiceManagers};
use crate::policy::Directive;
use crate::syscalls::Groups;
use crate::systemd::manager::{SystemdError, UnitJob, UnitOutcome, UnitProperties};
use crate::units::{Unit, UnitName};
use anyhow::{Context as _, bail, ensure};

/// The prefixes of the names of units on which users' sessions depend.
const SESSIONS: [&str; 15] = [
    "systemd-logind.",
    "user@",
    "getty@",
    "serial-getty@",
    "console-getty.",
    "display-manager.",
    "gdm",
    "sddm",
    "lightdm",
    "lxdm.",
    "xdm.",
    "slim.",
    "ly.",
    "ly@",
    "greetd",
];

/// The units that a user asks to log.
#[derive(Debug, Clone)]
pub(crate) enum UnitSelection {
    /// All loaded units.
    All,
    /// These units, by name or alias.
    Named(Vec<UnitName>),
}

/// A unit to log.
#[derive(Debug, Clone)]
pub(crate) struct LoggedUnit {
    pub(crate) name: UnitName,
    /// The directives that can refuse a call without a record.
    pub(crate) directives: Vec<Directive>,
    /// Whether the unit runs already. A unit that finished and stays active (`RemainAfterExit=`) counts as running.
    pub(crate) running: bool,
    /// Why harden-why never restarts it.
    spared: Option<&'static str>,
    /// Why harden-why does not restart it this time, although it runs.
    pub(crate) not_restarted: Option<&'static str>,
    /// The result of its restart.
    pub(crate) restarted: Option<Result<UnitOutcome, String>>,
}

impl LoggedUnit {
    fn new(unit: &UnitProperties, directives: Vec<Directive>) -> Self {
        let (name, running) = (unit.id.clone(), unit.is_running());
        Self { name, directives, running, spared: reason_to_spare(unit), not_restarted: None, restarted: None }
    }

    /// Returns whether harden-why may advise the user to restart the unit.
    pub(crate) fn can_be_restarted(&self) -> bool {
        self.running && self.spared.is_none()
    }
}

/// Selects the units to log.
///
/// # Errors
/// A named unit is unknown, is not loaded or refuses no call without a record; or no loaded unit refuses one.
pub(crate) async fn select_units<M: ServiceManagers>(
    machine: LocalMachine<'_, M>,
    manager: &M::Connection,
    selection: &UnitSelection,
    groups: &Groups,
) -> anyhow::Result<Vec<LoggedUnit>> {
    let mut selected = match selection {
        UnitSelection::All => select_all(manager, groups).await?,
        UnitSelection::Named(names) => select_named(machine, manager, names, groups).await?,
    };
    for unit in selected.iter_mut().filter(|unit| unit.can_be_restarted()) {
        let dependents = match manager.running_dependents(&unit.name).await {
            Err(SystemdError::TooManyDependents(_)) => {
                unit.spared = Some("too many units would stop with it");
                continue;
            }
            dependents => dependents?,
        };
        if find_own_unit(manager, [&unit.name].into_iter().chain(&dependents)).await?.is_some() {
            unit.spared = Some("this program would end with it");
        }
    }
    Ok(selected)
}

async fn select_named<M: ServiceManagers>(
    machine: LocalMachine<'_, M>,
    manager: &M::Connection,
    names: &[UnitName],
    groups: &Groups,
) -> anyhow::Result<Vec<LoggedUnit>> {
    let mut selected: Vec<LoggedUnit> = Vec::new();
    for name in names {
        let unit = Unit { manager: manager.manager(), name: name.clone() };
        let answer = manager.unit_properties(name).await;
        if let Err(SystemdError::NoSuchUnit(_)) = &answer {
            bail!(SystemdError::NoSuchUnit(name.clone()));
        }
        let known = machine.own_settings_from_answer(&unit, answer, groups);
        let properties = known.properties.with_context(|| note::join_texts(&known.notes))?;
        ensure!(properties.load_state == "loaded", "{name} is not loaded ({})", properties.load_state);
        let policy = known.situation.with_context(|| format!("cannot read the settings of {name}"))?.policy;
        let directives = policy.loggable_directives();
        if directives.is_empty() {
            bail!(NothingToDo(format!(
                "{name} refuses no call silently, so there is nothing to log. 'harden-why {}' shows what is known.",
                name.to_argument()
            )));
        }
        if selected.iter().all(|other| other.name != properties.id) {
            selected.push(LoggedUnit::new(&properties, directives));
        }
    }
    Ok(selected)
}

async fn select_all(manager: &impl ServiceManager, groups: &Groups) -> anyhow::Result<Vec<LoggedUnit>> {
    let (units, complete) = manager.list_loaded_units().await?;
    ensure!(complete, "systemd does not list its units: name the units to log");
    let context = unit_settings::load_manager_context(manager.manager());
    let select = |unit: &UnitProperties| {
        let directives = unit.policy(context.clone(), groups).loggable_directives();
        (!directives.is_empty()).then(|| LoggedUnit::new(unit, directives))
    };
    let mut selected: Vec<LoggedUnit> = units.iter().filter_map(select).collect();
    if selected.is_empty() {
        bail!(NothingToDo("No loaded unit refuses a call silently, so there is nothing to log.".to_owned()));
    }
    selected.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    Ok(selected)
}

/// Decides which running units keep running without a restart. With `none`, all of them do.
pub(crate) fn decide_restarts(units: &mut [LoggedUnit], none: bool) {
    for unit in units.iter_mut().filter(|unit| unit.running) {
        unit.not_restarted = unit.spared.or(none.then_some("--no-restart"));
    }
}

/// Returns why harden-why never restarts a unit.
pub(crate) fn reason_to_spare(unit: &UnitProperties) -> Option<&'static str> {
    if unit.is_finished() { Some("it has finished, and would run again") } else { reason_to_spare_name(&unit.id) }
}

fn reason_to_spare_name(name: &UnitName) -> Option<&'static str> {
    match name.as_str() {
        "dbus.service" | "dbus-broker.service" => return Some("the whole system is connected to it"),
        "harden-whyd.service" => return Some("it receives the records"),
        _ => {}
    }
    let begins = |prefix: &&str| name.as_str().starts_with(prefix);
    match name.suffix() {
        "service" if SESSIONS.iter().any(begins) => Some("a session would end"),
        "service" => None,
        _ => Some("only services are restarted"),
    }
}

/// Restarts the units one after the other. A signal leaves the remaining units as they are.
pub(crate) async fn restart_units(
    manager: &impl ServiceManager,
    units: &mut [LoggedUnit],
    interruption: &mut Interruption,
) {
    let mut interrupted = false;
    for unit in units.iter_mut().filter(|unit| unit.running && unit.not_restarted.is_none()) {
        if interrupted {
            unit.not_restarted = Some("interrupted before");
            continue;
        }
        let restarted = interruption.or(async { Ok(manager.run_job(&unit.name, UnitJob::TryRestart).await) }).await;
        interrupted = restarted.is_err();
        unit.restarted = Some(match restarted {
            Ok(outcome) => outcome.map_err(|error: SystemdError| error.to_string()),
            Err(error) => Err(error.to_string()),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::procfs::Procfs;
    use crate::operations::fake_manager::{FakeMachine, GROUPS};
    use crate::units::Manager;

    #[test]
    fn unit_with_which_this_program_would_end_is_spared() {
        let own = Procfs::live().cgroup(std::process::id()).unwrap();
        let own = own.split(|&b| b == b'\n').find_map(|line| line.strip_prefix(b"0::")).unwrap();
        let own = std::str::from_utf8(own).unwrap();
        for (placed, spared) in [("x.service", true), ("session-1.scope", true), ("other.service", false)] {
            let fake = FakeMachine::running();
            fake.add_dependent("session-1.scope");
            fake.place(placed, own);
            let units = fake.run(async {
                let manager = fake.machine().connect(Manager::System).await.unwrap();
                select_units(fake.machine(), &manager, &UnitSelection::All, &GROUPS).await.unwrap()
            });
            assert_eq!(units.unwrap()[0].can_be_restarted(), !spared, "{placed}");
        }
    }

    #[test]
    fn units_that_sessions_or_the_system_depend_on_are_spared() {
        let is_spared = |name: &str| reason_to_spare_name(&name.parse().unwrap()).is_some();
        assert!(
            ["dbus.service", "user@1000.service", "gdm3.service", "srv.mount", "a.socket"].map(is_spared) == [true; 5]
        );
        assert!(["nginx.service", "user.service", "systemd-journald.service"].map(is_spared) == [false; 3]);
    }
}
