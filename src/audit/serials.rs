//! Loss, measured from serial numbers.
//!
//! The kernel numbers every audit event of every type in one sequence (`audit_serial`,
//! `kernel/audit.c`), and the multicast group carries them all. So a number that never
//! arrives is an event that was lost on the way.

/// Follows the serials of one stream.
#[derive(Debug, Clone, Default)]
pub struct Serials {
    highest: Option<u64>,
    last: u64,
    missing: u64,
}

impl Serials {
    /// Takes note of one message. Records of one event share its serial and arrive together.
    pub fn saw(&mut self, serial: u64) {
        match self.highest {
            None => self.highest = Some(serial),
            Some(_) if serial == self.last => {}
            Some(highest) if serial > highest => {
                self.missing = self.missing.saturating_add(serial - highest - 1);
                self.highest = Some(serial);
            }
            // Two processors can overtake each other: what was counted as missing came after all.
            Some(_) => self.missing = self.missing.saturating_sub(1),
        }
        self.last = serial;
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
            seen.saw(serial);
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
    }
}
