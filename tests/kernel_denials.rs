//! `harden-why tap` on units whose sandbox makes entered calls fail: one unit for each kind of denial, under a real manager and
//! kernel, and programs that fail without any sandbox.
#![expect(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "helpers of tests are tests")]

mod support {
    #[expect(dead_code, reason = "other tests use the rest")]
    pub(crate) mod daemon;
    #[expect(dead_code, reason = "other tests use the rest")]
    pub(crate) mod manager;
    #[expect(dead_code, reason = "other tests use the rest")]
    pub(crate) mod programs;
    #[expect(dead_code, reason = "other programs need more of it")]
    pub(crate) mod skip;
}

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use support::daemon::wait_for;
use support::manager::TestManager;
use support::programs;
use support::skip::skip;

/// A unit that runs a shell script on a signal, and then waits.
struct Service {
    manager: TestManager,
    directory: PathBuf,
}

impl Service {
    fn start(settings: &str, script: &str) -> Option<Self> {
        if !Path::new("/sys/kernel/btf/vmlinux").exists() {
            skip("the kernel has no type information");
            return None;
        }
        let manager = TestManager::start()?;
        // Other users reach it, and no setting of a row hides it.
        let directory = Path::new("/run").join(manager.base().file_name().unwrap()).with_extension("play");
        fs::create_dir(&directory).unwrap();
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o777)).unwrap();
        let service = Self { manager, directory };
        let place = service.directory.display();
        let file = service.directory.join("script");
        fs::write(
            &file,
            format!(
                "exec 2>/dev/null\ncd {place}\n: > ready\nwhile ! [ -e go ]; do sleep 0.02; done\n{}\n\
                 sleep 0.3\ncd {place}\n: > done\nwhile :; do sleep 1; done\n",
                script.replace("PLACE", &place.to_string())
            ),
        )
        .unwrap();
        let settings = settings.replace("PLACE", &place.to_string());
        let text = format!(
            "[Service]\nSlice=system.slice\nTimeoutStopSec=1\nExecStart=/bin/sh {}\n\
             BindPaths={place}\nUnsetEnvironment=LD_LIBRARY_PATH\n{settings}\n",
            file.display()
        );
        service.manager.write("x.service", &text);
        service.manager.reload();
        assert!(service.manager.start_unit("x.service"), "{settings}");
        service.wait_for("ready");
        Some(service)
    }

    fn wait_for(&self, what: &str) {
        wait_for(|| self.directory.join(what).exists().then_some(()), || format!("not {what}"));
    }

    fn tap(&self) -> RunningTap {
        let bus = self.manager.bus();
        let client = [env!("CARGO_BIN_EXE_harden-why"), "--bus", &bus, "--json", "tap", "--for", "1min", "x.service"];
        let signals = ["env", "--default-signal=HUP,INT,TERM"];
        RunningTap::start(self.manager.command(&[&signals[..], &client].concat()))
    }

    /// Taps the unit while it runs its script, and returns the answer.
    fn watch(&self) -> Value {
        let tap = self.tap();
        fs::write(self.directory.join("go"), "").unwrap();
        self.wait_for("done");
        tap.json()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.directory);
    }
}

struct RunningTap(Child);

