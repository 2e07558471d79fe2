//! How fast the client answers, compared with ausearch in the same run: `cargo bench --bench client`. Without ausearch
//! its columns stay empty. `cargo bench --bench client -- overview` measures only the overview, on a manager of its own
//! with 300 loaded units; `-- programs` only `check` of large executables; `-- explain` everything else; `-- mixed` a log with 1,000,000 records among 50 times as
//! many other lines, which takes 15 GB and some minutes.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark")]
#![expect(clippy::cast_precision_loss, reason = "of figures for people to read")]

#[path = "support/large_programs.rs"]
mod large_programs;

#[expect(dead_code, reason = "tests use the rest")]
#[path = "../tests/support"]
mod support {
    pub(crate) mod manager;
    #[expect(dead_code, reason = "tests ask more of it")]
    pub(crate) mod skip;
}

use harden_why::audit::Action;
use harden_why::host::program_files::read_executable;
use harden_why::incidents::{Denial, Incident, IncidentEvent, IncidentKey, Moment, Sample, SightingSource, Store};
use harden_why::programs::library_calls::DEEPEST;
use harden_why::syscalls::{Arch, Call};
use harden_why::units::{Manager, Rung, Unit};
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use support::manager::TestManager;

/// As many as a full system has.
const UNITS: usize = 300;
const RECORDS: u32 = 1_000_000;
const MIXED_RECORDS: u32 = 20_000;
const OTHERS: u32 = 50;
/// How many events a second of a log has: ausearch keeps those of two seconds, and searches them for each record.
const EVENTS_A_SECOND: u64 = 500;
const STORED: u32 = 100_000;
const RUNS: usize = 5;

fn main() {
    // `cargo test --benches` only checks that it starts.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let asked = |part: &str| std::env::args().any(|argument| argument == part);
    if !asked("mixed") && !asked("explain") && !asked("programs") {
        overview(dir.path());
    }
    if !asked("mixed") && !asked("explain") && !asked("overview") {
        programs(dir.path());
    }
    if asked("overview") || asked("programs") {
        return;
    }
    println!(
        "{:<36} {:>8} {:>10} {:>12} {:>16} {:>14}",
        "explain", "MB", "seconds", "MB resident", "ausearch --raw", "ausearch -i"
    );
    let log = dir.path().join("audit.log");
    if asked("mixed") {
        write_log(&log, RECORDS, OTHERS);
        return explain("1,000,000 records among 51,000,000", &log);
    }
    write_log(&log, RECORDS, 0);
    explain("1,000,000 records", &log);
    write_log(&log, MIXED_RECORDS, OTHERS);
    explain("20,000 records among 1,020,000", &log);
    // Last, since a child starts with its parent's peak (`exec` keeps it), and this takes memory here.
    unit_among_many(dir.path());
}

/// `harden-why explain`, and ausearch on the same log.
fn explain(what: &str, log: &Path) {
    let (ours, memory) = best(env!("CARGO_BIN_EXE_harden-why"), &["explain", log.to_str().unwrap()], RUNS);
    let against = |arguments: &[&str]| {
        let arguments = [arguments, &["-m", "SECCOMP", "-if", log.to_str().unwrap()]].concat();
        let theirs = Command::new("ausearch").arg("--version").output().is_ok();
        theirs.then(|| best("ausearch", &arguments, 1).0.as_secs_f64() / ours.as_secs_f64())
    };
    let times = |ratio: Option<f64>| ratio.map_or_else(String::new, |ratio| format!("{ratio:.1} × as long"));
    let megabytes = log.metadata().unwrap().len() / 1_000_000;
    println!(
        "{what:<36} {megabytes:>8} {:>10.3} {:>12.1} {:>16} {:>14}",
        ours.as_secs_f64(),
        memory as f64 / 1e6,
        times(against(&["--raw"])),
        times(against(&["-i"]))
    );
}

