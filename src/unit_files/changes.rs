//! The times at which a unit's files changed.

use super::find::UnitFiles;
use super::rooted::RootedTree;
use super::search::{drop_in_owner, dropin_path, runtime_dropin_path};
use crate::diagnosis::FileChange;
use crate::units::Unit;
use std::collections::BTreeSet;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Lists the latest change of each of a unit's files and of its drop-in directories. A directory changes when a drop-in
/// appears or disappears.
#[must_use]
pub fn changes(root: &Path, unit: &Unit, home: &Path, files: &UnitFiles) -> Vec<FileChange> {
    let tree = RootedTree::new(root);
    let parent = |path: &PathBuf| path.parent().map(Path::to_path_buf);
    let owners = [unit, &drop_in_owner(unit, files.fragment.as_deref())];
    let ours = owners.map(|owner| [dropin_path(owner, home, "x"), runtime_dropin_path(owner, "x")]);
    let dirs: BTreeSet<PathBuf> = files.dropins.iter().chain(ours.as_flattened()).filter_map(parent).collect();
    let paths = files.fragment.iter().chain(&files.dropins).cloned().chain(dirs);
    paths.filter_map(|path| Some(FileChange { at: changed(tree, &path)?, path })).collect()
}

/// Whether the latest change of a file is older than a time in microseconds since the epoch; `None` if that is unknown.
#[must_use]
pub(crate) fn is_older(root: &Path, path: &Path, micros: u64) -> Option<bool> {
    let changed = changed(RootedTree::new(root), path)?;
    Some(u64::try_from(changed).unwrap_or_default() <= micros / 1_000)
}

/// Returns the time of a file's latest change, in milliseconds since the epoch. For a link, the target's change counts
/// too. Only the kernel sets the time of the status change. Programs set the modification time at will: package managers
/// to the time of the build.
fn changed(tree: RootedTree<'_>, path: &Path) -> Option<i64> {
    let link = tree.symlink_metadata(path).ok()?;
    let file = tree.resolve(path).ok().and_then(|path| tree.symlink_metadata(&path).ok());
    let time = |metadata: &Metadata| (metadata.ctime(), metadata.ctime_nsec());
    let newest = file.iter().map(time).chain([time(&link)]).max()?;
    Some(newest.0.saturating_mul(1000).saturating_add(newest.1 / 1_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Manager;
    use std::fs;
    use std::fs::{File, FileTimes};
    use std::os::unix::fs::symlink;
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    #[test]
    fn installed_file_is_not_older_than_its_installation() {
        let root = tempfile::tempdir().unwrap();
        let built = FileTimes::new().set_modified(UNIX_EPOCH);
        File::create(root.path().join("x.conf")).unwrap().set_times(built).unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let is_older_than =
            |time: Duration| is_older(root.path(), Path::new("/x.conf"), time.as_micros().try_into().unwrap());
        assert_eq!(is_older_than(now.checked_sub(Duration::from_mins(1)).unwrap()), Some(false));
        assert_eq!(is_older_than(now + Duration::from_mins(1)), Some(true));
        assert_eq!(is_older(root.path(), Path::new("/none"), u64::MAX), None);
    }

    #[test]
    fn changes_list_file_link_target_and_dropin_directory() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("etc/systemd/system/x.service.d");
        fs::create_dir_all(&dir).unwrap();
        fs::create_dir_all(root.path().join("opt")).unwrap();
        fs::write(root.path().join("opt/x.service"), "").unwrap();
        symlink("/opt/x.service", root.path().join("etc/systemd/system/x.service")).unwrap();
        fs::write(dir.join("10.conf"), "").unwrap();
        std::thread::sleep(Duration::from_millis(40));
        let target = File::open(root.path().join("opt/x.service")).unwrap();
        target.set_times(FileTimes::new().set_modified(SystemTime::now() + Duration::from_hours(1))).unwrap();
        let unit = Unit { manager: Manager::System, name: "x.service".parse().unwrap() };
        let files = UnitFiles {
            fragment: Some("/etc/systemd/system/x.service".into()),
            dropins: vec!["/etc/systemd/system/x.service.d/10.conf".into(), "/run/gone.conf".into()],
            ..UnitFiles::default()
        };
        let found = changes(root.path(), &unit, Path::new(""), &files);
        let paths: Vec<String> = found.iter().map(|change| change.path.display().to_string()).collect();
        let etc = "/etc/systemd/system/x.service";
        assert_eq!(paths, [etc, &format!("{etc}.d/10.conf"), &format!("{etc}.d")]);
        let now = i64::try_from(SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap();
        assert!(found[0].at <= now, "a modification time in the future is no change");
        assert!(found[1..].iter().all(|change| change.at < found[0].at), "the target of the link changed last");
    }
}
