//! What people type for a unit: a name, a pattern, a PID, or the path of a unit file or an executable.

use super::incident_source::ManagerScope;
use super::similar_names::misspelt_suffix;
use super::unit_names::{UnitPattern, managers_to_ask, parse_unit_name};
use crate::audit::text::{escape_excerpt, join, shown_path};
use crate::cli::exit_status::{UnknownUnitError, UsageError};
use crate::host::unit_settings::home_dir;
use crate::kernel::procfs::Procfs;
use crate::operations::outcome::{NothingToDo, RequiresRoot};
use crate::operations::permission::ensure_may_change;
use crate::unit_files::find::UnitFinder;
use crate::unit_files::read_budget::ReadBudget;
use crate::unit_files::rooted::RootedTree;
use crate::unit_files::search::search_path;
use crate::unit_files::{CommandMatch, ExecutableIndex};
use crate::units::{Manager, Placement, Unit, UnitName, cgroup};
use anyhow::{Context as _, bail, ensure};
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// A unit that a person chose, and the managers that may have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ChosenUnit {
    pub(crate) name: UnitName,
    /// Those that the options select, or the one that the process or the path shows.
    pub(crate) managers: ManagerScope,
}

impl ChosenUnit {
    /// Finds the unit that a word stands for. Does not check that a unit of that name exists.
    ///
    /// # Errors
    /// The word is not a name, no unit belongs to the process or the path, several do, or it is none of a manager in
    /// `asked`.
    pub(crate) fn find(word: &str, asked: ManagerScope) -> anyhow::Result<Self> {
        if let Ok(pid) = word.parse() {
            return find_unit_of_process(pid, &Procfs::live())?.narrow(&format!("process {pid}"), asked);
        }
        if word.contains('/') {
            let found = find_unit_of_path(Path::new("/"), Path::new(word), &managers_to_ask(asked))?;
            return found.narrow(&escape_excerpt(word), asked);
        }
        let name = parse_unit_name(word)?;
        if let Some(meant) = misspelt_suffix(word)
            && !list_unit_files().contains(&name)
        {
            bail!(UnknownUnitError(format!("Unit {} not found. Did you mean {meant}?", escape_excerpt(word))));
        }
        Ok(Self { name, managers: asked })
    }

    /// Finds the units that words stand for. A pattern stands for all units that `list` returns and that match: those
    /// that have `what`.
    ///
    /// # Errors
    /// Those of [`Self::find`], a pattern matches no unit, or the list fails.
    pub(crate) async fn find_all(
        words: &[String],
        asked: ManagerScope,
        what: &str,
        list: impl AsyncFn() -> anyhow::Result<BTreeSet<UnitName>>,
    ) -> anyhow::Result<Vec<Self>> {
        let mut units: Vec<Self> = Vec::new();
        for word in words {
            let found = match UnitPattern::parse(word) {
                Ok(pattern @ UnitPattern::Glob(_)) => {
                    let matching = list().await?.into_iter().filter(|name| pattern.matches(name));
                    let matching: Vec<Self> = matching.map(|name| Self { name, managers: asked }).collect();
                    if matching.is_empty() {
                        let is_known = list_unit_files().iter().any(|name| pattern.matches(name));
                        ensure!(is_known, UnknownUnitError(format!("Units {pattern} not found.")));
                        bail!(NothingToDo(format!("No unit that matches {pattern} has {what}.")));
                    }
                    matching
                }
                _ => vec![Self::find(word, asked)?],
            };
            units.extend(found.into_iter().filter(|unit| !units.contains(unit)).collect::<Vec<_>>());
        }
        Ok(units)
    }

    /// Checks that the caller may change the unit if the system manager has it.
    ///
    /// # Errors
    /// The caller is not root, and no other manager can have the unit.
    pub(crate) fn ensure_root_if_system(&self, verb: &str) -> anyhow::Result<()> {
        let may_change = self.managers != ManagerScope::System || nix::unistd::geteuid().is_root();
        ensure!(may_change, RequiresRoot(format!("only root can {verb} {}, a unit of the system manager", self.name)));
        Ok(())
    }

