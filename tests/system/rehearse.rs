//! `rehearse` with the running kernel, a real systemd and the real daemon: one run finds every call that a unit's
//! settings would have denied. Whatever happens, the unit's own settings return and nothing else is left.

use crate::support;
use crate::support::daemon::{Daemon, PROGRAM, wait_for};
use crate::support::manager::TestManager;
use crate::support::skip::skip;
use harden_why::incidents::{Incident, SightingSource};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Makes six calls and exits at the first refused one.
const NEEDY: &str = r"
import ctypes, sys
libc = ctypes.CDLL(None)
for call in [
    lambda: libc.getsid(0),
    lambda: libc.getpgid(0),
    lambda: libc.sched_getparam(0, ctypes.create_string_buffer(64)),
    lambda: libc.munlockall(),
    lambda: libc.klogctl(10, None, 0),
    lambda: libc.adjtimex(ctypes.create_string_buffer(512)),
]:
    if call() < 0:
        sys.exit(7)
";

/// Denies each of them differently: by an error, death, an error for one call, and other directives.
const FORBIDDING: &str = "SystemCallFilter=@system-service syslog clock_adjtime munlockall\nSystemCallErrorNumber=EPERM\n\
    SystemCallFilter=~getsid getpgid sched_getparam:kill munlockall:EACCES\nProtectKernelLogs=yes\nProtectClock=yes\n";

const SIX: [&str; 6] = ["clock_adjtime", "getpgid", "getsid", "munlockall", "sched_getparam", "syslog"];

/// Runs on and calls uname(2) now and then, which its filter denies silently.
const RUNS: &str = "[Service]\nSlice=system.slice\nExecStart=/bin/sh -c 'while :; do uname; sleep 0.2; done'\n\
    StandardOutput=null\nSystemCallFilter=~uname\nSystemCallErrorNumber=EPERM\n";

/// A machine whose daemon listens.
struct Machine {
    manager: TestManager,
    daemon: Option<Daemon>,
}

impl Machine {
    fn start() -> Option<Self> {
        let manager = TestManager::start()?;
        let daemon = Daemon::start(manager.command(&[PROGRAM]), &manager.bus(), &manager.base().join("daemon"));
        Some(Self { manager, daemon: Some(daemon) })
    }

    /// One with a unit `x.service`.
    fn with(unit: &str) -> Option<Self> {
        let machine = Self::start()?;
        machine.write(unit);
        Some(machine)
    }

    fn write(&self, unit: &str) {
        self.manager.write("x.service", unit);
        self.manager.reload();
    }

    /// The unit of the program with six calls.
    fn needy() -> Option<Self> {
        let machine = Self::start()?;
        let program = machine.manager.base().join("needy.py");
        fs::write(&program, NEEDY).unwrap();
        machine.write(&format!(
            "[Service]\nType=oneshot\nSlice=system.slice\nExecStart=/usr/bin/python3 -I {}\n{FORBIDDING}",
            program.display()
        ));
        Some(machine)
    }

    fn client(&self, arguments: &[&str]) -> Command {
        let bus = self.manager.bus();
        // The shell that runs the tests may ignore signals, and children inherit that.
        let before = ["env", "--default-signal=HUP,INT,TERM", env!("CARGO_BIN_EXE_harden-why"), "--bus", &bus];
        let mut command = self.manager.command(&[&before, arguments].concat());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.client(arguments).output().unwrap()
    }

    /// The answer of a client without complaints.
    #[track_caller]
    fn json(&self, arguments: &[&str]) -> serde_json::Value {
        read(&self.run(&[&["--json"], arguments].concat()))
    }

    /// The one line of an error.
    #[track_caller]
    fn error(&self, arguments: &[&str]) -> String {
        error(&self.run(arguments))
    }

    /// Asserts that it is refused for this reason, before any change.
    #[track_caller]
    fn refuses(&self, arguments: &[&str], why: &str) {
        let before = (self.show("InvocationID"), self.show("SystemCallFilter"), self.files());
        let said = self.error(&[&["rehearse"], arguments, &["--yes"]].concat());
        assert!(said.contains(why), "{said}");
        assert_eq!((self.show("InvocationID"), self.show("SystemCallFilter"), self.files()), before);
    }

    fn show(&self, property: &str) -> String {
        let shown = self.manager.systemctl(&["show", "-P", property, "x.service"]);
        String::from_utf8(shown.stdout).unwrap().trim().to_owned()
    }

    /// All files below the directories of drop-ins.
    fn files(&self) -> String {
        let found = self.manager.command(&["find", "/run/systemd/system", "/etc/systemd/system", "-mindepth", "1"]);
        String::from_utf8({ found }.output().unwrap().stdout).unwrap()
    }

    /// Asserts that the unit has its own settings, and that nothing of a rehearsal is left.
    #[track_caller]
    fn is_as_before(&self, filter: &str) {
        assert_eq!((self.show("SystemCallFilter").as_str(), self.files().as_str()), (filter, ""));
        assert_eq!(self.show("NeedDaemonReload"), "no");
    }

    /// Waits until systemd has no job for the unit.
    #[track_caller]
    fn wait_until_settled(&self) {
        wait_for(|| ["", "0"].contains(&self.show("Job").as_str()).then_some(()), || self.show("Job"));
    }

    /// Waits until the unit runs without its filter.
    #[track_caller]
    fn wait_until_rehearsed(&self, before: &str) {
        wait_for(
            || {
                let [filter, invocation, pid] =
                    ["SystemCallFilter", "InvocationID", "MainPID"].map(|what| self.show(what));
                (filter == "~" && invocation != before && pid != "0").then_some(())
            },
            || format!("{} {}", self.show("SystemCallFilter"), self.files()),
        );
    }
}

