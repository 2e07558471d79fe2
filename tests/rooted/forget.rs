//! `forget` on a store that no daemon uses.

use crate::support;
use harden_why::audit::Action;
use harden_why::incidents::{
    Denial, Incident, IncidentEvent, IncidentKey, Moment, Query, Sample, SightingSource, Store,
};
use harden_why::syscalls::{Arch, Call};
use harden_why::units::{Manager, Rung, Unit};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

fn denied(unit: Option<(Manager, &str)>, call: &str) -> Incident {
    let unit = unit.map(|(manager, name)| Unit { manager, name: name.parse().unwrap() });
    Incident {
        rung: unit.as_ref().map(|_| Rung::OwnCgroup),
        key: IncidentKey {
            unit,
            event: IncidentEvent::Denial(Denial { call: Call::named(Arch::X86_64, call), action: Action::KillProcess }),
            exe: b"/bin/x".to_vec(),
            source: SightingSource::Audit,
        },
        count: 3,
        first: Moment::At(10),
        last: Moment::At(20),
        sample: Sample::default(),
    }
}

/// The units in a store.
fn units(dir: &Path) -> Vec<String> {
    let units = Store::open_read_only(dir).unwrap().units(&Query::default()).unwrap();
    units.into_iter().map(|summary| summary.unit.map_or_else(String::new, |unit| unit.name.to_string())).collect()
}

fn forget(dir: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_harden-why"));
    command.args(["--bus", "unix:path=/nonexistent/bus", "--state-dir"]).arg(dir).arg("forget").args(arguments);
    command.output().unwrap()
}

/// What `forget` answers, on one line.
#[track_caller]
fn answer(dir: &Path, arguments: &[&str]) -> String {
    let output = forget(dir, arguments);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    String::from_utf8(output.stdout).unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn named_units_are_forgotten_and_others_stay() {
    let dir = tempfile::tempdir().unwrap();
    let system = |name| Some((Manager::System, name));
    let all = [
        denied(system("web-a.service"), "socket"),
        denied(system("web-a.service"), "uname"),
        denied(system("web-b.service"), "socket"),
        denied(system("echo@1.service"), "socket"),
        denied(system("echo@2.service"), "socket"),
        denied(Some((Manager::User(4242), "web-a.service")), "socket"),
        denied(None, "socket"),
    ];
    Store::open(dir.path()).unwrap().record(&all).unwrap();
    let gone = "denials; the next one is new again.";
    assert_eq!(answer(dir.path(), &["--system", "web-a"]), format!("web-a.service: forgot 2 {gone}"));
    assert_eq!(
        answer(dir.path(), &["web-a", "never-seen"]),
        "web-a.service (user manager of uid 4242): forgot 1 denial; the next one is new again."
    );
    let nothing = "Nothing to forget: no denials of web-a, never-seen are known.";
    assert_eq!(answer(dir.path(), &["web-a", "never-seen"]), nothing, "it is so already");
    assert_eq!(answer(dir.path(), &["echo@"]).matches("forgot 1 denial").count(), 2, "all instances of a template");
    assert_eq!(units(dir.path()), ["", "web-b.service"]);
    let json: serde_json::Value = serde_json::from_str(&answer(dir.path(), &["--json", "web-*"])).unwrap();
    let unit = serde_json::json!([{ "unit": "web-b.service", "manager": "system", "incidents": 1 }]);
    assert_eq!((&json["schema"], &json["forgotten"]), (&1.into(), &unit));
    assert_eq!(answer(dir.path(), &["--unknown"]), "Unit unknown: forgot 1 denial; the next one is new again.");
    assert!(units(dir.path()).is_empty());
    assert_eq!(forget(dir.path(), &[]).status.code(), Some(2), "no unit is named");
    assert_eq!(forget(dir.path(), &["a b"]).status.code(), Some(2));
}

#[test]
fn store_of_others_or_of_a_running_daemon_is_not_changed() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let daemon = {
        let mut store = Store::open(&state).unwrap();
        store.record(&[denied(Some((Manager::System, "web.service")), "socket")]).unwrap();
        store
    };
    let refused = forget(&state, &["web"]);
    let error = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && error.contains("harden-whyd"), "{error}");
    drop(daemon);
    for (path, mode) in [(dir.path().to_owned(), 0o755), (state.clone(), 0o755)] {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    }
    for file in std::fs::read_dir(&state).unwrap() {
        std::fs::set_permissions(file.unwrap().path(), PermissionsExt::from_mode(0o644)).unwrap();
    }
    if nix::unistd::geteuid().is_root() {
        let mut command = support::nobody::harden_why(dir.path());
        command.args(["--bus", "unix:path=/nonexistent/bus", "--state-dir"]).arg(&state).args(["forget", "web"]);
        let refused = command.output().unwrap();
        let error = String::from_utf8(refused.stderr).unwrap();
        assert!(!refused.status.success() && error.contains("Permission denied"), "{error}");
    }
    assert_eq!(units(&state), ["web.service"]);
}
