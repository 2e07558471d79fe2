//! The queue of sightings that wait for late evidence of their unit.
//!
//! The queue does no IO: its owner passes it records, death notices, answers and the time. A sighting takes these
//! steps. It leaves the queue as soon as its unit is known, or after the last step:
//!
//! ```text
//! record of a process that may die ──► AwaitsDeath ─┐
//! other record ─────────────────────────────────────┼─► Queued, Asked (Managers) ─► Queued, Asked (Journal, First)
//! death by SIGSYS ──► AwaitsRecord ─────────────────┘                                           │
//!                                     Queued, Asked (Journal, Last) ◄── AwaitsRetry ◄───────────┘
//! ```
//!
//! | evidence | collected from | when | bounded by |
//! |---|---|---|---|
//! | cgroup of the process, in life or noted at its exit | `/proc`, exit cgroups ([`Host::collect_evidence`](crate::host::Host::collect_evidence)) | before this queue, as the record arrives | no wait |
//! | cgroup of the process or its parent at its death | the kernel's death notice ([`add_death_notice`](AttributionQueue::add_death_notice)) | up to [`DEATH_WAIT`] after the record; a notice that came before it is remembered for seconds | [`MAX_PROCESSES`] waiting, as many remembered |
//! | a record, without which the death was silent | the audit stream ([`note_record`](AttributionQueue::note_record)) | up to [`RECORD_WAIT`] after the exit | [`MAX_PROCESSES`] waiting, as many remembered |
//! | main and control processes; which unit runs the executable | service managers, unit files ([`on_systemd_answer`](AttributionQueue::on_systemd_answer)) | in rounds: sightings that arrive during a round form the next | [`MAX_QUERIES`] queued, [`MAX_ROUND`] asked |
//! | entries of the process and of its manager | the journal ([`on_journal_answer`](AttributionQueue::on_journal_answer)) | in rounds, after an inconclusive answer of the managers | [`MAX_QUERIES`] queued, [`MAX_ROUND`] asked |
//! | the same again, since other programs write about a death a little later | the journal | [`JOURNAL_RETRY`] after an inconclusive first answer | [`MAX_RETRIES`] waiting |
//!
//! If a step is full, the [owner](Owner) with the most sightings in it loses its place: the oldest stops waiting for a death or a
//! record and goes to the next step, or leaves the queue with its evidence so far.

use super::evidence_query::{Attempt, EvidenceQuery, JournalAccess};
use super::process_memory::ProcessMemory;
use super::unattributed::{UnattributedSighting, user_of_record};
use super::waiting_sightings::{Rounds, SightingId, WaitState, WaitingSightings};
use crate::audit::Record;
use crate::host::live_host::DeathEvidence;
use crate::incidents::{FairQueue, Moment, Owner, Sighting};
use crate::units::{Evidence, Rung, attribution};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How long a record waits for the death notice of its process.
const DEATH_WAIT: Duration = Duration::from_millis(250);

/// How long a death waits for a record before it counts as silent. The kernel thread that sends records can be late on
/// a busy machine.
const RECORD_WAIT: Duration = Duration::from_secs(1);

/// The time between the journal's first answer and the second attempt.
const JOURNAL_RETRY: Duration = Duration::from_secs(2);

/// How far a death notice can be from the record of the same death, in milliseconds. A record's clock is behind by a
/// tick, and the death follows at once. No other process can have the pid in this time, because the kernel first uses
/// up all other pids.
const NOTICE_EARLIER_MS: i64 = 20;
const NOTICE_LATER_MS: i64 = 1_000;

/// How many processes the queue remembers, and how many sightings wait for a death, and for a record.
const MAX_PROCESSES: usize = 8192;

/// How many sightings wait for the managers, and for each answer of the journal.
const MAX_QUERIES: usize = 4096;

/// How many sightings a round asks about: equal shares of their owners, so that the noise of one delays no other.
const MAX_ROUND: usize = 512;

/// How many sightings wait for the second attempt to find them in the journal.
const MAX_RETRIES: usize = 1024;

