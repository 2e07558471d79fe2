//! With `--json`, every command prints one object, also where it fails.

use std::process::{Command, Stdio};

#[test]
fn command_that_fails_under_json_prints_an_object() {
    let no_bus = ["--bus", "unix:path=/nonexistent/bus"];
    let empty = tempfile::tempdir().unwrap();
    let empty = empty.path().to_str().unwrap();
    let failing: &[&[&str]] = &[
        &["x.service"],
        &["bad/name"],
        &["--unknown", "x"],
        &["--no-such-option"],
        &["--state-dir", empty],
        &["--since", "soon", "x"],
        &["explain"],
        &["explain", "/nonexistent/log"],
        &["explain", "--root", "/nonexistent", "/dev/null"],
        &["follow"],
        &["forget", "x"],
        &["tap", "x"],
        &["tap"],
        &["apply", "x"],
        &["apply", "x", "--yes"],
        &["rehearse", "x"],
        &["rehearse", "x", "--yes"],
        &["rehearse", "x", "--keep", "Nothing", "--dry-run"],
        &["bisect", "x"],
        &["bisect", "x", "--yes"],
        &["bisect", "x", "--restarts", "2", "--dry-run"],
        &["revert", "x/y"],
        &["log-refusals"],
        &["log-refusals", "x"],
        &["log-refusals", "x", "--yes"],
        &["check", "x", "--root", "/nonexistent"],
        &["check", "x", "--with", "no line"],
        &["syscall", "no_such_call"],
        &["demo-victim", "/nonexistent/unit"],
    ];
    for words in failing {
        let mut command = Command::new(env!("CARGO_BIN_EXE_harden-why"));
        let output = command.args(no_bus).arg("--json").args(*words).stdin(Stdio::null()).output().unwrap();
        let status = output.status.code().unwrap();
        assert!((1..=4).contains(&status), "{words:?}: {output:?}");
        let object: serde_json::Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{words:?} prints no object: {error}: {output:?}"));
        assert_eq!(object["schema"], 1, "{words:?}: {object}");
        assert!(object["error"].as_str().is_some_and(|text| !text.is_empty()), "{words:?}: {object}");
        assert!(!output.stderr.is_empty(), "{words:?}");
    }
}

#[test]
fn restore_with_nothing_to_do_prints_an_object() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_harden-why"));
    let output = command.args(["--json", "--bus", "unix:path=/nonexistent/bus", "restore"]).output().unwrap();
    let object: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &object["schema"]), (Some(0), &1.into()));
    assert!(object["restored"].is_array(), "{object}");
}
