//! What people type for a unit: a name, a pattern, a PID, or the path of a unit file or an executable.

use super::similar_names::misspelt_suffix;
use super::unit_names::{UnitPattern, parse_unit_name, require_instance};
use crate::audit::text::{escape_excerpt, join, shown_path};
use crate::cli::args::ChosenUnits;
use crate::cli::exit_status::{UnknownUnitError, UsageError};
use crate::host::unit_settings::home_dir;
use crate::kernel::procfs::Procfs;
use crate::operations::outcome::NothingToDo;
use crate::unit_files::find::UnitFinder;
use crate::unit_files::rooted::RootedTree;
use crate::unit_files::search::search_path;
use crate::unit_files::{CommandMatch, ExecutableIndex};
use crate::units::{Manager, Placement, UnitName, cgroup};
use anyhow::{Context as _, bail, ensure};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// A unit that a person chose, and the manager.
#[derive(Debug, Clone)]
pub(crate) struct ChosenUnit {
    pub(crate) name: UnitName,
    /// Whether `--system` is given.
    pub(crate) system: bool,
    /// Whether `--user` is given.
    pub(crate) user: bool,
}

impl ChosenUnit {
    /// Finds the units that the words of a verb stand for; see [`find_unit_names`].
    ///
    /// # Errors
    /// Those of [`find_unit_names`].
    pub(crate) async fn find_all(
        chosen: &ChosenUnits,
        what: &str,
        list: impl AsyncFn() -> anyhow::Result<BTreeSet<UnitName>>,
    ) -> anyhow::Result<Vec<Self>> {
        let names = find_unit_names(&chosen.units, what, list).await?;
        Ok(names.into_iter().map(|name| Self { name, system: chosen.system, user: chosen.user }).collect())
    }
}

/// Finds the unit that a word stands for. Does not check that a unit of that name exists.
///
/// # Errors
/// The word is not a name, no unit belongs to the process or the path, or several do.
pub(crate) fn find_unit_name(word: &str) -> anyhow::Result<UnitName> {
    if let Ok(pid) = word.parse() {
        return find_unit_of_process(pid, &Procfs::live());
    }
    if word.contains('/') {
        return find_unit_of_path(Path::new("/"), Path::new(word), &own_managers());
    }
    let name = parse_unit_name(word)?;
    if let Some(meant) = misspelt_suffix(word)
        && !list_unit_files().contains(&name)
    {
        bail!(UnknownUnitError(format!("Unit {} not found. Did you mean {meant}?", escape_excerpt(word))));
    }
    Ok(name)
}

/// Finds the unit of a word as [`find_unit_name`] does.
///
/// # Errors
/// Those of [`find_unit_name`], or the word names a template: only its instances run.
pub(crate) fn find_instance_name(word: &str) -> anyhow::Result<UnitName> {
    require_instance(find_unit_name(word)?)
}

/// Finds the units that words stand for. A pattern stands for all units that `list` returns and that match: those that
/// have `what`.
///
/// # Errors
/// Those of [`find_unit_name`], a pattern matches no unit, or the list fails.
pub(crate) async fn find_unit_names(
    words: &[String],
    what: &str,
    list: impl AsyncFn() -> anyhow::Result<BTreeSet<UnitName>>,
) -> anyhow::Result<Vec<UnitName>> {
    let mut names: Vec<UnitName> = Vec::new();
    for word in words {
        let found = match UnitPattern::parse(word) {
            Ok(pattern @ UnitPattern::Glob(_)) => {
                let matching: Vec<UnitName> = list().await?.into_iter().filter(|name| pattern.matches(name)).collect();
                if matching.is_empty() {
                    let is_known = list_unit_files().iter().any(|name| pattern.matches(name));
                    ensure!(is_known, UnknownUnitError(format!("Units {pattern} not found.")));
                    bail!(NothingToDo(format!("No unit that matches {pattern} has {what}.")));
                }
                matching
            }
            _ => vec![find_unit_name(word)?],
        };
        names.extend(found.into_iter().filter(|name| !names.contains(name)).collect::<Vec<_>>());
    }
    Ok(names)
}

/// Lists the names of all unit files of the system manager and of the caller's own.
pub(crate) fn list_unit_files() -> BTreeSet<UnitName> {
    let mut names = BTreeSet::new();
    for manager in own_managers() {
        let home = home_dir(manager);
        let finder = UnitFinder::new(RootedTree::new(Path::new("/")), search_path(manager, Some(&home)));
        names.extend(finder.names().filter_map(|name| name.parse::<UnitName>().ok()));
    }
    names
}

fn own_managers() -> [Manager; 2] {
    [Manager::System, Manager::User(nix::unistd::geteuid().as_raw())]
}

