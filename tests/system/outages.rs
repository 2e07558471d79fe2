//! The real daemon on SIGTERM, and while the disk or the bus fails.

use crate::support::bus::{Bus, asked};
use crate::support::child::{call, listen, payload_of, violate};
use crate::support::daemon::{Daemon, Journal, PROGRAM, incidents, wait_for};
use crate::support::skip::skip;
use harden_why::audit::Action;
use harden_why::incidents::store::{FILE, SCHEMA};
use harden_why::incidents::{Denial, Incident, IncidentEvent};
use harden_why::intake::netlink::AuditSocket;
use harden_why::kernel::seccomp::{ALLOW, SeccompFilter, return_value};
use harden_why::outlet::client::HardenWhyProxy;
use harden_why::outlet::wire::{BusError, IncidentDict};
use harden_why::syscalls::{Arch, Call};
use nix::sys::signal::Signal;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const NO_BUS: &str = "unix:path=/nonexistent/bus";

/// The denials of one test, which their call distinguishes from all others.
struct Denials {
    audit: AuditSocket,
    number: u32,
}

impl Denials {
    fn begin() -> Option<Self> {
        /// Calls that no other test makes. The filter kills before they run. Each test has its own: the daemon counts
        /// calls without a name together.
        const RARE: [libc::c_long; 16] = [
            libc::SYS_add_key,
            libc::SYS_get_mempolicy,
            libc::SYS_io_destroy,
            libc::SYS_io_setup,
            libc::SYS_keyctl,
            libc::SYS_mbind,
            libc::SYS_migrate_pages,
            libc::SYS_move_pages,
            libc::SYS_mq_unlink,
            libc::SYS_quotactl,
            libc::SYS_remap_file_pages,
            libc::SYS_request_key,
            libc::SYS_set_mempolicy,
            libc::SYS_swapoff,
            libc::SYS_swapon,
            libc::SYS_vhangup,
        ];
        static TESTS: AtomicUsize = AtomicUsize::new(0);
        let number = u32::try_from(RARE[TESTS.fetch_add(1, Ordering::Relaxed)]).unwrap();
        Some(Self { audit: listen()?, number })
    }

    /// Kills a child for its call. Returns when the kernel has written the record.
    fn one_more(&mut self) {
        let filter = SeccompFilter::new(Arch::native(), &[(self.number, return_value(Action::KillProcess, 0))], ALLOW);
        let (pid, _) = violate(filter, c"denied", call(self.number));
        payload_of(&mut self.audit, pid);
    }

    /// Returns how many of them are among these incidents.
    fn counted(&self, incidents: &[Incident]) -> u64 {
        let call = Call::numbered(Arch::native(), self.number);
        let ours = IncidentEvent::Denial(Denial { call, action: Action::KillProcess });
        incidents.iter().filter(|incident| incident.key.event == ours).map(|incident| incident.count).sum()
    }

    /// Waits until so many are stored.
    #[track_caller]
    fn wait_for(&self, count: u64, state: &Path, daemon: &Daemon) {
        let counted = || self.counted(&incidents(state));
        wait_for(|| (counted() == count).then_some(()), || format!("{} of {count}: {}", counted(), daemon.log()));
    }
}

/// A command that runs another one with a small file system of its own mounted on a directory.
fn on_own_disk(options: &str, directory: &Path) -> Option<Command> {
    let able = Command::new("unshare").args(["--mount", "true"]).status().is_ok_and(|status| status.success());
    if !able {
        skip("mounting requires root");
        return None;
    }
    fs::create_dir_all(directory).unwrap();
    let mut command = Command::new("unshare");
    let script = format!("mount -t tmpfs -o {options} tmpfs {} && exec \"$0\" \"$@\"", directory.display());
    command.args(["--mount", "sh", "-c", &script, PROGRAM]);
    Some(command)
}

