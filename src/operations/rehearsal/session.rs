//! The unit on stage: its drop-in put on, confirmed, and taken off again whatever happens in between.

use super::marker;
use super::preflight::Plan;
use crate::audit::note;
use crate::audit::text::{escape, shown_path};
use crate::host::unit_settings;
use crate::operations::confirm::is_same_file;
use crate::operations::drop_in;
use crate::operations::drop_in::{DropInError, Undo};
use crate::operations::interruption::Interruption;
use crate::systemd::manager::{SystemdError, UnitJob, UnitOutcome};
use anyhow::{Context as _, ensure};
use std::time::Duration;

/// How long the unit may take to start under its own settings.
const LONG: Duration = Duration::from_secs(90);

/// A unit for which a drop-in was written.
#[must_use = "the unit's own settings have to come back"]
pub(crate) struct Stage<'a> {
    plan: &'a Plan,
    undo: Undo,
    /// It was told to start anew.
    pub(crate) restarted: bool,
}

/// What became of the unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct After {
    /// `restarted`, `stopped` or `left` as it was.
    pub(crate) what: &'static str,
    /// Its state then; `None` where it takes longer than anybody waits.
    pub(crate) outcome: Option<UnitOutcome>,
}

impl<'a> Stage<'a> {
    /// Writes the drop-in; systemd has not read it yet.
    pub(crate) fn set(plan: &'a Plan) -> anyhow::Result<Self> {
        let undo = drop_in::write(&plan.path, plan.text().as_bytes())?;
        Ok(Self { plan, undo, restarted: false })
    }

    /// Has systemd read it, confirms that it holds that and nothing else, and begins to start the unit anew.
    pub(crate) async fn begin(&mut self) -> anyhow::Result<()> {
        let Plan { unit, manager, managers, rehearsal, loaded, path, .. } = self.plan;
        manager.reload().await.context("systemd does not read its files again")?;
        manager
            .wait_for_unit_properties(&unit.name, LONG)
            .await
            .context("systemd does not tell the unit's settings any more")?;
        let known = unit_settings::load_in_force(managers, unit, &loaded.groups).await;
        let said = note::join_texts(&known.notes);
        let facts =
            known.properties.with_context(|| format!("systemd does not tell the unit's settings any more: {said}"))?;
        ensure!(facts.unparsed.is_empty(), unit_settings::unparsed_text(&facts));
        let listed = facts.dropins.iter().any(|other| is_same_file(other, path));
        ensure!(listed, "systemd does not look for drop-ins in {}", shown_path(path));
        let policy = known.situation.context("the unit's settings cannot be read any more")?.policy;
        ensure!(known.matches_manager, "systemd holds other settings than its files say: {said}");
        rehearsal
            .verify(&policy, &loaded.groups)
            .map_err(|call| anyhow::anyhow!("systemd does not do with {call} what a rehearsal needs"))?;
        // How it ends is told all the same, but for a unit that leaves nothing behind.
        let _ = manager.keep_loaded(&unit.name).await;
        // An order whose answer is lost may be carried out all the same.
        self.restarted = true;
        manager
            .start_job(&unit.name, UnitJob::Restart)
            .await
            .with_context(|| format!("{} does not start anew", unit.name))
    }

    /// Brings the unit's own settings back into force, and the unit to run or not as before. No signal keeps it from
    /// that, since signals come in pairs when a session ends; one keeps from waiting for the unit's start alone. What is
    /// left to do where it fails is found by the next harden-why.
    pub(crate) async fn end(mut self, interruption: &mut Interruption) -> anyhow::Result<After> {
        let Plan { unit, managers, path, ledger, .. } = self.plan;
        let name = &unit.name;
        let is_ours = match self.undo.set_aside(&marker::over(path)) {
            Ok(()) => true,
            // Somebody removed it, of which systemd need not know.
            Err(DropInError::Gone(_)) => false,
            Err(error) => {
                let error = anyhow::Error::from(error);
                return Err(
                    error.context(format!("{name} still runs without its own settings: remove that file yourself"))
                );
            }
        };
        let back = async {
            // The way to it may have been lost meanwhile.
            let manager = managers.connect(unit.manager).await?;
            manager.reload().await?;
            let order = match manager.wait_for_unit_properties(name, LONG).await {
                Err(SystemdError::NoSuchUnit(_)) => None,
                Err(error) => return Err(error.into()),
                Ok(facts) if ledger.was_started_since(&facts) => {
                    Some(if ledger.ran { UnitJob::Restart } else { UnitJob::Stop })
                }
                Ok(facts) => (self.restarted && ledger.ran && !facts.is_running()).then_some(UnitJob::Restart),
            };
            if let Some(order) = order {
                manager.start_job(name, order).await?;
            }
            Ok::<_, anyhow::Error>((manager, order))
        };
        let (manager, order) = back.await.with_context(|| {
            format!("{name} may still run without its own settings: harden-why restore brings them back")
        })?;
        if is_ours {
            self.undo.undo()?;
        }
        let what = match order {
            Some(UnitJob::Restart | UnitJob::TryRestart) => "restarted",
            Some(UnitJob::Stop) => "stopped",
            None => "left",
        };
        let outcome = interruption.or(async { Ok(manager.wait_for_job(name, LONG).await?) }).await.ok();
        Ok(After { what, outcome })
    }
}

impl After {
    /// In words, of a unit.
    pub(crate) fn words(&self, name: &str) -> String {
        let state = self.outcome.as_ref().map_or_else(|| "not done with it yet".to_owned(), said);
        match self.what {
            "restarted" => format!("{name} was started anew under its own settings, and is {state}."),
            "stopped" => format!("{name} was stopped, since it did not run before, and is {state}."),
            _ => format!("{name} has its own settings again, and is {state}."),
        }
    }
}

/// A state and its reason.
pub(crate) fn said(outcome: &UnitOutcome) -> String {
    let state = escape(outcome.active_state.as_bytes());
    match outcome.result.as_deref().filter(|result| *result != "success" && outcome.active_state == "failed") {
        Some(result) => format!("{state} ({})", escape(result.as_bytes())),
        None => state,
    }
}
