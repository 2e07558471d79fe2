//! The names that people use for units: an alias, a template, a pattern. A real systemd knows the units.

use crate::support;
use crate::support::denied::denied;
use crate::support::manager::TestManager;
use harden_why::incidents::{Incident, Store};
use harden_why::units::{Manager, Rung, Unit};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Output;

const UNIT: &str = "[Service]\nExecStart=/bin/true\nSystemCallFilter=~uname\n";

/// A manager that knows `x.service`, with an alias, and instances of `t@.service`; each has denials.
struct Machine {
    manager: TestManager,
}

impl Machine {
    fn start() -> Option<Self> {
        let machine = Self { manager: TestManager::start()? };
        machine.manager.write("x.service", UNIT);
        machine.manager.write("t@.service", UNIT);
        machine.manager.write("other@.service", UNIT);
        std::os::unix::fs::symlink("x.service", machine.manager.base().join("units/alias.service")).unwrap();
        machine.manager.reload();
        let incidents = ["x.service", "t@one.service", "t@two.service", "other@one.service"].map(of);
        Store::open(&machine.manager.base().join("store")).unwrap().record(&incidents).unwrap();
        Some(machine)
    }

    fn asked(&self, arguments: &[&str]) -> Output {
        let client = [env!("CARGO_BIN_EXE_harden-why"), "--bus", &self.manager.bus()];
        self.manager.command(&[&client[..], arguments].concat()).output().unwrap()
    }

    /// Records more denials.
    fn record(&self, names: &[&str]) {
        let incidents: Vec<Incident> = names.iter().map(|name| of(name)).collect();
        Store::open(&self.manager.base().join("store")).unwrap().record(&incidents).unwrap();
    }

    /// The filter of a unit as systemd has it.
    fn held(&self, unit: &str) -> String {
        String::from_utf8(self.manager.systemctl(&["show", "-P", "SystemCallFilter", unit]).stdout).unwrap()
    }

    /// The answer without a store.
    fn client(&self, arguments: &[&str]) -> serde_json::Value {
        serde_json::from_slice(&self.asked(arguments).stdout).unwrap()
    }

    fn asked_of_store(&self, arguments: &[&str]) -> Output {
        let store = self.manager.base().join("store").display().to_string();
        self.asked(&[arguments, &["--state-dir", &store]].concat())
    }

    fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let store = self.manager.base().join("store").display().to_string();
        let output = self.asked(&[arguments, &["--json", "--state-dir", &store]].concat());
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// The units of an answer, with the number of their denials.
    fn units(&self, name: &str) -> Vec<(String, usize)> {
        let of = |unit: &serde_json::Value| {
            (unit["unit"].as_str().unwrap().to_owned(), unit["denials"].as_array().unwrap().len())
        };
        self.json(&[name])["units"].as_array().unwrap().iter().map(of).collect()
    }

    fn error(&self, arguments: &[&str]) -> String {
        let output = self.asked(arguments);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(support::exit_status::of_error(&text)), "{text}");
        text
    }
}

fn of(name: &str) -> Incident {
    let mut incident = denied(Manager::System, "uname");
    incident.key.unit = Some(Unit { manager: Manager::System, name: name.parse().unwrap() });
    incident
}

fn one(unit: &str) -> Vec<(String, usize)> {
    vec![(unit.to_owned(), 1)]
}

#[test]
fn alias_gets_the_answer_of_its_unit() {
    let Some(machine) = Machine::start() else { return };
    assert_eq!(machine.units("alias"), one("x.service"));
    assert_eq!(machine.json(&["alias"])["units"][0]["notes"][0]["text"], "alias.service is an alias of x.service");
    assert_eq!(machine.units("x"), one("x.service"));
    assert_eq!(machine.json(&["x"])["units"][0]["notes"], serde_json::json!([]));
    assert_eq!(machine.json(&["check", "alias"])["unit"], "x.service");
    let plan = machine.json(&["apply", "alias", "--dry-run"]);
    assert_eq!(plan["unit"], "x.service");
    assert!(plan["path"].as_str().unwrap().contains("/x.service.d/"), "{plan}");
    let applied = machine.json(&["apply", "alias", "--runtime", "--yes"]);
    assert_eq!((&applied["outcome"], &applied["confirmed"]), (&"applied".into(), &true.into()), "{applied}");
    assert_eq!(machine.asked(&["revert", "alias"]).status.code(), Some(0));
    assert!(!Path::new(applied["path"].as_str().unwrap()).exists());
}

