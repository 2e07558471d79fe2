//! Plans a bisection: checks the conditions before any change.

use super::check::TrialCheck;
use crate::audit::text::{join, shown_path};
use crate::diagnosis::bisection::most_trials;
use crate::incidents::local_time::LocalTime;
use crate::operations::local_machine::LocalMachine;
use crate::operations::rehearsal::marker::Activity;
use crate::operations::rehearsal::target::{TemporaryRequest, TemporaryTarget};
use crate::operations::service_manager::ServiceManagers;
use crate::policy::{Hardening, Policy};
use crate::systemd::syscall_groups::LoadedGroups;
use crate::units::{Manager, UnitName};
use anyhow::{bail, ensure};
use std::collections::BTreeSet;
use std::time::Duration;

/// The largest drop-in that lifts hardening, in bytes. harden-why reads no larger file back.
const MAX_SIZE: usize = 512 * 1024;

/// What a unit's failure or success triggers during a bisection: nothing. systemd neither restarts the unit by itself nor
/// the machine, and counts no start against `StartLimitBurst=`.
const CALM: &str = "[Unit]\nFailureAction=none\nSuccessAction=none\nStartLimitIntervalSec=0\n";

/// A user's request for a bisection.
#[derive(Debug, Clone)]
pub(crate) struct BisectionRequest {
    /// The unit's name, or an alias.
    pub(crate) unit: UnitName,
    /// The managers that may have the unit, the first of them first.
    pub(crate) candidates: Vec<Manager>,
    /// The shell command that decides whether the unit works.
    pub(crate) check: Option<String>,
    /// How long the unit has to stay active, or the command may fail.
    pub(crate) wait: Duration,
    /// The most restarts; `None` for as many as two culprits take.
    pub(crate) restarts: Option<usize>,
}

/// A bisection that can start.
#[derive(Debug)]
pub(crate) struct BisectionPlan {
    pub(crate) target: TemporaryTarget,
    pub(crate) hardening: Hardening,
    pub(crate) check: TrialCheck,
    /// The most trials. Each restarts the unit once.
    pub(crate) most: usize,
}

impl BisectionPlan {
    /// Checks whether the bisection can start. Changes nothing.
    ///
    /// # Errors
    /// The error says what prevents the bisection.
    pub(crate) async fn prepare<M: ServiceManagers>(
        machine: LocalMachine<'_, M>,
        request: &BisectionRequest,
        loaded: LoadedGroups,
        clock: &LocalTime,
    ) -> anyhow::Result<Self> {
        let named = TemporaryRequest {
            unit: request.unit.clone(),
            candidates: request.candidates.clone(),
            activity: Activity::Bisection,
        };
        let target = TemporaryTarget::prepare(machine, &named, loaded, clock).await?;
        let settings = &target.situation.policy.settings;
        let hardening = Hardening::new(settings);
        let name = &target.unit.name;
        ensure!(
            !hardening.lines().is_empty(),
            "there is nothing to bisect: {name} has no hardening that a bisection lifts"
        );
        ensure!(hardening.size() <= MAX_SIZE, "the hardening of {name} is too long for a drop-in that lifts it");
        let is_oneshot = settings.program().kind.as_deref() == Some("oneshot");
        let check = TrialCheck { command: request.check.clone(), wait: request.wait, is_oneshot };
        let most = request.restarts.unwrap_or_else(|| most_trials(hardening.lines().len()).1);
        let plan = Self { target, hardening, check, most };
        plan.ensure_decides()?;
        Ok(plan)
    }

    /// Checks that no drop-in which systemd reads later has hardening: it would stay in force.
    fn ensure_decides(&self) -> anyhow::Result<()> {
        let TemporaryTarget { situation, path, unit, .. } = &self.target;
        let later: BTreeSet<_> = situation.policy.settings.later_dropins(path).collect();
        let lines = self.hardening.lines().iter().flat_map(|line| [&line.first].into_iter().chain(&line.more));
        let behind: BTreeSet<_> = lines.map(|line| &*line.origin.path).filter(|path| later.contains(path)).collect();
        if !behind.is_empty() {
            bail!(
                "{} comes after a bisection's drop-in and would stay in force, so {} cannot be bisected: give it a \
                 lower name",
                join(behind.into_iter().map(shown_path)),
                unit.name
            );
        }
        Ok(())
    }

    /// Returns the settings of the drop-in that lifts some of the lines.
    pub(crate) fn settings(&self, lifted: &BTreeSet<usize>) -> String {
        let section = self.target.situation.policy.settings.section();
        // systemd reports a failure of the unit as it is, and does not hide it behind automatic restarts.
        let restart = if section == "Service" { "Restart=no\n" } else { "" };
        format!("{CALM}[{section}]\n{restart}{}", self.hardening.lift(lifted))
    }

    /// Checks that systemd holds the unit's own lines and those of the drop-in, and no others.
    ///
    /// # Errors
    /// The unit's files changed.
    pub(crate) fn confirm(&self, lifted: &BTreeSet<usize>, held: &Policy) -> anyhow::Result<()> {
        let TemporaryTarget { situation, path, unit, .. } = &self.target;
        let expected = situation.policy.settings.with_dropin(path, self.settings(lifted).as_bytes());
        let lines = |policy: &crate::policy::Settings| {
            policy.assignments().map(|line| (line.key.clone(), line.value.clone())).collect::<Vec<_>>()
        };
        ensure!(
            lines(&held.settings) == lines(&expected),
            "the files of {} changed during the bisection: start it again",
            unit.name
        );
        Ok(())
    }
}
