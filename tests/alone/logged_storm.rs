//! A unit makes 200,000 refused calls while its refusals are logged: one incident with its count, one alert, and no
//! more memory.

use crate::support;
use crate::support::bus::asked;
use crate::support::child::{call, listen, violate};
use crate::support::daemon::{Daemon, Journal, PROGRAM, listing};
use crate::support::manager::TestManager;
use harden_why::audit::Action;
use harden_why::incidents::{Incident, IncidentEvent};
use harden_why::kernel::seccomp::{ALLOW, SeccompFilter, return_value};
use harden_why::outlet::wire::MAX_COUNT_LAG;
use harden_why::syscalls::Arch;
use std::fs;
use std::sync::mpsc::RecvTimeoutError;
use std::thread::sleep;
use std::time::{Duration, Instant};

const ROLE: &str = "HARDEN_WHY_CHATTY";
const CALLS: u64 = 200_000;
/// The daemon's greatest resident size, in KiB: a build without optimization has 14 MB when idle.
const MEMORY: u64 = 48 << 10;

#[used]
#[unsafe(link_section = ".init_array")]
static PLAY: extern "C" fn() = play;

/// Plays the unit's program before `main`.
extern "C" fn play() {
    if std::env::var_os(ROLE).is_none() {
        return;
    }
    let refused = (0..CALLS).all(|_| {
        // SAFETY: the path does not exist, so the call changes nothing even if no filter refuses it.
        unsafe {
            libc::syscall(libc::SYS_acct, c"/nonexistent".as_ptr()) == -1 && *libc::__errno_location() == libc::EACCES
        }
    });
    std::process::exit(if refused { 0 } else { 7 });
}

#[test]
fn logged_refusals_of_a_chatty_unit_are_one_incident_and_one_alert() {
    if listen().is_none() {
        return;
    }
    let Some(manager) = TestManager::start() else { return };
    if manager.is_pid1() {
        support::skip::skip("no refusals are logged for the machine's own manager");
        return;
    }
    let link = "ln -s system.conf.d /run/systemd/user.conf.d";
    assert!(manager.command(&["sh", "-c", link]).status().unwrap().success());
    let daemon = Daemon::start(manager.command(&[PROGRAM]), &manager.bus(), &manager.base().join("daemon"));
    let journal = Journal::of(&daemon);
    let victim = std::env::current_exe().unwrap();
    let lines = format!(
        "[Service]\nSlice=system.slice\nType=oneshot\nEnvironment={ROLE}=1\nExecStart={}\nSystemCallFilter=~acct\n\
         SystemCallErrorNumber=EACCES\n",
        victim.display()
    );
    manager.write("chatty.service", &lines);
    manager.reload();

    // Without logging, the daemon receives nothing of it.
    assert!(manager.start_unit("chatty.service"));
    let bus = manager.bus();
    let client = |arguments: &[&str]| {
        let output = manager.command(&[&[env!("CARGO_BIN_EXE_harden-why"), "--bus", &bus], arguments].concat());
        let output = { output }.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    client(&["log-refusals", "chatty", "--yes", "--for", "10min"]);
    assert!(manager.start_unit("chatty.service"));

    let is_ours = |incident: &Incident| {
        let name = incident.key.unit.as_ref().map(|unit| unit.name.as_str());
        let refused = matches!(&incident.key.event, IncidentEvent::Denial(denial) if denial.action == Action::Errno);
        name == Some("chatty.service") && refused
    };
    let alert = journal.next("OBJECT_SYSTEMD_UNIT=chatty.service");
    // Losses show only in the next record.
    let another = u32::try_from(libc::SYS_getppid).unwrap();
    let refusing = || SeccompFilter::new(Arch::native(), &[(another, return_value(Action::Errno, 1))], ALLOW);
    let deadline = Instant::now() + Duration::from_mins(2);
    let (heard, lost) = loop {
        violate(refusing(), c"another", call(another));
        sleep(MAX_COUNT_LAG);
        let (heard, lost) = (daemon.stored().into_iter().filter(is_ours).map(|one| one.count).sum::<u64>(), lost(&bus));
        if heard + lost >= CALLS {
            break (heard, lost);
        }
        let told = || format!("{heard} heard, {lost} lost: {}{}", listing(&daemon.stored()), daemon.log());
        assert!(Instant::now() < deadline, "{}", told());
    };
    assert!(heard == CALLS || (heard < CALLS && lost > 0), "{heard} of {CALLS} heard, {lost} said to be lost");
    let ours: Vec<Incident> = daemon.stored().into_iter().filter(is_ours).collect();
    assert_eq!(ours.len(), 1, "{}", listing(&ours));
    assert!(alert.has("OBJECT_SYSTEMD_UNIT=chatty.service"));
    match journal.within(Duration::from_secs(2), "OBJECT_SYSTEMD_UNIT=chatty.service") {
        Err(RecvTimeoutError::Timeout) => {}
        more => panic!("a second alert: {:?}", more.map(|alert| alert.fields)),
    }
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let most: u64 = most.trim().strip_suffix(" kB").unwrap().parse().unwrap();
    println!("{heard} of {CALLS} heard, {lost} said to be lost, {most} KiB resident at most");
    assert!(most < MEMORY, "{most} KiB resident");

    // The whole answer has the count, and names the processes with logged refusals.
    let page = client(&["-v", "chatty"]).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(page.contains(&format!("{heard} times")) && page.contains("are logged for processes started"), "{page}");
    client(&["log-refusals", "--off"]);
    daemon.stop();
}

/// The number of lost records that the daemon reports.
fn lost(bus: &str) -> u64 {
    asked(bus).map_or(0, |status| status.lost)
}