/// How far the stream of records was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StreamRead {
    /// To its end.
    ToEnd,
    /// To the latest record; more wait.
    ToLatestRecord,
}

/// What the queue did with a sighting.
#[derive(Debug)]
#[must_use]
pub(crate) enum QueueStep {
    /// No sighting left the queue.
    Waits,
    /// A sighting left the queue: its verdict is known, or the next step is full. It may be an earlier one.
    Finished(Box<UnattributedSighting>),
}

/// Sightings that left the queue, with all their evidence.
pub(crate) type FinishedSightings = Vec<Box<UnattributedSighting>>;

/// The sightings that wait, each with its state.
#[derive(Debug)]
pub(crate) struct AttributionQueue {
    waiting: WaitingSightings,
    /// Processes that a record came from.
    recorded: ProcessMemory<()>,
    /// The evidence from the death notices of processes.
    deaths: ProcessMemory<DeathEvidence>,
    /// The sightings that await the death of a process.
    await_death: HashMap<u32, Vec<SightingId>>,
    /// The death that awaits a record, by process.
    await_record: HashMap<u32, SightingId>,
    /// Deadlines in order. A sighting may have left before its deadline.
    death_deadlines: FairQueue<Owner, (Instant, SightingId)>,
    record_deadlines: FairQueue<Owner, (Instant, SightingId)>,
    retry_times: FairQueue<Owner, (Instant, SightingId)>,
    /// The stamp of the latest record, in milliseconds since the epoch.
    stream_at: Option<i64>,
    managers: Rounds,
    journal_first: Rounds,
    journal_last: Rounds,
}

impl Default for AttributionQueue {
    fn default() -> Self {
        Self {
            waiting: WaitingSightings::default(),
            recorded: ProcessMemory::new(MAX_PROCESSES),
            deaths: ProcessMemory::new(MAX_PROCESSES),
            await_death: HashMap::new(),
            await_record: HashMap::new(),
            death_deadlines: FairQueue::new(MAX_PROCESSES),
            record_deadlines: FairQueue::new(MAX_PROCESSES),
            retry_times: FairQueue::new(MAX_RETRIES),
            stream_at: None,
            managers: Rounds::new(MAX_QUERIES),
            journal_first: Rounds::new(MAX_QUERIES),
            journal_last: Rounds::new(MAX_QUERIES),
        }
    }
}

impl AttributionQueue {
    /// Notes the record of a process that may die of the denial. Its death is then not silent, also if it is judged
    /// long after the record: in a flood the stream is read for seconds up to the time of the death.
    pub(crate) fn note_record(&mut self, record: &Record<'_>, now: Instant) {
        if let Some(id) = self.await_record.remove(&record.pid) {
            let _ = self.waiting.remove(id, WaitState::AwaitsRecord);
            self.drop_stale_deadlines();
        }
        self.recorded.entry(record.pid, user_of_record(record), now);
    }

    /// Whether a record of the process came in the last seconds.
    pub(crate) fn has_record(&self, pid: u32) -> bool {
        self.recorded.get(pid).is_some()
    }

    /// Adds the sighting of a record. If the process may die of the denial, the sighting awaits the death notice first.
    pub(crate) fn add_record(
        &mut self,
        mut sighting: Box<UnattributedSighting>,
        may_die: bool,
        now: Instant,
    ) -> QueueStep {
        if may_die {
            match self.deaths.get(sighting.pid()) {
                Some(death) if is_same_death(&sighting, death) => sighting.add_death(death),
                _ => {
                    let (pid, owner) = (sighting.pid(), sighting.owner());
                    let id = self.waiting.insert(sighting, WaitState::AwaitsDeath);
                    self.await_death.entry(pid).or_default().push(id);
                    let displaced = self.death_deadlines.push(owner, (now + DEATH_WAIT, id));
                    return displaced.map_or(QueueStep::Waits, |(_, id)| self.end_wait_for_death(id));
                }
            }
        }
        self.queue_for_managers(sighting)
    }