#[test]
fn template_stands_for_its_instances() {
    let Some(machine) = Machine::start() else { return };
    let answer = machine.json(&["t@"])["units"].clone();
    assert_eq!(answer.as_array().unwrap().len(), 1, "{answer}");
    assert_eq!((&answer[0]["unit"], &answer[0]["denials"][0]["count"]), (&"t@.service".into(), &2.into()), "{answer}");
    let instances: BTreeSet<&str> =
        answer[0]["instances"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    assert_eq!(instances, BTreeSet::from(["t@one.service", "t@two.service"]));
    assert!(answer[0]["remedies"][0]["path"].as_str().unwrap().ends_with("/t@.service.d/zz-harden-why.conf"));
    let store = machine.manager.base().join("store").display().to_string();
    assert_eq!(answer[0]["apply"], format!("harden-why apply --restart --state-dir {store} t@.service"));
    assert_eq!(machine.json(&["check", "t@"])["unit"], "t@.service");
    let nobody = machine.json(&["nobody@.service"]);
    assert_eq!(nobody["units"][0]["denials"], serde_json::json!([]));
    let note = nobody["units"][0]["notes"][0]["text"].as_str().unwrap();
    assert_eq!(note, "Unit nobody@.service not found.");
    for verb in ["rehearse", "tap"] {
        let error = machine.error(&[verb, "t@", "--yes"][..if verb == "tap" { 2 } else { 3 }]);
        assert!(error.contains("t@.service is a template: name an instance, as t@NAME.service"), "{verb}: {error}");
    }
}

#[test]
fn remedy_of_a_template_reaches_its_instances_and_is_reverted() {
    let Some(machine) = Machine::start() else { return };
    machine.manager.write("t@.service", "[Service]\nExecStart=/bin/sleep 600\nSystemCallFilter=~uname\n");
    machine.manager.reload();
    assert!(machine.manager.start_unit("t@one.service"));
    machine.record(&["t@one.service", "t@two.service"]);
    let applied = machine.json(&["apply", "t@", "--yes", "--restart"]);
    assert_eq!((&applied["outcome"], &applied["confirmed"]), (&"applied".into(), &true.into()), "{applied}");
    assert_eq!(applied["path"], "/etc/systemd/system/t@.service.d/zz-harden-why.conf", "{applied}");
    let restarted = applied["instances"].as_array().unwrap();
    assert_eq!(restarted.len(), 1, "only the one that runs: {applied}");
    assert_eq!((&restarted[0]["unit"], &restarted[0]["active_state"]), (&"t@one.service".into(), &"active".into()));
    for instance in ["t@one.service", "t@three.service"] {
        assert!(!machine.held(instance).contains("uname"), "{instance}");
    }
    // Also by the name of an instance.
    let reverted = machine.client(&["--json", "revert", "t@two"]);
    assert_eq!((&reverted["unit"], &reverted["outcome"]), (&"t@.service".into(), &"reverted".into()), "{reverted}");
    assert_eq!(reverted["confirmed"], true, "{reverted}");
    assert!(machine.held("t@three.service").contains("uname"));
    assert_eq!(machine.client(&["--json", "revert", "t@"])["outcome"], "nothing");
}

#[test]
fn instance_with_settings_of_its_own_keeps_its_own_drop_in() {
    let Some(machine) = Machine::start() else { return };
    let dir = machine.manager.base().join("etc/t@two.service.d");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("10.conf"), "[Service]\nSystemCallFilter=~sysinfo uname\n").unwrap();
    machine.manager.write("t@.service", "[Service]\nExecStart=/bin/true\nSystemCallFilter=~mount\n");
    machine.manager.reload();
    machine.record(&["t@two.service"]);
    let answer = machine.json(&["t@two"]);
    let path = answer["units"][0]["remedies"][0]["path"].as_str().unwrap();
    assert_eq!(path, "/etc/systemd/system/t@two.service.d/zz-harden-why.conf");
    let units: Vec<String> = machine.units("t@").into_iter().map(|(unit, _)| unit).collect();
    assert_eq!(units, ["t@.service", "t@two.service"]);
}

