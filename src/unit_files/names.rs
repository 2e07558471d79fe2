//! Finds the file that defines a unit name, the unit's other names, and the directories of its drop-ins. Knows
//! templates, aliases and masks (systemd's `unit-file.c`).

use super::read_budget::ReadBudget;
use super::rooted::{EntryKind, RootedTree, unreadable};
use crate::policy::FileNote;
use crate::units::UnitName;
use crate::units::name::NameParts;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The longest accepted chain of aliases (`FOLLOW_MAX`).
const MOST_ALIASES: usize = 8;

/// The unit types that may have aliases.
const MAY_ALIAS: [&str; 6] = ["service", "socket", "target", "device", "timer", "path"];

/// The target of a unit name in the search path.
#[derive(Debug, Clone, PartialEq, Eq)]
enum NameTarget {
    /// A file of that name, or a link to a file outside the search path.
    File(PathBuf),
    /// Another unit name.
    Alias(String),
}

/// The unit names in a search path, and the file of each.
#[derive(Debug)]
pub(crate) struct UnitNames {
    targets: BTreeMap<String, NameTarget>,
}

impl UnitNames {
    /// Reads the directories of a search path, highest priority first. Notes unreadable directories and removes them
    /// from `dirs`. Each link counts against the budget; once it is exhausted, further links are left out with a note.
    pub(crate) fn load(
        tree: RootedTree<'_>,
        dirs: &mut Vec<PathBuf>,
        notes: &mut Vec<FileNote>,
        budget: &mut ReadBudget,
    ) -> Self {
        let real: Vec<PathBuf> = dirs.iter().filter_map(|dir| tree.resolve(dir).ok()).collect();
        let mut targets = BTreeMap::new();
        dirs.retain(|dir| {
            let entries = match tree.list(dir) {
                Ok(entries) => entries,
                Err(error) => {
                    notes.push(unreadable(dir, &error));
                    return false;
                }
            };
            for (name, kind) in entries {
                if split_name(&name).is_none() || targets.contains_key(&name) {
                    continue;
                }
                let target = match kind {
                    EntryKind::File => Some(NameTarget::File(dir.join(&name))),
                    EntryKind::Link if budget.start_merge() => classify_link(tree, dir, &name, &real),
                    EntryKind::Link | EntryKind::Other => None,
                };
                if let Some(target) = target {
                    targets.insert(name, target);
                }
            }
            true
        });
        if budget.is_exhausted() {
            notes.push(FileNote::without_line("too many unit files: some links are not read".to_owned()));
        }
        Self { targets }
    }

    /// Every name, templates included.
    pub(crate) fn all(&self) -> impl Iterator<Item = &str> {
        self.targets.keys().map(String::as_str)
    }

    /// The file at the end of a name's chain of aliases.
    fn file(&self, name: &str) -> Option<&Path> {
        let mut name = name.to_owned();
        for hop in 0..=MOST_ALIASES {
            let target = self.targets.get(&name).or_else(|| {
                // An alias may point to an instance of a template.
                (hop > 0).then(|| self.targets.get(&template(&name)?)).flatten()
            })?;
            match target {
                NameTarget::File(path) => return Some(path),
                NameTarget::Alias(other) => name.clone_from(other),
            }
        }
        None
    }

    /// The file that defines a unit.
    pub(crate) fn fragment(&self, name: &str) -> Option<&Path> {
        self.file(name).or_else(|| self.file(&template(name)?))
    }

    /// The names of a unit: first the name of its file, then the others.
    pub(crate) fn aliases(&self, name: &str) -> Vec<String> {
        let instance = split_name(name).and_then(|parts| parts.instance).filter(|instance| !instance.is_empty());
        let instantiated = |name: &str| match instance {
            Some(instance) => with_instance(name, instance),
            None => name.to_owned(),
        };
        let fragment = self.fragment(name);
        let Some(main) = fragment.and_then(|path| path.file_name()?.to_str()) else { return vec![name.to_owned()] };
        let mut names = vec![instantiated(main)];
        let mut seen: BTreeSet<String> = names.iter().cloned().collect();
        let aliases = self.targets.keys().filter(|alias| self.file(alias) == fragment).map(|alias| instantiated(alias));
        for other in aliases.chain([name.to_owned()]) {
            let is_template = split_name(&other).is_some_and(|parts| parts.instance == Some(""));
            if !is_template
                && self.fragment(&other) == fragment
                && has_instance(&other, instance)
                && seen.insert(other.clone())
            {
                names.push(other);
            }
        }
        names
    }
}

