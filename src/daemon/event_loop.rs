//! The event loop. It waits for all inputs of the daemon and passes each input to its handler.

use super::alerts::Alerts;
use super::attributor::{Attributor, EvidenceAnswer};
use super::bus_connection::BusConnection;
use super::call_watcher::{CallWatcher, WatcherEvent};
use super::config::Config;
use super::exit_events::ExitEvents;
use super::journal_connection::JournalChange;
use super::reloadable_config::ReloadableConfig;
use super::request_handler::handle_request;
use super::status::{SharedStatus, TurnCounts};
use super::stop_signals::StopSignals;
use super::storage::{Storage, StoredIncident, WriteResult};
use super::store_writer::JobResult;
use super::supervisor;
use crate::audit::text::Escaped;
use crate::incidents::{Folded, Incident, SightingSource, Stored};
use crate::intake::record_source::{NoRecord, Received, RecordSources, SourceEnd};
use crate::outlet::client_requests::PendingRequest;
use crate::outlet::wire::CallsNotWatched;
use crate::pipeline::attribution_queue::StreamRead;
use sd_notify::NotifyState;
use std::io;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::Receiver;

/// How long deadlines may be overdue while more records arrive than one turn receives.
const MAX_OVERDUE: Duration = Duration::from_secs(2);

/// How long the daemon waits for evidence about the last processes before it stops. A request waits at most as long for
/// earlier records.
const GRACE: Duration = Duration::from_secs(3);

/// How many repeated incidents the daemon announces per write. It announces every incident that is first since the
/// start.
const MAX_ANNOUNCED_AGAIN: usize = 64;

/// This many records in one turn are a storm. The loop then lets records gather, because a wakeup costs more than a
/// record.
const STORM: u64 = 16;
const GATHER: Duration = Duration::from_millis(1);

/// The limits of one turn: batches of records, exit events, and time. The time limit is needed because costs vary.
const MAX_BATCHES: usize = 64;
const MAX_EXITS: usize = 4096;
const MAX_TURN: Duration = Duration::from_millis(50);

/// The inputs of the daemon, and the parts that handle them.
pub(super) struct EventLoop {
    pub(super) sources: RecordSources,
    pub(super) exits: ExitEvents,
    pub(super) watcher: CallWatcher,
    pub(super) bus: BusConnection,
    pub(super) requests: Receiver<PendingRequest>,
    pub(super) config: ReloadableConfig,
    pub(super) stop: StopSignals,
    pub(super) attributor: Attributor,
    pub(super) storage: Storage,
    pub(super) alerts: Alerts,
    pub(super) status: SharedStatus,
    pub(super) turn: TurnState,
}

/// What the loop keeps from one turn to the next.
#[derive(Debug, Default)]
pub(super) struct TurnState {
    /// The end of the time in which records gather.
    gather_until: Option<Instant>,
    /// The latest time to stop, after a signal.
    stop_by: Option<Instant>,
    /// Whether systemd knows that the daemon is ready.
    is_ready: bool,
}

/// Whether a turn received everything that has arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
enum Drained {
    Yes,
    No,
}

impl EventLoop {
    /// Runs until a signal to stop, or until a source ends. Stores everything in either case.
    pub(super) async fn run(mut self) -> anyhow::Result<()> {
        let outcome = self.serve().await;
        self.finish().await;
        outcome
    }

