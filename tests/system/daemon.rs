//! The real daemon with the running kernel, a real systemd, and a bus of its own.

use crate::support::daemon::{Alert, Daemon, Journal, PROGRAM, listing, wait_for};
use crate::support::manager::TestManager;
use harden_why::audit::Action;
use harden_why::incidents::{Denial, Incident, IncidentEvent, SightingSource, Stored};
use harden_why::outlet::client::{HardenWhyProxy, IncidentSeen};
use harden_why::outlet::message_ids::{DENIAL, UNRECORDED_DEATH};
use harden_why::outlet::wire::IncidentDict;
use harden_why::syscalls::{Arch, Call};
use harden_why::units::{Confidence, Manager, Rung, Unit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fmt::Display;
use std::fs;
use std::future::poll_fn;
use std::pin::Pin;
use std::thread::sleep;
use std::time::Duration;
use zbus::export::futures_core::Stream;

/// A filter that kills uname(2), and nothing that a shell calls before.
const DEADLY: &str = "SystemCallFilter=~uname\n";

fn unit(manager: Manager, name: &str) -> Unit {
    Unit { manager, name: name.parse().unwrap() }
}

fn is_of(incident: &Incident, name: &str) -> bool {
    incident.key.unit == Some(unit(Manager::System, name))
}

/// The daemon of a machine that has this manager as its system manager.
fn start(manager: &TestManager) -> Daemon {
    Daemon::start(manager.command(&[PROGRAM]), &manager.bus(), &manager.base().join("daemon"))
}

/// Writes a system unit of these lines.
fn write(manager: &TestManager, name: &str, lines: &str) {
    manager.write(name, &format!("[Service]\nSlice=system.slice\n{DEADLY}{lines}\n"));
}

/// The daemon, as its clients see it.
async fn client(bus: &str) -> zbus::Result<HardenWhyProxy<'static>> {
    let connection = zbus::connection::Builder::address(bus).build().await?;
    HardenWhyProxy::new(&connection).await
}

/// The next announced incident of a unit. Tests of other programs cause incidents of their own.
async fn signal_for(signals: &mut (impl Stream<Item = IncidentSeen> + Unpin), name: &str) -> Stored {
    loop {
        let next = poll_fn(|context| Pin::new(&mut *signals).poll_next(context));
        let signal = tokio::time::timeout(Duration::from_mins(1), next).await.unwrap().unwrap();
        let told = Stored::try_from(signal.args().unwrap().incident().clone()).unwrap();
        if is_of(&told.incident, name) {
            return told;
        }
    }
}

/// The first alert of any of these units.
fn first_of(journal: &Journal<'_>, units: &[impl Display]) -> Alert {
    loop {
        let alert = journal.next("SYSLOG_IDENTIFIER=harden-whyd");
        if units.iter().any(|unit| alert.has(&format!("OBJECT_SYSTEMD_UNIT={unit}"))) {
            return alert;
        }
    }
}

/// How long a query for a unit's settings may take, and how long the daemon leaves a slow manager alone.
const QUESTION: Duration = Duration::from_secs(1);
const REST: Duration = Duration::from_secs(10);

/// How often the daemon went on without an answer, since it came too late.
fn late(daemon: &Daemon) -> usize {
    daemon.log().matches("does not return a unit's settings in time").count()
}

/// The alert of a unit, with its settings as the reason or without a reason. On a machine too slow for an answer in
/// time, the alert of another unit that does the same.
fn explained(
    daemon: &Daemon,
    journal: &Journal<'_>,
    prefix: &str,
    reason: bool,
    deed: impl Fn(&str),
) -> (String, Alert) {
    for number in 0..4 {
        let (unit, before) = (format!("{prefix}{number}.service"), late(daemon));
        deed(&unit);
        let alert = journal.next(&format!("OBJECT_SYSTEMD_UNIT={unit}"));
        if alert.fields.iter().any(|line| line.starts_with("HARDEN_WHY_CAUSE=")) {
            return (unit, alert);
        }
        // The alert waits no longer than the query does.
        sleep(QUESTION + QUESTION);
        let in_time = late(daemon) == before;
        if in_time && !reason {
            return (unit, alert);
        }
        sleep(if in_time { Duration::ZERO } else { REST });
    }
    panic!("{prefix}: no reason is told, or never in time: {}", daemon.log())
}

