//! Plans a bisection: checks the conditions before any change.

use super::check::TrialCheck;
use crate::audit::text::{escape, join, shown_path};
use crate::diagnosis::bisection::most_trials;
use crate::incidents::local_time::LocalTime;
use crate::operations::drop_in;
use crate::operations::local_machine::LocalMachine;
use crate::operations::rehearsal::marker::Activity;
use crate::operations::rehearsal::target::{ROOM, TemporaryRequest, TemporaryTarget};
use crate::operations::service_manager::ServiceManagers;
use crate::policy::{Hardening, Policy, UnitFile, current_key};
use crate::systemd::syscall_groups::LoadedGroups;
use crate::unit_files::rooted::RootedTree;
use crate::units::{Manager, UnitName};
use anyhow::{Context as _, ensure};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

/// The largest drop-in that lifts hardening, in bytes. harden-why reads no larger file back.
const MAX_SIZE: usize = 512 * 1024;

/// What a unit's failure, success or slow job triggers during a bisection: nothing. systemd neither restarts the unit by
/// itself nor the machine, and counts no start against `StartLimitBurst=`.
const CALM: &str = "[Unit]\nFailureAction=none\nSuccessAction=none\nJobTimeoutAction=none\nStartLimitIntervalSec=0\n";

/// The same for services: systemd reports a failure as it is, and does not hide it behind automatic restarts.
/// `RestartForceExitStatus=` restarts a service whatever `Restart=` says.
const CALM_SERVICE: &str = "Restart=no\nRestartForceExitStatus=\n";

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
        check.ensure_can_run()?;
        let most = request.restarts.unwrap_or_else(|| most_trials(hardening.lines().len()).1);
        let plan = Self { target, hardening, check, most };
        plan.ensure_decides()?;
        let size = plan.settings(&(0..plan.hardening.lines().len()).collect()).len() as u64;
        drop_in::ensure_has_room(&plan.target.path, ROOM + 2 * size).context("nothing was changed")?;
        Ok(plan)
    }

    /// Checks that no drop-in which systemd reads later sets what a bisection's drop-in sets: it would stay in force.
    fn ensure_decides(&self) -> anyhow::Result<()> {
        let TemporaryTarget { facts, path, unit, .. } = &self.target;
        let all = (0..self.hardening.lines().len()).collect();
        // systemd accepts some keys of [Unit] in [Service] as well.
        let keys = |file: UnitFile| {
            file.assignments.iter().map(|line| current_key(&line.key).to_owned()).collect::<BTreeSet<_>>()
        };
        let own = keys(UnitFile::parse(path, self.settings(&all).as_bytes()));
        // systemd returns the paths as this process reaches them.
        let tree = RootedTree::new(Path::new("/"));
        for later in facts.dropins.iter().filter(|other| other.file_name() > path.file_name()) {
            let shown = shown_path(later);
            let bytes = tree.read(later).with_context(|| format!("cannot read {shown}, which may decide"))?;
            let behind: Vec<String> = keys(UnitFile::parse(later, &bytes))
                .intersection(&own)
                .map(|key| format!("{}=", escape(key.as_bytes())))
                .collect();
            ensure!(
                behind.is_empty(),
                "{shown} comes after a bisection's drop-in, and its {} would stay in force, so {} cannot be bisected: give \
                 it a lower name",
                join(behind.into_iter()),
                unit.name
            );
        }
        Ok(())
    }

    /// Returns the settings of the drop-in that lifts some of the lines.
    pub(crate) fn settings(&self, lifted: &BTreeSet<usize>) -> String {
        let section = self.target.situation.policy.settings.section();
        let restart = if section == "Service" { CALM_SERVICE } else { "" };
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
