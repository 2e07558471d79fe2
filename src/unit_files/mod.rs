//! A unit's files, found and read as systemd finds and merges them (`systemd.unit(5)`).
//!
//! Every function takes a root: `/` for this machine, a directory for a scenario. Paths given and
//! returned are those inside the root.

pub(crate) mod changes;
pub(crate) mod executables;
pub(crate) mod manager_conf;
pub(crate) mod names;
pub(crate) mod regular_file;
pub(crate) mod rooted;
pub(crate) mod search;
pub(crate) mod service_user;

pub use changes::changes;
pub use executables::{Candidate, Executables, Match};
pub use manager_conf::{seccomp_logging, surroundings};

use crate::audit::text::escape;
use crate::policy::{FileNote, Settings, UnitFile};
use crate::units::{Manager, Unit, UnitName};
use names::{Names, dropin_dirs};
use rooted::Tree;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// A unit's further drop-ins are not read.
const MOST_DROPINS: usize = 512;

/// Where a unit is defined.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnitFiles {
    /// The unit file, if any; a unit can consist of drop-ins alone.
    pub fragment: Option<PathBuf>,
    /// In merge order.
    pub dropins: Vec<PathBuf>,
    /// Whether the unit file is a link to `/dev/null` or empty: the unit cannot be started.
    pub masked: bool,
    /// What could not be read.
    pub notes: Vec<FileNote>,
}

/// A unit's files and what they say.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What they say.
    pub settings: Settings,
    /// Which they are.
    pub files: UnitFiles,
}

impl Loaded {
    /// Everything odd about the finding and the reading.
    pub fn notes(&self) -> impl Iterator<Item = &FileNote> {
        self.files.notes.iter().chain(self.settings.notes())
    }
}

/// Finds a unit's files. For a user's unit without `home` the user's home is looked up in the root's
/// `/etc/passwd`; a uid unknown there means the first home that has files of the unit.
#[must_use]
pub fn find(root: &Path, unit: &Unit, home: Option<&Path>) -> UnitFiles {
    let tree = Tree::new(root);
    let Manager::User(uid) = unit.manager else { return find_in(tree, unit, None) };
    let homes = search::homes(tree, uid, home);
    let mut fallback = None;
    for home in &homes {
        let files = find_in(tree, unit, Some(home));
        let own = files.fragment.iter().chain(&files.dropins).any(|path| path.starts_with(home));
        if own || homes.len() == 1 {
            return files;
        }
        if files.fragment.is_some() {
            fallback = Some(files);
        }
    }
    fallback.unwrap_or_else(|| find_in(tree, unit, None))
}

fn find_in(tree: Tree<'_>, unit: &Unit, home: Option<&Path>) -> UnitFiles {
    let mut search = search::path(unit.manager, home);
    let mut notes = Vec::new();
    let names = Names::read(tree, &mut search, &mut notes);
    find_among(tree, &names, &search, unit.name.as_str(), notes)
}

fn find_among(tree: Tree<'_>, names: &Names, search: &[PathBuf], name: &str, notes: Vec<FileNote>) -> UnitFiles {
    let mut files = UnitFiles { fragment: names.fragment(name).map(Path::to_path_buf), notes, ..UnitFiles::default() };
    files.masked = files.fragment.as_deref().is_some_and(|path| tree.read(path).is_ok_and(|bytes| bytes.is_empty()));
    let mut found: BTreeMap<OsString, PathBuf> = BTreeMap::new();
    for dir in dropin_dirs(&names.of(name), search) {
        match tree.list(&dir) {
            Ok(entries) => {
                for (file, _) in entries.into_iter().filter(|(file, _)| is_dropin(file)) {
                    // The directory of higher priority came first.
                    found.entry(file.clone().into()).or_insert_with(|| dir.join(file));
                }
            }
            Err(error) => files.notes.push(unreadable(&dir, &error)),
        }
    }
    if found.len() > MOST_DROPINS {
        let text = format!("{} drop-ins, those after the first {MOST_DROPINS} are not read", found.len());
        files.notes.push(FileNote { origin: None, text });
    }
    files.dropins = found.into_values().take(MOST_DROPINS).collect();
    files
}

/// Hidden files do not count.
fn is_dropin(file: &str) -> bool {
    file.strip_suffix(".conf").is_some() && !file.starts_with('.')
}

