//! Failures without a record: real units that fail, a real manager and a real journald.

use crate::journal_entries::Journald;
use crate::support::child::PATIENCE;
use crate::support::manager::TestManager;
use harden_why::incidents::Store;
use serde_json::Value;
use std::time::Instant;

/// Starts a manager, a journald and an empty store.
fn start() -> Option<(TestManager, Journald)> {
    // The manager starts before its journald, and its children log there.
    let manager = TestManager::start_with(&[("SYSTEMD_LOG_TARGET", "journal")])?;
    let journald = Journald::start(&manager)?;
    Store::open(&manager.base().join("store")).unwrap();
    Some((manager, journald))
}

/// Lets a unit with these lines fail, and returns its answer as data and as a page.
fn failed(manager: &TestManager, unit: &str, lines: &str) -> (Value, String) {
    manager.write(unit, &format!("[Service]\nType=oneshot\nStandardError=journal\n{lines}\n"));
    manager.reload();
    let deadline = Instant::now() + PATIENCE;
    loop {
        assert!(!manager.start_unit(unit), "{unit} has to fail");
        if is_in_journal(manager, unit) {
            break;
        }
        assert!(Instant::now() < deadline, "journald never knew the unit of a process");
    }
    let (bus, store) = (manager.bus(), manager.base().join("store").display().to_string());
    let ask = |more: &[&str]| {
        let client = [env!("CARGO_BIN_EXE_harden-why"), "--bus", &bus, "--state-dir", &store, unit];
        let output = manager.command(&[&client[..], more].concat()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let report: Value = serde_json::from_str(&ask(&["--json"])).unwrap();
    (report["units"][0].clone(), ask(&[]))
}

/// Whether journald knew the unit of a line. It reads the cgroup of a process after the line came, and the process may have
/// ended by then. A system's manager also names the unit itself, in another field than this manager, which is a user's.
fn is_in_journal(manager: &TestManager, unit: &str) -> bool {
    assert!(manager.command(&["journalctl", "--sync"]).output().unwrap().status.success());
    let lines = manager.command(&["journalctl", "--quiet", "--output=cat", &format!("_SYSTEMD_UNIT={unit}")]).output();
    !lines.unwrap().stdout.is_empty()
}

#[test]
fn missing_writable_path_names_the_word_of_its_line() {
    let Some((manager, _journald)) = start() else { return };
    let lines = "ExecStart=/bin/true\nReadWritePaths=/tmp -/nonexistent/a /nonexistent/b";
    let (answer, page) = failed(&manager, "missing.service", lines);
    let failure = &answer["failure"];
    assert_eq!((&failure["status"], &failure["step"]), (&226.into(), &"NAMESPACE".into()), "{answer:#}");
    let causes = failure["possible_causes"].as_array().unwrap();
    assert_eq!(causes.len(), 1, "{failure:#}");
    assert_eq!((&causes[0]["directive"], &causes[0]["errno"]), (&"ReadWritePaths".into(), &"ENOENT".into()));
    assert_eq!(causes[0]["source"]["pointed"], "/nonexistent/b");
    assert!(
        page.starts_with("missing.service failed: exit status 226/NAMESPACE\npossible cause, not proven:\n"),
        "{page}"
    );
    assert!(page.contains("help: write -/nonexistent/b in place of /nonexistent/b"), "{page}");
    assert!(page.lines().count() <= 15, "{page}");
}

#[test]
fn logged_read_only_path_names_the_line_that_makes_it_so() {
    let Some((manager, _journald)) = start() else { return };
    let lines = "ExecStart=/bin/sh -c 'echo x >/usr/harden-why-test'\nProtectSystem=yes\nPrivateTmp=yes";
    let (answer, page) = failed(&manager, "writes.service", lines);
    let failure = &answer["failure"];
    assert!(failure["message"].as_str().is_some_and(|text| text.contains("/usr/harden-why-test")), "{answer:#}");
    let causes = failure["possible_causes"].as_array().unwrap();
    assert_eq!(causes.len(), 1, "{failure:#}");
    assert_eq!((&causes[0]["directive"], &causes[0]["errno"]), (&"ProtectSystem".into(), &"EROFS".into()));
    assert_eq!(failure["check"], "harden-why tap --restart writes.service");
    assert!(page.contains("possible cause, not proven:") && page.contains("ProtectSystem=yes"), "{page}");
    assert!(page.lines().count() <= 15, "{page}");
}

#[test]
fn missing_file_that_nothing_hides_has_no_possible_cause() {
    let Some((manager, _journald)) = start() else { return };
    let (answer, _) =
        failed(&manager, "plain.service", "ExecStart=/bin/cat /tmp/harden-why-was-never-there\nPrivateTmp=yes");
    assert_eq!(answer["failure"], Value::Null, "{answer:#}");
}
