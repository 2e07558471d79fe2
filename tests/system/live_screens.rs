//! Golden screens that need a manager: each directory of `tests/data/screens-live`.

use crate::support::daemon::{Daemon, PROGRAM};
use crate::support::manager::TestManager;
use crate::support::screen;
use harden_why::units::Manager;
use std::fs;
use std::path::Path;
use std::process::Stdio;

/// Dies of a call, and may be refused others.
const DIES: &str = "[Unit]\nDescription=Dies of a call\n\n[Service]\nType=oneshot\nSlice=system.slice\n\
    ExecStart=/usr/bin/python3 -I -c 'import os; os.getsid(0)'\nProtectClock=yes\n\
    SystemCallFilter=@system-service\nSystemCallFilter=~getsid getpgid\nLimitCORE=0\n";

#[test]
fn screen_of_verbs_that_need_a_manager_is_as_expected_at_every_width() {
    let Some(manager) = TestManager::start() else { return };
    let daemon = Daemon::start(manager.command(&[PROGRAM]), &manager.bus(), &manager.base().join("daemon"));
    manager.write("web.service", DIES);
    manager.reload();
    assert!(!manager.start_unit("web.service"));
    daemon.wait_for_incident(|incident| incident.key.unit.as_ref().is_some_and(|unit| unit.manager == Manager::System));
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/screens-live");
    let cases: Vec<_> = fs::read_dir(data).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(cases.len() >= 3, "{cases:?}");
    let mut wrong = Vec::new();
    for case in cases.into_iter().filter(|case| !screen::needs_another_systemd(case)) {
        let arguments = fs::read_to_string(case.join("args")).unwrap();
        let arguments: Vec<&str> = arguments.lines().collect();
        let command = || {
            let bus = manager.bus();
            let client = [env!("CARGO_BIN_EXE_harden-why"), "--bus", &bus];
            let mut command = manager.command(&[&client, arguments.as_slice()].concat());
            command.env("TZ", "UTC").env_remove("NO_COLOR").env_remove("CLICOLOR_FORCE").stdin(Stdio::null());
            command
        };
        // The name of the directory differs, its length does not.
        let base = manager.base().to_str().unwrap();
        let same = format!("{}000000", &base[..base.len() - 6]);
        let mask = |text: String| screen::mask_times(&text.replace(base, &same));
        wrong.extend(screen::check(&case, &arguments.join(" "), command, mask));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
