//! Calls that seccomp refuses in running processes, seen by the verb on a real manager's units.
#![expect(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "helpers of tests are tests")]

mod support {
    #[expect(dead_code, reason = "other tests use the rest")]
    pub(crate) mod daemon;
    #[expect(dead_code, reason = "other tests use the rest")]
    pub(crate) mod manager;
    pub(crate) mod nobody;
    pub(crate) mod program;
    pub(crate) mod programs;
    pub(crate) mod tapped;
}

use harden_why::incidents::SightingSource;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};
use std::thread::sleep;
use std::time::Duration;
use support::daemon::{Daemon, wait_for};
use support::manager::{TestManager, skip};
use support::programs;
use support::tapped::{CALLS, ROLE, THREADS, TIMES};

/// Refuses each of [`CALLS`] with another error, or by another directive.
const POLICY: &str = "SystemCallFilter=~acct:ENOSPC swapon:EACCES swapoff\nSystemCallErrorNumber=EPERM\n\
     ProtectHostname=yes\nRestrictAddressFamilies=AF_UNIX\n";
const ERRNOS: [&str; 5] = ["ENOSPC", "EACCES", "EPERM", "EPERM", "EAFNOSUPPORT"];

/// Has tracefs where it usually is, in a mount namespace of the command's own.
const TRACEFS: &str =
    r#"mountpoint -q /sys/kernel/tracing || mount -t tracefs tracefs /sys/kernel/tracing && exec "$@""#;

/// Whoever looks for programs that stay has no others beside him.
static BESIDE: RwLock<()> = RwLock::new(());

/// A unit that plays a role.
struct Unit {
    manager: TestManager,
    dir: PathBuf,
    _beside: Option<RwLockReadGuard<'static, ()>>,
}

impl Unit {
    fn start(role: &str, policy: &str) -> Option<Self> {
        let beside = BESIDE.read().unwrap_or_else(PoisonError::into_inner);
        Some(Self { _beside: Some(beside), ..Self::start_alone(role, policy)? })
    }

    fn start_alone(role: &str, policy: &str) -> Option<Self> {
        let manager = TestManager::start()?;
        let dir = manager.base().join("play");
        fs::create_dir(&dir).unwrap();
        let unit = Self { manager, dir, _beside: None };
        let program = std::env::current_exe().unwrap();
        let text = format!(
            "[Service]\nSlice=system.slice\nTimeoutStopSec=1\nEnvironment={ROLE}={role}:{}\nExecStart={}\n{policy}",
            unit.dir.display(),
            program.display()
        );
        unit.manager.write("x.service", &text);
        unit.manager.reload();
        assert!(unit.manager.start_unit("x.service"));
        unit.wait_for("ready");
        Some(unit)
    }

    fn wait_for(&self, what: &str) {
        wait_for(|| self.dir.join(what).exists().then_some(()), || format!("not {what}"));
    }

    fn tell(&self, what: &str) {
        fs::write(self.dir.join(what), "").unwrap();
    }

    /// The client with a tap that is in place.
    fn tap(&self, way: &str, more: &[&str]) -> Tapping {
        Tapping::start(self.tap_command(way, more), way)
    }

    fn tap_command(&self, way: &str, more: &[&str]) -> Command {
        let bus = self.manager.bus();
        let client = [
            &[env!("CARGO_BIN_EXE_harden-why"), "--bus", &bus, "--json", "tap", "--through", way, "--for", "1min"][..],
            more,
        ]
        .concat();
        // Whoever runs the tests may ignore signals.
        let signals: &[&str] = &["env", "--default-signal=HUP,INT,TERM"];
        let before: &[&str] = if way == "tracefs" { &["unshare", "--mount", "sh", "-c", TRACEFS, "sh"] } else { &[] };
        self.manager.command(&[signals, before, &client].concat())
    }

    fn pid(&self) -> String {
        let output = self.manager.systemctl(&["show", "-P", "MainPID", "x.service"]);
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}

/// A tap that watches.
struct Tapping(Child);

impl Tapping {
    fn start(mut command: Command, way: &str) -> Self {
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut tapping = Self(child);
        let pid = tapping.0.id();
        let in_place = || if way == "tracefs" { traces(pid) } else { counts(pid) };
        wait_for(|| (in_place() || tapping.0.try_wait().unwrap().is_some()).then_some(()), || "no tap".to_owned());
        tapping
    }

