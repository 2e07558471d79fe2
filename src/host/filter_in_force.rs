//! Whether the filters of a unit are in force at all. systemd silently installs no filter where seccomp is unavailable
//! or switched off (`is_seccomp_available`, `src/shared/seccomp-util.c`).
//!
//! A user manager without `CAP_SYS_ADMIN` is no such case: it sets `NoNewPrivileges=` for each unit with a filter, which
//! gives it the right (`context_has_no_new_privileges`, `src/core/exec-invoke.c`).

use super::unit_settings::LoadedSettings;
use crate::audit::Note;
use crate::audit::note::FILTER_NOT_IN_FORCE;
use crate::audit::text::join;
use crate::diagnosis::Situation;
use crate::kernel::procfs::Procfs;
use crate::policy::Origin;
use crate::policy::manager_context::parse_major;
use crate::policy::manager_variable::{ManagerVariable, VariableEffect, VariableLine, parse_assignment};
use crate::systemd::installed::InstalledSystemd;
use crate::systemd::libseccomp;
use crate::systemd::manager::{Managers, SystemdManager};
use crate::unit_files;
use crate::units::cgroup::{Placement, place};
use crate::units::{Manager, Unit, UnitName};
use std::fmt;
use std::path::{Path, PathBuf};

/// The first systemd that reads `SYSTEMD_SECCOMP` (`NEWS`).
const VARIABLE_SINCE: u32 = 247;

/// The first systemd that loads libseccomp at run time, and skips all filters without it (`NEWS`).
const LOADS_LIBRARY_SINCE: u32 = 259;

/// Why a manager installs no filter for any unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FiltersOff {
    /// Its environment has `SYSTEMD_SECCOMP=0`; a line of its configuration set it, or else whatever started it.
    Variable(Option<Origin>),
    /// It would load libseccomp, which is not installed.
    NoLibrary,
    /// It was built without seccomp.
    BuiltWithout,
    /// The kernel was built without seccomp.
    Kernel,
}

impl FiltersOff {
    /// Finds out whether a manager installs no filters. `None` if it does, or if that is unknown.
    pub(crate) async fn find(manager: &SystemdManager) -> Option<Self> {
        ManagerFacts::read(manager).await.find_reason()
    }

    /// The command or change that brings the filters back.
    pub(crate) fn remedy(&self, manager: Manager) -> String {
        let restart = match manager {
            Manager::System => "restart the machine".to_owned(),
            Manager::User(uid) => format!("run 'systemctl restart user@{uid}.service'"),
        };
        match self {
            Self::Variable(Some(origin)) => format!("remove SYSTEMD_SECCOMP=0 from {origin} and {restart}"),
            Self::Variable(None) => {
                format!("remove SYSTEMD_SECCOMP=0 from what sets it, such as the kernel command line, and {restart}")
            }
            Self::NoLibrary => "install libseccomp.so.2 and restart the unit".to_owned(),
            Self::BuiltWithout => "install a systemd that is built with seccomp".to_owned(),
            Self::Kernel => "use a kernel with CONFIG_SECCOMP_FILTER".to_owned(),
        }
    }
}

impl fmt::Display for FiltersOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variable(Some(origin)) => write!(f, "{origin} sets SYSTEMD_SECCOMP=0 for the manager"),
            Self::Variable(None) => f.write_str("the manager's environment has SYSTEMD_SECCOMP=0"),
            Self::NoLibrary => f.write_str("this systemd loads libseccomp.so.2 at run time, and it is not installed"),
            Self::BuiltWithout => f.write_str("this systemd was built without seccomp"),
            Self::Kernel => f.write_str("this kernel was built without seccomp"),
        }
    }
}

/// What is known about a manager and its machine. `None` stands for unknown.
#[derive(Debug, Default)]
struct ManagerFacts {
    /// The environment with which its process started.
    environment: Option<Vec<u8>>,
    /// The last line of its configuration that sets the variable, if it has read the line.
    line: Option<VariableLine>,
    version: Option<u32>,
    features: Option<String>,
    has_library: Option<bool>,
    kernel_filters: Option<bool>,
}