/// Finds a unit's files and reads them.
#[must_use]
pub fn load(root: &Path, unit: &Unit, home: Option<&Path>) -> Loaded {
    read(Tree::new(root), &unit.name, find(root, unit, home))
}

/// Finds and reads a unit's files anew where the manager says that they are not what it read. The directory of the
/// unit file it did read is searched first, if it is none of the usual ones (`SYSTEMD_UNIT_PATH`).
#[must_use]
pub fn load_changed(root: &Path, unit: &Unit, home: &Path, read_before: Option<&Path>) -> Loaded {
    let tree = Tree::new(root);
    let home = matches!(unit.manager, Manager::User(_)).then_some(home);
    let mut search = search::path(unit.manager, home);
    let other = read_before.and_then(Path::parent).filter(|dir| !search.iter().any(|usual| usual == dir));
    if let Some(dir) = other {
        search.insert(0, dir.to_path_buf());
    }
    let mut notes = Vec::new();
    let names = Names::read(tree, &mut search, &mut notes);
    read(tree, &unit.name, find_among(tree, &names, &search, unit.name.as_str(), notes))
}

/// Reads the files the manager itself says it read: `FragmentPath` and `DropInPaths`, whose order is
/// the merge order.
#[must_use]
pub fn load_listed(root: &Path, name: &UnitName, fragment: Option<&Path>, dropins: &[PathBuf]) -> Loaded {
    let tree = Tree::new(root);
    let mut files = UnitFiles {
        fragment: fragment.map(Path::to_path_buf),
        dropins: dropins.iter().take(MOST_DROPINS).cloned().collect(),
        ..UnitFiles::default()
    };
    files.masked = fragment.is_some_and(|path| tree.read(path).is_ok_and(|bytes| bytes.is_empty()));
    read(tree, name, files)
}

fn read(tree: Tree<'_>, name: &UnitName, mut files: UnitFiles) -> Loaded {
    let (fragment, dropins) = parse(tree, &mut files);
    Loaded { settings: Settings::new(name, fragment, dropins), files }
}

/// The unit file and the drop-ins, those of them that can be read.
fn parse(tree: Tree<'_>, files: &mut UnitFiles) -> (Option<UnitFile>, Vec<UnitFile>) {
    let mut notes = Vec::new();
    let mut parse = |path: &PathBuf| match tree.read(path) {
        Ok(bytes) => Some(UnitFile::parse(path, &bytes)),
        Err(error) => {
            notes.push(unreadable(path, &error));
            None
        }
    };
    let fragment = files.fragment.as_ref().and_then(&mut parse);
    let dropins = files.dropins.iter().filter_map(&mut parse).collect();
    files.notes.append(&mut notes);
    (fragment, dropins)
}

/// Where a new drop-in that survives a reboot belongs; for a user's unit below the home.
#[must_use]
pub fn dropin_path(unit: &Unit, home: &Path, file_name: &str) -> PathBuf {
    let dir = match unit.manager {
        Manager::System => PathBuf::from("/etc/systemd/system"),
        Manager::User(_) => home.join(".config/systemd/user"),
    };
    below(&dir, unit, file_name)
}

/// Where a new drop-in belongs that is gone after the next boot.
#[must_use]
pub fn runtime_dropin_path(unit: &Unit, file_name: &str) -> PathBuf {
    below(&runtime_dir(unit.manager), unit, file_name)
}

/// Where a manager looks for units and drop-ins that are gone after the next boot.
#[must_use]
pub fn runtime_dir(manager: Manager) -> PathBuf {
    match manager {
        Manager::System => PathBuf::from("/run/systemd/system"),
        Manager::User(uid) => PathBuf::from(format!("/run/user/{uid}/systemd/user")),
    }
}

fn below(dir: &Path, unit: &Unit, file_name: &str) -> PathBuf {
    dir.join(format!("{}.d", unit.name)).join(file_name)
}

