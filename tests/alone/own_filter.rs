//! The daemon is not denied anything itself: its whole life under the lines of the units that it ships with.

use crate::support;
use crate::support::manager::TestManager;
use harden_why::incidents::{Incident, Query, Store};
use harden_why::outlet::client::HardenWhyProxy;
use harden_why::policy::{Policy, Settings, UnitFile};
use harden_why::syscalls::{Abi, Groups};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// How long anything may take here.
const PATIENCE: Duration = Duration::from_mins(1);

/// How often each of the storm's processes violates its filter: eight processes in each of four units.
const VIOLATIONS: u64 = 5_000;

fn shipped(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd").join(name)).unwrap()
}

/// The daemon as a system service of a manager that is not the machine's.
struct Service<'a> {
    manager: &'a TestManager,
    state: PathBuf,
}

impl<'a> Service<'a> {
    /// Every line of the units except those that name places. The replaced places must let /tmp through.
    fn install(manager: &'a TestManager) -> Self {
        const OURS: [&str; 5] = ["ExecStart=", "StateDirectory=", "StateDirectoryMode=", "BusName=", "Alias="];
        let (base, program) = (manager.base().display(), env!("CARGO_BIN_EXE_harden-whyd"));
        let client = format!("{} --bus {}", env!("CARGO_BIN_EXE_harden-why"), manager.bus());
        let state = manager.base().join("state");
        let kept: Vec<String> = shipped("harden-whyd.service")
            .lines()
            .filter(|line| !OURS.iter().any(|key| line.starts_with(key)))
            .map(|line| match line {
                "[Service]" => format!(
                    "[Service]\nSlice=system.slice\nEnvironment=RUST_LOG=harden_why=debug,info\nExecStart={program} --bus {} --state-dir {}\n\
                     StandardError=append:{base}/whyd.log\nBindReadOnlyPaths={program} {base}/run\n\
                     BindPaths={}\n",
                    manager.bus(),
                    state.display(),
                    state.display()
                ),
                line => line.replace("/usr/bin/harden-why ", &format!("{client} ")),
            })
            .collect();
        fs::create_dir(&state).unwrap();
        manager.write("harden-whyd.service", &kept.join("\n"));
        manager.write("harden-whyd.socket", &shipped("harden-whyd.socket"));
        Self { manager, state }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.manager.base().join("whyd.log")).unwrap_or_default()
    }

    fn show(&self, property: &str) -> String {
        let shown = self.manager.systemctl(&["show", "-P", property, "harden-whyd.service"]);
        String::from_utf8(shown.stdout).unwrap().trim().to_owned()
    }

    #[track_caller]
    fn start(&self) {
        let started = self.manager.start_unit("harden-whyd.service");
        let status = self.manager.systemctl(&["status", "--no-pager", "harden-whyd.service"]);
        assert!(started, "{}{}", self.log(), String::from_utf8_lossy(&status.stdout));
    }

    /// The stored incidents of units with this name.
    fn incidents(&self, name: &str) -> Vec<Incident> {
        let Ok(store) = Store::open_read_only(&self.state) else { return Vec::new() };
        let stored = store.incidents(&Query::default()).unwrap();
        let incidents = stored.into_iter().map(|stored| stored.incident);
        let named = |one: &Incident| one.key.unit.as_ref().map_or("", |unit| unit.name.as_str()).starts_with(name);
        incidents.filter(named).collect()
    }

    #[track_caller]
    fn wait_for(&self, name: &str, count: u64) {
        let deadline = Instant::now() + PATIENCE;
        while self.incidents(name).iter().map(|incident| incident.count).sum::<u64>() < count {
            assert!(Instant::now() < deadline, "{name} is not among {:?}\n{}", self.incidents(""), self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Asserts that it ran without a failure, and that nothing of it was denied.
    #[track_caller]
    fn is_sound(&self) {
        let state = ["ActiveState", "NRestarts", "Result"].map(|property| self.show(property));
        assert_eq!(state, ["active", "0", "success"], "{}", self.log());
        assert_eq!(self.incidents("harden-whyd.service"), [], "it was denied something");
        for word in ["does not note", "cannot receive", "panicked", "ERROR", "overran", "cannot read the settings"] {
            assert!(!self.log().contains(word), "{}", self.log());
        }
    }
}

/// The id and the nice value of each thread of a process (`proc_pid_stat(5)`, field 19).
fn nice_of_threads(pid: i32) -> Vec<(i32, i32)> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap().filter_map(Result::ok);
    let nice = |stat: &str| stat.rsplit_once(')')?.1.split_whitespace().nth(16)?.parse().ok();
    let task = |path: &Path| {
        let id = path.file_name()?.to_str()?.parse().ok()?;
        Some((id, nice(&fs::read_to_string(path.join("stat")).ok()?)?))
    };
    let found: Vec<(i32, i32)> = tasks.filter_map(|entry| task(&entry.path())).collect();
    assert!(found.len() > 1, "{found:?}: no thread answers clients");
    found
}

/// A unit that dies of uname(2).
fn write_deadly(manager: &TestManager, name: &str, exec: &str) {
    let text = format!("[Service]\nType=oneshot\nSlice=system.slice\nExecStart={exec}\nSystemCallFilter=~uname\n");
    manager.write(name, &text);
}

#[test]
fn daemon_under_its_own_units_is_denied_nothing() {
    let _turn = crate::take_turn();
    let Some(manager) = TestManager::start() else { return };
    let service = Service::install(&manager);
    write_deadly(&manager, "dies.service", "/bin/uname");
    // A child that ends at once: only the exit notes can attribute it.
    write_deadly(&manager, "child.service", "/bin/sh -c '/bin/uname; true'");
    write_deadly(&manager, "between.service", "/bin/uname");
    write_deadly(&manager, "silent.service", "/bin/sh -c 'kill -SYS $$$$'");
    // A process of another user, which hidepid= must not hide.
    manager.write(
        "lives.service",
        "[Service]\nSlice=system.slice\nSystemCallFilter=~getppid:EPERM\nNoNewPrivileges=yes\nSystemCallLog=getppid\n\
         ExecStart=/usr/bin/setpriv --reuid=65534 --regid=65534 --clear-groups /bin/sleep 1000\n",
    );
    let storm = format!(
        "[Service]\nType=oneshot\nSlice=system.slice\nSystemCallLog=getpgid\n\
         ExecStart=/usr/bin/python3 -c 'import os;os.fork();[os.getpgid(0) for _ in range({VIOLATIONS})]'\n"
    );
    for number in 0..4 {
        manager.write(&format!("storm{number}.service"), &storm);
    }
    manager.reload();
    // The store that it finds at its start is no store.
    fs::write(service.state.join("incidents.sqlite3"), "not a database, but long enough to be taken for one").unwrap();
    service.start();
    let set_aside = service.log().contains("a new store was started");
    assert!(set_aside, "{}", service.log());
    fs::write(manager.base().join("whyd.log"), "").unwrap();

    for unit in ["dies.service", "child.service", "silent.service"] {
        manager.start_unit(unit);
        service.wait_for(unit, 1);
    }
    service.is_sound();

    let units = ["storm0.service", "storm1.service", "storm2.service", "storm3.service"];
    assert!(manager.systemctl(&[&["start"], &units[..]].concat()).status.success());
    // The kernel itself drops records when many processes outrun it on a busy machine.
    service.wait_for("storm", 8 * VIOLATIONS / 2);

    let answers = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let connection = zbus::connection::Builder::address(manager.bus().as_str()).build().await.unwrap();
        let client = HardenWhyProxy::new(&connection).await.unwrap();
        client.subscribe().await.unwrap();
        let status = client.status().await.unwrap();
        assert!(status.listening && status.receive_buffer >= 64 << 20, "{status:?}");
        assert!(!status.limitations.iter().any(|one| one.contains("lacks")), "{:?}", status.limitations);
        (client.list_units(0).await.unwrap().len(), client.list_incidents("", "", 0, 0, 500).await.unwrap().len())
    });
    assert!(answers.0 >= 7 && answers.1 >= 7, "{answers:?}");
    let pid: i32 = service.show("MainPID").parse().unwrap();
    for task in nice_of_threads(pid) {
        let expected = if task.0 == pid { -10 } else { 0 };
        assert_eq!(task.1, expected, "thread {} of {pid}: only the loop has the higher priority", task.0);
    }
    service.is_sound();

    // A command outside of the filter makes it reread its configuration.
    assert!(manager.systemctl(&["reload", "harden-whyd.service"]).status.success(), "{}", service.log());
    // systemctl returns once the signal is sent.
    let deadline = Instant::now() + PATIENCE;
    while !service.log().contains("SIGHUP: reread the configuration") {
        assert!(Instant::now() < deadline, "{}", service.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    service.is_sound();

    // A restart loses nothing: records wait in the socket that systemd holds.
    manager.systemctl(&["kill", "-s", "STOP", "harden-whyd.service"]);
    manager.start_unit("between.service");
    let pid = service.show("MainPID");
    manager.systemctl(&["kill", "-s", "KILL", "harden-whyd.service"]);
    let deadline = Instant::now() + PATIENCE;
    while service.show("ActiveState") != "active" || service.show("MainPID") == pid {
        assert!(Instant::now() < deadline, "{}", service.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    service.wait_for("between.service", 1);
    assert!(manager.systemctl(&["restart", "harden-whyd.service"]).status.success());
    assert_eq!(manager.systemctl(&["is-active", "harden-whyd.socket"]).stdout, b"active\n");

    assert!(manager.systemctl(&["stop", "harden-whyd.socket", "harden-whyd.service"]).status.success());
    assert_eq!([service.show("Result"), service.show("ActiveState")], ["success", "inactive"], "{}", service.log());
    assert_eq!(service.incidents("harden-whyd.service"), []);
}

#[test]
fn daemon_that_hangs_is_replaced() {
    let _turn = crate::take_turn();
    let Some(manager) = TestManager::start() else { return };
    let service = Service::install(&manager);
    manager.write("harden-whyd.service.d/soon.conf", "[Service]\nWatchdogSec=5\n");
    manager.reload();
    service.start();
    let pid = service.show("MainPID");
    std::thread::sleep(Duration::from_secs(7));
    assert_eq!(service.show("MainPID"), pid, "an idle loop turns: {}", service.log());
    manager.systemctl(&["kill", "-s", "STOP", "harden-whyd.service"]);
    let deadline = Instant::now() + PATIENCE;
    while service.show("ActiveState") != "active" || [pid.as_str(), "0"].contains(&service.show("MainPID").as_str()) {
        assert!(Instant::now() < deadline, "{}", service.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(service.show("NRestarts"), "1");
}

#[test]
fn start_of_the_daemon_cleans_up_after_a_killed_client() {
    const LEFT: &str = "/run/systemd/system/x.service.d/zzzz-harden-why-rehearsal.conf";
    let _turn = crate::take_turn();
    let Some(manager) = TestManager::start() else { return };
    let service = Service::install(&manager);
    manager.write("x.service", "[Service]\nExecStart=/bin/sleep 1000\nSystemCallFilter=~uname\n");
    // Of a PID 1 with another start time.
    let text = "# Written by harden-why\n# Owner: 1 0\n# Before: running -\n[Service]\nSystemCallFilter=\n";
    let put = format!("mkdir -p $(dirname {LEFT}) && printf '{text}' >{LEFT}");
    assert!(manager.command(&["sh", "-c", &put]).status().unwrap().success());
    manager.reload();
    assert!(manager.start_unit("x.service"));
    let show = |property: &str| {
        let shown = manager.systemctl(&["show", "-P", property, "x.service"]);
        String::from_utf8(shown.stdout).unwrap().trim().to_owned()
    };
    let (filter, pid) = (show("SystemCallFilter"), show("MainPID"));
    assert_eq!(filter, "~", "what was left is in force");
    service.start();
    assert_eq!(show("SystemCallFilter"), "~uname");
    assert!(show("ActiveState") == "active" && ![pid.as_str(), "0"].contains(&show("MainPID").as_str()));
    let left = manager.command(&["ls", "-A", "/run/systemd/system"]).output().unwrap();
    assert_eq!(String::from_utf8(left.stdout).unwrap(), "", "nothing is left");
    service.is_sound();
}

#[test]
fn allowed_calls_are_allowed_under_their_other_names() {
    let _turn = crate::take_turn();
    let path = Path::new("harden-whyd.service");
    let file = UnitFile::parse(path, shipped("harden-whyd.service").as_bytes());
    let settings = Settings::new(&"harden-whyd.service".parse().unwrap(), Some(file), vec![]);
    let filter = Policy::new(settings, &Groups::embedded().with_native(Abi::X86_64)).filter.unwrap();
    let known: BTreeSet<&str> = Abi::all().flat_map(Abi::calls).map(|(_, name)| name).collect();
    let mut others = 0;
    for call in known.iter().filter(|call| filter.permits(call)) {
        // The calls of 32-bit machines, and those with 64-bit time there.
        for suffix in ["64", "_time64", "32"] {
            let other = format!("{call}{suffix}");
            if known.contains(other.as_str()) {
                others += 1;
                assert!(filter.permits(&other), "{call} is allowed, and {other} is not");
            }
        }
    }
    assert!(others > 20, "{others}");
    assert!(!filter.permits("execveat") && !filter.permits("ptrace"));
}

#[test]
fn units_are_valid_and_have_a_low_exposure_score() {
    let _turn = crate::take_turn();
    let dir = tempfile::tempdir().unwrap();
    let program = env!("CARGO_BIN_EXE_harden-whyd");
    for name in ["harden-whyd.service", "harden-whyd.socket"] {
        fs::write(dir.path().join(name), shipped(name).replace("/usr/bin/harden-whyd", program)).unwrap();
    }
    let analyze = |arguments: &[&str]| Command::new("systemd-analyze").args(arguments).current_dir(dir.path()).output();
    // The pages exist once the package is installed.
    let verify = analyze(&["verify", "--man=no", "./harden-whyd.service", "./harden-whyd.socket"]);
    let Ok(verify) = verify else { return support::skip::skip("there is no systemd-analyze") };
    assert!(verify.status.success() && verify.stderr.is_empty(), "{}", String::from_utf8_lossy(&verify.stderr));
    // Tenths: as root, with the rights that attribution needs, it is at 1.5.
    let security = analyze(&["security", "--offline=yes", "--no-pager", "--threshold=15", "./harden-whyd.service"]);
    let security = security.unwrap();
    assert!(security.status.success(), "{}", String::from_utf8_lossy(&security.stdout));
}
