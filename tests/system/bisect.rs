//! `bisect` with a real systemd: planted lines are found, and whatever happens, the unit's own settings return and
//! nothing else is left.

use crate::support;
use crate::support::daemon::wait_for;
use crate::support::manager::TestManager;
use crate::support::random::Random;
use harden_why::policy::{Hardening, Settings, UnitFile};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::Duration;

/// Fails with status 7 if some of its surroundings are restricted: `any:A,B` if one of them is, `all:A,B` if both are.
const PROBE: &str = r#"
import ctypes, errno, os, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
def fails(result):
    return result < 0 and ctypes.get_errno() == errno.EPERM
def read_only(path, flag=os.ST_RDONLY):
    return bool(os.statvfs(path).f_flag & flag)
def other(namespace):
    return os.readlink("/proc/self/ns/" + namespace) not in sys.argv
def no_inet():
    try:
        socket.socket(socket.AF_INET)
        return False
    except OSError:
        return True
def no_chmod():
    try:
        os.chmod("/srv/fixed-c", 0o4755)
    except OSError as error:
        return error.errno == errno.EPERM
    return False
restricted = {
    "system": lambda: read_only("/etc"),
    "home": lambda: os.stat("/root").st_dev != os.stat("/").st_dev,
    "tmp": lambda: not os.path.exists(sys.argv[2]),
    "cgroups": lambda: read_only("/sys/fs/cgroup"),
    "subset": lambda: not os.path.exists("/proc/cpuinfo"),
    "empty": lambda: not os.path.exists("/srv/empty/marker"),
    "hidden-a": lambda: not os.path.exists("/srv/hidden-a/marker"),
    "hidden-b": lambda: not os.path.exists("/srv/hidden-b/marker"),
    "fixed-a": lambda: read_only("/srv/fixed-a"),
    "fixed-b": lambda: read_only("/srv/fixed-b"),
    "programs": lambda: read_only("/srv/programs", os.ST_NOEXEC),
    "pacct": lambda: libc.prctl(23, 20, 0, 0, 0) == 0,
    "suspend": lambda: libc.prctl(23, 36, 0, 0, 0) == 0,
    "privileges": lambda: libc.prctl(39, 0, 0, 0, 0) == 1,
    "network": lambda: other("net"),
    "ipc": lambda: other("ipc"),
    "hostname": lambda: other("uts"),
    "families": no_inet,
    "memory": lambda: libc.syscall(9, 0, 4096, 7, 0x22, -1, 0) == -1,
    "realtime": lambda: fails(libc.sched_setscheduler(0, 1, ctypes.byref(ctypes.c_int(1)))),
    "suid": no_chmod,
    "namespaces": lambda: fails(libc.unshare(0x04000000)),
    "modules": lambda: fails(libc.syscall(176, b"no_such_module", 0)),
    "logs": lambda: fails(libc.klogctl(10, None, 0)),
    "clock": lambda: fails(libc.adjtimex(ctypes.create_string_buffer(512))),
    "devices": lambda: str(os.stat("/dev").st_dev) != sys.argv[3],
    "personality": lambda: fails(libc.personality(8)),
    "tunables": lambda: read_only("/sys"),
    "getsid": lambda: fails(libc.getsid(0)),
    "munlockall": lambda: fails(libc.munlockall()),
}
how, names = sys.argv[1].split(":")
if {"any": any, "all": all}[how](restricted[name]() for name in names.split(",")):
    sys.exit(7)
"#;

