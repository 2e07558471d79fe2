//! Every row of the table of exit statuses in harden-why(1), as far as it needs no manager and no kernel.

use crate::support;
use harden_why::audit::Action;
use harden_why::incidents::{Denial, Incident, IncidentEvent, IncidentKey, Moment, Sample, SightingSource, Store};
use harden_why::syscalls::{Arch, Call};
use harden_why::units::{Manager, Rung, Unit};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

const NO_BUS: &str = "unix:path=/nonexistent/bus";

const RECORD: &str = r#"type=SECCOMP msg=audit(1795456064.827:2): auid=4294967295 uid=0 gid=0 ses=4294967295 pid=7 comm="a" exe="/usr/bin/a" sig=31 arch=c000003e syscall=41 compat=0 ip=0x7f code=0x80000000"#;

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_harden-why")).args(arguments).stdin(Stdio::null()).output().unwrap()
}

/// A store with one denial of `a.service`.
fn store() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let event = IncidentEvent::Denial(Denial { call: Call::numbered(Arch::X86_64, 41), action: Action::KillProcess });
    let unit = Some(Unit { manager: Manager::System, name: "a.service".parse().unwrap() });
    let incident = Incident {
        rung: Some(Rung::OwnCgroup),
        key: IncidentKey { unit, event, exe: b"/usr/bin/a".to_vec(), source: SightingSource::Audit },
        count: 1,
        first: Moment::At(1_795_456_064_000),
        last: Moment::At(1_795_456_064_000),
        sample: Sample { pid: 7, comm: b"a".to_vec(), uid: "0".into(), ..Sample::default() },
    };
    Store::open(dir.path()).unwrap().record(&[incident]).unwrap();
    dir
}

/// A directory with a log of one denial, and a unit file that denies it.
fn log() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let units = dir.path().join("root/etc/systemd/system");
    fs::create_dir_all(&units).unwrap();
    fs::write(units.join("a.service"), "[Service]\nExecStart=/usr/bin/a\nSystemCallFilter=~socket\n").unwrap();
    fs::write(dir.path().join("log"), format!("{RECORD}\n")).unwrap();
    dir
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn verbs_that_answer_exit_with_0_and_findings_are_1_with_exit_code() {
    let (store, log) = (store(), log());
    let state = ["--bus", NO_BUS, "--state-dir", text(store.path())];
    let (root, file) = (log.path().join("root"), log.path().join("log"));
    let (root, file) = (text(&root), text(&file));
    let empty = tempfile::tempdir().unwrap();
    Store::open(empty.path()).unwrap();
    let nothing = ["--bus", NO_BUS, "--state-dir", text(empty.path())];
    let check = ["check", "a", "--root", root, "--log", file];
    // Without and with --exit-code.
    let rows: [(&[&str], [i32; 2]); 9] = [
        (&[&state[..], &["a"]].concat(), [0, 1]),
        (&state, [0, 1]),
        (&nothing, [0, 0]),
        (&[&nothing[..], &["--unknown"]].concat(), [0, 0]),
        (&["explain", file], [0, 1]),
        (&["explain", "/dev/null"], [0, 0]),
        (&check, [0, 1]),
        (&[&check[..], &["--with", "SystemCallFilter=socket"]].concat(), [0, 0]),
        (&["syscall", "socket"], [0, 0]),
    ];
    for (arguments, expected) in rows {
        let plain = run(arguments).status.code().unwrap();
        let with = run(&[arguments, &["--exit-code"]].concat()).status.code().unwrap();
        let json = run(&[arguments, &["--exit-code", "--json"]].concat()).status.code().unwrap();
        assert_eq!([plain, with, json], [expected[0], expected[1], expected[1]], "{arguments:?}");
    }
}

#[test]
fn failure_usage_and_unknown_unit_have_statuses_of_their_own() {
    let store = store();
    let state = ["--bus", NO_BUS, "--state-dir", text(store.path())];
    let with_state = |more: &[&str]| run(&[&state[..], more].concat()).status.code();
    for (status, arguments) in [
        (1, &["syscall", "nosuch"][..]),
        (1, &["explain", "/nonexistent"]),
        (1, &["explain", "/etc"]),
        (1, &["--bus", NO_BUS, "a"]),
        (1, &["--bus", NO_BUS, "status"]),
        (1, &["--bus", NO_BUS, "follow"]),
        (2, &["--frobnicate"]),
        (2, &["explain"]),
        (2, &["log-refusals"]),
        (2, &["syscall", "socket", "--arch", "pdp11"]),
    ] {
        assert_eq!(run(arguments).status.code(), Some(status), "{arguments:?}");
    }
    for (status, arguments) in [
        (2, &["a b"][..]),
        (2, &["--since", "soon"]),
        (2, &["apply", "a"]),
        (4, &["nosuch"]),
        (4, &["nosuch@.service"]),
        (4, &["a", "nosuch"]),
        (4, &["check", "nosuch"]),
        (4, &["apply", "nosuch", "--yes"]),
    ] {
        assert_eq!(with_state(arguments), Some(status), "{arguments:?}");
        // --exit-code changes nothing about failures.
        assert_eq!(with_state(&[arguments, &["--exit-code"]].concat()), Some(status), "{arguments:?}");
    }
}

#[test]
fn missing_rights_are_status_3() {
    let (dir, store) = (tempfile::tempdir_in("/tmp").unwrap(), store());
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(store.path(), fs::Permissions::from_mode(0o000)).unwrap();
    let log = dir.path().join("log");
    fs::write(&log, RECORD).unwrap();
    fs::set_permissions(&log, fs::Permissions::from_mode(0o000)).unwrap();
    for arguments in [
        &["--state-dir", text(store.path()), "a"][..],
        &["explain", text(&log)],
        &["tap", "1"],
        &["log-refusals", "a", "--system", "--yes"],
    ] {
        let output = support::nobody::harden_why(dir.path()).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(3), "{arguments:?}: {output:?}");
    }
}
