//! The table of units with denials: their states as a real systemd tells them, and the files that decided.

use crate::support::daemon::wait_for;
use crate::support::denied::denied;
use crate::support::manager::TestManager;
use harden_why::incidents::{Incident, Moment, Store};
use harden_why::units::{Manager, Unit};
use std::path::PathBuf;
use std::process::Output;
use std::thread::sleep;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

struct Machine {
    manager: TestManager,
}

fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

impl Machine {
    fn store(&self) -> PathBuf {
        self.manager.base().join("store")
    }

    /// Records that a unit was denied uname(2) just now.
    fn record(&self, name: &str) {
        let mut incident: Incident = denied(Manager::System, "uname");
        incident.key.unit = Some(Unit { manager: Manager::System, name: name.parse().unwrap() });
        (incident.first, incident.last) = (Moment::At(now()), Moment::At(now()));
        Store::open(&self.store()).unwrap().record(&[incident]).unwrap();
    }

    fn answer(&self, columns: &str, arguments: &[&str]) -> Output {
        let (bus, store) = (self.manager.bus(), self.store().display().to_string());
        let client = ["env", &format!("COLUMNS={columns}"), env!("CARGO_BIN_EXE_harden-why"), "--bus", &bus];
        let program = [&client[..], &["--state-dir", &store, "--system"], arguments].concat();
        self.manager.command(&program).output().unwrap()
    }

    fn page(&self, columns: &str, arguments: &[&str]) -> String {
        let output = self.answer(columns, arguments);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Returns a unit's line of the JSON.
    fn line(&self, unit: &str) -> serde_json::Value {
        let json: serde_json::Value = serde_json::from_slice(&self.answer("80", &["--json"]).stdout).unwrap();
        let lines = json["overview"].as_array().unwrap();
        lines.iter().find(|line| line["unit"] == unit).unwrap_or_else(|| panic!("no {unit}: {json}")).clone()
    }

    fn state(&self, unit: &str) -> String {
        self.line(unit)["state"].as_str().unwrap().to_owned()
    }
}

/// A service that runs a shell command under a filter without uname(2).
fn service(command: &str) -> String {
    format!("[Service]\nExecStart=/bin/sh -c '{command}'\nSystemCallFilter=~uname\n")
}

#[test]
fn state_follows_a_unit_from_its_failure_to_the_fix() {
    let Some(manager) = TestManager::start() else { return };
    let machine = Machine { manager };
    let (fails, runs) = ("fails.service", "runs.service");
    machine.manager.write(fails, &service("exit 1"));
    machine.manager.write(runs, &service("exec sleep 1000"));
    machine.manager.reload();
    for name in [fails, runs] {
        machine.manager.start_unit(name);
    }
    for name in [fails, runs, "removed.service"] {
        machine.record(name);
    }
    let failed = || (machine.state(fails) == "failing").then_some(());
    wait_for(failed, || machine.line(fails).to_string());
    assert_eq!((machine.state(runs), machine.state("removed.service")), ("running".into(), "gone".into()));
    let file = machine.manager.base().join("units").join(fails);
    assert_eq!(machine.line(fails)["decided_by"], serde_json::json!([format!("{}:3", file.display())]));
    assert_eq!(machine.line(fails)["calls"], serde_json::json!(["uname"]));

    // A fix that the running process does not have yet, and a failed unit that was not started since.
    sleep(Duration::from_millis(1_100));
    for name in [fails, runs] {
        machine.manager.write(&format!("{name}.d/fix.conf"), "[Service]\nSystemCallFilter=uname\n");
    }
    assert_eq!(machine.state(runs), "reload");
    machine.manager.reload();
    assert_eq!((machine.state(fails), machine.state(runs)), ("restart".into(), "restart".into()));
    assert!(machine.line(runs)["decided_by"][0].as_str().unwrap().ends_with("/runs.service.d/fix.conf"));
    sleep(Duration::from_secs(2));
    assert!(machine.manager.systemctl(&["restart", runs]).status.success());
    assert_eq!(machine.state(runs), "fixed");

    let page = machine.page("80", &[]);
    assert!(!page.contains("runs.service") && page.contains("\n1 fixed unit is not shown: 'harden-why --all' lists"));
    let row = |page: &str, unit: &str| {
        let line = page.lines().find(|line| line.starts_with(unit)).unwrap_or_else(|| panic!("{unit}: {page}"));
        line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(row(&page, "UNIT"), ["UNIT", "STATE", "CALLS", "COUNT", "LAST", "DECIDED", "BY"]);
    assert_eq!(row(&page, "removed.service")[..3], ["removed.service", "gone", "uname"]);
    let fixed = row(&machine.page("80", &["--all"]), runs);
    assert_eq!(fixed[..3], [runs, "fixed", "uname"]);
    assert!(fixed.last().unwrap().ends_with("runs.service.d/fix.conf"), "{fixed:?}");
    // Whole paths where there is room.
    assert!(row(&machine.page("300", &["--all"]), runs).last().unwrap().starts_with('/'));
    let narrow = machine.page("40", &["--all"]);
    assert!(narrow.contains("runs.service\n  fixed, once, last ") && !narrow.contains("DECIDED BY"), "{narrow}");
    machine.manager.systemctl(&["stop", runs]);
}

#[test]
fn instances_of_a_template_share_a_row_in_their_worst_state() {
    let Some(manager) = TestManager::start() else { return };
    let machine = Machine { manager };
    machine.manager.write("t@.service", &service("test %i = good && exec sleep 1000"));
    machine.manager.reload();
    for name in ["t@good.service", "t@bad.service"] {
        machine.manager.start_unit(name);
        machine.record(name);
    }
    wait_for(|| (machine.state("t@bad.service") == "failing").then_some(()), || machine.page("80", &["-v"]));
    assert_eq!(machine.state("t@good.service"), "running");
    let page = machine.page("80", &[]);
    let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("t@")).collect();
    assert!(rows.len() == 1 && rows[0].starts_with("t@.service (2)  failing  uname "), "{page}");
    let page = machine.page("80", &["-v"]);
    assert!(page.contains("\nt@good.service  running  ") && page.contains("t@bad.service   failing  "), "{page}");
    machine.manager.systemctl(&["stop", "t@good.service"]);
}
