//! What a storm of denials costs, compared with a bare receive loop in the same run: `cargo bench --bench storm`, or
//! parts of it: `cargo bench --bench storm -- one many first keys`.
//!
//! Real units under a real systemd make calls that `SystemCallLog=` lists, so that the kernel writes a record for
//! each and the process lives on. First a bare loop receives them, on a socket with the same settings, then the real
//! harden-whyd. The figures are processor time for each record, and their ratio. Every count is checked.
//! During the storm another unit makes first violations, again and again. That measures the time from the record at
//! a bare listener to the alert at the journal's socket, including the query to systemd for the directive.
//! Denials that never repeat show how much memory the daemon takes.
//!
//! Both listeners get the share of the processors that the unit file gives harden-whyd, since most of the load is 50
//! processes that only violate.
#![expect(clippy::unwrap_used, clippy::print_stdout, clippy::panic, reason = "a benchmark")]
#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "of figures for people to read"
)]

#[path = "../tests/support"]
mod support {
    #[expect(dead_code, reason = "tests ask more of it")]
    pub(crate) mod daemon;
    #[expect(dead_code, reason = "tests ask more of it")]
    pub(crate) mod manager;
    #[expect(dead_code, reason = "tests ask more of it")]
    pub(crate) mod skip;
}

use harden_why::audit::{Action, CallField, parse_record};
use harden_why::intake::netlink::{AuditMessage, AuditSocket, ReceiveError};
use harden_why::kernel::procfs::status_value;
use harden_why::kernel::seccomp::{ALLOW, SeccompFilter, return_value};
use harden_why::syscalls::{Abi, Arch, Groups};
use netlink_sys::protocols::NETLINK_AUDIT;
use netlink_sys::{Socket, SocketAddr};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeValLike as _;
use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use support::daemon::Daemon;
use support::manager::TestManager;

/// A unit runs this program with it: how many calls to make.
const CALLS: &str = "HARDEN_WHY_BENCH_CALLS";
/// Makes it the bare loop, until it has received so many records.
const BARE: &str = "HARDEN_WHY_BENCH_BARE";
/// Makes it call so many different numbers, from [`NO_CALL`] on.
const DIFFERENT: &str = "HARDEN_WHY_BENCH_DIFFERENT";
/// Makes it call each of [`refused`] once, which the unit's filter refuses, after a wait of so many
/// milliseconds each.
const REFUSED: &str = "HARDEN_WHY_BENCH_REFUSED";

/// Puts a listener into a group of its own for the scheduler, as the cgroup of a service does; see [`favour`].
const ALONE: [&str; 4] = ["setsid", "nice", "-n", NICE];
/// The `Nice=` of harden-whyd.service.
const NICE: &str = "-10";
/// No call has this number or a greater one.
const NO_CALL: u32 = 1_000_000;

const RECORDS: u64 = 1_000_000;
const ROUNDS: usize = 3;
const FIRSTS: usize = 100;
/// At most as many at once as get an alert each.
const BETWEEN: Duration = Duration::from_millis(600);
const TOLD_WITHIN: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_mins(2);

