//! Each transition and each bound of the queue.

use super::*;
use crate::audit::parse_record;
use crate::incidents::IncidentEvent;
use crate::units::{Manager, Unit};

/// The time of every record here, in milliseconds since the epoch.
const AT: i64 = 1_000_000;

/// A queue, at its current time.
struct Fixture {
    queue: AttributionQueue,
    now: Instant,
}

impl Fixture {
    fn new() -> Self {
        Self { queue: AttributionQueue::default(), now: Instant::now() }
    }

    fn add(&mut self, pid: u32, may_die: bool) -> QueueStep {
        if may_die {
            self.note_record(pid);
        }
        self.queue.add_record(Box::new(sighting(pid)), may_die, self.now)
    }

    fn note_record(&mut self, pid: u32) {
        let line = format!(
            "audit(1000.000:1): auid=0 uid=0 gid=0 ses=1 pid={pid} comm=\"c\" exe=\"/a\" sig=31 arch=c000003e \
             syscall=41 compat=0 ip=0x7 code=0x80000000"
        );
        self.queue.note_record(&parse_record(line.as_bytes()).unwrap(), self.now);
    }

    fn notice(&mut self, pid: u32, at: i64, unit: Option<&str>) -> FinishedSightings {
        let cgroup = |name| Evidence::ParentCgroup(format!("0::/system.slice/{name}\n").into_bytes());
        let death = DeathEvidence { at, evidence: unit.map(cgroup).into_iter().collect(), parent: None };
        self.queue.add_death_notice(pid, death, self.now)
    }

    fn exit(&mut self, pid: u32) {
        self.queue.add_sigsys_exit(pid, AT, self.now);
    }

    fn poll(&mut self) -> FinishedSightings {
        self.queue.poll(self.now, StreamRead::ToEnd)
    }

    fn round(&mut self, query: EvidenceQuery) -> Option<Vec<u32>> {
        let sightings = self.queue.begin_round(query, self.now)?;
        Some(sightings.iter().map(|sighting| sighting.sample.pid).collect())
    }

    fn managers_answer(&mut self, answers: Vec<Vec<Evidence>>) -> FinishedSightings {
        self.queue.on_systemd_answer(answers)
    }

    fn journal_answers(&mut self, attempt: Attempt, answers: Vec<Vec<Evidence>>) -> FinishedSightings {
        self.queue.on_journal_answer(attempt, answers, JournalAccess::Readable, self.now)
    }

    /// Adds sightings, to which the managers have no answer.
    fn reach_managers_answer(&mut self, pids: impl IntoIterator<Item = u32>) {
        for pid in pids {
            assert!(matches!(self.add(pid, false), QueueStep::Waits));
        }
        while self.round(EvidenceQuery::Managers).is_some() {
            assert!(self.managers_answer(Vec::new()).is_empty());
        }
    }

    /// Adds sightings and begins their first round to the journal.
    fn reach_first_journal_round(&mut self, pids: impl IntoIterator<Item = u32>) {
        self.reach_managers_answer(pids);
        assert!(self.round(FIRST).is_some());
    }
}

const FIRST: EvidenceQuery = EvidenceQuery::Journal(Attempt::First);
const LAST: EvidenceQuery = EvidenceQuery::Journal(Attempt::Last);

fn sighting(pid: u32) -> UnattributedSighting {
    let line = format!(
        "audit({}.000:7): auid=0 uid=0 gid=0 ses=1 pid={pid} comm=\"a\" exe=\"/a\" sig=0 arch=c000003e syscall=41 \
         compat=0 ip=0x1 code=0x50000",
        AT / 1000
    );
    UnattributedSighting::from_record(&parse_record(line.as_bytes()).unwrap())
}

fn unit(name: &str) -> Unit {
    Unit { manager: Manager::System, name: name.parse().unwrap() }
}

fn named(rung: Rung, name: &str) -> Vec<Evidence> {
    vec![Evidence::Named(rung, unit(name))]
}

/// The pids of sightings, each with the unit that it was attributed to.
fn units(sightings: &FinishedSightings) -> Vec<(u32, Option<String>)> {
    let name = |sighting: &UnattributedSighting| sighting.attribution().map(|found| found.unit.name.to_string());
    sightings.iter().map(|sighting| (sighting.pid(), name(sighting))).collect()
}

fn attributed(pid: u32, unit: &str) -> (u32, Option<String>) {
    (pid, Some(unit.to_owned()))
}

#[test]
fn record_awaiting_death_is_finished_by_its_notice() {
    let mut f = Fixture::new();
    assert!(matches!(f.add(7, true), QueueStep::Waits));
    let finished = f.notice(7, AT, Some("a.service"));
    assert_eq!(units(&finished), [attributed(7, "a.service")]);
    f.exit(7);
    assert_eq!(f.queue.next_deadline(), None, "neither the record nor the death waits");
}

