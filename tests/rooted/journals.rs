//! Journals of several machines: the list of their alerts, and the hook. systemd-journal-remote makes the journals.

use crate::support::screen;
use crate::support::skip::skip;
use harden_why::outlet::message_ids::{self, ACCESS_DENIAL, CORRECTION, DENIAL, SUMMARY, UNRECORDED_DEATH};
use serde_json::Value;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

const REMOTE: &str = "/lib/systemd/systemd-journal-remote";
const PATIENCE: Duration = Duration::from_mins(1);
/// 2026-01-02 in microseconds since the epoch.
const START: u64 = 1_767_312_000_000_000;

/// Whether this machine can make and read journals; prints why not.
fn can_make_journals() -> bool {
    let can = Path::new(REMOTE).exists();
    if !can {
        skip("there is no systemd-journal-remote");
    }
    can
}

/// A machine's journal in the export format.
struct MachineExport {
    host: &'static str,
    text: String,
    entries: u64,
}

impl MachineExport {
    fn new(host: &'static str) -> Self {
        Self { host, text: String::new(), entries: 0 }
    }

    fn add(&mut self, seconds: u64, fields: &[(&str, &str)]) {
        self.entries += 1;
        let (number, time) = (self.entries, START + seconds * 1_000_000);
        let machine = format!("{:032x}", self.host.bytes().fold(1_u128, |sum, byte| sum * 31 + u128::from(byte)));
        let boot = "b".repeat(32);
        write!(
            self.text,
            "__CURSOR=s={machine};i={number:x};b={boot};m={number:x};t={time:x};x={number:x}\n\
             __REALTIME_TIMESTAMP={time}\n__MONOTONIC_TIMESTAMP={number}\n_BOOT_ID={boot}\n_MACHINE_ID={machine}\n\
             _HOSTNAME={}\n",
            self.host
        )
        .unwrap();
        for (name, value) in fields {
            writeln!(self.text, "{name}={value}").unwrap();
        }
        self.text.push('\n');
    }

    fn add_alert(&mut self, seconds: u64, unit: &str, call: &str, origin: &str) {
        self.add_alert_of(seconds, "system", unit, call, origin);
    }

    fn add_alert_of(&mut self, seconds: u64, manager: &str, unit: &str, call: &str, origin: &str) {
        let remedy = format!("SystemCallFilter={call}");
        self.add(
            seconds,
            &[
                ("MESSAGE", "denied \"__CURSOR\":\"made up\""),
                ("MESSAGE_ID", DENIAL),
                ("_SYSTEMD_UNIT", "harden-whyd.service"),
                ("HARDEN_WHY_UNIT", unit),
                ("HARDEN_WHY_MANAGER", manager),
                ("HARDEN_WHY_CALL", call),
                ("HARDEN_WHY_DIRECTIVE", "SystemCallFilter"),
                ("HARDEN_WHY_ORIGIN", origin),
                ("HARDEN_WHY_REMEDY", &remedy),
            ],
        );
    }

    /// Adds an entry of harden-whyd about a system unit.
    fn add_entry(&mut self, seconds: u64, id: &str, fields: &[(&str, &str)]) {
        let own = [("MESSAGE_ID", id), ("_SYSTEMD_UNIT", "harden-whyd.service"), ("HARDEN_WHY_MANAGER", "system")];
        self.add(seconds, &[&own, fields].concat());
    }

    /// Writes the journal below a directory, in one of the machine's own.
    fn write(&self, directory: &Path) -> PathBuf {
        let own = directory.join(self.host);
        fs::create_dir_all(&own).unwrap();
        let (export, journal) = (own.join("export"), own.join("system.journal"));
        fs::write(&export, &self.text).unwrap();
        let output = Command::new(REMOTE).arg("-o").arg(&journal).arg(&export).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        fs::remove_file(export).unwrap();
        journal
    }
}

fn harden_why(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_harden-why")).args(arguments).env("TZ", "UTC").output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn json(arguments: &[&str]) -> Value {
    serde_json::from_str(&harden_why(&[arguments, &["--json"]].concat())).unwrap()
}

/// Two machines with one unit in common, whose settings differ.
fn two_machines() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let (mut one, mut two) = (MachineExport::new("web1"), MachineExport::new("web2"));
    for seconds in 0..50 {
        one.add(seconds, &[("MESSAGE", "noise"), ("_SYSTEMD_UNIT", "noise.service")]);
    }
    one.add_alert(60, "nginx.service", "socket", "/etc/systemd/system/nginx.service:4");
    one.add_alert(70, "nginx.service", "socket", "/etc/systemd/system/nginx.service:4");
    one.add_alert(80, "redis.service", "uname", "/etc/systemd/system/redis.service:7");
    // Another program writes an entry that looks like an alert: journald notes its unit.
    one.add(90, &[("MESSAGE_ID", DENIAL), ("_SYSTEMD_UNIT", "evil.service"), ("HARDEN_WHY_UNIT", "sshd.service")]);
    two.add_alert(65, "nginx.service", "socket", "/etc/systemd/system/nginx.service.d/own.conf:2");
    for machine in [one, two] {
        machine.write(directory.path());
    }
    directory
}

