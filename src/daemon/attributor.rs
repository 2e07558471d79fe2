//! The daemon's attribution: records, death notices and late evidence go in, and counted incidents come out.

use super::demonstrations::Demonstrations;
use super::silent_deaths::{CountedDeath, SilentDeaths};
use super::status::SharedStatus;
use crate::audit::{Action, Record, Stamp};
use crate::host::live_host::LiveHost;
use crate::incidents::{Fold, Folded, IncidentEvent, Moment, Sighting};
use crate::kernel::call_failures::FailureReport;
use crate::kernel::proc_events::DeathNotice;
use crate::pipeline::attribution_queue::{AttributionQueue, FinishedSightings, QueueStep, StreamRead};
use crate::pipeline::evidence_query::{Attempt, EvidenceQuery, JournalAccess};
use crate::pipeline::{Pipeline, RecordOutcome};
use crate::units::{Attribution, Evidence, weigh};
use std::collections::HashMap;
use std::time::Instant;
use tokio::task::{Id, JoinSet};

/// Attributes records and deaths to units, and counts them as incidents.
pub(super) struct Attributor {
    pipeline: Pipeline<LiveHost>,
    queue: AttributionQueue,
    queries: EvidenceQueries,
    demonstrations: Demonstrations,
    silent_deaths: SilentDeaths,
    /// Deaths whose record came after they were counted as deaths without one.
    retracted: Vec<CountedDeath>,
    status: SharedStatus,
}

/// The answers to a query: evidence for each sighting, in order; none if the query failed.
pub(super) struct EvidenceAnswer {
    query: EvidenceQuery,
    evidence: Vec<Vec<Evidence>>,
}

impl Attributor {
    /// Creates an attributor that holds at most `max_incidents` in memory.
    pub(super) fn new(host: LiveHost, max_incidents: usize, status: SharedStatus) -> Self {
        let pipeline = Pipeline::new_shared(host, max_incidents);
        let (queue, queries, demonstrations, silent_deaths) = Default::default();
        Self { pipeline, queue, queries, demonstrations, silent_deaths, retracted: Vec::new(), status }
    }

    pub(super) fn pipeline_mut(&mut self) -> &mut Pipeline<LiveHost> {
        &mut self.pipeline
    }

    /// The incidents so far.
    pub(super) fn fold(&self) -> &Fold {
        &self.pipeline.fold
    }

    /// The incidents so far.
    pub(super) fn fold_mut(&mut self) -> &mut Fold {
        &mut self.pipeline.fold
    }

    /// Makes the next denial of a process, which root provokes, no incident.
    pub(super) fn announce_demonstration(&mut self, pid: u32, now: Instant) {
        self.demonstrations.announce(pid, now);
    }

    /// Begins a batch of records that have all arrived.
    pub(super) fn begin_batch(&mut self) {
        self.pipeline.host_mut().begin_batch();
    }

    /// Takes a record. Returns its incident unless the record waits for evidence.
    #[must_use]
    pub(super) fn on_record(&mut self, record: &Record<'_>, now: Instant) -> Option<Folded> {
        if self.demonstrations.take_record(record.pid, now) {
            return None;
        }
        let may_die = record.action.is_kill() || record.action == Action::Trap;
        if let Stamp::Millis(at) = record.stamp {
            self.queue.note_stamp(at);
        }
        if may_die {
            self.queue.note_record(record, now);
            if let Stamp::Millis(at) = record.stamp {
                self.retracted.extend(self.silent_deaths.take(record.pid, at));
            }
        }
        let sighting = match self.pipeline.add_record(record, None) {
            RecordOutcome::Counted(folded) => return Some(folded),
            RecordOutcome::Repeated => return None,
            RecordOutcome::Unattributed(sighting) => sighting,
        };
        match self.queue.add_record(sighting, may_die, now) {
            QueueStep::Waits => None,
            QueueStep::Finished(sighting) => Some(self.pipeline.add_sighting(*sighting)),
        }
    }

    /// Takes a death notice. Returns the incidents of the records that waited for it.
    #[must_use]
    pub(super) fn on_notice(&mut self, notice: &DeathNotice, now: Instant) -> Vec<Folded> {
        if self.demonstrations.take_notice(notice, now) {
            return Vec::new();
        }
        let host = self.pipeline.host_mut();
        let (pid, death) = match notice {
            DeathNotice::CoreDump(dump) => (dump.pid, host.on_dying(dump)),
            DeathNotice::Exit(exit) => (exit.pid, host.on_exit(exit)),
        };
        let at = death.at;
        let finished = self.queue.add_death_notice(pid, death, now);
        if matches!(notice, DeathNotice::Exit(_)) {
            self.queue.add_sigsys_exit(pid, at, now);
        }
        self.count(finished)
    }

    /// Queues queries about the sightings that waited long enough for a death or a record. Returns the incidents that
    /// need no more evidence.
    #[must_use]
    pub(super) fn on_deadline(&mut self, now: Instant, read: StreamRead) -> Vec<Folded> {
        let finished = self.queue.poll(now, read);
        self.count(finished)
    }

    /// Takes an answer from systemd or the journal. Returns the incidents that need no more evidence.
    #[must_use]
    pub(super) fn on_answer(
        &mut self,
        EvidenceAnswer { query, evidence }: EvidenceAnswer,
        now: Instant,
    ) -> Vec<Folded> {
        let finished = match query {
            EvidenceQuery::Managers => self.queue.on_systemd_answer(evidence),
            EvidenceQuery::Journal(attempt) => {
                let access = self.journal_access();
                self.queue.on_journal_answer(attempt, evidence, access, now)
            }
        };
        self.count(finished)
    }

