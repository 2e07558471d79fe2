//! A service manager for tests: it models one unit, reads its files from a temporary root, and can fail at every call.

use super::interruption::Interruption;
use super::local_machine::LocalMachine;
use super::recovery;
use super::service_manager::{ServiceManager, ServiceManagers};
use crate::audit::Action;
use crate::host::unit_settings::home_dir;
use crate::incidents::{Denial, Incident, IncidentEvent, IncidentKey, Moment, Sample, SightingSource};
use crate::kernel::clock::now_millis;
use crate::policy::manager_variable::{ManagerVariable, VariableEffect};
use crate::policy::{Directive, Mode, Policy};
use crate::syscalls::{Arch, Call, Groups};
use crate::systemd::manager::{
    LoadedInstance, NameList, SystemdError, UnitJob, UnitOutcome, UnitProperties, UnitState,
};
use crate::unit_files;
use crate::units::{Manager, Rung, Unit, UnitName};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::LazyLock;
use std::task::Poll;
use std::time::Duration;
use tokio::sync::mpsc;

/// The unit's file: `uname` fails with EPERM.
pub(crate) const UNIT_FILE: &str =
    "[Service]\nExecStart=/bin/true\nSystemCallFilter=~uname\nSystemCallErrorNumber=EPERM\nLockPersonality=yes\n";

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
type ReadFiles = BTreeMap<PathBuf, Vec<u8>>;

/// Everything that an operation can change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Snapshot {
    /// The files below the root.
    files: ReadFiles,
    /// The unit's files as the manager holds them.
    in_force: ReadFiles,
    active_state: &'static str,
    /// The unit's files when its processes started.
    started_with: Option<ReadFiles>,
    pub(crate) logs_refusals: bool,
    pub(crate) has_timer: bool,
}

/// Whether the manager and this process still run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Condition {
    Healthy,
    ManagerGone,
    ClientKilled,
}

/// How a fake differs from a healthy machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Quirk {
    /// The unit fails when it starts.
    FailsToStart,
    /// The manager looks for drop-ins elsewhere.
    IgnoresDropIns,
    /// Every signal comes twice.
    SignalsTwice,
}

struct FakeState {
    root: PathBuf,
    unit: Unit,
    in_force: ReadFiles,
    active_state: &'static str,
    started_with: Option<ReadFiles>,
    invocation: u8,
    logs_refusals: bool,
    timers: BTreeSet<String>,
    calls: Vec<&'static str>,
    /// The jobs so far, each with the files in force.
    jobs: Vec<(UnitJob, ReadFiles)>,
    fault: Option<(usize, Fault)>,
    condition: Condition,
    quirks: BTreeSet<Quirk>,
    signals: mpsc::UnboundedSender<&'static str>,
}

/// A machine with one service manager and one unit.
pub(crate) struct FakeMachine {
    root: tempfile::TempDir,
    state: Rc<RefCell<FakeState>>,
    signals: RefCell<Option<mpsc::UnboundedReceiver<&'static str>>>,
    pub(crate) unit: Unit,
}

/// A connection to the manager of a [`FakeMachine`].
pub(crate) struct FakeManager(Rc<RefCell<FakeState>>);

impl FakeMachine {
    /// A machine on which the unit is stopped.
    pub(crate) fn new(manager: Manager) -> Self {
        // Files in memory avoid the wait for the disk at every write.
        let root = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let unit = Unit { manager, name: "x.service".parse().unwrap() };
        let (sender, receiver) = mpsc::unbounded_channel();
        let state = FakeState {
            root: root.path().to_owned(),
            unit: unit.clone(),
            in_force: ReadFiles::new(),
            active_state: "inactive",
            started_with: None,
            invocation: 0,
            logs_refusals: false,
            timers: BTreeSet::new(),
            calls: Vec::new(),
            jobs: Vec::new(),
            fault: None,
            condition: Condition::Healthy,
            quirks: BTreeSet::new(),
            signals: sender,
        };
        let machine = Self { root, state: Rc::new(RefCell::new(state)), signals: RefCell::new(Some(receiver)), unit };
        let dir = match manager {
            Manager::System => "etc/systemd/system",
            Manager::User(_) => "etc/systemd/user",
        };
        machine.write(&format!("{dir}/x.service"), UNIT_FILE);
        machine.state.borrow_mut().reload();
        machine
    }

