//! The cause of a denial: the unit's settings, earlier settings, or another filter.

use crate::support::manager::TestManager;
use harden_why::audit::Action;
use harden_why::diagnosis::{DenialCause, Elsewhere, Runtime, Situation, diagnose};
use harden_why::incidents::{Denial, Incident, IncidentEvent, IncidentKey, Moment, Sample, SightingSource, Store};
use harden_why::policy::{Effect, ManagerContext, Policy, Settings, UnitFile};
use harden_why::syscalls;
use harden_why::syscalls::{Abi, Arch, Call, Groups};
use harden_why::units::{Manager, Rung, Unit};
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

fn incident(unit: &str, arch: Arch, call: &str, action: Action, last: Moment) -> Incident {
    let event = IncidentEvent::Denial(Denial { call: Call::named(arch, call), action });
    let unit = Unit { manager: Manager::System, name: unit.parse().unwrap() };
    Incident {
        key: IncidentKey { unit: Some(unit), event, exe: b"/bin/x".to_vec(), source: SightingSource::Audit },
        rung: Some(Rung::OwnCgroup),
        count: 1,
        first: last.clone(),
        last,
        sample: Sample::default(),
    }
}

fn groups() -> Groups {
    let listing = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/systemd-252.syscalls"));
    Groups::parse(&listing.unwrap(), syscalls::groups::GroupSource::Host("252".into()))
        .unwrap()
        .with_native(Abi::X86_64)
}

fn situation(unit: &str, lines: &str) -> Situation {
    let file = UnitFile::parse(Path::new("x"), format!("[Service]\n{lines}\n").as_bytes());
    let settings = Settings::new(&unit.parse().unwrap(), Some(file), Vec::new());
    let context = ManagerContext { kernel: Some((6, 1)), ..ManagerContext::default() };
    let policy = Policy::new(settings, &groups()).with_context(context, &groups());
    Situation { policy, drop_in: "x.d/zz-harden-why.conf".into(), history: None, programs: Vec::new() }
}

/// The cause of one denial, for a unit with these lines, or for one that was not read.
fn cause(unit: &str, lines: Option<&str>, arch: Arch, call: &str, action: Action) -> DenialCause {
    let situation = lines.map(|lines| situation(unit, lines));
    let incidents = vec![incident(unit, arch, call, action, Moment::Unknown)];
    diagnose(incidents, situation.as_ref(), &groups()).findings.remove(0).cause
}

/// A cause in a word or two.
fn said(lines: &str, arch: Arch, call: &str, action: Action) -> String {
    words(&cause("x.service", Some(lines), arch, call, action))
}

fn words(cause: &DenialCause) -> String {
    let directives = |by: &[harden_why::policy::DirectiveCause]| {
        by.iter().map(|cause| [" ", cause.directive.key()].concat()).collect::<String>()
    };
    match cause {
        DenialCause::Unit { effect, by, changed } => {
            format!("{effect}{}{}", directives(by), if *changed { ", changed" } else { "" })
        }
        DenialCause::Possible { by } => format!("perhaps{}", directives(by)),
        DenialCause::Elsewhere(Elsewhere::Permitted { unchanged: false }) => "Permitted".to_owned(),
        DenialCause::Elsewhere(elsewhere) => format!("{elsewhere:?}"),
        other => format!("{other:?}"),
    }
}

/// The cause of a call that a rehearsal let through, or that was refused before a tap, for a unit with these lines.
fn seen(lines: &str, call: &str, source: SightingSource) -> (String, usize) {
    let situation = situation("x.service", lines);
    let action = if source == SightingSource::Rehearsal { Action::Log } else { Action::Errno };
    let mut seen = incident("x.service", Arch::X86_64, call, action, Moment::Unknown);
    seen.key.source = source;
    let diagnosis = diagnose(vec![seen], Some(&situation), &groups());
    (words(&diagnosis.findings[0].cause), diagnosis.remedies.len())
}

#[test]
fn call_let_through_in_a_rehearsal_is_judged_by_the_lifted_settings() {
    for (lines, call, expected, remedies) in [
        ("SystemCallFilter=~mount", "mount", "kill SystemCallFilter", true),
        ("SystemCallFilter=~mount\nSystemCallErrorNumber=EPERM", "mount", "EPERM SystemCallFilter", true),
        ("ProtectClock=yes", "settimeofday", "EPERM ProtectClock", true),
        // The arguments are unknown, and may be ones that pass.
        ("RestrictAddressFamilies=AF_UNIX", "socket", "perhaps RestrictAddressFamilies", false),
        ("SystemCallFilter=~mount", "umount2", "Permitted", false),
    ] {
        let (cause, found) = seen(lines, call, SightingSource::Rehearsal);
        assert_eq!((cause.as_str(), found > 0), (expected, remedies), "{lines} {call}");
    }
}

