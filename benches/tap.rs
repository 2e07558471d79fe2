//! What a tap costs the processes that it watches, and all others: `cargo bench --bench tap`. A loop of the cheapest call
//! and real servers under load (redis-server with redis-benchmark, nginx with ab) run without and with each kind of tap, in turns.
//! Each watched process has a seccomp filter, as hardened services have. The figures are processor time, of the loop or of
//! the server; for the servers also the time that a request takes their clients. Requires root.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark")]
#![expect(clippy::cast_precision_loss, reason = "of figures for people to read")]

use harden_why::audit::Action;
use harden_why::kernel::seccomp::{ALLOW, SeccompFilter, return_value};
use harden_why::kernel::tap::{Tap, TapOptions, TapTarget};
use harden_why::syscalls::Arch;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const ROUNDS: usize = 5;
/// How long a loop is measured.
const SPELL: Duration = Duration::from_secs(1);
/// Names the process that makes calls.
const LOOP: &str = "HARDEN_WHY_LOOP";

fn main() {
    // `cargo test --benches` only checks that it starts.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    if std::env::var_os(LOOP).is_some() {
        return make_calls();
    }
    println!("{:<44} {:>18} {:>10} {:>10} {:>10}", "", "without", "tap", "and absent", "rehearsal");
    for (what, filtered, watched) in [
        ("getppid in a loop, watched", true, true),
        ("the same, while another is watched", true, false),
        ("the same without a filter", false, false),
    ] {
        let caller = Caller::start(filtered);
        let idle = Caller::start(true);
        let target = if watched { caller.0.id() } else { idle.0.id() };
        report(what, "ns a call", measure_rounds(target, || caller.nanoseconds()));
    }
    redis();
    nginx();
}

/// The taps that are measured: of a unit without mounts of its own, of one with, and of a rehearsal.
const TAPS: [TapOptions; 3] = [
    TapOptions { absent: false, entered: false },
    TapOptions { absent: true, entered: false },
    TapOptions { absent: true, entered: true },
];

/// Returns the medians of some rounds, without a tap and with each.
fn measure_rounds(target: u32, measure: impl Fn() -> f64) -> [f64; 4] {
    let mut values = [const { Vec::new() }; 4];
    for _ in 0..ROUNDS {
        values[0].push(measure());
        for (tapped, options) in values[1..].iter_mut().zip(TAPS) {
            tapped.push(measure_tapped(target, options, &measure));
        }
    }
    values.map(median)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Measures once while a tap watches.
fn measure_tapped(target: u32, options: TapOptions, measure: &impl Fn() -> f64) -> f64 {
    let mut tap = Tap::open(&[TapTarget::Process(target)], options).unwrap();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                tap.collect();
                std::thread::sleep(Tap::INTERVAL);
            }
            tap.stop();
        });
        let value = measure();
        over.store(true, Ordering::Relaxed);
        value
    })
}

/// Prints a row: the figure without a tap, and how many times as much it is with each.
fn report(what: &str, unit: &str, [without, tapped @ ..]: [f64; 4]) {
    let times = tapped.map(|tapped| format!("{:>8.2} ×", tapped / without));
    println!("{what:<44} {without:>8.0} {unit:<9} {}", times.join(" "));
}

/// A process that makes calls, and prints how long each took.
struct Caller(Child, std::cell::RefCell<BufReader<std::process::ChildStdout>>);

