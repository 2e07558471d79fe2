//! Every verb of harden-why, and every way in which it can fail, as seen at the terminal.

use crate::support;
use crate::support::skip::skip;
use harden_why::audit::Action;
use harden_why::incidents::{
    Denial, Incident, IncidentEvent, IncidentKey, Moment, Parent, Sample, SightingSource, Store,
};
use harden_why::syscalls::{Arch, Call};
use harden_why::units::{Manager, Rung, Unit};
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// A bus that does not exist.
const NO_BUS: &str = "unix:path=/nonexistent/bus";

const RECORD: &str = r#"type=SECCOMP msg=audit(1795456064.827:2): auid=4294967295 uid=0 gid=0 ses=4294967295 pid=7 comm="a" exe="/usr/bin/a" sig=31 arch=c000003e syscall=41 compat=0 ip=0x7f code=0x80000000"#;

fn harden_why(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_harden-why"));
    command.args(arguments).env("TZ", "UTC").env_remove("NO_COLOR").env_remove("CLICOLOR_FORCE").stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> Output {
    harden_why(arguments).output().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn json(output: &Output) -> serde_json::Value {
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(value["schema"], 1);
    value
}

/// Returns the one line of an error, and checks that it is one.
#[track_caller]
fn error(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(output.stdout.is_empty(), "{output:?}");
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(support::exit_status::of_error(&text)), "{text}");
    let line = text.strip_suffix('\n').unwrap();
    assert!(!line.contains('\n') && !line.chars().any(char::is_control), "{line:?}");
    assert!(line.starts_with("harden-why: "), "{line}");
    line.to_owned()
}

fn incident(unit: Option<(Manager, &str)>, number: u32, at: i64) -> Incident {
    let unit = unit.map(|(manager, name)| Unit { manager, name: name.parse().unwrap() });
    let call = Call::numbered(Arch::X86_64, number);
    Incident {
        rung: unit.as_ref().map(|_| Rung::OwnCgroup),
        key: IncidentKey {
            unit,
            event: IncidentEvent::Denial(Denial { call, action: Action::KillProcess }),
            exe: b"/bin/x\x1b[2J".to_vec(),
            source: SightingSource::Audit,
        },
        count: 3,
        first: Moment::At(at - 1_000),
        last: Moment::At(at),
        sample: Sample { pid: 7, comm: b"x\x1b]0;\x07".to_vec(), uid: "0".into(), ..Sample::default() },
    }
}

/// A store that no daemon has open.
fn store(incidents: &[Incident]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    Store::open(dir.path()).unwrap().record(incidents).unwrap();
    dir
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn help_lists_every_verb_and_option() {
    let help = out(&run(&["--help"]));
    for word in [
        "explain",
        "syscall",
        "rehearse",
        "bisect",
        "restore",
        "demo",
        "status",
        "--bus",
        "--state-dir",
        "--json",
        "--color",
        "--since",
        "--user",
    ] {
        assert!(help.contains(word), "{word}");
    }
    assert!(!help.contains("demo-victim"));
    assert_eq!(out(&run(&["--version"])), format!("harden-why {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn forgotten_incidents_are_reported() {
    let many: Vec<Incident> = (0..10)
        .map(|number| {
            incident(Some((Manager::System, "not-here-a.service")), number, 1_795_456_064_000 + i64::from(number))
        })
        .collect();
    let dir = store(&many);
    Store::open(dir.path()).unwrap().prune(0..0, 4).unwrap();
    let note = "the store was full: 6 denials of all units, last seen until 2026-11-23 17:47:44, were evicted from it";
    // Later denials of the unit, or a question about later ones, make the note irrelevant.
    let questions: [(&[&str], bool); 5] = [
        (&["not-here-b"], true),
        (&["--unknown"], true),
        (&[], true),
        (&["not-here-a"], false),
        (&["--since", "2026-11-24"], false),
    ];
    for (question, noted) in questions {
        let asked = run(&[&["--bus", NO_BUS, "--state-dir", text(dir.path())], question].concat());
        let unwrapped = out(&asked).split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(unwrapped.contains(note), noted, "{question:?}: {unwrapped}");
    }
    let root = tempfile::tempdir().unwrap();
    let units = root.path().join("etc/systemd/system");
    fs::create_dir_all(&units).unwrap();
    fs::write(units.join("not-here-a.service"), "[Service]\nExecStart=/bin/x\n").unwrap();
    let checked = run(&["--json", "--state-dir", text(dir.path()), "check", "not-here-a", "--root", text(root.path())]);
    let notes = json(&checked)["notes"].to_string();
    assert!(!notes.contains("the store was full"), "{notes}");
}

#[test]
fn directory_without_a_store_is_an_error_and_no_empty_store() {
    let dir = tempfile::tempdir().unwrap();
    let typo = dir.path().join("typo");
    for (state, why) in [(text(dir.path()), "has no store"), (text(&typo), "is no directory")] {
        for question in [&[][..], &["a"], &["--unknown"], &["check", "a"], &["apply", "a", "--dry-run"]] {
            let asked = run(&[&["--bus", NO_BUS, "--state-dir", state], question].concat());
            let error = String::from_utf8_lossy(&asked.stderr).into_owned();
            assert_eq!(asked.status.code(), Some(1), "{question:?}: {error}");
            assert!(error.contains(why) && error.contains(state) && !error.contains("recorded"), "{error}");
        }
    }
    assert!(!typo.exists());
}

#[test]
fn store_is_read_without_a_daemon() {
    let dir = store(&[
        incident(Some((Manager::System, "not-here-a.service")), 41, 1_795_456_064_000),
        incident(Some((Manager::User(4242), "not-here-b.service")), 42, 1_795_456_065_000),
        incident(None, 43, 1_795_456_066_000),
    ]);
    let dir = text(dir.path());
    let overview = run(&["--state-dir", dir]);
    assert_eq!(overview.status.code(), Some(0));
    let lines: Vec<String> = out(&overview).lines().map(ToOwned::to_owned).collect();
    let at = |word: &str| lines.iter().position(|line| line.contains(word)).unwrap();
    assert!(at("unit unknown") < at("not-here-b.service") && at("not-here-b.service") < at("not-here-a.service"));
    assert!(lines[0].starts_with("UNIT ") && lines[at("not-here-a.service")].contains("  socket "), "{lines:?}");

    let short = out(&run(&["--bus", NO_BUS, "--state-dir", dir, "not-here-a"]));
    for part in
        ["not-here-a.service: socket(2) denied, process killed (SIGSYS), 3 times, last ", "by /bin/x\\x1b[2J (x"]
    {
        assert!(short.contains(part), "{part}: {short}");
    }
    assert!(!short.contains('\x1b') && !short.contains("--root"), "{short}");
    let one = run(&["--bus", NO_BUS, "--state-dir", dir, "-v", "not-here-a"]);
    assert_eq!(one.status.code(), Some(0), "{one:?}");
    let shown = out(&one);
    for part in
        ["not-here-a.service (system manager)", "socket  the process was killed by SIGSYS, 3 times", "/bin/x\\x1b[2J"]
    {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert!(!shown.contains('\x1b'));

    let mut unattributed = incident(None, 44, 1_795_456_066_000);
    unattributed.sample.parent = Some(Parent { pid: 33, comm: b"sh\x1b[2J".to_vec() });
    let strange = store(&[unattributed]);
    let unknown = run(&["--bus", NO_BUS, "--state-dir", text(strange.path()), "--unknown", "-v"]);
    assert_eq!(unknown.status.code(), Some(0), "{unknown:?}");
    for part in ["unit unknown", "sendto  the process was killed by SIGSYS", "started by sh\\x1b[2J, pid 33"] {
        assert!(out(&unknown).contains(part), "{part}: {}", out(&unknown));
    }
    assert!(out(&run(&["--state-dir", text(strange.path())])).contains("  harden-why --unknown\n"));

    let both = json(&run(&["--json", "--bus", NO_BUS, "--state-dir", dir, "not-here-a", "not-here-b.service"]));
    assert_eq!(both["units"][0]["denials"][0]["call"], "socket");
    assert_eq!(both["units"][0]["denials"][0]["first"], "2026-11-23T17:47:43Z");
    assert_eq!(both["units"][1]["manager"], "user:4242");
    let list = json(&run(&["--json", "--state-dir", dir]));
    assert_eq!(list["overview"].as_array().unwrap().len(), 3);
    assert_eq!(list["overview"][1]["manager"], "user:4242");
    let rows = list["overview"].as_array().unwrap();
    for row in rows {
        let times = row["times"].as_array().unwrap();
        assert_eq!(times.iter().map(|one| one["count"].as_u64().unwrap()).sum::<u64>(), row["count"], "{row}");
        assert_eq!(times[0]["last"], row["last"], "{row}");
    }
    assert!(rows.iter().any(|row| row["times"][0]["first"] == "2026-11-23T17:47:43Z"), "{rows:?}");
}

#[test]
fn query_is_narrowed_by_options() {
    let dir = store(&[
        incident(Some((Manager::System, "not-here.service")), 41, 1_795_456_064_000),
        incident(Some((Manager::User(4242), "not-here.service")), 42, 1_795_456_165_000),
    ]);
    let managers = |more: &[&str]| -> Vec<String> {
        let arguments = [&["--json", "--bus", NO_BUS, "--state-dir", text(dir.path()), "not-here"], more].concat();
        let answer = json(&run(&arguments));
        let units = answer["units"].as_array().unwrap().clone();
        let known = units.iter().filter(|unit| !unit["denials"].as_array().unwrap().is_empty());
        known.map(|unit| unit["manager"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(managers(&[]), ["user:4242", "system"]);
    assert_eq!(managers(&["--system"]), ["system"]);
    assert_eq!(managers(&["--user"]), ["user:4242"]);
    assert_eq!(managers(&["--since", "2026-11-23 17:48:00"]), ["user:4242"]);
    assert_eq!(managers(&["--since", "2026-11-23 17:50:00"]), Vec::<String>::new());
    assert_eq!(managers(&["--until", "2026-11-23 17:48:00"]), ["system"]);
    assert_eq!(managers(&["--until", "2026-11-23 17:50:00"]), ["user:4242", "system"]);
    assert_eq!(managers(&["--since=2026-11-23 17:48", "--until=2026-11-23 17:50"]), ["user:4242"]);
    let listed = json(&run(&["--json", "--state-dir", text(dir.path()), "--bus", NO_BUS, "--until=2026-11-23 17:48"]));
    assert_eq!(listed["overview"].as_array().unwrap().len(), 1, "{listed}");
    assert_eq!((&listed["overview"][0]["manager"], &listed["overview"][0]["incidents"]), (&"system".into(), &1.into()));
    let reversed =
        run(&["--state-dir", text(dir.path()), "--since", "2026-11-23 17:50", "--until", "2026-11-23 17:48"]);
    assert_eq!(reversed.status.code(), Some(2), "{reversed:?}");
    let none = run(&["--bus", NO_BUS, "--state-dir", text(dir.path()), "--since", "2026-11-23 17:50", "not-here"]);
    assert!(out(&none).contains("Unit not-here.service not found."), "{none:?}");
    assert_eq!(run(&["--state-dir", text(store(&[]).path())]).status.code(), Some(0));
}

#[test]
fn unit_unknown_to_the_manager_is_reported() {
    let dir = store(&[]);
    let output = run(&["--bus", NO_BUS, "--state-dir", text(dir.path()), "not-here"]);
    assert_eq!(output.status.code(), Some(4));
    assert!(out(&output).starts_with("Unit not-here.service not found."), "{output:?}");
}

#[test]
fn mistyped_verb_without_a_daemon_is_reported_before_the_daemon() {
    for (question, verb) in [(&["stauts"][..], "status"), (&["expalin", "foo"], "explain")] {
        let asked = run(&[&["--bus", NO_BUS], question].concat());
        let error = String::from_utf8_lossy(&asked.stderr).into_owned();
        assert_eq!(asked.status.code(), Some(4), "{error}");
        assert!(error.contains(&format!("not found. Did you mean the command '{verb}'?")), "{error}");
    }
}

#[test]
fn colour_is_for_terminals_unless_asked_for() {
    let dir = store(&[incident(Some((Manager::System, "not-here.service")), 41, 1_795_456_064_000)]);
    let shown = |more: &[&str]| out(&run(&[&["--state-dir", text(dir.path())], more].concat()));
    assert!(!shown(&[]).contains('\x1b'));
    assert!(!shown(&["--color", "never"]).contains('\x1b'));
    assert!(shown(&["--color", "always"]).contains("\x1b[1m"));
    assert!(!shown(&["--color", "always", "--json"]).contains('\x1b'));
}

#[test]
fn invalid_arguments_are_reported() {
    let dir = store(&[]);
    let dir = text(dir.path());
    assert!(error(&["--state-dir", dir, "a b"]).contains("a b is not a unit name: a unit name holds only letters"));
    assert!(error(&["--state-dir", dir, "\x1b[2J"]).contains("\\x1b[2J is not a unit name"));
    assert!(
        error(&["--state-dir", dir, "--since", "soon"]).contains("\"soon\" is not a time: write \"2026-11-23 14:00\"")
    );
    for bad in [
        &["--bus", "starter"][..],
        &["--color", "pink"],
        &["--frobnicate"],
        &["explain"],
        &["--system", "--user", "a"],
        &["a", "status"],
        &["--since", "today", "demo"],
        &["--state-dir", dir, "status"],
    ] {
        let output = run(bad);
        assert_eq!(output.status.code(), Some(2), "{bad:?}");
        assert!(!output.stderr.is_empty() && output.stdout.is_empty(), "{output:?}");
    }
}

#[test]
fn daemon_that_does_not_answer_is_reported_with_advice() {
    let said = error(&["--bus", NO_BUS, "a"]);
    for part in [NO_BUS, "systemctl start harden-whyd", "--state-dir DIR", "explain FILE"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let status = run(&["--bus", NO_BUS, "status"]);
    assert_eq!(status.status.code(), Some(1));
    assert!(out(&status).contains("harden-whyd does not answer.") && out(&status).lines().count() <= 10);
    let whole = out(&run(&["--bus", NO_BUS, "status", "-v"]));
    assert!(whole.contains("What harden-whyd cannot see here"), "{whole}");
    let status = json(&run(&["--bus", NO_BUS, "--json", "status"]));
    assert_eq!(status["listening"], false);
    assert!(!status["limitations"].as_array().unwrap().is_empty());
}

#[test]
fn status_without_rights_advises_what_that_user_can_do() {
    let dir = tempfile::tempdir_in("/tmp").unwrap();
    fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let output = support::nobody::harden_why(dir.path()).args(["--bus", NO_BUS, "status"]).output().unwrap();
    let page = String::from_utf8(output.stdout).unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(page.contains("start sudo systemctl enable --now harden-whyd"), "{page}");
    // The rights of this process are not those of the daemon.
    assert!(!page.contains("this process lacks") && !page.contains("CapabilityBoundingSet="), "{page}");
    let output = support::nobody::harden_why(dir.path()).args(["--bus", NO_BUS, "a"]).output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("start it (sudo systemctl start harden-whyd)"), "{error}");
}

#[test]
fn cause_of_an_error_is_printed_once() {
    // This user may not read it.
    let (dir, store) = (tempfile::tempdir_in("/tmp").unwrap(), store(&[]));
    fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    fs::set_permissions(store.path(), std::os::unix::fs::PermissionsExt::from_mode(0o000)).unwrap();
    let mut command = support::nobody::harden_why(dir.path());
    let output = command.args(["--state-dir", text(store.path()), "a"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("incidents.sqlite3 (Permission denied"), "{said}");
    assert_eq!(said.matches("Permission denied").count(), 1, "{said}");
}

#[test]
fn log_is_explained_between_two_times_and_the_rest_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("audit.log");
    let later = RECORD.replace("1795456064.827:2", "1795456165.100:9").replace("syscall=41", "syscall=42");
    fs::write(&log, format!("{RECORD}\n{later}\n")).unwrap();
    let answer = |more: &[&str]| json(&run(&[&["--json", "explain", text(&log)], more].concat()));
    let calls = |more: &[&str]| -> Vec<String> {
        let units = answer(more)["units"].as_array().unwrap().clone();
        let denials = units.iter().flat_map(|unit| unit["denials"].as_array().unwrap().clone());
        denials.map(|denial| denial["call"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(calls(&["--until", "2026-11-23 17:48"]), ["socket"]);
    assert_eq!(calls(&["--since", "2026-11-23 17:48"]), ["connect"]);
    assert_eq!(calls(&["--since=2026-11-23", "--until=2026-11-24"]).len(), 2);
    let cut = answer(&["--until", "2026-11-23 17:48"]);
    assert_eq!(cut["log"]["left_out"], 1, "{cut}");
    assert_eq!(cut["notes"][0]["text"], "left out by --since and --until: 1 record");
    let before = json(&run(&["--json", "--until", "2026-11-23 17:48", "explain", text(&log)]));
    assert_eq!(before, cut);
    assert_eq!(run(&["explain", text(&log), "--since", "soon"]).status.code(), Some(2));
}

#[test]
fn unreadable_store_is_reported_with_the_reason() {
    assert!(error(&["--state-dir", "/nonexistent"]).contains("/nonexistent is no directory"));
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("incidents.sqlite3"), [7; 8192]).unwrap();
    assert!(error(&["--state-dir", text(dir.path())]).contains("is damaged"));
    let dir = store(&[]);
    let newer = rusqlite::Connection::open(dir.path().join("incidents.sqlite3")).unwrap();
    newer.execute_batch("PRAGMA user_version = 99").unwrap();
    drop(newer);
    let said = error(&["--state-dir", text(dir.path()), "a"]);
    assert!(said.contains("has format 99") && said.contains("upgrade harden-why"), "{said}");
}

#[test]
fn log_is_explained_from_a_file_or_standard_input() {
    let mut child = harden_why(&["explain", "-v", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(format!("{RECORD}\n").as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(out(&output).contains("socket  the process was killed by SIGSYS, once"));
    assert!(out(&output).contains("Read 1 line: 1 SECCOMP record."));
    let empty = run(&["explain", "/dev/null"]);
    assert_eq!(
        (empty.status.code(), out(&empty).as_str()),
        (
            Some(0),
            "No denials in /dev/null.\nRead 0 lines: 0 SECCOMP records.\n\nThe kernel's log and the audit log have the denials \
             of a machine:\n  journalctl -k | harden-why explain -\n  harden-why explain /var/log/audit/audit.log\n"
        )
    );
}

#[test]
fn lines_of_strace_with_a_denial_are_not_counted_as_unrelated() {
    let log = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/strace/log");
    let answer = json(&run(&["--json", "explain", text(&log)]));
    assert_eq!((&answer["log"]["told"], &answer["log"]["unrelated"]), (&3.into(), &9.into()), "{}", answer["log"]);
}

#[test]
fn root_without_the_settings_says_why_instead_of_asking_for_a_root() {
    let dir = tempfile::tempdir().unwrap();
    let (log, units) = (dir.path().join("log"), dir.path().join("root/etc/systemd/system"));
    fs::create_dir_all(&units).unwrap();
    fs::write(units.join("b.service"), "[Service]\nExecStart=/usr/bin/b\n").unwrap();
    let root = dir.path().join("root");
    fs::write(&log, RECORD.replace("/usr/bin/a", "/tmp/x")).unwrap();
    let help = |more: &[&str]| {
        let output = run(&[&["explain", text(&log), "--root", text(&root)], more].concat());
        out(&output).split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let unknown = help(&[]);
    let why = format!(
        "the units below {} do not show for sure which one runs /tmp/x: add --assume-unit UNIT if you know it",
        text(&root)
    );
    assert!(unknown.contains(&format!("help: the log names no unit, and {why}")), "{unknown}");
    let missing = help(&["--assume-unit", "nope"]);
    let why =
        format!("help: nope.service has no files below {}: name the root that has them, or another unit", text(&root));
    assert!(missing.contains(&why), "{missing}");
    for answer in [unknown, missing] {
        assert!(!answer.contains("help: read the unit's settings"), "{answer}");
    }
}

#[test]
fn advice_without_a_daemon_fits_the_verb() {
    let start = "start it (systemctl start harden-whyd)";
    let prefix =
        format!("harden-why: harden-whyd does not answer on the {NO_BUS} bus (No such file or directory): {start}");
    for (words, ways) in [
        (&["nginx"][..], ", read a store with --state-dir DIR, or a log with 'harden-why explain FILE'"),
        (&["check", "nginx"], ", read a store with --state-dir DIR, or a log with --log FILE"),
        (&["apply", "nginx", "-y"], ", or name a store with --state-dir DIR"),
        (&["forget", "nginx"], ", or name a store with --state-dir DIR"),
        (&["follow"], ""),
    ] {
        let said = error(&[&["--bus", NO_BUS], words].concat());
        assert_eq!(said.replace("as root: ", ""), format!("{prefix}{ways}"), "{words:?}");
    }
}

#[test]
fn log_that_cannot_be_explained_is_reported_with_the_reason() {
    assert!(error(&["explain", "/nonexistent/log"]).contains("cannot read /nonexistent/log: No such file"));
    assert!(error(&["check", "--log", "/etc", "a"]).contains("/etc is a directory; name a log file"));
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    fs::write(&log, RECORD).unwrap();
    let log = text(&log);
    assert!(error(&["explain", "--root", "/nonexistent", log]).contains("--root /nonexistent is not a directory"));
    assert!(error(&["explain", "--unit", "a/b", log]).contains("a/b is not a unit name"));
    assert!(error(&["explain", "--groups", log, log]).contains("holds no group"));
    assert!(error(&["explain", "--groups", "/nonexistent", log]).contains("cannot read groups from /nonexistent"));
}

#[test]
fn binary_log_is_reported_with_advice() {
    let dir = tempfile::tempdir().unwrap();
    for (name, first, what) in [
        (
            "kern.log.1.gz",
            &b"\x1f\x8b\x08\0rest of it"[..],
            "is compressed by gzip; run: zcat FILE | harden-why explain -",
        ),
        ("kern.log.xz", b"\xfd7zXZ\0rest of it", "is compressed by xz; run: xzcat FILE | harden-why explain -"),
        (
            "kern.log.zst",
            b"\x28\xb5\x2f\xfdrest of it",
            "is compressed by zstd; run: zstdcat FILE | harden-why explain -",
        ),
        ("kern.log.bz2", b"BZh91AY&SYrest", "is compressed by bzip2; run: bzcat FILE | harden-why explain -"),
        (
            "system.journal",
            b"LPKSHHRHrest of it",
            "is a journal file; run: journalctl --file FILE -o export | harden-why explain -",
        ),
    ] {
        let log = dir.path().join(name);
        fs::write(&log, first).unwrap();
        let said = error(&["explain", text(&log)]);
        assert!(said.contains(&format!("{} {}", log.display(), what.replace("FILE", text(&log)))), "{said}");
        let mut child = harden_why(&["explain", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(first).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("standard input") && said.contains(what), "{said}");
    }
    let odd = dir.path().join("a;b \x1b.gz");
    fs::write(&odd, b"\x1f\x8b").unwrap();
    let said = error(&["explain", text(&odd)]);
    assert!(said.contains("zcat FILE |") && !said.contains('\x1b'), "{said}");
}

#[test]
fn death_without_a_record_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let exit = "Nov 23 17:47:44 web systemd[1]: a.service: Main process exited, code=killed, status=31/SYS\n";
    fs::write(&log, format!("{exit}{exit}")).unwrap();
    let short = out(&run(&["explain", text(&log)]));
    assert!(short.contains("a.service: process killed (SIGSYS), call unknown, 2 times, last "), "{short}");
    let output = run(&["explain", "-v", text(&log)]);
    assert_eq!(output.status.code(), Some(0));
    let said = out(&output).replace('\n', " ");
    assert!(said.contains("a.service") && said.contains("the log has no record of it, 2 times"), "{said}");
    assert!(said.contains("'dmesg', or audit.log"), "{said}");
    // Not in the second of the record, which is therefore of any unit.
    let exit = exit.replace("17:47:44", "17:57:54");
    fs::write(&log, format!("{RECORD}\n{exit}")).unwrap();
    let answer = json(&run(&["--json", "explain", text(&log)]));
    assert!(
        answer["notes"][0]["text"]
            .as_str()
            .unwrap()
            .contains("once; the log does not show which record of an unknown unit"),
        "{answer}"
    );
    let answer = json(&run(&["--json", "explain", "--assume-unit", "a", text(&log)]));
    assert_eq!(answer["notes"].as_array().map(Vec::len), Some(0), "{answer}");
}

#[test]
fn death_in_the_second_of_a_record_names_its_unit_as_a_guess() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let exit = |unit: &str, second: u32| {
        format!(
            "Nov 23 17:47:{second} web systemd[1]: {unit}.service: Main process exited, code=killed, status=31/SYS\n"
        )
    };
    let evidence_of = |text: &str| {
        fs::write(&log, text).unwrap();
        let answer = json(&run(&["--json", "explain", self::text(&log)]));
        let unit = &answer["units"][0];
        (
            unit["unit"].as_str().map(str::to_owned),
            unit["denials"][0]["attribution"]["evidence"].as_str().map(str::to_owned),
        )
    };
    let guess = (Some("a.service".to_owned()), Some("exit-entry".to_owned()));
    // The record tells the time in UTC; the other lines may be of any zone.
    assert_eq!(evidence_of(&format!("{RECORD}\n{}", exit("a", 44))), guess);
    assert_eq!(evidence_of(&format!("{}{RECORD}\n", exit("a", 44))), guess);
    let unknown = (None, None);
    assert_eq!(evidence_of(&format!("{RECORD}\n{}{}", exit("a", 44), exit("b", 44))), unknown, "two units");
    let second = RECORD.replace(":2)", ":3)").replace("pid=7", "pid=8");
    assert_eq!(evidence_of(&format!("{RECORD}\n{second}\n{}", exit("a", 44))), unknown, "two processes");
    assert_eq!(evidence_of(&format!("{RECORD}\n{}", exit("a", 49))), unknown, "later");
    // The status of the unit tells the pid.
    let status = "\u{d7} a.service - A\n   Main PID: 7 (code=killed, signal=SYS)\n";
    assert_eq!(
        evidence_of(&format!("{RECORD}\n{status}")),
        (Some("a.service".to_owned()), Some("main-process".to_owned()))
    );
}

#[test]
fn unit_file_as_log_tells_what_the_unit_denies() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("web.service");
    fs::write(&file, "# Web\n[Service]\nExecStart=/bin/web\nSystemCallFilter=~@mount \\\n @swap\nProtectClock=yes\n")
        .unwrap();
    let answer = json(&run(&["--json", "explain", text(&file)]));
    assert_eq!(answer["units"][0]["unit"], "web.service");
    let notes = answer["units"][0]["notes"].to_string();
    assert!(notes.contains("SystemCallFilter= at /etc/systemd/system/web.service:5"), "the continued line: {notes}");
    assert!(notes.contains("unit-refuses") && notes.contains("ProtectClock= at"), "{notes}");
    let mut child =
        harden_why(&["--json", "explain", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(b"[Service]\nSystemCallFilter=@basic-io\nSystemCallErrorNumber=EPERM\n")
        .unwrap();
    let answer = json(&child.wait_with_output().unwrap());
    let notes = answer["units"][0]["notes"].to_string();
    assert!(notes.contains("nothing in unnamed.service kills") && notes.contains(":2 with EPERM"), "{notes}");
}

#[test]
fn check_takes_denials_from_a_log() {
    let dir = tempfile::tempdir().unwrap();
    let (log, units) = (dir.path().join("log"), dir.path().join("root/etc/systemd/system"));
    fs::create_dir_all(&units).unwrap();
    fs::write(units.join("a.service"), "[Service]\nExecStart=/usr/bin/a\nSystemCallFilter=@basic-io\n").unwrap();
    fs::write(units.join("b.service"), "[Service]\nExecStart=/usr/bin/b\n").unwrap();
    fs::write(&log, RECORD).unwrap();
    let root = dir.path().join("root");
    let check = |more: &[&str]| {
        let arguments =
            [&["--json", "check", "a", "--exit-code", "--root", text(&root), "--log", text(&log)], more].concat();
        let output = run(&arguments);
        (output.status.code(), json(&output))
    };
    let (status, answer) = check(&[]);
    assert_eq!((status, &answer["calls"][0]["verdict"]), (Some(1), &serde_json::Value::from("denied")));
    let (status, answer) = check(&["--with", "SystemCallFilter=socket"]);
    assert_eq!((status, &answer["pass"]), (Some(0), &serde_json::Value::from(true)), "{answer}");
    let other = run(&["check", "b", "--root", text(&root), "--log", text(&log)]);
    assert_eq!(other.status.code(), Some(0), "the record is of a.service: {other:?}");
    assert!(out(&other).contains("has no denials of b.service, so there is nothing to check."), "{other:?}");
    let missing = run(&["check", "nope", "--root", text(&root), "--log", text(&log)]);
    assert_eq!(missing.status.code(), Some(4), "{missing:?}");
    let said = format!("harden-why: nope.service has no files below {}\n", text(&root));
    assert_eq!(String::from_utf8(missing.stderr).unwrap(), said);
    let listing = dir.path().join("groups");
    fs::write(
        &listing,
        "@default\n    exit\n@basic-io\n    read\n    socket\n@known\n    exit\n    read\n    socket\n",
    )
    .unwrap();
    let (status, answer) = check(&["--groups", text(&listing)]);
    assert_eq!(
        (status, &answer["pass"]),
        (Some(0), &true.into()),
        "the log's machine has socket in @basic-io: {answer}"
    );
    let without_log = run(&["check", "a", "--groups", text(&listing)]);
    assert_eq!(without_log.status.code(), Some(2), "{without_log:?}");
}

#[test]
fn check_without_settings_names_the_missing_root() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    fs::write(&log, RECORD).unwrap();
    assert_eq!(
        error(&["--bus", NO_BUS, "check", "no-such-unit", "--log", text(&log)]),
        "harden-why: cannot read the settings of no-such-unit.service: no files below /, and no service manager answers \
         (add --root DIR)"
    );
}

#[test]
fn invalid_with_line_names_each_fault_and_what_was_meant() {
    let dir = tempfile::tempdir().unwrap();
    let (log, units) = (dir.path().join("log"), dir.path().join("root/etc/systemd/system"));
    fs::create_dir_all(&units).unwrap();
    fs::write(units.join("a.service"), "[Service]\nExecStart=/usr/bin/a\nSystemCallFilter=@basic-io\n").unwrap();
    fs::write(&log, RECORD).unwrap();
    let root = dir.path().join("root");
    let refused = |lines: &[&str]| {
        let with = lines.iter().flat_map(|line| ["--with", line]);
        let arguments: Vec<&str> =
            ["check", "a", "--root", text(&root), "--log", text(&log)].into_iter().chain(with).collect();
        let said = error(&arguments);
        said.strip_prefix("harden-why: invalid --with ").unwrap_or_else(|| panic!("{said}")).to_owned()
    };
    assert_eq!(
        refused(&["SystemCallFilter=madvize @ipcc"]),
        "SystemCallFilter=madvize @ipcc: madvize is no call this systemd knows (did you mean madvise?); \
         @ipcc is no group this systemd knows (did you mean @ipc?)"
    );
    assert_eq!(
        refused(&["ProtectClock=maybe", "SystemCallFilter=read", "RestrictAddressFamilies=AF_INETT"]),
        "ProtectClock=maybe: maybe is neither yes nor no; RestrictAddressFamilies=AF_INETT: AF_INETT is no address family"
    );
    assert_eq!(
        refused(&["SytemCallFilter=read"]),
        "SytemCallFilter=read: check judges settings that decide on system calls; did you mean SystemCallFilter=?"
    );
    let valid = ["check", "a", "--root", text(&root), "--log", text(&log), "--with", "ProtectSystem=strict"];
    let unjudged = run(&valid);
    let said = String::from_utf8_lossy(&unjudged.stderr).into_owned();
    assert_eq!(unjudged.status.code(), Some(1), "the line is valid: {said}");
    assert!(said.contains("check cannot foresee what ProtectSystem= withholds from a.service"), "{said}");
}

#[test]
fn revert_without_a_manager_says_that_the_unit_is_unverified() {
    let reverted = run(&["--bus", NO_BUS, "revert", "no-such-unit", "-y"]);
    assert_eq!(reverted.status.code(), Some(0), "{reverted:?}");
    let said = out(&reverted);
    assert!(said.contains("Nothing to do: there is no drop-in of harden-why to remove."), "{said}");
    assert!(said.contains("no service manager answers, so it is unknown whether no-such-unit.service"), "{said}");
}

#[test]
fn root_without_the_unit_file_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let (log, drop_in) = (dir.path().join("log"), dir.path().join("root/etc/systemd/system/a.service.d"));
    fs::create_dir_all(&drop_in).unwrap();
    fs::write(drop_in.join("x.conf"), "[Service]\nSystemCallFilter=@basic-io\n").unwrap();
    fs::write(&log, RECORD).unwrap();
    let root = dir.path().join("root");
    let said = out(&run(&["explain", "--assume-unit", "a", "--root", text(&root), text(&log)])).replace('\n', " ");
    assert!(said.contains("drop-ins of a.service but no unit file"), "{said}");
}

#[test]
fn record_that_journalctl_prints_twice_counts_once() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let (stamp, fields) = RECORD.strip_prefix("type=SECCOMP msg=").unwrap().split_once(": ").unwrap();
    let kernel = format!("Nov 23 17:47:44 web kernel: audit: type=1326 {stamp}: {fields}\n");
    let pid = fields.split_once(" pid=").unwrap().1.split_once(' ').unwrap().0;
    let audit = format!("Nov 23 17:47:44 web audit[{pid}]: SECCOMP {fields}\n");
    for both in [format!("{kernel}{audit}"), format!("{audit}{kernel}")] {
        fs::write(&log, both).unwrap();
        let output = harden_why(&["explain", "-v", text(&log)]).env("TZ", "UTC").output().unwrap();
        let said = out(&output);
        assert!(said.contains("killed by SIGSYS, once"), "{said}");
        assert!(said.contains("when   2026-11-23 17:47:44\n"), "one moment, one spelling: {said}");
        assert!(said.contains("Read 2 lines: 1 SECCOMP record; skipped 1 repeated."), "{said}");
    }
}

#[test]
fn call_of_a_login_session_is_attributed_to_no_unit() {
    let dir = tempfile::tempdir().unwrap();
    let (log, units) = (dir.path().join("log"), dir.path().join("root/etc/systemd/system"));
    fs::create_dir_all(&units).unwrap();
    let man = "[Service]\nExecStart=+/usr/bin/install -d -o man -g man -m 0755 /var/cache/man\nExecStart=/usr/bin/mandb\nUser=6\n";
    fs::write(units.join("man-db.service"), man).unwrap();
    let root = dir.path().join("root");
    let unit_of = |exe: &str, ids: &str| {
        let record = format!(
            "type=SECCOMP msg=audit(1795456064.827:2): {ids} pid=7 comm=\"x\" exe=\"{exe}\" sig=31 arch=c000003e \
             syscall=41 compat=0 ip=0x7 code=0x80000000\n"
        );
        fs::write(&log, record).unwrap();
        let answer = json(&run(&["--json", "explain", "--root", text(&root), text(&log)]));
        answer["units"][0]["unit"].as_str().map(str::to_owned)
    };
    let service = "auid=4294967295 uid=6 gid=12 ses=4294967295";
    assert_eq!(unit_of("/usr/bin/mandb", service).as_deref(), Some("man-db.service"));
    assert_eq!(unit_of("/usr/bin/mandb", "auid=1000 uid=6 gid=12 ses=3"), None, "somebody had logged in");
    assert_eq!(unit_of("/usr/bin/mandb", &service.replace("uid=6", "uid=33")), None, "another user");
    assert_eq!(unit_of("/usr/bin/man", service), None, "it is data");
}

#[test]
fn unit_of_a_log_can_be_assumed() {
    let dir = tempfile::tempdir().unwrap();
    let (log, units) = (dir.path().join("log"), dir.path().join("root/etc/systemd/system"));
    fs::create_dir_all(&units).unwrap();
    fs::write(units.join("b.service"), "[Service]\nExecStart=/usr/bin/b\nSystemCallFilter=@basic-io\n").unwrap();
    fs::write(&log, RECORD).unwrap();
    let root = dir.path().join("root");
    let answer = json(&run(&["--json", "explain", "--assume-unit", "b", "--root", text(&root), text(&log)]));
    let unit = &answer["units"][0];
    assert_eq!(unit["unit"], "b.service");
    assert_eq!(unit["denials"][0]["attribution"]["evidence"], "given");
    assert_eq!(unit["denials"][0]["cause"]["directives"][0]["file"], "/etc/systemd/system/b.service");
    assert_eq!(unit["denials"][0]["cause"]["directives"][0]["line"], 3);
    assert_eq!(unit["remedies"][0]["content"], "[Service]\nSystemCallFilter=socket\n");
    let answer = run(&["explain", "--assume-unit", "c", "--root", text(&root), text(&log)]);
    assert!(out(&answer).contains("c.service has no files below"), "{answer:?}");
}

#[test]
fn unit_option_filters_records_and_counts_those_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let (log, units) = (dir.path().join("log"), dir.path().join("root/etc/systemd/system"));
    fs::create_dir_all(&units).unwrap();
    for name in ["web-a", "web-b", "db"] {
        let file = format!("[Service]\nExecStart=/usr/bin/{name}\nSystemCallFilter=@basic-io\n");
        fs::write(units.join(format!("{name}.service")), file).unwrap();
    }
    let records: Vec<String> = [("web-a", 41), ("web-b", 42), ("db", 43), ("other", 44)]
        .iter()
        .map(|(program, call)| {
            format!(
                "type=SECCOMP msg=audit(1795456064.827:{call}): auid=4294967295 uid=0 gid=0 ses=4294967295 pid={call} \
                 comm=\"x\" exe=\"/usr/bin/{program}\" sig=31 arch=c000003e syscall={call} compat=0 ip=0x7 \
                 code=0x80000000\n"
            )
        })
        .collect();
    fs::write(&log, records.concat()).unwrap();
    let root = dir.path().join("root");
    let answer = |options: &[&str]| {
        let arguments = [&["--json", "explain"], options, &["--root", text(&root), text(&log)]].concat();
        json(&run(&arguments))
    };
    let names = |answer: &serde_json::Value| -> Vec<String> {
        let units = answer["units"].as_array().unwrap();
        let mut names: Vec<String> = units.iter().map(|unit| unit["unit"].as_str().unwrap_or("-").to_owned()).collect();
        names.sort();
        names
    };
    let db = answer(&["--unit", "db"]);
    assert_eq!((names(&db), &db["log"]["left_out"]), (vec!["db.service".to_owned()], &serde_json::Value::from(3)));
    assert_eq!(db["units"][0]["remedies"][0]["content"], "[Service]\nSystemCallFilter=accept\n", "what others needed");
    let said = db["notes"][0]["text"].as_str().unwrap();
    assert!(said.contains("1 record of web-a.service") && said.contains("1 record of unknown units"), "{said}");
    assert_eq!(names(&answer(&["--unit", "web-*"])), ["web-a.service", "web-b.service"]);
    assert_eq!(names(&answer(&["--unit", "db", "--unit", "web-b"])), ["db.service", "web-b.service"]);
    let none = run(&["explain", "--unit", "nginx", "--root", text(&root), text(&log)]);
    assert_eq!(none.status.code(), Some(0));
    let said = out(&none).replace('\n', " ");
    assert!(said.starts_with("note: the log has no record of nginx.service"), "{said}");
    assert!(said.contains("--assume-unit UNIT"), "{said}");
    // The assumption concerns the records that nothing else places, and says which programs are not the unit's own.
    let assumed = answer(&["--assume-unit", "db"]);
    let said = assumed["units"][0]["notes"].to_string();
    assert!(said.contains("assumption-contradicted") && said.contains("/usr/bin/other"), "{assumed}");
    assert!(!said.contains("/usr/bin/db as its own"), "{said}");
}

#[test]
fn programs_of_unknown_units_never_share_a_line() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let other = RECORD.replace(":2)", ":3)").replace("syscall=41", "syscall=42").replace("exe=\"", "exe=\"/opt");
    fs::write(&log, format!("{RECORD}\n{other}\n")).unwrap();
    let answer = json(&run(&["--json", "explain", text(&log)]));
    let programs = answer["units"][0]["unproven"]["programs"].as_array().unwrap();
    let lines: Vec<&str> = programs.iter().map(|program| program["lines"][0].as_str().unwrap()).collect();
    assert_eq!(lines.len(), 2, "{answer}");
    assert!(lines.contains(&"SystemCallFilter=socket") && lines.contains(&"SystemCallFilter=connect"), "{lines:?}");
}

#[test]
fn escape_sequences_in_a_drop_in_do_not_reach_the_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let (log, units) = (dir.path().join("log"), dir.path().join("root/etc/systemd/system"));
    fs::create_dir_all(units.join("a.service.d")).unwrap();
    fs::write(units.join("a.service"), "[Service]\nExecStart=/usr/bin/a\nSystemCallFilter=@basic-io\n").unwrap();
    let ours = "[Service]\nSystemCallFilter=so\x1b[31mcket2 connect\nSystemCallFilter=\x1b]0;x\x07 bind\n";
    fs::write(units.join("a.service.d/zz-harden-why.conf"), ours).unwrap();
    fs::write(&log, RECORD).unwrap();
    let root = dir.path().join("root");
    let shown = out(&run(&["--color", "always", "explain", "--root", text(&root), text(&log)]));
    assert!(shown.contains("connect") && shown.contains("bind") && shown.contains("socket"), "{shown}");
    // The only escape sequences are our own colours.
    for (at, _) in shown.match_indices('\x1b') {
        let code = shown[at..].strip_prefix("\x1b[").and_then(|rest| rest.split_once('m')).map(|(code, _)| code);
        assert!(code.is_some_and(|code| code.bytes().all(|byte| byte.is_ascii_digit())), "{:?}", &shown[at..at + 20]);
    }
    assert!(!shown.contains('\x07') && !shown.contains("\x1b[31mcket2"), "{shown}");
}

#[test]
fn check_with_an_unknown_verdict_does_not_pass() {
    let dir = store(&[incident(Some((Manager::System, "a.service")), 9999, 1_795_456_064_000)]);
    let root = tempfile::tempdir().unwrap();
    let units = root.path().join("etc/systemd/system");
    fs::create_dir_all(&units).unwrap();
    fs::write(units.join("a.service"), "[Service]\nExecStart=/usr/bin/a\n").unwrap();
    let (state, root) = (text(dir.path()), text(root.path()));
    let checked = run(&["--state-dir", state, "check", "a", "--root", root, "--exit-code"]);
    assert_eq!(checked.status.code(), Some(1), "{checked:?}");
    assert!(out(&checked).contains("unknown call 9999 is unknown"), "{checked:?}");
}

#[test]
fn call_is_looked_up_by_name_and_number() {
    let socket = json(&run(&["--json", "syscall", "socket", "--arch", "x86_64"]));
    assert_eq!((&socket["name"], &socket["numbers"][0]["number"]), (&"socket".into(), &41.into()));
    let groups: Vec<&str> =
        socket["groups"].as_array().unwrap().iter().map(|group| group["name"].as_str().unwrap()).collect();
    assert_eq!(groups, ["@network-io", "@system-service"]);
    assert_eq!(json(&run(&["--json", "syscall", "41", "--arch", "i386"]))["name"], "dup");
    assert_eq!(json(&run(&["--json", "syscall", "1073741865", "--arch", "x86_64"]))["numbers"][0]["arch"], "x32");
    assert_eq!(json(&run(&["--json", "syscall", "0x3b", "--arch", "x86_64"]))["name"], "execve");
    assert!(error(&["syscall", "no\x1bsuch"]).contains("no\\x1bsuch is not a known system call"));
    assert!(
        error(&["syscall", "41", "--arch", "pdp11"]).contains("pdp11 is not a known architecture; these are: x86_64")
    );
    assert!(
        error(&["syscall", "open", "--arch", "aarch64"])
            .contains("aarch64 has no call open: programs there make openat")
    );
    let other = error(&["syscall", "mmap2", "--arch", "x86_64"]);
    assert!(other.contains("x86_64 has no call mmap2"), "{other}");
}

#[test]
fn unknown_call_is_an_error_with_what_was_meant() {
    for (word, message) in [
        ("99999", "harden-why: x86_64 has no call 99999\n"),
        ("-1", "harden-why: x86_64 has no call -1\n"),
        ("0x1869f", "harden-why: x86_64 has no call 99999\n"),
        ("opennat", "harden-why: opennat is not a known system call; did you mean openat?\n"),
        ("OPENAT", "harden-why: OPENAT is not a known system call; did you mean openat?\n"),
        ("@network-oi", "harden-why: @network-oi is not a known group of system calls; did you mean @network-io?\n"),
        (
            "@network-io",
            "harden-why: @network-io is a group of system calls; this lists it: systemd-analyze syscall-filter @network-io\n",
        ),
    ] {
        let output = run(&["syscall", word]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), out(&output).as_str()), (Some(1), ""), "{word}: {said}");
        assert!(said.ends_with(message), "{word}: {said}");
    }
}

#[test]
fn reader_that_closes_the_pipe_is_no_error() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    // Enough different denials to fill any pipe.
    let lines: String =
        (0..2_000).map(|number| RECORD.replace("/usr/bin/a", &format!("/usr/bin/{number}")) + "\n").collect();
    fs::write(&log, lines).unwrap();
    let mut child = harden_why(&["explain", text(&log)]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

/// Returns whether this process can receive the kernel's records, or else why not.
fn find_listening_obstacle() -> Option<String> {
    harden_why::intake::netlink::AuditSocket::open().err().map(|error| error.to_string())
}

#[test]
fn demo_shows_a_call_that_the_kernel_denied() {
    if let Some(why) = find_listening_obstacle() {
        return skip(&why);
    }
    let demo = json(&run(&["--json", "demo"]));
    assert_eq!(demo["demo"]["source"], "kernel");
    let denial = &demo["units"][0]["denials"][0];
    assert_eq!((&denial["call"], &denial["action"]), (&"socket".into(), &"kill_process".into()));
    assert_eq!(denial["cause"]["directives"][0]["line"], 4);
    assert_eq!(demo["units"][0]["remedies"][0]["content"], "[Service]\nSystemCallFilter=socket\n");
    let shown = out(&run(&["demo"]));
    assert!(shown.starts_with("Live: ") && shown.contains("SystemCallFilter=socket"), "{shown}");
}

#[test]
fn demo_without_rights_shows_the_built_in_case() {
    // This user may not listen.
    let binary = tempfile::tempdir_in("/tmp").unwrap();
    fs::set_permissions(binary.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut command = support::nobody::harden_why(binary.path());
    let output = command.args(["--json", "demo"]).env("TZ", "UTC").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let demo = json(&output);
    assert_eq!(demo["demo"]["source"], "bundled");
    let words = demo["demo"]["words"].as_str().unwrap();
    assert_eq!(words, "A recorded denial: 'sudo harden-why demo' shows a live one.");
    assert_eq!(demo["units"][0]["unit"], "remote-ssh-agent.service");
    assert_eq!(demo["units"][0]["manager"], "user:4294967295");
    let remedies: Vec<&str> =
        demo["units"][0]["remedies"].as_array().unwrap().iter().map(|r| r["content"].as_str().unwrap()).collect();
    assert_eq!(remedies[0], "[Service]\nSystemCallFilter=socket\n");
    assert!(remedies.contains(&"[Service]\nSystemCallFilter=@network-io\n"), "{remedies:?}");
}

#[test]
fn text_fits_the_width_of_the_terminal() {
    let dir = store(&[incident(Some((Manager::System, "not-here-a.service")), 41, 1_795_456_064_000)]);
    let program = env!("CARGO_BIN_EXE_harden-why");
    // The widest line of more than one word.
    let widest = |columns: u16| {
        let command = format!(
            "stty rows 24 cols {columns}; {program} --no-pager --bus {NO_BUS} --state-dir {} not-here-a",
            text(dir.path())
        );
        let mut script = Command::new("script");
        script.args(["-q", "-c", &command, "/dev/null"]).env("NO_COLOR", "1").stdin(Stdio::null());
        let shown = out(&script.output().unwrap());
        assert!(shown.contains("SIGSYS"), "{shown}");
        let lines = shown.lines().filter(|line| line.split_whitespace().count() > 1);
        lines.map(|line| line.trim_end().chars().count()).max().unwrap()
    };
    let widths = [1, 55, 70, 500].map(widest);
    assert!(widths[0] <= 55 && widths[1] <= 55 && (56..=70).contains(&widths[2]), "{widths:?}");
    assert!((81..=100).contains(&widths[3]), "{widths:?}");
}

#[test]
fn progress_shows_on_a_terminal_while_a_long_log_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("log");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    // script(1) gives its command a terminal and copies its output.
    let command = format!("{} explain {}", env!("CARGO_BIN_EXE_harden-why"), fifo.display());
    let reading = Command::new("script")
        .args(["-q", "-c", &command, "/dev/null"])
        .env("TERM", "xterm")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = fs::OpenOptions::new().write(true).open(&fifo).unwrap();
    let block = "a line of some other log\n".repeat(50_000);
    for _ in 0..6 {
        log.write_all(block.as_bytes()).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(150));
    }
    drop(log);
    let output = reading.wait_with_output().unwrap();
    let seen = String::from_utf8_lossy(&output.stdout);
    assert!(seen.contains("MiB/s"), "{seen:?}");
    assert!(seen.contains("300000 lines"), "{seen:?}");
}
