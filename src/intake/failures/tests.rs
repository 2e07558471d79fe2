use super::*;

fn read(lines: &str) -> LoggedFailures {
    let mut reader = FailureReader::default();
    reader.read_lines(lines.as_bytes());
    reader.finish()
}

/// Returns the units that failed, each with its status, result and steps, and the sources of attempts with how many.
fn told(found: &LoggedFailures) -> (Vec<String>, Vec<String>) {
    let unit = |(unit, LoggedFailure { failure, .. }): (&Unit, &LoggedFailure)| {
        let steps: Vec<&str> = failure.steps.iter().map(|step| &*step.tried).collect();
        let status = failure.status.unwrap_or_default();
        format!(
            "{} {} {status} {} {}",
            unit.manager,
            unit.name,
            failure.result.as_deref().unwrap_or("-"),
            steps.join(",")
        )
    };
    let source =
        |(source, attempts): (&AttemptSource, &VecDeque<LoggedAttempt>)| format!("{source:?} {}", attempts.len());
    (found.units.iter().map(unit).collect(), found.attempts.iter().map(source).collect())
}

const FAILED: &str = "Nov 23 22:01:02 web (web)[7]: web.service: Failed to set up mount namespacing: /run/systemd/unit-root/srv: No such file or directory
Nov 23 22:01:02 web (web)[7]: web.service: Failed at step NAMESPACE spawning /usr/bin/web: No such file or directory
Nov 23 22:01:02 web systemd[1]: web.service: Main process exited, code=exited, status=226/NAMESPACE
Nov 23 22:01:02 web systemd[1]: web.service: Failed with result 'exit-code'.
";

#[test]
fn lines_of_one_failure_are_joined() {
    let expected = "system web.service 226 exit-code set up mount namespacing,NAMESPACE";
    assert_eq!(told(&read(FAILED)).0, [expected]);
    let of_user = FAILED.replace("systemd[1]", "systemd[812]");
    assert_eq!(told(&read(&of_user)).0, [expected.replace("system ", "user:4294967295 ")]);
}

#[test]
fn status_of_a_unit_is_that_of_its_heading() {
    let text = "\u{d7} a.service - A\n     Loaded: loaded (/etc/systemd/system/a.service; static)\n     Active: failed (Result: exit-code) since x; 35s ago\n   Main PID: 10395 (code=exited, status=217/USER)\n";
    assert_eq!(told(&read(text)).0, ["system a.service 217 exit-code "]);
    let far = text.replace("     Active", &format!("{}     Active", "other\n".repeat(50)));
    assert_eq!(told(&read(&far)).0, [""; 0]);
}

#[test]
fn attempts_are_kept_by_who_logged_them() {
    let text = "Nov 23 22:01:02 web app[9]: open /srv/x: read-only file system
Nov 23 22:01:02 web app[9]: open /srv/x: read-only file system
Nov 23 22:01:02 web kernel: x: /srv/y: Permission denied
Nov 23 22:01:02 web systemd[1]: /etc/x: Permission denied
2026/11/23 22:01:02 [emerg] 7#7: open() \"/run/n.pid\" failed (30: Read-only file system)
type=SYSCALL msg=audit(1.002:77): arch=c000003e syscall=90 success=no exit=-1 pid=7 comm=\"x\" exe=\"/usr/bin/x\"
type=SERVICE_STOP msg=audit(1.002:78): pid=1 uid=0 auid=1 ses=1 msg='unit=x comm=\"systemd\" exe=\"/usr/lib/systemd/systemd\" hostname=? addr=? terminal=? res=failed'
";
    let (units, sources) = told(&read(text));
    assert_eq!(units, ["system x.service 0 - "]);
    assert_eq!(
        sources,
        ["Tag(\"app\") 1", "Executable([47, 117, 115, 114, 47, 98, 105, 110, 47, 120]) 1", "Untagged 1"]
    );
}

#[test]
fn attempt_far_from_the_failure_is_not_near() {
    let attempt = "Nov 23 22:01:02 web web[7]: open /srv/x: read-only file system\n";
    let is_near = |text: &str| {
        let found = read(text);
        let failed = found.units.values().next().unwrap();
        failed.is_near(&found.attempts.values().next().unwrap()[0])
    };
    assert!(is_near(&format!("{attempt}{FAILED}")) && is_near(&format!("{FAILED}{attempt}")));
    let other = "other\n".repeat(250);
    assert!(!is_near(&format!("{attempt}{other}{FAILED}")) && !is_near(&format!("{FAILED}{other}{attempt}")));
}