    /// Starts the queries that are due.
    pub(super) fn start_queries(&mut self, now: Instant) {
        for query in
            [EvidenceQuery::Managers, EvidenceQuery::Journal(Attempt::First), EvidenceQuery::Journal(Attempt::Last)]
        {
            if let Some(sightings) = self.queue.begin_round(query, now) {
                self.queries.start(query, sightings, self.pipeline.host());
            }
        }
    }

    /// Waits for the next answer. Returns `None` if no query is under way.
    pub(super) async fn next_answer(&mut self) -> Option<EvidenceAnswer> {
        self.queries.next_answer().await
    }

    /// Returns the unit of a process whose call failed, by the ids of its cgroups; `None` while the unit is rehearsed, since the
    /// rehearsal counts such calls.
    pub(super) fn attribute_call(&self, call: &FailureReport) -> Option<Attribution> {
        let attribution = weigh(&[self.pipeline.host().own_cgroup_by_ids(&call.cgroups)?])?;
        (!self.pipeline.is_rehearsed(&attribution.unit)).then_some(attribution)
    }

    /// Returns why the units of failed calls cannot be found; `None` if they can.
    pub(super) fn cannot_attribute_calls(&self) -> Option<String> {
        let is_possible = self.pipeline.host().has_exit_cgroups();
        (!is_possible).then(|| "the kernel shows no cgroups of processes".to_owned())
    }

    /// Counts all sightings that wait, with the evidence that they have.
    #[must_use]
    pub(super) fn give_up(&mut self) -> Vec<Folded> {
        self.queries.abort();
        let finished = self.queue.give_up();
        self.count(finished)
    }

    /// Returns when [`on_deadline`](Self::on_deadline) has something to do.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.queue.next_deadline()
    }

    /// Returns when [`start_queries`](Self::start_queries) has something to do, even if nothing arrives.
    pub(super) fn next_wake(&self) -> Option<Instant> {
        self.queue.next_retry()
    }

    /// Whether sightings wait for systemd.
    pub(super) fn is_asking(&self) -> bool {
        self.queue.awaits_managers()
    }

    /// Whether sightings wait for other evidence than the journal's.
    pub(super) fn awaits_soon(&self) -> bool {
        self.queue.awaits_soon()
    }

    fn journal_access(&self) -> JournalAccess {
        let blind_spot = self.pipeline.host().late_evidence().journal_blind_spot();
        let access = if blind_spot.is_some() { JournalAccess::Unreadable } else { JournalAccess::Readable };
        self.status.set_journal_limitation(blind_spot.as_ref());
        access
    }

    /// Remembers a death that was counted as a death without a record.
    pub(super) fn remember_silent_death(&mut self, death: CountedDeath) {
        self.silent_deaths.remember(death);
    }

    /// Returns the deaths whose record came after they were counted as deaths without one, since the last call.
    #[must_use]
    pub(super) fn take_retracted(&mut self) -> Vec<CountedDeath> {
        std::mem::take(&mut self.retracted)
    }

    fn count(&mut self, finished: FinishedSightings) -> Vec<Folded> {
        let mut counted = Vec::new();
        for sighting in finished {
            let Sighting { key, sample, at, .. } = sighting.sighting();
            let (is_silent, pid, at) = (key.event == IncidentEvent::UnrecordedDeath, sample.pid, at.clone());
            // Its record came during the queries.
            if is_silent && self.queue.has_record(pid) {
                continue;
            }
            // Any process may send itself SIGSYS. Without a unit its death is no denial.
            if is_silent && sighting.attribution().is_none() {
                tracing::debug!(pid, "a process of no unit died of SIGSYS without a record");
                continue;
            }
            let folded = self.pipeline.add_sighting(*sighting);
            if let (true, Moment::At(at), Some(key)) = (is_silent, at, self.fold().key(folded.slot())) {
                let death = CountedDeath { key: key.clone(), pid, at };
                self.remember_silent_death(death);
            }
            counted.push(folded);
        }
        counted
    }
}

/// The queries under way.
#[derive(Default)]
struct EvidenceQueries {
    tasks: JoinSet<Vec<Vec<Evidence>>>,
    /// The query of each task.
    asked: HashMap<Id, EvidenceQuery>,
}

impl EvidenceQueries {
    fn start(&mut self, query: EvidenceQuery, sightings: Vec<Sighting>, host: &LiveHost) {
        let late_evidence = host.late_evidence();
        let task = match query {
            EvidenceQuery::Managers => self.tasks.spawn(async move { late_evidence.collect(&sightings).await }),
            EvidenceQuery::Journal(_) => {
                self.tasks.spawn(async move { late_evidence.collect_from_journal(sightings).await })
            }
        };
        self.asked.insert(task.id(), query);
    }

    async fn next_answer(&mut self) -> Option<EvidenceAnswer> {
        loop {
            let (id, evidence) = match self.tasks.join_next_with_id().await? {
                Ok((id, evidence)) => (id, evidence),
                Err(error) => {
                    tracing::error!("a query to systemd failed: {error}");
                    (error.id(), Vec::new())
                }
            };
            if let Some(query) = self.asked.remove(&id) {
                return Some(EvidenceAnswer { query, evidence });
            }
        }
    }

    fn abort(&mut self) {
        self.tasks.abort_all();
        self.asked.clear();
    }
}
