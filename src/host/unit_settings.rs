//! A unit's settings, read from its service manager and from its files.

pub(crate) mod compare_with_manager;

pub(crate) use compare_with_manager::describe_unparsed;

use crate::audit::Note;
use crate::audit::note::{UNKNOWN_CALL, UNKNOWN_GROUP, put_root_causes_first};
use crate::audit::text::escape;
use crate::diagnosis::{FileChange, History, Situation};
use crate::kernel::clock::{boot_time_millis, now_millis};
use crate::policy::{Directive, FileNote, LineFault, ManagerContext, Policy};
use crate::syscalls::Groups;
use crate::systemd::manager::{Managers, SystemdError, UnitProperties};
use crate::unit_files;
use crate::unit_files::LoadedUnit;
use crate::unit_files::rooted::RootedTree;
use crate::units::{Manager, Unit};
use compare_with_manager::{Comparison, compare};
use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// The file name of a remedy's drop-in. `zz` sorts it after nearly every other drop-in.
pub(crate) const REMEDY_DROP_IN: &str = "zz-harden-why.conf";

/// The file name of a rehearsal's drop-in. It sorts after a remedy's.
pub(crate) const REHEARSAL_DROP_IN: &str = "zzzz-harden-why-rehearsal.conf";

/// The line of such a drop-in that a bisection wrote.
pub(crate) const BISECTION_LINE: &str = "# Activity: bisection";

/// The limit of notes about files; the rest are only counted.
const MOST_NOTES: usize = 8;

/// A unit's settings, and how reliable they are.
#[derive(Debug)]
pub(crate) struct LoadedSettings {
    /// The settings as input of a diagnosis; `None` if no settings were readable.
    pub situation: Option<Situation>,
    /// Caveats for the reader.
    pub notes: Vec<Note>,
    /// The unit's properties in its manager, if the manager answered.
    pub properties: Option<UnitProperties>,
    /// Whether the manager knows no such unit, and finds no file for one.
    pub is_gone: bool,
    /// Whether the manager holds the settings that the files state, as far as the two can be compared.
    pub matches_manager: bool,
    /// The directives whose value in the manager differs from the value in the answer; `None` without a comparison.
    uncertain: Option<BTreeSet<Directive>>,
}

impl LoadedSettings {
    fn empty(notes: Vec<Note>) -> Self {
        Self { situation: None, notes, properties: None, is_gone: false, matches_manager: false, uncertain: None }
    }

    /// Whether the answer uses the manager's value of a directive.
    #[must_use]
    pub(crate) fn is_certain_of(&self, directive: Directive) -> bool {
        self.uncertain.as_ref().is_some_and(|uncertain| !uncertain.contains(&directive))
    }
}

/// Whether a unit has a file or a drop-in below a root.
#[must_use]
pub(crate) fn has_files(root: &Path, unit: &Unit) -> bool {
    let files = unit_files::load(root, unit, None).files;
    files.masked || files.fragment.is_some() || !files.dropins.is_empty()
}

/// Reads the settings from the files below a root, without a manager. Leaves out the drop-in of a running rehearsal.
#[must_use]
pub(crate) fn from_files(root: &Path, unit: &Unit, home: Option<&Path>, groups: &Groups) -> LoadedSettings {
    without_rehearsal_below(root, unit, from_all_files(root, unit, home, groups), groups)
}

/// Like [`from_files`], but includes the drop-in of a running rehearsal.
fn from_all_files(root: &Path, unit: &Unit, home: Option<&Path>, groups: &Groups) -> LoadedSettings {
    let loaded = unit_files::load(root, unit, home);
    if loaded.files.fragment.is_none() && loaded.files.dropins.is_empty() {
        let mut notes = file_notes(loaded.notes(), loaded.files.masked);
        let text = format!("{} has no files below {}", unit.name, escape(root.as_os_str().as_bytes()));
        notes.push(Note::new("no-unit-files", text));
        return LoadedSettings::empty(notes);
    }
    let has_fragment = loaded.files.fragment.is_some();
    let home = home.map_or_else(|| home_of_files(&loaded), Path::to_owned);
    let mut settings = from_loaded_files(root, loaded, unit, &home, groups, None);
    if !has_fragment {
        let root = escape(root.as_os_str().as_bytes());
        let text = format!("{root} has drop-ins of {} but no unit file: the answer lacks its settings", unit.name);
        settings.notes.push(Note::new("no-unit-file", text));
    }
    settings
}

/// Asks the unit's manager and reads the files that it names. If the manager does not answer, reads this machine's
/// files. Leaves out the drop-in of a running rehearsal.
pub(crate) async fn load(managers: &Managers, unit: &Unit, groups: &Groups) -> LoadedSettings {
    without_rehearsal(unit, load_in_force(managers, unit, groups).await, groups)
}