fn unreadable(path: &Path, error: &io::Error) -> FileNote {
    FileNote { origin: None, text: format!("cannot read {}: {error}", escape(path.as_os_str().as_bytes())) }
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
    fn the_highest_directory_has_the_unit_file() {
        assert_eq!(
            values(&["/usr/lib/systemd/system/x.service: usr", "/etc/systemd/system/x.service: etc"], "x.service"),
            "etc"
        );
    }

    #[test]
    fn dropins_merge_by_file_name_and_the_highest_directory_wins() {
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
    fn dropins_come_from_templates_prefixes_and_the_type() {
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
    fn an_alias_brings_its_dropins() {
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
    fn a_link_out_of_the_search_path_is_a_unit_file_and_stays_in_the_root() {
        let entries = ["/opt/x.service: linked", "/etc/systemd/system/x.service -> /opt/x.service"];
        assert_eq!(values(&entries, "x.service"), "linked");
        let entries = ["/etc/systemd/system/x.service -> ../../../../../../../../etc/hostname"];
        let loaded = load(root(&entries).path(), &system("x.service"), None);
        assert_eq!(loaded.notes().count(), 1, "nothing outside of the root was read");
    }

    #[test]
    fn alias_loops_end() {
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
    fn a_link_to_dev_null_or_an_empty_file_masks() {
        for mask in ["/etc/systemd/system/x.service -> /dev/null", "/etc/systemd/system/x.service"] {
            let dir = root(&["/usr/lib/systemd/system/x.service: main", mask]);
            let files = find(dir.path(), &system("x.service"), None);
            assert!(files.masked, "{mask}");
            assert_eq!(files.fragment.as_deref(), Some(Path::new("/etc/systemd/system/x.service")));
        }
    }

    #[test]
    fn a_masked_dropin_hides_the_one_below() {
        let entries = [
            "/usr/lib/systemd/system/x.service: main",
            "/usr/lib/systemd/system/x.service.d/10.conf: hidden",
            "/etc/systemd/system/x.service.d/10.conf -> /dev/null",
        ];
        assert_eq!(values(&entries, "x.service"), "main");
    }

    #[test]
    fn a_users_unit_is_found_in_the_home_that_has_it() {
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
    fn what_the_manager_lists_is_read_in_its_order() {
        let dir = root(&["/x.service: main", "/b.conf: b", "/a.conf: a"]);
        let name = "x.service".parse().unwrap();
        let dropins = ["/b.conf".into(), "/a.conf".into(), "/gone.conf".into()];
        let loaded = load_listed(dir.path(), &name, Some(Path::new("/x.service")), &dropins);
        let values: Vec<&str> = loaded.settings.lines(Directive::SystemCallFilter).map(|line| &*line.value).collect();
        assert_eq!(values, ["main", "b", "a"]);
        assert!(loaded.notes().any(|note| note.text.starts_with("cannot read /gone.conf")));
    }

    #[test]
    fn files_that_came_after_the_manager_read_are_found() {
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

    #[test]
    fn a_new_dropin_goes_where_it_survives_a_reboot() {
        let user = Unit { manager: Manager::User(1000), name: "x.service".parse().unwrap() };
        assert_eq!(
            dropin_path(&system("x.service"), Path::new("/root"), "50-a.conf"),
            Path::new("/etc/systemd/system/x.service.d/50-a.conf")
        );
        assert_eq!(
            dropin_path(&user, Path::new("/home/a"), "50-a.conf"),
            Path::new("/home/a/.config/systemd/user/x.service.d/50-a.conf")
        );
    }

    #[test]
    fn an_executable_leads_to_the_units_that_name_it() {
        let dir = root(&[
            "/bin -> usr/bin",
            "/usr/bin/foo: program",
            "/usr/lib/systemd/system/a.service: x\nExecStart=-/bin/foo --bar",
            "/usr/lib/systemd/system/b.service: x\nExecStart=/bin/sh -c 'exec foo; true'",
            "/usr/lib/systemd/system/c.service: x\nExecStart=foo",
            "/usr/lib/systemd/system/d@.service: x\nExecStart=/usr/bin/%i",
            "/usr/lib/systemd/system/e.service: x\nExecStart=/usr/bin/foobar food",
            "/usr/lib/systemd/system/f.service: x\nExecStart=install -d -o foo /usr/bin/foo",
            "/usr/lib/systemd/system/g.service: x\nExecStart=/bin/sh -c 'echo foo'",
            "/etc/systemd/system/alias.service -> /usr/lib/systemd/system/a.service",
        ]);
        let found: Vec<String> = Executables::read(dir.path(), Manager::System, None)
            .of(Path::new("/usr/bin/foo"))
            .into_iter()
            .map(|candidate| format!("{} {:?}", candidate.unit, candidate.kind))
            .collect();
        assert_eq!(found, ["a.service Program", "c.service Program", "b.service Launched"]);
    }
}
