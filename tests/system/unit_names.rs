//! The names that people use for units: an alias, a template, a pattern. A real systemd knows the units.

use crate::support::denied::denied;
use crate::support::manager::TestManager;
use harden_why::incidents::{Incident, Store};
use harden_why::units::{Manager, Rung, Unit};
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
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
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
fn alias_is_answered_for_its_unit() {
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
    assert_eq!(machine.units("t@"), [one("t@one.service"), one("t@two.service")].concat());
    let nobody = machine.json(&["nobody@.service"]);
    assert_eq!(nobody["units"][0]["denials"], serde_json::json!([]));
    let note = nobody["units"][0]["notes"][0]["text"].as_str().unwrap();
    assert!(note.starts_with("no instance of nobody@.service has denials"), "{note}");
    for verb in ["revert", "tap"] {
        let error = machine.error(&[verb, "t@"]);
        assert!(error.contains("t@.service is a template: name an instance, as t@NAME.service"), "{verb}: {error}");
    }
}

#[test]
fn guessed_denial_is_not_applied_unasked() {
    let Some(machine) = Machine::start() else { return };
    machine.manager.write("guessed.service", UNIT);
    machine.manager.reload();
    let guess = Incident { rung: Some(Rung::Executable), ..of("guessed.service") };
    Store::open(&machine.manager.base().join("store")).unwrap().record(&[guess]).unwrap();
    let store = machine.manager.base().join("store").display().to_string();
    let apply = ["--state-dir", &store, "apply", "guessed", "--dry-run"];
    let error = machine.error(&apply);
    assert!(error.contains("that it was guessed.service is a guess"), "{error}");
    assert_eq!(machine.asked(&[&apply[..], &["--remedy", "1"]].concat()).status.code(), Some(0));
    let answer = machine.json(&["guessed"]);
    let remedies = answer["units"][0]["remedies"].as_array().unwrap();
    assert!(!remedies.is_empty() && remedies.iter().all(|remedy| remedy["default"] != true), "{answer}");
}

#[test]
fn pattern_is_refused_as_one() {
    let Some(machine) = Machine::start() else { return };
    let error = machine.error(&["t@*"]);
    assert!(error.contains("t@* is a pattern: name the units, or a template (x@.service)"), "{error}");
}