    /// Checks that the caller may change the unit, if one manager alone can have it.
    ///
    /// # Errors
    /// Another user's manager has the unit.
    pub(crate) fn ensure_may_change(&self, verb: &str) -> anyhow::Result<()> {
        let ManagerScope::User(uid) = self.managers else { return Ok(()) };
        let unit = Unit { manager: Manager::User(uid), name: self.name.clone() };
        ensure_may_change(&unit, nix::unistd::geteuid().as_raw(), verb)
    }

    /// Narrows the managers to those in `asked`.
    fn narrow(self, shown: &str, asked: ManagerScope) -> anyhow::Result<Self> {
        let Self { name, managers } = self;
        let Some(both) = managers.intersect(asked) else {
            bail!(UsageError(format!("{shown} belongs to {name} of {managers}, not of {asked}")))
        };
        Ok(Self { name, managers: both })
    }
}

/// Lists the names of all unit files of the system manager and of the caller's own.
pub(crate) fn list_unit_files() -> BTreeSet<UnitName> {
    let mut names = BTreeSet::new();
    for manager in managers_to_ask(ManagerScope::All) {
        let home = home_dir(manager);
        let mut budget = ReadBudget::new(manager);
        let finder = UnitFinder::new(RootedTree::new(Path::new("/")), search_path(manager, Some(&home)), &mut budget);
        names.extend(finder.names());
    }
    names
}

fn find_unit_of_process(pid: u32, procfs: &Procfs) -> anyhow::Result<ChosenUnit> {
    let Some(cgroup) = procfs.cgroup(pid) else {
        bail!(UnknownUnitError(format!("Process {pid} not found. If it died, name its unit.")));
    };
    match cgroup::place(&cgroup) {
        Placement::Unit(unit) => Ok(ChosenUnit { name: unit.name, managers: unit.manager.into() }),
        Placement::None(_) => bail!(UnknownUnitError(format!("Unit of process {pid} not found."))),
    }
}

/// Finds the unit of a unit file, of a drop-in, or of an executable that one unit's commands run. `managers` are those
/// of the executables. Errors show the path as a person typed it.
fn find_unit_of_path(root: &Path, path: &Path, managers: &[Manager]) -> anyhow::Result<ChosenUnit> {
    let absolute = std::path::absolute(path)?;
    let typed = root.join(absolute.strip_prefix("/").unwrap_or(&absolute));
    let real = match fs::canonicalize(&typed) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            bail!(UnknownUnitError(format!("File {} not found.", shown_path(path))));
        }
        found => found.with_context(|| format!("cannot read {}", shown_path(path)))?,
    };
    // A link in the place of a unit file is an alias: the name as typed is the better one.
    if let Some((name, dir)) = split_unit_path(&typed).or_else(|| split_unit_path(&real)) {
        let Some(managers) = find_managers_of_dir(root, dir) else {
            bail!(UsageError(format!(
                "{} is below no directory of units: name the unit, or its file below /etc/systemd or another such \
                 directory (systemd.unit(5))",
                shown_path(path)
            )))
        };
        return Ok(ChosenUnit { name, managers });
    }
    find_unit_of_executable(root, path, &real, managers)
}

/// Splits the path of a unit file, of a link in `.wants` or `.requires`, or of a drop-in into the unit and the directory
/// of units.
fn split_unit_path(path: &Path) -> Option<(UnitName, &Path)> {
    let dir = path.parent()?;
    let dir_name = dir.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let as_name = |name: &str| name.parse::<UnitName>().ok();
    if let Some(name) = path.file_name().and_then(|name| name.to_str()).and_then(as_name) {
        let stem = [".wants", ".requires", ".upholds"].iter().find_map(|suffix| dir_name.strip_suffix(suffix));
        let is_link = stem.and_then(as_name).is_some();
        return Some((name, if is_link { dir.parent()? } else { dir }));
    }
    Some((dir_name.strip_suffix(".d").and_then(as_name)?, dir.parent()?))
}