#[tokio::test]
async fn call_logged_in_a_rehearsal_is_an_incident_without_an_alert() {
    let Some(manager) = TestManager::start() else { return };
    let daemon = start(&manager);
    let journal = Journal::of(&daemon);
    let rehearsing = client(&manager.bus()).await.unwrap();
    rehearsing.subscribe().await.unwrap();
    let mut signals = rehearsing.receive_incident_seen().await.unwrap();
    manager.write(
        "logs.service",
        "[Service]\nType=oneshot\nSlice=system.slice\nSystemCallLog=uname\nExecStart=/bin/uname\n",
    );
    manager.reload();
    let mut seen = Vec::new();
    for rehearsed in [true, false] {
        if rehearsed {
            rehearsing.begin_rehearsal("logs.service", "system").await.unwrap();
        } else {
            rehearsing.end_rehearsal("logs.service", "system").await.unwrap();
        }
        manager.start_unit("logs.service");
        seen.push(signal_for(&mut signals, "logs.service").await.incident.key.source);
    }
    assert_eq!(seen, [SightingSource::Rehearsal, SightingSource::Audit]);
    let alert = journal.next("OBJECT_SYSTEMD_UNIT=logs.service");
    let stored: Vec<_> = alert.stored.iter().filter(|incident| is_of(incident, "logs.service")).collect();
    assert_eq!(stored.len(), 2, "the first alert is of the second: {stored:?}");

    let mut tapped = Stored { id: 0, incident: stored[0].clone() };
    let denial = Denial { call: Call::named(Arch::native(), "mount"), action: Action::Errno };
    tapped.incident.key.event = IncidentEvent::Denial(denial);
    (tapped.incident.key.source, tapped.incident.count) = (SightingSource::Tap { errno: 1 }, 1_000);
    rehearsing.report(&[IncidentDict::from(&tapped)]).await.unwrap();
    let stored = signal_for(&mut signals, "logs.service").await;
    assert_eq!((stored.incident.key, stored.incident.count), (tapped.incident.key, 1_000));
}

#[tokio::test]
async fn denial_in_a_unit_is_stored_before_its_alert() {
    let Some(manager) = TestManager::start() else { return };
    let daemon = start(&manager);
    let journal = Journal::of(&daemon);
    let client = client(&manager.bus()).await.unwrap();
    let mut signals = client.receive_incident_seen().await.unwrap();
    client.subscribe().await.unwrap();
    let (unit, alert) = explained(&daemon, &journal, "dies", true, |unit| {
        write(&manager, unit, "ExecStart=/bin/uname");
        manager.reload();
        manager.start_unit(unit);
    });

    let stored = alert.stored.iter().find(|incident| is_of(incident, &unit));
    let stored = stored.expect("stored before it is told");
    let field = |name: &str| {
        let named: Vec<_> = alert.fields.iter().filter_map(|line| line.strip_prefix(name)?.strip_prefix('=')).collect();
        assert_eq!(named.len(), 1, "{name} in {:?}", alert.fields);
        named[0].to_owned()
    };
    assert_eq!((field("MESSAGE_ID").as_str(), field("PRIORITY").as_str()), (DENIAL, "3"));
    assert_eq!((field("HARDEN_WHY_CALL"), field("HARDEN_WHY_ARCH")), ("uname".into(), Arch::native().to_string()));
    assert_eq!((field("HARDEN_WHY_ACTION"), field("HARDEN_WHY_MANAGER")), ("kill_process".into(), "system".into()));
    assert_eq!(field("HARDEN_WHY_PID"), stored.sample.pid.to_string());
    let origin = format!("{}:3", manager.base().join("units").join(&unit).display());
    assert_eq!((field("HARDEN_WHY_CAUSE"), field("HARDEN_WHY_DIRECTIVE")), ("unit".into(), "SystemCallFilter".into()));
    assert_eq!(
        (field("HARDEN_WHY_ORIGIN"), field("HARDEN_WHY_REMEDY")),
        (origin.clone(), "SystemCallFilter=uname".into())
    );
    let message = format!(
        "was killed by SIGSYS for calling uname, denied by SystemCallFilter= in {origin}; see 'harden-why {unit}'"
    );
    assert!(field("MESSAGE").contains(&message), "{}", field("MESSAGE"));

    let IncidentEvent::Denial(Denial { call, action }) = &stored.key.event else { panic!("{stored:?}") };
    assert_eq!((call.arch, call.name(), *action), (Arch::native(), Some("uname"), Action::KillProcess));
    assert_eq!((stored.key.exe.as_slice(), stored.count), (&b"/usr/bin/uname"[..], 1));

    let listed = client.list_incidents(&unit, "system", 0, 0, 9).await.unwrap();
    let listed: Vec<Stored> = listed.into_iter().map(|dict| dict.try_into().unwrap()).collect();
    assert_eq!(listed.iter().map(|stored| &stored.incident).collect::<Vec<_>>(), [stored]);
    assert_eq!(signal_for(&mut signals, &unit).await, listed[0]);
    let status = client.status().await.unwrap();
    assert!(status.listening && status.records > 0 && status.receive_buffer > 0 && status.store_error.is_none());
    assert_eq!(status.malformed, 0);
    daemon.stop();
}

