//! Recognizes records that a log holds more than once.
//!
//! Without auditd, the journal has each record twice. The kernel's log entry carries the audit stamp. For the audit
//! socket's entry, `journalctl` prints a date to the second (`journald-audit.c` takes the stamp as the entry's time).
//! A log joined from `audit.log`, `dmesg` and an export has further copies.
//!
//! - Stamped records are copies if time, serial number and pid are equal. The filter remembers the latest
//!   [`MAX_REMEMBERED`] in order of time, and at least half as many that came out of order. Copies further apart are
//!   counted twice.
//! - An undated record is a copy of a stamped one if process, thread, call, instruction pointer and second are equal. If
//!   several are equal, as many count as there are of the more frequent kind. Both kinds are remembered for at least half
//!   of [`MAX_REMEMBERED`] records. The comparison ignores day and hour: the log does not tell the date's time zone, but
//!   time zones differ by quarters of an hour.
//!
//! Records in the words of `ausearch -i` are never compared: they have names in place of numbers.

use crate::audit::{Action, CallField, Record, Stamp};
use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// How many records are remembered: some 4 MB of `audit.log`, and less than a processor's cache.
const MAX_REMEMBERED: usize = 16 << 10;
/// How many records later the record of another processor can arrive.
const MAX_OVERTAKEN: usize = 64;
/// Time zones differ by a multiple of this, in seconds.
const QUARTER_HOUR: i64 = 15 * 60;

/// How a record relates to those before it, unless it is a mere copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Novelty {
    /// It was not seen before.
    New,
    /// A copy without the precise time came earlier: this one tells the time and must not be counted again.
    DatesEarlier,
}

/// Remembers the latest records.
#[derive(Default)]
pub(super) struct RepeatFilter {
    /// In the order of their stamps.
    ordered: VecDeque<StampedRecord>,
    out_of_order: RecentMap<StampKey, ()>,
    /// Kept from the first undated record on.
    copies: Option<RecentMap<UndatedKey, CopyCount>>,
}

/// Time in milliseconds, serial number and pid, which no two records of one machine share.
type StampKey = (i64, u64, u32);
/// What a record shows without its stamp, and its second within a quarter of an hour.
type UndatedKey = (Fingerprint, u16);

#[derive(Clone, Copy)]
struct StampedRecord {
    at: i64,
    serial: u64,
    fingerprint: Fingerprint,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Fingerprint {
    pid: u32,
    call: u32,
    ip: u64,
    /// The kernel writes at most 15 bytes.
    comm: [u8; 16],
}

/// How many records with one [`UndatedKey`] came with a stamp, and how many without.
#[derive(Default)]
struct CopyCount {
    stamped: u32,
    undated: u32,
}

impl RepeatFilter {
    /// Remembers a record; `None` if it is a copy of an earlier one.
    pub(super) fn check(&mut self, record: &Record<'_>) -> Option<Novelty> {
        let Some(fingerprint) = Fingerprint::from_record(record) else { return Some(Novelty::New) };
        match record.stamp {
            Stamp::Millis(at) if record.serial != 0 => {
                self.check_stamped(StampedRecord { at, serial: record.serial, fingerprint })
            }
            Stamp::Printed(date) if record.serial == 0 => match parse_second(date) {
                Some(second) => self
                    .check_undated((fingerprint, second), record.action == Action::KillProcess)
                    .then_some(Novelty::New),
                None => Some(Novelty::New),
            },
            _ => Some(Novelty::New),
        }
    }

    fn check_stamped(&mut self, record: StampedRecord) -> Option<Novelty> {
        if !self.insert_stamped(record) {
            return None;
        }
        let Some(copies) = &mut self.copies else { return Some(Novelty::New) };
        let count = copies.entry(record.undated_key());
        count.stamped = count.stamped.saturating_add(1);
        Some(if count.stamped <= count.undated { Novelty::DatesEarlier } else { Novelty::New })
    }

    /// Remembers a stamp; false if it was remembered already.
    fn insert_stamped(&mut self, record: StampedRecord) -> bool {
        let key = record.key();
        if self.ordered.back().is_none_or(|last| last.key() < key) {
            if self.ordered.len() == MAX_REMEMBERED {
                self.ordered.pop_front();
            }
            self.ordered.push_back(record);
            return true;
        }
        let Err(at) = self.ordered.binary_search_by_key(&key, StampedRecord::key) else { return false };
        if self.ordered.len() - at > MAX_OVERTAKEN {
            return self.out_of_order.insert(key);
        }
        if self.ordered.len() == MAX_REMEMBERED {
            self.ordered.pop_front();
            self.ordered.insert(at - 1, record);
        } else {
            self.ordered.insert(at, record);
        }
        true
    }

