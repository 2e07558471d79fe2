//! Applies remedies again: without a new denial nothing changes, and a unit that does not come up is reported with its
//! new denial.

use crate::support::daemon::{Daemon, PROGRAM};
use crate::support::manager::TestManager;
use std::fs;
use std::process::Output;

/// A manager whose units' errors are recorded, a daemon, and `x.service`.
struct Machine {
    daemon: Daemon,
    manager: TestManager,
}

impl Machine {
    /// Starts one. The service runs this Python program under these settings.
    fn start(settings: &str, program: &str) -> Option<Self> {
        let manager = TestManager::start_with(&[("SYSTEMD_LOG_SECCOMP", "1")])?;
        let command = manager.command(&[PROGRAM]);
        let daemon = Daemon::start(command, &manager.bus(), &manager.base().join("daemon"));
        let machine = Self { daemon, manager };
        let file = machine.manager.base().join("program.py");
        let once = machine.manager.base().join("once");
        fs::write(&file, format!("import os, socket, time\nONCE = {:?}\n{program}", once.display().to_string()))
            .unwrap();
        fs::write(once, "").unwrap();
        let run = format!("ExecStart=/usr/bin/python3 -I {}\n", file.display());
        machine.manager.write("x.service", &format!("[Service]\nSlice=system.slice\n{settings}{run}"));
        machine.manager.reload();
        Some(machine)
    }

    fn harden_why(&self, arguments: &[&str]) -> Output {
        let (bus, state) = (self.manager.bus(), self.manager.base().join("daemon/state").display().to_string());
        // Reverting removes a file, whatever the store contains.
        let source: &[&str] = if arguments.contains(&"revert") { &[] } else { &["--state-dir", &state] };
        let client = [env!("CARGO_BIN_EXE_harden-why"), "--bus", &bus];
        self.manager.command(&[&client[..], source, arguments].concat()).output().unwrap()
    }

    /// The exit status and the JSON of an answer.
    fn json(&self, arguments: &[&str]) -> (Option<i32>, serde_json::Value) {
        let output = self.harden_why(&[&["--json"], arguments].concat());
        let json = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
        (output.status.code(), json)
    }

    fn wait_for_denial(&self, call: &str) {
        self.daemon.wait_for_incident(|incident| {
            incident.key.unit.as_ref().is_some_and(|unit| unit.name.as_str() == "x.service")
                && incident.denial().and_then(|denial| denial.call.name()) == Some(call)
        });
    }

    fn drop_in(&self) -> Option<String> {
        fs::read_to_string(self.manager.base().join("etc/x.service.d/zz-harden-why.conf")).ok()
    }
}

#[test]
fn remedy_applied_four_times_after_one_denial_changes_the_unit_once() {
    const PROGRAM: &str = "
if os.path.exists(ONCE):
    os.remove(ONCE)
    try:
        socket.socket(socket.AF_INET)
    except OSError:
        pass
time.sleep(600)
";
    let Some(machine) = Machine::start("RestrictAddressFamilies=AF_UNIX\n", PROGRAM) else { return };
    assert!(machine.manager.start_unit("x.service"));
    machine.wait_for_denial("socket");
    let (status, first) = machine.json(&["apply", "x", "--yes", "--restart", "--remedy", "1"]);
    assert_eq!((status, &first["outcome"]), (Some(0), &"applied".into()), "{first}");
    let written = machine.drop_in().unwrap();
    for arguments in [&["--remedy", "1"][..], &[], &["--remedy", "1"]] {
        let (status, again) = machine.json(&[&["apply", "x", "--yes", "--restart"], arguments].concat());
        assert_eq!((status, &again["outcome"]), (Some(0), &"unchanged".into()), "{again}");
        assert_eq!(again["restarted"], serde_json::Value::Null, "it runs with its settings already");
        assert_eq!(machine.drop_in().unwrap(), written);
    }
    let (_, answer) = machine.json(&["x"]);
    assert_eq!(answer["units"][0]["denials"][0]["cause"]["kind"], "before-change", "{answer}");
    assert_eq!(answer["units"][0]["remedies"], serde_json::json!([]));

    let (status, wider) = machine.json(&["apply", "x", "--yes", "--remedy", "2"]);
    assert_eq!((status, &wider["outcome"]), (Some(0), &"applied".into()), "no revert comes first: {wider}");
    assert!(machine.drop_in().unwrap().ends_with("[Service]\nRestrictAddressFamilies=\n"), "{:?}", machine.drop_in());

    for outcome in ["reverted", "nothing"] {
        let (status, reverted) = machine.json(&["revert", "x"]);
        assert_eq!((status, &reverted["outcome"]), (Some(0), &outcome.into()), "{reverted}");
    }
}

