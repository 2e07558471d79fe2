//! Golden screens of the verbs: each directory of `tests/data/screens` is a case.
//!
//! `UPDATE=1 cargo test --test rooted screens` rewrites the expected screens. Read the difference before you commit it.

use crate::support::nobody;
use crate::support::screen;
use harden_why::audit::Action;
use harden_why::incidents::{
    Access, AccessDenial, Denial, Incident, IncidentEvent, IncidentKey, Moment, Sample, SightingSource, Store,
};
use harden_why::syscalls::{Arch, Call};
use harden_why::units::{Manager, Rung, Unit};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

/// A bus that does not exist.
const NO_BUS: &str = "unix:path=/nonexistent/bus";

/// Variables that would change what the program prints.
const VARIABLES: [&str; 8] =
    ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "PAGER", "SYSTEMD_PAGER", "LINES", "LANG", "RUST_LOG"];

fn cases() -> Vec<PathBuf> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/screens");
    let mut cases: Vec<PathBuf> = fs::read_dir(data)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|directory| directory.join("args").exists())
        .collect();
    cases.sort();
    cases
}

/// Returns the incidents of a `store.json`. Its times are ages in seconds.
fn incidents(json: &str) -> Vec<Incident> {
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap();
    let rows: Vec<serde_json::Value> = serde_json::from_str(json).unwrap();
    rows.iter()
        .map(|row| {
            let text = |key: &str| row[key].as_str().unwrap_or_default();
            let unit = row["unit"].as_str().map(|name| Unit {
                manager: row["uid"].as_u64().map_or(Manager::System, |uid| Manager::User(uid.try_into().unwrap())),
                name: name.parse().unwrap(),
            });
            let number = row["number"].as_u64().unwrap().try_into().unwrap();
            let action = |word: &str| match word {
                "errno" => Action::Errno,
                "log" => Action::Log,
                "kill_process" => Action::KillProcess,
                other => panic!("{other}"),
            };
            let call = Call::numbered(Arch::X86_64, number);
            let errno = row["errno"].as_i64().map(|errno| i32::try_from(errno).unwrap());
            let event = match (row["access"].as_str(), errno) {
                (Some(kind), Some(errno)) => {
                    let access = Access::from_parts(kind, text("path").as_bytes(), text("detail")).unwrap();
                    IncidentEvent::Access(AccessDenial { call, errno, access })
                }
                _ => IncidentEvent::Denial(Denial { call, action: action(text("action")) }),
            };
            let ago = |key: &str| Moment::At(now - row[key].as_i64().unwrap() * 1_000);
            Incident {
                rung: unit.as_ref().map(|_| Rung::OwnCgroup),
                key: IncidentKey {
                    unit,
                    event,
                    exe: text("exe").into(),
                    source: errno.map_or(SightingSource::Audit, |errno| SightingSource::Tap { errno }),
                },
                count: row["count"].as_u64().unwrap(),
                first: ago("first"),
                last: ago("last"),
                sample: Sample {
                    pid: row["pid"].as_u64().unwrap().try_into().unwrap(),
                    comm: text("comm").into(),
                    uid: "0".into(),
                    ..Sample::default()
                },
            }
        })
        .collect()
}

/// Returns the store of a case, if it has one.
fn store(case: &Path) -> Option<tempfile::TempDir> {
    let directory = case.join("store.json").exists().then(|| {
        let builder = &mut tempfile::Builder::new();
        builder.prefix("screen-").rand_bytes(6).tempdir().unwrap()
    })?;
    fill(directory.path(), case);
    Some(directory)
}

/// Writes the store of a case, in place of what is there.
fn fill(directory: &Path, case: &Path) {
    for file in fs::read_dir(directory).unwrap() {
        fs::remove_file(file.unwrap().path()).unwrap();
    }
    let json = fs::read_to_string(case.join("store.json")).unwrap();
    Store::open(directory).unwrap().record(&incidents(&json)).unwrap();
    // A caller without root has to read it.
    Command::new("chmod").args(["-R", "a+rX"]).arg(directory).status().unwrap();
}