    /// Adds the evidence of a death notice to the sightings that await it, and keeps it for later records.
    #[must_use]
    pub(crate) fn add_death_notice(&mut self, pid: u32, death: DeathEvidence, now: Instant) -> FinishedSightings {
        let mut finished = Vec::new();
        for id in self.await_death.remove(&pid).unwrap_or_default() {
            let Some(sighting) = self.waiting.get_mut(id) else { continue };
            if is_same_death(sighting, &death) {
                sighting.add_death(&death);
                let sighting = self.waiting.remove(id, WaitState::AwaitsDeath);
                finished.extend(sighting.and_then(|sighting| self.queue_for_managers(sighting).finished()));
            } else {
                self.await_death.entry(pid).or_default().push(id);
            }
        }
        self.drop_stale_deadlines();
        let unit = attribution::weigh(&death.evidence).map(|found| found.unit);
        let known = self.deaths.entry(pid, Owner::from_unit_or_uid(unit.as_ref(), ""), now);
        if known.at.abs_diff(death.at) <= NOTICE_LATER_MS.unsigned_abs() {
            known.evidence.extend(death.evidence);
            known.parent = death.parent.or(known.parent.take());
        } else {
            // Another process had the pid before.
            *known = death;
        }
        finished
    }

    /// Adds the exit of a process by SIGSYS, at a time in milliseconds since the epoch. The caller
    /// [adds](Self::add_death_notice) the death notice first.
    pub(crate) fn add_sigsys_exit(&mut self, pid: u32, at: i64, now: Instant) {
        if self.recorded.get(pid).is_none() {
            let mut sighting = Box::new(UnattributedSighting::from_unrecorded_death(pid, Moment::At(at)));
            if let Some(death) = self.deaths.get(pid) {
                sighting.add_death(death);
            }
            let owner = sighting.owner();
            let id = self.waiting.insert(sighting, WaitState::AwaitsRecord);
            self.await_record.insert(pid, id);
            if let Some((_, id)) = self.record_deadlines.push(owner, (now + RECORD_WAIT, id)) {
                // Without the wait it is unknown whether the death was silent.
                let _ = self.end_wait_for_record(id);
            }
        }
    }

    /// Notes the stamp of a record, in milliseconds since the epoch: the stream was read up to it.
    pub(crate) fn note_stamp(&mut self, at: i64) {
        self.stream_at = Some(at);
    }

    /// Ends the wait of records without a death notice, and of deaths without a record if the stream was read up to them.
    /// Queues them for the managers, and returns those that left the queue.
    #[must_use]
    pub(crate) fn poll(&mut self, now: Instant, read: StreamRead) -> FinishedSightings {
        let mut finished = Vec::new();
        while let Some(id) = pop_due(&mut self.death_deadlines, now) {
            finished.extend(self.end_wait_for_death(id).finished());
        }
        while self.is_read_up_to_first_death(read)
            && let Some(id) = pop_due(&mut self.record_deadlines, now)
        {
            if let Some(death) = self.end_wait_for_record(id) {
                finished.extend(self.queue_for_managers(death).finished());
            }
        }
        self.drop_stale_deadlines();
        finished
    }

    /// Begins the next round of a query and returns its sightings. The answers must have the same order. Returns
    /// `None` while a round of the query is under way, or if no sighting waits for one.
    #[must_use]
    pub(crate) fn begin_round(&mut self, query: EvidenceQuery, now: Instant) -> Option<Vec<Sighting>> {
        if query == EvidenceQuery::Journal(Attempt::Last) {
            self.queue_retries(now);
        }
        let rounds = self.rounds_mut(query);
        if !rounds.asked.is_empty() || rounds.queued.is_empty() {
            return None;
        }
        rounds.asked = rounds.queued.take_shares(MAX_ROUND);
        let ids = rounds.asked.clone();
        Some(ids.into_iter().filter_map(|id| self.waiting.set_state(id, WaitState::Asked(query)).cloned()).collect())
    }

