//! The loop over a source that a test writes to, without a bus, a journal or a manager.

use super::*;
use crate::audit::parse_record;
use crate::daemon::explainer::Explainer;
use crate::daemon::store_writer::{Retention, StoreWriter};
use crate::host::late_evidence::LateEvidence;
use crate::host::live_host::LiveHost;
use crate::incidents::{Query, Store, StoreError};
use crate::intake::netlink::{AuditSocket, AuditStream};
use crate::kernel::clock::now_millis;
use crate::outlet::client_requests;
use crate::systemd::manager::Managers;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, send, socketpair};
use std::io::Write as _;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;

const NOWHERE: &str = "/nonexistent";

fn event_loop(dir: &Path, audit: OwnedFd) -> EventLoop {
    let managers = Managers::with_paths(format!("unix:path={NOWHERE}"), NOWHERE);
    let host = LiveHost::new(LateEvidence::new(managers));
    let config = ReloadableConfig::load(Some(NOWHERE.into())).unwrap();
    let settings = Config::default();
    let writer = StoreWriter::start(Some(Store::open(dir).unwrap()), dir.into(), Retention::from(&settings)).unwrap();
    let explainer = Explainer::new(host.late_evidence().managers());
    let status = SharedStatus::default();
    let (orders, requests) = client_requests::channel();
    let address = format!("unix:path={NOWHERE}").parse().unwrap();
    EventLoop {
        sources: RecordSources::new(vec![Box::new(AuditStream::new(AuditSocket::from_fd(audit)).unwrap())]),
        exits: ExitEvents::unavailable(),
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
    let outcome = event_loop.run().await;
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
    let written = event_loop.storage.written().await;
    let full = StoreError::Full { path: NOWHERE.into() };
    assert!(event_loop.on_written(Written { rows: Err(full), ..written }).is_empty());
    assert!(event_loop.status.lock().store_error.is_some());
    assert!(event_loop.next_wake().is_some_and(|at| at > Instant::now()), "the next attempt is later");
    event_loop.storage.flush(event_loop.attributor.fold_mut());
    let written = event_loop.storage.written().await;
    assert_eq!(event_loop.on_written(written).len(), 1, "the incident is announced once it is stored");
    assert_eq!(event_loop.status.lock().store_error, None);
    event_loop.finish().await;
}
