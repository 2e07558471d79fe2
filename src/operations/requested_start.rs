//! A start that was requested of a manager, and whether it happened. systemd can end a job without a start: a condition
//! or an assertion is not met, or a unit that the unit requires fails.

use super::service_manager::ServiceManager;
use crate::audit::text::{escape, join};
use crate::systemd::manager::active_state::is_up;
use crate::systemd::manager::{SystemdError, UnitState};
use crate::units::UnitName;
use anyhow::{bail, ensure};

/// A start that was requested of the manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RequestedStart {
    /// The id of the latest start before.
    pub(crate) earlier: Option<[u8; 16]>,
    /// Whether the manager keeps the unit loaded after its end.
    pub(crate) is_kept: bool,
}

impl RequestedStart {
    /// Reads what tells a later start from earlier ones. Keeps the unit loaded for as long as the connection lives.
    ///
    /// # Errors
    /// The manager does not answer.
    pub(crate) async fn prepare(manager: &impl ServiceManager, name: &UnitName) -> Result<Self, SystemdError> {
        // Without the reference, systemd can unload the unit once it ends; only its result stays unknown then.
        let is_kept = manager.keep_loaded(name).await.is_ok();
        Ok(Self { earlier: manager.unit_state(name).await?.invocation, is_kept })
    }

    /// Checks that systemd started the unit, once its job is done.
    ///
    /// # Errors
    /// systemd did not, or the manager does not answer. The error says why.
    pub(crate) async fn ensure_happened(
        self,
        manager: &impl ServiceManager,
        name: &UnitName,
        state: &UnitState,
    ) -> anyhow::Result<()> {
        ensure!(!state.unmet, "{name} was not started, since its conditions are not met");
        ensure!(!state.refuted, "{name} was not started, since its assertions are not met (Assert…=)");
        // systemd may have unloaded a unit that ended well, so its id is unknown.
        let is_known = state.invocation.is_some() || self.is_kept;
        if state.invocation != self.earlier || !is_known {
            return Ok(());
        }
        let needed = manager.linked_units(name, &["Requires", "Requisite", "BindsTo"]).await?;
        let missing = needed.iter().filter(|(_, state)| !is_up(state));
        let missing: Vec<String> =
            missing.map(|(unit, state)| format!("{unit} is {}", escape(state.as_bytes()))).collect();
        ensure!(
            missing.is_empty(),
            "{name} was not started, since it needs units that do not run: {} (Requires=)",
            join(missing.into_iter())
        );
        let status = manager.manager().systemctl(&format!("status {}", name.to_argument()));
        bail!("{name} was not started: systemd ended its job without a start (see {status})")
    }
}
