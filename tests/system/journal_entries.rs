//! Attribution by journal entries alone, and the senders that are trusted: a real journald of its own.

use crate::support;
use crate::support::actor::ROLE;
use crate::support::listener::{Daemon, PATIENCE, WITHOUT_NOTES, program};
use crate::support::manager::TestManager;
use crate::support::placed::within;
use crate::support::skip::skip;
use harden_why::incidents::Incident;
use harden_why::units::Rung;
use nix::sys::signal::Signal;
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, UnixCredentials, sendmsg, socket,
};
use std::fs;
use std::io::IoSlice;
use std::os::fd::AsRawFd as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

const EXITED: &str = "98e322203f7a4ed290d09fe03c09fe15";
const DUMPED: &str = "fc2e22bc6ee647b6b90729ab34a250b1";

/// Longer than a manager's entry is used.
const LATER: Duration = Duration::from_millis(2_500);

/// Replaces the machine's journald in the manager's namespace, and leaves the kernel's audit and messages alone.
const SCRIPT: &str = "mount -t tmpfs tmpfs /run/log && mkdir -p /run/log/journal/$(cat /etc/machine-id) \
     /run/systemd/journald.conf.d && printf '[Journal]\\nAudit=\\nReadKMsg=no\\nForwardToSyslog=no\\nForwardToWall=no\\n' \
     >/run/systemd/journald.conf.d/x.conf && exec \"$0\"";

/// A running journald.
pub(crate) struct Journald {
    process: Child,
    socket: PathBuf,
}

impl Journald {
    pub(crate) fn start(manager: &TestManager) -> Option<Self> {
        let places = ["/lib/systemd/systemd-journald", "/usr/lib/systemd/systemd-journald"];
        let Some(program) = places.into_iter().find(|path| Path::new(path).exists()) else {
            skip("there is no systemd-journald");
            return None;
        };
        if manager.is_pid1() {
            skip("PID 1 has a journald already");
            return None;
        }
        let process = manager.command(&["sh", "-c", SCRIPT, program]).spawn().unwrap();
        let socket = PathBuf::from(format!("/proc/{}/root/run/systemd/journal/socket", process.id()));
        let journald = Self { process, socket };
        let deadline = Instant::now() + PATIENCE;
        while !journald.socket.exists() {
            assert!(Instant::now() < deadline, "no journald");
            std::thread::sleep(Duration::from_millis(10));
        }
        Some(journald)
    }

    /// Logs as this process or, since root may, as another live one.
    fn log(&self, as_pid: u32, fields: &[(&str, &str)]) {
        let lines: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
        let entry = lines.concat();
        let socket = socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None).unwrap();
        let by = libc::ucred { pid: as_pid.try_into().unwrap(), uid: 0, gid: 0 };
        let by = UnixCredentials::from(by);
        let control = [ControlMessage::ScmCredentials(&by)];
        let address = UnixAddr::new(&self.socket).unwrap();
        let bytes = [IoSlice::new(entry.as_bytes())];
        sendmsg(socket.as_raw_fd(), &bytes, &control, MsgFlags::empty(), Some(&address)).unwrap();
    }

    /// A manager's entry on the end of a unit's process.
    fn exited(&self, as_pid: u32, unit: &str) {
        let how = [("EXIT_CODE", "killed"), ("EXIT_STATUS", "31"), ("COMMAND", "ExecStart")];
        let forged = [("_PID", "1"), ("_UID", "0"), ("_TRANSPORT", "journal")];
        let fields = [&[("MESSAGE_ID", EXITED), ("UNIT", unit)][..], &how, &forged].concat();
        self.log(as_pid, &fields);
    }

    /// systemd-coredump's entry.
    fn dumped(&self, as_pid: u32, pid: u32, unit: &str, at_us: i64) {
        let (pid, at, cgroup) = (pid.to_string(), at_us.to_string(), format!("/system.slice/{unit}"));
        self.log(
            as_pid,
            &[
                ("MESSAGE_ID", DUMPED),
                ("COREDUMP_PID", &pid),
                ("COREDUMP_CGROUP", &cgroup),
                ("COREDUMP_UNIT", unit),
                ("COREDUMP_TIMESTAMP", &at),
                ("COREDUMP_SIGNAL", "31"),
                ("_SYSTEMD_UNIT", "systemd-coredump@0-1-0.service"),
            ],
        );
    }
}