#[test]
fn signal_ends_the_daemon_with_everything_stored() {
    let Some(mut denials) = Denials::begin() else { return };
    let temp = tempfile::tempdir().unwrap();
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let dir = temp.path().join(signal.as_str());
        let mut daemon = Daemon::start(Command::new(PROGRAM), NO_BUS, &dir);
        for _ in 0..3 {
            denials.one_more();
        }
        daemon.signal(signal);
        daemon.wait_for_state("STOPPING=1");
        assert!(daemon.wait().success(), "{}", daemon.log());
        daemon.wait_for_log(signal.as_str());
        let stored = daemon.stored();
        assert_eq!(denials.counted(&stored), 3, "{}", daemon.log());
        // No unit started them, but the user who did is known.
        let own = |incident: &&Incident| denials.counted(std::slice::from_ref(incident)) > 0;
        let parent = stored.iter().find(own).and_then(|incident| incident.sample.parent.clone());
        assert_eq!(parent.map(|parent| parent.pid), Some(std::process::id()), "{}", daemon.log());
    }
}

/// Runs a daemon that cannot start, and returns its one line about it.
fn refused(mut command: Command, state: &Path) -> String {
    let output = command.args(["--bus", NO_BUS, "--state-dir"]).arg(state).env_remove("RUST_LOG").output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.trim_start().starts_with("ERROR ") && !said.contains("panicked"), "{said}");
    said
}

fn database(state: &Path, pragma: &str) {
    fs::create_dir_all(state).unwrap();
    let conn = rusqlite::Connection::open(state.join(FILE)).unwrap();
    conn.execute_batch(&format!("{pragma}; CREATE TABLE x (y)")).unwrap();
}

#[test]
fn unusable_store_is_reported_in_one_line() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name);
    database(&at("newer"), &format!("PRAGMA application_id = 0x68647779; PRAGMA user_version = {}", SCHEMA + 1));
    let said = refused(Command::new(PROGRAM), &at("newer"));
    assert!(said.contains("upgrade harden-why"), "{said}");

    database(&at("foreign"), "PRAGMA application_id = 7");
    let said = refused(Command::new(PROGRAM), &at("foreign"));
    assert!(said.contains("belongs to another program"), "{said}");
}

#[test]
fn damaged_store_is_kept_and_a_new_one_created() {
    let Some(mut denials) = Denials::begin() else { return };
    let temp = tempfile::tempdir().unwrap();
    let state = temp.path().join("state");
    fs::create_dir(&state).unwrap();
    fs::write(state.join(FILE), [0xa5; 9999]).unwrap();
    let daemon = Daemon::start(Command::new(PROGRAM), NO_BUS, temp.path());
    daemon.wait_for_log("a new store was started");
    assert_eq!(fs::read(state.join(format!("{FILE}.damaged-1"))).unwrap(), [0xa5; 9999]);
    denials.one_more();
    denials.wait_for(1, &state, &daemon);
    daemon.stop();
}

#[test]
fn incidents_that_a_full_disk_refuses_are_stored_later() {
    let Some(mut denials) = Denials::begin() else { return };
    let temp = tempfile::tempdir().unwrap();
    let Some(command) = on_own_disk("size=1m", &temp.path().join("state")) else { return };
    let daemon = Daemon::start(command, NO_BUS, temp.path());
    let state = daemon.root().join(temp.path().strip_prefix("/").unwrap()).join("state");
    let ballast = state.join("ballast");
    // As much as there is room for.
    assert!(fs::write(&ballast, vec![0; 2 << 20]).is_err());
    denials.one_more();
    daemon.wait_for_log("cannot grow");
    fs::remove_file(&ballast).unwrap();
    daemon.wait_for_log("is writable again");
    assert_eq!(denials.counted(&incidents(&copied(&daemon, temp.path(), "state"))), 1, "{}", daemon.log());
    daemon.stop();
}

/// A daemon that starts without a store reports so, listens, and stores its incidents once it can.
fn begins_without(
    command: Command,
    temp: &Path,
    why: &str,
    mend: impl FnOnce(&Daemon),
    stored: impl Fn(&Daemon) -> PathBuf,
) {
    let Some(mut denials) = Denials::begin() else { return };
    let Some((_bus, address)) = Bus::within(temp) else { return };
    let daemon = Daemon::start(command, &address, temp);
    daemon.wait_for_log("incidents are kept in memory and stored as soon as possible");
    let status = wait_for(|| asked(&address), || daemon.log());
    assert!(status.listening && status.store_error.as_ref().is_some_and(|error| error.contains(why)), "{status:?}");
    for _ in 0..3 {
        denials.one_more();
    }
    wait_for(|| asked(&address).filter(|status| status.records >= 3), || daemon.log());
    mend(&daemon);
    daemon.wait_for_log("the store is writable again");
    let counted = || denials.counted(&incidents(&stored(&daemon)));
    wait_for(|| (counted() == 3).then_some(()), || format!("{}: {}", counted(), daemon.log()));
    wait_for(|| asked(&address).filter(|status| status.store_error.is_none()), || daemon.log());
    daemon.stop();
}

