//! The loop over a source that a test writes to, without a bus, a journal or a manager.

use super::*;
use crate::audit::parse_record;
use crate::daemon::explainer::Explainer;
use crate::daemon::silent_deaths::CountedDeath;
use crate::daemon::store_owner::Retention;
use crate::daemon::store_writer::{StoreWriter, Written};
use crate::daemon::system_settings::SystemSettings;
use crate::host::late_evidence::LateEvidence;
use crate::host::live_host::LiveHost;
use crate::incidents::{IncidentEvent, IncidentKey, Moment, Query, Sample, Sighting, Store, StoreError};
use crate::intake::netlink::{AuditSocket, AuditStream};
use crate::kernel::clock::now_millis;
use crate::outlet::client_requests;
use crate::systemd::manager::Managers;
use crate::units::{Manager, Unit};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, send, socketpair};
use std::io::Write as _;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;
use std::sync::Arc;

const NOWHERE: &str = "/nonexistent";

fn event_loop(dir: &Path, audit: OwnedFd) -> EventLoop {
    let managers = Managers::with_paths(format!("unix:path={NOWHERE}"), NOWHERE);
    let host = LiveHost::new(LateEvidence::new(managers));
    let config = ReloadableConfig::load(Some(NOWHERE.into())).unwrap();
    let settings = Config::default();
    let writer = StoreWriter::start(Some(Store::open(dir).unwrap()), dir.into(), Retention::from(&settings)).unwrap();
    let system = Arc::new(SystemSettings::new(host.late_evidence().managers()));
    let explainer = Explainer::new(Arc::clone(&system));
    let status = SharedStatus::default();
    let (orders, requests) = client_requests::channel();
    let address = format!("unix:path={NOWHERE}").parse().unwrap();
    EventLoop {
        sources: RecordSources::new(vec![Box::new(AuditStream::new(AuditSocket::from_fd(audit)).unwrap())]),
        exits: ExitEvents::unavailable(),
        watcher: CallWatcher::new(system),
        bus: BusConnection::start(address, dir.into(), status.source(NOWHERE.into()), orders),
        requests,
        config,
        stop: StopSignals::register().unwrap(),
        attributor: Attributor::new(host, settings.max_in_memory, status.clone()),
        storage: Storage::new(writer, status.clone()),
        alerts: Alerts::new(NOWHERE, settings.alerts, explainer),
        status,
        turn: TurnState::default(),
    }
}

impl EventLoop {
    /// Passes the attributor a record with this pid and seccomp action.
    fn take_record(&mut self, pid: u32, code: u32) {
        let line = format!(
            "audit({}.000:7): auid=0 uid=0 gid=0 ses=1 pid={pid} comm=\"a\" exe=\"/a\" sig=0 arch=c000003e syscall=41 \
             compat=0 ip=0x1 code={code:#x}",
            now_millis() / 1000
        );
        let record = parse_record(line.as_bytes()).unwrap();
        assert!(self.attributor.on_record(&record, Instant::now()).is_none(), "the unit is not known");
    }
}

#[tokio::test]
async fn loop_whose_source_ends_stores_everything() {
    let temp = tempfile::tempdir().unwrap();
    let (reader, mut writer) = std::io::pipe().unwrap();
    let mut event_loop = event_loop(temp.path(), reader.into());
    // No process can have these pids. One record waits for an exit event, the other for systemd's answer.
    event_loop.take_record(4_194_400, 0x8000_0000);
    event_loop.take_record(4_194_401, 0x0005_0000);
    assert!(event_loop.attributor.awaits_soon());
    writer.write_all(b"x").unwrap();
    let outcome = Box::pin(event_loop.run()).await;
    assert!(outcome.unwrap_err().to_string().contains("cannot read the kernel"));
    let stored = Store::open_read_only(temp.path()).unwrap().incidents(&Query::default()).unwrap();
    assert_eq!(stored.len(), 2, "{stored:?}");
}

#[tokio::test]
async fn turn_ends_when_its_time_is_over() {
    let temp = tempfile::tempdir().unwrap();
    let (reader, writer) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_NONBLOCK).unwrap();
    let mut event_loop = event_loop(temp.path(), reader);
    let sent = 130;
    for _ in 0..sent {
        send(writer.as_raw_fd(), b"x", MsgFlags::empty()).unwrap();
    }
    let mut turns = 0;
    while event_loop.receive_records_until(Instant::now()).unwrap() == Drained::No {
        turns += 1;
        assert!(event_loop.status.lock().ignored <= 64 * turns, "{turns}");
    }
    assert_eq!((event_loop.status.lock().ignored, turns), (sent, 3));
    event_loop.finish().await;
}

