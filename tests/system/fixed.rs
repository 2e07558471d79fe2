//! A denial's way from the kernel's record to "fixed", while a process lives on under its old filter.

use crate::support::daemon::{Daemon, PROGRAM, wait_for};
use crate::support::manager::TestManager;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::process::Output;

/// A machine with a daemon, and a service whose child calls uname(2) on request.
struct Machine {
    daemon: Daemon,
    manager: TestManager,
}

impl Machine {
    fn start() -> Option<Self> {
        let manager = TestManager::start()?;
        let command = manager.command(&[PROGRAM]);
        let daemon = Daemon::start(command, &manager.bus(), &manager.base().join("daemon"));
        let machine = Self { daemon, manager };
        let script = format!(
            "trap 'uname >>{}' USR1; >{}; while :; do sleep 0.05 & wait $!; done",
            machine.said().display(),
            machine.ready().display()
        );
        let unit =
            format!("[Service]\nSlice=system.slice\nSystemCallFilter=~uname\nExecStart=/bin/sh -c \"{script}\"\n");
        machine.manager.write("x.service", &unit.replace('$', "$$"));
        machine.manager.reload();
        machine.run("start");
        Some(machine)
    }

    /// The output of the service's children.
    fn said(&self) -> PathBuf {
        self.manager.base().join("said")
    }

    fn ready(&self) -> PathBuf {
        self.manager.base().join("ready")
    }

    /// Starts or restarts the service, and waits until it listens.
    fn run(&self, verb: &str) {
        _ = fs::remove_file(self.ready());
        assert!(self.manager.systemctl(&[verb, "x.service"]).status.success());
        wait_for(|| self.ready().exists().then_some(()), || "the service does not start".to_owned());
    }

    /// Makes the service call uname(2).
    fn ask(&self) {
        let kill = ["kill", "--kill-who=main", "--signal=USR1", "x.service"];
        assert!(self.manager.systemctl(&kill).status.success());
    }

    /// Makes the service call uname(2), and waits until the daemon has counted so many denials.
    fn denied(&self, times: u64) {
        self.ask();
        self.daemon.wait_for_incident(|incident| {
            incident.count == times && incident.key.unit.as_ref().is_some_and(|unit| unit.name.as_str() == "x.service")
        });
    }

    fn ask_client(&self, arguments: &[&str]) -> Output {
        let (bus, state) = (self.manager.bus(), self.manager.base().join("daemon/state").display().to_string());
        let client = [env!("CARGO_BIN_EXE_harden-why"), "--bus", &bus, "--state-dir", &state];
        self.manager.command(&[&client[..], arguments].concat()).output().unwrap()
    }

    fn harden_why(&self, arguments: &[&str]) -> Output {
        let output = self.ask_client(arguments);
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        output
    }

    /// The answer for the service: as JSON, and as one line of text.
    fn answer(&self) -> (serde_json::Value, String) {
        let json: serde_json::Value = serde_json::from_slice(&self.harden_why(&["--json", "x"]).stdout).unwrap();
        let text = String::from_utf8(self.harden_why(&["x"]).stdout).unwrap();
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        (json["units"][0].clone(), text)
    }

    /// The answer where the denial is fixed in this way.
    #[track_caller]
    fn is_fixed(&self, kind: &str, words: (&str, &str)) {
        let (json, text) = self.answer();
        let cause = &json["denials"][0]["cause"];
        assert_eq!(cause["kind"], kind, "{json}");
        let since: jiff::Timestamp = cause["since"].as_str().unwrap().parse().unwrap();
        let drop_in = "/etc/systemd/system/x.service.d/zz-harden-why.conf";
        let written = fs::metadata(self.manager.base().join("etc/x.service.d/zz-harden-why.conf")).unwrap();
        // The moment of its renaming.
        let written =
            jiff::Timestamp::from_millisecond(written.ctime() * 1000 + written.ctime_nsec() / 1_000_000).unwrap();
        assert_eq!(since, written);
        let when = written.to_zoned_datetime(jiff::tz::TimeZone::system()).strftime("%H:%M").to_string();
        let (how, then) = words;
        let fixed = format!("x.service: uname: {how} {when} by {drop_in}: {then}");
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains(&fixed), "{fixed} in {text}");
        assert_eq!(json["remedies"], serde_json::json!([]), "{json}");
        assert!(!text.contains("help:") && !text.contains("apply"), "{text}");
    }
}

#[test]
fn applied_remedy_fixes_the_denial_for_later_starts_only() {
    const NEXT: (&str, &str) = ("fixed at", "the call is allowed from the next start on");
    let Some(machine) = Machine::start() else { return };
    machine.denied(1);
    let (json, text) = machine.answer();
    assert_eq!(json["denials"][0]["cause"]["kind"], "unit", "{json}");
    assert_eq!(json["denials"][0]["cause"].get("since"), None);
    assert!(
        text.contains("^^^^^ denies uname | help: allow uname + SystemCallFilter=uname harden-why apply"),
        "{text}"
    );

    let exit_code = |arguments: &[&str]| machine.ask_client(&[&["--exit-code"], arguments].concat()).status.code();
    assert_eq!([exit_code(&["x"]), exit_code(&[])], [Some(1); 2]);
    let earlier = machine.ask_client(&["--until", "yesterday", "x"]).stdout;
    assert!(String::from_utf8_lossy(&earlier).contains("No denials in this time; 1 denial before or after it"));

    machine.harden_why(&["apply", "x", "--yes"]);
    machine.is_fixed("fixed-next-start", NEXT);
    assert_eq!([exit_code(&["x"]), exit_code(&[])], [Some(1); 2], "the process keeps its filter");
    let (json, text) = machine.answer();
    assert_eq!(json["restart"], "systemctl restart x.service", "{json}");
    assert!(text.ends_with(" systemctl restart x.service"), "{text}");
    // The manager permits the call, and the kernel kills for it: the service still runs under its old filter.
    machine.denied(2);
    machine.is_fixed("fixed-next-start", NEXT);

    machine.run("restart");
    machine.is_fixed("fixed", ("fixed since", "the call is allowed now"));
    assert_eq!([exit_code(&["x"]), exit_code(&[])], [Some(0); 2]);
    assert_eq!(machine.answer().0.get("restart"), None, "it is in force");
    assert!(!machine.said().exists() || fs::read(machine.said()).unwrap().is_empty());
    machine.ask();
    let said = || fs::read_to_string(machine.said()).ok().filter(|said| said == "Linux\n").map(|_| ());
    wait_for(said, || "the service still gets no answer".to_owned());
    assert_eq!(machine.daemon.stored().iter().map(|incident| incident.count).sum::<u64>(), 2);
}