/// A copy of a store that only the daemon reaches: `SQLite` cannot open a path through another process's root.
fn copied(daemon: &Daemon, temp: &Path, state: &str) -> PathBuf {
    let copy = temp.join("copy");
    fs::create_dir_all(&copy).unwrap();
    let state = daemon.root().join(temp.strip_prefix("/").unwrap()).join(state);
    for suffix in ["", "-wal"] {
        let name = format!("{FILE}{suffix}");
        _ = fs::copy(state.join(&name), copy.join(&name));
    }
    copy
}

#[test]
fn full_disk_at_the_start_is_waited_for() {
    let temp = tempfile::tempdir().unwrap();
    let Some(command) = on_own_disk("size=8k", &temp.path().join("state")) else { return };
    let larger = |daemon: &Daemon| {
        let state = temp.path().join("state");
        let target = daemon.pid().to_string();
        let mut remount = Command::new("nsenter");
        remount.args(["--target", &target, "--mount", "mount", "-o", "remount,size=1m"]).arg(&state);
        assert!(remount.status().unwrap().success());
    };
    begins_without(command, temp.path(), "cannot grow", larger, |daemon| copied(daemon, temp.path(), "state"));
}

#[test]
fn read_only_disk_at_the_start_is_waited_for() {
    let temp = tempfile::tempdir().unwrap();
    let Some(command) = on_own_disk("ro", &temp.path().join("state")) else { return };
    let writable = |daemon: &Daemon| {
        let target = daemon.pid().to_string();
        let mut remount = Command::new("nsenter");
        remount.args(["--target", &target, "--mount", "mount", "-o", "remount,rw"]).arg(temp.path().join("state"));
        assert!(remount.status().unwrap().success());
    };
    begins_without(command, temp.path(), "cannot write", writable, |daemon| copied(daemon, temp.path(), "state"));
}

#[test]
fn locked_store_at_the_start_is_waited_for() {
    let temp = tempfile::tempdir().unwrap();
    let state = temp.path().join("state");
    drop(harden_why::incidents::Store::open(&state).unwrap());
    let other = rusqlite::Connection::open(state.join(FILE)).unwrap();
    other.execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; COMMIT").unwrap();
    begins_without(Command::new(PROGRAM), temp.path(), "is busy", |_| drop(other), |_| state.clone());
}

#[test]
fn unusable_state_directory_at_the_start_is_waited_for() {
    let temp = tempfile::tempdir().unwrap();
    let state = temp.path().join("state");
    fs::write(&state, "").unwrap();
    let remove = |_: &Daemon| fs::remove_file(&state).unwrap();
    begins_without(Command::new(PROGRAM), temp.path(), "state", remove, |_| state.clone());
}

#[test]
fn incidents_that_a_locked_store_refuses_are_stored_later() {
    let Some(mut denials) = Denials::begin() else { return };
    let temp = tempfile::tempdir().unwrap();
    let state = temp.path().join("state");
    let daemon = Daemon::start(Command::new(PROGRAM), NO_BUS, temp.path());
    denials.one_more();
    denials.wait_for(1, &state, &daemon);
    let other = rusqlite::Connection::open(state.join(FILE)).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    denials.one_more();
    daemon.wait_for_log("is busy");
    denials.one_more();
    other.execute_batch("ROLLBACK").unwrap();
    daemon.wait_for_log("is writable again");
    denials.wait_for(3, &state, &daemon);
    daemon.stop();
}

