//! What the daemon costs a machine that violates nothing: 2,000 fork+exec a second.
//!
//! Two costs add up: the daemon's own time, and what each dying process pays in the kernel for the proc connector and
//! the BPF program. Both are printed as parts of one core at that rate, whatever rate this machine reaches.
//! `HARDEN_WHY_FULL=1` measures longer.

#![expect(clippy::cast_precision_loss, reason = "of nanoseconds, for people to read")]

use crate::support::actor::{ROLE, TIMES};
use crate::support::skip::skip;
use harden_why::audit::Action;
use harden_why::kernel::exit_cgroups::ExitCgroups;
use harden_why::kernel::proc_events::ExitListener;
use harden_why::kernel::seccomp::{ALLOW, SeccompFilter, return_value};
use harden_why::syscalls::Arch;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The reference rate, and what it may cost of a core.
const RATE: f64 = 2_000.0;
const MOST: f64 = 0.01;

/// How long the daemon may take to be ready, and the machine to become quiet.
const PATIENCE: Duration = Duration::from_mins(1);
/// How many processes are started between two readings of the clock.
const BATCH: u32 = 100;

fn full() -> bool {
    std::env::var_os("HARDEN_WHY_FULL").is_some()
}

/// What the kernel's part may cost. A hundredth of a core is 5 µs, which only a long measurement resolves; a short one
/// detects a different order of magnitude.
fn most() -> f64 {
    if full() { MOST } else { 20.0 * MOST }
}

/// Starts and reaps processes that do nothing, under a filter, as a service would.
fn load(times: u32) {
    for _ in 0..times {
        assert!(Command::new("/bin/true").status().unwrap().success());
    }
}

/// Puts this thread, and all that it starts, under a filter that denies nothing.
fn under_a_filter() {
    SeccompFilter::new(Arch::native(), &[(u32::MAX, return_value(Action::Errno, 1))], ALLOW).load(false).unwrap();
}

/// The daemon, without a bus.
struct Daemon {
    process: Child,
    _base: tempfile::TempDir,
}

impl Daemon {
    fn start() -> Option<Self> {
        let base = tempfile::tempdir().unwrap();
        let ready = UnixDatagram::bind(base.path().join("notify")).unwrap();
        ready.set_read_timeout(Some(PATIENCE)).unwrap();
        let process = Command::new(env!("CARGO_BIN_EXE_harden-whyd"))
            .args(["--bus", "unix:path=/nonexistent", "--state-dir"])
            .arg(base.path())
            .env("NOTIFY_SOCKET", base.path().join("notify"))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let daemon = Self { process, _base: base };
        let mut buffer = [0; 256];
        match ready.recv(&mut buffer) {
            Ok(length) if buffer[..length].starts_with(b"READY=1") => Some(daemon),
            other => {
                skip(&format!("the daemon does not start here: {other:?}"));
                None
            }
        }
    }

    /// Returns the processor time of all its threads, ended ones too, in nanoseconds.
    fn nanoseconds(&self) -> u64 {
        let pid = self.process.id().try_into().unwrap();
        let mut clock = 0;
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: both write to places that exist.
        let results =
            unsafe { (libc::clock_getcpuclockid(pid, &raw mut clock), libc::clock_gettime(clock, &raw mut time)) };
        assert_eq!(results, (0, 0));
        u64::try_from(time.tv_sec * 1_000_000_000 + time.tv_nsec).unwrap()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn daemon_sleeps_while_nothing_violates() {
    let _turn = crate::take_turn();
    let Some(daemon) = Daemon::start() else { return };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            under_a_filter();
            let (began, mut least, mut processes) = (Instant::now(), f64::MAX, 0);
            let batches = if full() { 40 } else { 8 };
            // Denials of others on this machine cost time as well: wait for a quiet moment.
            while processes < batches * BATCH || part(least) > MOST / 2.0 && began.elapsed() < PATIENCE {
                let before = daemon.nanoseconds();
                load(BATCH);
                processes += BATCH;
                least = least.min((daemon.nanoseconds() - before) as f64 / f64::from(BATCH));
            }
            let rate = f64::from(processes) / began.elapsed().as_secs_f64();
            println!("daemon: {least:.0} ns a process, {} (reached here: {rate:.0} a second)", told(least));
            assert!(part(least) <= MOST / 2.0);
        });
    });
}

/// Converts nanoseconds for each process into a part of a core.
fn part(each: f64) -> f64 {
    each * RATE / 1e9
}

fn told(each: f64) -> String {
    format!("{:.3} % of a core at {RATE} a second", 100.0 * part(each))
}

/// Returns the processor time of this program's children so far, in nanoseconds.
fn spent() -> i64 {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
    (usage.user_time() + usage.system_time()).num_microseconds() * 1_000
}

#[test]
fn death_of_a_process_costs_little_while_the_daemon_listens() {
    let _turn = crate::take_turn();
    let (Ok(_), Ok(_)) = (ExitListener::open(), ExitCgroups::open()) else {
        return skip("not all of the ladder is to be had here");
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            under_a_filter();
            // Forks that end at once: the less they do otherwise, the more the cost shows.
            let times = 1_000;
            let cost = || {
                let before = spent();
                let mut actor = Command::new(std::env::current_exe().unwrap());
                actor.env(ROLE.to_str().unwrap(), "innocent").env(TIMES.to_str().unwrap(), times.to_string());
                assert!(actor.status().unwrap().success());
                (spent() - before) as f64 / f64::from(times)
            };
            // In turns, and the minimum of each: other load only adds.
            let (mut without, mut with) = (f64::MAX, f64::MAX);
            for _ in 0..if full() { 60 } else { 10 } {
                without = without.min(cost());
                let _ladder = (ExitListener::open().unwrap(), ExitCgroups::open().unwrap());
                with = with.min(cost());
            }
            println!("kernel: {without:.0} ns a process without, {with:.0} with: {}", told(with - without));
            assert!(part(with - without) <= most());
        });
    });
}
