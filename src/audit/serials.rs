//! Counts lost audit events by their serial numbers.
//!
//! The kernel numbers the audit events of all types in one sequence (`audit_serial`, `kernel/audit.c`), and the
//! multicast group carries them all. So a number that never arrives is a lost event.

use std::collections::VecDeque;
use std::ops::Range;

/// How many gaps are remembered for events that arrive late: processors overtake each other by a few events.
const MAX_GAPS: usize = 64;

/// Follows the serials of one stream.
#[derive(Debug, Clone, Default)]
pub(crate) struct Serials {
    /// The highest serial so far, counted on beyond 32 bits.
    highest: Option<u64>,
    missing: u64,
    /// The latest gaps, newest last.
    gaps: VecDeque<Range<u64>>,
}

impl Serials {
    /// Counts one message. Records of one event share its serial and arrive together.
    pub(crate) fn observe(&mut self, serial: u64) {
        let Some(highest) = self.highest else {
            self.highest = Some(serial);
            return;
        };
        let serial = count_on(serial, highest);
        if serial > highest {
            if serial - highest > 1 {
                self.add_gap(highest + 1..serial);
            }
            self.highest = Some(serial);
        } else if serial < highest {
            self.fill_gap(serial);
        }
    }

    fn add_gap(&mut self, gap: Range<u64>) {
        self.missing = self.missing.saturating_add(gap.end - gap.start);
        if self.gaps.len() == MAX_GAPS {
            self.gaps.pop_front();
        }
        self.gaps.push_back(gap);
    }

    /// Takes a late event out of its gap, since processors can overtake each other.
    ///
    /// The records of one event can mingle with those of others. Only the first of them fills the gap.
    fn fill_gap(&mut self, serial: u64) {
        let Some(place) = self.gaps.iter().rposition(|gap| gap.contains(&serial)) else { return };
        let Some(gap) = self.gaps.remove(place) else { return };
        self.missing = self.missing.saturating_sub(1);
        for rest in [serial + 1..gap.end, gap.start..serial] {
            if !rest.is_empty() {
                self.gaps.insert(place, rest);
            }
        }
        if self.gaps.len() > MAX_GAPS {
            self.gaps.pop_front();
        }
    }

    /// Returns how many events are missing since the first that arrived.
    #[must_use]
    pub(crate) fn missing(&self) -> u64 {
        self.missing
    }
}

/// Returns a serial counted on from the highest one. The kernel's number has 32 bits, and starts at 0 again.
fn count_on(serial: u64, highest: u64) -> u64 {
    const NUMBERS: u64 = 1 << 32;
    let ahead = serial.wrapping_sub(highest) % NUMBERS;
    if ahead < NUMBERS / 2 { highest.saturating_add(ahead) } else { highest.saturating_sub(NUMBERS - ahead) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing_after(observed: &[u64]) -> u64 {
        let mut serials = Serials::default();
        for &serial in observed {
            serials.observe(serial);
        }
        serials.missing()
    }

    #[test]
    fn serials_with_gap_are_missing() {
        assert_eq!(missing_after(&[7, 8, 9]), 0);
        assert_eq!(missing_after(&[7, 10]), 2);
        assert_eq!(missing_after(&[]), 0);
    }

    #[test]
    fn repeated_serial_counts_once() {
        assert_eq!(missing_after(&[7, 7, 7, 8]), 0);
    }

    #[test]
    fn late_serial_is_not_missing() {
        assert_eq!(missing_after(&[7, 9, 8, 10]), 0);
        assert_eq!(missing_after(&[7, 12, 8, 13]), 3);
        assert_eq!(missing_after(&[7, 12, 9, 11, 8, 10, 13]), 0);
        assert_eq!(missing_after(&[7, 12, 9, 9, 9]), 3, "repeated serials count once");
    }

    #[test]
    fn serials_are_counted_on_after_the_last_number() {
        const LAST: u64 = 0xffff_ffff;
        assert_eq!(missing_after(&[LAST - 1, LAST, 0, 1, 2]), 0);
        assert_eq!(missing_after(&[LAST - 1, 1, LAST, 2, 5]), 3);
        assert_eq!(missing_after(&[LAST, 0, LAST, 0, LAST]), 0);
    }

    #[test]
    fn mingled_records_of_later_events_fill_no_gap() {
        let mut observed = vec![1, 5_002];
        observed.extend((0..1_000).flat_map(|pair| [5_003, 5_004, 5_003, 5_004].map(|serial| serial + 2 * pair)));
        assert_eq!(missing_after(&observed), 5_000);
        observed.push(8);
        assert_eq!(missing_after(&observed), 4_999);
    }

    #[test]
    fn many_gaps_are_remembered_within_bounds() {
        let mut serials = Serials::default();
        (0..10_000).for_each(|event| serials.observe(2 * event));
        (1_000..2_000).for_each(|event| serials.observe(2 * event + 1));
        assert_eq!(serials.missing(), 9_999, "these gaps are forgotten");
        serials.observe(19_997);
        assert_eq!(serials.missing(), 9_998);
        assert!(serials.gaps.len() <= MAX_GAPS);
    }
}