#[test]
fn record_after_notice_is_finished_at_once() {
    let mut f = Fixture::new();
    assert!(f.notice(7, AT, Some("a.service")).is_empty());
    f.exit(7);
    let finished = f.add(7, true).finished().into_iter().collect();
    assert_eq!(units(&finished), [attributed(7, "a.service")]);
    f.now += RECORD_WAIT;
    assert!(f.poll().is_empty() && !f.queue.awaits_soon(), "the death has a record");
}

#[test]
fn notice_of_other_process_with_same_pid_is_ignored() {
    let mut f = Fixture::new();
    assert!(f.notice(7, AT - 500, Some("before.service")).is_empty());
    assert!(matches!(f.add(7, true), QueueStep::Waits));
    assert!(f.notice(7, AT + 2_000, Some("after.service")).is_empty());
    assert_eq!(units(&f.notice(7, AT + 3, Some("a.service"))), [attributed(7, "a.service")]);
}

#[test]
fn notices_of_one_death_are_merged() {
    let mut f = Fixture::new();
    assert!(f.notice(7, AT, Some("a.service")).is_empty());
    assert!(f.notice(7, AT + 5, None).is_empty());
    assert!(f.add(7, true).finished().is_some_and(|sighting| sighting.attribution().is_some()));
}

#[test]
fn notice_without_evidence_queues_record_for_managers() {
    let mut f = Fixture::new();
    assert!(matches!(f.add(7, true), QueueStep::Waits));
    assert!(f.notice(7, AT, None).is_empty());
    assert_eq!((f.queue.next_deadline(), f.round(EvidenceQuery::Managers)), (None, Some(vec![7])));
}

#[test]
fn record_without_notice_is_queued_for_managers_after_death_wait() {
    let mut f = Fixture::new();
    assert!(matches!(f.add(7, true), QueueStep::Waits));
    assert!(f.poll().is_empty());
    assert_eq!((f.queue.next_deadline(), f.round(EvidenceQuery::Managers)), (Some(f.now + DEATH_WAIT), None));
    f.now += DEATH_WAIT;
    assert!(f.poll().is_empty());
    assert_eq!((f.queue.next_deadline(), f.round(EvidenceQuery::Managers)), (None, Some(vec![7])));
    assert!(f.notice(7, AT, Some("a.service")).is_empty(), "the notice is too late");
}

#[test]
fn death_without_record_is_silent_after_record_wait() {
    let mut f = Fixture::new();
    assert!(f.notice(7, AT, Some("a.service")).is_empty());
    f.exit(7);
    f.now += DEATH_WAIT;
    assert!(f.poll().is_empty());
    f.now += RECORD_WAIT.saturating_sub(DEATH_WAIT);
    let finished = f.poll();
    assert_eq!(units(&finished), [attributed(7, "a.service")]);
    assert_eq!(finished[0].sighting().key.event, IncidentEvent::UnrecordedDeath);
    assert_eq!(finished[0].sighting().at, Moment::At(AT));
}

#[test]
fn silent_death_without_evidence_is_queued_for_managers() {
    let mut f = Fixture::new();
    f.exit(7);
    f.now += RECORD_WAIT;
    assert!(f.poll().is_empty());
    assert_eq!(f.round(EvidenceQuery::Managers), Some(vec![7]));
}

#[test]
fn record_of_live_process_is_queued_for_managers_at_once() {
    let mut f = Fixture::new();
    assert!(matches!(f.add(7, false), QueueStep::Waits));
    assert!(f.queue.awaits_managers() && f.queue.awaits_soon());
    assert_eq!(f.round(EvidenceQuery::Managers), Some(vec![7]));
}

#[test]
fn sightings_during_a_round_form_the_next() {
    let mut f = Fixture::new();
    assert!(matches!(f.add(7, false), QueueStep::Waits));
    assert_eq!(f.round(EvidenceQuery::Managers), Some(vec![7]));
    for pid in 8..11 {
        assert!(matches!(f.add(pid, false), QueueStep::Waits));
        assert_eq!(f.round(EvidenceQuery::Managers), None, "one is under way");
    }
    assert!(f.managers_answer(vec![Vec::new()]).is_empty());
    assert_eq!(f.round(EvidenceQuery::Managers), Some(vec![8, 9, 10]));
}

