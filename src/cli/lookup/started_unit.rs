//! Finds the unit to watch in place of the named one: the service that a timer, socket or path starts, the service that
//! an umbrella such as `tor.service` consists of, or the one running instance of a template.

use crate::audit::Note;
use crate::audit::text::join;
use crate::cli::exit_status::UsageError;
use crate::systemd::manager::{Managers, RelatedUnits, SystemdManager};
use crate::units::{Manager, UnitName};
use anyhow::{bail, ensure};
use std::collections::BTreeSet;

/// The longest chain: a timer that starts an umbrella service with instances.
const LONGEST: usize = 3;

/// A unit to watch, and how the name led there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StartedUnit {
    pub(crate) name: UnitName,
    /// A sentence for each step; none if it is the named unit.
    steps: Vec<String>,
}

impl StartedUnit {
    /// Follows a name to the unit that runs the processes. `candidates` are the managers that may have the unit.
    ///
    /// # Errors
    /// The name stands for several units, or is a template without a running instance.
    pub(crate) async fn find(managers: &Managers, name: UnitName, candidates: &[Manager]) -> anyhow::Result<Self> {
        let mut found = Self { name, steps: Vec::new() };
        for _ in 0..LONGEST {
            let mut next = BTreeSet::new();
            for manager in candidates {
                let Ok(manager) = managers.connect(*manager).await else { continue };
                next.extend(find_next(&manager, &found.name).await);
            }
            let mut next = next.into_iter();
            let Some((name, step)) = next.next() else { break };
            let others: Vec<UnitName> = next.map(|(name, _)| name).collect();
            if !others.is_empty() {
                let names = [name].into_iter().chain(others).map(|name| name.to_string());
                bail!("{} stands for several units: name one of {}", found.name, join(names));
            }
            found.steps.push(step);
            found.name = name;
        }
        ensure!(
            !found.name.is_template(),
            UsageError(format!(
                "{} is a template: name an instance, as {}",
                found.name,
                found.name.as_str().replacen("@.", "@NAME.", 1)
            ))
        );
        Ok(found)
    }

    /// Returns a note of how the name led to the unit; `None` if it is the named unit.
    pub(crate) fn note(&self) -> Option<Note> {
        (!self.steps.is_empty()).then(|| Note::new("related-unit", self.steps.join(", and ")))
    }
}

/// Lists the services that a unit starts or consists of, each with the step in words, whether they run or not.
pub(crate) async fn list_services_behind(
    managers: &Managers,
    name: &UnitName,
    candidates: &[Manager],
) -> Vec<(UnitName, String)> {
    let mut services = Vec::new();
    for manager in candidates {
        let Ok(manager) = managers.connect(*manager).await else { continue };
        let related = manager.related_units(name).await.unwrap_or_default();
        services.extend(choose(name, &related, true));
    }
    services
}

/// Finds the units that a unit stands for, each with the step in words.
async fn find_next(manager: &SystemdManager, name: &UnitName) -> Vec<(UnitName, String)> {
    if name.is_template() {
        let instances = manager.list_instances(name).await.unwrap_or_default();
        let running = instances.into_iter().filter(|instance| instance.is_running);
        return running
            .map(|instance| {
                let step = format!("{} is the running instance of {name}", instance.name);
                (instance.name, step)
            })
            .collect();
    }
    let Ok(related) = manager.related_units(name).await else { return Vec::new() };
    let runs_nothing = match manager.unit_properties(name).await {
        Ok(properties) => properties.main_pid.is_none() && properties.is_finished(),
        Err(_) => false,
    };
    choose(name, &related, runs_nothing)
}

/// Returns the units that a timer, socket or path starts, or the services of an umbrella whose own process has ended.
fn choose(name: &UnitName, related: &RelatedUnits, runs_nothing: bool) -> Vec<(UnitName, String)> {
    let is_service = |unit: &&UnitName| unit.suffix() == "service";
    if matches!(name.suffix(), "timer" | "socket" | "path") {
        let started = related.triggers.iter().filter(is_service);
        return started.map(|unit| (unit.clone(), format!("{name} starts {unit}"))).collect();
    }
    let parts = related.parts.iter().filter(is_service).filter(|_| runs_nothing && name.suffix() == "service");
    parts.map(|unit| (unit.clone(), format!("{unit} is part of {name}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(name: &str, triggers: &[&str], parts: &[&str], runs_nothing: bool) -> Vec<String> {
        let names = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect();
        let related = RelatedUnits { triggers: names(triggers), parts: names(parts) };
        choose(&name.parse().unwrap(), &related, runs_nothing).into_iter().map(|(_, step)| step).collect()
    }

    #[test]
    fn timer_socket_and_umbrella_stand_for_the_services_they_start() {
        assert_eq!(chosen("backup.timer", &["backup.service"], &[], false), ["backup.timer starts backup.service"]);
        assert_eq!(chosen("ssh.socket", &["ssh.service"], &[], false), ["ssh.socket starts ssh.service"]);
        let part = ["tor@default.service is part of tor.service"];
        assert_eq!(chosen("tor.service", &[], &["tor@default.service", "tor.slice"], true), part);
    }

    #[test]
    fn service_with_processes_of_its_own_stands_for_itself() {
        assert!(chosen("web.service", &[], &["web-worker.service"], false).is_empty());
        assert!(chosen("web.service", &["other.service"], &[], true).is_empty(), "OnFailure= and the like");
        assert!(chosen("multi-user.target", &[], &["web.service"], true).is_empty());
    }
}