/// Returns the managers that read units from a directory; `None` if there are none. Each user can place links in a home,
/// so the path as typed counts before the one to which its links lead.
fn find_managers_of_dir(root: &Path, dir: &Path) -> Option<ManagerScope> {
    let owners = dir.ancestors().filter_map(|part| Some(part.symlink_metadata().ok()?.uid()));
    let users: BTreeSet<u32> = owners.chain([nix::unistd::geteuid().as_raw()]).collect();
    let managers: Vec<Manager> = [Manager::System].into_iter().chain(users.into_iter().map(Manager::User)).collect();
    let find = |is_it: &dyn Fn(&Path) -> bool| {
        let has_dir = |manager: Manager, home: Option<&Path>| {
            search_path(manager, home).iter().any(|one| is_it(&root.join(one.strip_prefix("/").unwrap_or(one))))
        };
        let of = managers.iter().copied().find(|&manager| has_dir(manager, Some(&home_dir(manager))))?;
        // The directories that all users share belong to the manager of nobody, which has no home.
        let is_shared = of != Manager::System && has_dir(Manager::User(u32::MAX), None);
        Some(if is_shared { ManagerScope::Users } else { of.into() })
    };
    let real = fs::canonicalize(dir).ok();
    find(&|one| one == dir).or_else(|| find(&|one| real.is_some() && fs::canonicalize(one).ok() == real))
}