impl ManagerFacts {
    async fn read(manager: &SystemdManager) -> Self {
        let (procfs, root) = (Procfs::live(), Path::new("/"));
        let pid = manager.process_id().await.ok();
        let environment = pid.and_then(|pid| procfs.environment(pid));
        let version = manager.version().await.ok().as_deref().and_then(parse_major);
        let is_loading = version.is_some_and(|version| version >= LOADS_LIBRARY_SINCE);
        // A manager reads its configuration at its start and at each reload.
        let loaded = manager.units_loaded_at().await.ok();
        let is_read = |line: &VariableLine| unit_files::is_older(root, &line.origin.path, loaded?);
        let line = find_line(manager.manager(), environment.as_deref());
        Self {
            environment,
            line: line.filter(|line| is_read(line) == Some(true)),
            version,
            features: manager.features().await.ok(),
            has_library: is_loading.then(|| has_library(root)).flatten(),
            kernel_filters: procfs.has_seccomp(),
        }
    }

    fn find_reason(&self) -> Option<FiltersOff> {
        if self.kernel_filters == Some(false) {
            return Some(FiltersOff::Kernel);
        }
        if self.features.as_deref().is_some_and(|features| features.split(' ').any(|feature| feature == "-SECCOMP")) {
            return Some(FiltersOff::BuiltWithout);
        }
        let is_loading = self.version.is_some_and(|version| version >= LOADS_LIBRARY_SINCE);
        let lacks_library = is_loading && self.has_library == Some(false);
        self.find_switch().or(lacks_library.then_some(FiltersOff::NoLibrary))
    }

    /// Whether the variable switches the filters off. A line of the configuration replaces the environment of the start.
    fn find_switch(&self) -> Option<FiltersOff> {
        if self.version.is_some_and(|version| version < VARIABLE_SINCE) {
            return None;
        }
        match self.line.as_ref().filter(|line| line.sets != VariableEffect::Unchanged) {
            Some(line) => (line.sets == VariableEffect::Off).then(|| FiltersOff::Variable(Some(line.origin.clone()))),
            None => self.environment.as_deref().is_some_and(is_switched_off).then_some(FiltersOff::Variable(None)),
        }
    }
}

/// Finds the last line of a manager's configuration that sets the variable.
fn find_line(manager: Manager, environment: Option<&[u8]>) -> Option<VariableLine> {
    let config: Option<PathBuf> = match manager {
        Manager::System => None,
        Manager::User(_) => {
            let variables = environment.unwrap_or_default().split(|byte| *byte == 0);
            let variables: Vec<String> = variables.map(|one| String::from_utf8_lossy(one).into_owned()).collect();
            Some(unit_files::config_dir(&variables, &super::unit_settings::home_dir(manager)))
        }
    };
    unit_files::find_variable_line(Path::new("/"), manager, config.as_deref(), ManagerVariable::Seccomp, None)
}

/// Whether an environment switches the filters off. `getenv(3)` returns the first of two equal names.
fn is_switched_off(environment: &[u8]) -> bool {
    let variables = environment.split(|byte| *byte == 0).filter_map(|one| std::str::from_utf8(one).ok());
    let mut effects = variables.filter_map(|one| parse_assignment(one, ManagerVariable::Seccomp));
    effects.next() == Some(VariableEffect::Off)
}

/// Whether a machine has libseccomp; `None` where its libraries are in unusual places.
fn has_library(root: &Path) -> Option<bool> {
    let installed = InstalledSystemd::find(root);
    let native = installed.native.filter(|_| installed.version.is_some())?;
    Some(libseccomp::is_installed(root, native))
}

/// Returns a note if the filters of a unit are not in force: its manager installs none, or the unit's main process runs
/// without one.
pub(crate) async fn find_missing_filter(managers: &Managers, unit: &Unit, settings: &LoadedSettings) -> Option<Note> {
    let situation = settings.situation.as_ref()?;
    let directives = situation.policy.filtering_directives();
    if directives.is_empty() {
        return None;
    }
    let manager = managers.connect(unit.manager).await.ok()?;
    let process = MainProcess::find(unit, settings);
    if process.as_ref().is_some_and(|process| process.mode != 0) {
        return None;
    }
    let reason = FiltersOff::find(&manager).await;
    let process = match process.filter(|process| process.has_own_settings(settings, situation)) {
        Some(process) if reason.is_some() || started_as_loaded(&process, situation, &manager).await => Some(process),
        _ => None,
    };
    let directives: Vec<&str> = directives.iter().map(|directive| directive.key()).collect();
    describe(&unit.name, unit.manager, &directives, process.map(|process| process.pid), reason.as_ref())
}