    fn output(self) -> Output {
        kill(Pid::from_raw(self.0.id().try_into().unwrap()), Signal::SIGINT).unwrap();
        self.0.wait_with_output().unwrap()
    }

    fn json(self) -> Value {
        let output = self.output();
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

/// Whether a process has programs on all tracepoints, and told them that they may count.
fn counts(pid: u32) -> bool {
    attached(pid) == 4 && programs::first_of_array(pid) == Some(1)
}

fn attached(pid: u32) -> usize {
    let entries = fs::read_dir(format!("/proc/{pid}/fdinfo")).into_iter().flatten().flatten();
    let infos = entries.filter_map(|entry| fs::read_to_string(entry.path()).ok());
    infos.filter(|info| info.contains("raw_tracepoint")).count()
}

/// A process's own, where tracefs is seen by it.
fn instances(pid: u32) -> Vec<PathBuf> {
    let dir = format!("/proc/{pid}/root/sys/kernel/tracing/instances");
    let all = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    all.filter(|path| path.to_string_lossy().contains(&format!("harden-why-{pid}-"))).collect()
}

fn traces(pid: u32) -> bool {
    instances(pid).iter().any(|instance| {
        let is_on = |file: &str| fs::read_to_string(instance.join(file)).is_ok_and(|on| on.trim() == "1");
        // It begins as one that traces no event.
        is_on("events/sched/sched_process_exit/enable") && is_on("tracing_on")
    })
}

fn refusals(json: &Value) -> Vec<(String, String, u64)> {
    let refusals = json["refusals"].as_array().unwrap().iter();
    let mut found: Vec<_> =
        refusals.map(|one| (text(&one["call"]), text(&one["errno"]), one["count"].as_u64().unwrap())).collect();
    found.sort();
    found
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or("-").to_owned()
}

/// How often a call was refused.
fn refusals_of(json: &Value, call: &str) -> u64 {
    refusals(json).into_iter().filter(|(name, ..)| name == call).map(|(.., count)| count).sum()
}

fn expected() -> Vec<(String, String, u64)> {
    let calls = CALLS.iter().zip(ERRNOS);
    let mut all: Vec<_> =
        calls.map(|((call, ..), errno)| ((*call).to_owned(), errno.to_owned(), (THREADS + 1) * TIMES)).collect();
    all.sort();
    all
}

/// Which ways there are here; none is a failure where they are required.
fn ways() -> Vec<&'static str> {
    let bpf = Path::new("/sys/kernel/btf/vmlinux").exists();
    let tracefs = fs::read_to_string("/proc/filesystems").unwrap().contains("tracefs");
    let ways: Vec<_> =
        [("bpf", bpf), ("tracefs", tracefs)].into_iter().filter_map(|(way, is)| is.then_some(way)).collect();
    if ways.len() < 2 {
        skip(&format!("only {ways:?} can be had"));
    }
    ways
}

#[test]
fn a_thousand_refusals_are_counted_to_the_last_and_nothing_else() {
    for way in ways() {
        let Some(unit) = Unit::start("refused", POLICY) else { return };
        let tapping = unit.tap(way, &["x.service"]);
        unit.tell("go");
        for number in 0..THREADS {
            unit.wait_for(&format!("done-{number}"));
        }
        unit.wait_for("done-child");
        // Those who wait in calls come back meanwhile.
        sleep(Duration::from_millis(1200));
        let json = tapping.json();
        assert_eq!(refusals(&json), expected(), "{way}: {json:#}");
        assert_eq!(json["way"], *way);
        for refusal in json["refusals"].as_array().unwrap() {
            let threads = refusal["threads"].as_array().unwrap();
            assert_eq!(threads.len(), 5, "{refusal}");
            assert!(threads.iter().all(|thread| thread["count"] == TIMES), "{refusal}");
            let named = threads.iter().filter(|thread| thread["comm"].as_str().unwrap().starts_with("worker\\x1b"));
            assert_eq!(named.count(), 4, "{refusal}");
        }
        let answer = &json["units"][0];
        assert_eq!((&answer["unit"], &answer["manager"]), (&"x.service".into(), &"system".into()));
        let denials = answer["denials"].as_array().unwrap();
        assert!(denials.iter().all(|denial| denial["source"] == "tap"), "{answer:#}");
        let unit_kinds = denials.iter().filter(|denial| denial["cause"]["kind"] == "unit").count();
        let perhaps = denials.iter().filter(|denial| denial["cause"]["kind"] == "perhaps-unit").count();
        assert_eq!((unit_kinds, perhaps), (4, 1), "{answer:#}");
        assert!(!answer["remedies"].as_array().unwrap().is_empty(), "{answer:#}");
    }
}

#[test]
fn what_the_policy_cannot_have_caused_is_told_apart() {
    for way in ways() {
        let Some(unit) = Unit::start("own-sandbox", POLICY) else { return };
        let tapping = unit.tap(way, &[&unit.pid()]);
        unit.tell("go");
        unit.wait_for("done");
        let json = tapping.json();
        let own = ("munlockall".to_owned(), "ENOTUNIQ".to_owned(), 7);
        let trapped = ("mlockall".to_owned(), "-".to_owned(), 7);
        assert_eq!(refusals(&json), [("acct".into(), "ENOSPC".into(), 1), trapped, own], "{way}: {json:#}");
        let answer = &json["units"][0];
        assert_eq!(answer["unit"], "x.service", "the process's own");
        let denials = answer["denials"].as_array().unwrap().iter();
        let mut kinds: Vec<_> = denials.map(|one| (text(&one["call"]), text(&one["cause"]["kind"]))).collect();
        kinds.sort();
        assert_eq!(kinds, [("acct".into(), "unit".into()), ("munlockall".into(), "elsewhere".into())], "{json:#}");
        let remedies = answer["remedies"].to_string();
        assert!(remedies.contains("acct") && !remedies.contains("munlockall"), "{remedies}");
        let notes = json["notes"].to_string();
        assert!(notes.contains("were answered by another than systemd's filters"), "{notes}");
        assert!(notes.contains("what was seen is not stored"), "no daemon runs: {notes}");
    }
}

/// Watched by an alias, by the slice around it, and by its PID before it goes to another unit's cgroup.
#[test]
fn a_refusal_is_of_the_unit_that_its_process_is_in() {
    let Some(unit) = Unit::start("loop", POLICY) else { return };
    let units =
        if unit.manager.is_pid1() { PathBuf::from("/run/systemd/system") } else { unit.manager.base().join("units") };
    _ = fs::remove_file(units.join("y.service"));
    std::os::unix::fs::symlink("x.service", units.join("y.service")).unwrap();
    unit.manager.write("z.service", "[Service]\nSlice=system.slice\nExecStart=/bin/sleep infinity\n");
    unit.manager.reload();
    assert!(unit.manager.start_unit("z.service"));
    let watched = |way: &str, asked: &str, meanwhile: &dyn Fn()| {
        let tapping = unit.tap(way, &[asked]);
        meanwhile();
        sleep(Duration::from_millis(500));
        tapping.json()
    };
    let of = |json: &Value, name: &str| {
        let answers = json["units"].as_array().unwrap().iter().filter(|one| one["unit"] == name).cloned();
        answers.flat_map(|one| one["denials"].as_array().unwrap().clone()).collect::<Vec<_>>()
    };
    for way in ways() {
        for asked in ["y", "system.slice"] {
            let json = watched(way, asked, &|| ());
            let denials = of(&json, "x.service");
            assert_eq!(denials.len(), 1, "{way} {asked}: {json:#}");
            let (rung, cause) = (&denials[0]["attribution"]["rung"], &denials[0]["cause"]["kind"]);
            assert_eq!((rung, cause), (&"own-cgroup".into(), &"unit".into()), "{way} {asked}: {json:#}");
            assert!(of(&json, asked).is_empty(), "{way} {asked}: {json:#}");
        }
    }
    let control_group = |name: &str| {
        let output = unit.manager.systemctl(&["show", "-P", "ControlGroup", name]).stdout;
        let path = String::from_utf8(output).unwrap();
        unit.manager.cgroup().join(path.trim().trim_start_matches('/')).join("cgroup.procs")
    };
    let (from, to, pid) = (control_group("x.service"), control_group("z.service"), unit.pid());
    for way in ways() {
        let json = watched(way, &pid, &|| fs::write(&to, &pid).unwrap());
        let denials = of(&json, "z.service");
        assert_eq!(denials.len(), 1, "{way}: {json:#}");
        assert_eq!(denials[0]["cause"]["kind"], "elsewhere", "not by that unit's policy, {way}: {json:#}");
        fs::write(&from, &pid).unwrap();
    }
}

#[test]
fn children_that_are_gone_at_once_are_counted_too() {
    for way in ways() {
        let Some(unit) = Unit::start("children", POLICY) else { return };
        // By its pid: the children are others.
        let tapping = unit.tap(way, &[&unit.pid()]);
        unit.tell("go");
        unit.wait_for("done");
        let json = tapping.json();
        assert_eq!(refusals_of(&json, "acct"), 200, "{way}: {json:#}");
        assert_eq!(
            json["refusals"].as_array().unwrap().iter().map(|one| &one["errno"]).collect::<Vec<_>>(),
            ["ENOSPC"]
        );
    }
}

#[test]
fn a_unit_that_is_started_anew_stays_watched_and_what_is_seen_is_stored() {
    let Some(unit) = Unit::start("loop", POLICY) else { return };
    let bus = unit.manager.bus();
    let daemon = unit.manager.command(&[support::daemon::PROGRAM]);
    let daemon = Daemon::start(daemon, &bus, &unit.manager.base().join("daemon"));
    let mut count = 0;
    for way in ways() {
        let tapping = unit.tap(way, &["x"]);
        assert!(unit.manager.systemctl(&["restart", "x.service"]).status.success());
        let pid: u32 = unit.pid().parse().unwrap();
        sleep(Duration::from_secs(1));
        let json = tapping.json();
        let threads: Vec<_> =
            json["refusals"].as_array().unwrap().iter().flat_map(|one| one["threads"].as_array().unwrap()).collect();
        assert!(threads.iter().any(|thread| thread["pid"] == pid), "{way}, {pid}: {json:#}");
        assert!(threads.len() >= 2, "{way}: {json:#}");
        assert!(json["notes"].as_array().unwrap().is_empty(), "{json:#}");
        count += refusals_of(&json, "acct");
        let source = SightingSource::Tap { errno: libc::ENOSPC };
        // Of a process that is gone before it is asked for its executable, none is known.
        let total = || daemon.stored().iter().filter(|one| one.key.source == source).map(|one| one.count).sum::<u64>();
        wait_for(|| (total() == count).then_some(()), || format!("{} of {count}: {:?}", total(), daemon.stored()));
        let program = std::env::current_exe().unwrap();
        let stored = daemon.wait_for_incident(|one| one.key.exe == program.as_os_str().as_encoded_bytes());
        assert_eq!(stored.key.unit.as_ref().unwrap().name.as_str(), "x.service");
    }
    daemon.stop();
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_32_bit_call_is_told_as_one() {
    let Some(unit) = Unit::start("i386", POLICY) else { return };
    let tapping = unit.tap("bpf", &["x"]);
    unit.tell("go");
    unit.wait_for("done");
    let json = tapping.json();
    assert_eq!(refusals(&json), [("acct".into(), "ENOSPC".into(), 3)], "{json:#}");
    assert_eq!((&json["refusals"][0]["arch"], &json["refusals"][0]["number"]), (&"i386".into(), &51.into()));
}

/// Killed at any time, the one way leaves nothing, the other what the next call removes.
#[test]
fn a_killed_tap_leaves_nothing_for_long() {
    let _alone = BESIDE.write().unwrap_or_else(PoisonError::into_inner);
    let Some(unit) = Unit::start_alone("loop", POLICY) else { return };
    let bus = unit.manager.bus();
    for way in ways() {
        let (mut left, mut begun) = (0, 0);
        for step in 0..20 {
            let mut command = unit.tap_command(way, &["x"]);
            let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            if step % 5 == 4 {
                // Wherever that is on this machine now, some are killed once they have begun.
                let pid = child.id();
                let has_begun = || if way == "tracefs" { !instances(pid).is_empty() } else { attached(pid) > 0 };
                wait_for(|| has_begun().then_some(()), || "it does not begin".to_owned());
                begun += programs::named("harden_why_tap");
            } else {
                sleep(Duration::from_millis(25 * step));
            }
            child.kill().unwrap();
            child.wait().unwrap();
            let client = [env!("CARGO_BIN_EXE_harden-why"), "--bus", &bus, "syscall", "acct"];
            let script = r#""$@" >/dev/null && ls /sys/kernel/tracing/instances"#;
            let traced = ["unshare", "--mount", "sh", "-c", TRACEFS, "sh", "sh", "-c", script, "sh"];
            let next = [&traced, &client[..]].concat();
            let output = unit.manager.command(&next).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{said}");
            wait_for(|| (programs::named("harden_why_tap") == 0).then_some(()), || "a program stays".to_owned());
            let own = format!("harden-why-{}-", child.id());
            assert!(!String::from_utf8_lossy(&output.stdout).contains(&own), "{way} {step}: {output:?}");
            if !said.is_empty() {
                left += 1;
                assert!(said.contains("a tap that was killed had left") && said.contains("it is removed"), "{said}");
            }
        }
        assert_eq!(left > 0, way == "tracefs", "{left} left something");
        assert!(begun > 0 || way != "bpf", "no program was ever there");
    }
}

#[test]
fn what_cannot_be_is_said_before_anything_is_done() {
    let Some(unit) = Unit::start("loop", POLICY) else { return };
    unit.manager.write("off.service", "[Service]\nExecStart=/bin/true\n");
    unit.manager.reload();
    let bus = unit.manager.bus();
    let client = [env!("CARGO_BIN_EXE_harden-why"), "--bus", &bus, "tap"];
    let error = |before: &[&str], more: &[&str]| {
        let output = unit.manager.command(&[before, &client, more].concat()).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), text.lines().count()), (Some(2), 1), "{text}");
        text
    };
    for (arguments, expected) in [
        (&["off"][..], "off.service does not run"),
        (&["nowhere.service"], "nowhere.service does not run"),
        (&["../x"], "is no unit"),
        (&["4194305"], "there is no process 4194305"),
    ] {
        assert!(error(&[], arguments).contains(expected), "{arguments:?}: {}", error(&[], arguments));
    }
    let many = ["x"; 17];
    assert!(error(&[], &many).contains("at most 16"));
    // Nobody's, root's of a user namespace, and root's without the capabilities.
    let nobody = tempfile::tempdir().unwrap();
    fs::set_permissions(nobody.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let output = support::nobody::harden_why(nobody.path()).args(["tap", "1"]).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("not allowed: a tap takes root"), "{output:?}");
    let pid = unit.pid();
    let untraced = r#"for place in tracing debug; do umount -qR "/sys/kernel/$place"; done; exec "$@""#;
    let bare = [
        "unshare",
        "--mount",
        "sh",
        "-c",
        untraced,
        "sh",
        "setpriv",
        "--bounding-set",
        "-bpf,-perfmon,-sys_admin",
        "--inh-caps",
        "-bpf,-perfmon,-sys_admin",
    ];
    let without = error(&bare, &[&pid]);
    assert!(without.contains("not allowed") && without.contains("tracefs is not mounted"), "{without}");
    let locked = r#"mount -t tmpfs tmpfs /sys/kernel/security && echo "none integrity [confidentiality]"         >/sys/kernel/security/lockdown && exec "$@""#;
    let locked = error(&[&["unshare", "--mount", "sh", "-c", locked, "sh"], &bare[..]].concat(), &[&pid]);
    assert!(locked.contains("the kernel is locked down (confidentiality)"), "{locked}");
    let without = error(&["unshare", "--pid", "--fork", "--mount-proc"], &["1"]);
    assert!(without.contains("PID namespace of its own"), "{without}");
}