    /// Takes the managers' answers for a round, one per sighting; none if the round failed. Queues sightings without a
    /// conclusive answer for the journal.
    #[must_use]
    pub(crate) fn on_systemd_answer(&mut self, answers: Vec<Vec<Evidence>>) -> FinishedSightings {
        let query = EvidenceQuery::Journal(Attempt::First);
        let mut finished = Vec::new();
        for sighting in self.end_round(EvidenceQuery::Managers, answers) {
            if sighting.is_inconclusive() {
                finished.extend(self.queue(sighting, query).finished());
            } else {
                finished.push(sighting);
            }
        }
        finished
    }

    /// Takes the journal's answers for a round, one per sighting; none if the round failed. Sightings without a
    /// conclusive first answer wait for another, if the journal [can be read](JournalAccess).
    #[must_use]
    pub(crate) fn on_journal_answer(
        &mut self,
        attempt: Attempt,
        answers: Vec<Vec<Evidence>>,
        access: JournalAccess,
        now: Instant,
    ) -> FinishedSightings {
        let mut finished = Vec::new();
        for sighting in self.end_round(EvidenceQuery::Journal(attempt), answers) {
            let may_retry = attempt == Attempt::First && access == JournalAccess::Readable;
            if may_retry && sighting.is_inconclusive() {
                let owner = sighting.owner();
                let id = self.waiting.insert(sighting, WaitState::AwaitsRetry);
                let displaced = self.retry_times.push(owner, (now + JOURNAL_RETRY, id));
                finished.extend(displaced.and_then(|(_, id)| self.waiting.remove(id, WaitState::AwaitsRetry)));
            } else {
                finished.push(sighting);
            }
        }
        finished
    }

    /// Empties the queue and returns its sightings, except deaths that have a record.
    #[must_use]
    pub(crate) fn give_up(&mut self) -> FinishedSightings {
        let queue = std::mem::take(self);
        queue.waiting.into_sorted().into_iter().map(|(_, sighting)| sighting).collect()
    }