/// Like [`load`], but includes the drop-in of a running rehearsal.
pub(crate) async fn load_in_force(managers: &Managers, unit: &Unit, groups: &Groups) -> LoadedSettings {
    if unit.name.is_template() {
        // A manager loads only its instances.
        return from_all_files(Path::new("/"), unit, Some(&home_dir(unit.manager)), groups);
    }
    let properties = match managers.connect(unit.manager).await {
        Ok(manager) => manager.unit_properties(&unit.name).await,
        Err(error) => Err(error),
    };
    from_answer(unit, properties, groups)
}

/// Reads the settings in force from the manager's answer. If the answer is an error, reads this machine's files.
pub(crate) fn from_answer(
    unit: &Unit,
    answer: Result<UnitProperties, SystemdError>,
    groups: &Groups,
) -> LoadedSettings {
    let home = home_dir(unit.manager);
    match answer {
        Ok(properties) => with_properties(unit, properties, &home, groups),
        Err(SystemdError::NoSuchUnit(_)) => {
            let text = format!("{} no longer exists, so its settings are unknown", unit.name);
            LoadedSettings { is_gone: true, ..LoadedSettings::empty(vec![Note::new("unit-gone", text)]) }
        }
        Err(error) => {
            let mut settings = from_all_files(Path::new("/"), unit, Some(&home), groups);
            let text = format!("{error}; the answer follows the unit's files alone");
            settings.notes.push(Note::new("manager-unavailable", text));
            settings
        }
    }
}

/// Reads the files on this machine that the manager's properties name. Leaves out the drop-in of a running rehearsal.
#[must_use]
pub(crate) fn from_properties(unit: &Unit, properties: UnitProperties, home: &Path, groups: &Groups) -> LoadedSettings {
    without_rehearsal(unit, with_properties(unit, properties, home, groups), groups)
}

/// Leaves out the drop-in of a running rehearsal.
pub(crate) fn without_rehearsal(unit: &Unit, settings: LoadedSettings, groups: &Groups) -> LoadedSettings {
    without_rehearsal_below(Path::new("/"), unit, settings, groups)
}

/// Leaves out the drop-in of a running rehearsal below a root.
fn without_rehearsal_below(root: &Path, unit: &Unit, mut settings: LoadedSettings, groups: &Groups) -> LoadedSettings {
    let Some(path) = find_rehearsal(&settings) else { return settings };
    if let Some(situation) = &mut settings.situation {
        situation.policy = situation.policy.without_dropins(is_rehearsal, groups);
    }
    let drop_in = RootedTree::new(root).read(&path).unwrap_or_default();
    let is_bisection = drop_in.split(|byte| *byte == b'\n').any(|line| line == BISECTION_LINE.as_bytes());
    let done = if is_bisection { "bisected" } else { "rehearsed" };
    let text = format!("{} is being {done}; the answer is for its own settings", unit.name);
    settings.notes.push(Note::new("unit-rehearsed", text));
    settings
}

/// Returns the drop-in of a running rehearsal. The manager may not answer, or not have loaded the drop-in yet.
fn find_rehearsal(settings: &LoadedSettings) -> Option<PathBuf> {
    let policy = &settings.situation.as_ref()?.policy;
    let listed = settings.properties.iter().flat_map(|properties| &properties.dropins).map(PathBuf::as_path);
    let mut paths = listed.chain(policy.settings.assignments().map(|line| &*line.origin.path));
    paths.find(|path| is_rehearsal(path)).map(Path::to_owned)
}

fn is_rehearsal(path: &Path) -> bool {
    path.ends_with(REHEARSAL_DROP_IN)
}

fn with_properties(unit: &Unit, properties: UnitProperties, home: &Path, groups: &Groups) -> LoadedSettings {
    let (root, fragment) = (Path::new("/"), properties.fragment.as_deref());
    let from_list = || unit_files::load_listed(root, &unit.name, fragment, &properties.dropins);
    // The manager does not list drop-ins that are newer than its last reload. The list can also be unparsed.
    let is_list_stale = properties.need_daemon_reload || !properties.unparsed.is_empty();
    let searched = is_list_stale.then(|| unit_files::load_changed(root, unit, home, fragment));
    let loaded = searched.filter(|searched| searched.files.fragment.is_some()).unwrap_or_else(from_list);
    from_loaded_files(root, loaded, unit, home, groups, Some(properties))
}