    /// Counts an undated record; false if it is a copy.
    fn check_undated(&mut self, key: UndatedKey, is_fatal: bool) -> bool {
        let ordered = &self.ordered;
        let copies = self.copies.get_or_insert_with(|| {
            let mut copies: RecentMap<UndatedKey, CopyCount> = RecentMap::default();
            for record in ordered {
                copies.entry(record.undated_key()).stamped += 1;
            }
            copies
        });
        let count = copies.entry(key);
        // A process dies once.
        if is_fatal && count.undated > 0 {
            return false;
        }
        count.undated = count.undated.saturating_add(1);
        count.undated > count.stamped
    }
}

impl StampedRecord {
    fn key(&self) -> StampKey {
        (self.at, self.serial, self.fingerprint.pid)
    }

    fn undated_key(&self) -> UndatedKey {
        (self.fingerprint, within_quarter(self.at.div_euclid(1000)))
    }
}

impl Fingerprint {
    /// `None` for a record that has names in place of numbers.
    fn from_record(record: &Record<'_>) -> Option<Self> {
        let CallField::Number(call) = record.call else { return None };
        let mut comm = [0; 16];
        for (place, byte) in comm.iter_mut().zip(&*record.comm.decode()) {
            *place = *byte;
        }
        Some(Self { pid: record.pid, call, ip: record.ip, comm })
    }
}

/// Returns the second within a quarter of an hour of a date that `journalctl` printed: `Nov 23 17:12:17`,
/// `2026-11-23T17:12:17+0000`, `1795456064.827000`.
fn parse_second(date: &[u8]) -> Option<u16> {
    let two = |digits: &[u8]| match digits {
        [tens @ b'0'..=b'9', ones @ b'0'..=b'9'] => Some(i64::from(tens - b'0') * 10 + i64::from(ones - b'0')),
        _ => None,
    };
    let clock = date.windows(8).find_map(|part| {
        let (_, minutes, seconds) = (two(&part[..2])?, two(&part[3..5])?, two(&part[6..])?);
        (part[2] == b':' && part[5] == b':').then_some(minutes * 60 + seconds)
    });
    let unix = || {
        let (seconds, fraction) = str::from_utf8(date).ok()?.split_once('.')?;
        fraction.bytes().all(|digit| digit.is_ascii_digit()).then(|| seconds.parse().ok())?
    };
    Some(within_quarter(clock.or_else(unix)?))
}

fn within_quarter(seconds: i64) -> u16 {
    u16::try_from(seconds.rem_euclid(QUARTER_HOUR)).unwrap_or_default()
}

/// A map of the latest entries: at least half of [`MAX_REMEMBERED`], at most all.
struct RecentMap<K, V> {
    new: HashMap<K, V>,
    old: HashMap<K, V>,
}

impl<K, V> Default for RecentMap<K, V> {
    fn default() -> Self {
        Self { new: HashMap::new(), old: HashMap::new() }
    }
}

impl<K: Hash + Eq + Copy, V: Default> RecentMap<K, V> {
    /// Returns the value of a key, which counts as the latest from now on.
    fn entry(&mut self, key: K) -> &mut V {
        let known = if self.new.contains_key(&key) { None } else { self.old.remove(&key) };
        if self.new.len() >= MAX_REMEMBERED / 2 && !self.new.contains_key(&key) {
            self.old = std::mem::take(&mut self.new);
        }
        self.new.entry(key).or_insert_with(|| known.unwrap_or_default())
    }

