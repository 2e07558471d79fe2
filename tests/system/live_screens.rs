//! Golden screens that need a manager: each directory of `tests/data/screens-live`.
//!
//! A case can have a script `before`, which runs before each command with the client as `$H`. A case with the file
//! `until-line` ends the command with Ctrl-C once it has printed a line.

use crate::support::daemon::{Daemon, PROGRAM};
use crate::support::manager::TestManager;
use crate::support::screen;
use crate::support::skip::skip;
use harden_why::units::{Manager, Unit};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// Dies of a call, and may be refused others.
const DIES: &str = "[Unit]\nDescription=Dies of a call\n\n[Service]\nType=oneshot\nSlice=system.slice\n\
    ExecStart=/usr/bin/python3 -I -c 'import os; os.getsid(0)'\nProtectClock=yes\n\
    SystemCallFilter=@system-service\nSystemCallFilter=~getsid getpgid\nLimitCORE=0\n";

/// Runs on, and its calls fail without a record.
const QUIET: &str = "[Service]\nSlice=system.slice\nExecStart=/bin/sleep 1000\nSystemCallFilter=~uname\n\
    SystemCallErrorNumber=EPERM\nTimeoutStopSec=1\n";

/// Makes the test's manager read what the system's would read, and hides the taps of other tests.
const AS_SYSTEM: &str = "ln -s system.conf.d /run/systemd/user.conf.d && mount -t tmpfs tmpfs /run/user && \
    mkdir -p /run/harden-why && mount -t tmpfs tmpfs /run/harden-why";

/// Runs a command, and ends it with Ctrl-C once it has printed a line.
const UNTIL_LINE: &str = r#"
    out=$(mktemp)
    # A shell lets what runs behind it ignore the signal.
    env --default-signal=INT "$@" >"$out" 2>"$out.err" &
    pid=$!
    for _ in $(seq 600); do
        [ -s "$out" ] && break
        sleep 0.1
    done
    sleep 0.2
    kill -INT $pid
    wait $pid
    status=$?
    cat "$out"
    cat "$out.err" >&2
    rm "$out" "$out.err"
    exit $status
"#;

/// A machine with a unit that died of a call, and one that runs.
pub(crate) struct Machine {
    pub(crate) manager: TestManager,
    daemon: Daemon,
}

impl Machine {
    pub(crate) fn start() -> Option<Self> {
        let manager = TestManager::start()?;
        if manager.is_pid1() {
            skip("the screens are those of a test's manager");
            return None;
        }
        let daemon = Daemon::start(manager.command(&[PROGRAM]), &manager.bus(), &manager.base().join("daemon"));
        let machine = Self { manager, daemon };
        machine.shell(AS_SYSTEM);
        machine.manager.write("web.service", DIES);
        machine.manager.write("quiet.service", QUIET);
        // Dies once, whatever the cases do.
        machine.manager.write("mail.service", DIES);
        machine.manager.reload();
        assert!(machine.manager.start_unit("quiet.service"));
        for name in ["web.service", "mail.service"] {
            assert!(!machine.manager.start_unit(name));
            machine.wait_for_denial(name);
        }
        Some(machine)
    }

    /// Waits until the daemon has a denial of a unit.
    pub(crate) fn wait_for_denial(&self, name: &str) {
        let is_denied = |unit: &Unit| unit.manager == Manager::System && unit.name.as_str() == name;
        self.daemon.wait_for_incident(|incident| incident.key.unit.as_ref().is_some_and(is_denied));
    }

    pub(crate) fn shell(&self, script: &str) {
        let client = format!("{} --bus {}", env!("CARGO_BIN_EXE_harden-why"), self.manager.bus());
        let output = self.manager.command(&["sh", "-c", script]).env("H", client).output().unwrap();
        assert!(output.status.success(), "{script}: {output:?}");
    }

    /// Returns the command of a case.
    fn command(&self, case: &Path, arguments: &[&str]) -> Command {
        if let Ok(script) = fs::read_to_string(case.join("before")) {
            self.shell(&script);
        }
        let bus = self.manager.bus();
        let wrapper: &[&str] = if case.join("until-line").exists() { &["bash", "-c", UNTIL_LINE, "bash"] } else { &[] };
        let client = [env!("CARGO_BIN_EXE_harden-why"), "--bus", &bus];
        let mut command = self.manager.command(&[wrapper, &client, arguments].concat());
        command.env("TZ", "UTC").env_remove("NO_COLOR").env_remove("CLICOLOR_FORCE").stdin(Stdio::null());
        command
    }
}

/// Replaces what stands between two texts, if it is a number.
fn mask_number(text: &str, before: &str, mask: &str, after: &str) -> String {
    let found = text.split_once(before).and_then(|(head, rest)| Some((head, rest.split_once(after)?)));
    match found.filter(|(_, (number, _))| number.trim_start_matches("\x1b[0m").parse::<f64>().is_ok()) {
        Some((head, (number, tail))) => {
            let style = if number.starts_with('\x1b') { "\x1b[0m" } else { "" };
            format!("{head}{before}{style}{mask}{after}{tail}")
        }
        None => text.to_owned(),
    }
}

/// Replaces how long a tap watched, which a busy machine makes longer, and how many records the other cases caused.
fn mask_numbers(text: &str) -> String {
    mask_number(&mask_number(text, "Watched for ", "1.0", " s by"), "  seen   ", "20", " records")
}

#[test]
fn screen_of_verbs_that_need_a_manager_is_as_expected_at_every_width() {
    let Some(machine) = Machine::start() else { return };
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/screens-live");
    let mut cases: Vec<_> = fs::read_dir(data).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    assert!(cases.len() >= 10, "{cases:?}");
    let mut wrong = Vec::new();
    for case in cases {
        let arguments = fs::read_to_string(case.join("args")).unwrap();
        let arguments: Vec<&str> = arguments.lines().collect();
        // The name of the directory differs, its length does not.
        let base = machine.manager.base().to_str().unwrap();
        let same = format!("{}000000", &base[..base.len() - 6]);
        let mask = |text: String| screen::mask_times(&mask_numbers(&text.replace(base, &same)));
        wrong.extend(screen::check(&case, &arguments.join(" "), || machine.command(&case, &arguments), mask));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
