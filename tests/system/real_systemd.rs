//! What a real systemd reports about real processes.

use crate::support::manager::TestManager;
use crate::support::skip::skip;
use harden_why::kernel::proc_events::{DeathNotice, ExitListener};
use harden_why::kernel::procfs::Procfs;
use harden_why::policy::Directive;
use harden_why::systemd::manager::{Managers, PidAtTime, SystemdError, SystemdManager};
use harden_why::units::{Manager, Placement, Rung, Unit, cgroup};
use std::fs;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A filter that kills uname(2), and nothing that a shell calls before.
const DEADLY: &str = "SystemCallFilter=~uname\n";

/// How long anything may take here.
const PATIENCE: Duration = Duration::from_mins(1);

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

fn unit(name: &str) -> Unit {
    Unit { manager: Manager::System, name: name.parse().unwrap() }
}

async fn ask(manager: &TestManager) -> SystemdManager {
    Managers::with_paths(manager.bus(), "/nonexistent").connect(Manager::System).await.unwrap()
}

/// A command line that writes its PID to a file and becomes `program`.
fn leaves_pid(manager: &TestManager, file: &str, program: &str) -> String {
    format!("/bin/sh -c 'echo $$$$ > {}; exec {program}'", manager.base().join(file).display())
}

/// The PID in a file, and when the process wrote it.
fn pid_left(manager: &TestManager, file: &str) -> PidAtTime {
    let (file, deadline) = (manager.base().join(file), Instant::now() + PATIENCE);
    loop {
        match fs::read_to_string(&file).unwrap_or_default().trim().parse() {
            Ok(pid) => {
                let written = fs::metadata(file).unwrap().modified().unwrap().duration_since(UNIX_EPOCH).unwrap();
                return PidAtTime { pid, at: i64::try_from(written.as_millis()).unwrap() };
            }
            Err(err) => assert!(Instant::now() < deadline, "no pid in {}: {err}", file.display()),
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until the unit is in this state.
fn settle(manager: &TestManager, name: &str, state: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let output = manager.systemctl(&["is-active", name]).stdout;
        if output.trim_ascii() == state.as_bytes() {
            return;
        }
        assert!(Instant::now() < deadline, "{name} is {}", String::from_utf8_lossy(&output));
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn main_process_killed_by_its_filter_is_remembered() {
    let Some(manager) = TestManager::start() else { return };
    let start = leaves_pid(&manager, "pid", "uname");
    manager.write("dies.service", &format!("[Service]\nSlice=system.slice\nExecStart={start}\n{DEADLY}"));
    manager.reload();
    manager.start_unit("dies.service");
    settle(&manager, "dies.service", "failed");
    let PidAtTime { pid, at } = pid_left(&manager, "pid");
    run(async {
        let systemd = ask(&manager).await;
        let found = systemd.past_processes(&[PidAtTime { pid, at }]).await.unwrap();
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((&found[0].unit, found[0].rung), (&unit("dies.service"), Rung::MainProcess));
        assert!(found[0].died_of_sigsys(), "{found:?}");
        assert_eq!(
            systemd.past_processes(&[PidAtTime { pid, at: at - 3_600_000 }]).await,
            Ok(vec![]),
            "an hour ago it was somebody else's"
        );
        assert_eq!(
            systemd.past_processes(&[PidAtTime { pid, at: at + 3_600_000 }]).await,
            Ok(vec![]),
            "in an hour it will be"
        );
        assert_eq!(
            systemd.past_processes(&[PidAtTime { pid: std::process::id(), at: now() }]).await,
            Ok(vec![]),
            "ours is no unit's"
        );
    });
}

#[test]
fn death_by_a_filter_is_announced_and_received() {
    let Some(manager) = TestManager::start() else { return };
    let mut listener = match ExitListener::open() {
        Ok(listener) => listener,
        Err(err) => return skip(&format!("no exit events: {err}")),
    };
    let start = leaves_pid(&manager, "pid", "uname");
    manager.write("dies.service", &format!("[Service]\nExecStart={start}\n{DEADLY}"));
    manager.reload();
    manager.start_unit("dies.service");
    settle(&manager, "dies.service", "failed");
    let PidAtTime { pid, .. } = pid_left(&manager, "pid");
    let (mut heard, deadline) = (Vec::new(), Instant::now() + PATIENCE);
    while heard.last() != Some(&"exit") {
        match listener.receive().unwrap() {
            Some(DeathNotice::CoreDump(dying)) if dying.pid == pid => heard.push("dying"),
            Some(DeathNotice::Exit(exit)) if exit.pid == pid => heard.push("exit"),
            Some(_) => {}
            None => {
                assert!(Instant::now() < deadline, "no exit event of {pid}: {heard:?}");
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
    assert_eq!(heard, ["dying", "exit"]);
}

#[test]
fn command_killed_by_the_filter_is_remembered() {
    let Some(manager) = TestManager::start() else { return };
    let pre = leaves_pid(&manager, "pid", "uname");
    manager.write("pre.service", &format!("[Service]\nExecStartPre={pre}\nExecStart=/bin/true\n{DEADLY}"));
    manager.reload();
    assert!(!manager.start_unit("pre.service"));
    run(async {
        let found = ask(&manager).await.past_processes(&[pid_left(&manager, "pid")]).await.unwrap();
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((&found[0].unit, found[0].rung), (&unit("pre.service"), Rung::ControlProcess));
        assert!(found[0].died_of_sigsys(), "{found:?}");
    });
}

#[test]
fn unit_that_came_up_nevertheless_remembers_both() {
    let Some(manager) = TestManager::start() else { return };
    let (pre, main) = (leaves_pid(&manager, "pre", "uname"), leaves_pid(&manager, "main", "sleep 60"));
    manager.write("up.service", &format!("[Service]\nExecStartPre=-{pre}\nExecStart={main}\n{DEADLY}"));
    manager.reload();
    assert!(manager.start_unit("up.service"));
    let (pre, main) = (pid_left(&manager, "pre"), pid_left(&manager, "main"));
    run(async {
        let systemd = ask(&manager).await;
        for (wanted, rung, died) in [(pre, Rung::ControlProcess, true), (main, Rung::MainProcess, false)] {
            let found = systemd.past_processes(&[wanted]).await.unwrap();
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!((&found[0].unit, found[0].rung), (&unit("up.service"), rung));
            assert_eq!((found[0].died_of_sigsys(), found[0].exited_us.is_none()), (died, !died), "{found:?}");
        }
        // Long settled: its main process is found without a query for everything.
        let later = now() + 3_600_000;
        assert_eq!(systemd.past_processes(&[PidAtTime { at: later, ..main }]).await.unwrap().len(), 1);
    });
}

#[test]
fn facts_of_a_unit_equal_its_settings() {
    let Some(manager) = TestManager::start() else { return };
    manager.write(
        "facts.service",
        "[Service]\nExecStart=/bin/sleep 60\nSystemCallFilter=@system-service\nSystemCallErrorNumber=EPERM\n\
         SystemCallLog=~reboot\nLockPersonality=yes\nRestrictNamespaces=~net\nRestrictAddressFamilies=AF_UNIX\n",
    );
    manager.write("facts.service.d/more.conf", "[Service]\nSystemCallArchitectures=native\n");
    manager.reload();
    let name = "facts.service".parse().unwrap();
    run(async {
        let systemd = ask(&manager).await;
        let facts = systemd.unit_properties(&name).await.unwrap();
        assert_eq!((facts.load_state.as_str(), facts.active_state.as_str()), ("loaded", "inactive"));
        assert_eq!(facts.fragment, Some(manager.base().join("units/facts.service")));
        assert_eq!(facts.dropins, [manager.base().join("units/facts.service.d/more.conf")]);
        assert!(!facts.need_daemon_reload);
        let filter = facts.system_call_filter.unwrap();
        assert!(filter.allow && filter.names.contains(&"pwrite64".to_owned()), "{filter:?}");
        assert_eq!(facts.system_call_error_number, Some(libc::EPERM));
        assert_eq!(facts.system_call_architectures, Some(vec!["native".to_owned()]));
        let log = facts.system_call_log.unwrap();
        assert!(!log.allow && log.names == ["reboot"], "{log:?}");
        let families = facts.restrict_address_families.unwrap();
        assert!(families.allow && families.names == ["AF_UNIX"], "{families:?}");
        let retained = facts.restrict_namespaces.unwrap();
        let (net, user) = (u64::from(libc::CLONE_NEWNET.unsigned_abs()), u64::from(libc::CLONE_NEWUSER.unsigned_abs()));
        assert_eq!((retained & net, retained & user), (0, user), "the flags that stay allowed");
        assert_eq!(facts.switches.get(&Directive::LockPersonality), Some(&true));
        assert_eq!(facts.switches.get(&Directive::ProtectClock), Some(&false));
        assert_eq!((facts.invocation_id, facts.exec_main_start_us), (None, None));

        assert!(manager.start_unit("facts.service"));
        manager.write("facts.service.d/more.conf", "[Service]\nSystemCallArchitectures=\n");
        let facts = systemd.unit_properties(&name).await.unwrap();
        assert!(facts.active_state == "active" && facts.invocation_id.is_some() && facts.exec_main_start_us.is_some());
        assert!(facts.need_daemon_reload, "a drop-in is newer than what was loaded");

        let missing = "missing.service".parse().unwrap();
        assert_eq!(systemd.unit_properties(&missing).await, Err(SystemdError::NoSuchUnit(missing)));
        let slice = systemd.unit_properties(&"system.slice".parse().unwrap()).await.unwrap();
        assert_eq!(slice.system_call_filter, None, "a slice has no filter");
        assert!(systemd.version().await.unwrap().starts_with(|c: char| c.is_ascii_digit()));
    });
}

#[test]
fn every_directive_is_a_property_of_its_type() {
    let Some(manager) = TestManager::start() else { return };
    manager.write("all.service", "[Service]\nExecStart=/bin/true\n");
    manager.reload();
    let (bus, object) = (format!("--address={}", manager.bus()), "/org/freedesktop/systemd1/unit/all_2eservice");
    let introspect = ["busctl", &bus, "introspect", "org.freedesktop.systemd1", object];
    let output = manager.command(&introspect).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let words = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let properties: Vec<(&str, &str)> = words
        .filter_map(|words| match words[..] {
            [name, "property", signature, ..] => Some((name.strip_prefix('.')?, signature)),
            _ => None,
        })
        .collect();
    for directive in Directive::ALL {
        let expected = (directive.key(), directive.spec().value.bus_signature());
        assert!(properties.contains(&expected), "{expected:?} is not among {properties:?}");
    }
    run(async {
        let facts = ask(&manager).await.unit_properties(&"all.service".parse().unwrap()).await.unwrap();
        assert!(facts.unparsed.is_empty(), "{:?}", facts.unparsed);
        assert!(facts.switches.keys().copied().eq(Directive::switches()), "{:?}", facts.switches);
    });
}

#[test]
fn manager_answers_as_a_users_on_its_private_socket() {
    let Some(manager) = TestManager::start() else { return };
    let runtime = manager.base().join("user");
    fs::create_dir(&runtime).unwrap();
    std::os::unix::fs::symlink(manager.base().join("run"), runtime.join("0")).unwrap();
    let start = leaves_pid(&manager, "pid", "uname");
    manager.write("dies.service", &format!("[Service]\nExecStart={start}\n{DEADLY}"));
    manager.reload();
    manager.start_unit("dies.service");
    settle(&manager, "dies.service", "failed");
    run(async {
        let managers = Managers::with_paths(manager.bus(), &runtime);
        let (user, system) =
            (managers.connect(Manager::User(0)).await.unwrap(), managers.connect(Manager::System).await.unwrap());
        assert_eq!(user.version().await, system.version().await);
        let found = user.past_processes(&[pid_left(&manager, "pid")]).await.unwrap();
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].unit, Unit { manager: Manager::User(0), ..unit("dies.service") });

        // Without the private socket, the client reaches this user's manager over the session bus.
        fs::remove_file(manager.base().join("run/systemd/private")).unwrap();
        let user = managers.connect(Manager::User(0)).await.unwrap();
        assert_eq!(user.version().await, system.version().await);
    });
}

#[test]
fn running_process_is_attributed_by_its_cgroup() {
    let Some(manager) = TestManager::start() else { return };
    let start = leaves_pid(&manager, "pid", "sleep 60");
    manager.write("runs.service", &format!("[Service]\nSlice=system-a.slice\nDelegate=yes\nExecStart={start}\n"));
    manager.reload();
    assert!(manager.start_unit("runs.service"));
    let PidAtTime { pid, .. } = pid_left(&manager, "pid");
    let place = || manager.inside(|| cgroup::place(&Procfs::live().cgroup(pid).unwrap()));
    assert_eq!(place(), Placement::Unit(unit("runs.service")));

    // The names of its own subtree do not matter.
    let fake = manager.cgroup().join("system.slice/system-a.slice/runs.service/system.slice/sshd.service");
    fs::create_dir_all(&fake).unwrap();
    fs::write(fake.join("cgroup.procs"), pid.to_string()).unwrap();
    assert_eq!(place(), Placement::Unit(unit("runs.service")));
}
