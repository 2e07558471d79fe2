//! Which file defines a unit, and under which names it goes (`unit-file.c`): templates, aliases,
//! masks, and the directories drop-ins are looked for in.

use super::rooted::{Kind, Tree};
use crate::policy::FileNote;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Aliases of aliases are followed this far (`FOLLOW_MAX`).
const MOST_ALIASES: usize = 8;

/// Units of these types may have aliases.
const MAY_ALIAS: [&str; 6] = ["service", "socket", "target", "device", "timer", "path"];

/// What a name in the search path leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Target {
    /// Its own file, or a link to one outside of the search path.
    File(PathBuf),
    /// Another name.
    Alias(String),
}

/// Every unit name in a search path.
#[derive(Debug)]
pub(crate) struct Names {
    targets: BTreeMap<String, Target>,
}

impl Names {
    /// Reads the directories of a search path, highest priority first; those that cannot be read are
    /// noted and taken out of it.
    pub(crate) fn read(tree: Tree<'_>, dirs: &mut Vec<PathBuf>, notes: &mut Vec<FileNote>) -> Self {
        let real: Vec<PathBuf> = dirs.iter().filter_map(|dir| tree.chase(dir).ok()).collect();
        let mut targets = BTreeMap::new();
        dirs.retain(|dir| {
            let entries = match tree.list(dir) {
                Ok(entries) => entries,
                Err(error) => {
                    notes.push(super::unreadable(dir, &error));
                    return false;
                }
            };
            for (name, kind) in entries {
                if parts(&name).is_none() || targets.contains_key(&name) {
                    continue;
                }
                let target = match kind {
                    Kind::File => Some(Target::File(dir.join(&name))),
                    Kind::Link => follow(tree, dir, &name, &real),
                    Kind::Other => None,
                };
                if let Some(target) = target {
                    targets.insert(name, target);
                }
            }
            true
        });
        Self { targets }
    }

    /// Every name, templates included.
    pub(crate) fn all(&self) -> impl Iterator<Item = &str> {
        self.targets.keys().map(String::as_str)
    }

    /// The file a name leads to.
    fn file(&self, name: &str) -> Option<&Path> {
        let mut name = name.to_owned();
        for hop in 0..=MOST_ALIASES {
            let target = self.targets.get(&name).or_else(|| {
                // An alias may point to an instance of a template.
                (hop > 0).then(|| self.targets.get(&template(&name)?)).flatten()
            })?;
            match target {
                Target::File(path) => return Some(path),
                Target::Alias(other) => name.clone_from(other),
            }
        }
        None
    }

    /// The file that defines a unit.
    pub(crate) fn fragment(&self, name: &str) -> Option<&Path> {
        self.file(name).or_else(|| self.file(&template(name)?))
    }

    /// The names of a unit: the one its file has first, then the others.
    pub(crate) fn of(&self, name: &str) -> Vec<String> {
        let instance = parts(name).and_then(|parts| parts.instance).filter(|instance| !instance.is_empty());
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
            let is_template = parts(&other).is_some_and(|parts| parts.instance == Some(""));
            if !is_template
                && self.fragment(&other) == fragment
                && same_instance(&other, instance)
                && seen.insert(other.clone())
            {
                names.push(other);
            }
        }
        names
    }
}

/// An alias of a template names this unit only with this unit's instance.
fn same_instance(name: &str, instance: Option<&str>) -> bool {
    match parts(name).and_then(|parts| parts.instance) {
        None | Some("") => true,
        Some(other) => instance.is_none_or(|instance| instance == other),
    }
}

/// A link in the search path: to a name in it an alias, to elsewhere a unit file or mask.
fn follow(tree: Tree<'_>, dir: &Path, name: &str, real: &[PathBuf]) -> Option<Target> {
    let target = dir.join(tree.link(&dir.join(name)).ok()??);
    let parent = tree.chase(target.parent()?).ok()?;
    if !real.contains(&parent) {
        return Some(Target::File(dir.join(name)));
    }
    let other = target.file_name()?.to_str()?;
    may_alias(name, other).then(|| Target::Alias(other.to_owned()))
}

