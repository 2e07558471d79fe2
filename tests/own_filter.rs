//! The diagnoser is not its own patient: the daemon at work under the filters of the unit it ships with.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests are tests")]

#[expect(dead_code, reason = "other tests use the rest")]
mod support {
    pub(crate) mod manager;
}

use harden_why::incidents::{Incident, Query, Store};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};
use support::manager::TestManager;

/// How long anything may take here.
const PATIENCE: Duration = Duration::from_secs(20);

/// The lines of the unit that install filters or bound what the daemon may do, as far as a manager without a whole
/// machine of its own can have them.
fn settings() -> String {
    const KEPT: [&str; 12] = [
        "CapabilityBoundingSet",
        "LockPersonality",
        "MemoryDenyWriteExecute",
        "NoNewPrivileges",
        "ProtectClock",
        "ProtectHostname",
        "RestrictAddressFamilies",
        "RestrictNamespaces",
        "RestrictRealtime",
        "RestrictSUIDSGID",
        "SystemCallArchitectures",
        "SystemCallFilter",
    ];
    let unit = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd/harden-whyd.service")).unwrap();
    let kept = unit
        .lines()
        .filter(|line| KEPT.iter().any(|key| line.strip_prefix(key).is_some_and(|rest| rest.starts_with('='))));
    let lines: Vec<&str> = kept.collect();
    assert!(lines.len() >= KEPT.len(), "{lines:?}");
    lines.join("\n")
}

#[test]
fn the_daemon_works_under_the_filter_it_ships_with() {
    let Some(manager) = TestManager::start() else { return };
    let state = manager.base().join("state");
    manager.write(
        "whyd.service",
        &format!(
            "[Service]\nType=notify\nSlice=system.slice\nExecStart={} --bus {} --state-dir {}\n\
             StandardError=file:{}\n{}\n",
            env!("CARGO_BIN_EXE_harden-whyd"),
            manager.bus(),
            state.display(),
            manager.base().join("whyd.log").display(),
            settings()
        ),
    );
    manager.write("dies.service", "[Service]\nSlice=system.slice\nExecStart=/bin/uname\nSystemCallFilter=~uname\n");
    // A child that is gone at once, which only the kernel's notes can tell.
    manager.write(
        "child.service",
        "[Service]\nType=oneshot\nSlice=system.slice\nExecStart=/bin/sh -c '/bin/uname; true'\nSystemCallFilter=~uname\n",
    );
    manager.reload();
    let log = || fs::read_to_string(manager.base().join("whyd.log")).unwrap_or_default();
    let started = manager.start_unit("whyd.service");
    let status = || String::from_utf8(manager.systemctl(&["status", "--no-pager", "whyd.service"]).stdout).unwrap();
    assert!(started, "{}{}", log(), status());
    manager.start_unit("dies.service");
    manager.start_unit("child.service");
    let deadline = Instant::now() + PATIENCE;
    let seen = |name: &str| -> Option<Incident> {
        let stored = Store::open_read_only(&state).ok()?.incidents(&Query::default()).unwrap();
        let mut incidents = stored.into_iter().map(|stored| stored.incident);
        incidents.find(|one| one.key.unit.as_ref().is_some_and(|unit| unit.name.as_str() == name))
    };
    while ["dies.service", "child.service"].iter().any(|name| seen(name).is_none()) {
        assert!(Instant::now() < deadline, "{}", log());
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(manager.systemctl(&["is-active", "whyd.service"]).stdout, b"active\n", "{}", log());
    assert!(!log().contains("not noted") && !log().contains("cannot be heard"), "nothing is missing: {}", log());
    assert!(seen("whyd.service").is_none(), "and it was denied nothing");
    let stopped = manager.systemctl(&["stop", "whyd.service"]);
    assert!(stopped.status.success());
    let result = manager.systemctl(&["show", "-P", "Result", "whyd.service"]);
    assert_eq!(result.stdout, b"success\n", "{}", log());
}
