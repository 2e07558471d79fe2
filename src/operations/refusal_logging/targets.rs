//! The units to be exposed: those whose policy can refuse a call without a record; and their new start.

use crate::audit::note;
use crate::host::unit_settings;
use crate::host::unit_settings::surroundings;
use crate::kernel::procfs::Procfs;
use crate::operations::interruption::Interruption;
use crate::operations::outcome::NothingToDo;
use crate::policy::Directive;
use crate::systemd::manager::{Managers, SystemdError, SystemdManager, UnitOutcome, UnitProperties};
use crate::systemd::manager_lookup::{ManagerLookup, find_manager, unknown_unit_text};
use crate::systemd::syscall_groups;
use crate::units::cgroup::{Placement, place};
use crate::units::{Manager, Unit, UnitName};
use anyhow::{Context as _, bail, ensure};

/// How the names of units begin that people's sessions hang on.
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

/// A unit to be exposed.
#[derive(Debug, Clone)]
pub(crate) struct Chosen {
    pub(crate) name: UnitName,
    /// What of it can refuse a call.
    pub(crate) directives: Vec<Directive>,
    /// Whether it is up since before; one that did its work counts as up.
    pub(crate) running: bool,
    /// Why it is never started anew by us.
    spared: Option<&'static str>,
    /// Why it is not started anew, though it runs.
    pub(crate) left_alone: Option<&'static str>,
    /// What became of that.
    pub(crate) restarted: Option<Result<UnitOutcome, String>>,
}

impl Chosen {
    /// `own` is the unit that this program runs in.
    fn new(facts: &UnitProperties, directives: Vec<Directive>, own: Option<&UnitName>) -> Self {
        let spared = spared(facts).or_else(|| (own == Some(&facts.id)).then_some("this program runs in it"));
        let (name, running) = (facts.id.clone(), facts.is_running());
        Self { name, directives, running, spared, left_alone: None, restarted: None }
    }

    /// Whether somebody else may be told to start it anew.
    pub(crate) fn may_start_anew(&self) -> bool {
        self.running && self.spared.is_none()
    }
}

/// Those that were named.
///
/// # Errors
/// One is none, or refuses nothing without a record.
pub(crate) async fn named(managers: &Managers, manager: Manager, names: &[UnitName]) -> anyhow::Result<Vec<Chosen>> {
    let (groups, own) = (syscall_groups::load().groups, own());
    let mut chosen: Vec<Chosen> = Vec::new();
    for name in names {
        let unit = Unit { manager, name: name.clone() };
        if find_manager(managers, [manager], &unit.name).await == ManagerLookup::Unknown {
            bail!(unknown_unit_text(&unit.name));
        }
        let known = unit_settings::load(managers, &unit, &groups).await;
        let facts = known.properties.with_context(|| note::join_texts(&known.notes))?;
        ensure!(facts.load_state == "loaded", "{} is not loaded ({})", unit.name, facts.load_state);
        let policy = known.situation.with_context(|| format!("the settings of {} cannot be read", unit.name))?.policy;
        let directives = policy.loggable_directives();
        if directives.is_empty() {
            let name = &unit.name;
            bail!(NothingToDo(format!(
                "{name} refuses no call without a record: there is nothing to log ('harden-why {name}' tells what is \
                 known)"
            )));
        }
        if chosen.iter().all(|other| other.name != facts.id) {
            chosen.push(Chosen::new(&facts, directives, own.as_ref()));
        }
    }
    Ok(chosen)
}

/// All that are loaded.
///
/// # Errors
/// There are none, or the manager does not answer.
pub(crate) async fn all(manager: &SystemdManager) -> anyhow::Result<Vec<Chosen>> {
    let (facts, complete) = manager.list_loaded_units(|_, _| ()).await?;
    ensure!(complete, "systemd does not answer for all its units, so which units to log is not known: name them");
    let (groups, surroundings, own) = (syscall_groups::load().groups, surroundings(manager.manager()), own());
    let refusing = |facts: &UnitProperties| {
        let directives = facts.policy(surroundings.clone(), &groups).loggable_directives();
        (!directives.is_empty()).then(|| Chosen::new(facts, directives, own.as_ref()))
    };
    let mut chosen: Vec<Chosen> = facts.iter().filter_map(refusing).collect();
    if chosen.is_empty() {
        bail!(NothingToDo(
            "no unit that is loaded refuses a call without a record: there is nothing to log".to_owned()
        ));
    }
    chosen.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    Ok(chosen)
}

/// Decides which of them not to start anew.
pub(crate) fn decide(units: &mut [Chosen], none: bool) {
    for unit in units.iter_mut().filter(|unit| unit.running) {
        unit.left_alone = unit.spared.or(none.then_some("--no-restart"));
    }
}

/// The unit that this program runs in.
fn own() -> Option<UnitName> {
    match place(&Procfs::live().cgroup(std::process::id())?) {
        Placement::Unit(unit) => Some(unit.name),
        Placement::None(_) => None,
    }
}

/// Why a unit is never started anew by us.
pub(crate) fn spared(facts: &UnitProperties) -> Option<&'static str> {
    if facts.is_finished() { Some("it did its work, and would do it again") } else { spared_by_name(&facts.id) }
}

fn spared_by_name(name: &UnitName) -> Option<&'static str> {
    match name.as_str() {
        "dbus.service" | "dbus-broker.service" => return Some("the whole system is connected to it"),
        "harden-whyd.service" => return Some("it is what listens"),
        _ => {}
    }
    let begins = |prefix: &&str| name.as_str().starts_with(prefix);
    match name.suffix() {
        "service" if SESSIONS.iter().any(begins) => Some("a session would end"),
        "service" => None,
        _ => Some("only services are started anew"),
    }
}

/// Starts them anew, one after the other; what comes after an interruption is left alone.
pub(crate) async fn restart(manager: &SystemdManager, units: &mut [Chosen], interruption: &mut Interruption) {
    let mut interrupted = false;
    for unit in units.iter_mut().filter(|unit| unit.running && unit.left_alone.is_none()) {
        if interrupted {
            unit.left_alone = Some("interrupted before");
            continue;
        }
        let restarted = interruption.or(async { Ok(manager.try_restart(&unit.name).await) }).await;
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

    #[test]
    fn what_everybody_hangs_on_is_spared() {
        let spared = |name: &str| spared_by_name(&name.parse().unwrap()).is_some();
        assert!(
            ["dbus.service", "user@1000.service", "gdm3.service", "srv.mount", "a.socket"].map(spared) == [true; 5]
        );
        assert!(["nginx.service", "user.service", "systemd-journald.service"].map(spared) == [false; 3]);
    }
}