#[track_caller]
fn read(output: &Output) -> serde_json::Value {
    assert!(output.stderr.is_empty(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[track_caller]
fn error(output: &Output) -> String {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    let status = support::exit_status::of_error(&text);
    assert_eq!((output.status.code(), text.lines().count()), (Some(status), 1), "{text}");
    text
}

fn calls(rehearsed: &serde_json::Value) -> Vec<&str> {
    rehearsed["rehearsal"]["calls"].as_array().unwrap().iter().map(|call| call["call"].as_str().unwrap()).collect()
}

fn send(client: &Child, signal: Signal) {
    // It is reaped only later, so the PID is its own.
    kill(Pid::from_raw(client.id().cast_signed()), signal).unwrap();
}

#[test]
fn six_calls_denied_in_four_ways_are_found_in_one_run() {
    let Some(machine) = Machine::needy() else { return };
    assert!(!machine.manager.start_unit("x.service"), "it cannot work yet");
    let filter = machine.show("SystemCallFilter");

    let dry = machine.json(&["rehearse", "x", "--dry-run"]);
    assert_eq!(dry["rehearsal"]["outcome"], "dry-run");
    assert_eq!(
        dry["rehearsal"]["lifted"],
        serde_json::json!(["ProtectKernelLogs", "ProtectClock", "SystemCallFilter"]),
        "{dry}"
    );
    machine.is_as_before(&filter);

    let rehearsed = machine.json(&["rehearse", "x", "--yes"]);
    assert_eq!(calls(&rehearsed), SIX, "{rehearsed}");
    let rehearsal = &rehearsed["rehearsal"];
    assert_eq!((&rehearsal["outcome"], &rehearsal["ended"]), (&"rehearsed".into(), &"unit-ended".into()));
    assert_eq!((&rehearsal["then"], &rehearsal["state"]), (&"stopped".into(), &"inactive".into()), "{rehearsal}");
    assert!(rehearsal["calls"].as_array().unwrap().iter().all(|call| call["count"] == 1), "{rehearsal}");
    machine.is_as_before(&filter);
    assert!(!machine.manager.start_unit("x.service"), "its own filter is back");

    // Once more, all the way: counts of the first run are not added.
    let applied = machine.json(&["rehearse", "x", "--yes", "--apply"]);
    assert_eq!(calls(&applied), SIX, "{applied}");
    assert!(applied["rehearsal"]["calls"].as_array().unwrap().iter().all(|call| call["count"] == 1), "{applied}");
    assert_eq!((&applied["applied"]["outcome"], &applied["applied"]["confirmed"]), (&"applied".into(), &true.into()));
    assert_eq!(applied["applied"]["restarted"]["result"], "success", "{applied}");
    assert!(machine.manager.start_unit("x.service"), "one remedy was enough");
    assert_eq!(machine.json(&["revert", "x"])["outcome"], "reverted");
    machine.is_as_before(&filter);
}

#[test]
fn filter_that_lacks_nearly_everything_takes_one_run() {
    let unit = "[Service]\nType=oneshot\nSlice=system.slice\nExecStart=/usr/bin/id\nSystemCallFilter=@signal\n";
    for effect in ["", "SystemCallErrorNumber=EPERM\nRestrictNamespaces=yes\nRestrictSUIDSGID=yes\n"] {
        let Some(machine) = Machine::with(&format!("{unit}{effect}")) else { return };
        assert!(!machine.manager.start_unit("x.service"));
        let applied = machine.json(&["rehearse", "x", "--yes", "--apply"]);
        assert!(calls(&applied).len() > 8, "{applied}");
        assert_eq!(applied["applied"]["restarted"]["result"], "success", "{applied}");
        assert!(machine.manager.start_unit("x.service"), "{applied}");
        let lines = applied["applied"]["diff"].to_string();
        assert!(!lines.contains("seccomp"), "only systemd calls it, and only for the rehearsal: {lines}");
        assert!(!lines.contains("Restrict"), "programs do without what is answered as missing: {lines}");
    }
}

#[test]
fn kept_directive_stays_in_force() {
    let Some(machine) = Machine::needy() else { return };
    let lines = "klogctl(10, None, 0),";
    let program = machine.manager.base().join("needy.py");
    // The program tolerates this one.
    fs::write(&program, NEEDY.replace(lines, "klogctl(10, None, 0) and 0,")).unwrap();
    let rehearsed = machine.json(&["rehearse", "x", "--yes", "--keep", "ProtectKernelLogs", "--keep=ProtectClock="]);
    assert_eq!(calls(&rehearsed), ["getpgid", "getsid", "munlockall", "sched_getparam"], "{rehearsed}");
    let rehearsal = &rehearsed["rehearsal"];
    assert_eq!(rehearsal["kept"], serde_json::json!(["ProtectKernelLogs", "ProtectClock"]));
    // It failed because of the kept directive.
    assert_eq!((&rehearsal["ended"], &rehearsal["state"]), (&"unit-ended".into(), &"failed".into()), "{rehearsal}");
    assert!(rehearsed["notes"].to_string().contains("so these calls are not the only problem"), "{rehearsed}");
    let said = machine.error(&["rehearse", "x", "--yes", "--keep", "SystemCallArchitectures"]);
    assert!(said.contains("a rehearsal does not lift SystemCallArchitectures"), "{said}");
}

#[test]
fn rehearsal_ends_on_time_and_the_unit_runs_on_with_its_settings() {
    let Some(machine) = Machine::with(RUNS) else { return };
    assert!(machine.manager.start_unit("x.service"));
    for (limit, ended) in [(&["--for", "5s"][..], "time"), (&["--until-idle=3s"], "idle")] {
        let (pid, start) = (machine.show("MainPID"), Instant::now());
        let rehearsed = machine.json(&[&["rehearse", "x", "--yes"][..], limit].concat());
        let rehearsal = &rehearsed["rehearsal"];
        assert_eq!((&rehearsal["ended"], calls(&rehearsed)), (&ended.into(), vec!["uname"]), "{rehearsed}");
        assert_eq!((&rehearsal["then"], &rehearsal["state"]), (&"restarted".into(), &"active".into()), "{rehearsal}");
        assert!(start.elapsed() < Duration::from_mins(1));
        assert!(rehearsal["calls"][0]["count"].as_u64().unwrap() > 3, "{rehearsal}");
        machine.is_as_before("~uname");
        assert_ne!(machine.show("MainPID"), pid);
    }
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let before = machine.show("InvocationID");
        let client = machine.client(&["--json", "rehearse", "x", "--yes"]).spawn().unwrap();
        machine.wait_until_rehearsed(&before);
        sleep(Duration::from_millis(1500));
        send(&client, signal);
        let rehearsed = read(&client.wait_with_output().unwrap());
        assert_eq!(rehearsed["rehearsal"]["ended"], "interrupted", "{rehearsed}");
        assert_eq!(calls(&rehearsed), ["uname"], "{signal}");
        machine.is_as_before("~uname");
        assert_eq!(machine.show("ActiveState"), "active");
    }
    // Another process removes the drop-in.
    let before = machine.show("InvocationID");
    let client = machine.client(&["--json", "rehearse", "x", "--yes"]).spawn().unwrap();
    machine.wait_until_rehearsed(&before);
    assert!(machine.manager.command(&["rm", "-r", "/run/systemd/system/x.service.d"]).status().unwrap().success());
    send(&client, Signal::SIGINT);
    assert_eq!(read(&client.wait_with_output().unwrap())["rehearsal"]["then"], "restarted");
    machine.is_as_before("~uname");
    // A unit that did not run before does not run afterwards.
    machine.manager.systemctl(&["stop", "x.service"]);
    let rehearsed = machine.json(&["rehearse", "x", "--yes", "--for", "2s"]);
    assert_eq!(rehearsed["rehearsal"]["then"], "stopped", "{rehearsed}");
    assert_eq!(machine.show("ActiveState"), "inactive");
    machine.is_as_before("~uname");
}

#[test]
fn rehearsal_shows_on_the_terminal_what_it_does() {
    let Some(machine) = Machine::with(RUNS) else { return };
    let output = machine.run(&["rehearse", "x", "--yes", "--for", "3s"]);
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!(output.status.code(), Some(0), "{out}{err}");
    assert!(err.contains("x.service is being rehearsed\n"), "{err}");
    assert!(err.contains("uname: SystemCallFilter= would have answered EPERM"), "{err}");
    assert!(out.starts_with("x.service was rehearsed for the given time ("), "{out}");
    for words in [
        "made 1 call that",
        "x.service was stopped, since it did not run before",
        "help: allow uname",
        "harden-why apply --restart x.service",
        "seen in a rehearsal",
    ] {
        assert!(out.replace('\n', " ").contains(words), "{words}: {out}");
    }
    let dry = machine.run(&["rehearse", "x", "--dry-run"]);
    let out = String::from_utf8(dry.stdout).unwrap();
    for words in ["less protected", "SystemCallLog=uname", "Nothing was changed", "runs until Ctrl-C or until it"] {
        assert!(out.contains(words), "{words}: {out}");
    }
    // On a terminal it asks, and shows a table and the time while the unit runs.
    // The shell that runs the tests may ignore signals.
    let client = format!("env --default-signal {} --bus {}", env!("CARGO_BIN_EXE_harden-why"), machine.manager.bus());
    let on_terminal = |verb: &str, typed: &[u8]| {
        let mut script = machine.manager.command(&["script", "-qec", &format!("{client} {verb}"), "/dev/null"]);
        let mut script = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (mut said, mut byte) = (Vec::new(), [0]);
        while !said.ends_with(b"[y/N] ") && script.stdout.as_mut().unwrap().read(&mut byte).unwrap() == 1 {
            said.extend(byte);
        }
        script.stdin.as_mut().unwrap().write_all(typed).unwrap();
        said.extend(script.wait_with_output().unwrap().stdout);
        String::from_utf8(said).unwrap()
    };
    let said = on_terminal("rehearse x", b"n\n");
    assert!(
        said.contains("without these settings") && said.contains("[y/N]") && said.contains("Nothing was changed"),
        "{said}"
    );
    let said = on_terminal("rehearse x", b"\x03");
    assert!(said.contains("nothing was changed: interrupted by SIGINT"), "{said}");
    let said = on_terminal("rehearse x --for 5s", b"y\n");
    assert!((1..10).any(|second| said.contains(&format!("0:0{second}: "))), "{said}");
    for words in ["Ctrl-C or 0:05 ends it", "1 call, ", "uname", "SystemCallFilter= x.service:5"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    println!("{said}");
    machine.is_as_before("~uname");
}

#[test]
fn second_rehearsal_at_once_is_refused() {
    let Some(mut machine) = Machine::with(RUNS) else { return };
    let client = machine.client(&["--json", "rehearse", "x", "--yes"]).spawn().unwrap();
    machine.wait_until_rehearsed("");
    machine.refuses(&["x"], "is rehearsing x.service already");
    // Another daemon does not know the rehearsal, and the client registers it again.
    machine.daemon.take().unwrap().stop();
    fs::remove_file(machine.manager.base().join("daemon/notify")).unwrap();
    let state = machine.manager.base().join("daemon");
    let daemon = Daemon::start(machine.manager.command(&[PROGRAM]), &machine.manager.bus(), &state);
    machine.refuses(&["x"], "is rehearsing x.service already");
    daemon.wait_for_log("x.service is rehearsed");
    let of_rehearsals = |one: &&Incident| one.key.source == SightingSource::Rehearsal;
    let seen = || daemon.stored().iter().filter(of_rehearsals).map(|one| one.count).sum::<u64>();
    let before = seen();
    wait_for(|| (seen() > before).then_some(()), || format!("no more than {before}: {}", daemon.log()));
    let answer = machine.json(&["x"]);
    assert!(answer["units"][0]["notes"].to_string().contains("is being rehearsed; the answer is for its own"));
    assert_eq!(answer["units"][0]["denials"][0]["cause"]["kind"], "unit", "{answer}");
    send(&client, Signal::SIGINT);
    // Without a daemon for a moment, it may have said so.
    let output = client.wait_with_output().unwrap();
    assert_eq!(calls(&serde_json::from_slice(&output.stdout).unwrap()), ["uname"], "{output:?}");
    machine.is_as_before("~uname");
    daemon.stop();
}

#[test]
fn unknown_units_to_follow_are_reported() {
    let Some(mut machine) = Machine::with(RUNS) else { return };
    let mut client = machine.client(&["follow", "nowhere", "x"]).spawn().unwrap();
    let mut said = String::new();
    BufReader::new(client.stderr.as_mut().unwrap()).read_line(&mut said).unwrap();
    send(&client, Signal::SIGTERM);
    let rest = client.wait_with_output().unwrap();
    assert!(said.contains("Unit nowhere.service not found: follow waits for it"), "{said}");
    assert!(!String::from_utf8_lossy(&rest.stderr).contains("x.service"), "{rest:?}");
    machine.daemon.take().unwrap().stop();
}

#[test]
fn impossible_rehearsal_is_refused_before_any_change() {
    let Some(mut machine) = Machine::with(RUNS) else { return };
    let said = machine.error(&["rehearse", "x"]);
    assert!(said.contains("there is no terminal: add --yes or --dry-run"), "{said}");
    machine.refuses(&["nowhere"], "Unit nowhere.service not found.");
    machine.refuses(&["basic.target"], "basic.target runs no processes");
    machine.manager.write("harden-whyd.service", "[Service]\nExecStart=/bin/sleep 60\nSystemCallFilter=~uname\n");
    machine.manager.reload();
    machine.refuses(&["harden-whyd"], "without harden-whyd.service a rehearsal would show nothing");

    let behind = "x.service.d/zzzzz.conf";
    machine.manager.write(behind, "[Service]\nSystemCallFilter=~sysinfo\n");
    machine.manager.reload();
    machine.refuses(&["x"], "x.service.d/zzzzz.conf comes after a rehearsal's drop-in and decides sysinfo");
    machine.manager.write(behind, "");
    machine.manager.write("x.service.d/zzzz-harden-why-rehearsal.conf", "[Service]\nNice=1\n");
    machine.manager.reload();
    machine.refuses(&["x"], "x.service.d/zzzz-harden-why-rehearsal.conf would hide a rehearsal's");
    fs::remove_dir_all(machine.manager.base().join("units/x.service.d")).unwrap();

    machine.write(&format!("[Unit]\nRefuseManualStart=yes\n{RUNS}"));
    machine.refuses(&["x"], "only other units may start x.service");
    machine.write(&format!("[Unit]\nRefuseManualStop=yes\n{RUNS}"));
    assert!(machine.manager.start_unit("x.service"));
    machine.refuses(&["x"], "only other units may stop x.service");
    machine.write("[Service]\nExecStart=/bin/sleep 60\n");
    let nothing = machine.run(&["rehearse", "x", "--yes"]);
    let said = String::from_utf8(nothing.stdout).unwrap();
    assert!(said.starts_with("Nothing to rehearse: ") && nothing.status.code() == Some(0), "{said}");
    machine.manager.write("x.service", RUNS);
    machine.refuses(&["x"], "its files changed since systemd read them");
    machine.manager.reload();

    // Where others may not write.
    let bus = machine.manager.bus();
    let client = ["--bus", &bus, "rehearse", "x", "--system", "--yes"];
    let nobody = ["setpriv", "--reuid=65534", "--clear-groups", env!("CARGO_BIN_EXE_harden-why")];
    let said = machine.manager.command(&[&nobody[..], &client].concat()).output().unwrap();
    assert_eq!(said.status.code(), Some(3), "{said:?}");
    let readonly = "mount --bind /run/systemd/system /run/systemd/system &&
        mount -o remount,ro,bind /run/systemd/system && exec \"$@\"";
    let before = ["unshare", "--mount", "sh", "-c", readonly, "sh", env!("CARGO_BIN_EXE_harden-why")];
    let said = machine.manager.command(&[&before[..], &client].concat()).output().unwrap();
    assert!(error(&said).contains("is on a read-only file system"), "{said:?}");
    machine.is_as_before("~uname");

    fs::remove_file(machine.manager.base().join("units/x.service")).unwrap();
    machine.manager.systemctl(&["stop", "x.service"]);
    std::os::unix::fs::symlink("/dev/null", machine.manager.base().join("units/x.service")).unwrap();
    machine.manager.reload();
    machine.refuses(&["x"], "x.service is masked");
    fs::remove_file(machine.manager.base().join("units/x.service")).unwrap();
    machine.manager.reload();
    let run = ["systemd-run", "--user", "--unit=x", "-p", "SystemCallFilter=~uname", "sleep", "600"];
    assert!(machine.manager.command(&run).output().unwrap().status.success());
    machine.refuses(&["x"], "x.service is transient");
    machine.manager.systemctl(&["stop", "x.service"]);

    machine.daemon.take().unwrap().stop();
    machine.write(RUNS);
    machine.refuses(&["x"], "harden-whyd, which a rehearsal requires, does not answer");
}

#[test]
fn unit_that_does_not_start_gets_its_own_settings_back() {
    let Some(machine) = Machine::with(RUNS) else { return };
    let unit = "[Service]\nSlice=system.slice\nSystemCallFilter=~uname\n";
    machine.write(&format!("{unit}ExecStart=/bin/false\n"));
    let said = machine.error(&["--json", "rehearse", "x", "--yes"]);
    assert!(said.contains("x.service still failed (exit-code) with nothing blocked"), "{said}");
    machine.is_as_before("~uname");
    machine.write(&format!("[Unit]\nConditionPathExists=/nonexistent\n{unit}ExecStart=/bin/sleep 60\n"));
    let said = machine.error(&["--json", "rehearse", "x", "--yes"]);
    assert!(said.contains("x.service was not started, since its conditions are not met"), "{said}");
    machine.is_as_before("~uname");
    machine.write(&format!("[Unit]\nRequires=missing.service\nAfter=missing.service\n{unit}ExecStart=/bin/sleep 60\n"));
    let said = machine.error(&["--json", "rehearse", "x", "--yes"]);
    assert!(said.contains("x.service does not start again") && said.contains("has its own settings again"), "{said}");
    machine.is_as_before("~uname");
    // Nothing is found where nothing is denied.
    machine.write(&format!("{unit}Type=oneshot\nExecStart=/bin/true\n"));
    let output = machine.run(&["--json", "rehearse", "x", "--yes"]);
    assert_eq!((output.status.code(), calls(&read(&output))), (Some(0), vec![]));
}

#[test]
fn rehearsal_interrupted_at_any_moment_rolls_everything_back() {
    const ROUNDS: u32 = 6;
    let Some(machine) = Machine::with(RUNS) else { return };
    assert!(machine.manager.start_unit("x.service"));
    let mut hit = 0;
    for round in 0..ROUNDS {
        let client = machine.client(&["--json", "rehearse", "x", "--yes", "--for", "1s"]).spawn().unwrap();
        wait_for(|| machine.files().contains("zzzz").then_some(()), || "it does not begin".to_owned());
        sleep(Duration::from_millis(1_500) * round / ROUNDS);
        send(&client, Signal::SIGINT);
        let output = client.wait_with_output().unwrap();
        // A second signal, or one during the roll-back, may end its waiting; it says so then.
        let said = String::from_utf8(output.stderr.clone()).unwrap();
        assert!(
            output.status.code().is_some_and(|code| code < 2) || said.contains("interrupted by SIGINT"),
            "{output:?}"
        );
        hit +=
            u32::from(String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).contains("interrupted"));
        assert_eq!(said.contains("harden-why restore"), machine.files().contains("zzzz"), "{said}");
        machine.run(&["restore"]);
        machine.is_as_before("~uname");
        machine.wait_until_settled();
        assert_eq!(machine.show("ActiveState"), "active", "{round}: {output:?}");
    }
    assert!(hit > 0, "no signal came before the end");
}

#[test]
fn rehearsal_killed_at_any_moment_is_cleaned_up_by_the_next_client() {
    const ROUNDS: u32 = 20;
    let Some(machine) = Machine::with(RUNS) else { return };
    let whole = Duration::from_millis(1_800);
    let mut outcomes = BTreeMap::<&str, u32>::new();
    for round in 0..ROUNDS {
        let runs = round % 2 == 0;
        machine.manager.systemctl(&[if runs { "start" } else { "stop" }, "x.service"]);
        let before = machine.show("InvocationID");
        let mut client = machine.client(&["--json", "rehearse", "x", "--yes", "--for", "1s"]).spawn().unwrap();
        // Any moment, or any moment after the first change.
        if round % 4 > 0 {
            wait_for(|| machine.files().contains("zzzz").then_some(()), || "it does not begin".to_owned());
        }
        sleep(whole * (round * 7 % ROUNDS) / ROUNDS);
        let was_over = client.try_wait().unwrap().is_some();
        send_kill(&mut client);
        client.wait_with_output().unwrap();
        let left = machine.files();
        // A verb that does not concern units.
        let next = machine.run(&["syscall", "read"]);
        let said = String::from_utf8(next.stderr).unwrap();
        assert_eq!(next.status.code(), Some(0), "{said}");
        let was_left = left.contains("zzzz-harden-why-rehearsal.");
        let words = "a killed rehearsal left x.service less protected than its settings say; ";
        assert_eq!(said.contains(words), was_left, "{round}: {left}: {said}");
        assert_eq!(said.lines().count(), usize::from(was_left), "{said}");
        machine.is_as_before("~uname");
        let now = machine.show("InvocationID");
        machine.wait_until_settled();
        assert_eq!(machine.show("ActiveState"), if runs { "active" } else { "inactive" }, "{round}: {left}: {said}");
        if runs {
            // The unit has no process of the rehearsal left: its call is refused again.
            let status = || fs::read_to_string(format!("/proc/{}/status", machine.show("MainPID"))).unwrap();
            // The unit counts as active before its filter is in force.
            wait_for(|| status().contains("Seccomp:\t2").then_some(()), status);
        }
        let outcome = match (was_left, was_over, now == before) {
            (true, ..) => "left and mended",
            (false, true, _) => "over",
            (false, false, true) => "not begun",
            (false, false, false) => "done, not told",
        };
        *outcomes.entry(outcome).or_default() += 1;
        assert_eq!(machine.run(&["restore"]).stderr, b"", "there is nothing left to mend");
    }
    println!("{outcomes:?}");
    assert!(outcomes.get("left and mended").is_some_and(|count| *count >= ROUNDS / 2), "{outcomes:?}");
}

/// Runs python code as one of a unit's commands.
fn python(code: &str) -> String {
    format!("/usr/bin/python3 -I -c \"import ctypes; ctypes.CDLL(None).{code}\"")
}

#[test]
fn commands_of_reload_and_stop_are_part_of_the_rehearsal() {
    let Some(machine) = Machine::with(&format!(
        "[Service]\nSlice=system.slice\nExecStart=/bin/sleep 600\nExecReload={}\nExecStop={}\nExecStopPost={}\n\
         SystemCallFilter=~getsid getpgid munlockall\n",
        python("getsid(0)"),
        python("getpgid(0)"),
        python("munlockall()")
    )) else {
        return;
    };
    machine
        .manager
        .write("y.service", "[Unit]\nRequires=x.service\nAfter=x.service\n[Service]\nExecStart=/bin/sleep 600\n");
    machine.manager.reload();
    assert!(machine.manager.start_unit("y.service"));
    let filter = machine.show("SystemCallFilter");
    let rehearsed = machine.json(&["rehearse", "x", "--yes", "--for", "2s", "--no-reload"]);
    assert_eq!(calls(&rehearsed), ["getpgid", "munlockall"], "{rehearsed}");
    assert_eq!(rehearsed["rehearsal"]["then"], "restarted");
    machine.is_as_before(&filter);
    let state = |unit: &str| String::from_utf8(machine.manager.systemctl(&["is-active", unit]).stdout).unwrap();
    wait_for(|| (state("y.service") == "active\n").then_some(()), || "y stopped with x, and stays down".to_owned());
    let applied = machine.json(&["rehearse", "x", "--yes", "--for", "2s", "--apply"]);
    assert_eq!(calls(&applied), ["getpgid", "getsid", "munlockall"], "{applied}");
    assert_eq!(applied["applied"]["restarted"]["active_state"], "active", "{applied}");
    assert!(machine.manager.systemctl(&["reload", "x.service"]).status.success());
    assert!(machine.manager.systemctl(&["stop", "x.service"]).status.success());
    assert_eq!(machine.show("Result"), "success");
}

#[test]
fn remedy_is_written_before_the_unit_starts_again() {
    let Some(machine) = Machine::with(
        "[Service]\nSlice=system.slice\nType=notify\nNotifyAccess=all\nTimeoutStartSec=60\nSystemCallFilter=~uname\n\
         SystemCallErrorNumber=EPERM\n\
         ExecStart=/bin/sh -c 'uname || sleep 100; systemd-notify --ready; exec sleep 600'\n",
    ) else {
        return;
    };
    machine.manager.systemctl(&["start", "--no-block", "x.service"]);
    wait_for(|| (machine.show("MainPID") != "0").then_some(()), || "it does not begin".to_owned());
    let start = Instant::now();
    let applied = machine.json(&["rehearse", "x", "--yes", "--for", "3s", "--apply"]);
    assert!(start.elapsed() < Duration::from_mins(1), "{:?}", start.elapsed());
    assert_eq!((&applied["applied"]["outcome"], calls(&applied)), (&"applied".into(), vec!["uname"]), "{applied}");
    assert_eq!(applied["rehearsal"]["then"], "restarted", "{applied}");
    assert_eq!(machine.show("ActiveState"), "active");
    assert_eq!(machine.files().matches("harden-why").count(), 1, "only the remedy is there: {}", machine.files());
}

/// Moves a child into the scope of a login, as PAM does. At its first start it moves another one before, whose family ends
/// before the daemon can look.
const MOVES: &str = r#"
scope=/sys/fs/cgroup/user.slice/user-0.slice/session-7.scope
short=/sys/fs/cgroup/user.slice/user-0.slice/session-8.scope
mkdir -p "$scope" "$short"
if daemon=$(cat "$0.daemon"); then
    rm "$0.daemon"
    kill -STOP "$daemon"
    sh -c 'echo $$ >"$0/cgroup.procs"; sh -c "nproc; :"; :' "$short"
    kill -CONT "$daemon"
fi
sh -c 'echo $$ >"$0/cgroup.procs"; while :; do nproc; sleep 0.2; done' "$scope" &
exec sleep 600
"#;

#[test]
fn process_moved_out_of_the_unit_belongs_to_the_rehearsal_and_is_named_when_it_survives() {
    let Some(mut machine) = Machine::start() else { return };
    let script = machine.manager.base().join("moves");
    fs::write(&script, MOVES).unwrap();
    fs::write(script.with_extension("daemon"), machine.daemon.as_ref().unwrap().pid().to_string()).unwrap();
    machine.write(&format!(
        "[Service]\nSlice=system.slice\nExecStart=/bin/sh {}\nStandardOutput=null\nSystemCallFilter=~sched_getaffinity\n\
         SystemCallErrorNumber=EPERM\n",
        script.display()
    ));
    let rehearsed = machine.json(&["rehearse", "x", "--yes", "--for", "4s"]);
    assert_eq!(calls(&rehearsed), ["sched_getaffinity"], "{rehearsed}");
    let survivors = rehearsed["rehearsal"]["survivors"].as_array().unwrap();
    let words = survivors.iter().map(|one| one["command"].as_str().unwrap()).collect::<Vec<_>>().join("\n");
    assert!(words.contains("cgroup.procs"), "{rehearsed}");
    // It goes on without the unit's settings, and raises no alert.
    // The daemon receives records of the units of other tests as well, and none of these makes this call.
    let is_own = |one: &Incident| one.denial().is_some_and(|denial| denial.call.name() == Some("sched_getaffinity"));
    let assert_belongs_to_rehearsal = |daemon: &Daemon| {
        let stored = || daemon.stored().into_iter().filter(is_own).collect::<Vec<_>>();
        let seen = || stored().iter().map(|one| one.count).sum::<u64>();
        let before = seen();
        wait_for(|| (seen() > before + 5).then_some(()), || daemon.log());
        for one in stored() {
            let unit = one.key.unit.as_ref().map(|unit| unit.name.to_string());
            assert_eq!((one.key.source, unit.as_deref()), (SightingSource::Rehearsal, Some("x.service")), "{one:?}");
        }
    };
    assert_belongs_to_rehearsal(machine.daemon.as_ref().unwrap());
    // A restarted daemon still knows what it is.
    machine.daemon.take().unwrap().stop();
    fs::remove_file(machine.manager.base().join("daemon/notify")).unwrap();
    let state = machine.manager.base().join("daemon");
    machine.daemon = Some(Daemon::start(machine.manager.command(&[PROGRAM]), &machine.manager.bus(), &state));
    assert_belongs_to_rehearsal(machine.daemon.as_ref().unwrap());
    let pids = survivors.iter().map(|one| one["pid"].as_i64().unwrap());
    for pid in pids {
        // One that ran for a moment has ended.
        let _ = kill(Pid::from_raw(i32::try_from(pid).unwrap()), Signal::SIGKILL);
    }
    let again = machine.run(&["rehearse", "x", "--yes", "--for", "3s"]);
    let out = String::from_utf8(again.stdout).unwrap();
    assert!(out.contains("rehearsal, and run") && out.contains("\n  kill "), "{out}");
    let kill_all = "cat /sys/fs/cgroup/user.slice/user-0.slice/session-7.scope/cgroup.procs | xargs -r kill -9";
    assert!(machine.manager.command(&["sh", "-c", kill_all]).status().unwrap().success());
}

#[test]
fn status_lists_rehearsals_and_a_zombie_is_no_living_owner() {
    let Some(machine) = Machine::with(RUNS) else { return };
    assert!(machine.manager.start_unit("x.service"));
    let mut client = machine.client(&["--json", "rehearse", "x", "--yes"]).spawn().unwrap();
    machine.wait_until_rehearsed("");
    let status = machine.json(&["status"]);
    let listed = &status["rehearsals"][0];
    assert_eq!((&listed["unit"], &listed["manager"]), (&"x.service".into(), &"system".into()), "{status}");
    assert!(listed["pid"].is_u64() && listed["since"].is_string(), "{status}");
    let page = String::from_utf8(machine.run(&["status"]).stdout).unwrap();
    assert!(page.contains("x.service runs without its own settings since"), "{page}");
    // It stays a zombie, since this process does not wait for it.
    send_kill(&mut client);
    let said = String::from_utf8(machine.run(&["syscall", "read"]).stderr).unwrap();
    assert!(said.contains("a killed rehearsal left x.service less protected than its settings say"), "{said}");
    machine.is_as_before("~uname");
    assert_eq!(machine.json(&["status"])["rehearsals"], serde_json::json!([]));
    client.wait().unwrap();
}

/// Where a user's manager is started: what the system's does for `user@UID.service`, with a runtime directory.
const USER_MANAGER: &str = r#"
cgroup=/sys/fs/cgroup$(sed -n s/^0:://p /proc/self/cgroup)
chown 65534 "$cgroup" "$cgroup"/cgroup.procs "$cgroup"/cgroup.subtree_control "$cgroup"/cgroup.threads
exec setpriv --reuid=65534 --regid=65534 --clear-groups /lib/systemd/systemd --user --unit=basic.target
"#;

/// A bus that admits all users.
const OPEN_BUS: &str = r#"<busconfig><listen>unix:path=DIR/bus</listen><auth>EXTERNAL</auth><policy context="default">
<allow user="*"/><allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/></policy></busconfig>"#;

#[test]
fn rehearsal_of_a_users_own_unit_requires_no_root() {
    let Some(manager) = TestManager::start() else { return };
    let open = tempfile::tempdir().unwrap();
    let dir = open.path().to_str().unwrap();
    fs::set_permissions(open.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let config = open.path().join("bus.conf");
    fs::write(&config, OPEN_BUS.replace("DIR", dir)).unwrap();
    let mut bus = manager.command(&["dbus-daemon", "--nofork", "--config-file", config.to_str().unwrap()]);
    let mut bus = bus.stderr(Stdio::null()).spawn().unwrap();
    let address = format!("unix:path={dir}/bus");
    wait_for(|| open.path().join("bus").exists().then_some(()), || "no bus".to_owned());
    let daemon = Daemon::start(manager.command(&[PROGRAM]), &address, &manager.base().join("daemon"));

    let client = open.path().join("harden-why");
    support::program::copy(env!("CARGO_BIN_EXE_harden-why"), &client);
    let runtime = "mount -t tmpfs -o mode=755 tmpfs /run/user && mkdir /run/user/65534 && chown 65534 /run/user/65534";
    assert!(manager.command(&["sh", "-c", runtime]).status().unwrap().success());
    let units = open.path().join("units");
    fs::create_dir(&units).unwrap();
    fs::write(units.join("basic.target"), "[Unit]\n").unwrap();
    fs::write(units.join("x.service"), RUNS.replace("Slice=system.slice\n", "")).unwrap();
    let script = open.path().join("user-manager");
    fs::write(&script, USER_MANAGER).unwrap();
    let lines = [
        "Slice=user-65534.slice".to_owned(),
        "Delegate=yes".to_owned(),
        format!("ExecStart=/bin/sh -e {}", script.display()),
        format!(
            "Environment=XDG_RUNTIME_DIR=/run/user/65534 HOME={dir} DBUS_SESSION_BUS_ADDRESS=unix:path=/nonexistent"
        ),
        format!("StandardError=append:{dir}/user-manager.log"),
        format!("Environment=SYSTEMD_UNIT_PATH={}:/run/user/65534/systemd/user", units.display()),
    ];
    manager.write("user@65534.service", &format!("[Service]\n{}\n", lines.join("\n")));
    manager.reload();
    assert!(manager.start_unit("user@65534.service"));
    let as_user = |command: &[&str]| {
        let user =
            ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "env", "-u", "DBUS_SESSION_BUS_ADDRESS"];
        let variables = ["XDG_RUNTIME_DIR=/run/user/65534"];
        manager.command(&[&user[..], &variables, command].concat())
    };
    let systemctl = |arguments: &[&str]| {
        let output = as_user(&[&["systemctl", "--user"], arguments].concat()).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    wait_for(
        || (systemctl(&["is-active", "basic.target"]) == "active").then_some(()),
        || fs::read_to_string(open.path().join("user-manager.log")).unwrap(),
    );
    let files = || {
        let found = manager.command(&["find", "/run/user/65534/systemd", "-name", "*harden-why*"]).output().unwrap();
        String::from_utf8(found.stdout).unwrap()
    };
    let (program, show) = (client.to_str().unwrap(), |what: &str| systemctl(&["show", "-P", what, "x.service"]));
    let ask = |arguments: &[&str]| as_user(&[&[program, "--bus", &address], arguments].concat());

    systemctl(&["start", "x.service"]);
    let rehearsed = read(&ask(&["--json", "rehearse", "x", "--user", "--yes", "--for", "2s"]).output().unwrap());
    assert_eq!(calls(&rehearsed), ["uname"], "{rehearsed} {}", daemon.log());
    let rehearsal = &rehearsed["rehearsal"];
    assert_eq!((&rehearsal["manager"], &rehearsal["then"]), (&"user:65534".into(), &"restarted".into()), "{rehearsal}");
    assert_eq!(rehearsed["units"][0]["remedies"][0]["content"], "[Service]\nSystemCallFilter=uname\n");
    assert_eq!(
        (files().as_str(), show("SystemCallFilter").as_str(), show("ActiveState").as_str()),
        ("", "~uname", "active")
    );

    let said = error(&ask(&["rehearse", "x", "--system", "--yes"]).output().unwrap());
    assert!(said.contains("only root can rehearse x.service, a unit of the system manager: sudo harden-why"), "{said}");

    // Killed: the next harden-why of its user cleans up after it, and no other user's does.
    let mut killed = ask(&["--json", "rehearse", "x", "--user", "--yes"]);
    let mut killed = killed.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_for(|| (show("SystemCallFilter") == "~").then_some(()), || show("SystemCallFilter"));
    sleep(Duration::from_secs(1));
    killed.kill().unwrap();
    killed.wait().unwrap();
    let others = manager.command(&[program, "--bus", &address, "syscall", "read"]).output().unwrap();
    assert!(others.stderr.is_empty() && files().contains("x.service.d"), "{others:?}");
    let own = ask(&["restore"]).output().unwrap();
    let said = String::from_utf8(own.stderr).unwrap();
    assert!(said.contains("its own settings are in force again, under which it was restarted (active)"), "{said}");
    assert_eq!(
        (files().as_str(), show("SystemCallFilter").as_str(), show("ActiveState").as_str()),
        ("", "~uname", "active")
    );
    daemon.stop();
    bus.kill().unwrap();
    bus.wait().unwrap();
}

fn send_kill(client: &mut Child) {
    // It may have ended already.
    let _ = client.kill();
}

#[test]
fn mode_of_a_file_that_is_only_opened_asks_for_no_set_id_bit() {
    // openat(2) of an existing file, with what the register held before in place of a mode; then the same that creates one.
    let program = "import ctypes, platform\n\
                   call = {'x86_64': 257}.get(platform.machine(), 56)\n\
                   libc = ctypes.CDLL(None)\n\
                   libc.syscall(call, -100, b'/etc/passwd', 0, 0o107777)\n\
                   libc.syscall(call, -100, b'/run/harden-why-set-id', 0o101, 0o104755)\n";
    let Some(machine) = Machine::start() else { return };
    if !Path::new("/sys/kernel/btf/vmlinux").exists() {
        return skip("the kernel has no type information");
    }
    let file = machine.manager.base().join("opens.py");
    fs::write(&file, program).unwrap();
    machine.write(&format!(
        "[Service]\nType=oneshot\nSlice=system.slice\nExecStart=/usr/bin/python3 -I {}\n\
         ExecStopPost=/bin/rm -f /run/harden-why-set-id\nRestrictSUIDSGID=yes\nSystemCallFilter=~getsid\n",
        file.display()
    ));
    let answer = machine.json(&["rehearse", "x", "--yes"]);
    let denials = answer["units"][0]["denials"].as_array().unwrap();
    let set_id: Vec<_> = denials.iter().filter(|denial| denial["access"]["kind"] == "set-id-mode").collect();
    assert!(set_id.len() == 1 && set_id[0]["count"] == 1, "{denials:#?}");
}

#[test]
fn kill_by_a_filter_that_is_kept_leaves_the_rest_of_the_rehearsal_known() {
    let Some(machine) = Machine::start() else { return };
    if !Path::new("/sys/kernel/btf/vmlinux").exists() {
        return skip("the kernel has no type information");
    }
    let program = "import ctypes, os\nlibc = ctypes.CDLL(None)\n\
                   libc.sched_setscheduler(0, 1, b'\\1\\0\\0\\0')\nos.getsid(0)\n";
    let file = machine.manager.base().join("dies.py");
    fs::write(&file, program).unwrap();
    machine.write(&format!(
        "[Service]\nType=oneshot\nSlice=system.slice\nExecStart=/usr/bin/python3 -I {}\nLimitCORE=0\n\
         SystemCallFilter=~getsid\nRestrictRealtime=yes\nProtectHostname=yes\n",
        file.display()
    ));
    let answer = machine.json(&["rehearse", "x", "--yes", "--keep", "SystemCallFilter"]);
    let denials = answer["units"][0]["denials"].as_array().unwrap();
    let realtime = |denial: &&serde_json::Value| denial["access"]["kind"] == "scheduling";
    assert_eq!(denials.iter().filter(realtime).count(), 1, "{answer:#}");
}