/// Finds the one unit of these managers that runs an executable.
fn find_unit_of_executable(root: &Path, path: &Path, real: &Path, managers: &[Manager]) -> anyhow::Result<ChosenUnit> {
    let inside = real.strip_prefix(root).map_or_else(|_| real.to_path_buf(), |inside| Path::new("/").join(inside));
    let mut found: Vec<(CommandMatch, UnitName, Manager)> = Vec::new();
    for &manager in managers {
        let home = home_dir(manager);
        let index = ExecutableIndex::load(root, manager, Some(&home));
        found.extend(index.candidates(&inside).into_iter().map(|candidate| (candidate.kind, candidate.unit, manager)));
    }
    let Some(best) = found.iter().map(|(kind, ..)| *kind).min() else {
        bail!(UnknownUnitError(format!("Unit that runs {} not found.", shown_path(path))));
    };
    found.retain(|(kind, ..)| *kind == best);
    let units: BTreeSet<UnitName> = found.iter().map(|(_, unit, _)| unit.clone()).collect();
    let of: BTreeSet<Manager> = found.into_iter().map(|(.., manager)| manager).collect();
    let mut units = units.into_iter();
    match (units.next(), units.next()) {
        (Some(name), None) => {
            let one = of.first().filter(|_| of.len() == 1);
            Ok(ChosenUnit { name, managers: one.map_or(ManagerScope::All, |manager| (*manager).into()) })
        }
        (first, second) => bail!(UsageError(format!(
            "several units run {}: name one of {}",
            shown_path(path),
            join(first.into_iter().chain(second).chain(units).map(|unit| unit.to_string()))
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        root
    }

    #[test]
    fn path_of_unit_file_drop_in_or_executable_leads_to_its_unit() {
        let root = root(&[
            ("etc/systemd/system/web.service", "[Service]\nExecStart=/usr/sbin/webd -f\n"),
            ("etc/systemd/system/web.service.d/50-hardening.conf", "[Service]\nSystemCallFilter=~socket\n"),
            ("etc/systemd/system/db.service", "[Service]\nExecStart=/usr/bin/sh -c 'exec /usr/bin/dbd'\n"),
            ("etc/systemd/system/one.service", "[Service]\nExecStart=/usr/bin/shared\n"),
            ("etc/systemd/system/two.service", "[Service]\nExecStart=/usr/bin/shared\n"),
            ("usr/sbin/webd", ""),
            ("usr/bin/dbd", ""),
            ("usr/bin/shared", ""),
            ("usr/bin/other", ""),
        ]);
        let find = |path: &str| {
            let found = find_unit_of_path(root.path(), Path::new(path), &[Manager::System]);
            found.map(|unit| format!("{} of {}", unit.name, unit.managers)).map_err(|error| error.to_string())
        };
        assert_eq!(find("/etc/systemd/system/web.service").as_deref(), Ok("web.service of the system manager"));
        assert_eq!(
            find("/etc/systemd/system/web.service.d/50-hardening.conf").as_deref(),
            Ok("web.service of the system manager")
        );
        assert_eq!(find("/usr/sbin/webd").as_deref(), Ok("web.service of the system manager"));
        assert_eq!(find("/usr/bin/dbd").as_deref(), Ok("db.service of the system manager"));
        assert_eq!(
            find("/usr/bin/shared").unwrap_err(),
            "several units run /usr/bin/shared: name one of one.service and two.service"
        );
        assert_eq!(find("/usr/bin/other").unwrap_err(), "Unit that runs /usr/bin/other not found.");
        assert_eq!(find("/usr/bin/nosuch").unwrap_err(), "File /usr/bin/nosuch not found.");
    }

    #[test]
    fn error_shows_the_path_as_it_was_typed() {
        let error = |word: &str| ChosenUnit::find(word, ManagerScope::All).unwrap_err();
        for word in ["../nosuch/../nosuch", "./nosuch.service", "/nosuch"] {
            assert_eq!(error(word).to_string(), format!("File {word} not found."));
            assert!(error(word).is::<UnknownUnitError>());
        }
        assert_eq!(error("src/lib.rs").to_string(), "Unit that runs src/lib.rs not found.");
        // The package's own unit is below no directory of units here.
        let word = "systemd/harden-whyd.service";
        assert!(error(word).to_string().starts_with("systemd/harden-whyd.service is below no directory of units"));
    }

    #[test]
    fn path_of_unit_file_shows_its_manager() {
        let own = nix::unistd::geteuid().as_raw();
        let config = home_dir(Manager::User(own)).join(".config/systemd/user");
        let config = config.strip_prefix("/").unwrap().to_str().unwrap();
        let (file, drop_in) = (format!("{config}/sshd.service"), format!("{config}/sshd.service.d/a.conf"));
        let wanted = "etc/systemd/system/multi-user.target.wants/sshd.service";
        let root = root(&[
            (&file, ""),
            (&drop_in, ""),
            ("usr/lib/systemd/user/sshd.service", ""),
            ("usr/lib/systemd/system/sshd.service", ""),
            (wanted, ""),
            ("tmp/sshd.service", ""),
            ("tmp/sshd.service.d/a.conf", ""),
        ]);
        std::os::unix::fs::symlink(root.path().join("usr/lib"), root.path().join("lib")).unwrap();
        let find = |path: &str| {
            let found = find_unit_of_path(root.path(), Path::new(path), &[Manager::System]);
            found.map(|unit| {
                assert_eq!(unit.name.as_str(), "sshd.service");
                unit.managers
            })
        };
        for path in [&file, &drop_in] {
            assert_eq!(find(&format!("/{path}")).unwrap(), ManagerScope::User(own), "{path}");
        }
        assert_eq!(find("/usr/lib/systemd/user/sshd.service").unwrap(), ManagerScope::Users);
        for path in ["usr/lib/systemd/system/sshd.service", "lib/systemd/system/sshd.service", wanted] {
            assert_eq!(find(&format!("/{path}")).unwrap(), ManagerScope::System, "{path}");
        }
        for path in ["/tmp/sshd.service", "/tmp/sshd.service.d/a.conf"] {
            let error = find(path).unwrap_err();
            assert!(error.is::<UsageError>() && error.to_string().contains("is below no directory of units"));
        }
    }

    #[test]
    fn link_in_place_of_users_unit_directory_does_not_lead_to_system_unit() {
        let own = nix::unistd::geteuid().as_raw();
        let root = root(&[("etc/systemd/system/sshd.service", "")]);
        let config = home_dir(Manager::User(own)).join(".config/systemd");
        let inside = root.path().join(config.strip_prefix("/").unwrap());
        fs::create_dir_all(&inside).unwrap();
        std::os::unix::fs::symlink(root.path().join("etc/systemd/system"), inside.join("user")).unwrap();
        let found = find_unit_of_path(root.path(), &config.join("user/sshd.service"), &[Manager::System]).unwrap();
        assert_eq!(found.managers, ManagerScope::User(own));
    }

    #[test]
    fn process_of_user_unit_with_name_of_system_unit_stays_with_its_user() {
        let path = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/sshd.service\n";
        let root = root(&[("7/cgroup", path)]);
        let found = find_unit_of_process(7, &Procfs::new(root.path())).unwrap();
        assert_eq!((found.name.as_str(), found.managers), ("sshd.service", ManagerScope::User(1_000)));
        let narrow = |asked| found.clone().narrow("process 7", asked);
        for asked in [ManagerScope::All, ManagerScope::Users, ManagerScope::User(1_000)] {
            assert_eq!(narrow(asked).unwrap().managers, ManagerScope::User(1_000), "{asked}");
        }
        let of_user = "process 7 belongs to sshd.service of the user manager of uid 1000";
        for asked in [ManagerScope::System, ManagerScope::User(0)] {
            let error = narrow(asked).unwrap_err();
            assert!(error.is::<UsageError>(), "{asked}");
            assert_eq!(error.to_string(), format!("{of_user}, not of {asked}"));
        }
    }

    #[test]
    fn unit_of_another_user_may_not_be_changed() {
        let of = |managers| ChosenUnit { name: "sshd.service".parse().unwrap(), managers };
        let own = nix::unistd::geteuid().as_raw();
        for managers in [ManagerScope::All, ManagerScope::System, ManagerScope::User(own)] {
            assert!(of(managers).ensure_may_change("apply").is_ok(), "{managers}");
        }
        let error = of(ManagerScope::User(own + 1)).ensure_may_change("apply").unwrap_err().to_string();
        assert!(error.contains(&format!("belongs to the user manager of uid {}", own + 1)), "{error}");
    }

    #[test]
    fn pid_leads_to_the_unit_of_its_cgroup() {
        let root = root(&[
            ("7/cgroup", "0::/system.slice/web.service/child\n"),
            ("8/cgroup", "0::/user.slice/user-1000.slice/session-1.scope\n"),
        ]);
        let find = |pid| find_unit_of_process(pid, &Procfs::new(root.path())).map_err(|error| error.to_string());
        let system = ChosenUnit { name: "web.service".parse().unwrap(), managers: ManagerScope::System };
        assert_eq!(find(7).unwrap(), system);
        assert_eq!(find(8).unwrap_err(), "Unit of process 8 not found.");
        assert!(find(9).unwrap_err().starts_with("Process 9 not found."));
    }

    #[tokio::test]
    async fn pattern_stands_for_every_listed_unit_that_matches() {
        let list =
            async || Ok(["web-a.service", "web-b.service", "db.service"].map(|name| name.parse().unwrap()).into());
        let find = async |words: &[&str]| {
            let words: Vec<String> = words.iter().map(ToString::to_string).collect();
            let units = ChosenUnit::find_all(&words, ManagerScope::All, "denials", list).await;
            let units = units.map_err(|error| error.to_string())?;
            Ok::<_, String>(units.iter().map(|unit| unit.name.to_string()).collect::<Vec<_>>())
        };
        assert_eq!(find(&["web*", "db", "web-a"]).await.unwrap(), ["web-a.service", "web-b.service", "db.service"]);
        assert_eq!(find(&["mail*"]).await.unwrap_err(), "Units mail*.service not found.");
        assert!(find(&["a b"]).await.unwrap_err().contains("is not a unit name"));
    }
}
