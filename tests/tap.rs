//! `harden-why tap` on units of a real manager.
#![expect(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "helpers of tests are tests")]

mod support {
    #[expect(dead_code, reason = "other tests use the rest")]
    pub(crate) mod daemon;
    pub(crate) mod exit_status;
    #[expect(dead_code, reason = "other tests use the rest")]
    pub(crate) mod manager;
    pub(crate) mod nobody;
    pub(crate) mod program;
    pub(crate) mod programs;
    #[expect(dead_code, reason = "other programs need more of it")]
    pub(crate) mod skip;
    pub(crate) mod tapped;
}

use harden_why::incidents::SightingSource;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::fs;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};
use std::thread::sleep;
use std::time::Duration;
use support::daemon::{Daemon, wait_for};
use support::manager::TestManager;
use support::programs;
use support::skip::skip;
use support::tapped::{CALLS, ROLE, THREADS, TIMES};

/// Refuses each of [`CALLS`], with another error or by another directive.
const POLICY: &str = "SystemCallFilter=~acct:ENOSPC swapon:EACCES swapoff\nSystemCallErrorNumber=EPERM\n\
     ProtectHostname=yes\nRestrictAddressFamilies=AF_UNIX\n";
const ERRNOS: [&str; 5] = ["ENOSPC", "EACCES", "EPERM", "EPERM", "EAFNOSUPPORT"];

/// A test that looks for programs that stay runs alone: it locks this for writing.
static TAPS: RwLock<()> = RwLock::new(());

/// A unit that plays a role.
struct Unit {
    manager: TestManager,
    dir: PathBuf,
    _lock: Option<RwLockReadGuard<'static, ()>>,
}

impl Unit {
    fn start(role: &str, policy: &str) -> Option<Self> {
        let lock = TAPS.read().unwrap_or_else(PoisonError::into_inner);
        Some(Self { _lock: Some(lock), ..Self::start_alone(role, policy)? })
    }