/// Writes the note. Without a process and a reason there is nothing to say.
fn describe(
    unit: &UnitName,
    manager: Manager,
    directives: &[&str],
    process: Option<u32>,
    reason: Option<&FiltersOff>,
) -> Option<Note> {
    let names = join(directives.iter().map(|name| format!("{name}=")));
    let (are, them) = if directives.len() == 1 { ("is", "it") } else { ("are", "them") };
    let evidence = match (process, reason) {
        (None, None) => return None,
        (Some(pid), None) => {
            format!("/proc/{pid}/status of its main process has no filter (Seccomp: 0); systemd did not install {them}")
        }
        (Some(pid), Some(reason)) => format!("its main process {pid} has no filter (Seccomp: 0), since {reason}"),
        (None, Some(reason)) => reason.to_string(),
    };
    let remedy = reason.map(|reason| format!("; {}", reason.remedy(manager))).unwrap_or_default();
    Some(Note::new(FILTER_NOT_IN_FORCE, format!("{names} of {unit} {are} not in force: {evidence}{remedy}")))
}

/// A unit's running main process.
#[derive(Debug)]
struct MainProcess {
    pid: u32,
    /// Its mode of seccomp: 0 without a filter.
    mode: u32,
    /// When it started, in milliseconds since the epoch.
    started: i64,
}

impl MainProcess {
    /// Finds the main process, if it is in the unit's cgroup. `PIDFile=` can name any other process.
    fn find(unit: &Unit, settings: &LoadedSettings) -> Option<Self> {
        let properties = settings.properties.as_ref()?;
        let (procfs, pid) = (Procfs::live(), properties.main_pid?);
        let own = Unit { manager: unit.manager, name: properties.id.clone() };
        let is_own = procfs.cgroup(pid).is_some_and(|cgroup| place(&cgroup) == Placement::Unit(own));
        let started = i64::try_from(properties.exec_main_start_us? / 1_000).ok()?;
        let mode = procfs.seccomp_mode(pid).filter(|_| is_own && procfs.is_pid_in_use(pid))?;
        Some(Self { pid, mode, started })
    }

    /// Whether the unit's settings as they are now hold for the process: no command is exempt from them, and no file
    /// changed since it started.
    fn has_own_settings(&self, settings: &LoadedSettings, situation: &Situation) -> bool {
        let mut commands =
            situation.policy.settings.commands().iter().filter(|one| &*one.key == "ExecStart").peekable();
        let is_known = commands.peek().is_some() && settings.matches_manager;
        let Some(history) = situation.history.as_ref().filter(|history| is_known && !history.pending) else {
            return false;
        };
        commands.all(|command| !command.privileged) && history.changes.iter().all(|change| change.at < self.started)
    }
}