#[test]
fn forgotten_denial_that_comes_back_is_new_and_has_an_alert_of_its_own() {
    let Some(manager) = TestManager::start() else { return };
    let daemon = start(&manager);
    let journal = Journal::of(&daemon);
    for name in ["one.service", "other.service"] {
        write(&manager, name, "ExecStart=/bin/uname");
    }
    manager.reload();
    let seen = |name: &str| daemon.stored().into_iter().find(|incident| is_of(incident, name)).map(|found| found.count);
    let deny = |name: &str, times: u64| {
        manager.start_unit(name);
        wait_for(
            || (seen(name) == Some(times)).then_some(()),
            || format!("{name}: {:?}\n{}", seen(name), daemon.log()),
        );
    };
    for (name, times) in [("one.service", 1), ("one.service", 2), ("other.service", 1)] {
        deny(name, times);
    }
    first_of(&journal, &["other.service"]);
    let forget = |unit: &str| {
        let program = [env!("CARGO_BIN_EXE_harden-why"), "--bus", &manager.bus(), "forget", unit];
        let output = manager.command(&program).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(forget("one"), "one.service: forgot 1 denial; the next one is new again.\n");
    daemon.wait_for_log("uid 0 dismissed the denials of one.service (system): 1 incidents are forgotten");
    assert_eq!((seen("one.service"), seen("other.service")), (None, Some(1)));
    assert_eq!(forget("one"), "Nothing to forget: no denials of one are known.\n");
    let program = [env!("CARGO_BIN_EXE_harden-why"), "--bus", &manager.bus(), "forget", "nowhere"];
    let mistyped = manager.command(&program).output().unwrap();
    assert_eq!(mistyped.status.code(), Some(4), "{mistyped:?}");
    assert!(String::from_utf8(mistyped.stderr).unwrap().contains("Unit nowhere.service not found."));
    // Within the hour in which an incident gets no second alert.
    deny("one.service", 1);
    first_of(&journal, &["one.service"]);
    deny("other.service", 2);
    daemon.stop();
}

#[test]
fn alert_contains_what_is_certain_and_waits_for_no_manager() {
    let Some(manager) = TestManager::start() else { return };
    let daemon = start(&manager);
    let journal = Journal::of(&daemon);
    // The fields that give the reason.
    let told = |alert: &Alert| {
        let field = |line: &&String| {
            ["CAUSE", "DIRECTIVE", "ORIGIN", "REMEDY"]
                .iter()
                .any(|name| line.starts_with(&format!("HARDEN_WHY_{name}=")))
        };
        alert.fields.iter().filter(field).cloned().collect::<Vec<_>>()
    };
    let start = |unit: &str| {
        manager.reload();
        manager.start_unit(unit);
    };
    let origin = |path: &str| format!("HARDEN_WHY_ORIGIN={}", manager.base().join("units").join(path).display());

    // Two drop-ins, one of them ours: a remedy replaces ours.
    let (unit, alert) = explained(&daemon, &journal, "two", true, |unit| {
        write(&manager, unit, "SystemCallFilter=~personality\nExecStart=/bin/uname");
        manager.write(&format!("{unit}.d/50-tight.conf"), "[Service]\nSystemCallFilter=~uname sync\n");
        manager.write(&format!("{unit}.d/zz-harden-why.conf"), "[Service]\nSystemCallFilter=sync\n");
        start(unit);
    });
    let unit_denies = ["HARDEN_WHY_CAUSE=unit".to_owned(), "HARDEN_WHY_DIRECTIVE=SystemCallFilter".to_owned()];
    let mut expected = unit_denies.to_vec();
    expected.push(origin(&format!("{unit}.d/50-tight.conf:2")));
    expected.push("HARDEN_WHY_REMEDY=SystemCallFilter=sync uname".to_owned());
    assert_eq!(told(&alert), expected);

    // The program's own sandbox: the unit's settings have no part in it.
    let (_, alert) = explained(&daemon, &journal, "own", false, |unit| {
        let own = "import ctypes; ctypes.CDLL(None).prctl(22, 1, 0, 0, 0); open(\"/dev/null\")";
        manager.write(unit, &format!("[Service]\nSlice=system.slice\nExecStart=/usr/bin/python3 -c '{own}'\n"));
        start(unit);
    });
    assert_eq!(told(&alert), [""; 0]);

    let (unit, alert) = explained(&daemon, &journal, "log", true, |unit| {
        manager.write(unit, "[Service]\nSlice=system.slice\nSystemCallLog=uname\nExecStart=/bin/uname\n");
        start(unit);
    });
    let logged = ["HARDEN_WHY_CAUSE=logged", "HARDEN_WHY_DIRECTIVE=SystemCallLog", &origin(&format!("{unit}:3"))];
    assert_eq!(told(&alert), logged);

    // They make their call once they may.
    let go = |unit: &str| manager.base().join(unit).with_extension("go");
    let start_waiting = |unit: &str| {
        let waits = format!("until [ -e {} ]; do sleep 0.05; done", go(unit).display());
        write(&manager, unit, &format!("ExecStart=/bin/sh -c '{waits}; exec /bin/uname'"));
        start(unit);
    };
    // systemd's settings differ from its files now.
    let (_, alert) = explained(&daemon, &journal, "stale", false, |unit| {
        start_waiting(unit);
        write(&manager, unit, "SystemCallFilter=\nExecStart=/bin/uname");
        fs::write(go(unit), "").unwrap();
    });
    assert_eq!(told(&alert), [""; 0]);

    // A stopped manager delays no alert.
    start_waiting("hangs.service");
    let scope = fs::read_to_string(manager.cgroup().join("init.scope/cgroup.procs")).unwrap();
    let systemd = Pid::from_raw(scope.lines().next().unwrap().parse().unwrap());
    let before = late(&daemon);
    kill(systemd, Signal::SIGSTOP).unwrap();
    fs::write(go("hangs.service"), "").unwrap();
    assert_eq!(told(&journal.next("OBJECT_SYSTEMD_UNIT=hangs.service")), [""; 0]);
    wait_for(|| (late(&daemon) > before).then_some(()), || daemon.log());
    kill(systemd, Signal::SIGCONT).unwrap();
    daemon.stop();
}

#[test]
fn muted_unit_is_stored_without_an_alert() {
    let Some(manager) = TestManager::start() else { return };
    let config = manager.base().join("harden-why.conf");
    fs::write(&config, "[alerts]\nmute = [\"muted\"]\nburst = 0\n").unwrap();
    let command = manager.command(&[PROGRAM, "--config", config.to_str().unwrap()]);
    let daemon = Daemon::start(command, &manager.bus(), &manager.base().join("daemon"));
    daemon.wait_for_log("harden-why.conf:3: alerts.burst: must be a whole number from 1 to 10000");
    let journal = Journal::of(&daemon);
    write(&manager, "muted.service", "ExecStart=/bin/uname");
    write(&manager, "dies.service", "ExecStart=/bin/uname");
    manager.reload();
    manager.start_unit("muted.service");
    daemon.wait_for_incident(|incident| is_of(incident, "muted.service"));
    manager.start_unit("dies.service");
    let first = first_of(&journal, &["muted.service", "dies.service"]);
    assert!(first.has("OBJECT_SYSTEMD_UNIT=dies.service"), "{:?}", first.fields);
    daemon.stop();
}

#[test]
fn sighup_rereads_the_configuration() {
    let Some(manager) = TestManager::start() else { return };
    let config = manager.base().join("harden-why.conf");
    fs::write(&config, "[alerts]\nmute = [\"muted\"]\n").unwrap();
    let command = manager.command(&[PROGRAM, "--config", config.to_str().unwrap()]);
    let daemon = Daemon::start(command, &manager.bus(), &manager.base().join("daemon"));
    let journal = Journal::of(&daemon);
    for unit in ["muted", "other", "third", "fourth"] {
        write(&manager, &format!("{unit}.service"), "ExecStart=/bin/uname");
    }
    manager.reload();
    let reload = |text: &str| {
        fs::write(&config, text).unwrap();
        daemon.signal(Signal::SIGHUP);
        daemon.wait_for_state("RELOADING=1");
        daemon.wait_for_state("READY=1");
    };
    let first_told = |silent: &str, told: &str| {
        manager.start_unit(&format!("{silent}.service"));
        daemon.wait_for_incident(|incident| is_of(incident, &format!("{silent}.service")));
        manager.start_unit(&format!("{told}.service"));
        let alert = first_of(&journal, &[silent, told].map(|unit| format!("{unit}.service")));
        assert!(alert.has(&format!("OBJECT_SYSTEMD_UNIT={told}.service")), "{:?}", alert.fields);
    };
    reload("[store]\nkeep-days = 30\n[alerts]\nmute = 7\n");
    daemon.wait_for_log("harden-why.conf:4: alerts.mute: must be a list of unit names");
    first_told("muted", "other");
    reload("[memory]\nmost-incidents = 256\n[alerts]\nmute = [\"other.service\", \"third.service\"]\n");
    first_told("third", "fourth");
    daemon.stop();
}

#[test]
fn command_before_the_main_one_is_attributed_to_its_unit() {
    let Some(manager) = TestManager::start() else { return };
    let daemon = start(&manager);
    write(&manager, "pre.service", "ExecStartPre=/bin/uname\nExecStart=/bin/true");
    manager.reload();
    assert!(!manager.start_unit("pre.service"));
    let incident = daemon.wait_for_incident(|incident| is_of(incident, "pre.service"));
    assert_eq!(incident.key.exe, b"/usr/bin/uname");
    assert_eq!(incident.rung.map(Rung::confidence), Some(Confidence::Certain), "{incident:?}");
    daemon.stop();
}

#[test]
fn dead_children_of_a_unit_are_attributed_to_it() {
    let Some(manager) = TestManager::start() else { return };
    let daemon = start(&manager);
    let script = manager.base().join("script");
    fs::write(&script, "i=0; while [ $i -lt 50 ]; do /bin/uname; i=$((i+1)); done 2>/dev/null; sleep 60").unwrap();
    write(&manager, "parent.service", &format!("ExecStart=/bin/sh {}", script.display()));
    manager.reload();
    assert!(manager.start_unit("parent.service"));
    let all = daemon.wait_for_incident(|incident| is_of(incident, "parent.service") && incident.count == 50);
    assert_eq!(all.key.exe, b"/usr/bin/uname");
    daemon.stop();
}

#[test]
fn systemd_that_reexecutes_itself_is_queried_again() {
    let Some(manager) = TestManager::start() else { return };
    let daemon = start(&manager);
    for name in ["before.service", "after.service"] {
        write(&manager, name, "ExecStart=/bin/sh -c 'kill -SYS $$$$'");
        manager.reload();
        manager.start_unit(name);
        // Only systemd and the exit notes can attribute a silent death.
        daemon.wait_for_incident(|incident| is_of(incident, name));
        assert!(manager.systemctl(&["daemon-reexec"]).status.success());
        wait_for(
            || manager.systemctl(&["is-active", "basic.target"]).status.success().then_some(()),
            || "systemd does not come back".to_owned(),
        );
    }
    daemon.stop();
}

#[test]
fn death_without_a_record_is_noticed_in_units_only() {
    let Some(manager) = TestManager::start() else { return };
    let daemon = start(&manager);
    let journal = Journal::of(&daemon);
    let mut outsider = manager.command(&["sh", "-c", "kill -SYS $$"]).spawn().unwrap();
    let outside = outsider.id();
    outsider.wait().unwrap();
    write(&manager, "dies.service", "ExecStart=/bin/uname");
    write(&manager, "silent.service", "ExecStart=/bin/sh -c 'kill -SYS $$$$'");
    manager.reload();
    manager.start_unit("dies.service");
    manager.start_unit("silent.service");

    let alert = journal.next("OBJECT_SYSTEMD_UNIT=silent.service");
    assert!(alert.has(&format!("MESSAGE_ID={UNRECORDED_DEATH}")) && alert.has("PRIORITY=3"), "{:?}", alert.fields);
    let stored = daemon.stored();
    let of = |name: &str| stored.iter().filter(|incident| is_of(incident, name)).collect::<Vec<_>>();
    let silent = of("silent.service");
    assert_eq!((silent.len(), silent[0].count, &silent[0].key.event), (1, 1, &IncidentEvent::UnrecordedDeath));
    // Both died before.
    assert_eq!(of("dies.service").len(), 1, "the record is all there is to say:\n{}", listing(&stored));
    assert!(stored.iter().all(|incident| incident.sample.pid != outside), "{}", listing(&stored));
    daemon.stop();
}

#[test]
fn unit_of_a_user_is_attributed_to_the_user() {
    let Some(manager) = TestManager::start() else { return };
    let daemon = start(&manager);
    let journal = Journal::of(&daemon);
    // A user's manager where the system's would start it: `user@0.service`, delegated.
    let runtime = daemon.root().join("run/user");
    let mount = manager.command(&["mount", "-t", "tmpfs", "tmpfs", "/run/user"]).status().unwrap();
    assert!(mount.success());
    fs::create_dir(runtime.join("0")).unwrap();
    let units = manager.base().join("user-units");
    fs::create_dir(&units).unwrap();
    fs::write(units.join("basic.target"), "[Unit]\n").unwrap();
    fs::write(units.join("dies.service"), format!("[Service]\n{DEADLY}ExecStart=/bin/uname\n")).unwrap();
    let lines = [
        "Slice=user-0.slice",
        "Delegate=yes",
        "ExecStart=/lib/systemd/systemd --user --unit=basic.target",
        "Environment=XDG_RUNTIME_DIR=/run/user/0 DBUS_SESSION_BUS_ADDRESS=unix:path=/nonexistent",
        &format!("Environment=SYSTEMD_UNIT_PATH={}", units.display()),
    ];
    manager.write("user@0.service", &format!("[Service]\n{}\n", lines.join("\n")));
    manager.reload();
    assert!(manager.start_unit("user@0.service"));
    let systemctl = |arguments: &[&str]| {
        let command = [
            &["env", "-u", "DBUS_SESSION_BUS_ADDRESS", "XDG_RUNTIME_DIR=/run/user/0", "systemctl", "--user"],
            arguments,
        ]
        .concat();
        manager.command(&command).output().unwrap()
    };
    // Without it, systemctl would try a bus.
    wait_for(|| runtime.join("0/systemd/private").exists().then_some(()), || daemon.log());
    wait_for(
        || systemctl(&["is-active", "basic.target"]).status.success().then_some(()),
        || format!("{:?} {:?}", systemctl(&["is-active", "basic.target"]), manager.systemctl(&["status", "user@0"])),
    );
    systemctl(&["start", "dies.service"]);

    let alert = journal.next("OBJECT_SYSTEMD_USER_UNIT=dies.service");
    assert!(alert.has("OBJECT_SYSTEMD_OWNER_UID=0"), "{:?}", alert.fields);
    assert!(alert.fields.iter().all(|line| !line.starts_with("OBJECT_SYSTEMD_UNIT=")), "{:?}", alert.fields);
    let incident =
        daemon.wait_for_incident(|incident| incident.key.unit == Some(unit(Manager::User(0), "dies.service")));
    assert_eq!(incident.count, 1);
    daemon.stop();
}

#[test]
fn demonstration_is_neither_an_incident_nor_an_alert() {
    let Some(manager) = TestManager::start() else { return };
    let daemon = start(&manager);
    let journal = Journal::of(&daemon);
    let client = [env!("CARGO_BIN_EXE_harden-why"), "--bus", &manager.bus(), "--json", "demo"];
    let output = manager.command(&client).output().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["demo"]["source"], "kernel", "{output:?}");
    let pid = report["units"][0]["denials"][0]["pid"].as_u64().unwrap();
    // A later denial shows that the daemon has read the stream up to it.
    write(&manager, "later.service", "ExecStart=/bin/uname");
    manager.reload();
    manager.start_unit("later.service");
    daemon.wait_for_incident(|incident| is_of(incident, "later.service"));
    let _ = first_of(&journal, &["later.service"]);
    sleep(Duration::from_secs(2));
    let stored = daemon.stored();
    let is_demonstration = |incident: &Incident| u64::from(incident.sample.pid) == pid;
    assert!(!stored.iter().any(is_demonstration), "{}", listing(&stored));
}