    /// A machine of the system manager on which the unit runs.
    pub(crate) fn running() -> Self {
        let machine = Self::new(Manager::System);
        machine.state.borrow_mut().start();
        machine
    }

    /// Writes a file below the root.
    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Reloads the manager, as `systemctl daemon-reload` does.
    pub(crate) fn reload(&self) {
        self.state.borrow_mut().reload();
    }

    /// Makes call number `number` (from 0) fail.
    pub(crate) fn fail_at(&self, number: usize, fault: Fault) {
        let mut state = self.state.borrow_mut();
        state.fault = Some((number, fault));
        state.calls.clear();
    }

    /// Returns whether the operation reached the failing call.
    pub(crate) fn has_failed(&self) -> bool {
        let state = self.state.borrow();
        state.fault.is_some_and(|(number, _)| state.calls.len() > number)
    }

    /// Returns the name of the failing call.
    pub(crate) fn failed_call(&self) -> &'static str {
        let state = self.state.borrow();
        state.fault.and_then(|(number, _)| state.calls.get(number).copied()).unwrap_or("none")
    }

    /// Returns the jobs so far, and whether a drop-in of this name was in force at each.
    pub(crate) fn jobs_with(&self, name: &str) -> Vec<(UnitJob, bool)> {
        let state = self.state.borrow();
        state.jobs.iter().map(|(job, files)| (*job, files.keys().any(|path| path.ends_with(name)))).collect()
    }

    /// Makes the unit fail when it starts.
    pub(crate) fn fail_to_start(&self) {
        self.state.borrow_mut().quirks.insert(Quirk::FailsToStart);
    }

    /// Makes the manager look for drop-ins elsewhere.
    pub(crate) fn ignore_drop_ins(&self) {
        self.state.borrow_mut().quirks.insert(Quirk::IgnoresDropIns);
    }

    /// Makes every signal come twice.
    pub(crate) fn signal_twice(&self) {
        self.state.borrow_mut().quirks.insert(Quirk::SignalsTwice);
    }

    /// Returns a source without signals.
    pub(crate) fn no_signals() -> Interruption {
        Interruption::new(|_| Poll::Pending)
    }

    /// Returns the receiver of the signals. Panics at the second call without a call to `renew_signals`.
    pub(crate) fn interruption(&self) -> Interruption {
        let mut receiver = self.signals.borrow_mut().take().unwrap();
        Interruption::new(move |context| match receiver.poll_recv(context) {
            Poll::Ready(Some(name)) => Poll::Ready(name),
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        })
    }

    /// The machine for the user who may change the unit.
    pub(crate) fn machine(&self) -> LocalMachine<'_, Self> {
        let uid = match self.unit.manager {
            Manager::System => 0,
            Manager::User(uid) => uid,
        };
        LocalMachine::with_root(self, self.root.path(), uid)
    }

    /// The machine for the user `uid`.
    pub(crate) fn machine_of(&self, uid: u32) -> LocalMachine<'_, Self> {
        LocalMachine::with_root(self, self.root.path(), uid)
    }

    /// Starts the unit.
    pub(crate) fn start_unit(&self) {
        self.state.borrow_mut().start();
    }

    /// Opens a new source of signals.
    pub(crate) fn renew_signals(&self) {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.state.borrow_mut().signals = sender;
        *self.signals.borrow_mut() = Some(receiver);
    }

    /// Stops the unit.
    pub(crate) fn stop(&self) {
        self.state.borrow_mut().run_job(UnitJob::Stop);
    }

    /// Makes the manager answer again.
    pub(crate) fn repair(&self) {
        let mut state = self.state.borrow_mut();
        (state.fault, state.condition) = (None, Condition::Healthy);
        state.calls.clear();
    }

    /// Repairs the manager, and makes the markers name a process that does not run, as if this process had ended.
    pub(crate) fn end_process(&self) {
        self.repair();
        for (path, content) in list_files(self.root.path()) {
            let text = String::from_utf8(content).unwrap();
            if text.contains("\n# Owner: ") {
                let lines = text.lines().map(|line| if line.starts_with("# Owner: ") { "# Owner: 1 0" } else { line });
                fs::write(&path, lines.collect::<Vec<_>>().join("\n") + "\n").unwrap();
            }
        }
    }

    /// Kills this process, as it seems to an operation.
    pub(crate) fn kill_process(&self) {
        self.state.borrow_mut().condition = Condition::ClientKilled;
    }

    /// Runs an operation until its end, or until this process is killed (`None`).
    pub(crate) fn run<T>(&self, operation: impl Future<Output = T>) -> Option<T> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            tokio::select! {
                biased;
                result = operation => Some(result),
                () = self.wait_for_kill() => None,
            }
        })
    }

    async fn wait_for_kill(&self) {
        while self.state.borrow().condition != Condition::ClientKilled {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Undoes stale changes as the next harden-why does. Returns its messages.
    pub(crate) fn recover(&self) -> Vec<String> {
        self.end_process();
        self.recover_once().unwrap()
    }

    /// Undoes stale changes with the manager as it is, until the end or a kill (`None`).
    pub(crate) fn recover_once(&self) -> Option<Vec<String>> {
        self.run(async {
            let mut messages = Vec::new();
            for change in recovery::find_stale(self.machine()) {
                messages.push(change.recover(self.machine()).await);
            }
            messages
        })
    }

    /// Returns everything that an operation can change.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let state = self.state.borrow();
        Snapshot {
            files: list_files(self.root.path()),
            in_force: state.in_force.clone(),
            active_state: state.active_state,
            started_with: state.started_with.clone(),
            logs_refusals: state.logs_refusals,
            has_timer: !state.timers.is_empty(),
        }
    }
}

