//! Plans a rehearsal: checks the conditions before any change.

use super::marker;
use super::marker::RehearsalMarker;
use crate::audit::Note;
use crate::audit::note;
use crate::audit::text::escape_excerpt;
use crate::audit::text::{escape, join, shown_path};
use crate::diagnosis::{RehearsalDropIn, Situation};
use crate::host::unit_settings::REHEARSAL_DROP_IN;
use crate::incidents::local_time::LocalTime;
use crate::operations::drop_in;
use crate::operations::local_machine::LocalMachine;
use crate::operations::outcome::RequiresRoot;
use crate::operations::own_unit::is_own_unit;
use crate::operations::permission::{ensure_may_change, ensure_takes_drop_ins};
use crate::operations::service_manager::{ServiceManager, ServiceManagers};
use crate::policy::Directive;
use crate::systemd::manager::{SystemdError, UnitProperties};
use crate::systemd::syscall_groups::{LoadedGroups, groups_note};
use crate::unit_files::runtime_dropin_path;
use crate::units::{Manager, Unit, UnitName};
use anyhow::{Context as _, bail, ensure};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
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
    pub(crate) unit: Unit,
    /// The unit's properties before.
    pub(crate) facts: UnitProperties,
    /// Its own settings.
    pub(crate) situation: Situation,
    pub(crate) rehearsal: RehearsalDropIn,
    pub(crate) limits: Limits,
    /// Whether the unit is reloaded before its end.
    pub(crate) reloads: bool,
    /// The path of the drop-in.
    pub(crate) path: PathBuf,
    /// The date for the drop-in's comments.
    today: String,
    pub(crate) marker: RehearsalMarker,
    pub(crate) loaded: LoadedGroups,
    pub(crate) notes: Vec<Note>,
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
        let is_root = machine.uid() == 0;
        ensure!(
            request.candidates != [Manager::System] || is_root,
            RequiresRoot("only root can rehearse a system unit".to_owned())
        );
        let (unit, manager) = find_unit(machine, request).await?;
        let is_required = unit.manager == Manager::System && REQUIRED_UNITS.contains(&unit.name.as_str());
        ensure!(!is_required, "without {} a rehearsal would show nothing", unit.name);
        ensure_may_change(&unit, machine.uid(), "rehearse")?;
        ensure!(
            unit.manager != Manager::System || is_root,
            RequiresRoot(format!("only root can rehearse {}, a system unit (for a user unit add --user)", unit.name))
        );
        let known = machine.settings_in_force(&unit, &loaded.groups).await;
        ensure_takes_drop_ins(&unit, &known)?;
        let facts = known.properties.context("systemd does not return the unit's settings")?;
        let situation = known.situation.with_context(|| format!("cannot read the settings of {}", unit.name))?;
        let section = situation.policy.settings.section();
        ensure!(!section.is_empty(), "{} runs no processes, so there is nothing to rehearse", unit.name);
        ensure_can_restart(&unit, &facts, &manager).await?;
        let path = machine.resolve(&runtime_dropin_path(&unit, REHEARSAL_DROP_IN));
        ensure_is_free(&path, &facts)?;
        let notes = known.notes;
        ensure!(
            known.matches_manager,
            "the settings of {} in systemd differ from its files: {}",
            unit.name,
            note::join_texts(&notes)
        );
        let rehearsal = plan_settings(&unit, &situation, &path, &request.keep, &loaded)?;
        let dependents = find_dependents(&facts, &manager).await?;
        Ok(Self {
            marker: RehearsalMarker::new(&facts, dependents),
            notes: groups_note(&loaded).into_iter().collect(),
            today: clock.today(),
            limits: request.limits,
            reloads: request.reloads,
            unit,
            facts,
            situation,
            rehearsal,
            path,
            loaded,
        })
    }

    /// Rereads the unit's state, which can change while the user thinks about the plan.
    ///
    /// # Errors
    /// The unit's manager does not answer.
    pub(crate) async fn refresh<M: ServiceManagers>(&mut self, machine: LocalMachine<'_, M>) -> anyhow::Result<()> {
        let manager = machine.connect(self.unit.manager).await.context("nothing was changed")?;
        self.facts = manager.unit_properties(&self.unit.name).await.context("nothing was changed")?;
        self.marker = RehearsalMarker::new(&self.facts, find_dependents(&self.facts, &manager).await?);
        Ok(())
    }

    /// Returns the text of the drop-in.
    pub(crate) fn text(&self) -> String {
        let why = format!("a rehearsal of {}, which is less protected during it", self.unit.name);
        let content = format!("{}{}", self.marker.lines(), self.rehearsal.content);
        drop_in::compose(&content, &self.today, &why, "harden-why restore")
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

/// Finds the unit under its own name, and its manager. The system manager comes first.
async fn find_unit<M: ServiceManagers>(
    machine: LocalMachine<'_, M>,
    request: &RehearsalRequest,
) -> anyhow::Result<(Unit, M::Connection)> {
    let name = &request.unit;
    let mut why = None;
    for &candidate in &request.candidates {
        let answer = async {
            let manager = machine.connect(candidate).await?;
            let facts = manager.unit_properties(name).await?;
            Ok::<_, SystemdError>((Unit { manager: candidate, name: facts.id }, manager))
        };
        match answer.await {
            Ok(found) => return Ok(found),
            // "There is no such unit" says more than that another manager does not answer.
            Err(error @ SystemdError::NoSuchUnit(_)) => why = Some(error),
            Err(error) => why = why.or(Some(error)),
        }
    }
    Err(why.map_or_else(|| SystemdError::NoSuchUnit(name.clone()).into(), Into::into))
}

/// Checks that systemd knows `SystemCallLog=`, and that a user may start and stop the unit.
async fn ensure_can_restart(unit: &Unit, facts: &UnitProperties, manager: &impl ServiceManager) -> anyhow::Result<()> {
    if facts.system_call_log.is_none() {
        let version = manager.version().await.map(|version| format!(" ({})", escape(version.as_bytes())));
        let version = version.unwrap_or_default();
        bail!("the systemd that runs {}{version} has no SystemCallLog=, which requires systemd 247", unit.name);
    }
    ensure!(
        facts.can_start != Some(false),
        "only other units may start {} (RefuseManualStart=), so it cannot be \
        rehearsed",
        unit.name
    );
    ensure!(
        facts.refuse_manual_stop != Some(true),
        "only other units may stop {} (RefuseManualStop=), so it cannot be rehearsed",
        unit.name
    );
    ensure!(!is_own_unit(unit), "this harden-why runs within {}, and would stop with it", unit.name);
    Ok(())
}

/// Returns the running units that stop with the unit. If the unit did not run before, its end stops them for good, as it
/// does without a rehearsal.
async fn find_dependents(facts: &UnitProperties, manager: &impl ServiceManager) -> anyhow::Result<Vec<UnitName>> {
    if !facts.is_running() {
        return Ok(Vec::new());
    }
    manager.running_dependents(&facts.id).await.context("nothing was changed")
}

/// Checks that no process rehearses the unit, and that no other file replaces the drop-in.
fn ensure_is_free(path: &Path, facts: &UnitProperties) -> anyhow::Result<()> {
    for path in [path, &marker::disarmed_path(path)] {
        let Some(drop_in) = drop_in::read(path)? else { continue };
        match RehearsalMarker::parse(&drop_in).living_owner() {
            Some(pid) => bail!("process {pid} is rehearsing {} already", facts.id),
            None => bail!("an earlier rehearsal of {} left {}: run harden-why restore", facts.id, shown_path(path)),
        }
    }
    if let Some(other) = facts.dropins.iter().find(|other| other.file_name() == path.file_name()) {
        bail!("{} would hide a rehearsal's drop-in: move it away", shown_path(other));
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
        bail!("there is nothing to rehearse: the settings of {} deny no call that a rehearsal shows", unit.name)
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