#[test]
fn table_of_machines_is_as_expected_at_every_width() {
    if !can_make_journals() {
        return;
    }
    let directory = two_machines();
    let command = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_harden-why"));
        command.arg("--directory").arg(directory.path()).env("TZ", "UTC").stdin(Stdio::null());
        command
    };
    let case = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/screens/directory");
    let wrong = screen::check(&case, "--directory journals", command, |text| text);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn alerts_of_two_machines_directories_are_one_answer() {
    if !can_make_journals() {
        return;
    }
    let directory = two_machines();
    let path = directory.path().to_str().unwrap();
    let report = json(&["--directory", path]);
    assert_eq!(report["hosts"], serde_json::json!(["web1", "web2"]));
    assert_eq!(report["alerts"], 4);
    let rows = report["fleet"].as_array().unwrap();
    let units: Vec<&str> = rows.iter().map(|row| row["unit"].as_str().unwrap()).collect();
    assert_eq!(units, ["redis.service", "nginx.service"], "newest first, and no made-up alert");
    let nginx = &rows[1];
    assert_eq!((&nginx["call"], &nginx["directive"]), (&"socket".into(), &"SystemCallFilter".into()));
    assert_eq!((&nginx["first"], &nginx["last"]), (&"2026-01-02T00:01:00Z".into(), &"2026-01-02T00:01:10Z".into()));
    let hosts: Vec<(&str, u64)> = nginx["hosts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|host| (host["host"].as_str().unwrap(), host["alerts"].as_u64().unwrap()))
        .collect();
    assert_eq!(hosts, [("web1", 2), ("web2", 1)]);
    assert_eq!(nginx["remedies"].as_array().unwrap().len(), 1);
    assert_eq!(nginx["origins"].as_array().unwrap().len(), 2);

    let page = harden_why(&["-D", path]);
    for text in
        ["UNIT ", "one remedy for all:\n    + SystemCallFilter=socket", "The settings differ:", "4 alerts of 2 hosts"]
    {
        assert!(page.contains(text), "no {text:?} in:\n{page}");
    }
}

/// Any user can have a unit of the name that a system unit has, and make calls that its own settings deny.
#[test]
fn unit_of_a_user_has_a_row_of_its_own_and_gives_the_system_no_line() {
    if !can_make_journals() || Command::new("jq").arg("--version").output().is_err() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut one = MachineExport::new("web1");
    one.add_alert(60, "nginx.service", "socket", "/etc/systemd/system/nginx.service:4");
    one.add_alert_of(70, "user:1000", "nginx.service", "init_module", "");
    one.write(directory.path());
    let path = directory.path().to_str().unwrap();
    let page = harden_why(&["-D", path, "nginx"]);
    assert!(page.contains("nginx.service of user 1000: init_module"), "{page}");
    // The expressions of the documented script.
    let guide = include_str!("../../packaging/integrations.md");
    let script = guide.split("jq -r ").skip(1).filter_map(|rest| {
        let (before, rest) = rest.split_once('\'')?;
        Some((before, rest.split('\'').next()?))
    });
    let answer = harden_why(&["-D", path, "nginx", "--json"]);
    let mut printed = String::new();
    for (_, expression) in script {
        let mut jq = Command::new("jq")
            .args(["-r", "--arg", "host", "web1", expression])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        jq.stdin.take().unwrap().write_all(answer.as_bytes()).unwrap();
        printed += &String::from_utf8(jq.wait_with_output().unwrap().stdout).unwrap();
    }
    assert_eq!(printed, "web1\n[Service]\nSystemCallFilter=socket\n");
}

#[test]
fn alerts_of_machines_are_selected_by_unit_time_and_file() {
    if !can_make_journals() {
        return;
    }
    let directory = two_machines();
    let path = directory.path().to_str().unwrap();
    let units = |arguments: &[&str]| {
        let report = json(&[&["--directory", path], arguments].concat());
        report["fleet"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| row["unit"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(units(&["nginx"]), ["nginx.service"]);
    assert_eq!(units(&["red*"]), ["redis.service"]);
    assert_eq!(units(&["--since", "2026-01-02 00:01:15"]), ["redis.service"]);
    assert_eq!(units(&["--until", "2026-01-02 00:01:15"]), ["nginx.service"]);
    assert_eq!(units(&["--user"]), Vec::<String>::new());
    let file = directory.path().join("web2/system.journal");
    assert_eq!(json(&["--file", file.to_str().unwrap()])["hosts"], serde_json::json!(["web2"]));
}

/// A death without a record whose record arrives late gets a correction, and the record's denial gets its own alert.
#[test]
fn corrected_alerts_summaries_and_accesses_count_as_what_they_are() {
    if !can_make_journals() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (mut one, mut two) = (MachineExport::new("web1"), MachineExport::new("web2"));
    let unit = ("HARDEN_WHY_UNIT", "nginx.service");
    let death = |pid| [unit, ("HARDEN_WHY_PID", pid), ("HARDEN_WHY_COUNT", "1")];
    one.add_entry(10, UNRECORDED_DEATH, &death("7"));
    one.add_entry(11, CORRECTION, &death("7")[..2]);
    one.add_alert(12, "nginx.service", "socket", "/etc/systemd/system/nginx.service:4");
    one.add_entry(13, UNRECORDED_DEATH, &death("8"));
    one.add_entry(14, SUMMARY, &[("HARDEN_WHY_INCIDENTS", "12")]);
    // The correction of one machine concerns no death on another.
    two.add_entry(10, UNRECORDED_DEATH, &death("7"));
    two.add_entry(15, SUMMARY, &[("HARDEN_WHY_INCIDENTS", "1"), ("HARDEN_WHY_UNIT", "redis.service")]);
    let path = ("HARDEN_WHY_PATH", "/var/lib/x");
    let capability = [("HARDEN_WHY_ACCESS", "capability"), ("HARDEN_WHY_ACCESS_DETAIL", "CAP_CHOWN bounding")];
    two.add_entry(
        20,
        ACCESS_DENIAL,
        &[unit, ("HARDEN_WHY_CALL", "openat"), ("HARDEN_WHY_ACCESS", "read-only-path"), path],
    );
    two.add_entry(21, ACCESS_DENIAL, &[&[unit, ("HARDEN_WHY_CALL", "chown")], &capability[..]].concat());
    for machine in [one, two] {
        machine.write(directory.path());
    }
    let directory = directory.path().to_str().unwrap();
    let report = json(&["--directory", directory]);
    assert_eq!((&report["alerts"], &report["without_alert"]), (&5.into(), &13.into()), "{report}");
    let rows: Vec<(&str, &str, u64)> = report["fleet"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            let withheld = row["withheld"].as_str().unwrap_or_default();
            (row["call"].as_str().unwrap(), withheld, row["alerts"].as_u64().unwrap())
        })
        .collect();
    let expected = [("chown", "CAP_CHOWN", 1), ("openat", "/var/lib/x", 1), ("", "", 2), ("socket", "", 1)];
    assert_eq!(rows, expected, "newest first");
    let page = harden_why(&["--directory", directory]);
    for text in ["openat: /var/lib/x", "5 alerts of 2 hosts", "13 more denials without an alert of their own"] {
        assert!(page.contains(text), "no {text:?} in:\n{page}");
    }
    // Who asks for one unit does not learn of the summaries of another.
    assert_eq!(json(&["--directory", directory, "nginx"])["without_alert"], 12);
}

#[test]
fn hook_and_manual_know_every_kind_of_alert() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for file in ["packaging/hook/run-for-alerts", "packaging/manuals/harden-whyd.8"] {
        let text = fs::read_to_string(root.join(file)).unwrap();
        for id in message_ids::ALL {
            assert!(text.contains(id), "{file} lacks {id}");
        }
    }
}

/// Two machines on which a process with the same pid is killed at the same time, in different units.
fn two_machines_with_records() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (host, unit, call) in [("web1", "one.service", 41), ("web2", "two.service", 63)] {
        let mut machine = MachineExport::new(host);
        let record = format!(
            "SECCOMP auid=4294967295 uid=8 gid=8 ses=4294967295 subj=unconfined pid=77 comm=\"x\" exe=\"/usr/bin/x\" \
             sig=31 arch=c000003e syscall={call} compat=0 ip=0x7f613e11f829 code=0x80000000"
        );
        let time = (START + 5_000_000).to_string();
        for serial in ["5", "6"] {
            machine.add(4, &[("MESSAGE", "noise"), ("_TRANSPORT", "stdout"), ("_PID", "77"), ("_SYSTEMD_UNIT", unit)]);
            let kernel = [("_TRANSPORT", "audit"), ("_AUDIT_TYPE", "1326"), ("_AUDIT_ID", serial), ("_PID", "77")];
            machine.add(5, &[&kernel[..], &[("_SOURCE_REALTIME_TIMESTAMP", &*time), ("MESSAGE", &*record)]].concat());
        }
        // Only journald's own fields make a record.
        machine.add(6, &[("_TRANSPORT", "stdout"), ("SYSLOG_IDENTIFIER", "evil"), ("MESSAGE", &*record)]);
        machine.write(directory.path());
    }
    directory
}

#[test]
fn records_of_two_machines_are_explained_apart_and_folded() {
    if !can_make_journals() {
        return;
    }
    let directory = two_machines_with_records();
    let path = directory.path().to_str().unwrap();
    let root = tempfile::tempdir().unwrap();
    let units = root.path().join("etc/systemd/system");
    fs::create_dir_all(&units).unwrap();
    for unit in ["one.service", "two.service"] {
        let text = "[Service]\nExecStart=/usr/bin/x\nSystemCallFilter=~@network-io uname\n";
        fs::write(units.join(unit), text).unwrap();
    }
    let root = root.path().to_str().unwrap();
    let report = json(&["explain", path, "--root", root]);
    assert_eq!((&report["hosts"], &report["alerts"]), (&serde_json::json!(["web1", "web2"]), &4.into()));
    let rows: Vec<[&str; 6]> = report["fleet"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            [
                &row["unit"],
                &row["call"],
                &row["directive"],
                &row["origins"][0]["lines"][0],
                &row["remedies"][0]["lines"][0],
                &row["last"],
            ]
            .map(|value| value.as_str().unwrap_or_default())
        })
        .collect();
    let origin = |unit: &str| format!("/etc/systemd/system/{unit}:3");
    let last = "2026-01-02T00:00:05Z";
    for [unit, call] in [["one.service", "socket"], ["two.service", "uname"]] {
        let (origin, remedy) = (origin(unit), format!("SystemCallFilter={call}"));
        assert!(rows.contains(&[unit, call, "SystemCallFilter", &origin, &remedy, last]), "{rows:?}");
    }
    let texts: Vec<&str> =
        report["notes"].as_array().unwrap().iter().map(|note| note["text"].as_str().unwrap()).collect();
    let looks = |host: &str| texts.iter().any(|text| text.starts_with(&format!("{host}: 1 entry not shown")));
    assert!(looks("web1") && looks("web2"), "{texts:?}");

    let page = harden_why(&["explain", path, "--unit", "one"]);
    assert!(
        page.contains("DENIALS") && page.contains("2 denials of 1 host") && !page.contains("two.service"),
        "{page}"
    );
}

