//! How a unit of this machine failed without a record: its manager's answer, and the last lines in the journal.

use super::context::Context;
use crate::cli::views::failure::FailureView;
use crate::diagnosis::diagnose_failure;
use crate::host::unit_settings::LoadedSettings;
use crate::incidents::{AccessPath, FailedAttempt, UnitFailure};
use crate::systemd::journal::JournalReader;
use crate::systemd::manager::UnitProperties;
use crate::units::{Manager, Unit};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use tokio::task::spawn_blocking;

/// How long before the end of a unit's process its last lines are, in microseconds.
const LAST_LINES_US: u64 = 30_000_000;

/// How long before the start of a unit its first process can log, in microseconds: systemd notes the start once it forked
/// the process (`service_enter_start` in `service.c`).
const BEFORE_START_US: u64 = 2_000_000;

/// Returns how a unit failed, if lines of its own can be the cause.
pub(crate) async fn find_unit_failure(
    context: &Context,
    unit: &Unit,
    settings: &LoadedSettings,
) -> Option<FailureView> {
    let (situation, properties) = settings.situation.as_ref().zip(settings.properties.as_ref())?;
    if !has_failed(properties) {
        return None;
    }
    let manager = context.managers.connect(unit.manager).await.ok()?;
    let exit = manager.main_exit(&unit.name).await.ok()?;
    let started = properties.inactive_exit_us.unwrap_or_default().saturating_sub(BEFORE_START_US);
    let since = started.max(exit.at_us.saturating_sub(LAST_LINES_US));
    let of_unit = unit.clone();
    let mut journal = JournalReader::default();
    let told = spawn_blocking(move || journal.unit_failure(&of_unit, since)).await;
    // Without a journal, the exit status remains.
    let mut failure: UnitFailure = told.ok().and_then(Result::ok).unwrap_or_default();
    failure.status = exit.status.or(failure.status);
    if unit.manager == Manager::System {
        failure.attempts.retain(|attempt| !is_missing_everywhere(attempt));
    }
    let found = diagnose_failure(&failure, &situation.policy)?;
    let mut view = FailureView::new(unit, &found, Path::new("/"));
    view.add_rights(unit.manager);
    Some(view)
}

/// Whether a unit failed, and was not started again since.
fn has_failed(properties: &UnitProperties) -> bool {
    properties.active_state == "failed" || properties.sub_state.starts_with("auto-restart")
}

/// Whether a program found none of its paths, and this machine has none of them either: no line hides them then.
fn is_missing_everywhere(attempt: &FailedAttempt) -> bool {
    let is_missing = |path: &AccessPath| {
        let path = Path::new(OsStr::from_bytes(path.as_bytes()));
        path.symlink_metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    };
    attempt.errno == libc::ENOENT && !attempt.paths.is_empty() && attempt.paths.iter().all(is_missing)
}
