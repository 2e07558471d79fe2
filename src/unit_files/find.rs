//! Finds a unit's files and merges them as systemd does (`systemd.unit(5)`).

use super::names::{UnitNames, dropin_dirs};
use super::read_budget::ReadBudget;
use super::rooted::{RootedTree, is_dropin, unreadable};
use super::search::{home_dirs, search_path};
use crate::policy::{FileNote, Settings, UnitFile};
use crate::units::{Manager, Unit, UnitName};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// The limit of drop-ins of a unit, or of a manager's configuration.
pub(crate) const MOST_DROPINS: usize = 512;

/// The limit of drop-in names that a finder remembers.
const MOST_REMEMBERED: usize = 65_536;

/// The files that define a unit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnitFiles {
    /// The unit file; `None` for a unit that consists of drop-ins alone.
    pub fragment: Option<PathBuf>,
    /// The drop-ins, in merge order.
    pub dropins: Vec<PathBuf>,
    /// Whether the unit file is empty or a link to `/dev/null`, so that the unit cannot be started.
    pub masked: bool,
    /// The files and directories that cannot be read.
    pub notes: Vec<FileNote>,
}

/// A unit's files and the settings that they state.
#[derive(Debug, Clone)]
pub struct LoadedUnit {
    /// The merged settings.
    pub settings: Settings,
    /// The files that state the settings.
    pub files: UnitFiles,
}

impl LoadedUnit {
    fn read(tree: RootedTree<'_>, name: &UnitName, mut files: UnitFiles) -> Self {
        let (fragment, dropins) = files.parse(tree);
        Self { settings: Settings::new(name, fragment, dropins), files }
    }

    /// Returns the notes about unreadable files and about faulty lines.
    pub fn notes(&self) -> impl Iterator<Item = &FileNote> {
        self.files.notes.iter().chain(self.settings.notes())
    }
}

impl UnitFiles {
    fn new(tree: RootedTree<'_>, fragment: Option<&Path>, dropins: impl IntoIterator<Item = PathBuf>) -> Self {
        Self {
            fragment: fragment.map(Path::to_path_buf),
            dropins: dropins.into_iter().take(MOST_DROPINS).collect(),
            masked: fragment.is_some_and(|path| tree.read_start(path, 1).is_ok_and(|bytes| bytes.is_empty())),
            notes: Vec::new(),
        }
    }

    /// Parses the unit file and the drop-ins, and notes those that cannot be read.
    pub(crate) fn parse(&mut self, tree: RootedTree<'_>) -> (Option<UnitFile>, Vec<UnitFile>) {
        let notes = &mut self.notes;
        let mut parse = |path: &PathBuf| match tree.read(path) {
            Ok(bytes) => Some(UnitFile::parse(path, &bytes)),
            Err(error) => {
                notes.push(unreadable(path, &error));
                None
            }
        };
        let fragment = self.fragment.as_ref().and_then(&mut parse);
        (fragment, self.dropins.iter().filter_map(&mut parse).collect())
    }

    /// Does what [`UnitFiles::parse`] does, within a budget for many units; `None` once the budget is exhausted.
    pub(crate) fn parse_within(
        &mut self,
        tree: RootedTree<'_>,
        budget: &mut ReadBudget,
    ) -> Option<(Option<UnitFile>, Vec<UnitFile>)> {
        let (mut fragment, mut dropins) = (None, Vec::new());
        if let Some(path) = &self.fragment {
            match budget.take(tree, path)? {
                Ok(file) => fragment = Some(file),
                Err(note) => self.notes.push(note),
            }
        }
        for path in &self.dropins {
            match budget.take(tree, path)? {
                Ok(file) => dropins.push(file),
                Err(note) => self.notes.push(note),
            }
        }
        Some((fragment, dropins))
    }
}

/// The unit names below a search path, read once for any number of units.
pub(crate) struct UnitFinder<'a> {
    tree: RootedTree<'a>,
    /// The search path, without the directories that cannot be read.
    dirs: Vec<PathBuf>,
    names: UnitNames,
    notes: Vec<FileNote>,
    /// The drop-ins by directory: many units share the directories of their prefixes and type.
    listed: RefCell<HashMap<PathBuf, Rc<[String]>>>,
    remembered: Cell<usize>,
}

