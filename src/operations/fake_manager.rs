//! A service manager for tests: it models one unit, reads its files from a temporary root, and can fail at every call.

mod fake_connection;
mod fake_state;

use crate::audit::Action;
use crate::incidents::{Denial, Incident, IncidentEvent, IncidentKey, Moment, Sample, SightingSource};
use crate::kernel::clock::now_millis;
use crate::operations::interruption::Interruption;
use crate::operations::local_machine::LocalMachine;
use crate::operations::recovery;
use crate::operations::service_manager::ServiceManagers;
use crate::syscalls::{Arch, Call};
use crate::systemd::manager::{SystemdError, UnitJob};
use crate::units::{Manager, Rung, Unit};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;
use tokio::sync::mpsc;

pub(crate) use fake_connection::FakeManager;
use fake_state::{Condition, FakeState, Quirk, ReadFiles};
pub(crate) use fake_state::{Fault, GROUPS};

/// The unit's file: `uname` fails with EPERM.
pub(crate) const UNIT_FILE: &str =
    "[Service]\nExecStart=/bin/true\nSystemCallFilter=~uname\nSystemCallErrorNumber=EPERM\nLockPersonality=yes\n";

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

/// A machine with one service manager and one unit.
pub(crate) struct FakeMachine {
    root: tempfile::TempDir,
    state: Rc<RefCell<FakeState>>,
    signals: RefCell<Option<mpsc::UnboundedReceiver<&'static str>>>,
    /// A further manager, which does not answer.
    silent: Cell<Option<Manager>>,
    pub(crate) unit: Unit,
}

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
            other_jobs: Vec::new(),
            fault: None,
            condition: Condition::Healthy,
            quirks: BTreeSet::new(),
            linked: Vec::new(),
            dependents: Vec::new(),
            control_groups: BTreeMap::new(),
            instances: Vec::new(),
            signals: sender,
        };
        let machine = Self {
            root,
            state: Rc::new(RefCell::new(state)),
            signals: RefCell::new(Some(receiver)),
            silent: Cell::new(None),
            unit,
        };
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

    /// Returns the jobs of other units so far.
    pub(crate) fn other_jobs(&self) -> Vec<(String, UnitJob)> {
        self.state.borrow().other_jobs.iter().map(|(name, job)| (name.to_string(), *job)).collect()
    }

    /// Makes the unit fail when it starts.
    pub(crate) fn fail_to_start(&self) {
        self.state.borrow_mut().quirks.insert(Quirk::FailsToStart);
    }

    /// Makes a property of the unit list another unit, and nothing start the unit if that one failed.
    pub(crate) fn link(&self, property: &'static str, other: &'static str, active_state: &'static str) {
        let mut state = self.state.borrow_mut();
        state.linked.push((property, other, active_state));
        if active_state == "failed" {
            state.quirks.insert(Quirk::LacksDependency);
        }
    }

    /// Makes a running unit stop when the unit stops.
    pub(crate) fn add_dependent(&self, name: &str) {
        self.state.borrow_mut().dependents.push(name.parse().unwrap());
    }

    /// Makes the manager refuse the jobs of dependents.
    pub(crate) fn refuse_dependents(&self) {
        self.state.borrow_mut().quirks.insert(Quirk::RefusesDependents);
    }

    /// Makes the assertions of the unit fail, so that nothing starts it.
    pub(crate) fn refute(&self) {
        self.state.borrow_mut().quirks.insert(Quirk::IsRefuted);
    }

    /// Makes a unit run in this cgroup.
    pub(crate) fn place(&self, name: &str, control_group: &str) {
        self.state.borrow_mut().control_groups.insert(name.parse().unwrap(), control_group.to_owned());
    }

    /// Adds a running instance of a template.
    pub(crate) fn add_instance(&self, name: &str) {
        self.state.borrow_mut().instances.push(name.parse().unwrap());
    }

    /// Adds a manager that does not answer.
    pub(crate) fn add_silent_manager(&self, manager: Manager) {
        self.silent.set(Some(manager));
    }

    /// Makes something start the unit again after each look at it.
    pub(crate) fn start_again_and_again(&self) {
        self.state.borrow_mut().quirks.insert(Quirk::StartsAgain);
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

    /// Returns whether a file has exactly this text.
    pub(crate) fn has_text(&self, text: &str) -> bool {
        self.files.values().any(|content| content == text.as_bytes())
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
        if self.silent.get() == Some(manager) {
            return Err(SystemdError::TimedOut);
        }
        if manager != self.unit.manager {
            return Err(SystemdError::Unreachable { manager, why: "no such manager".to_owned() });
        }
        connection.call("connect", |_| Ok(())).await?;
        Ok(connection)
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
