//! Compares the daemon's attributions with the truth, for real processes under a real systemd.
//!
//! Ten units at once violate their filters in each case. Each has an executable with a name of its own, so an incident
//! shows whether its unit is right. Each unit violates 30 times by default;
//! `HARDEN_WHY_FULL=1 cargo test --test attribution each_kind -- --nocapture` makes it 500 times, 5,000 a case. Both
//! print the table. With PID 1 as the manager (see `support::manager`), in an emulated machine, each unit violates
//! 20 times.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests are tests")]

mod support {
    pub(crate) mod actor;
    pub(crate) mod listener;
    #[expect(dead_code, reason = "other tests ask more of it")]
    pub(crate) mod manager;
    pub(crate) mod program;
    #[expect(dead_code, reason = "other programs need more of it")]
    pub(crate) mod skip;
}

use harden_why::units::Manager;
use nix::sys::signal::Signal;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::sync::RwLock;
use std::time::{Duration, Instant};
use support::actor::{ROLE, TIMES};
use support::listener::{Daemon, PATIENCE, WITHOUT_NOTES, program};
use support::manager::TestManager;

/// How many units play a case at a time.
const UNITS: u32 = 10;

/// What the units' filters answer.
const KILL: &str = "SystemCallFilter=~acct";
const LOG: &str = "SystemCallLog=acct";

/// How many violations of 100 must be attributed where evidence can be gone before it is read, however busy the machine is.
/// `benches/README.md` has the share of an idle one. An emulated machine can also stamp a record earlier than its process
/// started, which leaves the record without a unit.
const LEAST_SHARE: u64 = 90;

/// A way to violate a filter.
struct Case {
    name: &'static str,
    /// The actor's role. Empty where each start of the unit is one violation.
    role: &'static str,
    /// The settings of its units.
    settings: &'static str,
}

const fn case(name: &'static str, role: &'static str, settings: &'static str) -> Case {
    Case { name, role, settings }
}

const CASES: [Case; 9] = [
    case("child", "child", KILL),
    case("child-dumps-core", "child", "SystemCallFilter=~acct\nLimitCORE=infinity"),
    case("ignored-child", "ignored-child", KILL),
    case("child-of-the-dying", "child-of-the-dying", KILL),
    case("orphan", "orphan", KILL),
    case("lives-on", "lives-on", LOG),
    case("lives-on-errno", "lives-on-errno", ""),
    // Denied without being killed, and the process ends at once.
    case("lives-a-moment", "child", LOG),
    // The main process and a control process, once for each start.
    case("main", "self", KILL),
];

/// The outcome of a case.
struct Row {
    case: &'static str,
    wanted: u64,
    right: u64,
    unknown: u64,
    wrong: u64,
    rungs: BTreeSet<String>,
}

impl Row {
    /// Whether every violation is accounted for, and none has a wrong unit.
    fn is_complete(&self) -> bool {
        self.wrong == 0 && self.right + self.unknown == self.wanted
    }

    /// Whether enough violations have their unit as well: all of those whose process lives on.
    fn is_good(&self) -> bool {
        let least = if self.case.starts_with("lives-on") { 100 } else { LEAST_SHARE };
        self.is_complete() && self.right * 100 >= self.wanted * least
    }
}

/// A test that needs the exit notes for itself holds it: they cover the whole machine and keep the latest only.
static NOTES: RwLock<()> = RwLock::new(());

#[test]
fn violation_of_each_kind_is_attributed_to_its_unit() {
    let _beside_others = NOTES.read();
    let Some(manager) = TestManager::start() else { return };
    let times = match std::env::var_os("HARDEN_WHY_FULL") {
        Some(_) => 500,
        None if manager.is_pid1() => 20,
        None => 30,
    };
    for case in &CASES {
        write_units(&manager, case, times);
    }
    manager.reload();
    let Some(daemon) = Daemon::start(&manager) else { return };
    let mut rows = Vec::new();
    for case in &CASES {
        let began = Instant::now();
        play(&manager, case, times);
        let took = began.elapsed();
        for (name, prefix) in names(case) {
            rows.push(outcome(&daemon, name, prefix, u64::from(UNITS * times)));
        }
        println!("{}: {:.1} s", case.name, took.as_secs_f64());
    }
    println!("{}", table(&rows));
    drop(daemon);
    for row in &rows {
        assert!(
            row.is_good(),
            "{}: {} of {}, {} unknown, {} wrong",
            row.case,
            row.right,
            row.wanted,
            row.unknown,
            row.wrong
        );
    }
}

#[test]
fn late_daemon_attributes_by_what_is_left() {
    let _alone = NOTES.write();
    let Some(manager) = TestManager::start() else { return };
    let late: Vec<&Case> =
        CASES.iter().filter(|case| ["orphan", "child-of-the-dying", "main"].contains(&case.name)).collect();
    for case in &late {
        write_units(&manager, case, 10);
    }
    manager.reload();
    let Some(daemon) = Daemon::start(&manager) else { return };
    daemon.signal(Signal::SIGSTOP);
    for case in &late {
        play(&manager, case, 10);
    }
    // The units have ended and their cgroups are gone.
    manager.systemctl(&["reset-failed"]);
    let slice = manager.cgroup().join("system.slice");
    let deadline = Instant::now() + PATIENCE;
    let ours = |name: &str| late.iter().any(|case| name.starts_with(case.name)) && name.ends_with(".service");
    while fs::read_dir(&slice)
        .is_ok_and(|entries| entries.flatten().any(|entry| entry.file_name().to_str().is_some_and(ours)))
    {
        assert!(Instant::now() < deadline, "{slice:?} does not empty");
        std::thread::sleep(Duration::from_millis(20));
    }
    daemon.signal(Signal::SIGCONT);
    let rows: Vec<Row> = late
        .iter()
        .flat_map(|case| names(case))
        .map(|(name, prefix)| outcome(&daemon, name, prefix, u64::from(UNITS * 10)))
        .collect();
    println!("{}", table(&rows));
    assert!(rows.iter().all(Row::is_good));
    assert!(rows.iter().all(|row| row.rungs.iter().eq(["exit-cgroup"])), "nothing else can know");
}

