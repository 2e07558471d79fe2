//! A bounded memory of recent processes, by pid. If it is full, the owner with the most processes loses its oldest.

use crate::incidents::{FairQueue, Owner};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How long the memory keeps a pid, unless it is full. The kernel reuses pids, but not within seconds.
const MIN_TIME: Duration = Duration::from_secs(4);

/// A value for each recent process.
#[derive(Debug)]
pub(super) struct ProcessMemory<T> {
    known: HashMap<u32, RecentProcess<T>>,
    /// The processes in the order of their latest note.
    notes: FairQueue<Owner, ProcessNote>,
}

#[derive(Debug)]
struct RecentProcess<T> {
    value: T,
    noted: Instant,
}

/// A note of a process. It counts as long as no later note of the same process does.
#[derive(Debug)]
struct ProcessNote {
    pid: u32,
    noted: Instant,
}

impl<T: Default> ProcessMemory<T> {
    pub(super) fn new(max_processes: usize) -> Self {
        Self { known: HashMap::new(), notes: FairQueue::new(max_processes) }
    }

    pub(super) fn get(&self, pid: u32) -> Option<&T> {
        self.known.get(&pid).map(|known| &known.value)
    }

    /// Returns the entry of a process of an owner, a new one if there is none.
    pub(super) fn entry(&mut self, pid: u32, owner: Owner, now: Instant) -> &mut T {
        while self.notes.front().is_some_and(|note| now.duration_since(note.noted) >= MIN_TIME) {
            if let Some(oldest) = self.notes.pop_front() {
                self.forget(&oldest);
            }
        }
        let is_noted = self.known.get(&pid).is_some_and(|known| known.noted == now);
        if !is_noted && let Some(displaced) = self.notes.push(owner, ProcessNote { pid, noted: now }) {
            self.forget(&displaced);
        }
        let known = self.known.entry(pid).or_insert_with(|| RecentProcess { value: T::default(), noted: now });
        known.noted = now;
        &mut known.value
    }

    /// Forgets the process of a note, unless a later note counts.
    fn forget(&mut self, ProcessNote { pid, noted }: &ProcessNote) {
        if self.known.get(pid).is_some_and(|known| known.noted == *noted) {
            self.known.remove(pid);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(uid: &str) -> Owner {
        Owner::User(uid.into())
    }

    #[test]
    fn pid_is_forgotten_some_time_after_its_latest_note() {
        let (mut memory, now) = (ProcessMemory::<()>::new(8), Instant::now());
        memory.entry(7, user("0"), now);
        memory.entry(7, user("0"), now + MIN_TIME / 2);
        memory.entry(8, user("0"), now + MIN_TIME);
        assert!(memory.get(7).is_some());
        memory.entry(9, user("0"), now + 2 * MIN_TIME);
        assert!(memory.get(7).is_none() && memory.get(8).is_none());
    }

    #[test]
    fn number_of_pids_is_bounded_and_no_owner_pushes_out_anothers() {
        let (mut memory, now) = (ProcessMemory::<()>::new(8), Instant::now());
        memory.entry(1_000, user("0"), now);
        for pid in 0..100 {
            memory.entry(pid, user("65534"), now);
            assert!(memory.get(pid).is_some() && memory.known.len() <= 8);
        }
        assert!(memory.get(1_000).is_some());
    }
}
