//! How long harden-whyd takes to start, and how much memory it then has: `cargo bench --bench start`, with other programs to
//! compare: `cargo bench --bench start -- /usr/bin/harden-whyd`. Requires root.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark")]
#![expect(clippy::cast_precision_loss, reason = "of figures for people to read")]

use harden_why::kernel::procfs::status_value;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const ROUNDS: usize = 15;
const PATIENCE: Duration = Duration::from_mins(1);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo test --benches` only checks that it starts.
    if arguments.iter().any(|argument| argument == "--test") {
        return;
    }
    let others = arguments.iter().filter(|argument| !argument.starts_with('-')).map(String::as_str);
    for program in others.chain([env!("CARGO_BIN_EXE_harden-whyd")]) {
        measure(program);
    }
}

/// Prints medians: the time until the daemon is ready, its memory then, and its highest memory until then.
fn measure(program: &str) {
    let rounds: Vec<[f64; 3]> = (0..ROUNDS).map(|_| start(Path::new(program))).collect();
    let median = |figure: usize| {
        let mut values: Vec<f64> = rounds.iter().map(|round| round[figure]).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let size = fs::metadata(program).unwrap().len() as f64 / 1e6;
    println!(
        "{program}: {size:.2} MB, ready after {:.0} ms, {:.1} MB resident, {:.1} MB at most",
        median(0),
        median(1),
        median(2)
    );
}

/// Starts a daemon without a bus, and ends it once it is ready.
fn start(program: &Path) -> [f64; 3] {
    let base = tempfile::tempdir().unwrap();
    let ready = UnixDatagram::bind(base.path().join("notify")).unwrap();
    ready.set_read_timeout(Some(PATIENCE)).unwrap();
    let began = Instant::now();
    let mut daemon = Command::new(program)
        .args(["--bus", "unix:path=/nonexistent", "--state-dir"])
        .arg(base.path())
        .env("NOTIFY_SOCKET", base.path().join("notify"))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut buffer = [0; 256];
    let length = ready.recv(&mut buffer).unwrap();
    assert!(buffer[..length].starts_with(b"READY=1"), "{} does not start here", program.display());
    let took = began.elapsed().as_secs_f64() * 1e3;
    let status = fs::read(format!("/proc/{}/status", daemon.id())).unwrap();
    let memory = |field: &str| {
        let kib = status_value(&status, field).unwrap().strip_suffix(" kB").unwrap();
        kib.trim().parse::<f64>().unwrap() * 1024.0 / 1e6
    };
    let figures = [took, memory("VmRSS"), memory("VmHWM")];
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    figures
}