#[test]
fn daemon_with_fewer_sources_attributes_fewer_and_none_wrongly() {
    let _beside_others = NOTES.read();
    let Some(manager) = TestManager::start() else { return };
    for case in &CASES {
        write_units(&manager, case, 10);
    }
    manager.reload();
    let Some(daemon) = Daemon::start_under(&manager, &WITHOUT_NOTES) else { return };
    for case in &CASES {
        play(&manager, case, 10);
    }
    let rows: Vec<Row> = CASES
        .iter()
        .flat_map(|case| names(case))
        .map(|(name, prefix)| outcome(&daemon, name, prefix, u64::from(UNITS * 10)))
        .collect();
    println!("{}", table(&rows));
    assert!(rows.iter().all(Row::is_complete), "nothing is wrong or lost: {}", daemon.log());
    let right = |name| rows.iter().find(|row| row.case == name).unwrap().right;
    assert_eq!([right("lives-on"), right("lives-on-errno")], [u64::from(UNITS * 10); 2]);
    assert!(rows.iter().all(|row| !row.rungs.contains("exit-cgroup")));
    assert!(daemon.log().contains("CAP_BPF"), "what is missing is said: {}", daemon.log());
}

/// The name of a case, and the start of its executables' names.
fn names(case: &Case) -> Vec<(&'static str, &'static str)> {
    match case.name {
        "main" => vec![("main", "main"), ("control", "pre")],
        name => vec![(name, name)],
    }
}

fn write_units(manager: &TestManager, case: &Case, times: u32) {
    let actor = manager.base().join("actor");
    if !actor.exists() {
        support::program::copy(std::env::current_exe().unwrap(), &actor);
    }
    for number in 0..UNITS {
        for (_, prefix) in names(case) {
            fs::hard_link(&actor, program(manager, prefix, number)).unwrap();
        }
    }
    let base = manager.base().display();
    let start = format!("{base}/{}-%i", case.name);
    let pre = if case.name == "main" { format!("ExecStartPre=-{base}/pre-%i\n") } else { String::new() };
    let text = format!(
        "[Unit]\nStartLimitIntervalSec=0\n[Service]\nType=oneshot\nSlice=system.slice\n{pre}ExecStart={start}\n\
         WorkingDirectory={base}\nLimitCORE=0\nEnvironment={}={} {}={times}\n{}\n",
        ROLE.to_str().unwrap(),
        case.role,
        TIMES.to_str().unwrap(),
        case.settings,
    );
    manager.write(&format!("{}@.service", case.name), &text);
}

/// Runs the units of a case.
fn play(manager: &TestManager, case: &Case, times: u32) {
    let units: Vec<String> = (0..UNITS).map(|number| format!("{}@{number}.service", case.name)).collect();
    let start: Vec<&str> = std::iter::once("start").chain(units.iter().map(String::as_str)).collect();
    for _ in 0..if case.role == "self" { times } else { 1 } {
        manager.systemctl(&start);
    }
}

fn table(rows: &[Row]) -> String {
    let mut text =
        String::from("| case | violations | right unit | unknown | wrong | found by |\n|---|---|---|---|---|---|\n");
    for row in rows {
        #[expect(clippy::cast_precision_loss, reason = "thousands")]
        let percent = 100.0 * row.right as f64 / row.wanted as f64;
        let rungs: Vec<&str> = row.rungs.iter().map(String::as_str).collect();
        let (case, wanted, unknown, wrong) = (row.case, row.wanted, row.unknown, row.wrong);
        writeln!(text, "| {case} | {wanted} | {percent:.2} % | {unknown} | {wrong} | {} |", rungs.join(", ")).unwrap();
    }
    text
}

/// Waits until all violations of executables with this name are accounted for.
fn outcome(daemon: &Daemon, case: &'static str, prefix: &str, wanted: u64) -> Row {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (right, unknown, wrong) = (0, 0, 0);
        let mut row = Row { case, wanted, right, unknown, wrong, rungs: BTreeSet::new() };
        for incident in daemon.incidents() {
            let Some((_, number)) = daemon.number(&incident.key.exe).filter(|(name, _)| *name == prefix) else {
                continue;
            };
            let unit = format!("{}@{number}.service", if prefix == "pre" { "main" } else { prefix });
            row.rungs.extend(incident.rung.map(|rung| rung.to_string()));
            match incident.key.unit {
                None => row.unknown += incident.count,
                Some(found) if found.manager == Manager::System && found.name.as_str() == unit => {
                    row.right += incident.count;
                }
                Some(_) => row.wrong += incident.count,
            }
        }
        if row.right + row.unknown + row.wrong >= wanted || Instant::now() > deadline {
            return row;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