fn main() {
    if let Some(calls) = number(CALLS) {
        return violate(calls);
    }
    if let Some(records) = number(BARE) {
        return listen_barely(records);
    }
    if let Some(calls) = number(DIFFERENT) {
        return violate_differently(calls);
    }
    if let Some(millis) = number(REFUSED) {
        return be_refused(Duration::from_millis(millis));
    }
    // `cargo test --benches` only checks that it starts.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let parts: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let wanted = |part: &str| parts.is_empty() || parts.iter().any(|wanted| wanted == part);
    let Some(manager) = TestManager::start() else { return };
    if wanted("one") {
        storm(&manager, "one process", 1, 1);
    }
    if wanted("many") {
        storm(&manager, "50 processes in 10 units", 10, 5);
    }
    if wanted("first") {
        first_sightings(&manager);
    }
    if wanted("keys") {
        different_denials(&manager, "short paths", &manager.base().join("keys"));
        let deep = (0..15).fold(manager.base().to_owned(), |path, _| path.join("d".repeat(250)));
        different_denials(&manager, "paths of 3.8 KiB", &deep);
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn violate(calls: u64) {
    for _ in 0..calls {
        // SAFETY: it takes no argument.
        unsafe { libc::syscall(libc::SYS_getppid) };
    }
}

/// Makes calls that a filter of its own lets the kernel log, each once.
fn violate_differently(calls: u64) {
    SeccompFilter::new(Arch::native(), &[], return_value(Action::Log, 0)).load(true).unwrap();
    for number in 0..i64::try_from(calls).unwrap() {
        // SAFETY: no call has such a number.
        unsafe { libc::syscall(i64::from(NO_CALL) + number) };
    }
}

/// Calls that no program here needs, by name and number.
fn refused() -> Vec<(Box<str>, u32)> {
    const OF: [&str; 14] = [
        "@aio",
        "@clock",
        "@cpu-emulation",
        "@debug",
        "@ipc",
        "@keyring",
        "@module",
        "@mount",
        "@obsolete",
        "@pkey",
        "@privileged",
        "@sync",
        "@swap",
        "@timer",
    ];
    let groups = Groups::embedded();
    let names: BTreeSet<&Box<str>> = OF.iter().filter_map(|name| groups.calls(name)).flatten().collect();
    // Its output goes through a pipe.
    let needless = names.into_iter().filter(|name| !name.starts_with("pipe"));
    let numbered = needless.filter_map(|name| Some((name.clone(), Abi::native().call_number(name)?)));
    numbered.take(FIRSTS).collect()
}

/// Makes each of them once. The unit's filter refuses them without a record, so a second filter does the same and
/// makes the kernel write it.
fn be_refused(pause: Duration) {
    let refused = refused();
    let rules: Vec<_> =
        refused.iter().map(|(_, number)| (*number, return_value(Action::Errno, libc::EPERM as u16))).collect();
    SeccompFilter::new(Arch::native(), &rules, ALLOW).load(true).unwrap();
    for (_, number) in refused {
        std::thread::sleep(pause);
        // SAFETY: the filter refuses it.
        unsafe { libc::syscall(i64::from(number)) };
    }
}

/// Receives and does nothing else, on a socket with the daemon's settings. Prints its processor time.
fn listen_barely(records: u64) {
    let mut socket = Socket::new(NETLINK_AUDIT).unwrap();
    setsockopt(&socket, sockopt::RcvBufForce, &(64 << 20)).unwrap();
    socket.bind(&SocketAddr::new(0, 0)).unwrap();
    socket.add_membership(1).unwrap();
    println!("ready");
    let mut buffer = [0_u8; 12 << 10];
    let mut heard = 0;
    while heard < records {
        let length = socket.recv(&mut &mut buffer[..], 0).unwrap();
        heard += u64::from(length > 16 && buffer[4..6] == 1326_u16.to_ne_bytes());
    }
    println!("{}", own_time().as_nanos());
}

fn own_time() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Duration::from_micros(u64::try_from(micros).unwrap())
}

/// The processor time of another process so far, in the kernel's 10 ms ticks.
fn time_of(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

/// Writes units with `processes` processes each that make calls; returns their names and executables.
fn write_units(manager: &TestManager, tag: &str, units: u64, processes: u64) -> Vec<String> {
    let me = std::env::current_exe().unwrap();
    let calls = RECORDS / units / processes;
    let mut names = Vec::new();
    for number in 0..units {
        let program = manager.base().join(format!("{tag}-{number}"));
        fs::hard_link(&me, &program).or_else(|_| fs::copy(&me, &program).map(drop)).unwrap();
        let script = format!("for i in $(seq {processes}); do {} & done; wait", program.display());
        let name = format!("{tag}-{number}.service");
        let text = format!(
            "[Service]\nType=oneshot\nSlice=system.slice\nExecStart=/bin/sh -c '{script}'\nSystemCallLog=getppid\n\
             Environment={CALLS}={calls}\n"
        );
        manager.write(&name, &text.replace("$(seq", "$$(seq"));
        names.push(name);
    }
    manager.reload();
    names
}

fn start(manager: &TestManager, names: &[String]) -> Duration {
    let began = Instant::now();
    let words: Vec<&str> = ["start"].into_iter().chain(names.iter().map(String::as_str)).collect();
    let output = manager.systemctl(&words);
    assert!(output.status.success(), "{output:?}");
    began.elapsed()
}

fn storm(manager: &TestManager, what: &str, units: u64, processes: u64) {
    let tag = format!("storm{units}");
    let names = write_units(manager, &tag, units, processes);
    let (mut bare, mut daemon, mut rate) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        bare.push(barely(manager, &names));
        let (time, took) = received_by_daemon(manager, &names, &format!("state-{tag}-{round}"));
        daemon.push(time);
        rate.push(RECORDS as f64 / took.as_secs_f64());
    }
    let ratios: Vec<f64> = bare.iter().zip(&daemon).map(|(bare, daemon)| daemon / bare).collect();
    println!(
        "{what}: bare {:.0} ns, daemon {:.0} ns a record, {:.2} times, at {:.0} records/s, none lost",
        median(&bare),
        median(&daemon),
        median(&ratios),
        median(&rate)
    );
}

fn start_daemon(manager: &TestManager, dir: &std::path::Path) -> Daemon {
    let command = manager.command(&[&ALONE[..], &[env!("CARGO_BIN_EXE_harden-whyd")]].concat());
    let daemon = Daemon::start(command, &manager.bus(), dir);
    favour(daemon.pid());
    daemon
}

/// Gives a listener's group the weight that `CPUWeight=1000` of harden-whyd.service gives its cgroup (ten times that of
/// others; `sched(7)`, the autogroup feature). Where the kernel makes no such groups, the niceness does it.
fn favour(pid: u32) {
    _ = fs::write(format!("/proc/{pid}/autogroup"), NICE);
}

/// Nanoseconds for each record of the bare loop.
fn barely(manager: &TestManager, names: &[String]) -> f64 {
    use std::io::{BufRead as _, BufReader};
    let mut child = Command::new(ALONE[0])
        .args(&ALONE[1..])
        .arg(std::env::current_exe().unwrap())
        .env(BARE, RECORDS.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "ready");
    favour(child.id());
    start(manager, names);
    let nanos: f64 = lines.next().unwrap().unwrap().parse().unwrap();
    child.wait().unwrap();
    nanos / RECORDS as f64
}

/// Nanoseconds for each record of the real daemon, and how long the storm took; checks its counts.
fn received_by_daemon(manager: &TestManager, names: &[String], dir: &str) -> (f64, Duration) {
    let daemon = start_daemon(manager, &manager.base().join(dir));
    let before = time_of(daemon.pid());
    let took = start(manager, names);
    let per_unit = RECORDS / names.len() as u64;
    let own = format!("{}/", manager.base().display());
    let deadline = Instant::now() + PATIENCE;
    loop {
        let counts: HashMap<String, u64> = daemon
            .stored()
            .into_iter()
            // The shell makes the call as well.
            .filter(|incident| incident.key.exe.starts_with(own.as_bytes()))
            .filter_map(|incident| Some((incident.key.unit?.name.to_string(), incident.count)))
            .collect();
        if names.iter().all(|name| counts.get(name) == Some(&per_unit)) {
            break;
        }
        assert!(Instant::now() < deadline, "not every record was counted: {counts:?}\n{}", daemon.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    let time = time_of(daemon.pid()).checked_sub(before).unwrap();
    assert!(!daemon.log().contains("overran"), "nothing was lost");
    daemon.stop();
    (time.as_nanos() as f64 / RECORDS as f64, took)
}

/// The time in a storm from a bare listener's record to the alert of a first sighting, after its commit.
fn first_sightings(manager: &TestManager) {
    let names = write_units(manager, "noise", 1, 1);
    let program = manager.base().join("firsts");
    let me = std::env::current_exe().unwrap();
    fs::hard_link(&me, &program).or_else(|_| fs::copy(&me, &program).map(drop)).unwrap();
    let refused = refused();
    assert_eq!(refused.len(), FIRSTS);
    let listed: Vec<&str> = refused.iter().map(|(name, _)| &**name).collect();
    let text = format!(
        "[Service]\nSlice=system.slice\nExecStart={}\nEnvironment={REFUSED}={}\nSystemCallErrorNumber=EPERM\n\
         SystemCallFilter=~{}\n",
        program.display(),
        BETWEEN.as_millis(),
        listed.join(" ")
    );
    manager.write("firsts.service", &text);
    manager.reload();
    let exe = program.display().to_string();
    let dir = manager.base().join("state-first");
    let daemon = start_daemon(manager, &dir);
    let alerts = alerts_of(&daemon, &exe);
    let mut bare = AuditSocket::open().unwrap();
    let over = AtomicBool::new(false);
    let (mut waits, mut explained) = (Vec::new(), 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                start(manager, &names);
            }
        });
        scope.spawn(|| start(manager, &["firsts.service".to_owned()]));
        for (_, call) in refused {
            let heard = receive(&mut bare, exe.as_bytes(), call);
            let told = alerts.recv_timeout(TOLD_WITHIN);
            let Ok(Told { call: told, at, directive }) = told else {
                panic!("call {call} was not told\n{}", daemon.log())
            };
            assert_eq!(told, call);
            explained += usize::from(directive);
            waits.push(at.saturating_duration_since(heard).as_secs_f64() * 1_000.0);
        }
        over.store(true, Ordering::Relaxed);
    });
    let stored = daemon.stored().iter().filter(|incident| incident.key.exe == exe.as_bytes()).count();
    assert!(stored >= FIRSTS, "told before it was stored");
    waits.sort_by(f64::total_cmp);
    let at = |part: f64| waits[((waits.len() - 1) as f64 * part).round() as usize];
    println!(
        "first sighting stored and told, in a storm: median {:.1} ms, 99th percentile {:.1} ms, most {:.1} ms, of {}, \
         {explained} of them with the directive",
        at(0.5),
        at(0.99),
        at(1.0),
        waits.len()
    );
    daemon.stop();
}