    /// Inserts a key; false if it was there.
    fn insert(&mut self, key: K) -> bool {
        let is_new = !self.new.contains_key(&key) && !self.old.contains_key(&key);
        self.entry(key);
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{parse_fields, parse_record};
    use proptest::prelude::*;
    use std::collections::HashSet;

    const KILLED: &str = "0x80000000";
    const LOGGED: &str = "0x7ffc0000";

    fn fields(pid: u32, code: &str) -> String {
        format!(
            "auid=4294967295 uid=0 gid=0 ses=4294967295 pid={pid} comm=\"a\" exe=\"/a\" sig=31 arch=c000003e \
             syscall=41 compat=0 ip=0x7f code={code}"
        )
    }

    fn check_stamped(filter: &mut RepeatFilter, at: (i64, u64), pid: u32, code: &str) -> Option<Novelty> {
        let event = format!("audit({}.{:03}:{}): {}", at.0 / 1000, at.0 % 1000, at.1, fields(pid, code));
        filter.check(&parse_record(event.as_bytes()).unwrap())
    }

    fn check_undated(filter: &mut RepeatFilter, date: &str, pid: u32, code: &str) -> Option<Novelty> {
        let fields = fields(pid, code);
        filter.check(&parse_fields(fields.as_bytes(), Stamp::Printed(date.as_bytes()), 0).unwrap())
    }

    /// 2026-11-23 17:47:44 UTC.
    const AT: i64 = 1_795_456_064_827;

    #[test]
    fn record_with_known_stamp_is_copy() {
        let mut filter = RepeatFilter::default();
        let mut check = |at, serial, pid| check_stamped(&mut filter, (at, serial), pid, KILLED);
        assert_eq!(check(AT, 2, 7), Some(Novelty::New));
        assert_eq!(check(AT, 2, 7), None);
        assert_eq!(check(AT, 3, 7), Some(Novelty::New));
        assert_eq!(check(AT, 2, 8), Some(Novelty::New), "of another machine");
        assert_eq!(check(AT - 1, 2, 7), Some(Novelty::New), "of another boot");
        assert_eq!(check(AT, 2, 7), None);
    }

    #[test]
    fn stamped_and_undated_record_in_either_order_are_one() {
        for date in ["Nov 23 17:47:44", "Nov 23 18:47:44.827", "2026-11-23T23:17:44+0530", "1795456064.827000"] {
            let mut filter = RepeatFilter::default();
            assert_eq!(check_stamped(&mut filter, (AT, 2), 7, LOGGED), Some(Novelty::New));
            assert_eq!(check_undated(&mut filter, date, 7, LOGGED), None, "{date}");
            let mut filter = RepeatFilter::default();
            assert_eq!(check_undated(&mut filter, date, 7, LOGGED), Some(Novelty::New));
            assert_eq!(check_stamped(&mut filter, (AT, 2), 7, LOGGED), Some(Novelty::DatesEarlier), "{date}");
            assert_eq!(check_stamped(&mut filter, (AT + 1, 3), 7, LOGGED), Some(Novelty::New), "one more");
        }
    }

    #[test]
    fn undated_record_of_other_process_or_second_is_new() {
        let mut filter = RepeatFilter::default();
        assert_eq!(check_stamped(&mut filter, (AT, 2), 7, LOGGED), Some(Novelty::New));
        assert_eq!(check_undated(&mut filter, "Nov 23 17:47:44", 8, LOGGED), Some(Novelty::New));
        assert_eq!(check_undated(&mut filter, "Nov 23 17:47:45", 7, LOGGED), Some(Novelty::New));
        assert_eq!(check_undated(&mut filter, "yesterday", 7, LOGGED), Some(Novelty::New));
    }

    #[test]
    fn equal_records_count_as_often_as_the_more_frequent_kind() {
        let mut filter = RepeatFilter::default();
        let new =
            (0..5).filter(|_| check_undated(&mut filter, "Nov 23 17:47:44", 7, LOGGED) == Some(Novelty::New)).count();
        let more = (0..7).filter(|n| check_stamped(&mut filter, (AT, 2 + n), 7, LOGGED) == Some(Novelty::New)).count();
        assert_eq!((new, more), (5, 2));
        let killed =
            (0..5).filter(|_| check_undated(&mut filter, "Nov 23 17:47:44", 9, KILLED) == Some(Novelty::New)).count();
        assert_eq!(killed, 1, "a process dies once");
    }

    #[test]
    fn many_records_are_remembered_within_bounds() {
        let mut filter = RepeatFilter::default();
        let all = 3 * MAX_REMEMBERED as u64;
        for serial in 1..all {
            assert_eq!(check_stamped(&mut filter, (AT, serial), 7, LOGGED), Some(Novelty::New));
        }
        assert_eq!(check_stamped(&mut filter, (AT, all - MAX_REMEMBERED as u64), 7, LOGGED), None);
        for pid in 0..u32::try_from(all).unwrap() {
            let _ = check_undated(&mut filter, "Nov 23 17:47:44", pid, LOGGED);
            // Out of order: long before the others.
            let _ = check_stamped(&mut filter, (5000, u64::from(pid) + 1), pid, LOGGED);
        }
        let copies = filter.copies.as_ref().unwrap();
        for (new, old) in
            [(copies.new.len(), copies.old.len()), (filter.out_of_order.new.len(), filter.out_of_order.old.len())]
        {
            assert!(new <= MAX_REMEMBERED / 2 && old <= MAX_REMEMBERED / 2, "{new} {old}");
        }
        assert!(filter.ordered.len() <= MAX_REMEMBERED && filter.ordered.capacity() <= MAX_REMEMBERED);
    }

    proptest! {
        #[test]
        fn few_records_in_any_order_are_all_remembered(records in prop::collection::vec((0_i64..20, 1_u64..9), 0..300)) {
            let (mut filter, mut seen) = (RepeatFilter::default(), HashSet::new());
            for (at, serial) in records {
                let novelty = check_stamped(&mut filter, (AT + at, serial), 7, LOGGED);
                prop_assert_eq!(novelty == Some(Novelty::New), seen.insert((at, serial)));
            }
        }
    }
}