    async fn serve(&mut self) -> anyhow::Result<()> {
        let mut watchdog = supervisor::Watchdog::from_environment();
        while self.has_to_continue() {
            let (gather_until, is_holding) = (self.gather_until(), self.holds_until().is_some());
            if gather_until.is_some() || is_holding {
                self.sources.pause()?;
            }
            let (is_ready, is_stopping) = (self.turn.is_ready, self.turn.stop_by.is_some());
            let deadline = self.attributor.next_deadline();
            let wake = self.next_wake().into_iter().chain(watchdog.next_wake()).min();
            tokio::select! {
                () = self.stop.received(), if !is_stopping => self.begin_stop()?,
                () = self.config.reload_requested(), if is_ready && !is_stopping => self.reload_config(),
                () = self.bus.first_attempt(), if !is_ready && !is_stopping => self.report_ready(),
                ready = readable_after(&mut self.sources, gather_until), if !is_holding => {
                    ready?;
                    let _ = self.receive_records()?;
                }
                ready = self.exits.readable(), if !is_holding => {
                    ready?;
                    let _ = self.receive_exits();
                }
                event = self.watcher.next(), if !is_holding => self.on_watcher(event?),
                () = sleep_until(deadline), if !is_holding => self.on_deadline()?,
                Some(answer) = self.attributor.next_answer(), if !is_holding => self.on_answer(answer),
                result = self.storage.job_result() => {
                    for stored in self.on_job_result(result) {
                        self.bus.announce(stored);
                    }
                }
                explanations = self.alerts.next_explanations() => self.alerts.add_explanations(explanations),
                Some(request) = self.requests.recv() => self.on_request(request)?,
                () = sleep_until(wake) => {}
            }
            self.poll();
            watchdog.beat(Instant::now());
            // In a storm this task never waits, so it yields to the tasks that fetch answers.
            if self.attributor.is_asking() || self.alerts.is_asking() || self.watcher.is_asking() {
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }

    fn has_to_continue(&self) -> bool {
        self.turn.stop_by.is_none_or(|by| Instant::now() < by && self.attributor.awaits_soon())
    }

    /// Returns when there is something to do, even if nothing arrives.
    fn next_wake(&self) -> Option<Instant> {
        let wakes = [
            self.turn.stop_by,
            self.holds_until(),
            self.storage.next_wake(),
            self.alerts.next_wake(),
            self.attributor.next_wake(),
            self.watcher.next_wake(),
        ];
        wakes.into_iter().flatten().min()
    }

    /// Returns until when the loop should leave records in the kernel's buffer.
    fn holds_until(&self) -> Option<Instant> {
        self.storage.holds_until(self.attributor.fold()).filter(|_| self.turn.stop_by.is_none())
    }

    /// Returns until when records may gather.
    fn gather_until(&self) -> Option<Instant> {
        self.turn.gather_until.filter(|until| *until > Instant::now())
    }

    /// Receives records for one turn.
    fn receive_records(&mut self) -> Result<Drained, SourceEnd> {
        self.receive_records_until(Instant::now() + MAX_TURN)
    }

    /// Receives records until a moment, but at least one batch.
    fn receive_records_until(&mut self, until: Instant) -> Result<Drained, SourceEnd> {
        let mut counts = TurnCounts::default();
        let drained = self.receive_batches(until, &mut counts);
        self.status.count(counts, self.sources.lost());
        let is_storm = matches!(drained, Ok(Drained::Yes)) && counts.records >= STORM;
        self.turn.gather_until = is_storm.then(|| Instant::now() + GATHER);
        drained
    }

    fn receive_batches(&mut self, until: Instant, counts: &mut TurnCounts) -> Result<Drained, SourceEnd> {
        for _ in 0..MAX_BATCHES {
            if self.holds_until().is_some() {
                return Ok(Drained::No);
            }
            match self.sources.receive()? {
                Received::Batch => {}
                Received::Nothing => return Ok(Drained::Yes),
                Received::Overrun => {
                    counts.overruns += 1;
                    tracing::warn!("the receive buffer overran: records were lost");
                    continue;
                }
            }
            let now = Instant::now();
            self.attributor.begin_batch();
            while let Some(message) = self.sources.next_message() {
                match message {
                    Ok(record) => {
                        counts.records += 1;
                        self.storage.make_room(self.attributor.fold_mut(), now);
                        if let Some(folded) = self.attributor.on_record(&record, now) {
                            self.storage.schedule(folded, now);
                        }
                    }
                    Err(NoRecord::Malformed { payload, error }) => {
                        counts.malformed += 1;
                        tracing::warn!("cannot parse a SECCOMP record: {error}: {}", Escaped(payload));
                    }
                    Err(NoRecord::Ignored) => counts.ignored += 1,
                }
            }
            if Instant::now() >= until {
                break;
            }
        }
        Ok(Drained::No)
    }

    /// Receives exit events for one turn.
    fn receive_exits(&mut self) -> Drained {
        let now = Instant::now();
        for _ in 0..MAX_EXITS {
            if now.elapsed() >= MAX_TURN {
                break;
            }
            let Some(notice) = self.exits.receive() else { return Drained::Yes };
            let counted = self.attributor.on_notice(&notice, now);
            self.schedule(counted);
        }
        Drained::No
    }

    /// Receives the records that the kernel sent until now, within [`GRACE`]. Stops after a turn if memory is full and only the
    /// writer's answer can make room.
    fn catch_up(&mut self, turn: Duration) -> Result<(), SourceEnd> {
        let latest = Instant::now() + GRACE;
        while self.receive_records_until(Instant::now() + turn)? == Drained::No
            && !self.needs_writer()
            && Instant::now() < latest
        {}
        Ok(())
    }

    /// Whether the next new incident may lose sightings that the writer has yet to store.
    fn needs_writer(&self) -> bool {
        self.storage.is_busy() && self.attributor.fold().can_lose_sightings()
    }

    /// Ends the wait of sightings whose deadline is over. The loop may be late, so it receives everything first.
    fn on_deadline(&mut self) -> Result<(), SourceEnd> {
        let (records, exits) = (self.receive_records()?, self.receive_exits());
        // In an endless flood a turn never receives everything.
        let is_overdue = self.attributor.next_deadline().is_some_and(|due| due + MAX_OVERDUE < Instant::now());
        if (records, exits) == (Drained::Yes, Drained::Yes) || is_overdue {
            let read = if records == Drained::Yes { StreamRead::ToEnd } else { StreamRead::ToLatestRecord };
            let counted = self.attributor.on_deadline(Instant::now(), read);
            self.schedule(counted);
        }
        Ok(())
    }

    /// Starts or stops watching failed calls, as the configuration says.
    pub(super) fn watch_calls(&mut self) {
        let not_watched = if self.config.current().watches_calls {
            self.attributor.cannot_attribute_calls().map(CallsNotWatched::Refused)
        } else {
            Some(CallsNotWatched::NotNow("[failed-calls] watch in harden-why.conf switches it on".to_owned()))
        };
        if not_watched.is_some() {
            let recurred = self.watcher.finish();
            self.add_failures(recurred);
        }
        let not_watched = match self.watcher.switch(not_watched.is_none()) {
            Ok(()) => not_watched,
            Err(error) => {
                tracing::warn!("cannot load the programs that report failed calls: {error}");
                Some(CallsNotWatched::Refused(format!("the programs in the kernel cannot be loaded: {error}")))
            }
        };
        let is_loading = not_watched.is_none() && !self.watcher.is_on();
        let not_yet =
            is_loading.then(|| CallsNotWatched::NotNow("the programs in the kernel are being loaded".to_owned()));
        self.status.lock().set_calls_watched(not_watched.or(not_yet));
    }

    fn on_watcher(&mut self, event: WatcherEvent) {
        match event {
            WatcherEvent::Opened(Ok(())) => {
                tracing::info!("the kernel reports failed calls");
                self.status.lock().set_calls_watched(None);
            }
            WatcherEvent::Opened(Err(error)) => {
                tracing::info!(
                    "calls that fail without a record are not watched, so only harden-why tap sees them: {error}"
                );
                // An older kernel lacks what the programs need. What the verifier refuses is a fault.
                let why = if error.verifier_log().is_some() {
                    CallsNotWatched::Refused(format!("the kernel refuses the programs: {error}"))
                } else {
                    CallsNotWatched::NotNow(format!("the kernel lacks what this needs: {error}"))
                };
                self.status.lock().set_calls_watched(Some(why));
            }
            WatcherEvent::Reported => {
                let attributor = &self.attributor;
                self.watcher.receive(|call| attributor.attribute_call(call), Instant::now());
            }
            WatcherEvent::Denials(denials) => self.add_failures(denials),
        }
    }

    fn add_failures(&mut self, denials: Vec<Incident>) {
        let pipeline = self.attributor.pipeline_mut();
        let counted = denials.into_iter().map(|denial| pipeline.add_incident(denial)).collect();
        self.schedule(counted);
    }

    fn on_answer(&mut self, answer: EvidenceAnswer) {
        let counted = self.attributor.on_answer(answer, Instant::now());
        self.schedule(counted);
    }

    /// Handles a request after the records that the kernel sent before it.
    fn on_request(&mut self, request: PendingRequest) -> Result<(), SourceEnd> {
        self.catch_up(MAX_TURN)?;
        let changed = handle_request(request, &mut self.attributor, &mut self.storage);
        self.schedule(changed);
        Ok(())
    }

    /// Handles a result of the writer. Returns the incidents to announce on the bus.
    fn on_job_result(&mut self, result: JobResult) -> Vec<Stored> {
        let result = self.storage.on_job_result(self.attributor.fold_mut(), result);
        self.on_write_result(result)
    }

    fn on_write_result(&mut self, result: WriteResult) -> Vec<Stored> {
        let WriteResult::Stored { incidents, is_new_store } = result else { return Vec::new() };
        if is_new_store {
            self.on_new_store();
        }
        let announced = choose_announced(&incidents);
        self.consider_alerts(incidents);
        announced
    }

    /// Forgets what referred to the rows of the earlier store.
    fn on_new_store(&mut self) {
        self.alerts.forget_rows();
        self.attributor.pipeline_mut().mark_rehearsals_unsaved();
    }

    /// Passes stored incidents to the alerts.
    fn consider_alerts(&mut self, incidents: Vec<StoredIncident>) {
        let now = Instant::now();
        for StoredIncident { stored, is_new, .. } in incidents {
            // The user of a rehearsal or a tap sees its incidents anyway.
            if stored.incident.key.source == SightingSource::Audit {
                self.alerts.consider(stored, is_new, now);
            }
        }
    }

    fn begin_stop(&mut self) -> Result<(), SourceEnd> {
        supervisor::notify(&[NotifyState::Stopping]);
        self.turn.stop_by = Some(Instant::now() + GRACE);
        self.catch_up(MAX_TURN)?;
        // A death shows that a record may still be under way: the loop waits for it.
        let _ = self.receive_exits();
        Ok(())
    }

    fn report_ready(&mut self) {
        let state = match &self.status.lock().not_listening {
            Some(why) => format!("not listening: {why}"),
            None => "listening to the kernel".to_owned(),
        };
        supervisor::notify(&[NotifyState::Ready, NotifyState::Status(&state)]);
        self.turn.is_ready = true;
    }

    fn reload_config(&mut self) {
        supervisor::notify_reloading();
        let config: &Config = self.config.reload();
        self.attributor.fold_mut().set_limit(config.max_in_memory);
        self.storage.configure(config);
        self.alerts.set_limits(config.alerts.clone());
        self.watch_calls();
        supervisor::notify(&[NotifyState::Ready]);
    }

    /// Does everything that is due after an input.
    fn poll(&mut self) {
        let now = Instant::now();
        self.alerts.send(now);
        if let Some(change) = self.alerts.take_change() {
            self.status.lock().journal_error = match change {
                JournalChange::Recovered => None,
                JournalChange::Failed(why) => Some(why),
            };
        }
        for death in self.attributor.take_retracted() {
            tracing::info!(pid = death.pid, "the record of a death came after all");
            self.storage.subtract_death(self.attributor.fold_mut(), &death.key);
            self.alerts.retract(&death);
        }
        self.attributor.start_queries(now);
        self.watcher.start_questions();
        let recurred = self.watcher.take_recurred(now);
        self.add_failures(recurred);
        {
            let mut status = self.status.lock();
            status.dropped = self.attributor.fold().dropped();
            status.calls_skipped = self.watcher.lost();
        }
        if let Some(spans) = self.attributor.pipeline_mut().take_changed_rehearsals() {
            self.storage.save_rehearsals(spans);
        }
        self.storage.poll(self.attributor.fold_mut(), now);
    }

    fn schedule(&mut self, counted: Vec<Folded>) {
        let now = Instant::now();
        for folded in counted {
            self.storage.schedule(folded, now);
        }
    }

    /// Leaves the bus, and stores and sends everything.
    async fn finish(mut self) {
        self.bus.leave();
        let counted = self.attributor.give_up();
        self.schedule(counted);
        let recurred = self.watcher.finish();
        self.add_failures(recurred);
        for result in self.storage.flush_all(self.attributor.fold_mut()).await {
            let _ = self.on_write_result(result);
        }
        let lost: u64 =
            self.attributor.fold_mut().take_changes(usize::MAX).iter().map(|change| change.incident.count).sum();
        if lost > 0 {
            tracing::error!("{lost} sightings were not stored and are lost");
        }
        self.alerts.finish();
        self.storage.finish();
    }
}

/// Returns the incidents to announce: all that are first since the start, and some repeated ones.
fn choose_announced(incidents: &[StoredIncident]) -> Vec<Stored> {
    let mut again = 0;
    let is_announced = |one: &&StoredIncident| {
        again += usize::from(!one.is_first);
        one.is_first || again <= MAX_ANNOUNCED_AGAIN
    };
    incidents.iter().filter(is_announced).map(|one| one.stored.clone()).collect()
}

/// Waits until the sources are readable, but at least until `moment`.
async fn readable_after(sources: &mut RecordSources, moment: Option<Instant>) -> io::Result<()> {
    if let Some(moment) = moment {
        tokio::time::sleep_until(moment.into()).await;
    }
    sources.readable().await
}

/// Waits until `moment`. Never returns if it is `None`.
async fn sleep_until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