/// An alert: its call, its time at the journal's socket, and whether it contains the reason.
struct Told {
    call: u32,
    at: Instant,
    directive: bool,
}

/// The alerts about an executable.
fn alerts_of(daemon: &Daemon, exe: &str) -> mpsc::Receiver<Told> {
    let journal = daemon.root().join("run/systemd/journal");
    fs::create_dir_all(&journal).unwrap();
    let journal = UnixDatagram::bind(journal.join("socket")).unwrap();
    let (sender, alerts) = mpsc::channel();
    let exe = format!("HARDEN_WHY_EXE={exe}");
    std::thread::spawn(move || {
        let mut buffer = [0; 8192];
        while let Ok(length) = journal.recv(&mut buffer) {
            let at = Instant::now();
            let text = String::from_utf8_lossy(&buffer[..length]);
            let has = |field: &str| text.lines().any(|line| line == field);
            let call = text.lines().find_map(|line| line.strip_prefix("HARDEN_WHY_CALL_NUMBER="));
            let Some(call) = call.filter(|_| has(&exe)) else { continue };
            let directive = has("HARDEN_WHY_DIRECTIVE=SystemCallFilter");
            if sender.send(Told { call: call.parse().unwrap(), at, directive }).is_err() {
                return;
            }
        }
    });
    alerts
}

