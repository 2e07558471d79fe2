//! A manager's own configuration (`systemd-system.conf(5)`): what it puts on itself, all its units have.

use super::rooted::Tree;
use super::{is_dropin, search, unreadable};
use crate::policy::lists::Architectures;
use crate::policy::manager_context::manager_architectures;
use crate::policy::seccomp_logging::{SeccompLogLine, last_seccomp_log_line};
use crate::policy::{FileNote, ManagerContext, UnitFile};
use crate::units::Manager;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Where configuration files are, highest priority first (`CONF_PATHS`).
const CONFIG: [&str; 4] = ["/etc/systemd", "/run/systemd", "/usr/local/lib/systemd", "/usr/lib/systemd"];

/// What the units of a manager are surrounded by: the settings of it and of the manager that started it, and the
/// kernel below a root that has a `/proc`.
#[must_use]
pub fn surroundings(root: &Path, manager: Manager, home: Option<&Path>) -> (ManagerContext, Vec<FileNote>) {
    let tree = Tree::new(root);
    let mut notes = Vec::new();
    let system = read(tree, "system.conf", None, &mut notes);
    let (own, above) = match manager {
        Manager::System => (system, Architectures::default()),
        Manager::User(uid) => {
            let homes = search::homes(tree, uid, home);
            // Of several homes it is not known whose manager it is.
            let home = Some(homes).filter(|homes| homes.len() == 1).and_then(|homes| homes.into_iter().next());
            (read(tree, "user.conf", home.as_deref(), &mut notes), system)
        }
    };
    (ManagerContext { manager: own, system_manager: above, kernel: kernel(tree) }, notes)
}

/// The last line of a manager's configuration that bears on its `SYSTEMD_LOG_SECCOMP`. `config` is the directory of a
/// user's own files (`~/.config/systemd`); the file `without` is passed over.
#[must_use]
pub fn seccomp_logging(
    root: &Path,
    manager: Manager,
    config: Option<&Path>,
    without: Option<&Path>,
) -> Option<SeccompLogLine> {
    let name = if manager == Manager::System { "system.conf" } else { "user.conf" };
    let files = files(Tree::new(root), name, config, &mut Vec::new());
    last_seccomp_log_line(files.iter().filter(|file| without != Some(&file.path)))
}

fn read(tree: Tree<'_>, name: &str, home: Option<&Path>, notes: &mut Vec<FileNote>) -> Architectures {
    let config = home.map(|home| home.join(".config/systemd"));
    let (architectures, more) = manager_architectures(&files(tree, name, config.as_deref(), notes));
    notes.extend(more);
    architectures
}

/// The first main file that is there, then all drop-ins by file name.
fn files(tree: Tree<'_>, name: &str, config: Option<&Path>, notes: &mut Vec<FileNote>) -> Vec<UnitFile> {
    let dirs: Vec<PathBuf> = config.map(Path::to_owned).into_iter().chain(CONFIG.iter().map(PathBuf::from)).collect();
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
    let mut dropins: BTreeMap<String, PathBuf> = BTreeMap::new();
    for dir in dirs.iter().map(|dir| dir.join(format!("{name}.d"))) {
        for (file, _) in tree.list(&dir).unwrap_or_default().into_iter().filter(|(file, _)| is_dropin(file)) {
            dropins.entry(file.clone()).or_insert_with(|| dir.join(file));
        }
    }
    files.extend(dropins.values().take(super::MOST_DROPINS).filter_map(|path| parse(path)));
    files
}

/// The running kernel's version.
fn kernel(tree: Tree<'_>) -> Option<(u32, u32)> {
    let release = tree.read(Path::new("/proc/sys/kernel/osrelease")).ok()?;
    version(std::str::from_utf8(&release).ok()?)
}

/// `6.18.44-cloud` to 6 and 18.
fn version(release: &str) -> Option<(u32, u32)> {
    let (major, rest) = release.split_once('.')?;
    let minor = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::seccomp_logging::SeccompLogging;
    use std::fs;

    /// The architectures of each manager, each with where it was listed.
    fn listed(files: &[(&str, &str)], manager: Manager) -> [Vec<String>; 2] {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("[Manager]\n{text}\n")).unwrap();
        }
        let (found, notes) = surroundings(dir.path(), manager, Some(Path::new("/home/a")));
        assert_eq!((notes, found.kernel), (vec![], None));
        let shown = |one: &Architectures| one.listed.iter().map(|(name, at)| format!("{name} {at}")).collect();
        [shown(&found.manager), shown(&found.system_manager)]
    }

    #[test]
    fn the_first_main_file_counts_and_every_drop_in() {
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
    fn a_users_manager_has_the_systems_as_well() {
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
    fn the_last_line_on_logging_counts() {
        let dir = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("[Manager]\n{text}\n")).unwrap();
        };
        let config = Path::new("/home/a/.config/systemd");
        let said = |manager| {
            let config = Some(config).filter(|_| manager != Manager::System);
            let switch =
                seccomp_logging(dir.path(), manager, config, Some(Path::new("/run/systemd/system.conf.d/z.conf")));
            switch.map(|switch| (switch.sets, switch.origin.to_string()))
        };
        assert_eq!((said(Manager::System), said(Manager::User(7))), (None, None));
        put("etc/systemd/system.conf", "ManagerEnvironment=SYSTEMD_LOG_SECCOMP=yes");
        put("run/systemd/system.conf.d/z.conf", "ManagerEnvironment=SYSTEMD_LOG_SECCOMP=0");
        assert_eq!(said(Manager::System), Some((SeccompLogging::On, "/etc/systemd/system.conf:2".to_owned())));
        put("run/systemd/system.conf.d/zz.conf", "ManagerEnvironment=A=1 SYSTEMD_LOG_SECCOMP=0");
        assert_eq!(
            said(Manager::System),
            Some((SeccompLogging::Off, "/run/systemd/system.conf.d/zz.conf:2".to_owned()))
        );
        put("home/a/.config/systemd/user.conf.d/a.conf", "ManagerEnvironment=SYSTEMD_LOG_SECCOMP=1");
        put("usr/lib/systemd/user.conf.d/b.conf", "ManagerEnvironment=");
        assert_eq!(
            said(Manager::User(7)),
            Some((SeccompLogging::Unchanged, "/usr/lib/systemd/user.conf.d/b.conf:2".to_owned()))
        );
    }

    #[test]
    fn a_kernels_version_is_what_its_release_begins_with() {
        assert_eq!(version("6.18.44-fc-v595\n"), Some((6, 18)));
        assert_eq!(version("6.1-cloud"), Some((6, 1)));
        assert_eq!((version("6"), version("x.y"), version("")), (None, None, None));
        let (here, _) = surroundings(Path::new("/"), Manager::System, None);
        assert!(here.kernel.is_some_and(|kernel| kernel > (2, 6)));
    }
}
