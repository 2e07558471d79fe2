//! The daemon is killed at random moments of a storm: every alerted incident is stored, the store opens without repair,
//! and counts lag by no more than the flush interval. Ten times by default, fifty with `HARDEN_WHY_FULL=1`.

use crate::support::daemon::{Daemon, PROGRAM, incidents};
use crate::support::manager::TestManager;
use crate::support::random::Random;
use harden_why::incidents::{Incident, Moment, Store};
use harden_why::outlet::wire::MAX_COUNT_LAG;
use nix::sys::signal::Signal;
use std::fs;
use std::io::Write as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What a machine adds to the flush interval, in addition to what the test measures.
const SLACK: Duration = Duration::from_secs(1);

/// Measures how late the machine is at worst, until `stop`: for a thread that wakes up and a file that is synced. The
/// daemon waits for both several times.
fn lateness(dir: &Path, stop: &AtomicBool) -> Duration {
    let mut file = fs::File::create(dir.join("late")).unwrap();
    let mut worst = Duration::ZERO;
    while !stop.load(Ordering::Relaxed) {
        let (before, nap) = (Instant::now(), Duration::from_millis(20));
        std::thread::sleep(nap);
        file.write_all(&[0; 4096]).unwrap();
        file.sync_all().unwrap();
        worst = worst.max(before.elapsed().saturating_sub(nap));
    }
    3 * worst
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}

fn of<'a>(incidents: &'a [Incident], unit: &str) -> Option<&'a Incident> {
    incidents.iter().find(|incident| incident.key.unit.as_ref().is_some_and(|own| own.name.as_str() == unit))
}

#[test]
fn alerted_incident_is_stored_whenever_the_daemon_is_killed() {
    let _turn = crate::take_turn();
    let times = if std::env::var_os("HARDEN_WHY_FULL").is_some() { 50 } else { 10 };
    let Some(manager) = TestManager::start() else { return };
    let state = manager.base().join("state");
    fs::create_dir(&state).unwrap();
    manager.write(
        "storm.service",
        "[Service]\nSlice=system.slice\nExecStart=/bin/sh -c 'while :; do /bin/uname; done'\nStandardOutput=null\nSystemCallLog=uname\n",
    );
    for number in 0..3 * times {
        let text = "[Service]\nType=oneshot\nSlice=system.slice\nExecStart=/bin/uname\nStandardOutput=null\nSystemCallLog=uname\n";
        manager.write(&format!("new-{number}.service"), text);
    }
    manager.reload();
    assert!(manager.start_unit("storm.service"));
    let mut random = Random(u64::from(now().subsec_nanos()) | 1);
    let mut journal: Option<UnixDatagram> = None;
    let mut told = 0;
    for round in 0..times {
        let dir = manager.base().join(format!("round-{round}"));
        fs::create_dir(&dir).unwrap();
        std::os::unix::fs::symlink(&state, dir.join("state")).unwrap();
        let mut daemon = Daemon::start(manager.command(&[PROGRAM]), &manager.bus(), &dir);
        let journal = journal.get_or_insert_with(|| {
            let directory = daemon.root().join("run/systemd/journal");
            fs::create_dir_all(&directory).unwrap();
            let socket = UnixDatagram::bind(directory.join("socket")).unwrap();
            socket.set_nonblocking(true).unwrap();
            socket
        });
        // Sometimes long enough for a flush.
        let life = if round % 5 == 4 { 2_000 } else { 300 };
        let (wait, long) = (Duration::from_millis(random.below(life)), life > 1_000);
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let late = scope.spawn(|| lateness(&dir, &stop));
            scope.spawn(|| {
                for number in 3 * round..3 * round + 3 {
                    manager.start_unit(&format!("new-{number}.service"));
                }
            });
            std::thread::sleep(if long { MAX_COUNT_LAG + SLACK + wait } else { wait });
            let killed = now();
            daemon.signal(Signal::SIGKILL);
            stop.store(true, Ordering::Relaxed);
            daemon.wait();
            let stored = incidents(&state);
            let mut buffer = [0; 16 << 10];
            while let Ok(length) = journal.recv(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
                let unit = text.lines().find_map(|line| line.strip_prefix("OBJECT_SYSTEMD_UNIT="));
                let Some(unit) = unit.filter(|_| text.contains("SYSLOG_IDENTIFIER=harden-whyd")) else { continue };
                assert!(of(&stored, unit).is_some(), "round {round}: {unit} was told and is not stored");
                told += 1;
            }
            if long {
                let storm = of(&stored, "storm.service").expect("a storm is stored");
                let Moment::At(last) = storm.last else { panic!("{storm:?}") };
                let behind = killed.saturating_sub(Duration::from_millis(last.unsigned_abs()));
                let late = late.join().unwrap();
                println!("round {round}: behind by {behind:?}, the machine by {late:?}");
                assert!(
                    behind < MAX_COUNT_LAG + SLACK + late,
                    "round {round}: behind by {behind:?}, the machine by {late:?}"
                );
            }
        });
    }
    assert!(told > 0, "nothing was told at all");
    let (_, set_aside) = Store::open_or_replace(&state).unwrap();
    assert!(set_aside.is_none(), "{set_aside:?}");
    println!("{told} alerts in {times} lives, all of them stored");
}