impl Snapshot {
    /// Returns whether logging is off, and the files and the unit's state are as before. The unit's processes and the
    /// timer may differ.
    pub(crate) fn is_like_before_logging(&self, before: &Self) -> bool {
        self.files == before.files && !self.logs_refusals && self.active_state == before.active_state
    }

    /// Returns whether a file is in a directory of this name.
    pub(crate) fn has_file_below(&self, directory: &str) -> bool {
        self.files.keys().any(|path| path.parent().is_some_and(|parent| parent.ends_with(directory)))
    }

    /// Returns whether the manager holds a drop-in of this name.
    pub(crate) fn holds(&self, name: &str) -> bool {
        self.in_force.keys().any(|path| path.ends_with(name))
    }

    /// Returns whether the processes started with a drop-in of this name.
    pub(crate) fn runs_with(&self, name: &str) -> bool {
        self.started_with.iter().flatten().any(|(path, _)| path.ends_with(name))
    }
}

impl ServiceManagers for FakeMachine {
    type Connection = FakeManager;

    async fn connect(&self, manager: Manager) -> Result<FakeManager, SystemdError> {
        let connection = FakeManager(Rc::clone(&self.state));
        if manager != self.unit.manager {
            return Err(SystemdError::Unreachable { manager, why: "no such manager".to_owned() });
        }
        connection.call("connect", |_| Ok(())).await?;
        Ok(connection)
    }
}