#[test]
fn store_damaged_at_work_is_kept_and_a_new_one_created() {
    let Some(mut denials) = Denials::begin() else { return };
    let temp = tempfile::tempdir().unwrap();
    let Some((_bus, address)) = Bus::within(temp.path()) else { return };
    let state = temp.path().join("state");
    let daemon = Daemon::start(Command::new(PROGRAM), &address, temp.path());
    denials.one_more();
    denials.wait_for(1, &state, &daemon);
    let path = state.join(FILE);
    // All of it into the file itself, where the test can damage it.
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    drop(other);
    let length = usize::try_from(fs::metadata(&path).unwrap().len()).unwrap();
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &vec![0xa5; length - 4096], 4096).unwrap();
    denials.one_more();
    daemon.wait_for_log("a new store was started");
    denials.wait_for(1, &state, &daemon);
    let aside = state.join(format!("{FILE}.damaged-1"));
    assert!(fs::read(&aside).unwrap().ends_with(&[0xa5; 4096]), "it is as it was");
    let status = wait_for(|| asked(&address), || daemon.log());
    let told = |text: &String| text.contains("damaged-1") && text.contains("answers lack earlier incidents");
    assert!(status.limitations.iter().any(told), "{status:?}");
    assert_eq!(status.store_error, None);
    daemon.stop();
}

#[test]
fn store_removed_at_work_is_created_again() {
    let Some(mut denials) = Denials::begin() else { return };
    let temp = tempfile::tempdir().unwrap();
    let Some((_bus, address)) = Bus::within(temp.path()) else { return };
    let state = temp.path().join("state");
    let daemon = Daemon::start(Command::new(PROGRAM), &address, temp.path());
    denials.one_more();
    denials.wait_for(1, &state, &daemon);
    for file in fs::read_dir(&state).unwrap() {
        fs::remove_file(file.unwrap().path()).unwrap();
    }
    for _ in 0..2 {
        denials.one_more();
    }
    daemon.wait_for_log("was removed or replaced while harden-whyd wrote it");
    denials.wait_for(2, &state, &daemon);
    let status = wait_for(|| asked(&address), || daemon.log());
    let told = |text: &String| text.contains("was removed") && text.contains("answers lack earlier incidents");
    assert!(status.limitations.iter().any(told), "{status:?}");
    assert_eq!(status.store_error, None);
    daemon.stop();
    assert_eq!(denials.counted(&incidents(&state)), 2, "also after it ended");
}

/// The most memory that a process had, in KiB.
fn peak(daemon: &Daemon) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn sender_of_too_much_costs_no_memory() {
    if listen().is_none() {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let Some((_bus, address)) = Bus::within(temp.path()) else { return };
    let daemon = Daemon::start(Command::new(PROGRAM), &address, temp.path());
    wait_for(|| asked(&address), || daemon.log());
    let before = peak(&daemon);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let refused = runtime.block_on(async {
        let connection = zbus::connection::Builder::address(address.as_str()).build().await.unwrap();
        let daemon = HardenWhyProxy::new(&connection).await.unwrap();
        // Some 8 MB as a message, and six times that as dictionaries.
        let dicts: Arc<Vec<IncidentDict>> = Arc::new(vec![IncidentDict::default(); 50_000]);
        let mut sent = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let (daemon, dicts) = (daemon.clone(), Arc::clone(&dicts));
            sent.spawn(async move { daemon.report(&dicts).await });
        }
        sent.join_all().await
    });
    assert!(refused.iter().all(|answer| matches!(answer, Err(BusError::InvalidArgument(_)))), "{refused:?}");
    let after = peak(&daemon);
    println!("at most {before} KiB before, {after} KiB after");
    assert!(after < before + (64 << 10), "{before} KiB, then {after} KiB");
    daemon.stop();
}

