//! A service manager with one unit, as data: what its calls change.

use crate::host::unit_settings::home_dir;
use crate::policy::manager_variable::{ManagerVariable, VariableEffect};
use crate::policy::{Directive, Mode, Policy};
use crate::syscalls::Groups;
use crate::systemd::manager::{NameList, UnitJob, UnitOutcome, UnitProperties};
use crate::unit_files;
use crate::units::{Manager, Unit, UnitName};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use tokio::sync::mpsc;

/// The groups of system calls, parsed once.
pub(crate) static GROUPS: LazyLock<Groups> = LazyLock::new(Groups::embedded);

/// How a call to the manager fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The manager answers with an error and does nothing.
    Refused,
    /// The manager does nothing and does not answer.
    LostRequest,
    /// The manager does its work, but the answer is lost.
    LostAnswer,
    /// The manager is gone, for this call and all later ones.
    ManagerGone,
    /// A signal comes before the manager does its work.
    Signal,
    /// A signal comes after the manager did its work, and the answer comes later.
    SignalAfterWork,
    /// This process is killed before the manager does its work.
    Kill,
    /// This process is killed after the manager did its work.
    KillAfterWork,
}

impl Fault {
    /// The failures of a manager.
    pub(crate) const OF_MANAGER: [Self; 4] = [Self::Refused, Self::LostRequest, Self::LostAnswer, Self::ManagerGone];
    /// The signals.
    pub(crate) const SIGNALS: [Self; 2] = [Self::Signal, Self::SignalAfterWork];
    /// The kills.
    pub(crate) const KILLS: [Self; 2] = [Self::Kill, Self::KillAfterWork];
}

/// The files of a unit as the manager read them.
pub(super) type ReadFiles = BTreeMap<PathBuf, Vec<u8>>;

/// Whether the manager and this process still run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Condition {
    Healthy,
    ManagerGone,
    ClientKilled,
}

/// How a fake differs from a healthy machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Quirk {
    /// The unit fails when it starts.
    FailsToStart,
    /// The manager looks for drop-ins elsewhere.
    IgnoresDropIns,
    /// Every signal comes twice.
    SignalsTwice,
    /// Something starts the unit again after each look at it.
    StartsAgain,
    /// A dependency of the unit fails, so that its jobs start nothing.
    LacksDependency,
    /// The unit's assertions are not met, so that its jobs start nothing.
    IsRefuted,
    /// The manager refuses jobs of the unit's dependents.
    RefusesDependents,
}

/// The manager, its unit, and what was asked of them.
pub(super) struct FakeState {
    pub(super) root: PathBuf,
    pub(super) unit: Unit,
    pub(super) in_force: ReadFiles,
    pub(super) active_state: &'static str,
    pub(super) started_with: Option<ReadFiles>,
    pub(super) invocation: u8,
    pub(super) logs_refusals: bool,
    pub(super) timers: BTreeSet<String>,
    pub(super) calls: Vec<&'static str>,
    /// The jobs so far, each with the files in force.
    pub(super) jobs: Vec<(UnitJob, ReadFiles)>,
    /// The jobs of other units so far.
    pub(super) other_jobs: Vec<(UnitName, UnitJob)>,
    pub(super) fault: Option<(usize, Fault)>,
    pub(super) condition: Condition,
    pub(super) quirks: BTreeSet<Quirk>,
    /// The units that properties list: property, name and active state.
    pub(super) linked: Vec<(&'static str, &'static str, &'static str)>,
    /// The running units that stop with the unit.
    pub(super) dependents: Vec<UnitName>,
    /// The cgroups of units.
    pub(super) control_groups: BTreeMap<UnitName, String>,
    /// The running instances of a template.
    pub(super) instances: Vec<UnitName>,
    pub(super) signals: mpsc::UnboundedSender<&'static str>,
}

impl FakeState {
    pub(super) fn reload(&mut self) {
        let home = home_dir(self.unit.manager);
        let found = unit_files::find(&self.root, &self.unit, Some(&home));
        let drop_ins = found.dropins.into_iter().filter(|_| !self.quirks.contains(&Quirk::IgnoresDropIns));
        let paths = found.fragment.into_iter().chain(drop_ins);
        let paths = paths.map(|path| self.root.join(path.strip_prefix("/").unwrap_or(&path)));
        self.in_force = paths.map(|path| (path.clone(), fs::read(&path).unwrap())).collect();
        let config = match self.unit.manager {
            Manager::System => None,
            Manager::User(_) => Some(unit_files::config_dir(&environment(), &home)),
        };
        // Without a line the variable keeps its value.
        if let Some(line) = unit_files::find_variable_line(
            &self.root,
            self.unit.manager,
            config.as_deref(),
            ManagerVariable::LogSeccomp,
            None,
        ) {
            self.logs_refusals = line.sets == VariableEffect::On;
        }
    }