#[test]
fn conclusive_manager_answer_finishes_and_inconclusive_one_queues_for_journal() {
    let mut f = Fixture::new();
    for pid in [7, 8, 9] {
        assert!(matches!(f.add(pid, false), QueueStep::Waits));
    }
    assert!(f.round(EvidenceQuery::Managers).is_some());
    let guess = vec![Evidence::OwnCgroup(Vec::new())];
    let finished = f.managers_answer(vec![Vec::new(), named(Rung::MainProcess, "a.service"), guess]);
    assert_eq!(units(&finished), [attributed(8, "a.service")]);
    assert_eq!(f.round(FIRST), Some(vec![7, 9]));
    assert!(!f.queue.awaits_managers() && !f.queue.awaits_soon(), "stopping does not wait for the journal");
}

#[test]
fn failed_round_loses_no_sighting() {
    let mut f = Fixture::new();
    assert!(matches!(f.add(7, false), QueueStep::Waits));
    assert!(f.round(EvidenceQuery::Managers).is_some());
    assert!(f.managers_answer(Vec::new()).is_empty());
    assert_eq!(f.round(FIRST), Some(vec![7]));
}

#[test]
fn inconclusive_journal_answer_is_retried_once_after_a_time() {
    let mut f = Fixture::new();
    f.reach_first_journal_round([7, 8]);
    let finished = f.journal_answers(Attempt::First, vec![named(Rung::JournalEntry, "a.service"), Vec::new()]);
    assert_eq!(units(&finished), [attributed(7, "a.service")]);
    assert_eq!((f.queue.next_retry(), f.round(LAST)), (Some(f.now + JOURNAL_RETRY), None));
    f.now += JOURNAL_RETRY;
    assert_eq!((f.round(LAST), f.queue.next_retry()), (Some(vec![8]), None));
    assert_eq!(units(&f.journal_answers(Attempt::Last, vec![Vec::new()])), [(8, None)]);
}

#[test]
fn retry_replaces_the_exit_entry_of_the_first_answer() {
    for (second, expected) in [(Vec::new(), None), (named(Rung::ExitEntry, "b.service"), Some("b.service".to_owned()))]
    {
        let mut f = Fixture::new();
        f.reach_first_journal_round([7]);
        assert!(f.journal_answers(Attempt::First, vec![named(Rung::ExitEntry, "a.service")]).is_empty(), "a guess");
        f.now += JOURNAL_RETRY;
        assert!(f.round(LAST).is_some());
        assert_eq!(units(&f.journal_answers(Attempt::Last, vec![second])), [(7, expected)]);
    }
}

#[test]
fn unreadable_journal_is_not_retried() {
    let mut f = Fixture::new();
    f.reach_first_journal_round([7]);
    let finished = f.queue.on_journal_answer(Attempt::First, Vec::new(), JournalAccess::Unreadable, f.now);
    assert_eq!((finished.len(), f.queue.next_retry()), (1, None));
}

#[test]
fn record_beyond_the_bound_ends_the_oldest_wait_of_its_owner() {
    let mut f = Fixture::new();
    let most = u32::try_from(MAX_PROCESSES).unwrap();
    for pid in 0..most + 2 {
        assert!(matches!(f.add(pid, true), QueueStep::Waits));
    }
    assert_eq!((f.queue.death_deadlines.len(), f.queue.await_death.len()), (MAX_PROCESSES, MAX_PROCESSES));
    assert_eq!(f.round(EvidenceQuery::Managers), Some(vec![0, 1]));
}

#[test]
fn death_is_silent_only_once_the_stream_was_read_up_to_it() {
    let behind = |f: &mut Fixture| f.queue.poll(f.now, StreamRead::ToLatestRecord);
    let mut f = Fixture::new();
    f.exit(7);
    f.exit(8);
    f.now += 10 * RECORD_WAIT;
    assert!(behind(&mut f).is_empty() && f.queue.next_deadline().is_some());
    f.queue.note_stamp(AT + 1);
    assert!(behind(&mut f).is_empty() && f.queue.next_deadline().is_some(), "its record may be late");
    // The record comes after the daemon's clock passed the deadline.
    f.note_record(7);
    f.queue.note_stamp(AT + 1_000);
    assert!(behind(&mut f).is_empty());
    assert_eq!(f.round(EvidenceQuery::Managers), Some(vec![8]), "only the death without a record is silent");
}

#[test]
fn death_whose_record_was_read_long_before_it_is_judged_is_not_silent() {
    let mut f = Fixture::new();
    f.exit(7);
    f.note_record(7);
    // The flood of the second after the death takes longer to read than processes are remembered.
    for second in 1..30 {
        f.now += Duration::from_secs(1);
        f.note_record(1_000 + second);
    }
    f.queue.note_stamp(AT + 5_000);
    assert!(f.queue.poll(f.now, StreamRead::ToLatestRecord).is_empty());
    assert_eq!(f.round(EvidenceQuery::Managers), None);
}