#[test]
fn instances_of_connections_are_one_answer() {
    let Some(machine) = Machine::start() else { return };
    let names: Vec<String> = (0..40).map(|number| format!("t@{number}-11471-0.service")).collect();
    machine.record(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let output = machine.asked_of_store(&["t@7-11471-0"]);
    let page = String::from_utf8(output.stdout).unwrap();
    assert!(page.contains("t@.service, 42 instances: uname(2) denied") && page.lines().count() <= 15, "{page}");
    assert!(page.contains("t@7-11471-0.service served one connection"), "{page}");
    let overview = machine.asked_of_store(&[]);
    let page = String::from_utf8(overview.stdout).unwrap();
    assert!(page.contains("\nt@.service (42)  ") && !page.contains("t@7-"), "{page}");
    assert!(page.contains("\n  harden-why t@.service\n"), "{page}");
    let lines = machine.json(&[])["overview"].as_array().unwrap().len();
    assert_eq!(lines, 44, "JSON has every instance");
}

#[test]
fn timer_and_umbrella_pass_the_question_to_their_services() {
    let Some(machine) = Machine::start() else { return };
    machine.manager.write("job.timer", "[Timer]\nOnActiveSec=1h\nUnit=work.service\n");
    machine.manager.write("work.service", UNIT);
    machine.manager.write("lan.socket", "[Socket]\nListenStream=/run/lan.sock\nAccept=yes\n");
    machine.manager.write("lan@.service", UNIT);
    let umbrella = "[Service]\nType=oneshot\nExecStart=/bin/true\nRemainAfterExit=yes\n";
    machine.manager.write("tor.service", umbrella);
    // A failed unit stays loaded.
    let part = UNIT.replace("/bin/true", "/bin/false");
    machine.manager.write("tor@.service", &format!("[Unit]\nPartOf=tor.service\n{part}"));
    machine.manager.reload();
    assert!(machine.manager.start_unit("job.timer"));
    machine.manager.start_unit("tor@default.service");
    machine.record(&["work.service", "lan@3-7-0.service", "tor@default.service"]);
    let chain = |asked: &str| {
        let answer = machine.json(&[asked])["units"][0].clone();
        (
            answer["unit"].as_str().unwrap().to_owned(),
            answer["notes"][0]["text"].as_str().unwrap_or_default().to_owned(),
        )
    };
    assert_eq!(chain("job.timer"), ("work.service".to_owned(), "job.timer starts work.service".to_owned()));
    assert_eq!(chain("lan.socket"), ("lan@.service".to_owned(), "lan.socket starts lan@.service".to_owned()));
    let part = "tor@default.service is part of tor.service";
    assert_eq!(chain("tor"), ("tor@default.service".to_owned(), part.to_owned()));
    let plan = machine.json(&["apply", "tor", "--dry-run"]);
    assert_eq!(plan["path"], "/etc/systemd/system/tor@.service.d/zz-harden-why.conf", "{plan}");
    for asked in ["tor", "job.timer"] {
        let applied = machine.json(&["apply", asked, "--yes"]);
        let reverted = machine.client(&["--json", "revert", asked]);
        assert_eq!((&reverted["outcome"], &reverted["path"]), (&"reverted".into(), &applied["path"]), "{reverted}");
    }
    // systemd has unloaded it.
    machine.manager.systemctl(&["stop", "tor.service"]);
    machine.manager.systemctl(&["reset-failed"]);
    assert_eq!(chain("tor").0, "tor@.service");
}

#[test]
fn guessed_denial_has_no_default_remedy() {
    let Some(machine) = Machine::start() else { return };
    machine.manager.write("guessed.service", UNIT);
    machine.manager.reload();
    let guess = Incident { rung: Some(Rung::Executable), ..of("guessed.service") };
    Store::open(&machine.manager.base().join("store")).unwrap().record(&[guess]).unwrap();
    let store = machine.manager.base().join("store").display().to_string();
    let apply = ["--state-dir", &store, "apply", "guessed", "--dry-run"];
    let error = machine.error(&apply);
    assert!(error.contains("the unit guessed.service is a guess"), "{error}");
    assert_eq!(machine.asked(&[&apply[..], &["--remedy", "1"]].concat()).status.code(), Some(0));
    let answer = machine.json(&["guessed"]);
    let remedies = answer["units"][0]["remedies"].as_array().unwrap();
    assert!(!remedies.is_empty() && remedies.iter().all(|remedy| remedy["default"] != true), "{answer}");
}

#[test]
fn tap_of_timer_umbrella_or_template_watches_the_service_behind_it() {
    let Some(machine) = Machine::start() else { return };
    let sleeps = "[Service]\nExecStart=/bin/sleep 600\n";
    for (unit, text) in [
        ("tick.timer", "[Timer]\nOnActiveSec=1h\n"),
        ("tick.service", sleeps),
        (
            "all.service",
            "[Unit]\nWants=all@a.service\n[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n",
        ),
        ("all@.service", &format!("[Unit]\nPartOf=all.service\n{sleeps}")),
    ] {
        machine.manager.write(unit, text);
    }
    machine.manager.reload();
    for unit in ["tick.service", "tick.timer", "all.service", "all@a.service"] {
        assert!(machine.manager.start_unit(unit), "{unit}");
    }
    for (name, unit, step) in [
        ("tick.timer", "tick.service", "tick.timer starts tick.service"),
        ("all", "all@a.service", "all@a.service is part of all.service"),
        ("all@", "all@a.service", "all@a.service is the running instance of all@.service"),
    ] {
        let tapped = machine.client(&["--json", "tap", "--for", "1s", name]);
        assert_eq!(
            (&tapped["units"][0]["unit"], &tapped["notes"][0]["text"]),
            (&unit.into(), &step.into()),
            "{tapped}"
        );
    }
    assert!(machine.manager.start_unit("all@b.service"));
    let error = machine.error(&["tap", "--for", "1s", "all@"]);
    assert!(
        error.contains("all@.service stands for several units: name one of all@a.service and all@b.service"),
        "{error}"
    );
}

#[test]
fn pid_of_a_living_process_stands_for_its_unit_with_every_verb() {
    let Some(machine) = Machine::start() else { return };
    let unit = "[Service]\nSlice=system.slice\nExecStart=/bin/sh -c 'sleep 1000 & wait'\nSystemCallFilter=~uname\n";
    machine.manager.write("live.service", unit);
    machine.manager.reload();
    machine.record(&["live.service"]);
    assert!(machine.manager.start_unit("live.service"));
    let main = String::from_utf8(machine.manager.systemctl(&["show", "-P", "MainPID", "live.service"]).stdout).unwrap();
    let main = main.trim();
    let children = || std::fs::read_to_string(format!("/proc/{main}/task/{main}/children")).unwrap_or_default();
    let child = support::daemon::wait_for(
        || children().split_whitespace().next().map(ToOwned::to_owned),
        || "no child".to_owned(),
    );
    for pid in [main, &child] {
        assert_eq!(machine.units(pid), one("live.service"), "{pid}");
        assert_eq!(machine.json(&["check", pid])["unit"], "live.service");
        assert_eq!(machine.json(&["apply", "--dry-run", pid])["unit"], "live.service");
        assert_eq!(machine.client(&["--json", "revert", pid])["unit"], "live.service");
    }
    // Another manager has no such process, and a process that has ended has no unit.
    let error = machine.error(&["--user", main]);
    assert!(error.contains(&format!("process {main} belongs to live.service of the system manager")), "{error}");
    assert!(machine.manager.systemctl(&["stop", "live.service"]).status.success());
    assert!(machine.error(&[main]).contains(&format!("Process {main} not found. If it died, name its unit.")));
}
