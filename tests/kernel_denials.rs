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
    #[expect(dead_code, reason = "other tests use the rest")]
    pub(crate) mod sandboxed;
    #[expect(dead_code, reason = "other programs need more of it")]
    pub(crate) mod skip;
    pub(crate) mod unchecked;
}

use serde_json::Value;
use std::path::Path;
use std::process::Stdio;
use support::manager::TestManager;
use support::sandboxed::{Prepared, Service, accesses};
use support::skip::skip;
use support::unchecked::say_unchecked;

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

const ROWS: [Row; 29] = [
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
    row("User=nobody\nInaccessiblePaths=/opt", "cat /opt/file", ("hidden-path", "/opt/file", "")),
    row("TemporaryFileSystem=/opt:ro", "mkdir /opt/z", ("read-only-path", "/opt/z", "")),
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
    row(
        "MemoryDenyWriteExecute=yes",
        "python3 -c 'import mmap; mmap.mmap(-1, 4096, prot=7)'",
        ("executable-memory", "", ""),
    ),
    row(
        "RestrictAddressFamilies=AF_UNIX AF_INET",
        "python3 -c 'import socket; socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)'",
        ("address-family", "", "16"),
    ),
    row("RestrictNamespaces=mnt", "unshare --uts true; unshare --mount true", ("namespaces", "", "0x4000000")),
    row("RestrictSUIDSGID=yes", "touch f; chmod 600 f; chmod 4755 f", ("set-id-mode", "", "")),
    row("RestrictRealtime=yes", "chrt --batch 0 true; chrt --fifo 1 true", ("scheduling", "", "1")),
    row("LockPersonality=yes", "setarch --addr-no-randomize true", ("personality", "", "0x40000")),
    row(
        "IPAddressDeny=any\nIPAddressAllow=127.0.0.2",
        "python3 -c 'import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\ns.sendto(b\"\", (\"127.0.0.2\", 9))\n\
         s.sendto(b\"\", (\"127.0.0.1\", 9))'",
        ("address", "", "127.0.0.1:9"),
    ),
    // The call itself has no address: its socket is connected.
    row(
        "IPAddressDeny=127.0.0.3",
        "python3 -c 'import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\ns.connect((\"127.0.0.3\", 9))\n\
         s.send(b\"\")'",
        ("address", "", "127.0.0.3:9"),
    ),
    row(
        "IPAddressDeny=127.0.0.3",
        "python3 -c 'import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
         s.sendmsg([b\"\"], [], 0, (\"127.0.0.3\", 10))'",
        ("address", "", "127.0.0.3:10"),
    ),
    row(
        "SocketBindDeny=ipv4:82\nSocketBindAllow=81",
        "python3 -c 'import socket\nfor port in 81, 82: socket.socket().bind((\"127.0.0.1\", port))'",
        ("address", "", "127.0.0.1:82"),
    ),
];

/// Whether this systemd can do what the settings say: it refuses ports by BPF programs that not every build has.
fn can_have(settings: &str) -> bool {
    let version = std::process::Command::new("systemctl").arg("--version").output().unwrap();
    !settings.contains("SocketBind") || String::from_utf8_lossy(&version.stdout).contains("+BPF_FRAMEWORK")
}

#[test]
fn denial_of_each_kind_is_reported_with_what_the_sandbox_withheld() {
    let mut wrong = Vec::new();
    for Row { settings, script, expected } in &ROWS {
        if !can_have(settings) {
            say_unchecked(settings, "this systemd was built without BPF_FRAMEWORK, so it ignores the directive");
            continue;
        }
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
    service.play();
    let (first, second) = (first.json(), second.json());
    let found = accesses(&first);
    assert_eq!(found, accesses(&second), "{first:#}");
    let hostile = found.iter().find(|(kind, path, _)| kind == "read-only-path" && path.starts_with("/etc/\\x1b"));
    assert_eq!(hostile.map(|(_, path, _)| path.as_str()), Some("/etc/\\x1b[2J\\xff"), "{first:#}");
}

/// Runs `tap --restart` on a unit that runs a shell script, and returns its answer.
fn restart(settings: &str, script: &str, duration: &str, runs_before: bool) -> Option<Value> {
    if !Path::new("/sys/kernel/btf/vmlinux").exists() {
        skip("the kernel has no type information");
        return None;
    }
    let manager = TestManager::start()?;
    let write = |settings: &str, script: &str| {
        let text = format!(
            "[Service]\nSlice=system-new.slice\nTimeoutStopSec=1\nExecStart=/bin/sh -c '{script}'\n\
             UnsetEnvironment=LD_LIBRARY_PATH\n{settings}\n"
        );
        manager.write("x.service", &text);
        manager.reload();
    };
    if runs_before {
        // It starts without the settings, which a person then writes.
        write("", "exec sleep 1000");
        assert!(manager.start_unit("x.service"), "{script}");
    }
    write(settings, script);
    let (bus, client) = (manager.bus(), env!("CARGO_BIN_EXE_harden-why"));
    let arguments = [client, "--bus", &bus, "--json", "tap", "--restart", "--yes", "--for", duration, "x.service"];
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
        // The tap ends with a unit that ends.
        let Some(json) = restart(settings, script, if runs_before { "3s" } else { "1h" }, runs_before) else { return };
        assert_eq!(accesses(&json), [expected], "{script}: {json:#}");
        // The denied process started after the last change of the settings.
        assert_eq!(json["units"][0]["denials"][0]["cause"]["kind"], "unit", "{script}: {json:#}");
    }
}

#[test]
fn refused_call_of_a_unit_that_dies_at_its_start_is_seen() {
    let settings = "SystemCallFilter=~mkdir mkdirat\nSystemCallErrorNumber=EPERM";
    let Some(json) = restart(settings, "exec mkdir /run/harden-why-x", "1h", false) else { return };
    let call = json["refusals"][0]["call"].as_str().unwrap_or_default();
    assert!(call.starts_with("mkdir") && json["refusals"][0]["unit"] == "x.service", "{json:#}");
}

#[test]
fn call_that_kills_the_unit_at_its_start_is_a_denial_of_its_filter() {
    let Some(json) = restart("SystemCallFilter=~mkdir mkdirat", "exec mkdir /run/harden-why-x", "1h", false) else {
        return;
    };
    let (refusal, denial) = (&json["refusals"][0], &json["units"][0]["denials"][0]);
    assert!(refusal["killed"] == true && refusal["errno"].is_null(), "{refusal:#}");
    let call = denial["call"].as_str().unwrap_or_default();
    assert!(call.starts_with("mkdir") && denial["action"] == "kill_process", "{denial:#}");
    assert_eq!(denial["cause"]["directives"][0]["directive"], "SystemCallFilter", "{denial:#}");
    let notes = json["notes"].as_array().unwrap();
    assert!(notes.iter().all(|note| note["code"] != "answered-by-others"), "{notes:#?}");
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
        (
            &["tap", "x.service"],
            1,
            "starts it, and watches it from its first call on: harden-why tap --restart x.service",
        ),
    ] {
        let client = [env!("CARGO_BIN_EXE_harden-why"), "--bus", &bus];
        let output = manager.command(&[&client, arguments].concat()).stdin(Stdio::null()).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(status) && errors.contains(words), "{arguments:?}: {errors}");
    }
    let state = manager.systemctl(&["show", "-P", "ActiveState", "x.service"]).stdout;
    assert_eq!(String::from_utf8_lossy(&state).trim(), "inactive");
}
