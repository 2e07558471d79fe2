//! Finds the units whose filters name calls that libseccomp does not know. systemd ignores these names.

use super::find::UnitFinder;
use super::read_budget::ReadBudget;
use super::rooted::RootedTree;
use super::search::search_path;
use crate::policy::{Settings, SyscallFilter};
use crate::syscalls::Groups;
use crate::units::{Manager, UnitName};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Reads the files of all system units. Returns the units that name such calls, with the calls.
#[must_use]
pub(crate) fn find_unknown_calls(root: &Path, groups: &Groups) -> BTreeMap<UnitName, BTreeSet<Box<str>>> {
    let tree = RootedTree::new(root);
    let budget = &mut ReadBudget::new(Manager::System);
    let finder = UnitFinder::new(tree, search_path(Manager::System, None), budget);
    let mut found = BTreeMap::new();
    for name in finder.names() {
        let Some(mut files) = finder.find_unaliased(&name) else { continue };
        let (fragment, dropins) = files.parse(tree);
        let settings = Settings::new(&name, fragment, dropins);
        let Some(filter) = SyscallFilter::simulate(settings.assignments(), groups) else { continue };
        let words = filter.notes().iter().filter_map(|note| note.word.clone());
        let unknown: BTreeSet<Box<str>> = words.filter(|word| !groups.is_resolvable(word)).collect();
        if !unknown.is_empty() {
            found.insert(name, unknown);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn unit_that_names_call_unknown_to_libseccomp_is_found() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("usr/lib/systemd/system");
        fs::create_dir_all(dir.join("later.service.d")).unwrap();
        for (file, filter) in [
            ("named.service", "@system-service mseal"),
            ("denied.service", "~mseal statmount"),
            ("grouped.service", "@system-service"),
            ("mistyped.service", "@system-service msael"),
            ("plain.service", ""),
            ("later.service", "@system-service"),
            ("later.service.d/a.conf", "mseal"),
        ] {
            fs::write(dir.join(file), format!("[Service]\nSystemCallFilter={filter}\n")).unwrap();
        }
        let groups = Groups::embedded().with_unresolved(["mseal".into()].into());
        let found = find_unknown_calls(root.path(), &groups);
        let names: Vec<&str> = found.keys().map(UnitName::as_str).collect();
        assert_eq!(names, ["denied.service", "later.service", "named.service"]);
        assert!(found.values().all(|calls| calls.len() == 1 && calls.contains("mseal")), "{found:?}");
    }
}