/// `harden-why` on a manager with a full system's units loaded: a third have a filter that refuses, a third
/// other settings that refuse.
fn overview(dir: &Path) {
    let Some(manager) = TestManager::start() else { return };
    let filter = "SystemCallFilter=@system-service\nSystemCallErrorNumber=EPERM\nRestrictAddressFamilies=AF_UNIX AF_INET\n\
                  RestrictNamespaces=yes\nMemoryDenyWriteExecute=yes\nLockPersonality=yes\n";
    let settings = ["", "ProtectClock=yes\nProtectKernelLogs=yes\n", filter];
    let names: Vec<String> = (0..UNITS).map(|number| format!("bench-{number}.service")).collect();
    for (name, settings) in names.iter().zip(settings.iter().cycle()) {
        let unit = format!("[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n{settings}");
        manager.write(name, &unit);
    }
    manager.write("bench.target", &format!("[Unit]\nWants={}\n", names.join(" ")));
    manager.reload();
    assert!(manager.start_unit("bench.target"));
    let store = dir.join("overview");
    Store::open(&store).unwrap();
    let (bus, store) = (manager.bus(), store.to_str().unwrap().to_owned());
    let client = [env!("CARGO_BIN_EXE_harden-why"), "--bus", &bus, "--state-dir", &store, "--system", "--json"];
    let mut took = Vec::new();
    for _ in 0..RUNS {
        let mut command = manager.command(&client);
        let began = Instant::now();
        let output = command.output().unwrap();
        took.push(began.elapsed());
        let silent = String::from_utf8(output.stdout).unwrap().matches("bench-").count();
        assert_eq!(silent, UNITS / 3 * 2, "{}", String::from_utf8_lossy(&output.stderr));
    }
    took.sort_unstable();
    println!(
        "harden-why with {UNITS} units loaded: {:.0} to {:.0} ms of {RUNS} runs",
        took[0].as_secs_f64() * 1_000.0,
        took[RUNS - 1].as_secs_f64() * 1_000.0
    );
}

/// Measures `check` of an executable of 100 MiB with 200 libraries, and of a static one, and how long it takes to read the
/// first one again in one process.
fn programs(dir: &Path) {
    let root = dir.join("programs");
    large_programs::make(&root);
    for name in ["large", "static"] {
        let unit = format!("[Service]\nSystemCallFilter=@basic-io\nExecStart=/usr/bin/{name}\n");
        std::fs::write(root.join("etc/systemd/system/x.service"), unit).unwrap();
        let arguments = ["--bus", "unix:path=/nonexistent", "check", "x", "--root", root.to_str().unwrap()];
        let output = Command::new(env!("CARGO_BIN_EXE_harden-why")).args(arguments).arg("-v").output().unwrap();
        let page = String::from_utf8(output.stdout).unwrap();
        let shown = if name == "large" { "fsync" } else { "write" };
        assert!(page.contains(shown), "{name}: {page}");
        let (took, memory) = best(env!("CARGO_BIN_EXE_harden-why"), &arguments, RUNS);
        println!("check of {name}: {:.0} ms, {:.1} MB", took.as_secs_f64() * 1e3, memory as f64 / 1e6);
    }
    for reading in ["first", "second"] {
        let began = Instant::now();
        let program = read_executable(&root, Path::new("/usr/bin/large"), DEEPEST).unwrap();
        println!("the {reading} reading of large takes {:.1} ms", began.elapsed().as_secs_f64() * 1e3);
        assert_eq!(program.libraries.len(), large_programs::LIBRARIES, "each library shows calls");
    }
}

/// The shortest of some runs, and the greatest resident size of one of them, in bytes.
#[expect(clippy::zombie_processes, reason = "wait4 reaps it, and tells what it used")]
fn best(program: &str, arguments: &[&str], runs: usize) -> (Duration, u64) {
    let run = |_| {
        let began = Instant::now();
        let child = Command::new(program).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let (status, memory) = wait(&child);
        assert!(status.code().is_some_and(|code| code <= 1), "{program} {arguments:?}: {status}");
        (began.elapsed(), memory)
    };
    let all: Vec<(Duration, u64)> = (0..runs).map(run).collect();
    (all.iter().map(|run| run.0).min().unwrap(), all.iter().map(|run| run.1).max().unwrap())
}