fn may_alias(name: &str, other: &str) -> bool {
    let (Some(this), Some(that)) = (parts(name), parts(other)) else { return false };
    let kinds = match (this.instance, that.instance) {
        (None, None) | (Some(_), Some("")) => true,
        (Some(this), Some(that)) => this == that,
        _ => false,
    };
    name != other && this.suffix == that.suffix && MAY_ALIAS.contains(&this.suffix) && kinds
}

/// A unit name taken apart.
struct Parts<'a> {
    prefix: &'a str,
    /// Empty for a template.
    instance: Option<&'a str>,
    suffix: &'a str,
}

fn parts(name: &str) -> Option<Parts<'_>> {
    name.parse::<crate::units::UnitName>().ok()?;
    let (stem, suffix) = name.rsplit_once('.')?;
    Some(match stem.split_once('@') {
        Some((prefix, instance)) => Parts { prefix, instance: Some(instance), suffix },
        None => Parts { prefix: stem, instance: None, suffix },
    })
}

/// The template of an instance.
fn template(name: &str) -> Option<String> {
    let parts = parts(name)?;
    parts.instance.filter(|instance| !instance.is_empty()).map(|_| format!("{}@.{}", parts.prefix, parts.suffix))
}

/// A template's name with an instance; any other name as it is.
fn with_instance(name: &str, instance: &str) -> String {
    match parts(name) {
        Some(Parts { prefix, instance: Some(""), suffix }) => format!("{prefix}@{instance}.{suffix}"),
        _ => name.to_owned(),
    }
}

/// The directories a unit's drop-ins are looked for in, highest priority first: for each name and
/// each directory of the search path its own, its template's and its prefixes' (`foo-.service.d`);
/// last those of its type (`service.d`).
pub(crate) fn dropin_dirs(names: &[String], search: &[PathBuf]) -> Vec<PathBuf> {
    let mut dirs = Vec::new();
    for name in names {
        let mut below = Vec::new();
        expand(name, &mut below);
        dirs.extend(search.iter().flat_map(|dir| below.iter().map(move |name| dir.join(format!("{name}.d")))));
    }
    if let Some(parts) = names.first().and_then(|name| parts(name)) {
        dirs.extend(search.iter().map(|dir| dir.join(format!("{}.d", parts.suffix))));
    }
    dirs
}

fn expand(name: &str, into: &mut Vec<String>) {
    into.push(name.to_owned());
    if let Some(template) = template(name) {
        expand(&template, into);
    }
    let Some(Parts { prefix, instance, suffix }) = parts(name) else { return };
    // A dash at the end is chopped off once, so that foo-.service leads on to its own prefix.
    let Some(dash) = prefix.strip_suffix('-').unwrap_or(prefix).rfind('-').filter(|dash| *dash > 0) else { return };
    let Some(shorter) = prefix.get(..=dash) else { return };
    match instance.filter(|instance| !instance.is_empty()) {
        Some(instance) => expand(&format!("{shorter}@{instance}.{suffix}"), into),
        None => expand(&format!("{shorter}.{suffix}"), into),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn below(name: &str) -> Vec<String> {
        let mut names = Vec::new();
        expand(name, &mut names);
        names
    }

    #[test]
    fn dropins_come_from_the_name_its_template_and_its_prefixes() {
        assert_eq!(below("a-b-c.service"), ["a-b-c.service", "a-b-.service", "a-.service"]);
        assert_eq!(below("a.service"), ["a.service"]);
        assert_eq!(below("-a.service"), ["-a.service"]);
        assert_eq!(
            below("a-b@x.service"),
            ["a-b@x.service", "a-b@.service", "a-.service", "a-@x.service", "a-@.service"]
        );
    }

    #[test]
    fn an_alias_keeps_type_and_kind() {
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