impl<'a> UnitFinder<'a> {
    /// Reads the directories of a search path, highest priority first, within a budget.
    pub(crate) fn new(tree: RootedTree<'a>, mut dirs: Vec<PathBuf>, budget: &mut ReadBudget) -> Self {
        let mut notes = Vec::new();
        let names = UnitNames::load(tree, &mut dirs, &mut notes, budget);
        Self { tree, dirs, names, notes, listed: RefCell::default(), remembered: Cell::default() }
    }

    /// Every unit name, templates and aliases included.
    pub(crate) fn names(&self) -> impl Iterator<Item = UnitName> {
        self.names.all().filter_map(|name| name.parse().ok())
    }

    /// Finds the files of one unit; `None` if the name is an alias.
    pub(crate) fn find_unaliased(&self, name: &UnitName) -> Option<UnitFiles> {
        let files = self.find(name.as_str());
        let file_name = files.fragment.as_ref().and_then(|path| path.file_name());
        file_name.is_some_and(|file| file == name.as_str()).then_some(files)
    }

    /// Lists the drop-ins in a directory. Reads the directory once.
    fn list_dropins(&self, dir: &Path) -> io::Result<Rc<[String]>> {
        if let Some(known) = self.listed.borrow().get(dir) {
            return Ok(known.clone());
        }
        let entries = self.tree.list(dir)?;
        let files: Rc<[String]> = entries.into_iter().map(|(file, _)| file).filter(|file| is_dropin(file)).collect();
        let mut listed = self.listed.borrow_mut();
        let remembered = self.remembered.get() + files.len() + 1;
        if remembered < MOST_REMEMBERED {
            self.remembered.set(remembered);
            listed.insert(dir.to_owned(), files.clone());
        }
        Ok(files)
    }

    /// Finds the files of one unit.
    pub(crate) fn find(&self, name: &str) -> UnitFiles {
        let mut notes = self.notes.clone();
        let mut dropins: BTreeMap<String, PathBuf> = BTreeMap::new();
        for dir in dropin_dirs(&self.names.aliases(name), &self.dirs) {
            match self.list_dropins(&dir) {
                Ok(files) => {
                    for file in files.iter() {
                        // If two files have the same name, the directory of higher priority decides.
                        dropins.entry(file.clone()).or_insert_with(|| dir.join(file));
                    }
                }
                Err(error) => notes.push(unreadable(&dir, &error)),
            }
        }
        if dropins.len() > MOST_DROPINS {
            let text = format!("{} drop-ins; only the first {MOST_DROPINS} are read", dropins.len());
            notes.push(FileNote::without_line(text));
        }
        UnitFiles { notes, ..UnitFiles::new(self.tree, self.names.fragment(name), dropins.into_values()) }
    }
}

/// Finds a unit's files. Without `home`, reads the home of a user's unit from the root's `/etc/passwd`. If the uid is
/// not in that file, the first home that has files of the unit counts.
#[must_use]
pub fn find(root: &Path, unit: &Unit, home: Option<&Path>) -> UnitFiles {
    let tree = RootedTree::new(root);
    let mut budget = ReadBudget::new(unit.manager);
    let mut find_in = |home: Option<&Path>| {
        UnitFinder::new(tree, search_path(unit.manager, home), &mut budget).find(unit.name.as_str())
    };
    let Manager::User(uid) = unit.manager else { return find_in(None) };
    let homes = home_dirs(tree, uid, home);
    let mut fallback = None;
    for home in &homes {
        let files = find_in(Some(home));
        let has_own_files = files.fragment.iter().chain(&files.dropins).any(|path| path.starts_with(home));
        if has_own_files || homes.len() == 1 {
            return files;
        }
        if files.fragment.is_some() {
            fallback = Some(files);
        }
    }
    fallback.unwrap_or_else(|| find_in(None))
}

/// Finds a unit's files and reads them.
#[must_use]
pub fn load(root: &Path, unit: &Unit, home: Option<&Path>) -> LoadedUnit {
    LoadedUnit::read(RootedTree::new(root), &unit.name, find(root, unit, home))
}

