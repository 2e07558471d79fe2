//! Brings records and exit events of the same process together.
//!
//! The kernel writes the record of a killing filter just before the process dies, and tells of the
//! death on another socket: either can arrive first. A record whose unit is not known waits a moment
//! for what the death tells; a death waits longer for a record, and is a silent death if none comes.

use crate::host::live_host::DeathEvidence;
use crate::incidents::Moment;
use crate::pipeline::Open;
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

/// How long a record waits for the exit event of its process.
const FOR_EXIT: Duration = Duration::from_millis(250);

/// How long a death waits for a record before it counts as silent. A thread of the kernel's sends
/// records, and can be late on a busy machine.
const FOR_RECORD: Duration = Duration::from_secs(1);

/// How long a pid is remembered at least, unless very many die. A machine reuses pids, but not within
/// seconds.
const MEMORY: Duration = Duration::from_secs(3);

/// How far a record and the notice of the death it belongs to can be apart, in milliseconds: a record's
/// clock is behind by a tick, and a death follows at once. Another process with the same pid cannot get
/// between: it takes all other pids to be used up first.
const EARLIER_MS: i64 = 20;
const LATER_MS: i64 = 1_000;

/// How many processes are remembered of each kind, and how many wait.
const MOST: usize = 8192;

/// Records and deaths that may belong together.
#[derive(Debug, Default)]
pub(super) struct Reconciler {
    /// Processes of which a record came.
    recorded: Recent<()>,
    /// What the deaths of processes told.
    told: Recent<DeathEvidence>,
    /// Records that wait, by process.
    open: HashMap<u32, Vec<Open>>,
    /// When each of them gives up, in order; the process may have been met before.
    deadlines: VecDeque<(Instant, u32)>,
    /// Deaths that wait, with their deadline, in order.
    silent: VecDeque<(Instant, Open)>,
}

impl Reconciler {
    /// A record of a process that the filter killed, or may have.
    pub(super) fn recorded(&mut self, pid: u32, now: Instant) {
        self.recorded.entry(pid, now);
    }

    /// A record whose unit is not known. Comes back at once if there is nothing to wait for.
    #[must_use]
    pub(super) fn wait_for_exit(&mut self, mut open: Open, now: Instant) -> Option<Open> {
        match self.told.get(pid_of(&open)) {
            Some(told) if belong(&open, told) => {
                open.learn_of_death(told);
                Some(open)
            }
            _ if self.deadlines.len() >= MOST => Some(open),
            _ => {
                let pid = pid_of(&open);
                self.deadlines.push_back((now + FOR_EXIT, pid));
                self.open.entry(pid).or_default().push(open);
                None
            }
        }
    }

    /// What the death of a process tells. Gives the records that waited for it.
    #[must_use]
    pub(super) fn learn(&mut self, pid: u32, told: DeathEvidence, now: Instant) -> Vec<Open> {
        let waiting = self.open.remove(&pid).unwrap_or_default();
        let (mut met, others): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|open| belong(open, &told));
        if !others.is_empty() {
            self.open.insert(pid, others);
        }
        for open in &mut met {
            open.learn_of_death(&told);
        }
        let known = self.told.entry(pid, now);
        if known.at.abs_diff(told.at) <= LATER_MS.unsigned_abs() {
            known.evidence.extend(told.evidence);
            known.parent = told.parent.or(known.parent.take());
        } else {
            // Another process had the pid before.
            *known = told;
        }
        met
    }

    /// A death by SIGSYS, of which what it tells was [learned](Self::learn) before.
    pub(super) fn died(&mut self, pid: u32, at: i64, now: Instant) {
        if self.recorded.get(pid).is_none() && self.silent.len() < MOST {
            let mut death = Open::silent_death(pid, Moment::At(at), Vec::new());
            if let Some(told) = self.told.get(pid) {
                death.learn_of_death(told);
            }
            self.silent.push_back((now + FOR_RECORD, death));
        }
    }

    /// What waited long enough: records without a death, and deaths without a record.
    #[must_use]
    pub(super) fn due(&mut self, now: Instant) -> Vec<Open> {
        let mut due = Vec::new();
        while let Some(pid) = pop_due(&mut self.deadlines, now) {
            due.extend(self.open.remove(&pid).unwrap_or_default());
        }
        while let Some(death) = pop_due(&mut self.silent, now) {
            if self.recorded.get(pid_of(&death)).is_none() {
                due.push(death);
            }
        }
        due
    }

    /// Whatever waits, long enough or not.
    #[must_use]
    pub(super) fn give_up(&mut self) -> Vec<Open> {
        self.deadlines.clear();
        let deaths = std::mem::take(&mut self.silent).into_iter().map(|(_, death)| death);
        let silent = deaths.filter(|death| self.recorded.get(pid_of(death)).is_none());
        silent.chain(self.open.drain().flat_map(|(_, records)| records)).collect()
    }

    /// When [`due`](Self::due) may have something next.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let record = self.deadlines.front().map(|(deadline, _)| *deadline);
        let death = self.silent.front().map(|(deadline, _)| *deadline);
        record.into_iter().chain(death).min()
    }
}

