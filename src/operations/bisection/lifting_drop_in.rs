//! The drop-in that lifts the lines that a bisection found, for the owner to write.

use super::plan::BisectionPlan;
use crate::policy::{UnitFile, current_key};
use crate::unit_files::rooted::RootedTree;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The most names that are tried.
const MOST_NAMES: usize = 64;

/// A drop-in that lifts lines. The bisection has seen the unit work with its content.
#[derive(Debug)]
pub(crate) struct LiftingDropIn {
    /// A free place after every drop-in that sets the same keys.
    pub(crate) path: PathBuf,
    pub(crate) content: String,
}

impl LiftingDropIn {
    /// Composes the drop-in for some lines; `None` without lines, or if no name is free.
    pub(crate) fn compose(plan: &BisectionPlan, lifted: &BTreeSet<usize>) -> Option<Self> {
        if lifted.is_empty() {
            return None;
        }
        let situation = &plan.target.situation;
        let content = format!("[{}]\n{}", situation.policy.settings.section(), plan.hardening.lift(lifted));
        let keys = list_keys(&situation.drop_in, content.as_bytes());
        // systemd returns the paths as this process reaches them. A file that cannot be read may set anything.
        let tree = RootedTree::new(Path::new("/"));
        let decides = |path: &Path| tree.read(path).map_or(true, |bytes| !list_keys(path, &bytes).is_disjoint(&keys));
        let is_free = |path: &Path| fs::symlink_metadata(path).is_err();
        let path = find_place(&situation.drop_in, &plan.target.facts.dropins, decides, is_free)?;
        Some(Self { path, content })
    }
}

/// Returns the keys that a file sets, under their current names.
fn list_keys(path: &Path, content: &[u8]) -> BTreeSet<String> {
    UnitFile::parse(path, content).assignments.iter().map(|line| current_key(&line.key).to_owned()).collect()
}

/// Finds a name next to `own` that no drop-in has, and that systemd reads after those that `decides` selects: it reads
/// drop-ins in the order of their names, whatever their directories (`systemd.unit(5)`).
fn find_place(
    own: &Path,
    drop_ins: &[PathBuf],
    decides: impl Fn(&Path) -> bool,
    is_free: impl Fn(&Path) -> bool,
) -> Option<PathBuf> {
    let last = drop_ins.iter().filter(|path| decides(path)).filter_map(|path| path.file_name()).max();
    let is_new = |path: &PathBuf| drop_ins.iter().all(|other| other.file_name() != path.file_name());
    let mut places = names().map(|name| own.with_file_name(name));
    places.find(|path| path.file_name() > last && is_new(path) && is_free(path))
}

/// Returns names of drop-ins in the order in which systemd reads them. The first one comes after most drop-ins.
fn names() -> impl Iterator<Item = String> {
    (0..MOST_NAMES).map(|tried| {
        let (more, number) = (tried / 9, tried % 9);
        let number = if number == 0 { String::new() } else { (number + 1).to_string() };
        format!("zzz{}-bisected{number}.conf", "z".repeat(more))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn place_is_free_and_comes_after_every_drop_in_that_decides() {
        let own = Path::new("/etc/systemd/system/x.service.d/zz-harden-why.conf");
        let find = |drop_ins: &[&str], others: &[&str], taken: &[&str]| {
            let paths: Vec<PathBuf> =
                drop_ins.iter().chain(others).map(|name| Path::new("/run/x.d").join(name)).collect();
            let decides = |path: &Path| drop_ins.iter().any(|name| path.ends_with(name));
            let place = find_place(own, &paths, decides, |path| !taken.iter().any(|name| path.ends_with(name)))?;
            Some(place.strip_prefix("/etc/systemd/system/x.service.d").unwrap().to_str().unwrap().to_owned())
        };
        let is = |name: &str| Some(name.to_owned());
        assert_eq!(find(&[], &[], &[]), is("zzz-bisected.conf"));
        assert_eq!(
            find(&["50-hardening.conf"], &["zzz-site.conf"], &[]),
            is("zzz-bisected.conf"),
            "it decides nothing"
        );
        assert_eq!(find(&["zzz-site.conf"], &[], &[]), is("zzzz-bisected.conf"));
        assert_eq!(find(&["zzz-bisected.conf"], &[], &[]), is("zzz-bisected2.conf"), "of an earlier bisection");
        assert_eq!(find(&[], &["zzz-bisected.conf"], &["zzz-bisected2.conf"]), is("zzz-bisected3.conf"));
        assert_eq!(find(&["zzzzzzzzzzzzzz.conf"], &[], &[]), None);
    }

    #[test]
    fn names_are_in_the_order_of_reading() {
        let names: Vec<String> = names().collect();
        assert!(names.is_sorted() && names.len() == MOST_NAMES, "{names:?}");
    }
}
