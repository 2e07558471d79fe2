//! Recognizes records that a log holds more than once.
//!
//! Without auditd, the journal has each record twice. The kernel's log entry carries the audit stamp. For the audit
//! socket's entry, `journalctl` prints a date to the second (`journald-audit.c` takes the stamp as the entry's time).
//! A log joined from `audit.log`, `dmesg` and an export has further copies.
//!
//!
//! - Stamped records are copies if time, serial number and pid are equal. The filter remembers the latest
//!   [`MAX_REMEMBERED`] in order of time, and at least half as many that came out of order. Copies further apart are
//!   counted twice.
//! - The other dialects tell less: `ausearch -i` a serial number and a date of its own time zone, `journalctl` a date to
//!   the second, `journalctl -o cat` no time. A record is a copy of a more precise one if everything that it tells is
//!   equal ([`CopyKey`]). If several are equal, as many count as there are of the more frequent kind. Each kind is
//!   remembered for at least half of [`MAX_REMEMBERED`] records. The comparison ignores day and hour: the log does not
//!   tell the date's time zone, but time zones differ by quarters of an hour.

use crate::audit::{Action, ArchField, CallField, Record, Stamp};
use crate::syscalls::{Arch, Call};
use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// How many records are remembered: some 4 MB of `audit.log`, and less than a processor's cache.
const MAX_REMEMBERED: usize = 16 << 10;
/// How many keys a map remembers at least: those of as many records as half of [`MAX_REMEMBERED`].
const MAX_KEYS: usize = 3 * MAX_REMEMBERED / 2;
/// How many records later the record of another processor can arrive.
const MAX_OVERTAKEN: usize = 64;
/// Time zones differ by a multiple of this, in seconds.
const QUARTER_HOUR: i64 = 15 * 60;

/// How a record relates to those before it, unless it is a mere copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Novelty {
    /// It was not seen before.
    New,
    /// A copy that tells less came earlier: this one tells the time and must not be counted again.
    DatesEarlier,
}

/// Remembers the latest records.
#[derive(Default)]
pub(super) struct RepeatFilter {
    /// In the order of their stamps.
    ordered: VecDeque<StampedRecord>,
    out_of_order: RecentMap<StampKey, ()>,
    /// Kept from the first record on that has no stamp.
    copies: Option<RecentMap<CopyKey, CopyCount>>,
}

/// Time in milliseconds, serial number and pid, which no two records of one machine share.
type StampKey = (i64, u64, u32);

/// What a record tells in a dialect without the stamp, from the most precise to the least.
///
/// A record has the keys of its own dialect and of all that tell less.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum CopyKey {
    /// `ausearch -i`: serial number, pid, and milliseconds within a quarter of an hour.
    Serial(u64, u32, u32),
    /// `journalctl`: the second within a quarter of an hour.
    Second(Fingerprint, u16),
    /// `journalctl -o cat`, or a time since boot.
    Timeless(Fingerprint),
}

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

/// How many records with one [`CopyKey`] came in its own dialect, and how many in more precise ones.
#[derive(Default)]
struct CopyCount {
    precise: u32,
    own: u32,
}

impl RepeatFilter {
    /// Remembers a record; `None` if it is a copy of an earlier one.
    pub(super) fn check(&mut self, record: &Record<'_>) -> Option<Novelty> {
        let fingerprint = Fingerprint::from_record(record);
        let (millis, skipped) = match (record.stamp, record.serial) {
            (Stamp::Millis(at), 1..) => {
                let stamped = StampedRecord { at, serial: record.serial, fingerprint };
                if !self.insert_stamped(stamped) {
                    return None;
                }
                let copies = self.copies.as_mut();
                return Some(copies.map_or(Novelty::New, |copies| count_precise(copies, &stamped.copy_keys())));
            }
            (Stamp::Millis(at), 0) => (at, 1),
            (Stamp::Printed(date), serial) => match parse_millis(date) {
                Some(millis) => (millis, usize::from(serial == 0)),
                None => (0, 2),
            },
            (Stamp::Unknown, _) => (0, 2),
        };
        let keys = CopyKey::all(record.serial, fingerprint, millis);
        self.check_unstamped(&keys[skipped..], record.action == Action::KillProcess)
    }

    /// Counts a record without stamp, by its own key and those that tell less.
    fn check_unstamped(&mut self, keys: &[CopyKey], is_fatal: bool) -> Option<Novelty> {
        let ordered = &self.ordered;
        let copies = self.copies.get_or_insert_with(|| {
            let mut copies = RecentMap::default();
            for record in ordered {
                count_precise(&mut copies, &record.copy_keys());
            }
            copies
        });
        let (own, less) = keys.split_first()?;
        let count = copies.entry(*own);
        // A process dies once, and a serial number is given once.
        let is_unique = is_fatal || matches!(own, CopyKey::Serial(..));
        count.own = count.own.saturating_add(1);
        if count.own <= count.precise || (is_unique && count.own > 1) {
            return None;
        }
        Some(count_precise(copies, less))
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
}

/// Counts a record by the keys that tell less than its dialect, up to the first that a copy had before.
fn count_precise(copies: &mut RecentMap<CopyKey, CopyCount>, keys: &[CopyKey]) -> Novelty {
    for key in keys {
        let count = copies.entry(*key);
        count.precise = count.precise.saturating_add(1);
        if count.precise <= count.own {
            // The copy was counted by the keys that tell even less.
            return Novelty::DatesEarlier;
        }
    }
    Novelty::New
}

impl CopyKey {
    fn second(fingerprint: Fingerprint, seconds: i64) -> Self {
        Self::Second(fingerprint, u16::try_from(seconds.rem_euclid(QUARTER_HOUR)).unwrap_or_default())
    }