/// Whether the manager had read the unit's files as they are now when it started the process. A reload after the start
/// can have brought files that were written before the start.
async fn started_as_loaded(process: &MainProcess, situation: &Situation, manager: &SystemdManager) -> bool {
    let millis = |micros: u64| i64::try_from(micros / 1_000).unwrap_or(i64::MAX);
    let Ok(loaded) = manager.units_loaded_at().await.map(millis) else { return false };
    let Ok(began) = manager.started_at().await.map(millis) else { return false };
    let mut changes = situation.history.iter().flat_map(|history| &history.changes);
    loaded <= process.started || changes.all(|change| change.at < began)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(sets: VariableEffect) -> VariableLine {
        VariableLine { sets, origin: Origin { path: Path::new("/etc/systemd/system.conf").into(), line: 3 } }
    }

    fn facts(environment: &[u8], version: u32) -> ManagerFacts {
        ManagerFacts { environment: Some(environment.to_vec()), version: Some(version), ..ManagerFacts::default() }
    }

    #[test]
    fn variable_of_manager_switches_filters_off_since_247() {
        let off = b"PATH=/bin\0SYSTEMD_SECCOMP=0\0";
        assert_eq!(facts(off, 252).find_reason(), Some(FiltersOff::Variable(None)));
        assert_eq!(facts(off, 246).find_reason(), None);
        assert_eq!(ManagerFacts { version: None, ..facts(off, 1) }.find_reason(), Some(FiltersOff::Variable(None)));
        for other in
            [&b"SYSTEMD_SECCOMP=1\0"[..], b"XSYSTEMD_SECCOMP=0\0", b"SYSTEMD_SECCOMP=1\0SYSTEMD_SECCOMP=0\0", b""]
        {
            assert_eq!(facts(other, 252).find_reason(), None, "{other:?}");
        }
        assert_eq!(ManagerFacts::default().find_reason(), None);
    }

    #[test]
    fn line_of_configuration_decides_before_environment() {
        let with =
            |environment: &[u8], sets| ManagerFacts { line: Some(line(sets)), ..facts(environment, 252) }.find_reason();
        let off = with(b"", VariableEffect::Off).unwrap();
        assert_eq!(off.to_string(), "/etc/systemd/system.conf:3 sets SYSTEMD_SECCOMP=0 for the manager");
        assert_eq!(
            off.remedy(Manager::System),
            "remove SYSTEMD_SECCOMP=0 from /etc/systemd/system.conf:3 and restart the machine"
        );
        assert_eq!(with(b"SYSTEMD_SECCOMP=0\0", VariableEffect::On), None);
        assert_eq!(with(b"SYSTEMD_SECCOMP=0\0", VariableEffect::Unchanged), Some(FiltersOff::Variable(None)));
    }

    #[test]
    fn systemd_259_without_libseccomp_installs_no_filters() {
        let with = |version, has_library| ManagerFacts { has_library, ..facts(b"", version) }.find_reason();
        assert_eq!(with(259, Some(false)), Some(FiltersOff::NoLibrary));
        assert_eq!(with(259, Some(true)), None);
        assert_eq!(with(259, None), None, "the libraries are in unusual places");
        assert_eq!(with(258, Some(false)), None, "the loader would not have started it");
    }

    #[test]
    fn manager_or_kernel_without_seccomp_installs_no_filters() {
        let built = |features: &str| ManagerFacts { features: Some(features.to_owned()), ..facts(b"", 252) };
        assert_eq!(built("+PAM -SECCOMP +BLKID").find_reason(), Some(FiltersOff::BuiltWithout));
        assert_eq!(built("+PAM +SECCOMP -X").find_reason(), None);
        let kernel = ManagerFacts { kernel_filters: Some(false), ..facts(b"", 252) };
        assert_eq!(kernel.find_reason(), Some(FiltersOff::Kernel));
    }

    #[test]
    fn library_is_judged_only_where_systemd_is_in_its_usual_place() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(has_library(root.path()), None);
        let systemd = root.path().join("usr/lib/systemd");
        std::fs::create_dir_all(&systemd).unwrap();
        let mut elf = vec![0; 64];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        elf[18] = 62;
        std::fs::write(systemd.join("libsystemd-shared-259.so"), &elf).unwrap();
        assert_eq!(has_library(root.path()), Some(false));
        std::fs::create_dir_all(root.path().join("etc")).unwrap();
        std::fs::write(root.path().join("etc/ld.so.cache"), b"\0libseccomp.so.2\0/opt/lib/libseccomp.so.2\0").unwrap();
        assert_eq!(has_library(root.path()), Some(true));
        std::fs::remove_file(root.path().join("etc/ld.so.cache")).unwrap();
        std::fs::write(root.path().join("usr/lib/libseccomp.so.2"), &elf).unwrap();
        assert_eq!(has_library(root.path()), Some(true));
    }

    #[test]
    fn note_names_directives_process_reason_and_remedy() {
        let unit = "web.service".parse().unwrap();
        let text = |process, reason: Option<&FiltersOff>| {
            describe(&unit, Manager::System, &["SystemCallFilter"], process, reason).map(|note| note.text)
        };
        assert_eq!(text(None, None), None);
        assert_eq!(
            text(Some(42), Some(&FiltersOff::NoLibrary)).unwrap(),
            "SystemCallFilter= of web.service is not in force: its main process 42 has no filter (Seccomp: 0), since this \
             systemd loads libseccomp.so.2 at run time, and it is not installed; install libseccomp.so.2 and restart the \
             unit"
        );
        assert_eq!(
            text(Some(42), None).unwrap(),
            "SystemCallFilter= of web.service is not in force: /proc/42/status of its main process has no filter \
             (Seccomp: 0); systemd did not install it"
        );
    }
}
