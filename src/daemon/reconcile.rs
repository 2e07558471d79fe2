//! Brings records and exit events of the same process together.
//!
//! The kernel writes the record of a killing filter just before the process exits, on another socket:
//! either can arrive first. A record whose unit is not known waits a moment for the exit event,
//! which names the parent; an exit event waits longer for a record, and is a silent death if none comes.

use crate::incidents::Moment;
use crate::pipeline::Open;
use crate::units::Evidence;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How long a record waits for the exit event of its process.
const FOR_EXIT: Duration = Duration::from_millis(100);

/// How long a death waits for a record before it counts as silent.
const FOR_RECORD: Duration = Duration::from_millis(500);

/// How long a pid is remembered. A machine reuses pids, but not within seconds.
const MEMORY: Duration = Duration::from_secs(5);

/// How many processes are remembered, and how many wait.
const MOST: usize = 8192;

/// Records and deaths that may belong together.
#[derive(Debug, Default)]
pub(super) struct Reconciler {
    /// Processes of which a record came, and when.
    recorded: HashMap<u32, Instant>,
    /// Processes that died, when, and what their death told.
    died: HashMap<u32, (Instant, Vec<Evidence>)>,
    /// Records that wait, with their deadline.
    open: Vec<(Instant, Open)>,
    /// Deaths that wait, with their deadline.
    silent: Vec<(Instant, Open)>,
}

impl Reconciler {
    /// A record of a process that the filter killed, or may have.
    pub(super) fn recorded(&mut self, pid: u32, now: Instant) {
        if self.recorded.len() >= MOST {
            self.recorded.retain(|_, at| now.duration_since(*at) < MEMORY);
        }
        if self.recorded.len() < MOST || self.recorded.contains_key(&pid) {
            self.recorded.insert(pid, now);
        }
    }

    /// A record whose unit is not known. Comes back at once if there is nothing to wait for.
    #[must_use]
    pub(super) fn wait_for_exit(&mut self, mut open: Open, now: Instant) -> Option<Open> {
        match self.died.get(&pid_of(&open)) {
            Some((at, evidence)) if now.duration_since(*at) < MEMORY => {
                open.learn(evidence.iter().cloned());
                Some(open)
            }
            _ if self.open.len() >= MOST => Some(open),
            _ => {
                self.open.push((now + FOR_EXIT, open));
                None
            }
        }
    }

    /// A death by SIGSYS. Gives the records that waited for it.
    #[must_use]
    pub(super) fn died(&mut self, pid: u32, at: Moment, evidence: Vec<Evidence>, now: Instant) -> Vec<Open> {
        if self.died.len() >= MOST {
            self.died.retain(|_, (at, _)| now.duration_since(*at) < MEMORY);
        }
        let recorded = self.recorded.get(&pid).is_some_and(|at| now.duration_since(*at) < MEMORY);
        if !recorded && self.silent.len() < MOST {
            self.silent.push((now + FOR_RECORD, Open::silent_death(pid, at, evidence.clone())));
        }
        let met = take(&mut self.open, |_, open| pid_of(open) == pid);
        if self.died.len() < MOST {
            self.died.insert(pid, (now, evidence.clone()));
        }
        met.into_iter()
            .map(|mut open| {
                open.learn(evidence.iter().cloned());
                open
            })
            .collect()
    }

    /// What waited long enough: records without an exit, and deaths without a record.
    #[must_use]
    pub(super) fn due(&mut self, now: Instant) -> Vec<Open> {
        let mut due = take(&mut self.open, |deadline, _| deadline <= now);
        let deaths = take(&mut self.silent, |deadline, _| deadline <= now);
        due.extend(deaths.into_iter().filter(|open| !self.recorded.contains_key(&pid_of(open))));
        due
    }

    /// When [`due`](Self::due) has something next.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.open.iter().chain(&self.silent).map(|(deadline, _)| *deadline).min()
    }
}

fn pid_of(open: &Open) -> u32 {
    open.sighting().sample.pid
}

/// Takes the chosen out of a list and keeps the rest in order.
fn take(list: &mut Vec<(Instant, Open)>, chosen: impl Fn(Instant, &Open) -> bool) -> Vec<Open> {
    list.extract_if(.., |(deadline, open)| chosen(*deadline, open)).map(|(_, open)| open).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::incidents::Event;

    fn open(pid: u32) -> Open {
        // Any open sighting will do: what waits is told apart by its pid alone.
        Open::silent_death(pid, Moment::Unknown, Vec::new())
    }

    fn parent(name: &str) -> Vec<Evidence> {
        vec![Evidence::ParentCgroup(format!("0::/system.slice/{name}\n").into_bytes())]
    }

    #[test]
    fn a_record_learns_from_the_exit_that_comes_after() {
        let (mut both, now) = (Reconciler::default(), Instant::now());
        both.recorded(7, now);
        assert!(both.wait_for_exit(open(7), now).is_none());
        let met = both.died(7, Moment::Unknown, parent("a.service"), now);
        let unit = met.into_iter().next().unwrap().close().unwrap().key.unit.unwrap();
        assert_eq!(unit.name.as_str(), "a.service");
        assert_eq!(both.next_due(), None, "neither waits any more");
    }

    #[test]
    fn a_record_learns_from_the_exit_that_came_before() {
        let (mut both, now) = (Reconciler::default(), Instant::now());
        assert!(both.died(7, Moment::Unknown, parent("a.service"), now).is_empty());
        both.recorded(7, now);
        assert!(both.wait_for_exit(open(7), now).unwrap().close().is_ok());
        assert!(both.due(now + FOR_RECORD).is_empty(), "the death was recorded");
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
        assert!(both.died(7, Moment::At(5), parent("a.service"), now).is_empty());
        assert!(both.due(now + FOR_EXIT).is_empty());
        let silent = both.due(now + FOR_RECORD).into_iter().next().unwrap().close().unwrap();
        assert_eq!((silent.key.event, silent.at), (Event::SilentDeath, Moment::At(5)));
    }

    #[test]
    fn what_waits_and_is_remembered_is_bounded() {
        let (mut both, now) = (Reconciler::default(), Instant::now());
        for pid in 0..3 * u32::try_from(MOST).unwrap() {
            both.recorded(pid, now);
            let _ = both.died(pid + 1_000_000, Moment::Unknown, Vec::new(), now);
            let _ = both.wait_for_exit(open(pid), now);
        }
        assert!(both.recorded.len() <= MOST && both.died.len() <= MOST);
        assert!(both.open.len() <= MOST && both.silent.len() <= MOST);
    }
}