impl Drop for Journald {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A process that only the journal knows by the time the daemon receives its record. Returns its PID and time of death.
fn gone(manager: &TestManager, number: u32) -> (u32, i64) {
    let actor = program(manager, "gone", number);
    support::program::copy(std::env::current_exe().unwrap(), &actor);
    let cgroup = format!("system.slice/nowhere{number}.service");
    fs::create_dir_all(manager.cgroup().join(&cgroup)).unwrap();
    let mut dies = Command::new(&actor);
    dies.env(ROLE.to_str().unwrap(), "self");
    let mut child = within(manager, &cgroup, dies, true);
    assert_eq!(child.wait().unwrap().signal(), Some(31));
    fs::remove_dir(manager.cgroup().join(&cgroup)).unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    (child.id(), i64::try_from(now.as_micros()).unwrap())
}

fn found(daemon: &Daemon, number: u32) -> (Option<String>, Option<Rung>) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let ours = |incident: &Incident| daemon.number(&incident.key.exe) == Some(("gone", number));
        if let Some(incident) = daemon.incidents().into_iter().find(ours) {
            return (incident.key.unit.map(|unit| unit.name.to_string()), incident.rung);
        }
        assert!(Instant::now() < deadline, "no incident: {}", daemon.log());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn journal_entry_counts_if_pid_1_or_systemd_coredump_wrote_it() {
    let Some(manager) = TestManager::start() else { return };
    let Some(journald) = Journald::start(&manager) else { return };
    // Two units start each program, so that the program's name alone does not decide.
    for number in 0..5 {
        for name in ["told", "other"] {
            let start = program(&manager, "gone", number);
            let text = format!("[Service]\nExecStart={}\n", start.display());
            fs::write(manager.base().join(format!("etc/{name}{number}.service")), text).unwrap();
        }
    }
    let coredump = manager.cgroup().join("system.slice/systemd-coredump@0-1-0.service");
    fs::create_dir_all(&coredump).unwrap();
    let Some(daemon) = Daemon::start_under(&manager, &WITHOUT_NOTES) else { return };
    let mut helper = within(&manager, "system.slice/systemd-coredump@0-1-0.service", sleeper(), false);
    let myself = std::process::id();
    let case = |number: u32, tell: &dyn Fn(u32, i64)| {
        daemon.signal(Signal::SIGSTOP);
        let (pid, at) = gone(&manager, number);
        tell(pid, at);
        // Until the entries are in the journal.
        let synced = manager.command(&["journalctl", "--sync"]).output().unwrap();
        assert!(synced.status.success(), "{synced:?}");
        daemon.signal(Signal::SIGCONT);
        let found = found(&daemon, number);
        std::thread::sleep(LATER);
        found
    };
    let unit = |name: &str, rung| (Some(name.to_owned()), Some(rung));
    let nobody = (None, None);
    assert_eq!(case(0, &|pid, at| journald.dumped(myself, pid, "sshd.service", at)), nobody, "forged");
    assert_eq!(case(1, &|_, _| journald.exited(myself, "told1.service")), nobody, "forged");
    let two = |_, _| {
        journald.exited(1, "told2.service");
        journald.exited(1, "other2.service");
    };
    assert_eq!(case(2, &two), nobody, "two candidates are none");
    assert_eq!(case(3, &|_, _| journald.exited(1, "told3.service")), unit("told3.service", Rung::ExitEntry));
    let dumped = |pid, at| journald.dumped(helper.id(), pid, "real.service", at);
    assert_eq!(case(4, &dumped), unit("real.service", Rung::JournalEntry), "{}", daemon.log());
    helper.kill().unwrap();
    helper.wait().unwrap();
}

fn sleeper() -> Command {
    let mut sleep = Command::new("sleep");
    sleep.arg("infinity");
    sleep
}