/// Whether a name fits this unit's instance. An alias with another instance belongs to another unit.
fn has_instance(name: &str, instance: Option<&str>) -> bool {
    match split_name(name).and_then(|parts| parts.instance) {
        None | Some("") => true,
        Some(other) => instance.is_none_or(|instance| instance == other),
    }
}

/// Classifies a link in the search path. A link to a name in the search path is an alias; any other link is a unit file
/// or a mask.
fn classify_link(tree: RootedTree<'_>, dir: &Path, name: &str, real: &[PathBuf]) -> Option<NameTarget> {
    let target = dir.join(tree.read_link(&dir.join(name)).ok()??);
    let parent = tree.resolve(target.parent()?).ok()?;
    if !real.contains(&parent) {
        return Some(NameTarget::File(dir.join(name)));
    }
    let other = target.file_name()?.to_str()?;
    may_alias(name, other).then(|| NameTarget::Alias(other.to_owned()))
}

fn may_alias(name: &str, other: &str) -> bool {
    let (Some(this), Some(that)) = (split_name(name), split_name(other)) else { return false };
    let kinds = match (this.instance, that.instance) {
        (None, None) | (Some(_), Some("")) => true,
        (Some(this), Some(that)) => this == that,
        _ => false,
    };
    name != other && this.suffix == that.suffix && MAY_ALIAS.contains(&this.suffix) && kinds
}

/// The parts of a valid name.
fn split_name(name: &str) -> Option<NameParts<'_>> {
    name.parse::<UnitName>().ok().map(|_| NameParts::split(name))
}

/// The template's name of an instance.
fn template(name: &str) -> Option<String> {
    split_name(name)?.template()
}

/// Inserts an instance into a template's name; any other name stays.
fn with_instance(name: &str, instance: &str) -> String {
    match split_name(name) {
        Some(NameParts { prefix, instance: Some(""), suffix }) => format!("{prefix}@{instance}.{suffix}"),
        _ => name.to_owned(),
    }
}

/// Returns the drop-in directories of a unit, highest priority first. For each name and each directory of the search
/// path, these are the directories of the name, its template and its prefixes (`foo-.service.d`). The directories of
/// the unit's type (`service.d`) come last.
pub(crate) fn dropin_dirs(names: &[String], search: &[PathBuf]) -> Vec<PathBuf> {
    let mut dirs = Vec::new();
    for name in names {
        let mut below = Vec::new();
        add_dropin_names(name, &mut below);
        dirs.extend(search.iter().flat_map(|dir| below.iter().map(move |name| dir.join(format!("{name}.d")))));
    }
    if let Some(parts) = names.first().and_then(|name| split_name(name)) {
        dirs.extend(search.iter().map(|dir| dir.join(format!("{}.d", parts.suffix))));
    }
    dirs
}

/// Adds a name, its template and its prefixes, most specific first.
fn add_dropin_names(name: &str, into: &mut Vec<String>) {
    into.push(name.to_owned());
    if let Some(template) = template(name) {
        add_dropin_names(&template, into);
    }
    let Some(NameParts { prefix, instance, suffix }) = split_name(name) else { return };
    // Without skipping its trailing dash, foo-bar-.service would be its own prefix.
    let Some(dash) = prefix.strip_suffix('-').unwrap_or(prefix).rfind('-').filter(|dash| *dash > 0) else { return };
    let Some(shorter) = prefix.get(..=dash) else { return };
    match instance.filter(|instance| !instance.is_empty()) {
        Some(instance) => add_dropin_names(&format!("{shorter}@{instance}.{suffix}"), into),
        None => add_dropin_names(&format!("{shorter}.{suffix}"), into),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn below(name: &str) -> Vec<String> {
        let mut names = Vec::new();
        add_dropin_names(name, &mut names);
        names
    }

    #[test]
    fn dropin_names_are_name_template_and_prefixes() {
        assert_eq!(below("a-b-c.service"), ["a-b-c.service", "a-b-.service", "a-.service"]);
        assert_eq!(below("a.service"), ["a.service"]);
        assert_eq!(below("-a.service"), ["-a.service"]);
        assert_eq!(
            below("a-b@x.service"),
            ["a-b@x.service", "a-b@.service", "a-.service", "a-@x.service", "a-@.service"]
        );
    }

    #[test]
    fn alias_must_keep_type_and_kind_of_name() {
        assert!(may_alias("a.service", "b.service"));
        assert!(may_alias("a@x.service", "b@.service"));
        assert!(may_alias("a@x.service", "b@x.service"));
        for (name, other) in [
            ("a.service", "b.socket"),
            ("a.service", "b@.service"),
            ("a@x.service", "b@y.service"),
            ("a.mount", "b.mount"),
            ("a.service", "a.service"),
        ] {
            assert!(!may_alias(name, other), "{name} {other}");
        }
    }
}