/// A program that hangs at its first call that is denied, until systemd ends its start.
const HANGING: &str = "
for call in [os.uname, lambda: os.getpriority(os.PRIO_PROCESS, 0)]:
    try:
        call()
    except OSError:
        time.sleep(600)
notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
notify.connect(os.environ['NOTIFY_SOCKET'])
notify.send(b'READY=1')
time.sleep(600)
";
const HANGING_SETTINGS: &str =
    "Type=notify\nTimeoutStartSec=8\nSystemCallFilter=~uname getpriority\nSystemCallErrorNumber=EPERM\n";

#[test]
fn unit_that_hangs_at_its_next_denial_is_reported_with_it() {
    let Some(machine) = Machine::start(HANGING_SETTINGS, HANGING) else { return };
    assert!(!machine.manager.start_unit("x.service"));
    machine.wait_for_denial("uname");
    let (status, applied) = machine.json(&["apply", "x", "--yes", "--restart", "--remedy", "1"]);
    assert_eq!((status, &applied["outcome"]), (Some(1), &"applied".into()), "{applied}");
    let restarted = &applied["restarted"];
    assert_eq!((&restarted["up"], &restarted["result"]), (&false.into(), &"timeout".into()), "{applied}");
    assert_eq!(restarted["denials"][0]["call"], "getpriority", "{applied}");
    let next = restarted["next"].as_str().unwrap();
    assert!(next.starts_with("harden-why ") && next.contains("x.service"), "{next}");

    // A start that hangs until its time limit ends with 2.
    let output = machine.harden_why(&["apply", "x", "--yes", "--restart", "--remedy", "1"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = machine.drop_in().unwrap();
    assert!(text.contains("for denials of getpriority uname\n"), "{text}");
}

#[test]
fn age_of_a_denial_counts_from_the_end_of_a_long_restart() {
    let Some(machine) = Machine::start(HANGING_SETTINGS, HANGING) else { return };
    assert!(!machine.manager.start_unit("x.service"));
    machine.wait_for_denial("uname");
    let output = machine.harden_why(&["apply", "x", "--yes", "--restart", "--remedy", "1"]);
    let (page, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    let page_in_one_line = page.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        page_in_one_line.starts_with("x.service failed after the restart: getpriority(2) denied, failed with EPERM"),
        "{page}"
    );
    // The remedy for uname was applied before.
    let commands: Vec<&str> = page.lines().filter(|line| line.starts_with("  harden-why ")).collect();
    assert!(matches!(commands[..], [first, second] if first.contains("rehearse --apply") && second.contains("apply")));
    assert!(page.lines().count() <= 15 && !err.contains("getpriority"), "{page}{err}");
    let page = page_in_one_line;
    let age = page.split_once(" s ago").and_then(|(before, _)| before.rsplit(' ').next()?.parse::<u64>().ok());
    // The denial of getpriority comes at the beginning of the restart, which takes eight seconds.
    assert!(age.is_some_and(|age| (5..60).contains(&age)), "{page}");
}

#[test]
fn failure_with_json_prints_the_error_as_one_object() {
    let Some(machine) = Machine::start("", "") else { return };
    for (status, arguments) in
        [(4, &["apply", "y", "--yes"][..]), (4, &["revert", "nowhere"]), (2, &["check", "a b"]), (2, &["apply"])]
    {
        let (code, answer) = machine.json(arguments);
        assert_eq!(code, Some(status), "{arguments:?}: {answer}");
        assert!(answer["schema"].is_u64() && answer["error"].is_string(), "{answer}");
    }
}
