//! A unit's settings, from its manager and its files.

pub(crate) mod compare_with_manager;

pub use compare_with_manager::not_understood;

use crate::audit::text::{escape, join};
use crate::diagnosis::{Change, History, Situation};
use crate::host::unit_settings;
use crate::kernel::clock::booted;
use crate::policy::ManagerContext;
use crate::policy::{Directive, Policy};
use crate::syscalls::{Abi, Groups};
use crate::systemd::manager::{Managers, SystemdError, UnitProperties};
use crate::unit_files;
use crate::unit_files::Loaded;
use crate::units::{Manager, Unit};
use compare_with_manager::{differing, reconcile};
use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// The drop-in a remedy goes into: sorts behind nearly everything, and says whose it is.
pub const DROP_IN: &str = "zz-harden-why.conf";

/// The drop-in of a rehearsal: behind nearly everything, that of a remedy included.
pub const REHEARSAL: &str = "zzzz-harden-why-rehearsal.conf";

/// How many notes about files are shown.
const MOST_NOTES: usize = 8;

/// What could be learned of a unit.
#[derive(Debug)]
pub struct Known {
    /// Its settings, where there are any to be read.
    pub situation: Option<Situation>,
    /// What was odd.
    pub notes: Vec<String>,
    /// What its manager says of it, where that answered.
    pub facts: Option<UnitProperties>,
    /// The files say what the manager holds, as far as both can be told.
    pub agrees: bool,
    /// Of which directives the manager holds something else than the answer goes by; `None` where it holds nothing, or
    /// nothing that can be compared.
    doubtful: Option<BTreeSet<Directive>>,
}

impl Known {
    fn nothing(notes: Vec<String>) -> Self {
        Self { situation: None, notes, facts: None, agrees: false, doubtful: None }
    }

    /// Whether the answer goes by what the manager holds of a directive.
    #[must_use]
    pub fn is_certain_of(&self, directive: Directive) -> bool {
        self.doubtful.as_ref().is_some_and(|doubtful| !doubtful.contains(&directive))
    }
}

/// From the files below a root alone.
#[must_use]
pub fn from_files(root: &Path, unit: &Unit, home: Option<&Path>, groups: &Groups) -> Known {
    let loaded = unit_files::load(root, unit, home);
    if loaded.files.fragment.is_none() && loaded.files.dropins.is_empty() {
        let mut notes = shown(loaded.notes().map(ToString::to_string).collect(), loaded.files.masked);
        notes.push(format!("no files of {} are below {}", unit.name, escape(root.as_os_str().as_bytes())));
        return Known::nothing(notes);
    }
    let home = home.map_or_else(|| home_of_files(&loaded), Path::to_owned);
    known(root, loaded, unit, &home, groups, None)
}

/// From the unit's running manager and the files it names; from this machine's files where it does
/// not answer. Of a unit that is being rehearsed, what it is told otherwise.
pub async fn live(managers: &Managers, unit: &Unit, groups: &Groups) -> Known {
    own(unit, as_it_is(managers, unit, groups).await, groups)
}

/// As [`live`], but of a unit that is being rehearsed what it is told meanwhile.
pub async fn as_it_is(managers: &Managers, unit: &Unit, groups: &Groups) -> Known {
    let home = home_of(unit.manager);
    let facts = match managers.connect(unit.manager).await {
        Ok(manager) => manager.unit_properties(&unit.name).await,
        Err(error) => Err(error),
    };
    match facts {
        Ok(facts) => as_held(unit, facts, &home, groups),
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

/// From what the unit's running manager told, and the files it named: those of this machine are read here.
#[must_use]
pub fn as_told(unit: &Unit, facts: UnitProperties, home: &Path, groups: &Groups) -> Known {
    own(unit, as_held(unit, facts, home, groups), groups)
}

/// What a unit is told when it is not rehearsed.
fn own(unit: &Unit, mut known: Known, groups: &Groups) -> Known {
    let is_rehearsal = |path: &Path| path.ends_with(REHEARSAL);
    let rehearsed = known.facts.as_ref().is_some_and(|facts| facts.dropins.iter().any(|path| is_rehearsal(path)));
    if let Some(situation) = known.situation.as_mut().filter(|_| rehearsed) {
        situation.policy = situation.policy.without_dropins(is_rehearsal, groups);
        known.notes.push(format!("{} is being rehearsed; the answer is about its own settings", unit.name));
    }
    known
}

fn as_held(unit: &Unit, facts: UnitProperties, home: &Path, groups: &Groups) -> Known {
    let (root, fragment) = (Path::new("/"), facts.fragment.as_deref());
    let listed = || unit_files::load_listed(root, &unit.name, fragment, &facts.dropins);
    // Drop-ins may have come since that it does not list, or it lists them in a way that is not understood.
    let unlisted = facts.need_daemon_reload || !facts.odd.is_empty();
    let anew = unlisted.then(|| unit_files::load_anew(root, unit, home, fragment));
    let loaded = anew.filter(|anew| anew.files.fragment.is_some()).unwrap_or_else(listed);
    known(root, loaded, unit, home, groups, Some(facts))
}

fn known(
    root: &Path,
    loaded: Loaded,
    unit: &Unit,
    home: &Path,
    groups: &Groups,
    facts: Option<UnitProperties>,
) -> Known {
    let (surroundings, odd) = unit_files::surroundings(root, unit.manager, Some(home));
    let mut policy = Policy::new(loaded.settings, Abi::native(), groups).with_context(surroundings, groups);
    let all = loaded.files.notes.iter().chain(policy.notes()).chain(&odd).map(ToString::to_string).collect();
    let mut notes = shown(all, loaded.files.masked);
    let mut agrees = facts.is_some();
    let mut doubtful = None;
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
            let names = (!same).then_some(Directive::SystemCallFilter).into_iter().chain(others.iter().copied());
            let names = join(names.map(|directive| format!("{}=", directive.key())));
            if !names.is_empty() {
                agrees = false;
                let whose =
                    if same { "the answer goes by the files" } else { "of its filter the answer is what it holds" };
                notes.push(format!("systemd holds another {names} than the unit's files say; {whose}"));
            }
            doubtful = Some(others.into_iter().collect());
        }
    }
    let drop_in = unit_files::dropin_path(unit, home, DROP_IN);
    let history = facts.as_ref().map(|facts| history(facts, unit_files::changes(root, unit, home, &loaded.files)));
    Known { situation: Some(Situation { policy, drop_in, history }), notes, facts, agrees, doubtful }
}

fn history(facts: &UnitProperties, changes: Vec<Change>) -> History {
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
#[must_use]
pub fn home_of(manager: Manager) -> PathBuf {
    let Manager::User(uid) = manager else { return PathBuf::new() };
    let user = nix::unistd::User::from_uid(uid.into()).ok().flatten();
    user.map_or_else(|| PathBuf::from("~"), |user| user.dir)
}

/// What surrounds the units of a manager.
pub(crate) fn surroundings(manager: Manager) -> ManagerContext {
    unit_files::surroundings(Path::new("/"), manager, Some(&unit_settings::home_of(manager))).0
}
