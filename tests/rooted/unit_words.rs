//! What people type for a unit, as seen at the terminal.

use harden_why::audit::Action;
use harden_why::incidents::{Denial, Incident, IncidentEvent, IncidentKey, Moment, Sample, SightingSource, Store};
use harden_why::syscalls::{Arch, Call};
use harden_why::units::{Manager, Rung, Unit};
use std::fs;
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// What harden-why prints about a store: exit status, stdout and stderr, each with its lines joined.
fn run(store: &TempDir, arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_harden-why"));
    command.args(["--bus", "unix:path=/nonexistent/bus", "--state-dir"]).arg(store.path()).args(arguments);
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn store(units: &[&str]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let incident = |name: &&str| Incident {
        rung: Some(Rung::OwnCgroup),
        key: IncidentKey {
            unit: Some(Unit { manager: Manager::System, name: name.parse().unwrap() }),
            event: IncidentEvent::Denial(Denial {
                call: Call::numbered(Arch::X86_64, 41),
                action: Action::KillProcess,
            }),
            exe: b"/usr/bin/a".to_vec(),
            source: SightingSource::Audit,
        },
        count: 1,
        first: Moment::At(1_795_456_064_000),
        last: Moment::At(1_795_456_064_000),
        sample: Sample { pid: 7, comm: b"a".to_vec(), uid: "0".into(), ..Sample::default() },
    };
    Store::open(dir.path()).unwrap().record(&units.iter().map(incident).collect::<Vec<_>>()).unwrap();
    dir
}

#[test]
fn pattern_stands_for_all_units_with_denials_that_match() {
    let store = store(&["webq-a.service", "webq-b.service", "dbq.service"]);
    let (status, page, _) = run(&store, &["webq*"]);
    assert!(status == 0 && page.contains("webq-a.service") && page.contains("webq-b.service"), "{page}");
    assert!(!page.contains("dbq.service"), "{page}");
    let (status, _, error) = run(&store, &["nosuchq*"]);
    assert_eq!((status, error.as_str()), (4, "harden-why: Units nosuchq*.service not found."));
}

#[test]
fn check_answers_for_each_unit_and_the_worst_status_wins() {
    let store = store(&["webq-a.service", "webq-b.service"]);
    let root = tempfile::tempdir().unwrap();
    let units = root.path().join("etc/systemd/system");
    fs::create_dir_all(&units).unwrap();
    fs::write(units.join("webq-a.service"), "[Service]\nExecStart=/usr/bin/a\nSystemCallFilter=~socket\n").unwrap();
    fs::write(units.join("webq-b.service"), "[Service]\nExecStart=/usr/bin/a\n").unwrap();
    let check = |units: &[&str]| {
        let root = ["--root", root.path().to_str().unwrap(), "--exit-code"];
        run(&store, &[&["check"], units, &root].concat())
    };
    let (status, page, error) = check(&["webq*"]);
    assert_eq!((status, error.as_str()), (1, ""));
    assert!(page.contains("webq-a.service") && page.contains("webq-b.service"), "{page}");
    assert_eq!(check(&["webq-b"]).0, 0);
    let (status, page, error) = check(&["webq-a", "nosuchq", "webq-b"]);
    assert_eq!((status, error.as_str()), (4, "harden-why: Unit nosuchq.service not found."));
    assert!(page.contains("webq-a.service") && page.contains("webq-b.service"), "{page}");
}

#[test]
fn typing_error_leads_to_what_was_meant() {
    let store = store(&["webapp.service"]);
    for (word, expected) in [
        ("webap", "Unit webap.service not found. Did you mean webapp.service?"),
        ("folow", "Unit folow.service not found. Did you mean the command 'follow'?"),
        ("webapp.tiemr", "Unit webapp.tiemr not found. Did you mean webapp.timer?"),
        ("webapp.servcie", "Unit webapp.servcie not found. Did you mean webapp.service?"),
    ] {
        let (status, page, error) = run(&store, &[word]);
        assert!(status == 4 && (page + &error).contains(expected), "{word}: {error}");
    }
    let (status, _, error) = run(&store, &["check", "webap"]);
    assert_eq!((status, error.as_str()), (4, "harden-why: Unit webap.service not found. Did you mean webapp.service?"));
    // A unit of the name of a misspelt verb wins.
    let (status, page, _) = run(&self::store(&["folow.service"]), &["folow"]);
    assert!(status == 0 && page.contains("folow.service") && !page.contains("Did you mean"), "{page}");
}

#[test]
fn process_and_path_without_a_unit_are_reported() {
    let store = store(&[]);
    let (status, _, error) = run(&store, &["4194305"]);
    assert_eq!((status, error.as_str()), (4, "harden-why: Process 4194305 not found. If it died, name its unit."));
    let (status, _, error) = run(&store, &["/dev/null"]);
    assert_eq!((status, error.as_str()), (4, "harden-why: Unit that runs /dev/null not found."));
    let (status, _, error) = run(&store, &["./nosuch"]);
    assert_eq!((status, error.as_str()), (4, "harden-why: File ./nosuch not found."));
}

#[test]
fn file_below_no_directory_of_units_is_a_usage_error_of_each_verb() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pathq.service");
    fs::write(&file, "[Service]\nExecStart=/usr/bin/a\n").unwrap();
    let store = store(&["pathq.service"]);
    let expect = |(status, page, error): (i32, String, String), verb: &str| {
        let expected = format!("{} is below no directory of units", file.display());
        assert!(status == 2 && page.is_empty() && error.contains(&expected), "{verb}: {status} {page}{error}");
    };
    let path = file.to_str().unwrap();
    expect(run(&store, &[path]), "the answer");
    for verb in ["apply", "check", "forget"] {
        let yes = (verb == "apply").then_some("--yes");
        expect(run(&store, &[verb, path].into_iter().chain(yes).collect::<Vec<_>>()), verb);
    }
    let needs_root = [["tap", "--for=1s"], ["log-refusals", "--yes"]];
    let is_root = nix::unistd::geteuid().is_root();
    for [verb, option] in [["revert", "--yes"], ["rehearse", "--dry-run"], ["bisect", "--dry-run"]]
        .into_iter()
        .chain(needs_root.into_iter().filter(|_| is_root))
    {
        let mut command = Command::new(env!("CARGO_BIN_EXE_harden-why"));
        command.args(["--bus", "unix:path=/nonexistent/bus", verb, option, path]);
        let output = command.stdin(Stdio::null()).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        expect((output.status.code().unwrap(), text(output.stdout), text(output.stderr)), verb);
    }
}