#[test]
fn alerts_are_sent_later_where_the_journal_is_away() {
    let Some(mut denials) = Denials::begin() else { return };
    let temp = tempfile::tempdir().unwrap();
    let Some((_bus, address)) = Bus::within(temp.path()) else { return };
    let Some(command) = on_own_disk("size=1m", Path::new("/run/systemd")) else { return };
    let daemon = Daemon::start(command, &address, temp.path());
    denials.one_more();
    daemon.wait_for_log("alerts wait until the journal accepts them");
    let status = wait_for(|| asked(&address), || daemon.log());
    assert!(status.journal_error.is_some_and(|error| error.contains("/run/systemd/journal/socket")));
    let journal = Journal::of(&daemon);
    journal.next(&format!("HARDEN_WHY_CALL_NUMBER={}", denials.number));
    daemon.wait_for_log("the journal accepts alerts again");
    let caught_up = || asked(&address).filter(|status| status.journal_error.is_none());
    wait_for(caught_up, || daemon.log());
    daemon.stop();
}

#[test]
fn two_daemons_do_not_share_a_store() {
    let Some(mut denials) = Denials::begin() else { return };
    let temp = tempfile::tempdir().unwrap();
    let state = temp.path().join("state");
    let daemon = Daemon::start(Command::new(PROGRAM), NO_BUS, temp.path());
    let said = refused(Command::new(PROGRAM), &state);
    assert!(said.contains("in use by another harden-whyd"), "{said}");
    denials.one_more();
    denials.wait_for(1, &state, &daemon);
    daemon.stop();
}

#[test]
fn bus_may_come_late_and_go_and_come_back() {
    let Some(mut denials) = Denials::begin() else { return };
    let temp = tempfile::tempdir().unwrap();
    let socket: PathBuf = temp.path().join("bus");
    let address = format!("unix:path={}", socket.display());
    let daemon = Daemon::start(Command::new(PROGRAM), &address, &temp.path().join("first"));
    let state = temp.path().join("first/state");
    daemon.wait_for_log("cannot offer org.hardenwhy1");
    daemon.wait_for_log("--state-dir");
    denials.one_more();
    denials.wait_for(1, &state, &daemon);

    let mut bus = Bus::start(&address);
    for outage in 2..4 {
        if bus.is_none() {
            return;
        }
        let status = wait_for(|| asked(&address), || daemon.log());
        assert!(status.listening && status.records > 0);
        drop(bus.take());
        _ = fs::remove_file(&socket);
        denials.one_more();
        denials.wait_for(outage, &state, &daemon);
        bus = Bus::start(&address);
    }
    let status = wait_for(|| asked(&address), || daemon.log());

    // Where one daemon has the name already, another says so, and takes over once it can.
    let second = Daemon::start(Command::new(PROGRAM), &address, &temp.path().join("second"));
    second.wait_for_log("cannot offer org.hardenwhy1");
    assert_eq!(asked(&address).unwrap().since, status.since, "the first");
    daemon.stop();
    let after = wait_for(|| asked(&address), || second.log());
    assert!(after.since > status.since, "the second");
    second.stop();
}

/// Sets how many descriptors the daemon may have.
fn limit_descriptors(daemon: &Daemon, most: u64) {
    let limit = libc::rlimit { rlim_cur: most, rlim_max: 8_192 };
    let pid = daemon.pid().cast_signed();
    // SAFETY: `limit` outlives the call, and a null pointer asks for no old limit.
    let set = unsafe { libc::prlimit(pid, libc::RLIMIT_NOFILE, &raw const limit, std::ptr::null_mut()) };
    assert_eq!(set, 0);
}

#[test]
fn daemon_without_free_descriptors_goes_on_and_names_the_reason() {
    let Some(mut denials) = Denials::begin() else { return };
    let temp = tempfile::tempdir().unwrap();
    let Some((_bus, address)) = Bus::within(temp.path()) else { return };
    let state = temp.path().join("state");
    let daemon = Daemon::start(Command::new(PROGRAM), &address, temp.path());
    denials.one_more();
    denials.wait_for(1, &state, &daemon);
    limit_descriptors(&daemon, daemon.lowest_free_descriptor());
    denials.one_more();
    let error = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let connection = zbus::connection::Builder::address(&*address).build().await.unwrap();
        let proxy = HardenWhyProxy::new(&connection).await.unwrap();
        proxy.list_incidents("", "", 0, 0, 10).await.unwrap_err()
    });
    assert!(error.to_string().contains("Too many open files"), "{error}");
    limit_descriptors(&daemon, 8_192);
    denials.one_more();
    denials.wait_for(3, &state, &daemon);
    daemon.stop();
}