#[test]
fn attempt_before_the_latest_start_is_of_an_earlier_run() {
    let attempt = "Nov 23 22:01:02 web web[7]: open /srv/x: read-only file system\n";
    let start = "Nov 23 22:01:02 web systemd[1]: Started web.service - Web.\n";
    let other = "other\n".repeat(5);
    let is_of_last = |text: &str| {
        let found = read(text);
        let failed = found.units.values().next().unwrap();
        failed.is_of_last_run(found.attempts.values().next().unwrap()[0].line)
    };
    assert!(is_of_last(&format!("{attempt}{other}{FAILED}")), "no start is known");
    assert!(is_of_last(&format!("{start}{attempt}{FAILED}")));
    assert!(is_of_last(&format!("{attempt}{start}{FAILED}")), "logged right before the report of the start");
    assert!(!is_of_last(&format!("{attempt}{other}{start}{FAILED}")));
    assert!(!is_of_last(&format!("{attempt}{FAILED}{start}{FAILED}")), "the run before failed as well");
    assert!(!is_of_last(&format!("{start}{FAILED}{start}{attempt}")), "a run after the failure");
    let starting = start.replace("Started", "Starting");
    assert!(is_of_last(&format!("{starting}{attempt}{other}{start}{FAILED}")), "one start has two reports");
    let event = |words: &str| format!("Nov 23 22:01:02 web systemd[1]: web.service: {words}.\n");
    let (scheduled, refused) = (event("Scheduled restart job"), event("Start request repeated too quickly"));
    assert!(!is_of_last(&format!("{attempt}{other}{scheduled}{FAILED}")), "a restart");
    assert!(is_of_last(&format!("{start}{attempt}{FAILED}{scheduled}{refused}{FAILED}")), "no restart");
    let of_user = start.replace("systemd[1]", "systemd[812]");
    assert!(is_of_last(&format!("{attempt}{other}{of_user}{FAILED}")), "another manager's unit");
}

#[test]
fn end_and_steps_of_an_earlier_run_count_no_more() {
    let start = "Nov 23 22:01:02 web systemd[1]: Started web.service - Web.\n";
    let exit = "Nov 23 22:01:02 web systemd[1]: web.service: Main process exited, code=exited, status=1/FAILURE\n";
    let other = "other\n".repeat(5);
    let (step, end) = FAILED.split_at(FAILED.find("Nov 23 22:01:02 web systemd").unwrap());
    let last = |text: &str| told(&read(text)).0;
    assert_eq!(last(&format!("{FAILED}{other}{start}{exit}")), ["system web.service 1 - "]);
    let own = "system web.service 226 exit-code set up mount namespacing,NAMESPACE";
    assert_eq!(last(&format!("{FAILED}{other}{step}{start}{end}")), [own], "logged before the report of the start");
}

#[test]
fn restart_in_a_journal_begins_a_run() {
    let mut reader = FailureReader::default();
    let manager = EntryWriter::Manager(Manager::System);
    let unit = Unit { manager: Manager::System, name: "web.service".parse().unwrap() };
    let end = b"web.service: Failed with result 'exit-code'.";
    reader.read_message(end, manager);
    reader.read_message(b"web.service: Scheduled restart job, restart counter is at 1.", manager);
    reader.read_message(b"/srv/x: Read-only file system", EntryWriter::Process(&unit));
    reader.read_message(end, manager);
    let found = reader.finish();
    assert_eq!(found.units[&unit].starts, [2]);
}

#[test]
fn traceback_of_one_unit_tells_nothing_about_another() {
    let unit = |name: &str| Unit { manager: Manager::System, name: name.parse().unwrap() };
    let (a, b) = (unit("a.service"), unit("b.service"));
    let mut reader = FailureReader::default();
    for line in [TRACEBACK, "  File \"/a.py\", line 2, in <module>", "    os.chown('x', 1, 1)"] {
        reader.read_message(line.as_bytes(), EntryWriter::Process(&a));
    }
    for unit in [&b, &a] {
        reader.read_message(b"PermissionError: [Errno 1] Operation not permitted", EntryWriter::Process(unit));
    }
    let found = reader.finish();
    let call = |unit: &Unit| found.attempts[&AttemptSource::Unit(unit.clone())][0].attempt.call;
    assert_eq!((call(&a), call(&b)), (Some("chown"), None));
}

#[test]
fn entry_of_a_process_tells_only_about_its_own_unit() {
    let own = Unit { manager: Manager::System, name: "web.service".parse().unwrap() };
    let mut reader = FailureReader::default();
    let other = b"db.service: Failed at step EXEC spawning /x: Permission denied";
    reader.read_message(other, EntryWriter::Process(&own));
    reader.read_message(
        b"web.service: Main process exited, code=exited, status=226/NAMESPACE",
        EntryWriter::Process(&own),
    );
    assert_eq!(reader.found, LoggedFailures::default());
    reader.read_message(b"web.service: Failed at step EXEC spawning /x: Permission denied", EntryWriter::Process(&own));
    reader.read_message(
        b"web.service: Main process exited, code=exited, status=203/EXEC",
        EntryWriter::Manager(Manager::System),
    );
    assert_eq!(told(&reader.finish()).0, ["system web.service 203 - EXEC"]);
}

#[test]
fn flood_of_units_and_sources_is_bounded() {
    let of_unit = |n: u32| {
        format!(
            "Nov 23 22:01:02 web systemd[1]: u{n}.service: Main process exited, code=exited, status=1/FAILURE\n\
             Nov 23 22:01:02 web t{n}[7]: open /srv/{n}: read-only file system\n\
             Nov 23 22:01:02 web one[7]: open /srv/{n}: read-only file system\n"
        )
    };
    let lines = (0..2000).map(of_unit).collect::<Vec<_>>().concat();
    let found = read(&lines);
    assert_eq!((found.units.len(), found.attempts.len()), (MOST_UNITS, MOST_SOURCES));
    assert!(found.attempts.values().all(|attempts| attempts.len() <= MOST_OF_SOURCE));
}
