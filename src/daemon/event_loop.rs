//! What the loop holds, and what it does with each thing that arrives.

use super::alerts::{Alerts, News};
use super::config::Config;
use super::flush_schedule::{JustStored, Outcome, Storing};
use super::journal_lookup::{Again, Looked};
use super::query_batch::Asks;
use super::reconcile::Reconciler;
use super::writer::{Done, Retention, Writer};
use crate::audit::serials::Serials;
use crate::audit::text::Escaped;
use crate::audit::{Action, Malformed, parse_record, parse_serial};
use crate::host::blind_spots;
use crate::host::live_host::{DeathEvidence, LiveHost};
use crate::incidents::{IncidentEvent, SightingSource, StoreError, Stored};
use crate::intake::netlink::{AuditMessage, AuditSocket, ReceiveError};
use crate::kernel::clock::now_millis;
use crate::kernel::proc_events::{ExitListener, Notice};
use crate::outlet::client_requests::{Order, Ordered};
use crate::outlet::wire::Status;
use crate::pipeline::{Open, Pipeline, Sighted};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Of how many incidents that go on others are told at once.
const TOLD_AGAIN: usize = 64;

/// So many records at once are a storm, and then we let some gather: waking for each costs more than the records.
const STORM: u64 = 16;
const GATHER: Duration = Duration::from_millis(1);

/// How many batches of records are taken before others get their turn, and how many exit events; and for how long, since
/// nobody knows what they cost.
const BATCHES: usize = 64;
const EVENTS: usize = 4096;
const TURN: Duration = Duration::from_millis(50);

/// The state of the loop.
pub(crate) struct Watch {
    pipeline: Pipeline<LiveHost>,
    reconciler: Reconciler,
    serials: Serials,
    status: Arc<Mutex<Status>>,
    pub(crate) asks: Asks,
    pub(crate) again: Again,
    pub(crate) storing: Storing,
    pub(crate) alerts: Alerts,
    /// Until when records may gather.
    rests_until: Option<Instant>,
    /// What the kernel has sent is to be taken now.
    pub(crate) in_haste: bool,
}

impl Watch {
    /// `most` incidents are held in memory.
    pub(crate) fn new(host: LiveHost, most: usize, writer: Writer, alerts: Alerts, status: Arc<Mutex<Status>>) -> Self {
        Self {
            pipeline: Pipeline::new(host, most),
            reconciler: Reconciler::default(),
            serials: Serials::default(),
            status,
            asks: Asks::default(),
            again: Again::default(),
            storing: Storing::by(writer),
            alerts,
            rests_until: None,
            in_haste: false,
        }
    }

    /// Another configuration holds from now on.
    pub(crate) fn configure(&mut self, config: &Config) {
        self.pipeline.fold.set_limit(config.most_in_memory);
        self.storing.keep(Retention { keep: config.keep, most: config.most_stored });
        self.alerts.limit(config.alerts.clone());
    }

    /// Takes what the audit socket has; true when it has no more.
    pub(crate) fn hear(&mut self, audit: &mut AuditSocket) -> Result<bool, ReceiveError> {
        self.hear_until(audit, Instant::now() + TURN)
    }

    /// The same until a moment, or for a batch.
    fn hear_until(&mut self, audit: &mut AuditSocket, until: Instant) -> Result<bool, ReceiveError> {
        let status = Arc::clone(&self.status);
        let mut status = lock(&status);
        let before = status.records;
        self.rests_until = None;
        for _ in 0..BATCHES {
            if self.holds_until().is_some() {
                return Ok(false);
            }
            match audit.refill() {
                Ok(true) => {}
                Ok(false) => {
                    let storm = status.records - before >= STORM;
                    self.rests_until = storm.then(|| Instant::now() + GATHER);
                    return Ok(true);
                }
                Err(ReceiveError::Overrun) => {
                    status.overruns += 1;
                    tracing::warn!("the receive buffer overran: records were lost");
                    continue;
                }
                Err(error) => return Err(error),
            }
            let now = Instant::now();
            self.pipeline.host_mut().begin_batch();
            while let Some(message) = audit.take() {
                match message {
                    AuditMessage::Seccomp(payload) => match self.take(payload, now) {
                        Ok(()) => status.records += 1,
                        Err(why) => {
                            status.malformed += 1;
                            tracing::warn!("a SECCOMP record was not understood: {why}: {}", Escaped(payload));
                        }
                    },
                    AuditMessage::Other(payload) => {
                        self.count_serial(payload);
                        status.ignored += 1;
                    }
                    AuditMessage::Foreign => status.ignored += 1,
                }
            }
            status.lost = self.serials.missing();
            if Instant::now() >= until {
                break;
            }
        }
        Ok(false)
    }