/// Waits for a child and returns its greatest resident size.
fn wait(child: &Child) -> (ExitStatus, u64) {
    let (mut status, pid) = (0, i32::try_from(child.id()).unwrap());
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: both places can be written, and a `rusage` of zeros is valid.
    let usage = unsafe {
        assert_eq!(libc::wait4(pid, &raw mut status, 0, usage.as_mut_ptr()), pid);
        usage.assume_init()
    };
    (ExitStatus::from_raw(status), u64::try_from(usage.ru_maxrss).unwrap() * 1024)
}

fn write_log(path: &Path, records: u32, others: u32) {
    const EXES: [&str; 5] = [
        "/usr/sbin/nginx",
        "/usr/bin/python3.11",
        "/usr/sbin/apache2",
        "/usr/lib/postfix/sbin/smtpd",
        "/opt/app/server",
    ];
    const CALLS: [u32; 6] = [41, 42, 59, 99, 202, 318];
    let mut log = BufWriter::new(File::create(path).unwrap());
    let mut serial = 100;
    let mut event = || {
        serial += 1;
        let (seconds, rest) = (serial / EVENTS_A_SECOND, serial % EVENTS_A_SECOND);
        format!("{}.{:03}:{serial}", 1_795_456_064 + seconds, rest * 1_000 / EVENTS_A_SECOND)
    };
    for number in 0..records {
        let exe = EXES[number as usize % EXES.len()];
        let (comm, call) = (exe.rsplit('/').next().unwrap(), CALLS[number as usize % CALLS.len()]);
        writeln!(
            log,
            "type=SECCOMP msg=audit({}): auid=4294967295 uid=33 gid=33 ses=4294967295 subj=unconfined pid={} \
             comm=\"{comm}\" exe=\"{exe}\" sig=31 arch=c000003e syscall={call} compat=0 ip=0x7f613e11f829 \
             code=0x80000000",
            event(),
            2_000 + number % 3_000
        )
        .unwrap();
        for other in 0..others {
            writeln!(
                log,
                "type=SYSCALL msg=audit({}): arch=c000003e syscall=257 success=yes exit=3 a0=ffffff9c \
                 a1=7ffd0b1a2b3c a2=0 a3=0 items=1 ppid=1 pid={} auid=1000 uid=0 gid=0 euid=0 suid=0 fsuid=0 egid=0 \
                 sgid=0 fsgid=0 tty=(none) ses=3 comm=\"cron\" exe=\"/usr/sbin/cron\" key=(null)",
                event(),
                700 + other
            )
            .unwrap();
        }
    }
}

/// `harden-why UNIT` with very many incidents of other units stored.
fn unit_among_many(dir: &Path) {
    let incident = |number: u32| Incident {
        key: IncidentKey {
            unit: Some(Unit {
                manager: Manager::System,
                name: format!("bench-{}.service", number / 10).parse().unwrap(),
            }),
            event: IncidentEvent::Denial(Denial {
                call: Call::numbered(Arch::X86_64, number % 10),
                action: Action::KillProcess,
            }),
            exe: b"/usr/bin/bench".to_vec(),
            source: SightingSource::Audit,
        },
        rung: Some(Rung::OwnCgroup),
        count: 1,
        first: Moment::At(i64::from(number)),
        last: Moment::At(i64::from(number)),
        sample: Sample::default(),
    };
    let incidents: Vec<Incident> = (0..STORED).map(incident).collect();
    Store::open(dir).unwrap().record(&incidents).unwrap();
    let store = dir.to_str().unwrap();
    let arguments = ["--bus", "unix:path=/nonexistent", "--state-dir", store, "bench-4711"];
    let (took, memory) = best(env!("CARGO_BIN_EXE_harden-why"), &arguments, RUNS);
    println!(
        "harden-why UNIT with {STORED} incidents stored: {:.1} ms, {:.1} MB resident",
        took.as_secs_f64() * 1_000.0,
        memory as f64 / 1e6
    );
}