/// Thirty lines of hardening, each with what the program sees of it.
const LINES: [(&str, &str); 30] = [
    ("ProtectSystem=full", "system"),
    ("ProtectHome=yes", "home"),
    ("PrivateTmp=yes", "tmp"),
    ("ProtectControlGroups=yes", "cgroups"),
    ("ProcSubset=pid", "subset"),
    ("TemporaryFileSystem=/srv/empty", "empty"),
    ("InaccessiblePaths=/srv/hidden-a", "hidden-a"),
    ("InaccessiblePaths=/srv/hidden-b", "hidden-b"),
    ("ReadOnlyPaths=/srv/fixed-a", "fixed-a"),
    ("ReadOnlyPaths=/srv/fixed-b", "fixed-b"),
    ("NoExecPaths=/srv/programs", "programs"),
    ("CapabilityBoundingSet=~CAP_SYS_PACCT", "pacct"),
    ("CapabilityBoundingSet=~CAP_BLOCK_SUSPEND", "suspend"),
    ("NoNewPrivileges=yes", "privileges"),
    ("PrivateNetwork=yes", "network"),
    ("PrivateIPC=yes", "ipc"),
    ("ProtectHostname=yes", "hostname"),
    ("RestrictAddressFamilies=AF_UNIX", "families"),
    ("MemoryDenyWriteExecute=yes", "memory"),
    ("RestrictRealtime=yes", "realtime"),
    ("RestrictSUIDSGID=yes", "suid"),
    ("RestrictNamespaces=yes", "namespaces"),
    ("ProtectKernelModules=yes", "modules"),
    ("ProtectKernelLogs=yes", "logs"),
    ("ProtectClock=yes", "clock"),
    ("PrivateDevices=yes", "devices"),
    ("LockPersonality=yes", "personality"),
    ("ProtectKernelTunables=yes", "tunables"),
    ("SystemCallFilter=~getsid:EPERM", "getsid"),
    ("SystemCallFilter=~munlockall:EPERM", "munlockall"),
];

/// The number of lines before the hardening of [`Machine::plant`].
const BEFORE: usize = 4;

/// Runs on, hardened.
const RUNS: &str = "[Service]\nSlice=system.slice\nExecStart=/bin/sleep 1000\nTimeoutStopSec=5\nProtectClock=yes\n\
    ProtectHostname=yes\nPrivateTmp=yes\nRestrictRealtime=yes\nLockPersonality=yes\nSystemCallFilter=~uname\n";

/// Succeeds once the drop-in lifts this line.
const CHECK: &str = "grep -q ProtectHostname=no /run/systemd/system/x.service.d/zzzz-harden-why-rehearsal.conf";

/// A machine with a unit `x.service`.
struct Machine {
    manager: TestManager,
}

impl Machine {
    fn with(unit: &str) -> Option<Self> {
        let machine = Self { manager: TestManager::start()? };
        machine.write(unit);
        Some(machine)
    }

    fn write(&self, unit: &str) {
        self.manager.write("x.service", unit);
        self.manager.reload();
    }

