//! Whether a unit's filters are in force, against real managers with and without `SYSTEMD_SECCOMP=0`.

use crate::support::manager::TestManager;
use harden_why::incidents::Store;
use serde_json::Value;

const FILTERED: &str = "[Service]\nExecStart=/bin/sleep 600\nSystemCallFilter=~uname\n";
const PRIVILEGED: &str = "[Service]\nExecStart=+/bin/sleep 600\nSystemCallFilter=~uname\n";
const PLAIN: &str = "[Service]\nExecStart=/bin/sleep 600\n";

struct Machine(TestManager);

impl Machine {
    fn start(environment: &[(&str, &str)]) -> Option<Self> {
        let manager = TestManager::start_with(environment)?;
        for (unit, text) in [("filtered", FILTERED), ("privileged", PRIVILEGED), ("plain", PLAIN)] {
            manager.write(&format!("{unit}.service"), text);
        }
        // systemd notices changed files where it knows the directory.
        manager.write("plain.service.d/05.conf", "[Service]\nNice=1\n");
        manager.reload();
        Store::open(&manager.base().join("store")).unwrap();
        Some(Self(manager))
    }

    fn answer(&self, arguments: &[&str]) -> Value {
        let (bus, store) = (self.0.bus(), self.0.base().join("store").display().to_string());
        let client = [env!("CARGO_BIN_EXE_harden-why"), "--bus", &bus, "--json"];
        let source: &[&str] = if arguments == ["status"] { &[] } else { &["--state-dir", &store] };
        let output = self.0.command(&[&client[..], arguments, source].concat()).output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
    }

    /// The first note of an answer, if it tells that the filters are not in force.
    fn missing_filter(&self, unit: &str) -> Option<String> {
        let report = self.answer(&[unit]);
        let note = &report["units"][0]["notes"][0];
        (note["id"] == "filter-not-in-force").then(|| note["text"].as_str().unwrap().to_owned())
    }
}

#[test]
fn manager_with_filters_off_is_named_first_in_answer_and_status() {
    let Some(machine) = Machine::start(&[("SYSTEMD_SECCOMP", "0")]) else { return };
    let before = machine.missing_filter("filtered").unwrap();
    assert!(
        before.starts_with(
            "SystemCallFilter= of filtered.service is not in force: the manager's environment has SYSTEMD_SECCOMP=0; \
             remove "
        ),
        "{before}"
    );
    assert!(machine.0.start_unit("filtered.service") && machine.0.start_unit("plain.service"));
    let running = machine.missing_filter("filtered").unwrap();
    assert!(
        running.contains("its main process ") && running.contains(" has no filter (Seccomp: 0), since "),
        "{running}"
    );
    assert_eq!(machine.missing_filter("plain"), None);
    let off = &machine.answer(&["status"])["filters_off"];
    assert_eq!(off[0]["manager"], "system", "{off}");
    assert_eq!(off[0]["reason"], "the manager's environment has SYSTEMD_SECCOMP=0");
}

#[test]
fn process_without_filter_for_another_reason_is_not_reported() {
    let Some(machine) = Machine::start(&[]) else { return };
    for unit in ["filtered.service", "privileged.service", "plain.service"] {
        assert!(machine.0.start_unit(unit), "{unit}");
    }
    machine.0.write("plain.service.d/10.conf", "[Service]\nSystemCallFilter=~uname\n");
    assert_eq!(machine.missing_filter("plain"), None, "not yet read");
    machine.0.reload();
    for unit in ["filtered", "privileged", "plain"] {
        assert_eq!(machine.missing_filter(unit), None, "{unit}");
    }
    assert_eq!(machine.answer(&["status"])["filters_off"], Value::Array(Vec::new()));
}