#[tokio::test]
async fn incident_that_cannot_be_stored_is_stored_later() {
    let temp = tempfile::tempdir().unwrap();
    let (reader, _writer) = std::io::pipe().unwrap();
    let mut event_loop = event_loop(temp.path(), reader.into());
    event_loop.take_record(4_194_400, 0x0005_0000);
    let counted = event_loop.attributor.give_up();
    event_loop.schedule(counted);
    event_loop.storage.flush(event_loop.attributor.fold_mut());
    let JobResult::Recorded(written) = event_loop.storage.job_result().await else { panic!("nothing was recorded") };
    let full = StoreError::Full { path: NOWHERE.into() };
    let failed = JobResult::Recorded(Written { rows: Err(full), ..written });
    assert!(event_loop.on_job_result(failed).is_empty());
    assert!(event_loop.status.lock().store_error.is_some());
    assert!(event_loop.next_wake().is_some_and(|at| at > Instant::now()), "the next attempt is later");
    event_loop.storage.flush(event_loop.attributor.fold_mut());
    let result = event_loop.storage.job_result().await;
    assert_eq!(event_loop.on_job_result(result).len(), 1, "the incident is announced once it is stored");
    assert_eq!(event_loop.status.lock().store_error, None);
    event_loop.finish().await;
}

#[tokio::test]
async fn request_in_a_storm_leaves_records_to_the_kernel_while_memory_waits_for_the_writer() {
    let temp = tempfile::tempdir().unwrap();
    let (reader, writer) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_NONBLOCK).unwrap();
    let mut event_loop = event_loop(temp.path(), reader);
    let fold = event_loop.attributor.fold_mut();
    fold.set_limit(4);
    let sighting = |uid: u32| {
        let event = IncidentEvent::UnrecordedDeath;
        let key = IncidentKey { unit: None, event, exe: uid.to_string().into(), source: SightingSource::Audit };
        let sample = Sample { uid: uid.to_string().into(), ..Sample::default() };
        Sighting { key, rung: None, at: Moment::At(now_millis()), sample }
    };
    let _ = fold.add(sighting(0));
    event_loop.storage.flush(fold);
    for uid in 1..5 {
        let _ = fold.add(sighting(uid));
    }
    // The hold is over.
    tokio::time::sleep(Duration::from_millis(150)).await;
    for _ in 0..130 {
        send(writer.as_raw_fd(), b"x", MsgFlags::empty()).unwrap();
    }
    assert!(event_loop.storage.is_busy() && event_loop.holds_until().is_none());
    event_loop.catch_up(Duration::ZERO).unwrap();
    assert_eq!(event_loop.status.lock().ignored, 64, "one batch");
    event_loop.finish().await;
}

fn count_deaths(stored: &[Stored]) -> Vec<u64> {
    stored.iter().filter(|one| one.incident.denial().is_none()).map(|one| one.incident.count).collect()
}

#[tokio::test]
async fn record_that_comes_after_its_death_was_stored_as_silent_takes_the_death_back() {
    const PID: u32 = 4_194_400;
    let temp = tempfile::tempdir().unwrap();
    let (reader, _writer) = std::io::pipe().unwrap();
    let mut event_loop = event_loop(temp.path(), reader.into());
    let unit = Unit { manager: Manager::System, name: "a.service".parse().unwrap() };
    let key = IncidentKey {
        unit: Some(unit),
        event: IncidentEvent::UnrecordedDeath,
        exe: Vec::new(),
        source: SightingSource::Audit,
    };
    let at = now_millis();
    for pid in [PID, PID + 1] {
        let sample = Sample { pid, ..Sample::default() };
        let folded =
            event_loop.attributor.fold_mut().add(Sighting { key: key.clone(), rung: None, at: Moment::At(at), sample });
        event_loop.attributor.remember_silent_death(CountedDeath { key: key.clone(), pid, at });
        event_loop.schedule(vec![folded]);
    }
    event_loop.storage.flush(event_loop.attributor.fold_mut());
    let result = event_loop.storage.job_result().await;
    let _ = event_loop.on_job_result(result);
    let read = || Store::open_read_only(temp.path()).unwrap().incidents(&Query::default()).unwrap();
    assert_eq!(count_deaths(&read()), [2]);
    event_loop.take_record(PID, 0x8000_0000);
    event_loop.poll();
    // A third death is still in memory as its record comes.
    let sample = Sample { pid: PID + 2, ..Sample::default() };
    let _ = event_loop.attributor.fold_mut().add(Sighting { key: key.clone(), rung: None, at: Moment::At(at), sample });
    event_loop.attributor.remember_silent_death(CountedDeath { key, pid: PID + 2, at });
    event_loop.take_record(PID + 2, 0x8000_0000);
    event_loop.poll();
    event_loop.take_record(PID + 1, 0x8000_0000);
    event_loop.poll();
    event_loop.finish().await;
    let stored = read();
    assert_eq!(count_deaths(&stored), [0; 0], "{stored:?}");
    assert_eq!(stored.iter().map(|one| one.incident.count).sum::<u64>(), 3, "the records count instead");
}