/// What was lately learned of processes, in two generations, so that forgetting costs nothing.
#[derive(Debug)]
struct Recent<T> {
    new: HashMap<u32, T>,
    old: HashMap<u32, T>,
    /// When the new generation began.
    since: Option<Instant>,
}

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Self { new: HashMap::new(), old: HashMap::new(), since: None }
    }
}

impl<T: Default> Recent<T> {
    fn get(&self, pid: u32) -> Option<&T> {
        self.new.get(&pid).or_else(|| self.old.get(&pid))
    }

    fn entry(&mut self, pid: u32, now: Instant) -> &mut T {
        let since = *self.since.get_or_insert(now);
        if self.new.len() >= MOST / 2 || now.duration_since(since) >= MEMORY {
            self.old = std::mem::take(&mut self.new);
            self.since = Some(now);
        }
        let known = self.old.remove(&pid);
        self.new.entry(pid).or_insert_with(|| known.unwrap_or_default())
    }
}

/// The first of a queue in order of deadlines, if its is over.
fn pop_due<T>(queue: &mut VecDeque<(Instant, T)>, now: Instant) -> Option<T> {
    queue.front().filter(|(deadline, _)| *deadline <= now)?;
    queue.pop_front().map(|(_, what)| what)
}

/// Whether a notice is of the death that a record came with.
fn belong(open: &Open, told: &DeathEvidence) -> bool {
    let Moment::At(recorded) = open.sighting().at else { return false };
    (recorded.saturating_sub(EARLIER_MS)..=recorded.saturating_add(LATER_MS)).contains(&told.at)
}

