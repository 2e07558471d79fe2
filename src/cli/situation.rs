//! A unit's settings, from its manager and its files.

use crate::diagnosis::Situation;
use crate::host::systemd::{Managers, SystemdError, UnitFacts};
use crate::host::unit_files::{self, Loaded};
use crate::policy::{Policy, SyscallFilter};
use crate::syscalls::{Abi, Groups};
use crate::units::{Manager, Unit};
use std::path::{Path, PathBuf};

/// The drop-in a remedy goes into: sorts behind nearly everything, and says whose it is.
pub(super) const DROP_IN: &str = "zz-harden-why.conf";

/// How many notes about files are shown.
const MOST_NOTES: usize = 8;

/// What could be learned of a unit.
#[derive(Debug)]
pub(super) struct Known {
    /// Its settings, where there are any to be read.
    pub(super) situation: Option<Situation>,
    /// What was odd.
    pub(super) notes: Vec<String>,
}

/// From the files below a root alone.
#[must_use]
pub(super) fn from_files(root: &Path, unit: &Unit, home: Option<&Path>, groups: &Groups) -> Known {
    let loaded = unit_files::load(root, unit, home);
    if loaded.files.fragment.is_none() && loaded.files.dropins.is_empty() {
        let mut notes = shown(&loaded);
        notes.push(format!("no files of {} are below {}", unit.name, super::answer::shown_path(root)));
        return Known { situation: None, notes };
    }
    let home = home.map_or_else(|| home_of(&loaded), Path::to_owned);
    known(loaded, unit, &home, groups, None)
}

/// From the unit's running manager and the files it names; from this machine's files where it does
/// not answer.
pub(super) async fn live(managers: &Managers, unit: &Unit, groups: &Groups) -> Known {
    let home = match unit.manager {
        Manager::System => PathBuf::new(),
        Manager::User(uid) => home_of_uid(uid),
    };
    let facts = match managers.of(unit.manager).await {
        Ok(manager) => manager.unit_facts(&unit.name).await,
        Err(error) => Err(error),
    };
    match facts {
        Ok(facts) => {
            let loaded = unit_files::load_listed(Path::new("/"), &unit.name, facts.fragment.as_deref(), &facts.dropins);
            known(loaded, unit, &home, groups, Some(&facts))
        }
        Err(SystemdError::NoSuchUnit(_)) => {
            let notes = vec![format!("{} does not exist any more, so its settings are not known", unit.name)];
            Known { situation: None, notes }
        }
        Err(error) => {
            let mut known = from_files(Path::new("/"), unit, Some(&home), groups);
            known.notes.push(format!("{error}; the answer rests on the unit's files alone"));
            known
        }
    }
}

/// What a unit's settings keep from being seen: calls refused with an error leave no record.
pub(super) fn silence(situation: &Situation) -> Option<String> {
    let names =
        super::answer::join(situation.policy.refusing().into_iter().map(|directive| format!("{}=", directive.key())));
    (!names.is_empty()).then(|| {
        format!(
            "the unit's {names} can refuse calls with an error, and of those systemd lets the kernel write no record: \
             they are not seen here"
        )
    })
}

fn known(loaded: Loaded, unit: &Unit, home: &Path, groups: &Groups, facts: Option<&UnitFacts>) -> Known {
    let mut notes = shown(&loaded);
    let mut policy = Policy::new(loaded.settings, Abi::native(), groups);
    if let Some(facts) = facts {
        if facts.need_daemon_reload {
            notes.push(
                "its files changed since systemd read them; the answer is about the files (systemctl daemon-reload)"
                    .to_owned(),
            );
        } else {
            policy = reconcile(policy, facts, groups, &mut notes);
        }
    }
    let drop_in = unit_files::dropin_path(unit, home, DROP_IN);
    Known { situation: Some(Situation { policy, drop_in }), notes }
}

/// Holds what the files say against what systemd says is in force.
fn reconcile(policy: Policy, facts: &UnitFacts, groups: &Groups, notes: &mut Vec<String>) -> Policy {
    let errno = facts.system_call_error_number.unwrap_or_default();
    let held = facts
        .system_call_filter
        .as_ref()
        .and_then(|list| SyscallFilter::from_manager(list.allow, &list.names, errno, groups));
    match (policy.filter.clone(), held) {
        (None, None) => policy,
        (ours, held) => {
            let both = ours.as_ref().zip(held.as_ref()).and_then(|(ours, held)| ours.reconciled(held));
            if both.is_none() {
                notes.push(
                    "systemd holds another SystemCallFilter= than the unit's files say; the answer is about what it holds"
                        .to_owned(),
                );
            }
            policy.in_force(both.or(held))
        }
    }
}

fn shown(loaded: &Loaded) -> Vec<String> {
    let mut notes: Vec<String> = loaded.notes().map(ToString::to_string).collect();
    if loaded.files.masked {
        notes.push("the unit is masked".to_owned());
    }
    if notes.len() > MOST_NOTES {
        let more = notes.len() - MOST_NOTES;
        notes.truncate(MOST_NOTES);
        notes.push(format!("and {more} notes more"));
    }
    notes
}

/// The home a user's unit was found below.
fn home_of(loaded: &Loaded) -> PathBuf {
    let first = loaded.files.fragment.iter().chain(&loaded.files.dropins).next();
    let home =
        first.and_then(|path| path.ancestors().find(|above| above.ends_with(".config") || above.ends_with(".local")));
    home.and_then(Path::parent).map_or_else(|| PathBuf::from("~"), Path::to_owned)
}

fn home_of_uid(uid: u32) -> PathBuf {
    let user = nix::unistd::User::from_uid(uid.into()).ok().flatten();
    user.map_or_else(|| PathBuf::from("~"), |user| user.dir)
}