impl FakeState {
    fn reload(&mut self) {
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

    fn start(&mut self) {
        self.invocation += 1;
        if self.quirks.contains(&Quirk::FailsToStart) {
            (self.active_state, self.started_with) = ("failed", None);
        } else {
            (self.active_state, self.started_with) = ("active", Some(self.in_force.clone()));
        }
    }

    fn run_job(&mut self, job: UnitJob) {
        self.jobs.push((job, self.in_force.clone()));
        match job {
            UnitJob::Restart => self.start(),
            UnitJob::TryRestart if self.active_state == "active" => self.start(),
            UnitJob::Start if self.active_state != "active" => self.start(),
            UnitJob::TryRestart | UnitJob::Start | UnitJob::Reload => {}
            UnitJob::Stop => (self.active_state, self.started_with) = ("inactive", None),
        }
    }

    fn outcome(&self) -> UnitOutcome {
        let result = if self.active_state == "failed" { "exit-code" } else { "success" };
        UnitOutcome { active_state: self.active_state.to_owned(), result: Some(result.to_owned()) }
    }

    fn properties(&self) -> UnitProperties {
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
        let switches = Directive::switches()
            .map(|switch| (switch, settings.switch(switch).is_some_and(|setting| setting.on)))
            .collect();
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
            switches,
            unparsed: BTreeSet::new(),
            dropins,
        }
    }
}

impl FakeManager {
    async fn call<T>(
        &self,
        name: &'static str,
        work: impl FnOnce(&mut FakeState) -> Result<T, SystemdError>,
    ) -> Result<T, SystemdError> {
        let (fault, condition) = {
            let mut state = self.0.borrow_mut();
            let number = state.calls.len();
            state.calls.push(name);
            (state.fault.filter(|(at, _)| *at == number).map(|(_, fault)| fault), state.condition)
        };
        // Every real call waits for the manager at least once.
        tokio::task::yield_now().await;
        let work = || work(&mut self.0.borrow_mut());
        let gone = || Err(SystemdError::BadReply("the connection was closed".to_owned()));
        if condition == Condition::ManagerGone {
            return gone();
        }
        match fault {
            None => work(),
            Some(Fault::Refused) => Err(SystemdError::Refused("org.freedesktop.systemd1.Failed: no".to_owned())),
            Some(Fault::LostRequest) => Err(SystemdError::TimedOut),
            Some(Fault::LostAnswer) => {
                let _ = work();
                Err(SystemdError::TimedOut)
            }
            Some(Fault::ManagerGone) => {
                self.0.borrow_mut().condition = Condition::ManagerGone;
                gone()
            }
            Some(Fault::Signal) => {
                self.signal().await;
                work()
            }
            Some(Fault::SignalAfterWork) => {
                let done = work();
                self.signal().await;
                done
            }
            Some(Fault::Kill) => self.kill().await,
            Some(Fault::KillAfterWork) => {
                let _ = work();
                self.kill().await
            }
        }
    }

    /// Sends a signal. An operation that receives it drops the call here.
    async fn signal(&self) {
        let is_twice = self.0.borrow().quirks.contains(&Quirk::SignalsTwice);
        for _ in 0..=u8::from(is_twice) {
            self.0.borrow().signals.send("SIGINT").unwrap();
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }

    async fn kill<T>(&self) -> T {
        self.0.borrow_mut().condition = Condition::ClientKilled;
        std::future::pending().await
    }
}

impl ServiceManager for FakeManager {
    fn manager(&self) -> Manager {
        self.0.borrow().unit.manager
    }

    async fn version(&self) -> Result<String, SystemdError> {
        self.call("version", |_| Ok("252.39-1".to_owned())).await
    }

    async fn environment(&self) -> Result<Vec<String>, SystemdError> {
        self.call("environment", |_| Ok(environment())).await
    }

    async fn started_at(&self) -> Result<u64, SystemdError> {
        self.call("started_at", |_| Ok(7)).await
    }

    async fn units_loaded_at(&self) -> Result<u64, SystemdError> {
        self.call("units_loaded_at", |_| Ok(u64::MAX)).await
    }

    async fn unit_properties(&self, name: &UnitName) -> Result<UnitProperties, SystemdError> {
        self.call("unit_properties", |state| {
            if *name == state.unit.name { Ok(state.properties()) } else { Err(SystemdError::NoSuchUnit(name.clone())) }
        })
        .await
    }

    async fn wait_for_unit_properties(&self, name: &UnitName, _: Duration) -> Result<UnitProperties, SystemdError> {
        self.unit_properties(name).await
    }