/// Finds and reads all files of a unit whose manager reports that they changed. `fragment` is the unit file that the
/// manager read. If its directory is not in the usual search path (`SYSTEMD_UNIT_PATH`), this searches that directory
/// first.
#[must_use]
pub fn load_changed(root: &Path, unit: &Unit, home: &Path, fragment: Option<&Path>) -> LoadedUnit {
    let tree = RootedTree::new(root);
    let home = matches!(unit.manager, Manager::User(_)).then_some(home);
    let mut dirs = search_path(unit.manager, home);
    let unusual_dir = fragment.and_then(Path::parent).filter(|dir| !dirs.iter().any(|usual| usual == dir));
    if let Some(dir) = unusual_dir {
        dirs.insert(0, dir.to_path_buf());
    }
    let finder = UnitFinder::new(tree, dirs, &mut ReadBudget::new(unit.manager));
    LoadedUnit::read(tree, &unit.name, finder.find(unit.name.as_str()))
}

/// Reads the files that the manager itself names: `FragmentPath`, and `DropInPaths` in merge order.
#[must_use]
pub fn load_listed(root: &Path, name: &UnitName, fragment: Option<&Path>, dropins: &[PathBuf]) -> LoadedUnit {
    let tree = RootedTree::new(root);
    LoadedUnit::read(tree, name, UnitFiles::new(tree, fragment, dropins.iter().cloned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Directive;
    use std::fs;
    use std::os::unix::fs::symlink;
    use tempfile::TempDir;

    /// A root with files (`path: values of SystemCallFilter=`) and links (`path -> target`).
    fn root(entries: &[&str]) -> TempDir {
        let dir = tempfile::tempdir().unwrap();
        for entry in entries {
            let (path, target) = entry.split_once(" -> ").unwrap_or((entry.split(':').next().unwrap(), ""));
            let path = dir.path().join(path.strip_prefix('/').unwrap());
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            match (target, entry.split_once(": ")) {
                ("", Some((_, value))) => fs::write(path, format!("[Service]\nSystemCallFilter={value}\n")).unwrap(),
                ("", None) => fs::write(path, "").unwrap(),
                (target, _) => symlink(target, path).unwrap(),
            }
        }
        dir
    }

    fn system(name: &str) -> Unit {
        Unit { manager: Manager::System, name: name.parse().unwrap() }
    }

    /// The values in merge order.
    fn values(entries: &[&str], unit: &str) -> String {
        let dir = root(entries);
        let loaded = load(dir.path(), &system(unit), None);
        let values: Vec<&str> = loaded.settings.lines(Directive::SystemCallFilter).map(|line| &*line.value).collect();
        values.join(" ")
    }

    #[test]
    fn unit_file_comes_from_directory_of_highest_priority() {
        assert_eq!(
            values(&["/usr/lib/systemd/system/x.service: usr", "/etc/systemd/system/x.service: etc"], "x.service"),
            "etc"
        );
    }

    #[test]
    fn dropins_merge_by_file_name_and_highest_directory_wins() {
        let entries = [
            "/usr/lib/systemd/system/x.service: main",
            "/usr/lib/systemd/system/x.service.d/20-b.conf: usr-b",
            "/usr/lib/systemd/system/x.service.d/50-d.conf: usr-d",
            "/etc/systemd/system/x.service.d/30-c.conf: etc-c",
            "/run/systemd/system/x.service.d/20-b.conf: run-b",
            "/etc/systemd/system/x.service.d/.hidden.conf: no",
            "/etc/systemd/system/x.service.d/README: no",
        ];
        assert_eq!(values(&entries, "x.service"), "main run-b etc-c usr-d");
    }

    #[test]
    fn unit_gets_dropins_of_its_template_prefixes_and_type() {
        let entries = [
            "/usr/lib/systemd/system/a-b@.service: main",
            "/etc/systemd/system/a-b@x.service.d/10.conf: instance",
            "/etc/systemd/system/a-b@.service.d/20.conf: template",
            "/etc/systemd/system/a-.service.d/30.conf: prefix",
            "/etc/systemd/system/service.d/40.conf: type",
            "/etc/systemd/system/service.d/10.conf: less-specific",
            "/etc/systemd/system/a-b@y.service.d/10.conf: other",
        ];
        assert_eq!(values(&entries, "a-b@x.service"), "main instance template prefix type");
    }

    #[test]
    fn alias_contributes_its_dropins() {
        let entries = [
            "/usr/lib/systemd/system/x.service: main",
            "/etc/systemd/system/alias.service -> /usr/lib/systemd/system/x.service",
            "/etc/systemd/system/alias.service.d/20.conf: alias",
            "/etc/systemd/system/x.service.d/10.conf: own",
        ];
        assert_eq!(values(&entries, "x.service"), "main own alias");
        assert_eq!(values(&entries, "alias.service"), "main own alias");
    }

    #[test]
    fn link_out_of_search_path_is_unit_file_inside_root() {
        let entries = ["/opt/x.service: linked", "/etc/systemd/system/x.service -> /opt/x.service"];
        assert_eq!(values(&entries, "x.service"), "linked");
        let entries = ["/etc/systemd/system/x.service -> ../../../../../../../../etc/hostname"];
        let loaded = load(root(&entries).path(), &system("x.service"), None);
        assert_eq!(loaded.notes().count(), 1, "nothing outside of the root was read");
    }

    #[test]
    fn alias_loop_ends_without_unit_file() {
        let entries = [
            "/etc/systemd/system/a.service -> b.service",
            "/etc/systemd/system/b.service -> a.service",
            "/etc/systemd/system/c.service -> c.service",
        ];
        for name in ["a.service", "b.service", "c.service"] {
            assert_eq!(find(root(&entries).path(), &system(name), None).fragment, None);
        }
    }

    #[test]
    fn empty_file_or_link_to_dev_null_masks_unit() {
        for mask in ["/etc/systemd/system/x.service -> /dev/null", "/etc/systemd/system/x.service"] {
            let dir = root(&["/usr/lib/systemd/system/x.service: main", mask]);
            let files = find(dir.path(), &system("x.service"), None);
            assert!(files.masked, "{mask}");
            assert_eq!(files.fragment.as_deref(), Some(Path::new("/etc/systemd/system/x.service")));
        }
    }

    #[test]
    fn masked_dropin_hides_dropin_of_lower_priority() {
        let entries = [
            "/usr/lib/systemd/system/x.service: main",
            "/usr/lib/systemd/system/x.service.d/10.conf: hidden",
            "/etc/systemd/system/x.service.d/10.conf -> /dev/null",
        ];
        assert_eq!(values(&entries, "x.service"), "main");
    }

    #[test]
    fn user_unit_is_found_in_home_that_has_it() {
        let dir = root(&[
            "/home/a/.config/systemd/user/other.service: other",
            "/home/b/.config/systemd/user/x.service: mine",
            "/etc/systemd/user/x.service.d/10.conf: all",
        ]);
        let unit = Unit { manager: Manager::User(1000), name: "x.service".parse().unwrap() };
        let files = find(dir.path(), &unit, None);
        assert_eq!(files.fragment.as_deref(), Some(Path::new("/home/b/.config/systemd/user/x.service")));
        assert_eq!(files.dropins, [Path::new("/etc/systemd/user/x.service.d/10.conf")]);
        fs::write(dir.path().join("etc/passwd"), "a:x:1000:1000::/home/a:/bin/sh\n").unwrap();
        assert_eq!(find(dir.path(), &unit, None).fragment, None, "not a's unit");
    }

    #[test]
    fn listed_files_are_read_in_listed_order() {
        let dir = root(&["/x.service: main", "/b.conf: b", "/a.conf: a"]);
        let name = "x.service".parse().unwrap();
        let dropins = ["/b.conf".into(), "/a.conf".into(), "/gone.conf".into()];
        let loaded = load_listed(dir.path(), &name, Some(Path::new("/x.service")), &dropins);
        let values: Vec<&str> = loaded.settings.lines(Directive::SystemCallFilter).map(|line| &*line.value).collect();
        assert_eq!(values, ["main", "b", "a"]);
        assert!(loaded.notes().any(|note| note.text.starts_with("cannot read /gone.conf")));
    }

    #[test]
    fn changed_unit_includes_dropins_that_manager_did_not_read() {
        let dir = root(&[
            "/opt/units/x.service: main",
            "/opt/units/x.service.d/b.conf: b",
            "/etc/systemd/system/x.service.d/a.conf: a",
        ]);
        let loaded =
            load_changed(dir.path(), &system("x.service"), Path::new(""), Some(Path::new("/opt/units/x.service")));
        let values: Vec<&str> = loaded.settings.lines(Directive::SystemCallFilter).map(|line| &*line.value).collect();
        assert_eq!(values, ["main", "a", "b"]);
        assert_eq!(load_changed(dir.path(), &system("x.service"), Path::new(""), None).files.fragment, None);
    }
}
