//! Loss, measured from serial numbers.
//!
//! The kernel numbers every audit event of every type in one sequence (`audit_serial`,
//! `kernel/audit.c`), and the multicast group carries them all. So a number that never
//! arrives is an event that was lost on the way.

use std::collections::VecDeque;
use std::ops::Range;

/// How many gaps are remembered, for what is in them to come after all: processors overtake each other by a few events.
const MOST_GAPS: usize = 64;

/// Follows the serials of one stream.
#[derive(Debug, Clone, Default)]
pub struct Serials {
    highest: Option<u64>,
    missing: u64,
    /// The latest gaps, the newest last.
    gaps: VecDeque<Range<u64>>,
}

impl Serials {
    /// Takes note of one message. Records of one event share its serial and arrive together.
    pub fn observe(&mut self, serial: u64) {
        match self.highest {
            None => self.highest = Some(serial),
            Some(highest) if serial > highest => {
                if serial - highest > 1 {
                    self.misses(highest + 1..serial);
                }
                self.highest = Some(serial);
            }
            Some(highest) if serial == highest => {}
            Some(_) => self.came_after_all(serial),
        }
    }

    fn misses(&mut self, gap: Range<u64>) {
        self.missing = self.missing.saturating_add(gap.end - gap.start);
        if self.gaps.len() == MOST_GAPS {
            self.gaps.pop_front();
        }
        self.gaps.push_back(gap);
    }

    /// Two processors can overtake each other. The records of one event, too, can have others' between them: only the
    /// first of them was missing.
    fn came_after_all(&mut self, serial: u64) {
        let Some(place) = self.gaps.iter().rposition(|gap| gap.contains(&serial)) else { return };
        let Some(gap) = self.gaps.remove(place) else { return };
        self.missing = self.missing.saturating_sub(1);
        for rest in [serial + 1..gap.end, gap.start..serial] {
            if !rest.is_empty() {
                self.gaps.insert(place, rest);
            }
        }
        if self.gaps.len() > MOST_GAPS {
            self.gaps.pop_front();
        }
    }

    /// How many events never arrived since the first that did.
    #[must_use]
    pub fn missing(&self) -> u64 {
        self.missing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(serials: &[u64]) -> u64 {
        let mut seen = Serials::default();
        for &serial in serials {
            seen.observe(serial);
        }
        seen.missing()
    }

    #[test]
    fn a_gap_is_a_loss() {
        assert_eq!(missing(&[7, 8, 9]), 0);
        assert_eq!(missing(&[7, 10]), 2);
        assert_eq!(missing(&[]), 0);
    }

    #[test]
    fn records_of_one_event_are_one() {
        assert_eq!(missing(&[7, 7, 7, 8]), 0);
    }

    #[test]
    fn a_late_one_is_not_lost() {
        assert_eq!(missing(&[7, 9, 8, 10]), 0);
        assert_eq!(missing(&[7, 12, 8, 13]), 3);
        assert_eq!(missing(&[7, 12, 9, 11, 8, 10, 13]), 0);
        assert_eq!(missing(&[7, 12, 9, 9, 9]), 3, "records of one event are one");
    }

    #[test]
    fn events_whose_records_mingle_make_up_for_no_loss() {
        let mut serials = vec![1, 5_002];
        serials.extend((0..1_000).flat_map(|pair| [5_003, 5_004, 5_003, 5_004].map(|serial| serial + 2 * pair)));
        assert_eq!(missing(&serials), 5_000);
        serials.push(8);
        assert_eq!(missing(&serials), 4_999);
    }

    #[test]
    fn what_is_remembered_of_gaps_is_bounded() {
        let mut seen = Serials::default();
        (0..10_000).for_each(|event| seen.observe(2 * event));
        (1_000..2_000).for_each(|event| seen.observe(2 * event + 1));
        assert_eq!(seen.missing(), 9_999, "too late to be told from what came before");
        seen.observe(19_997);
        assert_eq!(seen.missing(), 9_998);
        assert!(seen.gaps.len() <= MOST_GAPS);
    }
}
