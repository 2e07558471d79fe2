//! Confirms a drop-in: makes systemd reread its files and compares its settings with the prediction.

use super::change_error::ChangeError;
use super::drop_in::Undo;
use super::interruption::Interruption;
use super::local_machine::LocalMachine;
use super::reread::{RereadSettings, SettingsLayer, reread_with_drop_in};
use super::service_manager::{ServiceManager, ServiceManagers};
use crate::audit::text::{join, shown_path};
use crate::diagnosis::{Diagnosis, Situation, find_withholding};
use crate::incidents::{AccessDenial, name_access};
use crate::policy::{Directive, DirectiveCause, Policy};
use crate::syscalls::{Abi, Groups};
use crate::units::Unit;
use anyhow::{bail, ensure};
use std::collections::BTreeSet;
use std::path::Path;
use std::pin::pin;
use std::time::Duration;
use tokio::time::timeout;

/// How long to wait for a reload after a signal. The manager reloads even if nobody waits for its answer.
const AFTER_SIGNAL: Duration = Duration::from_secs(2);

/// The settings that systemd should hold after it reads a drop-in.
pub(crate) struct Prediction<'a> {
    /// The unit.
    pub(crate) unit: &'a Unit,
    /// Its settings before the change.
    pub(crate) before: &'a Situation,
    /// The denials that the drop-in should remedy.
    pub(crate) diagnosis: &'a Diagnosis,
    /// The path of the drop-in.
    pub(crate) path: &'a Path,
    /// The content of the drop-in.
    pub(crate) drop_in: &'a [u8],
}

/// Returns the calls that the unit's own settings denied.
pub(crate) fn denied_calls(diagnosis: &Diagnosis) -> BTreeSet<(Abi, &str)> {
    let denials = diagnosis
        .findings
        .iter()
        .filter(|finding| finding.cause.is_by_unit())
        .filter_map(|finding| finding.incident.denial());
    denials.filter_map(|denial| Some((denial.call.abi()?, denial.call.name()?))).collect()
}

/// Returns the accesses that the unit's own settings denied.
fn denied_accesses(diagnosis: &Diagnosis) -> impl Iterator<Item = &AccessDenial> {
    let denied = diagnosis.findings.iter().filter(|finding| finding.cause.is_by_unit());
    denied.filter_map(|finding| finding.incident.access())
}

/// Reloads the manager and compares the unit's settings with the prediction.
///
/// # Errors
/// The manager does not answer, or its settings differ from the prediction.
pub(crate) async fn confirm<M: ServiceManagers>(
    machine: LocalMachine<'_, M>,
    manager: &M::Connection,
    prediction: &Prediction<'_>,
    groups: &Groups,
) -> Result<(), ChangeError> {
    let (unit, written) = (prediction.unit, prediction.path);
    let reread = reread_with_drop_in(machine, manager, (unit, written), SettingsLayer::Own, groups).await?;
    Ok(compare(prediction, &reread, groups)?)
}

/// Compares a unit's settings with the prediction.
fn compare(prediction: &Prediction<'_>, reread: &RereadSettings, groups: &Groups) -> anyhow::Result<()> {
    let Prediction { before, diagnosis, path: written, drop_in, .. } = prediction;
    let RereadSettings { facts, policy: now } = reread;
    let predicted = before.policy.with_dropin(written, drop_in, groups);
    for (abi, call) in denied_calls(diagnosis) {
        ensure!(
            now.verdict(abi, call) == predicted.verdict(abi, call),
            "systemd's filter does not treat {call} as predicted, so the remedy would not help"
        );
    }
    let held = facts.policy(now.context().clone(), groups);
    for denial in denied_accesses(diagnosis).filter(|denial| find_withholding(denial, &predicted).is_empty()) {
        let withholding = find_still_withholding(denial, now, &held);
        if let Some(cause) = withholding {
            let (key, name) = (cause.directive.key(), name_access(&denial.access));
            bail!("systemd still holds a {key}= that withholds {name}, so the remedy would not help");
        }
    }
    Ok(())
}

/// Returns what still withholds an access, by a unit's files or by the values that its manager holds.
///
/// The values are without the commands, whose prefixes decide what `User=` means for capabilities (systemd.service(5)).
fn find_still_withholding(denial: &AccessDenial, files: &Policy, values: &Policy) -> Option<DirectiveCause> {
    let is_of_values = |cause: &DirectiveCause| !matches!(cause.directive, Directive::User | Directive::DynamicUser);
    let of_values = find_withholding(denial, values).into_iter().filter(is_of_values);
    find_withholding(denial, files).into_iter().chain(of_values).next()
}