impl Caller {
    fn start(filtered: bool) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.env(LOOP, "1").stdin(Stdio::piped()).stdout(Stdio::piped());
        if filtered {
            under_filter(&mut command);
        }
        let mut child = command.spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Self(child, out.into())
    }

    fn nanoseconds(&self) -> f64 {
        let mut line = String::new();
        self.0.stdin.as_ref().unwrap().write_all(b"go\n").unwrap();
        self.1.borrow_mut().read_line(&mut line).unwrap();
        line.trim().parse().unwrap()
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

/// Makes calls for [`SPELL`] for each line of its input.
fn make_calls() {
    for line in std::io::stdin().lines() {
        line.unwrap();
        let (began, mut calls) = (Instant::now(), 0_u64);
        let before = processor_time(std::process::id());
        while began.elapsed() < SPELL {
            for _ in 0..1_000 {
                // SAFETY: the call only returns a number.
                unsafe { libc::syscall(libc::SYS_getppid) };
            }
            calls += 1_000;
        }
        println!("{}", (processor_time(std::process::id()) - before) / calls as f64);
    }
}

/// Returns the processor time that a process has used, in nanoseconds (`/proc/PID/schedstat`).
fn processor_time(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap();
    stat.split_ascii_whitespace().next().unwrap().parse().unwrap()
}

/// Puts it under a filter that runs for every call, and refuses one.
fn under_filter(command: &mut Command) {
    let number = u32::try_from(libc::SYS_acct).unwrap();
    let filter = SeccompFilter::new(Arch::native(), &[(number, return_value(Action::Errno, 1))], ALLOW);
    // SAFETY: it calls prctl and seccomp; the child has no other thread.
    unsafe { command.pre_exec(move || filter.load(false)) };
}

/// A running server, which dropping this ends.
struct Server(Child);

impl Server {
    fn start(command: &mut Command, port: u16) -> Option<Self> {
        under_filter(command);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()?;
        let server = Self(child);
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "no server on {port}");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(server)
    }

    /// Measures the processor time that a request costs the server, and the time that it takes the clients. `load` returns
    /// how many requests a second they got.
    fn load(&self, what: &str, requests: u32, load: impl Fn() -> f64) {
        let clients = std::cell::RefCell::new(Vec::new());
        let cost = measure_rounds(self.0.id(), || {
            let before = processor_time(self.0.id());
            clients.borrow_mut().push(1e9 / load());
            (processor_time(self.0.id()) - before) / f64::from(requests)
        });
        report(what, "ns each", cost);
        // Rounds without and with each tap took turns.
        let clients = clients.into_inner();
        let median_from = |first| median(clients.iter().skip(first).step_by(4).copied().collect());
        report("  the same, as its clients see it", "ns each", [0, 1, 2, 3].map(median_from));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

const REDIS: u32 = 100_000;
const NGINX: u32 = 20_000;

fn redis() {
    let arguments = ["--port", "16379", "--save", "", "--appendonly", "no"];
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(Command::new("redis-server").args(arguments).current_dir(dir.path()), 16379);
    let Some(server) = server else { return println!("no redis-server") };
    let count = REDIS.to_string();
    server.load("redis-server, GET by 20 clients", REDIS, || {
        let load = ["-p", "16379", "-n", &count, "-c", "20", "-t", "get", "--csv"];
        let text = run(Command::new("redis-benchmark").args(load));
        let row = text.lines().find(|line| line.starts_with("\"GET\"")).unwrap();
        row.split(',').nth(1).unwrap().trim_matches('"').parse().unwrap()
    });
}

fn nginx() {
    let dir = tempfile::tempdir().unwrap();
    let config = format!(
        "daemon off; master_process off; pid {0}/pid; error_log /dev/null; events {{}} http {{ access_log {0}/log; \
         client_body_temp_path {0}/b; proxy_temp_path {0}/p; fastcgi_temp_path {0}/f; uwsgi_temp_path {0}/u; \
         scgi_temp_path {0}/s; server {{ listen 127.0.0.1:16380; root {0}; }} }}",
        dir.path().display()
    );
    let conf = dir.path().join("conf");
    std::fs::write(&conf, config).unwrap();
    std::fs::write(dir.path().join("index.html"), "x".repeat(10_000)).unwrap();
    let server = Server::start(Command::new("nginx").arg("-c").arg(conf), 16380);
    let Some(server) = server else { return println!("no nginx") };
    let count = NGINX.to_string();
    server.load("nginx, a file of 10 kB to 20 clients", NGINX, || {
        let load = ["-q", "-n", &count, "-c", "20", "http://127.0.0.1:16380/index.html"];
        let text = run(Command::new("ab").args(load));
        let row = text.lines().find_map(|line| line.strip_prefix("Requests per second:")).unwrap();
        row.split_ascii_whitespace().next().unwrap().parse().unwrap()
    });
}

fn run(command: &mut Command) -> String {
    String::from_utf8(command.output().unwrap().stdout).unwrap()
}