    fn shell(&self, script: &str) -> String {
        let output = self.manager.command(&["sh", "-c", script]).output().unwrap();
        assert!(output.status.success(), "{script}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Makes what the lines hide and protect. Returns the words by which the program knows the host's surroundings.
    fn furnish(&self) -> String {
        self.shell(
            "mount -t tmpfs tmpfs /srv && cd /srv && mkdir empty hidden-a hidden-b fixed-a fixed-b fixed-c programs && \
             touch empty/marker hidden-a/marker hidden-b/marker",
        );
        let mut file = self.manager.command(&["sh", "-c", "cat >/srv/probe.py"]).stdin(Stdio::piped()).spawn().unwrap();
        file.stdin.take().unwrap().write_all(PROBE.as_bytes()).unwrap();
        assert!(file.wait().unwrap().success());
        let host = self.shell("stat -c %d /dev; for ns in net ipc uts; do readlink /proc/self/ns/$ns; done");
        format!("{} {}", self.manager.base().display(), host.trim().replace('\n', " "))
    }

    /// Writes a unit with all lines that fails as the rule says.
    fn plant(&self, rule: &str, host: &str) {
        let lines: Vec<&str> = LINES.iter().map(|(line, _)| *line).collect();
        self.write(&format!(
            "[Service]\nType=oneshot\nSlice=system.slice\nExecStart=/usr/bin/python3 -I /srv/probe.py {rule} {host}\n{}\n",
            lines.join("\n")
        ));
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

    #[track_caller]
    fn bisect(&self, more: &[&str]) -> serde_json::Value {
        let output = self.run(&[&["--json", "bisect", "x", "--yes"], more].concat());
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
    }

    #[track_caller]
    fn refuses(&self, arguments: &[&str], why: &str) {
        let before = (self.show("InvocationID"), self.settings(), self.files());
        let said = error(&self.run(&[&["bisect"], arguments, &["--yes"]].concat()));
        assert!(said.contains(why), "{said}");
        assert_eq!((self.show("InvocationID"), self.settings(), self.files()), before);
    }

    fn show(&self, property: &str) -> String {
        let shown = self.manager.systemctl(&["show", "-P", property, "x.service"]);
        String::from_utf8(shown.stdout).unwrap().trim().to_owned()
    }

    /// The unit's own settings, as systemd holds them.
    fn settings(&self) -> Vec<String> {
        let properties =
            ["ProtectClock", "ProtectHostname", "PrivateTmp", "SystemCallFilter", "Restart", "StartLimitBurst"];
        properties.map(|property| self.show(property)).to_vec()
    }

    /// All files below the directories of drop-ins.
    fn files(&self) -> String {
        let found = self.manager.command(&["find", "/run/systemd/system", "/etc/systemd/system", "-mindepth", "1"]);
        String::from_utf8({ found }.output().unwrap().stdout).unwrap()
    }

    /// Asserts that the unit has its own settings, and that nothing of a bisection is left.
    #[track_caller]
    fn is_as_before(&self, settings: &[String]) {
        assert_eq!((&self.settings()[..], self.files().as_str()), (settings, ""));
        assert_eq!(self.show("NeedDaemonReload"), "no");
    }

    fn wait_until_settled(&self) {
        wait_for(|| ["", "0"].contains(&self.show("Job").as_str()).then_some(()), || self.show("Job"));
    }
}

#[track_caller]
fn error(output: &Output) -> String {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    let last = text.lines().last().unwrap_or_default();
    assert_eq!(output.status.code(), Some(support::exit_status::of_error(last)), "{text}");
    text
}

/// Returns the lines of the answer, by their place among [`LINES`].
fn found(bisected: &serde_json::Value) -> BTreeSet<usize> {
    let place = |line: &serde_json::Value| usize::try_from(line["line"].as_u64().unwrap()).unwrap() - BEFORE - 1;
    let culprits = bisected["culprits"].as_array().unwrap().iter();
    culprits
        .flat_map(|culprit| {
            [culprit].into_iter().chain(culprit["with"].as_array().unwrap()).map(place).collect::<Vec<_>>()
        })
        .collect()
}

fn place_of(name: &str) -> usize {
    LINES.iter().position(|(_, known)| *known == name).unwrap()
}

#[test]
fn twenty_single_lines_among_thirty_are_found() {
    let Some(machine) = Machine::with(RUNS) else { return };
    let host = machine.furnish();
    let mut restarts = Vec::new();
    for (place, (line, name)) in LINES.iter().enumerate().filter(|(place, _)| place % 3 != 1) {
        machine.plant(&format!("any:{name}"), &host);
        let bisected = machine.bisect(&[]);
        assert_eq!((&bisected["outcome"], &bisected["lines"]), (&"found".into(), &30.into()), "{line}: {bisected}");
        assert_eq!(found(&bisected), BTreeSet::from([place]), "{line}: {bisected}");
        assert_eq!(bisected["culprits"][0]["with"], serde_json::json!([]), "{line}: {bisected}");
        restarts.push(bisected["restarts"].as_u64().unwrap());
        // What the answer proposes is what the bisection saw to work.
        let content = bisected["remedy"]["content"].as_str().unwrap();
        machine.manager.write("x.service.d/remedy.conf", content);
        machine.manager.reload();
        assert!(machine.manager.start_unit("x.service"), "{content}");
        fs::remove_dir_all(machine.manager.base().join("units/x.service.d")).unwrap();
        assert_eq!(machine.files(), "");
    }
    let (all, most) = (restarts.iter().sum::<u64>(), *restarts.iter().max().unwrap());
    println!("{} single lines: {all} restarts, at most {most}", restarts.len());
    assert!(restarts.len() == 20 && most <= 11, "{restarts:?}");
}

#[test]
fn five_pairs_among_thirty_are_found() {
    let Some(machine) = Machine::with(RUNS) else { return };
    let host = machine.furnish();
    let pairs = [
        ("all", "system", "clock"),
        ("all", "hidden-a", "hidden-b"),
        ("all", "tmp", "munlockall"),
        ("any", "home", "personality"),
        ("any", "pacct", "suspend"),
    ];
    for (how, one, other) in pairs {
        machine.plant(&format!("{how}:{one},{other}"), &host);
        let bisected = machine.bisect(&[]);
        let culprits = bisected["culprits"].as_array().unwrap();
        assert_eq!(found(&bisected), BTreeSet::from([place_of(one), place_of(other)]), "{one} {other}: {bisected}");
        assert_eq!(culprits.len(), if how == "all" { 1 } else { 2 }, "{one} {other}: {bisected}");
        let restarts = bisected["restarts"].as_u64().unwrap();
        println!("{one} and {other} ({how}): {restarts} restarts");
        assert!(restarts <= 18 && bisected["most_restarts"] == 18, "{bisected}");
    }
    assert_eq!(machine.files(), "");
}

#[test]
fn unit_that_works_and_one_that_fails_otherwise_end_the_search() {
    let Some(machine) = Machine::with(RUNS) else { return };
    assert!(machine.manager.start_unit("x.service"));
    let settings = machine.settings();
    let bisected = machine.bisect(&["--wait", "1s"]);
    assert_eq!((&bisected["outcome"], &bisected["restarts"]), (&"works".into(), &1.into()), "{bisected}");
    assert_eq!((&bisected["then"], &bisected["state"]), (&"restarted".into(), &"active".into()), "{bisected}");
    machine.is_as_before(&settings);
    let bisected = machine.bisect(&["--wait", "1s", "--check", "exit 1"]);
    assert_eq!((&bisected["outcome"], &bisected["restarts"]), (&"not-hardening".into(), &2.into()), "{bisected}");
    machine.is_as_before(&settings);
    assert_eq!(machine.show("ActiveState"), "active");

    // It exits, and systemd would start it again and again, and then exit itself.
    machine.manager.systemctl(&["stop", "x.service"]);
    let looping = RUNS.replace("/bin/sleep 1000", "/bin/false").replace("PrivateTmp", "Restart=always\nPrivateTmp");
    machine.write(&format!("[Unit]\nFailureAction=exit\nStartLimitAction=exit\nStartLimitBurst=1\n{looping}"));
    let bisected = machine.bisect(&[]);
    assert_eq!((&bisected["outcome"], &bisected["restarts"]), (&"not-hardening".into(), &2.into()), "{bisected}");
    let output = machine.run(&["bisect", "x", "--yes", "--check", "no-such-command"]);
    assert!(error(&output).contains("no command that a shell can run (exit status 127)"), "{output:?}");
    machine.write(&format!("[Unit]\nConditionPathExists=/nonexistent\n{RUNS}"));
    let output = machine.run(&["bisect", "x", "--yes"]);
    assert!(error(&output).contains("was not started, since its conditions are not met"), "{output:?}");
    machine.write(&format!(
        "[Unit]\nAssertPathExists=/nonexistent\n{}",
        RUNS.replace("ExecStart", "Type=oneshot\nExecStart")
    ));
    let output = machine.run(&["bisect", "x", "--yes"]);
    assert!(error(&output).contains("was not started, since its assertions are not met"), "{output:?}");
    machine.manager.write("need.service", "[Service]\nType=oneshot\nExecStart=/bin/false\n");
    machine.write(
        "[Unit]\nRequires=need.service\nAfter=need.service\n\
         [Service]\nType=oneshot\nExecStart=/bin/true\nProtectClock=yes\n",
    );
    let output = machine.run(&["bisect", "x", "--yes"]);
    assert!(error(&output).contains("it needs units that do not run: need.service is failed"), "{output:?}");
    machine.write("[Service]\nExecStart=/bin/true\nProtectClock=yes\n");
    let bisected = machine.bisect(&[]);
    assert_eq!(bisected["detail"], "its program ended with success", "{bisected}");
    machine.write(RUNS);
    for (check, why) in [(" ", "the check is empty"), ("if true", "no command that a shell can run: if true")] {
        machine.refuses(&["x", "--check", check], why);
    }
    assert_eq!(machine.files(), "");
}

#[test]
fn unit_that_another_unit_stops_during_a_trial_gets_no_culprit() {
    let Some(machine) = Machine::with(RUNS) else { return };
    let settings = machine.settings();
    machine.manager.write("partner.service", "[Service]\nExecStart=/bin/sleep 1\n");
    machine.write(&format!("[Unit]\nBindsTo=partner.service\nAfter=partner.service\n{RUNS}"));
    let output = machine.run(&["bisect", "x", "--yes", "--wait", "3s"]);
    assert!(error(&output).contains("is bound to partner.service (BindsTo=), which is"), "{output:?}");
    machine.wait_until_settled();
    machine.is_as_before(&settings);
}

#[test]
fn unit_that_a_bisection_stops_runs_again_at_its_end() {
    let Some(machine) = Machine::with(RUNS) else { return };
    machine.manager.write("rival.service", "[Service]\nSlice=system.slice\nExecStart=/bin/sleep 1000\n");
    machine.write(&format!("[Unit]\nConflicts=rival.service gone.service\nWants=lost.service\n{RUNS}"));
    assert!(machine.manager.start_unit("rival.service"));
    let output = machine.run(&["bisect", "x", "--yes", "--wait", "1s", "--check", CHECK]);
    let out = String::from_utf8(output.stdout).unwrap();
    let words = out.split_whitespace().collect::<Vec<_>>().join(" ");
    let plan = "stops what conflicts with it, which runs again at the end: rival.service";
    assert!(words.contains(plan) && words.contains("x.service was stopped, since it did not run before"), "{out}");
    assert!(!["gone.service", "lost.service"].iter().any(|name| out.contains(name)), "units without files: {out}");
    let is_active = || machine.manager.systemctl(&["is-active", "rival.service"]).status.success().then_some(());
    wait_for(is_active, || "rival.service does not run again".to_owned());
}

#[test]
fn bisection_shows_plan_progress_and_the_line_with_its_remedy() {
    let Some(machine) = Machine::with(RUNS) else { return };
    let dry = String::from_utf8(machine.run(&["bisect", "x", "--dry-run"]).stdout).unwrap();
    let words = dry.split_whitespace().collect::<Vec<_>>().join(" ");
    for expected in [
        "each time without some of its 6 hardening lines",
        "ProtectClock=",
        "if it stays active for 5s",
        "at most 9 restarts if one line is the reason, 14 if two are: 3 halve 6 lines",
        "Nothing was changed (--dry-run).",
    ] {
        assert!(words.contains(expected), "{expected}: {dry}");
    }
    let output = machine.run(&["bisect", "x", "--yes", "--wait", "1s", "--check", CHECK, "--exit-code"]);
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!(output.status.code(), Some(1), "{out}{err}");
    assert!(err.contains("restart 1: with all lines in force it does not work"), "{err}");
    assert!(err.contains("restart 2: without any of 6 lines it works"), "{err}");
    for expected in [
        "x.service does not work because of 1 of its 6 hardening lines (",
        "x.service:6",
        "6 | ProtectHostname=yes",
        "without this line it works",
        "x.service was stopped, since it did not run before, and is",
        "help: lift the line, as the bisection did:",
        "  ProtectHostname=no",
        "  harden-why tap --restart x.service",
    ] {
        assert!(out.contains(expected), "{expected}: {out}");
    }
    let client = format!("env --default-signal {} --bus {}", env!("CARGO_BIN_EXE_harden-why"), machine.manager.bus());
    let mut script = machine.manager.command(&["script", "-qec", &format!("{client} bisect x"), "/dev/null"]);
    let mut script = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut said, mut byte) = (Vec::new(), [0]);
    while !said.ends_with(b"[y/N] ") && script.stdout.as_mut().unwrap().read(&mut byte).unwrap() == 1 {
        said.extend(byte);
    }
    script.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    said.extend(script.wait_with_output().unwrap().stdout);
    let said = String::from_utf8(said).unwrap();
    assert!(said.contains("up to 14 times") && said.contains("Nothing was changed"), "no is the default: {said}");
    assert_eq!(machine.files(), "");
}

#[test]
fn bisection_killed_at_any_moment_is_cleaned_up_by_the_next_client() {
    const ROUNDS: u32 = 20;
    let Some(machine) = Machine::with(RUNS) else { return };
    let settings = machine.settings();
    let whole = Duration::from_secs(5);
    let mut left = 0;
    for round in 0..ROUNDS {
        let runs = round % 2 == 0;
        machine.manager.systemctl(&[if runs { "start" } else { "stop" }, "x.service"]);
        let mut client =
            machine.client(&["--json", "bisect", "x", "--yes", "--wait", "1s", "--check", CHECK]).spawn().unwrap();
        if round % 4 > 0 {
            wait_for(|| machine.files().contains("zzzz").then_some(()), || "it does not begin".to_owned());
        }
        sleep(whole * (round * 7 % ROUNDS) / ROUNDS);
        // It may have ended already.
        let _ = client.kill();
        client.wait_with_output().unwrap();
        let was_left = machine.files().contains("zzzz-harden-why-rehearsal.");
        let next = machine.run(&["syscall", "read"]);
        let said = String::from_utf8(next.stderr).unwrap();
        let words = "a killed bisection left x.service less protected than its settings say; ";
        assert_eq!((next.status.code(), said.contains(words)), (Some(0), was_left), "{round}: {said}");
        left += u32::from(was_left);
        machine.is_as_before(&settings);
        machine.wait_until_settled();
        assert_eq!(machine.show("ActiveState"), if runs { "active" } else { "inactive" }, "{round}: {said}");
        assert_eq!(machine.run(&["restore"]).stderr, b"", "there is nothing left to mend");
    }
    println!("{left} of {ROUNDS} kills left a drop-in, and the next client removed it");
    assert!(left >= ROUNDS / 2, "{left}");
}

fn send(client: &Child, signal: Signal) {
    // It is reaped only later, so the PID is its own.
    kill(Pid::from_raw(client.id().cast_signed()), signal).unwrap();
}

#[test]
fn interrupted_bisection_restores_the_unit_and_a_second_one_is_refused() {
    let Some(machine) = Machine::with(RUNS) else { return };
    assert!(machine.manager.start_unit("x.service"));
    let settings = machine.settings();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let before = machine.show("InvocationID");
        // The check takes longer than the test, and ends with the client.
        let client = machine.client(&["bisect", "x", "--yes", "--check", "sleep 50"]).spawn().unwrap();
        wait_for(|| machine.files().contains("zzzz").then_some(()), || "it does not begin".to_owned());
        wait_for(|| (machine.show("InvocationID") != before).then_some(()), || before.clone());
        machine.refuses(&["x"], "is bisecting x.service already");
        send(&client, signal);
        let output = client.wait_with_output().unwrap();
        let said = error(&output);
        assert!(said.contains("restarted under its own settings") && said.contains("interrupted by SIG"), "{said}");
        machine.is_as_before(&settings);
        machine.wait_until_settled();
        assert_eq!(machine.show("ActiveState"), "active");
    }
}

#[test]
fn two_bisections_that_begin_together_do_not_share_a_unit() {
    let Some(machine) = Machine::with(RUNS) else { return };
    let settings = machine.settings();
    let begin =
        || machine.client(&["--json", "bisect", "x", "--yes", "--wait", "1s", "--check", CHECK]).spawn().unwrap();
    let outputs = [begin(), begin()].map(|client| client.wait_with_output().unwrap());
    let answers = outputs.iter().filter(|output| output.status.success()).count();
    assert!(answers >= 1, "{outputs:?}");
    for output in outputs.iter().filter(|output| !output.status.success()) {
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("is bisecting x.service already") || said.contains("another harden-why wrote"), "{said}");
    }
    machine.is_as_before(&settings);
}

