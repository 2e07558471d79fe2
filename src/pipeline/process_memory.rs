//! A bounded memory of recent processes, by pid.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How long the memory keeps a pid at least, unless it is full. The kernel reuses pids, but not within seconds.
const MIN_TIME: Duration = Duration::from_secs(3);

/// A value for each recent process. Dropping a whole generation makes forgetting cheap.
#[derive(Debug)]
pub(super) struct ProcessMemory<T> {
    new: HashMap<u32, T>,
    old: HashMap<u32, T>,
    /// When the new generation began.
    since: Option<Instant>,
    max_processes: usize,
}

impl<T: Default> ProcessMemory<T> {
    pub(super) fn new(max_processes: usize) -> Self {
        Self { new: HashMap::new(), old: HashMap::new(), since: None, max_processes }
    }

    pub(super) fn get(&self, pid: u32) -> Option<&T> {
        self.new.get(&pid).or_else(|| self.old.get(&pid))
    }

    /// Returns the entry of a process, a new one if there is none.
    pub(super) fn entry(&mut self, pid: u32, now: Instant) -> &mut T {
        let since = *self.since.get_or_insert(now);
        if self.new.len() >= self.max_processes / 2 || now.duration_since(since) >= MIN_TIME {
            self.old = std::mem::take(&mut self.new);
            self.since = Some(now);
        }
        let known = self.old.remove(&pid);
        self.new.entry(pid).or_insert_with(|| known.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pid_is_forgotten_after_two_generations() {
        let (mut memory, now) = (ProcessMemory::<()>::new(8), Instant::now());
        memory.entry(7, now);
        memory.entry(8, now + MIN_TIME);
        assert!(memory.get(7).is_some());
        memory.entry(9, now + 2 * MIN_TIME);
        assert!(memory.get(7).is_none());
    }

    #[test]
    fn number_of_pids_is_bounded() {
        let (mut memory, now) = (ProcessMemory::<()>::new(8), Instant::now());
        for pid in 0..100 {
            memory.entry(pid, now);
            assert!(memory.get(pid).is_some() && memory.new.len() + memory.old.len() <= 8);
        }
    }
}