    /// Returns the keys of a record with serial number and milliseconds.
    fn all(serial: u64, fingerprint: Fingerprint, millis: i64) -> [Self; 3] {
        let within_quarter = u32::try_from(millis.rem_euclid(QUARTER_HOUR * 1000)).unwrap_or_default();
        let precise = Self::Serial(serial, fingerprint.pid, within_quarter);
        [precise, Self::second(fingerprint, millis.div_euclid(1000)), Self::Timeless(fingerprint)]
    }
}

impl StampedRecord {
    fn key(&self) -> StampKey {
        (self.at, self.serial, self.fingerprint.pid)
    }

    fn copy_keys(&self) -> [CopyKey; 3] {
        CopyKey::all(self.serial, self.fingerprint, self.at)
    }
}

impl Fingerprint {
    fn from_record(record: &Record<'_>) -> Self {
        let call = match (record.call, record.arch) {
            (CallField::Number(number), _) => Some(number),
            (CallField::Name(name), ArchField::Name(arch)) => Call::interpreted(arch, name).number(),
            (CallField::Name(name), ArchField::Token(token)) => {
                str::from_utf8(name).ok().and_then(|name| Call::named(Arch(token), name).number())
            }
        };
        let mut comm = [0; 16];
        for (place, byte) in comm.iter_mut().zip(&*record.comm.decode()) {
            *place = *byte;
        }
        Self { pid: record.pid, call: call.unwrap_or(u32::MAX), ip: record.ip, comm }
    }
}

/// Returns the time of day of a date that `journalctl` or `ausearch -i` printed, in milliseconds: `Nov 23 17:12:17`,
/// `2026-11-23T17:12:17+0000`, `01/08/2022 05:12:17 PM.214`.
fn parse_millis(date: &[u8]) -> Option<i64> {
    let two = |digits: &[u8]| match digits {
        [tens @ b'0'..=b'9', ones @ b'0'..=b'9'] => Some(i64::from(tens - b'0') * 10 + i64::from(ones - b'0')),
        _ => None,
    };
    let (at, seconds) = date.windows(8).enumerate().find_map(|(at, part)| {
        let (_, minutes, seconds) = (two(&part[..2])?, two(&part[3..5])?, two(&part[6..])?);
        (part[2] == b':' && part[5] == b':').then_some((at, minutes * 60 + seconds))
    })?;
    let fraction = date[at + 8..].rsplit(|byte| matches!(byte, b'.' | b',')).next().and_then(|digits| digits.get(..3));
    let has_fraction = date[at + 8..].iter().any(|byte| matches!(byte, b'.' | b','));
    let millis = fraction.filter(|_| has_fraction).and_then(|digits| str::from_utf8(digits).ok()?.parse().ok());
    Some(seconds * 1000 + millis.unwrap_or(0_i64))
}

/// A map of the latest entries: at least [`MAX_KEYS`], at most twice as many.
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
        if self.new.len() >= MAX_KEYS && !self.new.contains_key(&key) {
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
        for date in ["Nov 23 17:47:44", "Nov 23 18:47:44.827", "2026-11-23T23:17:44+0530", "[  961.261094]", ""] {
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
        assert_eq!(check_undated(&mut filter, "yesterday", 8, LOGGED), None, "of unknown time");
        assert_eq!(check_undated(&mut filter, "yesterday", 9, LOGGED), Some(Novelty::New));
    }

    #[test]
    fn record_in_any_two_dialects_in_either_order_is_one() {
        let interpreted = "audit(11/23/2026 18:47:44.827:2) : auid=unset uid=root gid=root ses=unset pid=7 comm=a exe=/a \
                           sig=SIGSYS arch=x86_64 syscall=socket compat=0 ip=0x7f code=kill";
        let check = |filter: &mut RepeatFilter, form: usize| match form {
            0 => check_stamped(filter, (AT, 2), 7, KILLED),
            1 => filter.check(&parse_record(interpreted.as_bytes()).unwrap()),
            2 => check_undated(filter, "Nov 23 17:47:44", 7, KILLED),
            _ => check_undated(filter, "", 7, KILLED),
        };
        for first in 0..4 {
            for second in 0..4 {
                let mut filter = RepeatFilter::default();
                assert_eq!(check(&mut filter, first), Some(Novelty::New));
                let expected = (second < first).then_some(Novelty::DatesEarlier);
                assert_eq!(check(&mut filter, second), expected, "{first} {second}");
                for form in 0..4 {
                    assert_ne!(check(&mut filter, form), Some(Novelty::New), "{first} {second} {form}");
                }
            }
        }
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
            assert!(new <= MAX_KEYS && old <= MAX_KEYS, "{new} {old}");
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