#[test]
fn impossible_bisection_is_refused_before_any_change() {
    let Some(machine) = Machine::with(RUNS) else { return };
    let said = error(&machine.run(&["bisect", "x"]));
    assert!(said.contains("there is no terminal: add --yes or --dry-run"), "{said}");
    machine.refuses(&["nowhere"], "Unit nowhere.service not found.");
    machine.refuses(&["basic.target"], "basic.target runs no processes");
    machine.manager.write("x.service.d/zzzzz.conf", "[Service]\nProtectKernelLogs=yes\n");
    machine.manager.reload();
    machine.refuses(&["x"], "x.service.d/zzzzz.conf comes after a bisection's drop-in");
    fs::remove_dir_all(machine.manager.base().join("units/x.service.d")).unwrap();
    machine.write("[Service]\nExecStart=/bin/sleep 60\nDynamicUser=yes\nReadWritePaths=/srv\n");
    machine.refuses(&["x"], "there is nothing to bisect: x.service has no hardening that a bisection lifts");
    machine.write(RUNS);

    let bus = machine.manager.bus();
    let client = ["--bus", &bus, "bisect", "x", "--system", "--yes"];
    let nobody = ["setpriv", "--reuid=65534", "--clear-groups", env!("CARGO_BIN_EXE_harden-why")];
    let said = machine.manager.command(&[&nobody[..], &client].concat()).output().unwrap();
    assert_eq!(said.status.code(), Some(3), "{said:?}");

    fs::remove_file(machine.manager.base().join("units/x.service")).unwrap();
    std::os::unix::fs::symlink("/dev/null", machine.manager.base().join("units/x.service")).unwrap();
    machine.manager.reload();
    machine.refuses(&["x"], "x.service is masked");
    fs::remove_file(machine.manager.base().join("units/x.service")).unwrap();
    machine.manager.reload();
    let run = ["systemd-run", "--user", "--unit=x", "-p", "ProtectClock=yes", "sleep", "600"];
    assert!(machine.manager.command(&run).output().unwrap().status.success());
    machine.refuses(&["x"], "x.service is transient");
    machine.manager.systemctl(&["stop", "x.service"]);
}

