//! Reads a manager's own configuration (`systemd-system.conf(5)`). All units inherit their manager's own restrictions.

use super::find::MOST_DROPINS;
use super::kernel_version::read_kernel_version;
use super::rooted::{RootedTree, is_dropin, unreadable};
use super::search::home_dirs;
use crate::policy::lists::Architectures;
use crate::policy::manager_context::manager_architectures;
use crate::policy::manager_variable::{ManagerVariable, VariableLine, last_variable_line};
use crate::policy::{FileNote, ManagerContext, UnitFile};
use crate::units::Manager;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The directories of configuration files, highest priority first (`CONF_PATHS`).
const CONFIG_DIRS: [&str; 4] = ["/etc/systemd", "/run/systemd", "/usr/local/lib/systemd", "/usr/lib/systemd"];

/// Loads the settings of a manager and of the manager that started it. Also loads the kernel's version if the root has
/// a `/proc`.
#[must_use]
pub fn load_manager_context(root: &Path, manager: Manager, home: Option<&Path>) -> (ManagerContext, Vec<FileNote>) {
    let tree = RootedTree::new(root);
    let mut notes = Vec::new();
    let system = load_architectures(tree, "system.conf", None, &mut notes);
    let (own, above) = match manager {
        Manager::System => (system, Architectures::default()),
        Manager::User(uid) => {
            let homes = home_dirs(tree, uid, home);
            // With several candidate homes, it is unknown which one is the manager's.
            let home = Some(homes).filter(|homes| homes.len() == 1).and_then(|homes| homes.into_iter().next());
            (load_architectures(tree, "user.conf", home.as_deref(), &mut notes), system)
        }
    };
    (
        ManagerContext { manager: own, system_manager: above, kernel: read_kernel_version(tree), ..Default::default() },
        notes,
    )
}

/// Finds the last line of a manager's configuration that sets a variable. `config` is the directory of a
/// user's own files (`~/.config/systemd`). The search skips the file `except`.
#[must_use]
pub fn find_variable_line(
    root: &Path,
    manager: Manager,
    config: Option<&Path>,
    variable: ManagerVariable,
    except: Option<&Path>,
) -> Option<VariableLine> {
    let name = if manager == Manager::System { "system.conf" } else { "user.conf" };
    let files = config_files(RootedTree::new(root), name, config, &mut Vec::new());
    last_variable_line(files.iter().filter(|file| except != Some(&file.path)), variable)
}

/// Returns the directory of a user's own configuration, from the environment of that user's manager.
#[must_use]
pub(crate) fn config_dir(environment: &[String], home: &Path) -> PathBuf {
    let variable = |name: &str| {
        let value = environment.iter().find_map(|variable| variable.strip_prefix(name)?.strip_prefix('='));
        value.map(PathBuf::from).filter(|path| path.is_absolute())
    };
    let config = variable("XDG_CONFIG_HOME");
    config.unwrap_or_else(|| variable("HOME").unwrap_or_else(|| home.to_owned()).join(".config")).join("systemd")
}

fn load_architectures(
    tree: RootedTree<'_>,
    name: &str,
    home: Option<&Path>,
    notes: &mut Vec<FileNote>,
) -> Architectures {
    let config = home.map(|home| home.join(".config/systemd"));
    let (architectures, more) = manager_architectures(&config_files(tree, name, config.as_deref(), notes));
    notes.extend(more);
    architectures
}