/// Returns what the command of each case prints with `--json`, one value for each line, with the case's name.
pub(crate) fn json_of_cases() -> Vec<(String, serde_json::Value)> {
    let mut all = Vec::new();
    for case in cases() {
        let store = store(&case);
        let mut command = Command::new(env!("CARGO_BIN_EXE_harden-why"));
        command.current_dir(&case).stdin(Stdio::null()).args(["--bus", NO_BUS]);
        command.args(store.iter().flat_map(|store| ["--state-dir", store.path().to_str().unwrap()]));
        command.args(fs::read_to_string(case.join("args")).unwrap().lines()).arg("--json=short");
        let out = String::from_utf8(command.output().unwrap().stdout).unwrap();
        let values = out.lines().filter_map(|line| serde_json::from_str(line).ok());
        all.extend(values.map(|value| (case.display().to_string(), value)));
    }
    all
}

/// Returns what is wrong with a case.
fn check(case: &Path) -> Vec<String> {
    let arguments = fs::read_to_string(case.join("args")).unwrap();
    let arguments: Vec<&str> = arguments.lines().collect();
    let store = store(case);
    // A case with this file is seen by a user whose permissions count.
    let copy = case.join("as-nobody").exists().then(|| {
        let directory = tempfile::tempdir().unwrap();
        Command::new("chmod").arg("a+rx").arg(directory.path()).status().unwrap();
        directory
    });
    let shown = arguments.join(" ");
    let command = || {
        let mut command = match &copy {
            Some(directory) => nobody::harden_why(directory.path()),
            None => Command::new(env!("CARGO_BIN_EXE_harden-why")),
        };
        command.current_dir(case).env("TZ", "UTC").stdin(Stdio::null());
        for variable in VARIABLES {
            command.env_remove(variable);
        }
        command.args(["--bus", NO_BUS]);
        if let Some(store) = &store {
            // The command before may have changed it.
            fill(store.path(), case);
            command.arg("--state-dir").arg(store.path());
        }
        command.args(&arguments);
        command
    };
    let mask = |mut text: String| {
        // A command that is repeated has the test's own options.
        for own in [&*format!(" --bus {NO_BUS}"), " --color never", " --color always"] {
            text = text.replace(own, "");
        }
        match &store {
            // Its times depend on the present.
            Some(store) => screen::mask_times(&text.replace(store.path().to_str().unwrap(), "/tmp/screen-000000")),
            None => text,
        }
    };
    screen::check(case, &shown, command, mask)
}

#[test]
fn screen_of_every_verb_is_as_expected_at_every_width() {
    let cases = cases();
    assert!(cases.len() >= 6, "{cases:?}");
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let halves = cases.chunks(cases.len().div_ceil(2));
        let check = |half: &'_ [PathBuf]| -> Vec<String> { half.iter().flat_map(|case| check(case)).collect() };
        let threads: Vec<_> = halves.map(|half| scope.spawn(move || check(half))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn line_of_prose_wider_than_the_terminal_is_found() {
    let wide = |line: &str| screen::wide_lines(&format!("$ harden-why x\n{line}\n"), 40).count();
    assert_eq!(wide("forty columns are enough for a sentence that ends"), 1);
    assert_eq!(wide("  why    SystemCallFilter= in a longer sentence than fits"), 1);
    for unbroken in [
        "  harden-why apply --restart some-long-unit.service",
        " --> /etc/systemd/system/some.service.d/50-hardening.conf:6",
        "6 | SystemCallFilter=~@network-io @mount @privileged",
        "  + SystemCallFilter=socket connect bind listen accept",
        "         /etc/systemd/system/some.service.d/50-hardening.conf",
    ] {
        assert_eq!(wide(unbroken), 0, "{unbroken}");
    }
}