    async fn list_loaded_units(&self) -> Result<(Vec<UnitProperties>, bool), SystemdError> {
        self.call("list_loaded_units", |state| Ok((vec![state.properties()], true))).await
    }

    async fn list_instances(&self, template: &UnitName) -> Result<Vec<LoadedInstance>, SystemdError> {
        self.call("list_instances", |state| {
            let name = &state.unit.name;
            let is_running = state.active_state == "active";
            let instance = LoadedInstance { name: name.clone(), is_running };
            Ok(Some(instance).filter(|_| name.template_name().as_ref() == Some(template)).into_iter().collect())
        })
        .await
    }

    async fn unit_state(&self, _: &UnitName) -> Result<UnitState, SystemdError> {
        self.call("unit_state", |state| {
            let sub_state = if state.active_state == "active" { "running" } else { "dead" }.to_owned();
            Ok(UnitState { outcome: state.outcome(), sub_state, busy: false, unmet: false })
        })
        .await
    }

    async fn running_dependents(&self, _: &UnitName) -> Result<Vec<UnitName>, SystemdError> {
        Ok(Vec::new())
    }

    async fn control_group(&self, _: &UnitName) -> Result<Option<String>, SystemdError> {
        self.call("control_group", |_| Ok(None)).await
    }

    async fn coming_control_group(&self, name: &UnitName) -> Result<String, SystemdError> {
        self.call("coming_control_group", |_| Ok(format!("/system.slice/{name}"))).await
    }

    async fn reload(&self) -> Result<(), SystemdError> {
        self.call("reload", |state| {
            state.reload();
            Ok(())
        })
        .await
    }

    async fn start_job(&self, _: &UnitName, job: UnitJob) -> Result<(), SystemdError> {
        self.call("start_job", |state| {
            state.run_job(job);
            Ok(())
        })
        .await
    }

    async fn wait_for_job(&self, _: &UnitName, _: Duration) -> Result<UnitOutcome, SystemdError> {
        self.call("wait_for_job", |state| Ok(state.outcome())).await
    }

    async fn keep_loaded(&self, _: &UnitName) -> Result<(), SystemdError> {
        self.call("keep_loaded", |_| Ok(())).await
    }

    async fn start_timer(&self, name: &str, _: &str, _: Duration, _: &[String]) -> Result<(), SystemdError> {
        self.call("start_timer", |state| {
            if state.timers.insert(name.to_owned()) { Ok(()) } else { Err(SystemdError::UnitExists(name.to_owned())) }
        })
        .await
    }

    async fn stop_timer(&self, name: &str) -> Result<bool, SystemdError> {
        self.call("stop_timer", |state| Ok(state.timers.remove(name))).await
    }
}

/// A denial of `uname` to a unit just now, as a tap reports it.
pub(crate) fn denial(unit: &Unit) -> Incident {
    let call = Call::named(Arch::native(), "uname");
    Incident {
        key: IncidentKey {
            unit: Some(unit.clone()),
            event: IncidentEvent::Denial(Denial { call, action: Action::Errno }),
            exe: b"/bin/true".to_vec(),
            source: SightingSource::Tap { errno: 1 },
        },
        rung: Some(Rung::OwnCgroup),
        count: 1,
        first: Moment::At(now_millis()),
        last: Moment::At(now_millis()),
        sample: Sample::default(),
    }
}

/// Returns the variables of this process that locate a user's files.
fn environment() -> Vec<String> {
    let variable = |name: &str| Some(format!("{name}={}", std::env::var(name).ok()?));
    ["XDG_CONFIG_HOME", "HOME"].into_iter().filter_map(variable).collect()
}

/// Returns the files below a directory with their content.
fn list_files(dir: &Path) -> ReadFiles {
    let mut files = ReadFiles::new();
    for path in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            files.extend(list_files(&path));
        } else {
            let content = fs::read(&path).unwrap();
            files.insert(path, content);
        }
    }
    files
}