    /// Returns when [`poll`](Self::poll) next has something to do.
    #[must_use]
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let [death, record] = [&self.death_deadlines, &self.record_deadlines].map(FairQueue::front);
        death.into_iter().chain(record).map(|(deadline, _)| *deadline).min()
    }

    /// Returns when [`begin_round`](Self::begin_round) next has a second attempt for the journal.
    #[must_use]
    pub(crate) fn next_retry(&self) -> Option<Instant> {
        self.retry_times.front().map(|(at, _)| *at)
    }

    /// Whether sightings wait for the managers.
    #[must_use]
    pub(crate) fn awaits_managers(&self) -> bool {
        self.managers.len() > 0
    }

    /// Whether sightings wait for other evidence than the journal's. The daemon waits a moment for it before it stops.
    #[must_use]
    pub(crate) fn awaits_soon(&self) -> bool {
        self.awaits_managers() || self.next_deadline().is_some()
    }

    fn queue_for_managers(&mut self, sighting: Box<UnattributedSighting>) -> QueueStep {
        let is_known = sighting.attribution().is_some() || sighting.is_settled();
        if is_known { QueueStep::Finished(sighting) } else { self.queue(sighting, EvidenceQuery::Managers) }
    }

    /// Whether the record of the first death that awaits one would have been read by now. Records can be late, so a
    /// later stamp shows that only after [`RECORD_WAIT`].
    fn is_read_up_to_first_death(&self, read: StreamRead) -> bool {
        let Some((_, id)) = self.record_deadlines.front().filter(|_| read == StreamRead::ToLatestRecord) else {
            return true;
        };
        let death = self.waiting.get(*id).map(|death| &death.sighting().at);
        let (Some(Moment::At(death)), Some(stream)) = (death, self.stream_at) else { return death.is_none() };
        let late = i64::try_from(RECORD_WAIT.as_millis()).unwrap_or(i64::MAX);
        death.saturating_add(late) <= stream
    }

    /// Ends the wait of a record for the death notice of its process.
    fn end_wait_for_death(&mut self, id: SightingId) -> QueueStep {
        let Some(sighting) = self.waiting.remove(id, WaitState::AwaitsDeath) else { return QueueStep::Waits };
        if let Some(ids) = self.await_death.get_mut(&sighting.pid()) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.await_death.remove(&sighting.pid());
            }
        }
        self.queue_for_managers(sighting)
    }

    /// Ends the wait of a death for its record.
    fn end_wait_for_record(&mut self, id: SightingId) -> Option<Box<UnattributedSighting>> {
        let death = self.waiting.remove(id, WaitState::AwaitsRecord)?;
        if self.await_record.get(&death.pid()) == Some(&id) {
            self.await_record.remove(&death.pid());
        }
        Some(death)
    }

    fn queue_retries(&mut self, now: Instant) {
        while let Some(id) = pop_due(&mut self.retry_times, now) {
            if let Some(mut sighting) = self.waiting.remove(id, WaitState::AwaitsRetry) {
                // An exit entry counts only if no other entry fits. The next answer sees more entries, so it replaces
                // this one.
                sighting.drop_evidence(Rung::ExitEntry);
                // At most `MAX_RETRIES` wait, so there is room.
                let _ = self.queue(sighting, EvidenceQuery::Journal(Attempt::Last));
            }
        }
    }

    /// Queues a sighting for a query. If there is no room, removes another and returns it.
    fn queue(&mut self, sighting: Box<UnattributedSighting>, query: EvidenceQuery) -> QueueStep {
        let owner = sighting.owner();
        let id = self.waiting.insert(sighting, WaitState::Queued(query));
        let displaced = self.rounds_mut(query).queued.push(owner, id);
        let left = displaced.and_then(|id| self.waiting.remove(id, WaitState::Queued(query)));
        left.map_or(QueueStep::Waits, QueueStep::Finished)
    }

    /// Ends the round of a query. Returns its sightings with the answers.
    fn end_round(&mut self, query: EvidenceQuery, answers: Vec<Vec<Evidence>>) -> FinishedSightings {
        let asked = std::mem::take(&mut self.rounds_mut(query).asked);
        let mut sightings: Vec<_> =
            asked.into_iter().filter_map(|id| self.waiting.remove(id, WaitState::Asked(query))).collect();
        for (sighting, answer) in sightings.iter_mut().zip(answers) {
            sighting.add_evidence(answer);
        }
        sightings
    }

    fn rounds_mut(&mut self, query: EvidenceQuery) -> &mut Rounds {
        match query {
            EvidenceQuery::Managers => &mut self.managers,
            EvidenceQuery::Journal(Attempt::First) => &mut self.journal_first,
            EvidenceQuery::Journal(Attempt::Last) => &mut self.journal_last,
        }
    }

    /// Drops leading deadlines of sightings that left.
    fn drop_stale_deadlines(&mut self) {
        while self.death_deadlines.front().is_some_and(|(_, id)| !self.waiting.contains(*id)) {
            self.death_deadlines.pop_front();
        }
        while self.record_deadlines.front().is_some_and(|(_, id)| !self.waiting.contains(*id)) {
            self.record_deadlines.pop_front();
        }
    }
}

impl QueueStep {
    /// Returns the sighting if it left the queue.
    pub(crate) fn finished(self) -> Option<Box<UnattributedSighting>> {
        match self {
            Self::Waits => None,
            Self::Finished(sighting) => Some(sighting),
        }
    }
}

/// Removes the first entry if it is due. The entries must be in order of time.
fn pop_due(queue: &mut FairQueue<Owner, (Instant, SightingId)>, now: Instant) -> Option<SightingId> {
    queue.front().filter(|(due, _)| *due <= now)?;
    queue.pop_front().map(|(_, id)| id)
}

/// Whether a death notice and a record belong to the same death.
fn is_same_death(sighting: &UnattributedSighting, death: &DeathEvidence) -> bool {
    let Moment::At(recorded) = sighting.sighting().at else { return false };
    (recorded.saturating_sub(NOTICE_EARLIER_MS)..=recorded.saturating_add(NOTICE_LATER_MS)).contains(&death.at)
}

#[cfg(test)]
mod tests;