    pub(super) fn start(&mut self) {
        if self.quirks.contains(&Quirk::LacksDependency) || self.quirks.contains(&Quirk::IsRefuted) {
            return;
        }
        self.invocation += 1;
        if self.quirks.contains(&Quirk::FailsToStart) {
            (self.active_state, self.started_with) = ("failed", None);
        } else {
            (self.active_state, self.started_with) = ("active", Some(self.in_force.clone()));
        }
    }

    pub(super) fn run_job(&mut self, job: UnitJob) {
        self.jobs.push((job, self.in_force.clone()));
        match job {
            UnitJob::Restart => self.start(),
            UnitJob::TryRestart if self.active_state == "active" => self.start(),
            UnitJob::Start if self.active_state != "active" => self.start(),
            UnitJob::TryRestart | UnitJob::Start | UnitJob::Reload => {}
            UnitJob::Stop => (self.active_state, self.started_with) = ("inactive", None),
        }
    }

    pub(super) fn outcome(&self) -> UnitOutcome {
        let result = if self.active_state == "failed" { "exit-code" } else { "success" };
        UnitOutcome { active_state: self.active_state.to_owned(), result: Some(result.to_owned()) }
    }

    pub(super) fn properties(&self) -> UnitProperties {
        let (fragments, dropins): (Vec<PathBuf>, Vec<PathBuf>) =
            self.in_force.keys().cloned().partition(|path| path.ends_with("x.service"));
        let fragment = fragments.first().map(PathBuf::as_path);
        // The files as they were at the reload, not as they are now.
        let copy = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        for (path, content) in &self.in_force {
            let path = copy.path().join(path.strip_prefix("/").unwrap());
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        let settings = unit_files::load_listed(copy.path(), &self.unit.name, fragment, &dropins).settings;
        let switches = Directive::switches().map(|switch| (switch, settings.is_on(switch))).collect();
        let policy = Policy::new(settings, &GROUPS);
        let filter = policy.filter.as_ref();
        let (mode, logged) = policy.logged_calls();
        let is_stale = self.in_force.iter().any(|(path, content)| fs::read(path).ok().as_ref() != Some(content));
        UnitProperties {
            id: self.unit.name.clone(),
            load_state: "loaded".to_owned(),
            active_state: self.active_state.to_owned(),
            sub_state: if self.active_state == "active" { "running" } else { "dead" }.to_owned(),
            fragment: fragment.map(Path::to_owned),
            need_daemon_reload: is_stale,
            units_loaded_us: None,
            transient: false,
            can_start: Some(true),
            refuse_manual_stop: Some(false),
            invocation_id: (self.active_state == "active").then_some([self.invocation; 16]),
            exec_main_start_us: None,
            main_pid: None,
            inactive_exit_us: None,
            system_call_filter: Some(NameList {
                allow: filter.is_some_and(|filter| filter.mode() == Mode::Allow),
                names: filter
                    .map_or_else(Vec::new, |filter| filter.entries().keys().map(ToString::to_string).collect()),
            }),
            system_call_error_number: Some(1),
            system_call_architectures: Some(Vec::new()),
            system_call_log: Some(NameList {
                allow: mode == Mode::Allow,
                names: logged.into_iter().map(str::to_owned).collect(),
            }),
            restrict_address_families: None,
            restrict_namespaces: None,
            user: None,
            capability_bounding_set: None,
            ambient_capabilities: None,
            no_new_privileges: None,
            withholding_lines: Vec::new(),
            switches,
            unparsed: BTreeSet::new(),
            dropins,
        }
    }
}

/// Returns the variables of this process that locate a user's files.
pub(super) fn environment() -> Vec<String> {
    let variable = |name: &str| Some(format!("{name}={}", std::env::var(name).ok()?));
    ["XDG_CONFIG_HOME", "HOME"].into_iter().filter_map(variable).collect()
}
