//! The daemon is stopped during a flood in which units are killed: after it goes on, each death has its record, and no
//! death counts as one without a record.

use crate::support::bus::asked;
use crate::support::child::{call, listen, violate};
use crate::support::daemon::{Daemon, Journal, PROGRAM, listing};
use crate::support::manager::TestManager;
use harden_why::audit::Action;
use harden_why::incidents::{Incident, IncidentEvent};
use harden_why::kernel::seccomp::{ALLOW, SeccompFilter, return_value};
use harden_why::outlet::message_ids::UNRECORDED_DEATH;
use harden_why::syscalls::Arch;
use nix::sys::signal::Signal;
use std::time::Duration;

/// As many records before the deaths as after them. All of them fit into the receive buffer.
const FLOOD: u64 = 50_000;
const UNITS: usize = 3;

fn is_of(incident: &Incident, unit: &str) -> bool {
    incident.key.unit.as_ref().is_some_and(|own| own.name.as_str() == unit)
}

#[test]
fn death_during_a_stop_of_the_daemon_under_a_flood_is_no_death_without_a_record() {
    let _turn = crate::take_turn();
    if listen().is_none() {
        return;
    }
    let Some(manager) = TestManager::start() else { return };
    let units: Vec<String> = (0..UNITS).map(|number| format!("stopped-{number}.service")).collect();
    for unit in &units {
        let lines =
            "[Service]\nType=oneshot\nSlice=system.slice\nExecStart=/bin/uname\nLimitCORE=0\nSystemCallFilter=~uname\n";
        manager.write(unit, lines);
    }
    manager.reload();
    let daemon = Daemon::start(manager.command(&[PROGRAM]), &manager.bus(), &manager.base().join("daemon"));
    let journal = Journal::of(&daemon);
    let number = u32::try_from(libc::SYS_getppid).unwrap();
    let flood = || {
        let storm = move || (0..FLOOD).for_each(|_| call(number)());
        let filter = SeccompFilter::new(Arch::native(), &[(number, return_value(Action::Log, 0))], ALLOW);
        violate(filter, c"flood", storm);
    };
    daemon.signal(Signal::SIGSTOP);
    flood();
    for unit in &units {
        assert!(!manager.start_unit(unit), "{unit} was not killed");
    }
    flood();
    // Longer than a death waits for its record, by the daemon's clock.
    std::thread::sleep(Duration::from_secs(2));
    daemon.signal(Signal::SIGCONT);
    for unit in &units {
        daemon.wait_for_incident(|incident| is_of(incident, unit) && incident.denial().is_some());
    }
    // The judgement of a death follows its record.
    std::thread::sleep(Duration::from_secs(3));
    let status = asked(&manager.bus()).unwrap();
    assert_eq!(status.lost, 0, "the buffer holds this flood");
    let stored = daemon.stored();
    let silent = |incident: &&Incident| incident.key.event == IncidentEvent::UnrecordedDeath;
    assert_eq!(stored.iter().filter(silent).count(), 0, "{}", listing(&stored));
    while let Ok(alert) = journal.within(Duration::from_secs(1), "SYSLOG_IDENTIFIER=harden-whyd") {
        assert!(!alert.has(&format!("MESSAGE_ID={UNRECORDED_DEATH}")), "{:?}", alert.fields);
    }
    daemon.stop();
}
