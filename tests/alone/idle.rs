//! The real daemon while nothing happens: nothing wakes it up.

use crate::support::bus::Bus;
use crate::support::child::listen;
use crate::support::daemon::{Daemon, PROGRAM};
use std::fs;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

/// Longer than any relevant period.
const WINDOW: Duration = Duration::from_secs(5);

/// Other processes of the machine may cause audit messages, which wake the daemon.
const WINDOWS: usize = 12;

/// How often its threads were put to sleep or displaced.
fn switches(pid: u32) -> u64 {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let of = |status: String| -> u64 {
        let counts = status.lines().filter(|line| line.contains("ctxt_switches"));
        counts.map(|line| line.split_whitespace().last().unwrap().parse::<u64>().unwrap()).sum()
    };
    threads.map(|thread| of(fs::read_to_string(thread.unwrap().path().join("status")).unwrap())).sum()
}

#[test]
fn idle_daemon_is_not_woken_up() {
    let _turn = crate::take_turn();
    if listen().is_none() {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let Some((_bus, address)) = Bus::within(temp.path()) else { return };
    let daemon = Daemon::start(Command::new(PROGRAM), &address, &temp.path().join("daemon"));
    let mut seen = Vec::new();
    let quiet = (0..WINDOWS).any(|_| {
        let before = switches(daemon.pid());
        sleep(WINDOW);
        // A thread that ended takes its count with it.
        seen.push(switches(daemon.pid()).wrapping_sub(before));
        seen.last() == Some(&0)
    });
    assert!(quiet, "wake-ups in each {WINDOW:?}: {seen:?}");
    daemon.stop();
}
