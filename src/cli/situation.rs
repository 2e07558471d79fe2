//! A unit's settings, from its manager and its files.

mod held;

pub(super) use held::not_understood;

use crate::diagnosis::{Change, History, Situation};
use crate::host::booted;
use crate::host::systemd::{Managers, SystemdError, UnitFacts};
use crate::host::unit_files::{self, Loaded};
use crate::policy::Policy;
use crate::syscalls::{Abi, Groups};
use crate::units::{Manager, Unit};
use held::{differing, reconcile};
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
    /// What its manager says of it, where that answered.
    pub(super) facts: Option<UnitFacts>,
    /// The files say what the manager holds, as far as both can be told.
    pub(super) agrees: bool,
}

impl Known {
    fn nothing(notes: Vec<String>) -> Self {
        Self { situation: None, notes, facts: None, agrees: false }
    }
}

/// From the files below a root alone.
#[must_use]
pub(super) fn from_files(root: &Path, unit: &Unit, home: Option<&Path>, groups: &Groups) -> Known {
    let loaded = unit_files::load(root, unit, home);
    if loaded.files.fragment.is_none() && loaded.files.dropins.is_empty() {
        let mut notes = shown(loaded.notes().map(ToString::to_string).collect(), loaded.files.masked);
        notes.push(format!("no files of {} are below {}", unit.name, super::answer::shown_path(root)));
        return Known::nothing(notes);
    }
    let home = home.map_or_else(|| home_of_files(&loaded), Path::to_owned);
    known(root, loaded, unit, &home, groups, None)
}

/// From the unit's running manager and the files it names; from this machine's files where it does
/// not answer.
pub(super) async fn live(managers: &Managers, unit: &Unit, groups: &Groups) -> Known {
    let home = home_of(unit.manager);
    let facts = match managers.of(unit.manager).await {
        Ok(manager) => manager.unit_facts(&unit.name).await,
        Err(error) => Err(error),
    };
    match facts {
        Ok(facts) => {
            let (root, fragment) = (Path::new("/"), facts.fragment.as_deref());
            let listed = || unit_files::load_listed(root, &unit.name, fragment, &facts.dropins);
            // Drop-ins may have come since that it does not list, or it lists them in a way that is not understood.
            let unlisted = facts.need_daemon_reload || !facts.odd.is_empty();
            let anew = unlisted.then(|| unit_files::load_anew(root, unit, &home, fragment));
            let loaded = anew.filter(|anew| anew.files.fragment.is_some()).unwrap_or_else(listed);
            known(Path::new("/"), loaded, unit, &home, groups, Some(facts))
        }
        Err(SystemdError::NoSuchUnit(_)) => {
            let notes = vec![format!("{} does not exist any more, so its settings are not known", unit.name)];
            Known::nothing(notes)
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

fn known(root: &Path, loaded: Loaded, unit: &Unit, home: &Path, groups: &Groups, facts: Option<UnitFacts>) -> Known {
    let (surroundings, odd) = unit_files::surroundings(root, unit.manager, Some(home));
    let mut policy = Policy::new(loaded.settings, Abi::native(), groups).amid(surroundings, groups);
    let all = loaded.files.notes.iter().chain(policy.notes()).chain(&odd).map(ToString::to_string).collect();
    let mut notes = shown(all, loaded.files.masked);
    let mut agrees = facts.is_some();
    if let Some(facts) = &facts {
        if !facts.odd.is_empty() {
            agrees = false;
            notes.push(format!("{}; the answer goes by the files", not_understood(facts)));
        } else if facts.need_daemon_reload {
            agrees = false;
            notes.push(
                "its files changed since systemd read them; the answer is about the files (systemctl daemon-reload)"
                    .to_owned(),
            );
        } else {
            let others = differing(&policy, facts);
            let (in_force, same) = reconcile(policy, facts, groups);
            policy = in_force;
            let names = (!same).then(|| "SystemCallFilter=".to_owned()).into_iter().chain(others);
            let names = super::answer::join(names);
            if !names.is_empty() {
                agrees = false;
                let whose =
                    if same { "the answer goes by the files" } else { "of its filter the answer is what it holds" };
                notes.push(format!("systemd holds another {names} than the unit's files say; {whose}"));
            }
        }
    }
    let drop_in = unit_files::dropin_path(unit, home, DROP_IN);
    let history = facts.as_ref().map(|facts| history(facts, unit_files::changes(root, unit, home, &loaded.files)));
    Known { situation: Some(Situation { policy, drop_in, history }), notes, facts, agrees }
}

fn history(facts: &UnitFacts, changes: Vec<Change>) -> History {
    History {
        changes,
        pending: facts.need_daemon_reload,
        started: facts.exec_main_start_us.and_then(|micros| i64::try_from(micros / 1000).ok()),
        booted: booted(),
        running: facts.is_running(),
    }
}

fn shown(mut notes: Vec<String>, masked: bool) -> Vec<String> {
    if masked {
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
fn home_of_files(loaded: &Loaded) -> PathBuf {
    let first = loaded.files.fragment.iter().chain(&loaded.files.dropins).next();
    let home =
        first.and_then(|path| path.ancestors().find(|above| above.ends_with(".config") || above.ends_with(".local")));
    home.and_then(Path::parent).map_or_else(|| PathBuf::from("~"), Path::to_owned)
}

/// The home below which a manager's own files are; empty for the system's.
pub(super) fn home_of(manager: Manager) -> PathBuf {
    let Manager::User(uid) = manager else { return PathBuf::new() };
    let user = nix::unistd::User::from_uid(uid.into()).ok().flatten();
    user.map_or_else(|| PathBuf::from("~"), |user| user.dir)
}