#[test]
fn instance_of_a_template_is_bisected_and_its_siblings_are_left() {
    let Some(machine) = Machine::with(RUNS) else { return };
    machine.manager.write("t@.service", &RUNS.replace("x.service", "t@a.service"));
    machine.manager.reload();
    for unit in ["t@a.service", "t@b.service"] {
        assert!(machine.manager.start_unit(unit));
    }
    let invocation = |unit: &str| {
        String::from_utf8(machine.manager.systemctl(&["show", "-P", "InvocationID", unit]).stdout).unwrap()
    };
    let before = (invocation("t@a.service"), invocation("t@b.service"));
    let check = CHECK.replace("x.service", "$UNIT");
    let output = machine.run(&["--json", "bisect", "t@a", "--yes", "--wait", "1s", "--check", &check]);
    let bisected: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(bisected["culprits"][0]["directive"], "ProtectHostname", "{bisected}");
    assert_ne!(invocation("t@a.service"), before.0);
    assert_eq!(invocation("t@b.service"), before.1);
    assert_eq!(machine.files(), "");
}

/// The properties of hardening, as `systemctl show` prints them.
fn hardening_of(machine: &Machine, unit: &str) -> Vec<String> {
    let shown = String::from_utf8(machine.manager.systemctl(&["show", "--all", unit]).stdout).unwrap();
    let keys: BTreeSet<&str> = MERGED.iter().map(|line| line.split('=').next().unwrap()).collect();
    let mut lines: Vec<String> =
        shown.lines().filter(|line| keys.contains(line.split('=').next().unwrap())).map(ToOwned::to_owned).collect();
    lines.sort();
    lines
}