#[test]
fn death_beyond_the_bound_is_not_reported_silent() {
    let mut f = Fixture::new();
    for pid in 0..2 * u32::try_from(MAX_PROCESSES).unwrap() {
        f.exit(pid);
    }
    assert_eq!((f.queue.record_deadlines.len(), f.queue.waiting.len()), (MAX_PROCESSES, MAX_PROCESSES));
}

#[test]
fn record_beyond_the_bound_displaces_the_oldest_of_its_owner() {
    let mut f = Fixture::new();
    let most = u32::try_from(MAX_QUERIES).unwrap();
    for pid in 0..most {
        assert!(matches!(f.add(pid, false), QueueStep::Waits));
    }
    assert_eq!(units(&f.add(most, false).finished().into_iter().collect()), [(0, None)]);
}

#[test]
fn noise_of_one_user_takes_no_place_and_no_round_from_another() {
    let mut f = Fixture::new();
    let mut quiet = sighting(9_000);
    let sample = &mut quiet.sighting_mut().sample;
    (sample.uid, sample.login) = ("7".into(), Some(7));
    assert!(matches!(f.queue.add_record(Box::new(quiet), false, f.now), QueueStep::Waits));
    for pid in 0..3 * u32::try_from(MAX_QUERIES).unwrap() {
        assert!(f.add(pid, false).finished().is_none_or(|left| left.pid() < 9_000));
    }
    let first = f.round(EvidenceQuery::Managers).unwrap();
    assert!(first.len() == MAX_ROUND && first.contains(&9_000));
    assert_eq!((f.queue.managers.len(), f.queue.waiting.len()), (MAX_QUERIES, MAX_QUERIES));

    for pid in 10_000..10_000 + 2 * u32::try_from(MAX_PROCESSES).unwrap() {
        let _ = f.add(pid, true);
        if pid == 10_000 {
            let mut quiet = sighting(9_001);
            let sample = &mut quiet.sighting_mut().sample;
            (sample.uid, sample.login) = ("7".into(), Some(7));
            assert!(matches!(f.queue.add_record(Box::new(quiet), true, f.now), QueueStep::Waits));
        }
    }
    assert_eq!(units(&f.notice(9_001, AT, Some("a.service"))), [attributed(9_001, "a.service")], "it still waits");
}

#[test]
fn sighting_beyond_the_bound_is_finished_without_the_journal() {
    let mut f = Fixture::new();
    let most = u32::try_from(MAX_QUERIES).unwrap();
    f.reach_managers_answer(0..most);
    assert!(matches!(f.add(most, false), QueueStep::Waits));
    assert!(f.round(EvidenceQuery::Managers).is_some());
    assert_eq!(units(&f.managers_answer(vec![Vec::new()])), [(0, None)]);
}

#[test]
fn sighting_beyond_the_bound_is_finished_without_a_retry() {
    let mut f = Fixture::new();
    f.reach_managers_answer(0..2 + u32::try_from(MAX_RETRIES).unwrap());
    let mut left = 0;
    while f.round(FIRST).is_some() {
        left += f.journal_answers(Attempt::First, Vec::new()).len();
    }
    assert_eq!(left, 2);
}

#[test]
fn remembered_processes_are_bounded() {
    let mut f = Fixture::new();
    for pid in 0..3 * u32::try_from(MAX_PROCESSES).unwrap() {
        f.note_record(pid);
        assert!(f.notice(pid, AT, None).is_empty());
    }
    assert!(f.queue.recorded.get(0).is_none() && f.queue.deaths.get(0).is_none());
}

#[test]
fn giving_up_returns_every_sighting_once() {
    let mut f = Fixture::new();
    f.reach_first_journal_round([1, 2]);
    assert!(f.journal_answers(Attempt::First, Vec::new()).is_empty());
    f.reach_first_journal_round([3]);
    assert!(matches!(f.add(4, false), QueueStep::Waits));
    assert!(f.round(EvidenceQuery::Managers).is_some());
    assert!(matches!(f.add(5, false), QueueStep::Waits));
    assert!(matches!(f.add(6, true), QueueStep::Waits));
    f.exit(7);
    f.exit(8);
    f.note_record(8);
    let finished = f.queue.give_up();
    assert_eq!(units(&finished).iter().map(|(pid, _)| *pid).collect::<Vec<_>>(), (1..=7).collect::<Vec<_>>());
    assert!(!f.queue.awaits_soon() && f.queue.next_retry().is_none());
    assert_eq!((f.round(EvidenceQuery::Managers), f.round(FIRST), f.round(LAST)), (None, None, None));
}