#[test]
fn refusal_is_attributed_to_the_unit_if_its_errno_matches() {
    let (eperm, enosys, eafnosupport) = (1, 38, 97);
    let filter = "SystemCallFilter=~mount\nSystemCallErrorNumber=EPERM";
    for (lines, call, errno, expected) in [
        (filter, "mount", eperm, "EPERM SystemCallFilter"),
        (filter, "mount", enosys, "OtherEffect"),
        (filter, "umount2", eperm, "Permitted"),
        ("SystemCallFilter=~mount:ENOSYS umount2:EPERM", "mount", enosys, "ENOSYS SystemCallFilter"),
        ("SystemCallFilter=~mount", "mount", eperm, "OtherEffect"),
        ("RestrictAddressFamilies=AF_UNIX", "socket", eafnosupport, "perhaps RestrictAddressFamilies"),
        ("RestrictAddressFamilies=AF_UNIX", "socket", eperm, "OtherEffect"),
    ] {
        assert_eq!(seen(lines, call, SightingSource::Tap { errno }).0, expected, "{lines} {call} {errno}");
    }
}

#[test]
fn old_or_unknown_systemd_kills_threads_by_its_filter() {
    let listing = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/systemd-252.syscalls"));
    let groups = Groups::parse(&listing.unwrap(), syscalls::groups::GroupSource::Host("242".into())).unwrap();
    let file = UnitFile::parse(Path::new("x"), b"[Service]\nSystemCallFilter=~mount\nSystemCallFilter=~reboot:EPERM\n");
    let settings = Settings::new(&"x.service".parse().unwrap(), Some(file), Vec::new());
    let policy = Policy::new(settings, &groups.with_native(Abi::X86_64));
    let situation = Situation { policy, drop_in: "x.d/zz-harden-why.conf".into(), history: None, programs: Vec::new() };
    for (call, expected) in [("mount", "kill SystemCallFilter"), ("reboot", "OtherEffect"), ("read", "Permitted")] {
        let incidents = vec![incident("x.service", Arch::X86_64, call, Action::KillThread, Moment::Unknown)];
        let diagnosis = diagnose(incidents, Some(&situation), &self::groups());
        assert_eq!(words(&diagnosis.findings[0].cause), expected, "{call}");
    }
}

#[test]
fn action_and_architecture_of_a_record_limit_the_causes() {
    use Action::{Errno, KillProcess, KillThread, Trace, Trap, UserNotif};
    let (native, old) = (Arch::X86_64, Arch::I386);
    for (lines, arch, call, action, expected) in [
        // systemd's filters kill processes; they kill threads only for their architecture.
        ("SystemCallFilter=~mount", native, "mount", KillProcess, "kill SystemCallFilter"),
        // Since systemd 243 (this is 252) and Linux 4.14, no filter of systemd's kills a thread of the native ABI.
        ("SystemCallFilter=~mount", native, "mount", KillThread, "ForeignAction"),
        ("SystemCallArchitectures=native", native, "mount", KillThread, "ForeignAction"),
        ("SystemCallArchitectures=native", old, "mount", KillThread, "kill thread SystemCallArchitectures"),
        ("SystemCallArchitectures=native", old, "mount", KillProcess, "OtherEffect"),
        ("SystemCallFilter=~mount", old, "mount", KillProcess, "kill SystemCallFilter"),
        ("SystemCallFilter=~mount", old, "mount", KillThread, "OtherEffect"),
        ("", old, "mount", KillThread, "Permitted"),
        // Actions that systemd never uses.
        ("SystemCallFilter=~mount", native, "mount", Trap, "ForeignAction"),
        ("SystemCallFilter=~mount", native, "mount", UserNotif, "ForeignAction"),
        ("SystemCallFilter=~mount", native, "mount", Trace, "ForeignAction"),
        // The directive that decides comes first.
        (
            "ProtectClock=yes\nSystemCallFilter=~settimeofday",
            native,
            "settimeofday",
            KillProcess,
            "kill SystemCallFilter ProtectClock",
        ),
        (
            "SystemCallErrorNumber=EPERM\nProtectClock=yes\nSystemCallFilter=~settimeofday",
            native,
            "settimeofday",
            Errno,
            "EPERM SystemCallFilter ProtectClock",
        ),
        ("SystemCallFilter=~mount", native, "mount", Errno, "kill SystemCallFilter, changed"),
        ("SystemCallFilter=~mount:EPERM", native, "mount", KillProcess, "OtherEffect"),
        ("MemoryDenyWriteExecute=yes", native, "mmap", Errno, "perhaps MemoryDenyWriteExecute"),
        ("MemoryDenyWriteExecute=yes", native, "mmap", KillProcess, "OtherEffect"),
        ("SystemCallFilter=~mount", native, "uname", KillProcess, "Permitted"),
    ] {
        assert_eq!(said(lines, arch, call, action), expected, "{lines}: {call} of {arch:?}, {action}");
    }
}