/// Lines of every kind of merge.
const MERGED: [&str; 42] = [
    "ProtectSystem=full",
    "ProtectSystem=strict",
    "ProtectHome=tmpfs",
    "PrivateTmp=yes",
    "ProtectControlGroups=yes",
    "ProtectProc=invisible",
    "ProcSubset=pid",
    "TemporaryFileSystem=/srv/a:ro",
    "TemporaryFileSystem=/srv/b",
    "InaccessiblePaths=/srv/gone",
    "InaccessiblePaths=",
    "InaccessiblePaths=-/srv/c -/srv/d",
    "InaccessiblePaths=-/srv/%N",
    "ReadOnlyPaths=/etc",
    "NoExecPaths=/srv/e",
    "CapabilityBoundingSet=~CAP_SYS_PACCT",
    "CapabilityBoundingSet=~CAP_KILL CAP_CHOWN",
    "NoNewPrivileges=yes",
    "PrivateUsers=yes",
    "PrivateNetwork=yes",
    "PrivateIPC=yes",
    "PrivateMounts=yes",
    "IPAddressDeny=10.0.0.0/8",
    "IPAddressDeny=any",
    "SocketBindDeny=ipv4:tcp:80",
    "ProtectHostname=yes",
    "RestrictAddressFamilies=~AF_PACKET",
    "RestrictAddressFamilies=~AF_INET AF_INET6",
    "MemoryDenyWriteExecute=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "RestrictNamespaces=~user",
    "RestrictNamespaces=~net ipc",
    "ProtectKernelTunables=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelLogs=yes",
    "PrivateDevices=yes",
    "SystemCallArchitectures=native",
    "LockPersonality=yes",
    "SystemCallFilter=~@mount",
    "SystemCallFilter=~uname:EPERM @clock",
    "SecureBits=keep-caps",
];