/// Undoes changes because of an error. Returns that error, with what is left if the undoing fails as well.
///
/// Restores the files at once, and reloads a manager that may have read the changes. A further
/// signal only shortens the wait for the manager; the error then says how to make up for it.
pub(crate) async fn roll_back(
    changes: Vec<Undo>,
    manager: &impl ServiceManager,
    why: ChangeError,
    interruption: &mut Interruption,
) -> anyhow::Error {
    let (why, is_unread) = match why {
        ChangeError::Unread(why) => (why, true),
        ChangeError::MaybeRead(why) => (why, false),
    };
    let files = join(changes.iter().map(|change| shown_path(change.path())));
    let words = if changes.len() == 1 { "was put back as it was" } else { "were put back as they were" };
    let restored = format!("{files} {words}");
    let undone: Vec<_> = changes.into_iter().map(Undo::undo).collect();
    let failure = undone.into_iter().find_map(Result::err);
    let reloaded = if is_unread { Ok(()) } else { reload_despite_signals(manager, interruption).await };
    if let Some(error) = failure {
        return anyhow::Error::from(error).context(format!("{why:#}; and the change cannot be undone"));
    }
    match reloaded {
        Ok(()) => why.context(restored),
        Err(error) => error.context(format!(
            "{why:#}; {restored}, but systemd may not have reloaded its files: run {}",
            manager.manager().systemctl("daemon-reload")
        )),
    }
}

/// Reloads the manager. Signals come in pairs when a login session ends, so a signal does not cancel the reload.
async fn reload_despite_signals(manager: &impl ServiceManager, interruption: &mut Interruption) -> anyhow::Result<()> {
    let mut reload = pin!(manager.reload());
    let signal = tokio::select! {
        biased;
        reloaded = &mut reload => return Ok(reloaded?),
        signal = interruption.next() => signal,
    };
    timeout(AFTER_SIGNAL, reload).await.map_err(|_| anyhow::anyhow!("interrupted by {signal}"))??;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::incidents::Access;
    use crate::operations::fake_manager::{FakeMachine, Fault};
    use crate::policy::{Settings, UnitFile};
    use crate::syscalls::{Arch, Call};
    use crate::units::Manager;

    #[test]
    fn user_of_the_values_withholds_nothing_from_a_command_that_starts_as_root() {
        let policy = |lines: &str| {
            let file = UnitFile::parse(Path::new("a.service"), format!("[Service]\n{lines}").as_bytes());
            Policy::new(Settings::new(&"a.service".parse().unwrap(), Some(file), Vec::new()), &Groups::embedded())
        };
        let access = Access::from_parts("capability", b"", "CAP_SYS_TIME bounding").unwrap();
        let denial = AccessDenial { call: Call::named(Arch::native(), "clock_adjtime"), errno: libc::EPERM, access };
        let key = |files: &str, values: &str| {
            find_still_withholding(&denial, &policy(files), &policy(values)).map(|cause| cause.directive.key())
        };
        let (open, closed) = ("CapabilityBoundingSet=CAP_SYS_TIME\n", "CapabilityBoundingSet=~CAP_SYS_TIME\n");
        let user = "User=web\n";
        assert_eq!(key(&format!("{user}ExecStart=!/bin/x\n{open}"), &format!("{user}{open}")), None);
        assert_eq!(key(&format!("{user}ExecStart=/bin/x\n{open}"), &format!("{user}{open}")), Some("User"));
        assert_eq!(key(&format!("{user}ExecStart=!/bin/x\n{open}"), closed), Some("CapabilityBoundingSet"));
    }

    #[test]
    fn failed_reload_after_roll_back_names_the_command_of_the_manager() {
        for (manager, command) in
            [(Manager::System, "systemctl daemon-reload"), (Manager::User(4_242), "systemctl --user daemon-reload")]
        {
            let fake = FakeMachine::new(manager);
            let work = async {
                let connection = fake.machine().connect(manager).await.unwrap();
                fake.fail_at(0, Fault::Refused);
                roll_back(Vec::new(), &connection, anyhow::anyhow!("no").into(), &mut fake.interruption()).await
            };
            let error = format!("{:#}", fake.run(work).unwrap());
            assert!(error.contains(&format!("run {command}: ")), "{error}");
        }
    }
}
