//! A drop-in on trial: systemd reads it, and what it holds then is held against what was predicted. What does not
//! stand is taken back.

use super::drop_in::Undo;
use crate::audit::note;
use crate::audit::text::{join, shown_path};
use crate::diagnosis::{Diagnosis, Situation};
use crate::host::unit_settings;
use crate::operations::interruption::Interruption;
use crate::syscalls::{Abi, Groups};
use crate::systemd::manager::{Managers, SystemdError, SystemdManager};
use crate::units::Unit;
use anyhow::{Context as _, ensure};
use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// The calls that a remedy is for.
pub(crate) fn wanted(diagnosis: &Diagnosis) -> BTreeSet<(Abi, &str)> {
    let denials = diagnosis
        .findings
        .iter()
        .filter(|finding| finding.cause.is_by_unit())
        .filter_map(|finding| finding.incident.denial());
    denials.filter_map(|denial| Some((denial.call.abi()?, denial.call.name()?))).collect()
}

/// Has the manager read its files, and holds what it says then against what was predicted.
pub(crate) async fn confirm(
    managers: &Managers,
    manager: &SystemdManager,
    unit: &Unit,
    before: &Situation,
    diagnosis: &Diagnosis,
    written: &[u8],
    groups: &Groups,
) -> anyhow::Result<()> {
    manager.reload().await.context("systemd does not read its files again")?;
    let known = unit_settings::load(managers, unit, groups).await;
    let facts = known.properties.with_context(|| {
        format!("systemd does not tell the unit's settings any more: {}", note::join_texts(&known.notes))
    })?;
    ensure!(facts.unparsed.is_empty(), unit_settings::unparsed_text(&facts));
    ensure!(
        facts.dropins.iter().any(|path| is_same_file(path, &before.drop_in)),
        "systemd does not look for drop-ins in {}",
        shown_path(&before.drop_in)
    );
    let predicted = before.policy.with_dropin(&before.drop_in, written, groups);
    let now = known.situation.context("the unit's settings cannot be read any more")?.policy;
    ensure!(
        known.matches_manager,
        "systemd holds other settings than its files say: {}",
        note::join_texts(&known.notes)
    );
    for (abi, call) in wanted(diagnosis) {
        ensure!(
            now.verdict(abi, call) == predicted.verdict(abi, call),
            "systemd does not do with {call} what was predicted, so the remedy was no remedy"
        );
    }
    Ok(())
}

/// The same file, however its path is spelt.
pub(crate) fn is_same_file(one: &Path, other: &Path) -> bool {
    let identity = |path: &Path| std::fs::metadata(path).ok().map(|file| (file.dev(), file.ino()));
    one == other || identity(one).is_some_and(|one| Some(one) == identity(other))
}

/// Takes changes back for a reason, which is the error unless that fails as well. The files are put back at once; a
/// further interruption keeps from waiting until systemd has read its files again.
pub(crate) async fn taken_back(
    changes: Vec<Undo>,
    manager: &SystemdManager,
    why: anyhow::Error,
    interruption: &mut Interruption,
) -> anyhow::Error {
    let files = join(changes.iter().map(|change| shown_path(change.path())));
    let words = if changes.len() == 1 { "was put back as it was" } else { "were put back as they were" };
    let back = format!("{files} {words}");
    let undone: Vec<_> = changes.into_iter().map(Undo::undo).collect();
    if let Some(error) = undone.into_iter().find_map(Result::err) {
        return anyhow::Error::from(error).context(format!("{why:#}; and the change could not be taken back"));
    }
    // What it refused to read it need not read again.
    let refused = matches!(
        why.downcast_ref::<SystemdError>(),
        Some(SystemdError::Refused(_) | SystemdError::AccessDenied(_) | SystemdError::Unreachable { .. })
    );
    let read = if refused { Ok(()) } else { interruption.or(async { Ok(manager.reload().await?) }).await };
    match read {
        Ok(()) => why.context(back),
        Err(error) => error.context(format!(
            "{why:#}; {back}, but whether systemd has read its files again is not known: systemctl daemon-reload makes \
             sure"
        )),
    }
}