#[test]
fn lifted_lines_leave_what_systemd_holds_without_them() {
    const ROUNDS: usize = 24;
    let Some(machine) = Machine::with(RUNS) else { return };
    let unit = |lines: &[&str]| format!("[Service]\nExecStart=/bin/true\n{}\n", lines.join("\n"));
    let text = unit(&MERGED);
    let file = UnitFile::parse(Path::new("/x.service"), text.as_bytes());
    let hardening = Hardening::new(&Settings::new(&"x.service".parse().unwrap(), Some(file), Vec::new()));
    let count = hardening.lines().len();
    assert_eq!(count, MERGED.len() - 3, "one value that another line replaces, and a list that starts again");
    let mut random = Random(7);
    let mut rounds = Vec::new();
    for round in 0..ROUNDS {
        let lifted: BTreeSet<usize> = match round {
            0 => (0..count).collect(),
            _ => (0..count).filter(|_| random.below(3_u32) == 0).collect(),
        };
        let gone: BTreeSet<u32> = lifted.iter().map(|line| hardening.lines()[*line].first.origin.line).collect();
        // The header and the command come first. What a lifted line replaced goes with it.
        let is_left = |(index, line): &(usize, &&str)| {
            let number = u32::try_from(index + 3).unwrap();
            let is_replaced = line.starts_with("ProtectSystem=") && gone.contains(&4);
            !is_replaced && !gone.contains(&number)
        };
        let left: Vec<&str> = MERGED.iter().enumerate().filter(is_left).map(|(_, line)| *line).collect();
        machine.manager.write(&format!("lifted-{round}.service"), &text);
        machine
            .manager
            .write(&format!("lifted-{round}.service.d/zzzz.conf"), &format!("[Service]\n{}", hardening.lift(&lifted)));
        machine
            .manager
            .write(&format!("plain-{round}.service"), &unit(&left).replace("%N", &format!("lifted-{round}")));
        rounds.push(lifted);
    }
    machine.manager.reload();
    for (round, lifted) in rounds.iter().enumerate() {
        let [held, expected] =
            ["lifted", "plain"].map(|name| hardening_of(&machine, &format!("{name}-{round}.service")));
        assert!(expected.len() > 30, "{expected:?}");
        assert_eq!(held, expected, "{round}: {lifted:?}: {}", hardening.lift(lifted));
    }
}