fn find_unit_of_process(pid: u32, procfs: &Procfs) -> anyhow::Result<UnitName> {
    let Some(cgroup) = procfs.cgroup(pid) else {
        bail!(UnknownUnitError(format!("Process {pid} not found. If it died, name its unit.")));
    };
    match cgroup::place(&cgroup) {
        Placement::Unit(unit) => Ok(unit.name),
        Placement::None(_) => bail!(UnknownUnitError(format!("Unit of process {pid} not found."))),
    }
}

/// Finds the unit of a unit file, of a drop-in, or of an executable that one unit's commands run.
fn find_unit_of_path(root: &Path, path: &Path, managers: &[Manager]) -> anyhow::Result<UnitName> {
    let real = fs::canonicalize(root.join(path.strip_prefix("/").unwrap_or(path)));
    let real = real.with_context(|| format!("cannot find {}", shown_path(path)))?;
    let as_name = |path: &Path| path.file_name()?.to_str()?.parse::<UnitName>().ok();
    // A link in the place of a unit file is an alias: the name as typed is the better one.
    if let Some(name) = as_name(path).or_else(|| as_name(&real)) {
        return Ok(name);
    }
    let drop_in_dir = real.parent().and_then(Path::file_name).and_then(|dir| dir.to_str());
    if let Some(Ok(name)) = drop_in_dir.and_then(|dir| dir.strip_suffix(".d")).map(str::parse) {
        return Ok(name);
    }
    let inside = real.strip_prefix(root).map_or_else(|_| real.clone(), |inside| Path::new("/").join(inside));
    let mut found: Vec<(CommandMatch, UnitName)> = Vec::new();
    for &manager in managers {
        let home = home_dir(manager);
        let index = ExecutableIndex::load(root, manager, Some(&home));
        found.extend(index.candidates(&inside).into_iter().map(|candidate| (candidate.kind, candidate.unit)));
    }
    let Some(best) = found.iter().map(|(kind, _)| *kind).min() else {
        bail!(UnknownUnitError(format!("Unit that runs {} not found.", shown_path(path))));
    };
    let units: BTreeSet<UnitName> = found.into_iter().filter(|(kind, _)| *kind == best).map(|(_, unit)| unit).collect();
    let mut units = units.into_iter();
    match (units.next(), units.next()) {
        (Some(one), None) => Ok(one),
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
            found.map(|name| name.to_string()).map_err(|error| error.to_string())
        };
        assert_eq!(find("/etc/systemd/system/web.service").as_deref(), Ok("web.service"));
        assert_eq!(find("/etc/systemd/system/web.service.d/50-hardening.conf").as_deref(), Ok("web.service"));
        assert_eq!(find("/usr/sbin/webd").as_deref(), Ok("web.service"));
        assert_eq!(find("/usr/bin/dbd").as_deref(), Ok("db.service"));
        assert_eq!(
            find("/usr/bin/shared").unwrap_err(),
            "several units run /usr/bin/shared: name one of one.service and two.service"
        );
        assert_eq!(find("/usr/bin/other").unwrap_err(), "Unit that runs /usr/bin/other not found.");
        assert_eq!(find("/usr/bin/nosuch").unwrap_err(), "cannot find /usr/bin/nosuch");
    }

    #[test]
    fn pid_leads_to_the_unit_of_its_cgroup() {
        let root = root(&[
            ("7/cgroup", "0::/system.slice/web.service/child\n"),
            ("8/cgroup", "0::/user.slice/user-1000.slice/session-1.scope\n"),
        ]);
        let find = |pid| find_unit_of_process(pid, &Procfs::new(root.path())).map_err(|error| error.to_string());
        assert_eq!(find(7).unwrap().as_str(), "web.service");
        assert_eq!(find(8).unwrap_err(), "Unit of process 8 not found.");
        assert!(find(9).unwrap_err().starts_with("Process 9 not found."));
    }

    #[tokio::test]
    async fn pattern_stands_for_every_listed_unit_that_matches() {
        let list =
            async || Ok(["web-a.service", "web-b.service", "db.service"].map(|name| name.parse().unwrap()).into());
        let find = async |words: &[&str]| {
            let words: Vec<String> = words.iter().map(ToString::to_string).collect();
            let names = find_unit_names(&words, "denials", list).await.map_err(|error| error.to_string())?;
            Ok::<_, String>(names.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert_eq!(find(&["web*", "db", "web-a"]).await.unwrap(), ["web-a.service", "web-b.service", "db.service"]);
        assert_eq!(find(&["mail*"]).await.unwrap_err(), "Units mail*.service not found.");
        assert!(find(&["a b"]).await.unwrap_err().contains("is not a unit name"));
    }
}