    /// Until when records are better off in the kernel's buffer.
    pub(crate) fn holds_until(&self) -> Option<Instant> {
        self.storing.holds_until(&self.pipeline.fold).filter(|_| !self.in_haste)
    }

    /// Until when records may gather.
    pub(crate) fn rests_until(&self) -> Option<Instant> {
        self.rests_until.filter(|until| *until > Instant::now())
    }

    /// Takes what the exit listener has; true when it has no more.
    pub(crate) fn hear_exits(&mut self, exits: &mut ExitListener) -> io::Result<bool> {
        let now = Instant::now();
        for _ in 0..EVENTS {
            if now.elapsed() >= TURN {
                break;
            }
            match exits.receive() {
                Ok(None) => return Ok(true),
                Ok(Some(Notice::Dying(dying))) => {
                    let told = self.pipeline.host_mut().on_dying(&dying);
                    self.learn(dying.pid, told, now);
                }
                Ok(Some(Notice::Exit(exit))) => {
                    let told = self.pipeline.host_mut().on_exit(&exit);
                    let at = told.at;
                    self.learn(exit.pid, told, now);
                    self.reconciler.died(exit.pid, at, now);
                }
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    tracing::warn!("exit events were lost");
                    super::limit(
                        &self.status,
                        "exit events were lost: some deaths by SIGSYS without a record went unnoticed",
                    );
                }
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    /// Takes note that there will be no exit events any more.
    pub(crate) fn miss_exits(&self, error: &io::Error) {
        super::miss_exits(&self.status, error);
    }

    fn learn(&mut self, pid: u32, told: DeathEvidence, now: Instant) {
        for open in self.reconciler.learn(pid, told, now) {
            self.ask(open);
        }
    }

    fn count_serial(&mut self, payload: &[u8]) {
        if let Some(serial) = parse_serial(payload) {
            self.serials.observe(serial);
        }
    }

    fn take(&mut self, payload: &[u8], now: Instant) -> Result<(), Malformed> {
        let record = match parse_record(payload) {
            Ok(record) => record,
            Err(why) => {
                self.count_serial(payload);
                return Err(why);
            }
        };
        self.serials.observe(record.serial);
        let may_die = record.action.is_kill() || record.action == Action::Trap;
        if may_die {
            self.reconciler.recorded(record.pid, now);
        }
        self.storing.make_room(&mut self.pipeline.fold, now);
        match self.pipeline.sight(&record, None) {
            Sighted::Folded(folded) => self.storing.changed(folded, now),
            Sighted::Open(open) if may_die => {
                if let Some(open) = self.reconciler.wait_for_exit(*open, now) {
                    self.ask(open);
                }
            }
            Sighted::Open(open) => self.ask(*open),
            Sighted::Pending => {}
        }
        Ok(())
    }

    /// Folds what the evidence settles, and asks systemd about the rest.
    fn ask(&mut self, mut open: Open) {
        self.ask_ancestors(&mut open);
        let is_known = open.attribution().is_some() || open.is_settled();
        if !is_known && self.asks.has_room() { self.asks.push(open) } else { self.fold(open) }
    }

    /// Takes what systemd was asked about: folds it, or has the journal looked at.
    pub(crate) fn settle(&mut self, answered: Vec<Open>) {
        for mut open in answered {
            self.ask_ancestors(&mut open);
            if let Some(open) = if open.wants_more() { self.again.push(open) } else { Some(open) } {
                self.fold(open);
            }
        }
    }

    /// Takes what the journal was asked about: folds it, unless it is worth another look.
    pub(crate) fn looked(&mut self, (looked, seen): (Looked, Vec<Open>)) {
        let late_evidence = self.pipeline.host().late_evidence();
        if let Some(why) = late_evidence.journal_error() {
            super::limit(&self.status, &blind_spots::no_journal(why).to_string());
        }
        let now = Instant::now();
        let worthwhile = late_evidence.journal_error().is_none() || self.pipeline.host().is_learning();
        for mut open in seen {
            self.ask_ancestors(&mut open);
            let again = looked == Looked::Once && worthwhile && open.wants_more();
            if let Some(open) = if again { self.again.wait(open, now) } else { Some(open) } {
                self.fold(open);
            }
        }
    }

    /// Looks at a sighting's kin: for its unit, or, where that is known, for others' sake.
    fn ask_ancestors(&mut self, open: &mut Open) {
        let Some(who) = open.descendant() else { return };
        let host = self.pipeline.host_mut();
        if open.wants_more() {
            let told = host.ask_ancestors(who);
            open.learn(told);
        } else if let Some(found) = open.attribution() {
            host.witness(who, &found.unit);
        }
    }

    fn fold(&mut self, open: Open) {
        let sighting = open.sighting();
        // Any process may send itself SIGSYS; only what happens to a unit is our business.
        if sighting.key.event == IncidentEvent::SilentDeath && open.attribution().is_none() {
            tracing::debug!(pid = sighting.sample.pid, "a process of no unit died of SIGSYS without a record");
            return;
        }
        let folded = self.pipeline.settle(open);
        self.storing.changed(folded, Instant::now());
    }

    /// Takes what waited long enough as it is: what it waited for is not there.
    pub(crate) fn give_up_waiting(&mut self) {
        for open in self.reconciler.due(Instant::now()) {
            self.ask(open);
        }
    }

    /// When something waited long enough.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.reconciler.next_due()
    }

    /// What has to be done at this moment, whatever arrived.
    pub(crate) fn tend(&mut self) {
        let now = Instant::now();
        self.pipeline.host_mut().tend(now);
        self.alerts.send(now);
        if let Some(news) = self.alerts.news() {
            lock(&self.status).journal_error = match news {
                News::Again => None,
                News::Failing(why) => Some(why),
            };
        }
        let late_evidence = || self.pipeline.host().late_evidence();
        self.asks.begin(|sightings| {
            let late_evidence = late_evidence();
            async move { late_evidence.collect(&sightings).await }
        });
        self.again.begin(now, |sightings| {
            let late_evidence = late_evidence();
            async move { late_evidence.collect_from_journal(sightings).await }
        });
        lock(&self.status).given_way = self.pipeline.fold.dropped();
        self.storing.tend(&mut self.pipeline.fold, now);
    }

    /// When there is something to do next, whatever arrives.
    pub(crate) fn next_wake(&self) -> Option<Instant> {
        let later = self.again.next_wake().into_iter().chain(self.pipeline.host().next_wake());
        self.storing.next_wake().into_iter().chain(self.holds_until()).chain(self.alerts.next_wake()).chain(later).min()
    }

    /// Does what a client wants.
    pub(crate) fn obey(&mut self, ordered: Ordered) {
        // Whoever was told that we are too busy counts on its not being done.
        if ordered.is_given_up() && !matches!(ordered.order, Order::EndRehearsal(_)) {
            return;
        }
        match &ordered.order {
            Order::Rehearse(unit) => {
                tracing::info!("{} is rehearsed: what is logged of it is no alert", unit.name);
                self.pipeline.rehearse(unit.clone(), now_millis());
            }
            Order::EndRehearsal(unit) => {
                tracing::info!("{} is no longer rehearsed", unit.name);
                self.pipeline.end_rehearsal(unit, now_millis());
            }
            Order::Count(incidents) => {
                for incident in incidents {
                    let folded = self.pipeline.count(incident.clone());
                    self.storing.changed(folded, Instant::now());
                }
            }
        }
        ordered.done();
    }

    /// Takes note of what the writer did, and sees to the alerts. Gives the incidents that others are to be told of: those
    /// that are new since our start, and some of those that go on.
    pub(crate) fn stored(&mut self, done: Done) -> Vec<Stored> {
        let Done { changes, rows, forgotten, set_aside } = done;
        if let Some(forgotten) = forgotten {
            lock(&self.status).set_evicted(forgotten);
        }
        if let Some(aside) = set_aside {
            super::was_set_aside(&self.status, &aside);
            // The new one numbers its incidents anew.
            self.alerts.forget_told();
        }
        let (incidents, works_again) = match self.storing.took(&mut self.pipeline.fold, changes, rows) {
            Outcome::Stored { incidents, again } => (incidents, again),
            Outcome::Failed(error) => {
                self.cannot_store(&error);
                return Vec::new();
            }
        };
        if works_again {
            tracing::info!("the store can be written again");
            lock(&self.status).store_error = None;
        }
        let now = Instant::now();
        let (mut told, mut again) = (Vec::new(), 0);
        for JustStored { stored, is_first, is_new } in incidents {
            again += usize::from(!is_first);
            if is_first || again <= TOLD_AGAIN {
                told.push(stored.clone());
            }
            // Whoever rehearses or taps is looking.
            if stored.incident.key.source == SightingSource::Audit {
                self.alerts.consider(stored, is_new, now);
            }
        }
        told
    }

    /// Takes note that the store failed, and is to be tried again.
    pub(crate) fn miss_store(&mut self, error: &StoreError) {
        self.storing.failed(error);
        self.cannot_store(error);
    }

    fn cannot_store(&self, error: &StoreError) {
        lock(&self.status).store_error = Some(error.to_string());
    }

    /// Whether systemd is being asked.
    pub(crate) fn is_asking(&self) -> bool {
        !self.asks.is_empty() || self.alerts.is_asking()
    }

    /// Whether every sighting is folded.
    pub(crate) fn is_settled(&self) -> bool {
        self.asks.is_empty() && self.reconciler.next_due().is_none()
    }

    /// Stores what is left.
    pub(crate) async fn finish(mut self) {
        let asked = self.asks.give_up().into_iter().chain(self.again.give_up());
        for mut open in asked.chain(self.reconciler.give_up()).collect::<Vec<_>>() {
            self.ask_ancestors(&mut open);
            self.fold(open);
        }
        // What is under way, and then what came meanwhile, unless it cannot be stored.
        let mut failed = false;
        while !failed {
            self.storing.store(&mut self.pipeline.fold);
            if !self.storing.is_busy() {
                break;
            }
            let done = self.storing.done().await;
            failed = done.rows.is_err();
            let _ = self.stored(done);
        }
        let lost: u64 = self.pipeline.fold.take_changes(usize::MAX).iter().map(|change| change.incident.count).sum();
        if lost > 0 {
            tracing::error!("{lost} sightings could not be stored and are lost");
        }
        self.alerts.finish();
        self.storing.finish();
    }
}

fn lock(status: &Mutex<Status>) -> MutexGuard<'_, Status> {
    status.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::bus_connection::Presence;
    use crate::daemon::explainer::Explainer;
    use crate::daemon::{Options, Settings, Stop, limits, serve};
    use crate::host::late_evidence::LateEvidence;
    use crate::incidents::{Query, Store};
    use crate::intake::netlink::AuditStream;
    use crate::systemd::manager::Managers;
    use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, send, socketpair};
    use std::io::Write as _;
    use std::os::fd::AsRawFd as _;
    use std::path::Path;

    const NOWHERE: &str = "/nonexistent";

    fn watch(dir: &Path) -> Watch {
        let managers = Managers::with_paths(format!("unix:path={NOWHERE}"), NOWHERE);
        let host = LiveHost::new(LateEvidence::new(managers));
        let config = Config::default();
        let retention = Retention { keep: config.keep, most: config.most_stored };
        let writer = Writer::start(Some(Store::open(dir).unwrap()), dir.into(), retention).unwrap();
        let alerts = Alerts::to(NOWHERE, config.alerts, Explainer::new(host.late_evidence().managers()));
        Watch::new(host, config.most_in_memory, writer, alerts, Arc::default())
    }

    fn record(pid: u32, code: u32) -> Vec<u8> {
        format!(
            "audit({}.000:7): auid=0 uid=0 gid=0 ses=1 pid={pid} comm=\"a\" exe=\"/a\" sig=0 arch=c000003e \
             syscall=41 compat=0 ip=0x1 code={code:#x}",
            now_millis() / 1000
        )
        .into()
    }

    #[tokio::test]
    async fn a_stream_that_breaks_ends_it_with_everything_stored() {
        let temp = tempfile::tempdir().unwrap();
        let mut watch = watch(temp.path());
        // Pids that no process has: one record waits for an exit event, the other for an answer.
        watch.take(&record(4_194_400, 0x8000_0000), Instant::now()).unwrap();
        watch.take(&record(4_194_401, 0x0005_0000), Instant::now()).unwrap();
        assert!(!watch.is_settled());
        let (reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all(b"x").unwrap();
        let audit = AuditStream::new(AuditSocket::from_fd(reader.into())).unwrap();
        let bus = format!("unix:path={NOWHERE}").parse().unwrap();
        let (orders, mut ordered) = crate::outlet::client_requests::channel();
        let options = Options {
            state_dir: temp.path().into(),
            bus: format!("unix:path={NOWHERE}").parse().unwrap(),
            config: None,
        };
        let mut settings = Settings::read(&options).unwrap();
        let presence =
            Presence::start(bus, temp.path().into(), limits::source(&watch.status, NOWHERE.into(), true), orders);
        let outcome =
            serve(&mut watch, audit, None, presence, &mut ordered, &mut settings, &mut Stop::new().unwrap()).await;
        assert!(outcome.unwrap_err().to_string().contains("cannot be read"));
        watch.finish().await;
        let stored = Store::open_read_only(temp.path()).unwrap().incidents(&Query::default()).unwrap();
        assert_eq!(stored.len(), 2, "{stored:?}");
    }

    #[tokio::test]
    async fn a_turn_ends_when_its_time_is_over() {
        let temp = tempfile::tempdir().unwrap();
        let mut watch = watch(temp.path());
        let (reader, writer) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_NONBLOCK).unwrap();
        let sent = 130;
        for _ in 0..sent {
            send(writer.as_raw_fd(), b"x", MsgFlags::empty()).unwrap();
        }
        let mut audit = AuditSocket::from_fd(reader);
        let mut turns = 0;
        while !watch.hear_until(&mut audit, Instant::now()).unwrap() {
            turns += 1;
            assert!(lock(&watch.status).ignored <= 64 * turns, "{turns}");
        }
        assert_eq!(lock(&watch.status).ignored, sent);
        assert_eq!(turns, 3);
        watch.finish().await;
    }

    #[tokio::test]
    async fn what_cannot_be_stored_yet_is_kept() {
        let temp = tempfile::tempdir().unwrap();
        let mut watch = watch(temp.path());
        watch.take(&record(4_194_400, 0x0005_0000), Instant::now()).unwrap();
        watch.tend();
        let answered = watch.asks.next().await.unwrap();
        watch.settle(answered);
        // The journal may tell of it, or others of its kin.
        for open in watch.again.give_up() {
            watch.fold(open);
        }
        watch.storing.store(&mut watch.pipeline.fold);
        let done = watch.storing.done().await;
        let full = crate::incidents::StoreError::Full { path: NOWHERE.into() };
        assert!(watch.stored(Done { rows: Err(full), ..done }).is_empty());
        assert!(lock(&watch.status).store_error.is_some());
        assert!(watch.next_wake().is_some_and(|at| at > Instant::now()), "it is tried again, later");
        watch.storing.store(&mut watch.pipeline.fold);
        let done = watch.storing.done().await;
        assert_eq!(watch.stored(done).len(), 1, "and only then told");
        assert_eq!(lock(&watch.status).store_error, None);
        watch.finish().await;
    }
}
