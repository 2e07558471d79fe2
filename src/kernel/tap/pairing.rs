//! Which calls were entered and which were not, from events in the order in which each thread met them.

use super::End;
use crate::policy::errno;
use std::collections::HashMap;

/// How many threads are followed; more begin anew as if they were unknown.
const MOST_THREADS: usize = 64 << 10;

/// What a thread did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// It entered a call.
    Enter,
    /// It came back from one, with its number and what it returned.
    Exit(u32, i64),
    /// It began, in the call that made it.
    Begin,
    /// It ended.
    End,
}

/// A call that was not entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Orphan {
    pub(crate) number: u32,
    pub(crate) end: End,
    /// The thread may have entered it before anybody looked.
    pub(crate) uncertain: bool,
}

/// What is known of each thread.
#[derive(Debug, Default)]
pub(crate) struct Pairing {
    /// Whether it is in a call, and since when that is known.
    threads: HashMap<u32, (bool, u64)>,
    /// Times between which events were lost, those of now.
    gaps: Vec<(u64, u64)>,
    /// When the last before those ended.
    past: Option<u64>,
}

impl Pairing {
    /// Events between two times were lost; told before any of later times.
    pub(crate) fn lost(&mut self, from: u64, to: u64) {
        self.gaps.push((from, to));
    }

    /// All events until a time were told.
    pub(crate) fn until(&mut self, time: u64) {
        let past = &mut self.past;
        self.gaps.retain(|(_, to)| {
            let over = *to < time;
            if over {
                *past = (*past).max(Some(*to));
            }
            !over
        });
    }

    /// The next step of a thread, and whether a call was not entered.
    pub(crate) fn step(&mut self, tid: u32, at: u64, step: Step) -> Option<Orphan> {
        if self.threads.len() >= MOST_THREADS {
            self.threads.clear();
        }
        match step {
            Step::Enter | Step::Begin => {
                self.threads.insert(tid, (true, at));
                None
            }
            Step::End => {
                self.threads.remove(&tid);
                None
            }
            Step::Exit(number, returned) => {
                let before = self.threads.insert(tid, (false, at));
                let end = end(returned);
                match before {
                    Some((_, known)) if self.missed(known, at) => None,
                    Some((true, _)) => None,
                    Some((false, _)) => Some(Orphan { number, end, uncertain: false }),
                    None if end == End::Answered => None,
                    None => Some(Orphan { number, end, uncertain: true }),
                }
            }
        }
    }

    /// Whether events may have been lost between two times.
    fn missed(&self, from: u64, to: u64) -> bool {
        self.past.is_some_and(|past| past >= from)
            || self.gaps.iter().any(|&(began, ended)| began <= to && ended >= from)
    }
}

fn end(returned: i64) -> End {
    let errno = returned.checked_neg().and_then(|errno| i32::try_from(errno).ok());
    errno.filter(|errno| (0..=errno::MAX).contains(errno)).map_or(End::Answered, End::Errno)
}

#[cfg(test)]
mod tests {
    use super::*;
    use Step::{Begin, Enter, Exit};

    fn orphan(number: u32, errno: i32, uncertain: bool) -> Orphan {
        Orphan { number, end: End::Errno(errno), uncertain }
    }

    #[test]
    fn a_call_that_was_not_entered_was_refused() {
        let mut pairing = Pairing::default();
        for (at, step, found) in [
            (1, Exit(7, -4), Some(orphan(7, 4, true))),
            (2, Enter, None),
            (3, Exit(1, -1), None),
            (4, Exit(1, -1), Some(orphan(1, 1, false))),
            (5, Exit(1, 0), Some(orphan(1, 0, false))),
            (6, Exit(2, 2), Some(Orphan { number: 2, end: End::Answered, uncertain: false })),
            (7, Enter, None),
            // Begun anew by exec or a signal.
            (8, Enter, None),
            (9, Exit(3, i64::MIN), None),
        ] {
            assert_eq!(pairing.step(1, at, step), found, "{at}");
        }
    }

    #[test]
    fn a_new_thread_leaves_the_call_that_made_it() {
        let mut pairing = Pairing::default();
        pairing.step(2, 1, Begin);
        assert_eq!(pairing.step(2, 2, Exit(56, 0)), None);
        assert_eq!(pairing.step(2, 3, Exit(56, -1)), Some(orphan(56, 1, false)));
        pairing.step(2, 4, Step::End);
        assert_eq!(pairing.step(2, 5, Exit(1, 5)), None, "another of that number, back from a call");
    }

    #[test]
    fn nothing_is_told_across_a_gap() {
        let mut pairing = Pairing::default();
        pairing.step(1, 10, Exit(1, 1));
        pairing.step(2, 10, Exit(1, 1));
        pairing.lost(20, 30);
        assert_eq!(pairing.step(1, 25, Exit(1, -1)), None, "it may have been entered in the gap");
        assert_eq!(pairing.step(1, 40, Exit(1, -1)), None, "or later in it");
        assert_eq!(pairing.step(1, 41, Exit(1, -1)), Some(orphan(1, 1, false)));
        pairing.until(50);
        assert_eq!(pairing.step(2, 60, Exit(1, -1)), None, "however long ago");
        assert_eq!(pairing.step(2, 61, Exit(1, -1)), Some(orphan(1, 1, false)));
    }
}
