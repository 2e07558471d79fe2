//! Removes the unfinished files that killed processes left in the directories of drop-ins and of running taps.

use super::whole_file::UNFINISHED;
use crate::kernel::procfs::Procfs;
use std::fs;
use std::path::Path;

/// Does what [`remove_unfinished`] does in each directory of drop-ins below a directory.
pub(crate) fn remove_all_unfinished(dir: &Path) {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let directories = entries.filter(|path| path.extension().is_some_and(|extension| extension == "d"));
    directories.for_each(|path| remove_unfinished(&path));
}

/// Removes the unfinished files of processes that have ended, and the directory if it is empty then.
pub(crate) fn remove_unfinished(dir: &Path) {
    let mut removed = false;
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid: Option<u32> = name.to_str().and_then(|name| name.strip_prefix(UNFINISHED)?.parse().ok());
        if pid.is_some_and(|pid| !Procfs::live().is_pid_in_use(pid)) {
            // If the file stays, systemd ignores it.
            removed |= fs::remove_file(entry.path()).is_ok();
        }
    }
    if removed {
        // A directory with other files stays.
        let _ = fs::remove_dir(dir);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unfinished_file_of_a_killed_process_is_removed_and_that_of_a_living_one_stays() {
        let dir = tempfile::tempdir().unwrap();
        let [units, killed, busy] =
            ["", "x.service.d", "y.service.d"].map(|name| dir.path().join("systemd").join(name));
        // No process can have this pid: it is above the kernel's limit (PID_MAX_LIMIT).
        let dead = killed.join(format!("{UNFINISHED}4194399"));
        let living = busy.join(format!("{UNFINISHED}{}", std::process::id()));
        let others = [busy.join(".harden-why.x"), units.join(".harden-why.4194399"), living];
        for file in others.iter().chain([&dead]) {
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, "[Service]\n").unwrap();
        }
        remove_all_unfinished(&units);
        assert!(!killed.exists(), "the killed process made the directory");
        assert!(others.iter().all(|file| file.exists()));
    }
}