#[test]
fn unnamed_call_of_a_blocked_architecture_is_denied_by_the_unit() {
    let of = |lines: &str, action| {
        let event = IncidentEvent::Denial(Denial { call: Call::numbered(Arch::I386, 9999), action });
        let mut incident = incident("x.service", Arch::I386, "mount", action, Moment::Unknown);
        incident.key.event = event;
        diagnose(vec![incident], Some(&situation("x.service", lines)), &groups()).findings.remove(0).cause
    };
    let blocked = of("SystemCallArchitectures=native", Action::KillThread);
    assert!(matches!(blocked, DenialCause::Unit { effect: Effect::KillThread, .. }), "{blocked:?}");
    assert_eq!(of("SystemCallFilter=read", Action::KillProcess), DenialCause::UnknownCall);
}

#[test]
fn executor_of_a_unit_is_known_by_its_name() {
    let of = |unit, lines, action| cause(unit, lines, Arch::X86_64, "mount", action);
    let runtime = |runtime| DenialCause::Elsewhere(Elsewhere::Runtime(runtime));
    for action in [Action::KillProcess, Action::Trap, Action::Errno] {
        assert_eq!(of("docker-0a1b.scope", Some(""), action), runtime(Runtime::Docker));
        assert_eq!(of("libpod-0a1b.scope", None, action), runtime(Runtime::Podman));
        assert_eq!(of("systemd-nspawn@web.service", Some(""), action), runtime(Runtime::Nspawn));
        assert_eq!(of("run-u7.scope", Some(""), action), DenialCause::Elsewhere(Elsewhere::Scope));
    }
    let own = of("systemd-nspawn@web.service", Some("SystemCallFilter=~mount"), Action::KillProcess);
    assert!(matches!(own, DenialCause::Unit { .. }), "a unit's own settings come first: {own:?}");
    assert_eq!(of("x.service", None, Action::KillProcess), DenialCause::SettingsUnread);
}

/// A manager with a unit and one denial of it, at this many seconds from now.
struct Machine {
    manager: TestManager,
}

impl Machine {
    fn start(unit: &str, seconds_from_now: i64) -> Option<Self> {
        Self::with(unit, &[("uname", Action::KillProcess)], seconds_from_now)
    }

    fn with(unit: &str, denied: &[(&str, Action)], seconds_from_now: i64) -> Option<Self> {
        let machine = Self { manager: TestManager::start()? };
        machine.manager.write("x.service", unit);
        // systemd notices changed files where it knows the directory.
        machine.manager.write("x.service.d/05.conf", "[Service]\nNice=1\n");
        machine.manager.reload();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
        let last = Moment::At(i64::try_from(now).unwrap() + seconds_from_now * 1000);
        let incident =
            |(call, action): &(&str, Action)| incident("x.service", Abi::native().arch(), call, *action, last.clone());
        let incidents: Vec<Incident> = denied.iter().map(incident).collect();
        Store::open(&machine.manager.base().join("store")).unwrap().record(&incidents).unwrap();
        Some(machine)
    }

    /// Waits until a newly written file gets a later time. The kernel's clock for files lags by up to a tick,
    /// and by more on a busy machine.
    fn until_files_are_younger(&self) {
        let now = SystemTime::now() + Duration::from_millis(1);
        // Each in a new file: a file whose times were read gets a more precise one (Linux 6.13).
        let written = |nth: u32| {
            let path = self.manager.base().join(format!("written-{nth}"));
            std::fs::write(&path, "").unwrap();
            std::fs::metadata(&path).unwrap().modified().unwrap()
        };
        let younger = (0..10_000).any(|nth| {
            std::thread::sleep(Duration::from_millis(1));
            written(nth) > now
        });
        assert!(younger);
    }

