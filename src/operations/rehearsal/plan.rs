//! Plans a rehearsal: checks the conditions before any change.

use super::marker::Activity;
use super::target::{TemporaryRequest, TemporaryTarget};
use crate::audit::text::{escape, escape_excerpt, join, shown_path};
use crate::diagnosis::{RehearsalDropIn, Situation};
use crate::incidents::local_time::LocalTime;
use crate::operations::local_machine::LocalMachine;
use crate::operations::outcome::NothingToDo;
use crate::operations::service_manager::{ServiceManager as _, ServiceManagers};
use crate::policy::Directive;
use crate::systemd::syscall_groups::LoadedGroups;
use crate::units::{Manager, Unit, UnitName};
use anyhow::{Context as _, bail, ensure};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

/// The system units without which a rehearsal shows nothing.
const REQUIRED_UNITS: [&str; 4] = ["harden-whyd.service", "harden-whyd.socket", "dbus.service", "dbus-broker.service"];

/// The file in which the kernel lists the actions that it logs.
const ACTIONS_LOGGED: &str = "/proc/sys/kernel/seccomp/actions_logged";

/// The limits at which a rehearsal ends, unless the user or the unit ends it earlier.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// The longest run.
    pub(crate) time: Option<Duration>,
    /// The longest time without a new call.
    pub(crate) idle: Option<Duration>,
}

/// A user's request for a rehearsal.
#[derive(Debug, Clone)]
pub(crate) struct RehearsalRequest {
    /// The unit's name, or an alias.
    pub(crate) unit: UnitName,
    /// The managers that may have the unit, the first of them first.
    pub(crate) candidates: Vec<Manager>,
    pub(crate) limits: Limits,
    /// Directives that stay in force.
    pub(crate) keep: BTreeSet<Directive>,
    /// Whether to reload the unit before its end.
    pub(crate) reloads: bool,
}

/// A rehearsal that can start.
pub(crate) struct RehearsalPlan {
    pub(crate) target: TemporaryTarget,
    pub(crate) rehearsal: RehearsalDropIn,
    pub(crate) limits: Limits,
    /// Whether the unit is reloaded before its end.
    pub(crate) reloads: bool,
}

impl RehearsalPlan {
    /// Checks whether the rehearsal can start. Changes nothing.
    ///
    /// # Errors
    /// The error says what prevents the rehearsal.
    pub(crate) async fn prepare<M: ServiceManagers>(
        machine: LocalMachine<'_, M>,
        request: &RehearsalRequest,
        loaded: LoadedGroups,
        clock: &LocalTime,
    ) -> anyhow::Result<Self> {
        ensure_kernel_logs(&machine.resolve(Path::new(ACTIONS_LOGGED)))?;
        let named = TemporaryRequest {
            unit: request.unit.clone(),
            candidates: request.candidates.clone(),
            activity: Activity::Rehearsal,
        };
        let target = TemporaryTarget::prepare(machine, &named, loaded, clock).await?;
        ensure_shows_calls(machine, &target).await?;
        let rehearsal = plan_settings(&target.unit, &target.situation, &target.path, &request.keep, &target.loaded)?;
        Ok(Self { target, rehearsal, limits: request.limits, reloads: request.reloads })
    }

    /// Returns the text of the drop-in.
    pub(crate) fn text(&self) -> String {
        self.target.compose(&self.rehearsal.content)
    }
}

/// Parses the keys of directives that stay in force. A trailing `=` is optional.
///
/// # Errors
/// A rehearsal does not lift one of the directives.
pub(crate) fn parse_kept(names: &[String]) -> anyhow::Result<BTreeSet<Directive>> {
    let parse = |name: &String| {
        let directive = Directive::from_key(name.strip_suffix('=').unwrap_or(name));
        directive.filter(|directive| directive.is_liftable()).with_context(|| {
            let all = join(Directive::liftable().map(|directive| directive.key().to_owned()));
            format!("a rehearsal does not lift {}; it lifts {all}", escape_excerpt(name))
        })
    };
    names.iter().map(parse).collect()
}

/// Checks that the kernel writes audit records for logged calls.
fn ensure_kernel_logs(actions_logged: &Path) -> anyhow::Result<()> {
    let Ok(logged) = std::fs::read_to_string(actions_logged) else { return Ok(()) };
    ensure!(
        logged.split_ascii_whitespace().any(|action| action == "log"),
        "kernel.seccomp.actions_logged lacks log, so a rehearsal would show nothing: sysctl \
         kernel.seccomp.actions_logged='{} log'",
        logged.trim()
    );
    Ok(())
}

/// Checks that a rehearsal of the unit shows calls: systemd can log them, and the unit is none of those that collect them.
async fn ensure_shows_calls<M: ServiceManagers>(
    machine: LocalMachine<'_, M>,
    TemporaryTarget { unit, facts, .. }: &TemporaryTarget,
) -> anyhow::Result<()> {
    let is_required = unit.manager == Manager::System && REQUIRED_UNITS.contains(&unit.name.as_str());
    ensure!(!is_required, "without {} a rehearsal would show nothing", unit.name);
    if facts.system_call_log.is_none() {
        let manager = machine.connect(unit.manager).await?;
        let version = manager.version().await.map(|version| format!(" ({})", escape(version.as_bytes())));
        let version = version.unwrap_or_default();
        bail!("the systemd that runs {}{version} has no SystemCallLog=, which requires systemd 247", unit.name);
    }
    Ok(())
}

/// Computes the rehearsal's settings, and checks that no other setting overrides them.
fn plan_settings(
    unit: &Unit,
    situation: &Situation,
    path: &Path,
    keep: &BTreeSet<Directive>,
    loaded: &LoadedGroups,
) -> anyhow::Result<RehearsalDropIn> {
    let Some(rehearsal) = RehearsalDropIn::new(&situation.policy, keep, &loaded.groups) else {
        let text = format!("Nothing to rehearse: the settings of {} deny no call that a rehearsal shows.", unit.name);
        bail!(NothingToDo(text))
    };
    let rehearsed = situation.policy.with_dropin(path, rehearsal.content.as_bytes(), &loaded.groups);
    if let Err(call) = rehearsal.verify(&rehearsed, &loaded.groups) {
        let behind = join(situation.policy.settings.later_dropins(path).map(shown_path));
        let behind = if behind.is_empty() { "another setting".to_owned() } else { behind };
        bail!(
            "{behind} comes after a rehearsal's drop-in and decides {call}, so {} cannot be rehearsed: give it a \
            lower name",
            unit.name
        );
    }
    Ok(rehearsal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_directives_that_a_rehearsal_lifts_can_be_kept() {
        let names = ["ProtectClock=".to_owned(), "SystemCallFilter".to_owned()];
        assert_eq!(parse_kept(&names).unwrap(), BTreeSet::from([Directive::ProtectClock, Directive::SystemCallFilter]));
        for name in ["SystemCallArchitectures", "protectclock", "", "ProtectKernelTunables"] {
            assert!(parse_kept(&[name.to_owned()]).unwrap_err().to_string().contains("a rehearsal does not lift"));
        }
    }
}