    fn start_alone(role: &str, policy: &str) -> Option<Self> {
        if !Path::new("/sys/kernel/btf/vmlinux").exists() {
            skip("the kernel has no type information");
            return None;
        }
        let manager = TestManager::start()?;
        let dir = manager.base().join("play");
        fs::create_dir(&dir).unwrap();
        let unit = Self { manager, dir, _lock: None };
        let program = std::env::current_exe().unwrap();
        let text = format!(
            "[Unit]\nStartLimitIntervalSec=0\n[Service]\nSlice=system.slice\nTimeoutStopSec=1\n\
             Environment={ROLE}={role}:{}\nExecStart={}\n{policy}",
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

    /// Starts the client, and waits until its tap counts.
    fn tap(&self, more: &[&str]) -> RunningTap {
        RunningTap::start(self.tap_command(more))
    }

    fn tap_command(&self, more: &[&str]) -> Command {
        let bus = self.manager.bus();
        // The shell that runs the tests may ignore signals.
        let signals: &[&str] = &["env", "--default-signal=HUP,INT,TERM"];
        let client = [env!("CARGO_BIN_EXE_harden-why"), "--bus", &bus, "--json", "tap", "--for", "1min"];
        self.manager.command(&[signals, &client, more].concat())
    }

    fn pid(&self) -> String {
        let output = self.manager.systemctl(&["show", "-P", "MainPID", "x.service"]);
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}

/// A tap that watches.
struct RunningTap(Child);

impl RunningTap {
    fn start(mut command: Command) -> Self {
        let mut tap = Self(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
        let pid = tap.0.id();
        wait_for(|| (counts(pid) || tap.0.try_wait().unwrap().is_some()).then_some(()), || "no tap".to_owned());
        tap
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

/// Whether a process has attached its programs, and has switched them on.
fn counts(pid: u32) -> bool {
    attached(pid) > 0 && programs::first_of_array(pid) == Some(1)
}

fn attached(pid: u32) -> usize {
    let entries = fs::read_dir(format!("/proc/{pid}/fdinfo")).into_iter().flatten().flatten();
    let infos = entries.filter_map(|entry| fs::read_to_string(entry.path()).ok());
    infos.filter(|info| info.contains("raw_tracepoint")).count()
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

#[test]
fn thousand_refusals_are_counted_exactly() {
    let Some(unit) = Unit::start("refused", POLICY) else { return };
    let tap = unit.tap(&["x.service"]);
    unit.tell("go");
    for number in 0..THREADS {
        unit.wait_for(&format!("done-{number}"));
    }
    unit.wait_for("done-child");
    // The threads that wait in calls return within this time.
    sleep(Duration::from_millis(1200));
    let json = tap.json();
    assert_eq!(refusals(&json), expected(), "{json:#}");
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
    #[cfg(target_arch = "x86_64")]
    for denial in denials {
        let (code, caller) = (&denial["call_site"]["code"], &denial["call_site"]["caller"]);
        assert_eq!(code["function"], "syscall", "{denial:#}");
        assert_eq!(caller["file"], text(&std::env::current_exe().unwrap().to_str().into()), "{denial:#}");
    }
    let unit_kinds = denials.iter().filter(|denial| denial["cause"]["kind"] == "unit").count();
    // The family of the refused socket is known, so the answer is certain there as well.
    assert_eq!(unit_kinds, 5, "{answer:#}");
    assert!(!answer["remedies"].as_array().unwrap().is_empty(), "{answer:#}");
}

#[test]
fn refusal_by_own_filter_is_not_attributed_to_unit_policy() {
    let Some(unit) = Unit::start("own-sandbox", POLICY) else { return };
    let tap = unit.tap(&[&unit.pid()]);
    unit.tell("go");
    unit.wait_for("done");
    let json = tap.json();
    let own = ("munlockall".to_owned(), "ENOTUNIQ".to_owned(), 7);
    let trapped = ("mlockall".to_owned(), "-".to_owned(), 7);
    assert_eq!(refusals(&json), [("acct".into(), "ENOSPC".into(), 1), trapped, own], "{json:#}");
    let answer = &json["units"][0];
    assert_eq!(answer["unit"], "x.service", "the process's own");
    let denials = answer["denials"].as_array().unwrap().iter();
    let mut kinds: Vec<_> = denials.map(|one| (text(&one["call"]), text(&one["cause"]["kind"]))).collect();
    kinds.sort();
    assert_eq!(kinds, [("acct".into(), "unit".into()), ("munlockall".into(), "elsewhere".into())], "{json:#}");
    let remedies = answer["remedies"].to_string();
    assert!(remedies.contains("acct") && !remedies.contains("munlockall"), "{remedies}");
    let notes = json["notes"].to_string();
    assert!(notes.contains("answered-by-others"), "{notes}");
    assert!(notes.contains("the denials are not stored"), "no daemon runs: {notes}");
}

/// The tap watches an alias, the slice around the unit, and a PID that moves to another unit's cgroup.
#[test]
fn refusal_is_attributed_to_the_unit_of_its_process() {
    let Some(unit) = Unit::start("loop", POLICY) else { return };
    let units =
        if unit.manager.is_pid1() { PathBuf::from("/run/systemd/system") } else { unit.manager.base().join("units") };
    _ = fs::remove_file(units.join("y.service"));
    std::os::unix::fs::symlink("x.service", units.join("y.service")).unwrap();
    unit.manager.write("z.service", "[Service]\nSlice=system.slice\nExecStart=/bin/sleep infinity\n");
    unit.manager.reload();
    assert!(unit.manager.start_unit("z.service"));
    let watch = |target: &str, during_tap: &dyn Fn()| {
        let tap = unit.tap(&[target]);
        during_tap();
        sleep(Duration::from_millis(500));
        tap.json()
    };
    let denials_of = |json: &Value, name: &str| {
        let answers = json["units"].as_array().unwrap().iter().filter(|one| one["unit"] == name).cloned();
        answers.flat_map(|one| one["denials"].as_array().unwrap().clone()).collect::<Vec<_>>()
    };
    for asked in ["y", "system.slice"] {
        let json = watch(asked, &|| ());
        let denials = denials_of(&json, "x.service");
        assert_eq!(denials.len(), 1, "{asked}: {json:#}");
        let (rung, cause) = (&denials[0]["attribution"]["evidence"], &denials[0]["cause"]["kind"]);
        assert_eq!((rung, cause), (&"own-cgroup".into(), &"unit".into()), "{asked}: {json:#}");
        assert!(denials_of(&json, asked).is_empty(), "{asked}: {json:#}");
    }
    let control_group = |name: &str| {
        let output = unit.manager.systemctl(&["show", "-P", "ControlGroup", name]).stdout;
        let path = String::from_utf8(output).unwrap();
        unit.manager.cgroup().join(path.trim().trim_start_matches('/')).join("cgroup.procs")
    };
    let (from, to, pid) = (control_group("x.service"), control_group("z.service"), unit.pid());
    let json = watch(&pid, &|| fs::write(&to, &pid).unwrap());
    let denials = denials_of(&json, "z.service");
    assert_eq!(denials.len(), 1, "{json:#}");
    assert_eq!(denials[0]["cause"]["kind"], "elsewhere", "not by that unit's policy: {json:#}");
    fs::write(&from, &pid).unwrap();
}

#[test]
fn refusals_of_short_lived_children_are_counted() {
    let Some(unit) = Unit::start("children", POLICY) else { return };
    // The children have other PIDs than the one watched.
    let tap = unit.tap(&[&unit.pid()]);
    unit.tell("go");
    unit.wait_for("done");
    let json = tap.json();
    assert_eq!(refusals_of(&json, "acct"), 200, "{json:#}");
    assert_eq!(json["refusals"].as_array().unwrap().iter().map(|one| &one["errno"]).collect::<Vec<_>>(), ["ENOSPC"]);
}

#[test]
fn restarted_unit_stays_watched_and_its_refusals_are_stored() {
    let Some(unit) = Unit::start("loop", POLICY) else { return };
    let bus = unit.manager.bus();
    let daemon = unit.manager.command(&[support::daemon::PROGRAM]);
    let daemon = Daemon::start(daemon, &bus, &unit.manager.base().join("daemon"));
    let tap = unit.tap(&["x"]);
    assert!(unit.manager.systemctl(&["restart", "x.service"]).status.success());
    let pid: u32 = unit.pid().parse().unwrap();
    sleep(Duration::from_secs(1));
    let json = tap.json();
    let threads: Vec<_> =
        json["refusals"].as_array().unwrap().iter().flat_map(|one| one["threads"].as_array().unwrap()).collect();
    assert!(threads.iter().any(|thread| thread["pid"] == pid), "{pid}: {json:#}");
    assert!(threads.len() >= 2, "{json:#}");
    assert!(json["notes"].as_array().unwrap().is_empty(), "{json:#}");
    let count = refusals_of(&json, "acct");
    let source = SightingSource::Tap { errno: libc::ENOSPC };
    // A process can be gone before its executable is read: then that is unknown.
    let total = || daemon.stored().iter().filter(|one| one.key.source == source).map(|one| one.count).sum::<u64>();
    wait_for(|| (total() == count).then_some(()), || format!("{} of {count}: {:?}", total(), daemon.stored()));
    let program = std::env::current_exe().unwrap();
    let stored = daemon.wait_for_incident(|one| one.key.exe == program.as_os_str().as_encoded_bytes());
    assert_eq!(stored.key.unit.as_ref().unwrap().name.as_str(), "x.service");
    let site = stored.sample.call_site.unwrap();
    assert_eq!(site.code.file_name(), b"libc.so.6", "{site:?}");
    daemon.stop();
}

#[test]
#[cfg(target_arch = "x86_64")]
fn call_by_32_bit_entry_has_32_bit_number_and_arch() {
    let Some(unit) = Unit::start("i386", POLICY) else { return };
    let tap = unit.tap(&["x"]);
    unit.tell("go");
    unit.wait_for("done");
    let json = tap.json();
    assert_eq!(refusals(&json), [("acct".into(), "ENOSPC".into(), 3)], "{json:#}");
    assert_eq!((&json["refusals"][0]["arch"], &json["refusals"][0]["number"]), (&"i386".into(), &51.into()));
}

#[test]
fn refusals_before_and_after_exec_are_counted_under_the_later_name() {
    let Some(unit) = Unit::start("renamed", POLICY) else { return };
    let tap = unit.tap(&["x.service"]);
    unit.tell("go");
    unit.wait_for("done");
    let json = tap.json();
    assert_eq!(refusals(&json), [("acct".into(), "ENOSPC".into(), 2)], "{json:#}");
    assert_eq!(json["refusals"][0]["threads"][0]["comm"], "after", "{json:#}");
    assert_eq!(json["units"][0]["denials"][0]["comm"], "after", "{json:#}");
}

#[test]
fn killed_tap_leaves_no_program_in_the_kernel() {
    let _alone = TAPS.write().unwrap_or_else(PoisonError::into_inner);
    let Some(unit) = Unit::start_alone("loop", POLICY) else { return };
    let said = unit.manager.base().join("said");
    let mut seen = 0;
    // Each tap counts failures as well; every second one restarts the unit.
    let names =
        ["enter", "leave", "exec", "end", "fork", "mkdir", "cap", "capold"].map(|name| format!("hardenwhy_{name}"));
    for step in 0..20 {
        let more = if step % 2 == 0 { &["x"][..] } else { &["--restart", "--yes", "x"] };
        // The tap before may have been killed while systemd restarted the unit for it.
        wait_for(|| (unit.pid() != "0").then_some(()), || "the unit does not run".to_owned());
        let stderr = File::create(&said).unwrap();
        let mut child = unit.tap_command(more).stdout(Stdio::null()).stderr(stderr).spawn().unwrap();
        let pid = child.id();
        if step % 5 == 4 {
            // However fast this machine is now, some taps are killed after they have begun.
            let has_ended = &mut || child.try_wait().unwrap().is_some();
            wait_for(|| (counts(pid) || has_ended()).then_some(()), || "it does not begin".to_owned());
            assert!(counts(pid), "tap {step} ended: {}", fs::read_to_string(&said).unwrap());
            assert!(
                programs::named("hardenwhy_enter") > 0 && programs::named("hardenwhy_exec") > 0,
                "a part is missing"
            );
            seen += 1;
        } else {
            sleep(Duration::from_millis(25 * step));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let is_free = || names.iter().all(|name| programs::named(name) == 0);
        wait_for(|| is_free().then_some(()), || "a program stays".to_owned());
    }
    assert_eq!(seen, 4, "taps that had begun");
    wait_for(|| (unit.pid() != "0").then_some(()), || "the unit does not run".to_owned());
}

#[test]
fn status_shows_running_taps_and_none_that_was_killed() {
    // Taps of other tests are in the status as well.
    let _alone = TAPS.write().unwrap_or_else(PoisonError::into_inner);
    let Some(unit) = Unit::start_alone("loop", POLICY) else { return };
    let status = |more: &[&str]| {
        let bus = unit.manager.bus();
        let client = [env!("CARGO_BIN_EXE_harden-why"), "--bus", &bus, "status"];
        let output = unit.manager.command(&[&client, more].concat()).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let taps = || serde_json::from_str::<Value>(&status(&["--json"])).unwrap()["taps"].clone();
    assert_eq!(taps(), Value::Array(Vec::new()));
    let (first, killed) = (unit.tap(&["x", &unit.pid()]), unit.tap(&["x"]));
    let pid = |tap: &RunningTap| u64::from(tap.0.id());
    let known = taps();
    assert_eq!(known[0]["targets"], serde_json::json!(["x.service", unit.pid()]), "{known}");
    assert_eq!((known[0]["pid"].as_u64(), known[1]["pid"].as_u64()), (Some(pid(&first)), Some(pid(&killed))));
    assert!(known[0]["since"].as_str() < known[0]["until"].as_str(), "{known}");
    let page = status(&[]);
    let expected = format!("  tapped x.service and {} since ", unit.pid());
    assert!(page.contains(&expected) && page.contains(&format!("harden-why (pid {})", pid(&first))), "{page}");
    assert!(page.lines().count() <= 10, "{page}");
    let mut child = killed.0;
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(taps().as_array().map(Vec::len), Some(1));
    kill(Pid::from_raw(first.0.id().cast_signed()), Signal::SIGINT).unwrap();
    let mut child = first.0;
    child.wait().unwrap();
    assert_eq!(taps(), Value::Array(Vec::new()));
}

#[test]
fn tap_without_rights_restarts_nothing_and_starts_no_slice() {
    let Some(unit) = Unit::start("loop", POLICY) else { return };
    unit.manager.write("y.service", "[Service]\nSlice=system-untouched.slice\nExecStart=/bin/sleep infinity\n");
    unit.manager.reload();
    let before = unit.pid();
    let bus = unit.manager.bus();
    let bare = ["setpriv", "--bounding-set", "-bpf,-perfmon,-sys_admin", "--inh-caps", "-bpf,-perfmon,-sys_admin"];
    for name in ["x.service", "y.service"] {
        let client = [env!("CARGO_BIN_EXE_harden-why"), "--bus", &bus, "tap", "--restart", "--yes", name];
        let output = unit.manager.command(&[&bare[..], &client].concat()).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains("not allowed: a tap requires root, with CAP_BPF and CAP_PERFMON"), "{name}: {text}");
        assert_eq!((output.status.code(), text.lines().count()), (Some(support::exit_status::of_error(&text)), 1));
    }
    assert_eq!(unit.pid(), before, "it still runs");
    for name in ["y.service", "system-untouched.slice"] {
        let state = unit.manager.systemctl(&["show", "-P", "ActiveState", name]).stdout;
        assert_eq!(String::from_utf8_lossy(&state).trim(), "inactive", "{name}");
    }
}

#[test]
fn tap_that_cannot_begin_says_why() {
    let Some(unit) = Unit::start("loop", POLICY) else { return };
    unit.manager.write("off.service", "[Service]\nExecStart=/bin/true\n");
    unit.manager.reload();
    let bus = unit.manager.bus();
    let client = [env!("CARGO_BIN_EXE_harden-why"), "--bus", &bus, "tap"];
    let error = |before: &[&str], more: &[&str]| {
        let output = unit.manager.command(&[before, &client, more].concat()).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        let status = support::exit_status::of_error(&text);
        assert_eq!((output.status.code(), text.lines().count()), (Some(status), 1), "{text}");
        text
    };
    for (arguments, expected) in [
        (&["off"][..], "off.service does not run"),
        (&["nowhere.service"], "Unit nowhere.service not found."),
        (&["../x"], "File ../x not found."),
        (&["4194305"], "process 4194305 does not exist"),
    ] {
        assert!(error(&[], arguments).contains(expected), "{arguments:?}: {}", error(&[], arguments));
    }
    let many = ["x"; 17];
    assert!(error(&[], &many).contains("at most 16"));
    // As nobody, as root without the capabilities, on a locked kernel, without type information, in a PID namespace.
    let nobody = tempfile::tempdir().unwrap();
    fs::set_permissions(nobody.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let output = support::nobody::harden_why(nobody.path()).args(["tap", "1"]).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("not allowed: a tap requires root"), "{output:?}");
    let pid = unit.pid();
    let bare = ["setpriv", "--bounding-set", "-bpf,-perfmon,-sys_admin", "--inh-caps", "-bpf,-perfmon,-sys_admin"];
    let text = error(&bare, &[&pid]);
    assert!(text.contains("not allowed: a tap requires root, with CAP_BPF and CAP_PERFMON"), "{text}");
    let after = |script: &'static str| ["unshare", "--mount", "sh", "-c", script, "sh"];
    let lock = after(
        r#"mount -t tmpfs tmpfs /sys/kernel/security && echo "none integrity [confidentiality]" \
           >/sys/kernel/security/lockdown && exec "$@""#,
    );
    let text = error(&[&lock[..], &bare[..]].concat(), &[&pid]);
    assert!(text.contains("the kernel is locked down (confidentiality)"), "{text}");
    let text = error(&after(r#"mount -t tmpfs tmpfs /sys/kernel/btf && exec "$@""#), &[&pid]);
    assert!(text.contains("no type information (/sys/kernel/btf/vmlinux") && text.contains("rehearse"), "{text}");
    let text = error(&["unshare", "--pid", "--fork", "--mount-proc"], &["1"]);
    assert!(text.contains("this is a PID namespace"), "{text}");
}