/// Reads the main file of highest priority, then all drop-ins by file name.
fn config_files(tree: RootedTree<'_>, name: &str, config: Option<&Path>, notes: &mut Vec<FileNote>) -> Vec<UnitFile> {
    let dirs: Vec<PathBuf> =
        config.map(Path::to_owned).into_iter().chain(CONFIG_DIRS.iter().map(PathBuf::from)).collect();
    let mut dropins: BTreeMap<String, PathBuf> = BTreeMap::new();
    for dir in dirs.iter().map(|dir| dir.join(format!("{name}.d"))) {
        let entries = tree.list(&dir).unwrap_or_else(|error| {
            notes.push(unreadable(&dir, &error));
            Vec::new()
        });
        for (file, _) in entries.into_iter().filter(|(file, _)| is_dropin(file)) {
            dropins.entry(file.clone()).or_insert_with(|| dir.join(file));
        }
    }
    let mut parse = |path: &Path| match tree.read(path) {
        Ok(bytes) => Some(UnitFile::parse(path, &bytes)),
        Err(error) => {
            if error.kind() != ErrorKind::NotFound {
                notes.push(unreadable(path, &error));
            }
            None
        }
    };
    let mut files: Vec<UnitFile> = dirs.iter().find_map(|dir| parse(&dir.join(name))).into_iter().collect();
    files.extend(dropins.values().take(MOST_DROPINS).filter_map(|path| parse(path)));
    files
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::manager_variable::VariableEffect;
    use std::fs;

    /// The architectures of the manager and of the one above it, each with its origin.
    fn listed(files: &[(&str, &str)], manager: Manager) -> [Vec<String>; 2] {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("[Manager]\n{text}\n")).unwrap();
        }
        let (found, notes) = load_manager_context(dir.path(), manager, Some(Path::new("/home/a")));
        assert_eq!((notes, found.kernel), (vec![], None));
        let shown = |one: &Architectures| one.listed.iter().map(|(name, at)| format!("{name} {at}")).collect();
        [shown(&found.manager), shown(&found.system_manager)]
    }

    #[test]
    fn first_main_file_and_every_drop_in_count() {
        let files = [
            ("etc/systemd/system.conf", "SystemCallArchitectures=native"),
            ("usr/lib/systemd/system.conf", "SystemCallArchitectures=arm"),
            ("usr/lib/systemd/system.conf.d/20.conf", "SystemCallArchitectures=x86"),
            ("run/systemd/system.conf.d/10.conf", "SystemCallArchitectures=x32"),
            ("etc/systemd/system.conf.d/10.conf", "LogLevel=debug"),
            ("etc/systemd/user.conf", "SystemCallArchitectures=arm64"),
        ];
        let found = ["native /etc/systemd/system.conf:2", "x86 /usr/lib/systemd/system.conf.d/20.conf:2"];
        assert_eq!(listed(&files, Manager::System)[0], found);
        assert_eq!(listed(&files[4..], Manager::System)[0], Vec::<String>::new());
    }

    #[test]
    fn drop_in_directory_that_cannot_be_read_gives_note() {
        let dir = tempfile::tempdir().unwrap();
        let conf = dir.path().join("etc/systemd");
        fs::create_dir_all(&conf).unwrap();
        std::os::unix::fs::symlink("system.conf.d", conf.join("system.conf.d")).unwrap();
        let (_, notes) = load_manager_context(dir.path(), Manager::System, None);
        let notes: Vec<String> = notes.iter().map(ToString::to_string).collect();
        assert!(matches!(&notes[..], [note] if note.contains("/etc/systemd/system.conf.d")), "{notes:?}");
    }

    #[test]
    fn user_manager_has_system_manager_settings_too() {
        let files = [
            ("etc/systemd/system.conf", "SystemCallArchitectures=native x86"),
            ("etc/systemd/user.conf", "SystemCallArchitectures=arm"),
            ("home/a/.config/systemd/user.conf", "SystemCallArchitectures=native"),
        ];
        let [own, above] = listed(&files, Manager::User(1000));
        assert_eq!(own, ["native /home/a/.config/systemd/user.conf:2"]);
        assert_eq!(above, ["native /etc/systemd/system.conf:2", "x86 /etc/systemd/system.conf:2"]);
    }

    #[test]
    fn last_variable_line_counts() {
        let dir = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("[Manager]\n{text}\n")).unwrap();
        };
        let config = Path::new("/home/a/.config/systemd");
        let log_line = |manager| {
            let config = Some(config).filter(|_| manager != Manager::System);
            let switch = find_variable_line(
                dir.path(),
                manager,
                config,
                ManagerVariable::LogSeccomp,
                Some(Path::new("/run/systemd/system.conf.d/z.conf")),
            );
            switch.map(|switch| (switch.sets, switch.origin.to_string()))
        };
        assert_eq!((log_line(Manager::System), log_line(Manager::User(7))), (None, None));
        put("etc/systemd/system.conf", "ManagerEnvironment=SYSTEMD_LOG_SECCOMP=yes");
        put("run/systemd/system.conf.d/z.conf", "ManagerEnvironment=SYSTEMD_LOG_SECCOMP=0");
        assert_eq!(log_line(Manager::System), Some((VariableEffect::On, "/etc/systemd/system.conf:2".to_owned())));
        put("run/systemd/system.conf.d/zz.conf", "ManagerEnvironment=A=1 SYSTEMD_LOG_SECCOMP=0");
        assert_eq!(
            log_line(Manager::System),
            Some((VariableEffect::Off, "/run/systemd/system.conf.d/zz.conf:2".to_owned()))
        );
        put("home/a/.config/systemd/user.conf.d/a.conf", "ManagerEnvironment=SYSTEMD_LOG_SECCOMP=1");
        put("usr/lib/systemd/user.conf.d/b.conf", "ManagerEnvironment=");
        assert_eq!(
            log_line(Manager::User(7)),
            Some((VariableEffect::Unchanged, "/usr/lib/systemd/user.conf.d/b.conf:2".to_owned()))
        );
    }

    #[test]
    fn config_dir_follows_the_environment_of_the_manager() {
        let dir = |environment: &[&str]| {
            let environment: Vec<String> = environment.iter().map(ToString::to_string).collect();
            config_dir(&environment, Path::new("/home/a"))
        };
        assert_eq!(dir(&[]), Path::new("/home/a/.config/systemd"));
        assert_eq!(dir(&["PATH=/bin", "HOME=/b"]), Path::new("/b/.config/systemd"));
        assert_eq!(dir(&["HOME=/b", "XDG_CONFIG_HOME=/c"]), Path::new("/c/systemd"));
        assert_eq!(dir(&["XDG_CONFIG_HOME=c"]), Path::new("/home/a/.config/systemd"));
    }
}
