//! Twelve units are killed once each during a storm of 300,000 made-up call numbers by three users: all twelve are stored
//! and get an alert. One storm by default, twenty with `HARDEN_WHY_FULL=1`.

use crate::support::bus::asked;
use crate::support::child::listen;
use crate::support::daemon::{Daemon, Journal, PROGRAM, listing};
use crate::support::manager::TestManager;
use harden_why::audit::Action;
use harden_why::incidents::{Incident, IncidentEvent};
use harden_why::kernel::seccomp::{SeccompFilter, return_value};
use harden_why::syscalls::Arch;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// The uid of a process that makes noise.
const ROLE: &str = "HARDEN_WHY_NOISY_UID";
const UIDS: [u32; 3] = [65_534, 65_533, 65_532];
const CALLS: u32 = 100_000;
/// No call has this number or a greater one.
const NO_CALL: u32 = 1_000_000;
const UNITS: usize = 12;
const PATIENCE: Duration = Duration::from_secs(20);

#[used]
#[unsafe(link_section = ".init_array")]
static PLAY: extern "C" fn() = play;

/// Makes the noise before `main`.
extern "C" fn play() {
    let Some(uid) = std::env::var(ROLE).ok().and_then(|uid| uid.parse::<u32>().ok()) else { return };
    // SAFETY: this process has one thread.
    let is_user = unsafe { libc::setresgid(uid, uid, uid) == 0 && libc::setresuid(uid, uid, uid) == 0 };
    let filter = SeccompFilter::new(Arch::native(), &[], return_value(Action::Log, 0));
    if !is_user || filter.load(true).is_err() {
        std::process::exit(7);
    }
    for number in NO_CALL..NO_CALL + CALLS {
        // SAFETY: no call has such a number.
        unsafe { libc::syscall(number.into()) };
    }
    std::process::exit(0);
}

fn make_noise(uid: u32) -> Child {
    Command::new(std::env::current_exe().unwrap()).env(ROLE, uid.to_string()).spawn().unwrap()
}

fn is_of(incident: &Incident, unit: &str) -> bool {
    incident.key.unit.as_ref().is_some_and(|own| own.name.as_str() == unit)
}

#[test]
fn units_killed_once_during_storms_of_three_users_are_stored_and_get_alerts() {
    let _turn = crate::take_turn();
    let storms = if std::env::var_os("HARDEN_WHY_FULL").is_some() { 20 } else { 1 };
    if listen().is_none() {
        return;
    }
    let Some(manager) = TestManager::start() else { return };
    let names: Vec<Vec<String>> =
        (0..storms).map(|storm| (0..UNITS).map(|unit| format!("quiet-{storm}-{unit}.service")).collect()).collect();
    for name in names.iter().flatten() {
        let lines =
            "[Service]\nType=oneshot\nSlice=system.slice\nExecStart=/bin/uname\nLimitCORE=0\nSystemCallFilter=~uname\n";
        manager.write(name, lines);
    }
    manager.reload();
    let daemon = Daemon::start(manager.command(&[PROGRAM]), &manager.bus(), &manager.base().join("daemon"));
    let journal = Journal::of(&daemon);
    for (storm, units) in names.iter().enumerate() {
        let began = Instant::now();
        let noise = UIDS.map(make_noise);
        for unit in units {
            assert!(!manager.start_unit(unit), "{unit} was not killed");
        }
        for mut noisy in noise {
            assert!(noisy.wait().unwrap().success(), "there was no storm");
        }
        let mut untold: Vec<&String> = units.iter().collect();
        while !untold.is_empty() {
            let Ok(alert) = journal.within(PATIENCE, "SYSLOG_IDENTIFIER=harden-whyd") else {
                panic!("no alert of {untold:?}: {}{}", listing(&daemon.stored()), daemon.log())
            };
            if let Some(place) = untold.iter().position(|unit| alert.has(&format!("OBJECT_SYSTEMD_UNIT={unit}"))) {
                let unit = untold.swap_remove(place);
                assert!(
                    alert.stored.iter().any(|incident| is_of(incident, unit)),
                    "{unit} has an alert and is not stored"
                );
            }
        }
        println!("storm {storm}: {UNITS} of {UNITS} stored and told within {:?}", began.elapsed());
    }
    let stored = daemon.stored();
    for unit in names.iter().flatten() {
        assert!(stored.iter().any(|incident| is_of(incident, unit)), "{unit} gave way: {}", listing(&stored));
    }
    let is_made_up = |incident: &&Incident| match &incident.key.event {
        IncidentEvent::Denial(denial) => denial.call.number().is_some_and(|number| number >= NO_CALL),
        IncidentEvent::Access(_) | IncidentEvent::UnrecordedDeath => false,
    };
    let made_up = stored.iter().filter(is_made_up).count();
    let recorded = names
        .iter()
        .flatten()
        .filter(|unit| stored.iter().any(|incident| is_of(incident, unit) && incident.denial().is_some()));
    let (recorded, status) = (recorded.count(), asked(&manager.bus()).unwrap());
    let (lost, overruns) = (status.lost, status.overruns);
    println!("{recorded} of {} with the call; {made_up} incidents of made-up numbers", storms * UNITS);
    println!("{} records, {lost} lost in {overruns} overruns of the buffer", status.records);
    // Each death without its record is one of a lost record, and harden-why reports that records were lost.
    assert!(lost >= (storms * UNITS - recorded) as u64, "{lost} lost: {}", listing(&stored));
    assert!(made_up <= UIDS.len() * storms, "{}", listing(&stored));
    daemon.stop();
}