impl RunningTap {
    fn start(mut command: Command) -> Self {
        let mut tap = Self(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
        let pid = tap.0.id();
        let begun = || programs::first_of_array(pid) == Some(1);
        wait_for(|| (begun() || tap.0.try_wait().unwrap().is_some()).then_some(()), || "no tap".to_owned());
        tap
    }

    fn json(self) -> Value {
        let ended = kill(Pid::from_raw(self.0.id().try_into().unwrap()), Signal::SIGINT);
        let output = self.0.wait_with_output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(ended.is_ok() && errors.is_empty(), "{errors}");
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

/// Returns the kinds, paths and details of the accesses that the answer for the unit has.
fn accesses(json: &Value) -> Vec<(String, String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let answers = json["units"].as_array().unwrap().iter().filter(|answer| answer["unit"] == "x.service");
    let denials = answers.flat_map(|answer| answer["denials"].as_array().unwrap());
    denials
        .filter(|denial| denial["event"] == "access-denial" || !denial["access"].is_null())
        .map(|denial| {
            let access = &denial["access"];
            (text(&access["kind"]), text(&access["path"]), text(&access["detail"]))
        })
        .collect()
}

/// A kind of denial: the settings, the script, and the expected access.
struct Row {
    settings: &'static str,
    script: &'static str,
    expected: (&'static str, &'static str, &'static str),
}

const fn row(
    settings: &'static str,
    script: &'static str,
    expected: (&'static str, &'static str, &'static str),
) -> Row {
    Row { settings, script, expected }
}

const ROWS: [Row; 17] = [
    row("ProtectSystem=strict", "mkdir /etc/harden-why-x", ("read-only-path", "/etc/harden-why-x", "")),
    // The process must live for a moment: only its entry in /proc shows where a relative path begins.
    row(
        "ReadOnlyPaths=/opt",
        "cd /opt/y; python3 -c 'import os, time\ntry: os.mkdir(\"../z\")\nexcept OSError: time.sleep(0.5)'",
        ("read-only-path", "/opt/z", ""),
    ),
    row(
        "ProtectKernelTunables=yes",
        "touch /proc/sys/kernel/hostname",
        ("read-only-path", "/proc/sys/kernel/hostname", ""),
    ),
    // The call concerns the link, not the file where it leads.
    row("ReadOnlyPaths=/opt", "python3 -c 'import os; os.unlink(\"/opt/link\")'", ("read-only-path", "/opt/link", "")),
    // A name as systemd gives it before it executes the program.
    row(
        "ReadOnlyPaths=/opt",
        "python3 -c 'import ctypes, os; ctypes.CDLL(None).prctl(15, b\"(x)\"); os.mkdir(\"/opt/w\")'",
        ("read-only-path", "/opt/w", ""),
    ),
    row("InaccessiblePaths=/opt", "cat /opt/file", ("hidden-path", "/opt/file", "")),
    row("TemporaryFileSystem=/opt", "cat /opt/file", ("hidden-path", "/opt/file", "")),
    row("ProcSubset=pid", "cat /proc/meminfo", ("hidden-path", "/proc/meminfo", "")),
    row("NoExecPaths=/opt", "/opt/program", ("noexec-path", "/opt/program", "")),
    row("CapabilityBoundingSet=~CAP_CHOWN", "touch f; chown 1 f", ("capability", "", "CAP_CHOWN bounding")),
    row(
        "User=nobody",
        "python3 -c 'import socket; socket.socket().bind((\"127.0.0.1\", 82))'",
        ("capability", "", "CAP_NET_BIND_SERVICE effective"),
    ),
    row("PrivateDevices=yes", "cat /dev/loop-control", ("device", "/dev/loop-control", "char 10:237 r")),
    row("User=nobody\nNoNewPrivileges=yes", "/opt/set-id", ("set-id-program", "/opt/set-id", "")),
    row("PrivateUsers=yes", "hostname harden-why-x", ("user-namespace", "", "")),
    row("PrivateUsers=yes\nUser=nobody", "hostname harden-why-x", ("user-namespace", "", "")),
    row("PrivateUsers=yes", "touch f; chown 12345 f", ("user-namespace", "", "")),
    row(
        "ProtectClock=no\nCapabilityBoundingSet=~CAP_SYS_TIME",
        "date -s @5",
        ("capability", "", "CAP_SYS_TIME bounding"),
    ),
];

#[test]
fn denial_of_each_kind_is_reported_with_what_the_sandbox_withheld() {
    let mut wrong = Vec::new();
    for Row { settings, script, expected } in &ROWS {
        // The same on each host.
        let prepared = Prepared::new();
        let Some(service) = Service::start(settings, script) else { return };
        let json = service.watch();
        let mut found = accesses(&json);
        // A program can meet the same denial in several calls.
        found.dedup();
        let expected = (expected.0.to_owned(), expected.1.to_owned(), expected.2.to_owned());
        println!("{}: {found:?}", settings.replace('\n', ", "));
        if found != [expected.clone()] {
            wrong.push(format!("{settings}: {script}: {found:?} in place of {expected:?}\n{json:#}"));
        }
        drop(prepared);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Files in /opt for the scripts of one test at a time.
struct Prepared {
    _lock: MutexGuard<'static, ()>,
}

static OPT: Mutex<()> = Mutex::new(());

impl Prepared {
    fn new() -> Self {
        let lock = OPT.lock().unwrap_or_else(PoisonError::into_inner);
        let opt = Path::new("/opt");
        _ = fs::create_dir(opt);
        _ = fs::create_dir(opt.join("y"));
        fs::write(opt.join("file"), "").unwrap();
        std::os::unix::fs::symlink("/etc/hostname", opt.join("link")).unwrap();
        for (name, mode) in [("program", 0o755), ("set-id", 0o4755)] {
            fs::copy("/bin/true", opt.join(name)).unwrap();
            fs::set_permissions(opt.join(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        Self { _lock: lock }
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        for name in ["file", "link", "program", "set-id"] {
            _ = fs::remove_file(Path::new("/opt").join(name));
        }
        _ = fs::remove_dir("/opt/y");
    }
}

#[test]
fn failures_without_the_sandbox_are_no_denials() {
    let settings = "ProtectSystem=strict\nProtectHome=yes\nPrivateTmp=yes\nPrivateDevices=yes\nProtectKernelTunables=yes\n\
         CapabilityBoundingSet=CAP_SETUID CAP_SETGID CAP_NET_BIND_SERVICE CAP_DAC_OVERRIDE\nNoNewPrivileges=yes";
    // Absent files, file modes after becoming another user, and that user's attempts to become root again, as sshd makes them.
    let script = "for n in $(seq 300); do cat /etc/absent-$n /usr/lib/absent-$n /home/absent-$n /tmp/absent-$n; done\n\
         python3 -c '\n\
import os\n\
def attempt(call, *arguments):\n try: call(*arguments)\n except OSError: pass\n\
os.setgid(65534); os.setuid(65534)\n\
for n in range(20):\n attempt(os.setuid, 0); attempt(os.setgid, 0); attempt(os.setgroups, [0])\n\
attempt(os.nice, -5); attempt(open, \"/etc/shadow\"); attempt(os.chown, \"/etc/passwd\", 1, 1)\n\
attempt(os.execv, \"/etc/passwd\", [\"x\"]); attempt(os.kill, 1, 0)\n\
for path in \"/proc/self/fdinfo/99\", \"/dev/fd/99\", \"/dev/stdin/x\": attempt(open, path)\n'\n\
         mkdir /etc/harden-why-x";
    let Some(service) = Service::start(settings, script) else { return };
    let json = service.watch();
    // The last call shows that the tap saw the others.
    let denied = ["read-only-path", "/etc/harden-why-x", ""].map(str::to_owned);
    assert_eq!(accesses(&json), [denied.into()], "{json:#}");
}

#[test]
fn hostile_path_is_escaped_and_two_taps_see_the_same() {
    let script = "mkdir \"$(printf '/etc/\\033[2J\\377\\n')\"; mkdir \"/etc/$(seq -s / 200)\"";
    let Some(service) = Service::start("ProtectSystem=strict", script) else { return };
    let (first, second) = (service.tap(), service.tap());
    fs::write(service.directory.join("go"), "").unwrap();
    service.wait_for("done");
    let (first, second) = (first.json(), second.json());
    let found = accesses(&first);
    assert_eq!(found, accesses(&second), "{first:#}");
    let hostile = found.iter().find(|(kind, path, _)| kind == "read-only-path" && path.starts_with("/etc/\\x1b"));
    assert_eq!(hostile.map(|(_, path, _)| path.as_str()), Some("/etc/\\x1b[2J\\xff"), "{first:#}");
}

/// Runs `tap --restart` on a unit that runs a shell script, and returns its answer. It ends by itself.
fn restart(settings: &str, script: &str, runs_before: bool) -> Option<Value> {
    if !Path::new("/sys/kernel/btf/vmlinux").exists() {
        skip("the kernel has no type information");
        return None;
    }
    let manager = TestManager::start()?;
    let text = format!(
        "[Service]\nSlice=system-new.slice\nTimeoutStopSec=1\nExecStart=/bin/sh -c '{script}'\n\
         UnsetEnvironment=LD_LIBRARY_PATH\n{settings}\n"
    );
    manager.write("x.service", &text);
    manager.reload();
    assert!(!runs_before || manager.start_unit("x.service"), "{settings}");
    let (bus, client) = (manager.bus(), env!("CARGO_BIN_EXE_harden-why"));
    let arguments = [client, "--bus", &bus, "--json", "tap", "--restart", "--yes", "--for", "5s", "x.service"];
    let output = manager.command(&arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.is_empty(), "{errors}");
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

#[test]
fn restarted_unit_is_watched_from_the_first_call_of_its_first_process_on() {
    let _prepared = Prepared::new();
    let denied = |kind: &str, path: &str| (kind.to_owned(), path.to_owned(), String::new());
    for (settings, script, runs_before, expected) in [
        // It was never started, and dies at once. Then nobody can read its mounts.
        ("ProtectSystem=strict", "exec mkdir /etc/harden-why-x", false, denied("read-only-path", "/etc/harden-why-x")),
        ("InaccessiblePaths=/opt", "exec cat /opt/file", false, denied("hidden-path", "/opt/file")),
        ("TemporaryFileSystem=/opt", "exec cat /opt/file", false, denied("hidden-path", "/opt/file")),
        ("NoExecPaths=/opt", "exec /opt/program", false, denied("noexec-path", "/opt/program")),
        // A process that lives on has the mounts of one that died.
        ("TemporaryFileSystem=/opt", "cat /opt/file; sleep 0.3; exit 1", false, denied("hidden-path", "/opt/file")),
        // The restart removes its cgroup, and makes a new one.
        (
            "ProtectSystem=strict",
            "mkdir /etc/harden-why-x; exec sleep 1000",
            true,
            denied("read-only-path", "/etc/harden-why-x"),
        ),
    ] {
        let Some(json) = restart(settings, script, runs_before) else { return };
        assert_eq!(accesses(&json), [expected], "{script}: {json:#}");
        let seconds = json["seconds"].as_f64().unwrap();
        assert!((seconds < 4.5) != runs_before, "{script}: it ends with its unit: {seconds}");
    }
}

#[test]
fn refused_call_of_a_unit_that_dies_at_its_start_is_seen() {
    let settings = "SystemCallFilter=~mkdir mkdirat\nSystemCallErrorNumber=EPERM";
    let Some(json) = restart(settings, "exec mkdir /run/harden-why-x", false) else { return };
    let call = json["refusals"][0]["call"].as_str().unwrap_or_default();
    assert!(call.starts_with("mkdir") && json["refusals"][0]["unit"] == "x.service", "{json:#}");
}

#[test]
fn restart_without_an_answer_changes_nothing() {
    let Some(manager) = TestManager::start() else { return };
    manager.write("x.service", "[Service]\nExecStart=/bin/sleep 1000\n");
    manager.reload();
    let bus = manager.bus();
    for (arguments, status, words) in [
        (&["tap", "--restart", "x.service"][..], 2, "add --yes"),
        (&["tap", "--restart", "--yes", "1"], 2, "a process cannot be restarted"),
        (&["tap", "x.service"], 1, "'harden-why tap --restart x.service' starts it"),
    ] {
        let client = [env!("CARGO_BIN_EXE_harden-why"), "--bus", &bus];
        let output = manager.command(&[&client, arguments].concat()).stdin(Stdio::null()).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(status) && errors.contains(words), "{arguments:?}: {errors}");
    }
    let state = manager.systemctl(&["show", "-P", "ActiveState", "x.service"]).stdout;
    assert_eq!(String::from_utf8_lossy(&state).trim(), "inactive");
}