    /// The client's output.
    fn says(&self, arguments: &[&str]) -> String {
        let (bus, store) = (self.manager.bus(), self.manager.base().join("store").display().to_string());
        let client = [env!("CARGO_BIN_EXE_harden-why"), "--bus", &bus, "--state-dir", &store, "x"];
        let output = self.manager.command(&[&client[..], arguments].concat()).output().unwrap();
        assert!(output.stderr.is_empty(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The client's answer.
    fn answer(&self) -> serde_json::Value {
        let report: serde_json::Value = serde_json::from_str(&self.says(&["--json"])).unwrap();
        report["units"][0].clone()
    }

    /// The cause in it.
    fn cause(&self) -> serde_json::Value {
        self.answer()["denials"][0]["cause"].clone()
    }
}

const KILLS: &str = "[Service]\nExecStart=/bin/sleep 600\nSystemCallFilter=~uname\n";
const ALLOW: &str = "[Service]\nSystemCallFilter=uname\n";

#[test]
fn denial_lifted_by_a_later_drop_in_is_fixed_once_loaded() {
    let Some(machine) = Machine::start(KILLS, 0) else { return };
    assert_eq!(machine.cause()["kind"], "unit");
    assert!(machine.manager.start_unit("x.service"));
    machine.until_files_are_younger();
    machine.manager.write("x.service.d/10.conf", ALLOW);
    assert_eq!(machine.cause()["kind"], "fixed-after-reload");
    machine.manager.reload();
    let cause = machine.cause();
    assert_eq!(cause["kind"], "fixed-next-start", "{cause}");
    assert!(
        cause["words"].as_str().unwrap().contains("x.service.d/10.conf: the call is allowed from the next start on"),
        "{cause}"
    );
    assert!(cause["since"].as_str().unwrap().ends_with('Z'), "{cause}");
    assert!(machine.manager.systemctl(&["restart", "x.service"]).status.success());
    assert_eq!(machine.cause()["kind"], "fixed");
    assert_eq!(machine.cause()["directives"], serde_json::json!([]));
}

#[test]
fn denial_after_the_last_change_has_another_cause() {
    let Some(machine) = Machine::start(KILLS, 3600) else { return };
    machine.manager.write("x.service.d/10.conf", ALLOW);
    machine.manager.reload();
    assert!(machine.manager.start_unit("x.service"));
    let cause = machine.cause();
    assert_eq!(cause["kind"], "elsewhere", "{cause}");
    assert!(cause["words"].as_str().unwrap().contains("their files have not changed since"), "{cause}");
    assert_eq!(cause["since"], serde_json::Value::Null);
}

#[test]
fn remedy_shows_its_effect_on_the_exposure_score() {
    let fragment = "[Service]\nExecStart=/bin/sleep 600\nSystemCallFilter=@basic-io\n";
    let Some(machine) = Machine::start(fragment, 0) else { return };
    let answer = machine.answer();
    let remedies = answer["remedies"].as_array().unwrap();
    let change = |remedy: &serde_json::Value| {
        let level = |which: &str| remedy["exposure"][which].as_f64().unwrap();
        level("after") - level("before")
    };
    assert!(change(&remedies[0]).abs() < 0.05, "one call of no dangerous group: {answer}");
    assert!(remedies.len() > 2 && remedies.iter().all(|remedy| change(remedy) > -0.05), "{answer}");
    let text = machine.says(&["-v"]);
    assert_eq!(text.matches("(systemd-analyze security)").count(), remedies.len(), "{text}");
    let level = remedies[0]["exposure"]["before"].as_f64().unwrap();
    assert!(text.contains(&format!("exposure stays {level:.1} (systemd-analyze security)")), "{text}");
}

#[test]
fn relaxed_directive_shows_its_effect_on_the_exposure_score() {
    let unit = "[Service]\nExecStart=/bin/true\nRestrictNamespaces=yes\nProtectHostname=yes\n";
    let refused = |call| (call, Action::Errno);
    let Some(machine) = Machine::with(unit, &[refused("setns"), refused("sethostname")], 0) else { return };
    let answer = machine.answer();
    let remedies = answer["remedies"].as_array().unwrap();
    assert!(!remedies.is_empty() && remedies.iter().all(|remedy| remedy["kind"] == "relax"), "{answer}");
    let levels =
        |remedy: &serde_json::Value| ["before", "after"].map(|which| remedy["exposure"][which].as_f64().unwrap());
    // The flags of setns are in no record, so the default relaxes the other directive only, which weighs little.
    let [before, after] = levels(&remedies[0]);
    assert!(remedies[0]["default"] == true && (0.0..0.15).contains(&(after - before)), "{answer}");
    let [before, after] = levels(remedies.last().unwrap());
    assert!(after > before + 0.3, "{answer}");
    let expected = format!("exposure {before:.1} becomes {after:.1} (systemd-analyze security)");
    assert!(machine.says(&["-v"]).contains(&expected), "{expected}");
}
