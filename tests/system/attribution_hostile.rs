//! Processes that would fool a listener that trusts a PID or a name: the daemon names the right unit, or none.

use crate::support;
use crate::support::actor::{ROLE, TIMES};
use crate::support::listener::{Daemon, PATIENCE, WITHOUT_NOTES, program};
use crate::support::manager::TestManager;
use crate::support::placed::within;
use crate::support::skip::skip;
use harden_why::kernel::procfs::Procfs;
use harden_why::units::{Manager, Unit};
use nix::sys::signal::Signal;
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

#[test]
fn reused_pid_is_attributed_to_no_other_unit() {
    for (limits, knows) in [(&[][..], true), (&WITHOUT_NOTES[..], false)] {
        let Some(manager) = TestManager::start() else { return };
        for name in ["guilty", "innocent"] {
            manager.write(&format!("{name}.service"), "[Service]\nSlice=system.slice\nExecStart=sleep infinity\n");
        }
        manager.reload();
        assert!(manager.start_unit("guilty.service") && manager.start_unit("innocent.service"));
        let actor = program(&manager, "reused", 0);
        support::program::copy(std::env::current_exe().unwrap(), &actor);
        let Some(daemon) = Daemon::start_under(&manager, limits) else { return };
        daemon.signal(Signal::SIGSTOP);
        let mut dies = Command::new(&actor);
        dies.env(ROLE.to_str().unwrap(), "self");
        let mut dies = within(&manager, "system.slice/guilty.service", dies, true);
        assert_eq!(dies.wait().unwrap().signal(), Some(31));
        // A pid counts as not reused for 100 ms; only a privileged program such as this one could reuse it earlier.
        std::thread::sleep(Duration::from_millis(150));
        let mut second = Command::new(&actor);
        second.env(ROLE.to_str().unwrap(), "take-pid").env(TIMES.to_str().unwrap(), dies.id().to_string());
        let outcome = within(&manager, "system.slice/innocent.service", second, false).wait().unwrap();
        if !outcome.success() {
            return skip(&format!("a pid cannot be had again here: {outcome}"));
        }
        let now = manager.inside(|| Procfs::live().cgroup(dies.id())).unwrap();
        assert_eq!(now.rsplit(|&byte| byte == b'/').next(), Some(&b"innocent.service\n"[..]));
        daemon.signal(Signal::SIGCONT);
        let deadline = Instant::now() + PATIENCE;
        let found = loop {
            if let Some(incident) = daemon.incidents().pop() {
                break incident.key.unit.map(|unit| unit.name.to_string());
            }
            assert!(Instant::now() < deadline, "no incident: {}", daemon.log());
            std::thread::sleep(Duration::from_millis(20));
        };
        assert_eq!(found.as_deref(), knows.then_some("guilty.service"));
    }
}

/// Misleading names of cgroups, and the unit that a process in them belongs to.
const POSES: [(&str, Option<(Manager, &str)>); 11] = [
    ("system.slice/web.service/sshd.service", Some((Manager::System, "web.service"))),
    ("system.slice/web.service/init.scope", Some((Manager::System, "web.service"))),
    ("system.slice/web.service/1/2/3/4/5/6/7/8/9/10/11/12/13/14/sshd.service", Some((Manager::System, "web.service"))),
    ("system.slice/run-u12.scope", Some((Manager::System, "run-u12.scope"))),
    ("system.slice/_cpu.service", Some((Manager::System, "cpu.service"))),
    ("system.slice/a\\x2db@x\\x20y.service", Some((Manager::System, "a\\x2db@x\\x20y.service"))),
    ("machine.slice/machine-deb.scope/payload/system.slice/ssh.service", Some((Manager::System, "machine-deb.scope"))),
    ("user.slice/user-7.slice/user@7.service/app.slice/ssh.service", Some((Manager::User(7), "ssh.service"))),
    ("user.slice/user-7.slice/session-3.scope", None),
    ("loose.slice", None),
    ("docker/0a1b/system.slice/ssh.service", None),
];

#[test]
fn misleading_cgroup_name_is_attributed_to_its_real_unit() {
    for gone in [false, true] {
        let Some(manager) = TestManager::start() else { return };
        let Some(daemon) = Daemon::start(&manager) else { return };
        if gone {
            daemon.signal(Signal::SIGSTOP);
        }
        for (number, (cgroup, _)) in (0..).zip(POSES) {
            fs::create_dir_all(manager.cgroup().join(cgroup)).unwrap();
            let actor = program(&manager, "pose", number);
            support::program::copy(std::env::current_exe().unwrap(), &actor);
            let mut dies = Command::new(&actor);
            dies.env(ROLE.to_str().unwrap(), "self");
            assert_eq!(within(&manager, cgroup, dies, true).wait().unwrap().signal(), Some(31), "{cgroup}");
            let mut path = Path::new(cgroup);
            while gone && fs::remove_dir(manager.cgroup().join(path)).is_ok() {
                path = path.parent().unwrap();
            }
        }
        if gone {
            daemon.signal(Signal::SIGCONT);
        }
        let deadline = Instant::now() + PATIENCE;
        while daemon.incidents().len() < POSES.len() {
            assert!(Instant::now() < deadline, "{:?}", daemon.incidents());
            std::thread::sleep(Duration::from_millis(20));
        }
        for incident in daemon.incidents() {
            let (cgroup, expected) = POSES[daemon.number(&incident.key.exe).unwrap().1 as usize];
            let expected = expected.map(|(manager, name)| Unit { manager, name: name.parse().unwrap() });
            assert_eq!(incident.key.unit, expected, "{cgroup}, gone: {gone}");
        }
    }
}
