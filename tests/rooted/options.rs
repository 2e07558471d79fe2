//! Options that people know from systemctl and journalctl.

use harden_why::audit::Action;
use harden_why::incidents::{Denial, Incident, IncidentEvent, IncidentKey, Moment, Sample, SightingSource};
use harden_why::syscalls::{Arch, Call};
use harden_why::units::{Manager, Rung, Unit};
use std::process::{Command, Stdio};

const LOG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/options.log");

/// What harden-why prints: exit status, stdout and stderr.
fn run(arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_harden-why"));
    let output = command.args(arguments).stdin(Stdio::null()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// A denial of a unit of the system.
fn incident(name: &str) -> Incident {
    let event = IncidentEvent::Denial(Denial { call: Call::numbered(Arch::X86_64, 41), action: Action::KillProcess });
    let unit = Some(Unit { manager: Manager::System, name: name.parse().unwrap() });
    Incident {
        rung: Some(Rung::OwnCgroup),
        key: IncidentKey { unit, event, exe: b"/usr/bin/a".to_vec(), source: SightingSource::Audit },
        count: 1,
        first: Moment::At(1_795_456_064_000),
        last: Moment::At(1_795_456_064_000),
        sample: Sample { pid: 7, comm: b"a".to_vec(), uid: "0".into(), ..Sample::default() },
    }
}

fn store() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    harden_why::incidents::Store::open(dir.path()).unwrap();
    dir
}

#[test]
fn json_is_laid_out_as_the_options_say() {
    let call = |options: &[&str]| run(&[options, &["syscall", "socket"]].concat()).1;
    for options in [&["--json"][..], &["--json=pretty"], &["-o", "json-pretty"]] {
        assert!(call(options).starts_with("{\n  \"schema\": 1"), "{options:?}");
    }
    for options in [&["--json=short"][..], &["-o", "json"], &["-ojson"]] {
        let text = call(options);
        assert!(text.starts_with("{\"schema\":1") && text.lines().count() == 1, "{options:?}: {text}");
    }
    assert_eq!(call(&["-o", "short"]), call(&[]));
    assert_eq!(run(&["-o", "json", "--json", "syscall", "socket"]).0, 2);
}

#[test]
fn units_of_u_and_limits_of_time_are_taken() {
    let store = store();
    let state = ["--bus", "unix:path=/nonexistent/bus", "--state-dir", store.path().to_str().unwrap()];
    let with_state = |more: &[&str]| run(&[&state[..], more].concat());
    assert_eq!(with_state(&["-u", "nosuchq"]), with_state(&["nosuchq"]));
    assert_eq!(with_state(&["--unit=nosuchq"]).0, 4);
    for options in [&["-b"][..], &["--boot"], &["--since", "14:50"], &["--since", "-1h"], &["--since=1h 30min ago"]] {
        assert_eq!(with_state(options).0, 0, "{options:?}");
    }
    assert!(run(&["--boot", "status"]).2.contains("'--boot' does not go with the command 'status'"));
    assert!(run(&["follow", "--bus", "unix:path=/nonexistent", "-u", "a b"]).2.contains("a b is not a unit name"));
    assert_eq!(run(&["explain", "-u", "a", LOG]).0, 1, "the option is known, the file is not");
}

#[test]
fn list_without_legend_has_rows_alone() {
    let store = store();
    let state = ["--bus", "unix:path=/nonexistent/bus", "--state-dir", store.path().to_str().unwrap()];
    let with_state = |more: &[&str]| run(&[&state[..], more].concat());
    let (status, text, error) = with_state(&["--no-legend"]);
    assert!(status == 0 && text.is_empty() && error.contains("cannot find the units of the system manager"), "{error}");
    assert_eq!(with_state(&["--no-legend", "--json"]), with_state(&["--json"]));
    for arguments in [&["--no-legend", "a"][..], &["--no-legend", "-u", "a"], &["--no-legend", "--unknown"]] {
        assert_eq!(with_state(arguments).0, 2, "{arguments:?}");
    }
    assert!(run(&["--no-legend", "status"]).2.contains("'--no-legend' does not go with the command 'status'"));
}

#[test]
fn all_looks_up_every_unit_and_the_list_says_how_many_it_did_not() {
    let store = tempfile::tempdir().unwrap();
    let incidents: Vec<Incident> = (0..300).map(|number| incident(&format!("unit-{number}.service"))).collect();
    harden_why::incidents::Store::open(store.path()).unwrap().record(&incidents).unwrap();
    let state = ["--bus", "unix:path=/nonexistent/bus", "--state-dir", store.path().to_str().unwrap()];
    let with_state = |more: &[&str]| run(&[&state[..], more].concat()).1;
    let said = "the state of the 44 units with the oldest denials was not looked up: 'harden-why --all' does";
    let unwrapped = |page: String| page.replace('\n', " ");
    assert!(unwrapped(with_state(&[])).contains(said) && !unwrapped(with_state(&["--all"])).contains("looked up"));
    // Fewer rows are no reason to leave it out.
    assert!(unwrapped(with_state(&["-n", "2"])).contains(said));
    assert!(
        with_state(&["--json"]).contains("\"units-not-examined\"")
            && !with_state(&["--json", "--all"]).contains("not-examined")
    );
}

#[test]
fn quiet_keeps_notes_and_progress_off_stderr_and_leaves_answers_and_errors() {
    let store = store();
    let state = ["--bus", "unix:path=/nonexistent/bus", "--state-dir", store.path().to_str().unwrap()];
    let with_state = |more: &[&str]| run(&[&state[..], more].concat());
    assert!(with_state(&["--no-legend"]).2.contains("cannot find the units"));
    for option in ["-q", "--quiet"] {
        assert_eq!(with_state(&["--no-legend", option]).2, "");
        assert_eq!(with_state(&[option]), with_state(&[]));
    }
    assert!(run(&["-q", "syscall", "nosuchcall"]).2.contains("nosuchcall"));
}

#[test]
fn lines_are_positive_and_go_with_follow_as_well() {
    let store = store();
    let state = ["--bus", "unix:path=/nonexistent/bus", "--state-dir", store.path().to_str().unwrap()];
    assert_eq!(run(&[&state[..], &["-n", "1"]].concat()).0, 0);
    assert_eq!(run(&[&state[..], &["-n", "0"]].concat()).0, 2);
    assert!(run(&["-n", "1", "status"]).2.contains("'--lines' does not go with the command 'status'"));
    // It gets as far as the bus.
    assert!(run(&["--bus", "unix:path=/nonexistent", "-n", "1", "follow", "a b"]).2.contains("a b is not a unit name"));
}

#[test]
fn habit_of_other_tools_leads_to_what_works_here() {
    for (arguments, expected) in [
        (&["-f"][..], "'harden-why follow' shows denials as they happen"),
        (&["-H", "web1"], "run it there: ssh HOST harden-why"),
        (&["-M", "box"], "run it there: systemd-run --pipe -M MACHINE harden-why"),
        (&["rehears", "--for", "30", "a"], "did you mean the command 'rehearse'?"),
    ] {
        let (status, _, error) = run(arguments);
        assert!(status == 2 && error.contains(expected) && !error.contains("'-- "), "{arguments:?}: {error}");
    }
    let (status, _, error) = run(&["-Z"]);
    assert!(status == 2 && !error.contains("as a value"), "{error}");
}

#[test]
fn help_is_in_groups_and_short_help_fits_the_screen() {
    let (status, short, _) = run(&["-h"]);
    assert!(status == 0 && short.lines().count() <= 24, "{short}");
    for group in ["Look", "Fix", "Silent", "Offline", "Other"] {
        assert!(short.lines().any(|line| line.starts_with(group)), "{group}: {short}");
    }
    assert!(run(&["--help"]).1.contains("Examples:"));
    assert!(run(&["apply", "--help"]).1.contains("Example:\n  harden-why apply --restart nginx"));
}

#[test]
fn completions_are_those_of_the_packages() {
    for (shell, part) in
        [("bash", "_harden_why_and_units"), ("zsh", "_harden_why_units"), ("fish", "__harden_why_units")]
    {
        let (status, text, _) = run(&["completions", shell]);
        assert!(status == 0 && text.contains(part) && !text.contains("@list@"), "{shell}");
    }
    // Only these are offered.
    assert!(run(&["completions", "--help"]).1.contains("bash, zsh or fish"));
    assert_eq!(run(&["completions", "elvish"]).0, 2);
}