fn from_loaded_files(
    root: &Path,
    loaded: LoadedUnit,
    unit: &Unit,
    home: &Path,
    groups: &Groups,
    properties: Option<UnitProperties>,
) -> LoadedSettings {
    let (surroundings, manager_notes) = unit_files::load_manager_context(root, unit.manager, Some(home));
    let policy = Policy::new(loaded.settings, groups).with_context(surroundings, groups);
    let all_notes = loaded.files.notes.iter().chain(policy.notes()).chain(&manager_notes);
    let mut notes = file_notes(all_notes, loaded.files.masked);
    let comparison = match &properties {
        Some(properties) => compare(policy, properties, unit.manager, groups),
        None => Comparison { policy, note: None, uncertain: None },
    };
    let matches_manager = properties.is_some() && comparison.note.is_none();
    notes.extend(comparison.note);
    let owner = unit_files::drop_in_owner(unit, loaded.files.fragment.as_deref());
    let drop_in = unit_files::dropin_path(&owner, home, REMEDY_DROP_IN);
    let changes = || unit_files::changes(root, unit, home, &loaded.files);
    let history = properties.as_ref().map(|properties| build_history(properties, changes()));
    let situation = Situation { policy: comparison.policy, drop_in, history, programs: Vec::new() };
    LoadedSettings {
        situation: Some(situation),
        notes,
        properties,
        is_gone: false,
        matches_manager,
        uncertain: comparison.uncertain,
    }
}

fn build_history(properties: &UnitProperties, mut changes: Vec<FileChange>) -> History {
    // A time in the future means that the clock was wrong. No denial would ever be newer.
    let now = now_millis();
    changes.retain(|change| change.at <= now);
    let millis = |micros: Option<u64>| micros.and_then(|micros| i64::try_from(micros / 1000).ok());
    History {
        changes,
        pending: properties.need_daemon_reload,
        loaded: millis(properties.units_loaded_us),
        started: millis(properties.exec_main_start_us),
        activated: millis(properties.inactive_exit_us),
        booted: boot_time_millis(),
        running: properties.is_running(),
    }
}

/// Returns notes about a unit's files: the first few in full, the rest as a number.
fn file_notes<'a>(notes: impl Iterator<Item = &'a FileNote>, is_masked: bool) -> Vec<Note> {
    let id = |note: &FileNote| match note.fault {
        LineFault::Other => "unit-file",
        LineFault::UnknownGroup => UNKNOWN_GROUP,
        LineFault::MistypedCall => UNKNOWN_CALL,
    };
    let mut notes: Vec<Note> = notes.map(|note| Note::new(id(note), note.to_string())).collect();
    put_root_causes_first(&mut notes);
    if is_masked {
        notes.push(Note::new("unit-masked", "the unit is masked"));
    }
    if notes.len() > MOST_NOTES {
        let more = notes.len() - MOST_NOTES;
        notes.truncate(MOST_NOTES);
        notes.push(Note::new("more-notes", format!("and {more} more notes")));
    }
    notes
}

/// The home directory that contains a user's unit files.
fn home_of_files(loaded: &LoadedUnit) -> PathBuf {
    let first = loaded.files.fragment.iter().chain(&loaded.files.dropins).next();
    let home =
        first.and_then(|path| path.ancestors().find(|above| above.ends_with(".config") || above.ends_with(".local")));
    home.and_then(Path::parent).map_or_else(|| PathBuf::from("~"), Path::to_owned)
}

/// The home directory of a manager's user; empty for the system manager.
#[must_use]
pub(crate) fn home_dir(manager: Manager) -> PathBuf {
    let Manager::User(uid) = manager else { return PathBuf::new() };
    let user = nix::unistd::User::from_uid(uid.into()).ok().flatten();
    user.map_or_else(|| PathBuf::from("~"), |user| user.dir)
}

/// Loads the settings that a manager passes to all its units.
pub(crate) fn load_manager_context(manager: Manager) -> ManagerContext {
    unit_files::load_manager_context(Path::new("/"), manager, Some(&home_dir(manager))).0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rehearsal_drop_in_counts_for_no_answer_from_files() {
        let root = tempfile::tempdir().unwrap();
        let unit = Unit { manager: Manager::System, name: "a.service".parse().unwrap() };
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("etc/systemd/system/a.service", "[Service]\nSystemCallFilter=read\n");
        let filter = |settings: &LoadedSettings| {
            let policy = &settings.situation.as_ref().unwrap().policy;
            policy.settings.lines(Directive::SystemCallFilter).map(|line| line.value.to_string()).collect::<Vec<_>>()
        };
        let load = || from_files(root.path(), &unit, None, &Groups::embedded());
        assert!(load().notes.is_empty());
        let drop_in = format!("run/systemd/system/a.service.d/{REHEARSAL_DROP_IN}");
        write(&drop_in, "[Service]\nSystemCallFilter=\nSystemCallFilter=write\n");
        let settings = load();
        assert_eq!(filter(&settings), ["read"]);
        assert!(settings.notes.iter().any(|note| note.id == "unit-rehearsed"), "{:?}", settings.notes);
    }
}
