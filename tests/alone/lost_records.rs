//! Records that the real daemon could not receive.

use crate::support::bus::{Bus, asked};
use crate::support::child::{call, listen, payload_of, violate};
use crate::support::daemon::{Daemon, PROGRAM};
use harden_why::audit::Action;
use harden_why::incidents::{Denial, IncidentEvent};
use harden_why::kernel::seccomp::{ALLOW, SeccompFilter, return_value};
use harden_why::outlet::wire::MAX_COUNT_LAG;
use harden_why::syscalls::{Arch, Call};
use nix::sys::signal::Signal;
use std::process::Command;

/// More than the receive buffer holds: 64 MiB are 160,000 such records, as the kernel counts them.
const FLOOD: u64 = 400_000;
/// A call for each round, so that its incident is its own: calls without a name are counted together.
const HARMLESS: [libc::c_long; 6] =
    [libc::SYS_getppid, libc::SYS_getuid, libc::SYS_geteuid, libc::SYS_getgid, libc::SYS_getegid, libc::SYS_getsid];

#[test]
fn records_beyond_the_buffer_are_counted_exactly() {
    let _turn = crate::take_turn();
    if listen().is_none() {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let Some((_bus, address)) = Bus::within(temp.path()) else { return };
    let daemon = Daemon::start(Command::new(PROGRAM), &address, &temp.path().join("daemon"));
    let mut tried = Vec::new();
    // Lost records of other processes count as well: try until no other process makes any.
    let exact = (0..HARMLESS.len()).any(|round| {
        let before = asked(&address).unwrap();
        let number = u32::try_from(HARMLESS[round]).unwrap();
        daemon.signal(Signal::SIGSTOP);
        let logged = return_value(Action::Log, 0);
        let storm = move || (0..FLOOD).for_each(|_| call(number)());
        violate(SeccompFilter::new(Arch::native(), &[(number, logged)], ALLOW), c"flood", storm);
        daemon.signal(Signal::SIGCONT);
        let ours = |action| IncidentEvent::Denial(Denial { call: Call::numbered(Arch::native(), number), action });
        let logged = || daemon.wait_for_incident(|incident| incident.key.event == ours(Action::Log)).count;
        // The kernel drops records until its queue is read to the end, which takes a slow machine long.
        let (mut heard, mut still) = (logged(), 0);
        while still < 2 {
            std::thread::sleep(MAX_COUNT_LAG + MAX_COUNT_LAG);
            let before = std::mem::replace(&mut heard, logged());
            still = if before == heard { still + 1 } else { 0 };
        }
        // The next record shows how many are missing before it.
        let mut audit = listen().unwrap();
        let killing = SeccompFilter::new(Arch::native(), &[(number, return_value(Action::KillProcess, 0))], ALLOW);
        let (pid, _) = violate(killing, c"denied", call(number));
        payload_of(&mut audit, pid);
        daemon.wait_for_incident(|incident| incident.key.event == ours(Action::KillProcess));
        let after = asked(&address).unwrap();
        assert!(heard < FLOOD && after.overruns > before.overruns, "{heard} of {FLOOD} heard: nothing was lost");
        let lost = after.lost - before.lost;
        assert!(lost >= FLOOD - heard, "{lost} lost, {heard} of {FLOOD} heard");
        tried.push((lost, FLOOD - heard));
        lost == FLOOD - heard
    });
    assert!(exact, "said to be lost, lost of ours: {tried:?}");
    daemon.stop();
}