fn pid_of(open: &Open) -> u32 {
    open.sighting().sample.pid
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::incidents::IncidentEvent;
    use crate::units::Evidence;

    /// When everything here happens.
    const AT: i64 = 1_000_000;

    fn open(pid: u32) -> Open {
        // Any open sighting will do: what waits is told apart by its pid and time alone.
        Open::silent_death(pid, Moment::At(AT), Vec::new())
    }

    fn parent_at(at: i64, name: &str) -> DeathEvidence {
        let evidence = vec![Evidence::ParentCgroup(format!("0::/system.slice/{name}\n").into_bytes())];
        DeathEvidence { at, evidence, parent: None }
    }

    fn parent(name: &str) -> DeathEvidence {
        parent_at(AT, name)
    }

    #[test]
    fn a_record_learns_from_the_death_that_comes_after() {
        let (mut both, now) = (Reconciler::default(), Instant::now());
        both.recorded(7, now);
        assert!(both.wait_for_exit(open(7), now).is_none());
        let met = both.learn(7, parent("a.service"), now);
        both.died(7, AT, now);
        let unit = met.into_iter().next().unwrap().attribution().unwrap().unit;
        assert_eq!(unit.name.as_str(), "a.service");
        assert!(both.due(now + FOR_RECORD).is_empty(), "neither waits any more");
        assert_eq!(both.next_due(), None);
    }

    #[test]
    fn a_record_learns_from_the_death_that_came_before() {
        let (mut both, now) = (Reconciler::default(), Instant::now());
        assert!(both.learn(7, parent("a.service"), now).is_empty());
        both.died(7, AT, now);
        both.recorded(7, now);
        assert!(both.wait_for_exit(open(7), now).unwrap().attribution().is_some());
        assert!(both.due(now + FOR_RECORD).is_empty(), "the death was recorded");
    }

    #[test]
    fn a_pid_used_again_is_another_process() {
        let (mut both, now) = (Reconciler::default(), Instant::now());
        // Its namesake died before it was even started, in another unit.
        assert!(both.learn(7, parent_at(AT - 500, "other.service"), now).is_empty());
        assert!(both.wait_for_exit(open(7), now).is_none());
        // And the one after it long after.
        assert!(both.learn(7, parent_at(AT + 2_000, "other.service"), now).is_empty());
        let met = both.learn(7, parent_at(AT + 3, "a.service"), now);
        let unit = met.into_iter().next().unwrap().attribution().unwrap().unit;
        assert_eq!(unit.name.as_str(), "a.service");
    }

    #[test]
    fn what_two_notices_of_one_death_tell_is_kept() {
        let (mut both, now) = (Reconciler::default(), Instant::now());
        assert!(both.learn(7, parent_at(AT, "a.service"), now).is_empty());
        assert!(both.learn(7, DeathEvidence { at: AT + 5, ..DeathEvidence::default() }, now).is_empty());
        assert!(both.wait_for_exit(open(7), now).unwrap().attribution().is_some());
    }

    #[test]
    fn a_record_does_not_wait_for_ever() {
        let (mut both, now) = (Reconciler::default(), Instant::now());
        both.recorded(7, now);
        assert!(both.wait_for_exit(open(7), now).is_none());
        assert!(both.due(now).is_empty());
        assert_eq!(both.next_due(), Some(now + FOR_EXIT));
        assert_eq!(both.due(now + FOR_EXIT).len(), 1);
    }

    #[test]
    fn a_death_without_a_record_is_silent() {
        let (mut both, now) = (Reconciler::default(), Instant::now());
        assert!(both.learn(7, parent("a.service"), now).is_empty());
        both.died(7, AT, now);
        assert!(both.due(now + FOR_EXIT).is_empty());
        let silent = both.due(now + FOR_RECORD).into_iter().next().unwrap().close_anyway();
        assert_eq!((silent.key.event, silent.at), (IncidentEvent::SilentDeath, Moment::At(AT)));
    }

    #[test]
    fn what_waits_is_not_lost_when_we_stop() {
        let (mut both, now) = (Reconciler::default(), Instant::now());
        both.recorded(7, now);
        assert!(both.wait_for_exit(open(7), now).is_none());
        both.died(7, AT, now);
        both.died(8, AT, now);
        let mut pids: Vec<_> = both.give_up().iter().map(pid_of).collect();
        pids.sort_unstable();
        assert_eq!(pids, [7, 8], "the record of one, the silent death of the other");
        assert_eq!(both.next_due(), None);
    }

    #[test]
    fn a_pid_is_forgotten_after_a_while() {
        let (mut recent, now) = (Recent::<()>::default(), Instant::now());
        recent.entry(7, now);
        recent.entry(8, now + MEMORY);
        assert!(recent.get(7).is_some());
        recent.entry(9, now + 2 * MEMORY);
        assert!(recent.get(7).is_none());
    }

    #[test]
    fn what_waits_and_is_remembered_is_bounded() {
        let (mut both, now) = (Reconciler::default(), Instant::now());
        for pid in 0..3 * u32::try_from(MOST).unwrap() {
            both.recorded(pid, now);
            let _ = both.learn(pid + 1_000_000, DeathEvidence { at: AT, ..DeathEvidence::default() }, now);
            both.died(pid + 1_000_000, AT, now);
            let _ = both.wait_for_exit(open(pid), now);
        }
        assert!(both.recorded.new.len() + both.recorded.old.len() <= MOST);
        assert!(both.told.new.len() + both.told.old.len() <= MOST);
        assert!(both.open.len() <= MOST && both.deadlines.len() <= MOST && both.silent.len() <= MOST);
    }
}