#[test]
fn directory_without_journals_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    for arguments in [["--directory", path], ["explain", path]] {
        let output = Command::new(env!("CARGO_BIN_EXE_harden-why")).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&output.stderr).contains("there is no journal"), "{output:?}");
    }
}

#[test]
fn hook_runs_for_each_alert_once_and_for_no_other_entry() {
    if !can_make_journals() {
        return;
    }
    if let Err(error) = Command::new("journalctl").arg("--version").output() {
        return skip(&format!("journalctl: {error}"));
    }
    let directory = two_machines();
    let journal = directory.path().join("web1/system.journal");
    let (state, received) = (directory.path().join("state"), directory.path().join("received"));
    fs::create_dir(&state).unwrap();
    let command = directory.path().join("command");
    fs::write(&command, format!("#!/bin/sh\ncat >>{}\nexit 3\n", received.display())).unwrap();
    fs::set_permissions(&command, fs::Permissions::from_mode(0o755)).unwrap();
    let lines = || fs::read_to_string(&received).unwrap_or_default().lines().count();
    let run = |expected: usize| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/hook/run-for-alerts");
        let mut hook = Command::new(script)
            .arg(&command)
            .arg(format!("--file={}", journal.display()))
            .arg("--no-tail")
            .env("STATE_DIRECTORY", &state)
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap();
        let end = Instant::now() + PATIENCE;
        while lines() < expected {
            assert!(Instant::now() < end, "{} of {expected}", lines());
            sleep(Duration::from_millis(20));
        }
        // Further entries would come at once.
        sleep(Duration::from_millis(500));
        let group = nix::unistd::Pid::from_raw(hook.id().try_into().unwrap());
        nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGTERM).unwrap();
        hook.wait().unwrap();
    };
    run(3);
    assert_eq!(lines(), 3, "the alerts of harden-whyd, also after a command that failed");
    for line in fs::read_to_string(&received).unwrap().lines() {
        let alert: Value = serde_json::from_str(line).unwrap();
        assert_eq!(alert["MESSAGE_ID"], DENIAL);
    }
    run(3);
    assert_eq!(lines(), 3, "none of them again after a restart");
}