/// The daemon's memory when nothing repeats: 100,000 different denials of ten units.
fn different_denials(manager: &TestManager, what: &str, directory: &std::path::Path) {
    const UNITS: u64 = 10;
    const CALLS: u64 = 10_000;
    fs::create_dir_all(directory).unwrap();
    let tag = what.split(' ').next().unwrap();
    let dir = manager.base().join(format!("state-keys-{tag}"));
    let daemon = start_daemon(manager, &dir);
    let idle = resident(daemon.pid(), "VmRSS");
    let program = directory.join("different");
    let me = std::env::current_exe().unwrap();
    fs::hard_link(&me, &program).or_else(|_| fs::copy(&me, &program).map(drop)).unwrap();
    let names: Vec<String> = (0..UNITS).map(|number| format!("keys-{tag}-{number}.service")).collect();
    for name in &names {
        let text = format!(
            "[Service]\nType=oneshot\nSlice=system.slice\nExecStart={}\nEnvironment={DIFFERENT}={CALLS}\n",
            program.display()
        );
        manager.write(name, &text);
    }
    manager.reload();
    start(manager, &names);
    let most = resident(daemon.pid(), "VmHWM");
    // Until no more records come.
    let mut told = None;
    let (stored, gone) = loop {
        std::thread::sleep(Duration::from_secs(1));
        let stored: u64 = daemon.stored().iter().map(|incident| incident.count).sum();
        let now = Some((stored, dropped_by_daemon(manager)));
        if now == told {
            break (stored, dropped_by_daemon(manager));
        }
        told = now;
    };
    println!(
        "{} different denials, {what}: {:.1} MB resident before, {:.1} MB at most; {stored} stored, {gone} gave way \
         before, {} never came",
        UNITS * CALLS,
        idle as f64 / 1e6,
        most as f64 / 1e6,
        (UNITS * CALLS).saturating_sub(stored + gone),
    );
    assert!(idle <= 12_000_000 && most <= 32_000_000, "more memory than there is to be");
    daemon.stop();
}

/// The number of sightings that the daemon reports as forgotten.
fn dropped_by_daemon(manager: &TestManager) -> u64 {
    let mut client = Command::new(env!("CARGO_BIN_EXE_harden-why"));
    let output = client.args(["--bus", &manager.bus(), "status", "--json"]).output().unwrap();
    let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    status["counters"]["dropped"].as_u64().unwrap()
}

/// Bytes, of `/proc/PID/status`.
fn resident(pid: u32, field: &str) -> u64 {
    let status = fs::read(format!("/proc/{pid}/status")).unwrap();
    let kib = status_value(&status, field).unwrap().strip_suffix(" kB").unwrap();
    kib.parse::<u64>().unwrap() * 1024
}

/// The time at which a listener that does nothing else has the record of an executable's call.
fn receive(bare: &mut AuditSocket, exe: &[u8], call: u32) -> Instant {
    loop {
        match bare.receive() {
            Ok(Some(AuditMessage::Seccomp(payload))) => {
                let now = Instant::now();
                // It must not lag behind because of others' records.
                if memchr::memmem::find(payload, exe).is_none() {
                    continue;
                }
                let record = parse_record(payload).unwrap();
                if record.call == CallField::Number(call) && record.exe.is_some_and(|own| &*own.decode() == exe) {
                    return now;
                }
            }
            Ok(Some(_)) | Err(ReceiveError::Overrun) => {}
            Ok(None) => {
                poll(&mut [PollFd::new(bare.as_fd(), PollFlags::POLLIN)], PollTimeout::from(1_000_u16)).unwrap();
            }
            Err(error) => panic!("{error}"),
        }
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}
