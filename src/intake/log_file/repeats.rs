//! Records that a log holds more than once.
//!
//! Without auditd the journal has each record twice: from the kernel's log, with its stamp, and from the audit socket,
//! whose stamp `journalctl` prints as a date to the second (`journald-audit.c` takes it as the entry's time). And who
//! joins `audit.log`, `dmesg` and an export has them as often as that.
//!
//! - Records with a stamp are the same if time, serial number and pid are. The latest [`MOST`] in the order of their time
//!   are known, and half as many at least of those that came out of that order: what is further apart is counted twice.
//! - One without is the same as one with a stamp if process, thread, call, place and second are; as many are left as there
//!   are of the more frequent kind. Both kinds are known for half of [`MOST`] records at least. Of which day and hour the
//!   second was is not asked: a date is of a time zone that only its quarters of an hour are known of.
//!
//! What `ausearch -i` wrote is not compared: it has names in place of numbers.

use crate::audit::{Action, CallField, Record, Stamp};
use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// How many records are remembered: some 4 MB of `audit.log`, and less than a processor's cache.
const MOST: usize = 16 << 10;
/// Records of several processors can be out of order by so many.
const NEAR: usize = 64;
/// Time zones differ by so many seconds, or a multiple.
const QUARTER: i64 = 15 * 60;

/// What a record is to those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Judged {
    New,
    /// It was seen.
    Repeat,
    /// It was seen, without the precise time that this one has.
    Dates,
}

/// The records lately seen.
#[derive(Default)]
pub(super) struct Repeats {
    /// In the order of their stamps.
    ordered: VecDeque<Stamped>,
    strays: Lately<Key, ()>,
    /// Kept from the first record without a stamp on.
    pairs: Option<Lately<Bare, Pair>>,
}

/// Time, serial number and process: none is given twice on one machine.
type Key = (i64, u64, u32);
/// How a record looks without its stamp, and its second.
type Bare = (Looks, u16);

#[derive(Clone, Copy)]
struct Stamped {
    at: i64,
    serial: u64,
    looks: Looks,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Looks {
    pid: u32,
    call: u32,
    ip: u64,
    /// The kernel gives 15 bytes.
    comm: [u8; 16],
}

/// How many records of the same looks came with a stamp, and how many without.
#[derive(Default)]
struct Pair {
    stamped: u32,
    bare: u32,
}

impl Repeats {
    pub(super) fn judge(&mut self, record: &Record<'_>) -> Judged {
        let Some(looks) = Looks::of(record) else { return Judged::New };
        match record.stamp {
            Stamp::Millis(at) if record.serial != 0 => self.stamped(Stamped { at, serial: record.serial, looks }),
            Stamp::Printed(date) if record.serial == 0 => match second_of(date) {
                Some(second) => self.bare((looks, second), record.action == Action::KillProcess),
                None => Judged::New,
            },
            _ => Judged::New,
        }
    }

    fn stamped(&mut self, record: Stamped) -> Judged {
        if self.is_known(record) {
            return Judged::Repeat;
        }
        let Some(pairs) = &mut self.pairs else { return Judged::New };
        let pair = pairs.entry(record.bare());
        pair.stamped = pair.stamped.saturating_add(1);
        if pair.stamped <= pair.bare { Judged::Dates } else { Judged::New }
    }

    /// Whether a stamp was seen; it is from now on.
    fn is_known(&mut self, record: Stamped) -> bool {
        let key = record.key();
        if self.ordered.back().is_none_or(|last| last.key() < key) {
            if self.ordered.len() == MOST {
                self.ordered.pop_front();
            }
            self.ordered.push_back(record);
            return false;
        }
        let Err(at) = self.ordered.binary_search_by_key(&key, Stamped::key) else { return true };
        if self.ordered.len() - at > NEAR {
            return self.strays.knew(key);
        }
        if self.ordered.len() == MOST {
            self.ordered.pop_front();
            self.ordered.insert(at - 1, record);
        } else {
            self.ordered.insert(at, record);
        }
        false
    }

    fn bare(&mut self, key: Bare, dies: bool) -> Judged {
        let ordered = &self.ordered;
        let pairs = self.pairs.get_or_insert_with(|| {
            let mut pairs: Lately<Bare, Pair> = Lately::default();
            for record in ordered {
                pairs.entry(record.bare()).stamped += 1;
            }
            pairs
        });
        let pair = pairs.entry(key);
        // Nobody dies twice.
        if dies && pair.bare > 0 {
            return Judged::Repeat;
        }
        pair.bare = pair.bare.saturating_add(1);
        if pair.bare <= pair.stamped { Judged::Repeat } else { Judged::New }
    }
}

impl Stamped {
    fn key(&self) -> Key {
        (self.at, self.serial, self.looks.pid)
    }

    fn bare(&self) -> Bare {
        (self.looks, within_quarter(self.at.div_euclid(1000)))
    }
}

impl Looks {
    fn of(record: &Record<'_>) -> Option<Self> {
        let CallField::Number(call) = record.call else { return None };
        let mut comm = [0; 16];
        for (place, byte) in comm.iter_mut().zip(&*record.comm.decode()) {
            *place = *byte;
        }
        Some(Self { pid: record.pid, call, ip: record.ip, comm })
    }
}

/// The second of a date as `journalctl` prints it, within a quarter of an hour: `Nov 23 17:12:17`,
/// `2026-11-23T17:12:17+0000`, `1795456064.827000`.
fn second_of(date: &[u8]) -> Option<u16> {
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
    u16::try_from(seconds.rem_euclid(QUARTER)).unwrap_or_default()
}

/// What was lately met: half of [`MOST`] at least, all of it at most.
struct Lately<K, V> {
    new: HashMap<K, V>,
    old: HashMap<K, V>,
}

impl<K, V> Default for Lately<K, V> {
    fn default() -> Self {
        Self { new: HashMap::new(), old: HashMap::new() }
    }
}

impl<K: Hash + Eq + Copy, V: Default> Lately<K, V> {
    fn entry(&mut self, key: K) -> &mut V {
        let known = if self.new.contains_key(&key) { None } else { self.old.remove(&key) };
        if self.new.len() >= MOST / 2 && !self.new.contains_key(&key) {
            self.old = std::mem::take(&mut self.new);
        }
        self.new.entry(key).or_insert_with(|| known.unwrap_or_default())
    }

    /// Whether it was met; it is from now on.
    fn knew(&mut self, key: K) -> bool {
        let knew = self.new.contains_key(&key) || self.old.contains_key(&key);
        self.entry(key);
        knew
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

    fn stamped(repeats: &mut Repeats, at: (i64, u64), pid: u32, code: &str) -> Judged {
        let event = format!("audit({}.{:03}:{}): {}", at.0 / 1000, at.0 % 1000, at.1, fields(pid, code));
        repeats.judge(&parse_record(event.as_bytes()).unwrap())
    }

    fn bare(repeats: &mut Repeats, date: &str, pid: u32, code: &str) -> Judged {
        let fields = fields(pid, code);
        repeats.judge(&parse_fields(fields.as_bytes(), Stamp::Printed(date.as_bytes()), 0).unwrap())
    }

    /// 2026-11-23 17:47:44 UTC.
    const AT: i64 = 1_795_456_064_827;

    #[test]
    fn a_stamp_is_given_once() {
        let mut repeats = Repeats::default();
        let mut judge = |at, serial, pid| stamped(&mut repeats, (at, serial), pid, KILLED);
        assert_eq!(judge(AT, 2, 7), Judged::New);
        assert_eq!(judge(AT, 2, 7), Judged::Repeat);
        assert_eq!(judge(AT, 3, 7), Judged::New);
        assert_eq!(judge(AT, 2, 8), Judged::New, "another machine's");
        assert_eq!(judge(AT - 1, 2, 7), Judged::New, "another boot's");
        assert_eq!(judge(AT, 2, 7), Judged::Repeat);
    }

    #[test]
    fn both_forms_of_a_record_are_one_whichever_comes_first() {
        for date in ["Nov 23 17:47:44", "Nov 23 18:47:44.827", "2026-11-23T23:17:44+0530", "1795456064.827000"] {
            let mut repeats = Repeats::default();
            assert_eq!(stamped(&mut repeats, (AT, 2), 7, LOGGED), Judged::New);
            assert_eq!(bare(&mut repeats, date, 7, LOGGED), Judged::Repeat, "{date}");
            let mut repeats = Repeats::default();
            assert_eq!(bare(&mut repeats, date, 7, LOGGED), Judged::New);
            assert_eq!(stamped(&mut repeats, (AT, 2), 7, LOGGED), Judged::Dates, "{date}");
            assert_eq!(stamped(&mut repeats, (AT + 1, 3), 7, LOGGED), Judged::New, "one more");
        }
    }

    #[test]
    fn what_differs_is_another() {
        let mut repeats = Repeats::default();
        assert_eq!(stamped(&mut repeats, (AT, 2), 7, LOGGED), Judged::New);
        assert_eq!(bare(&mut repeats, "Nov 23 17:47:44", 8, LOGGED), Judged::New);
        assert_eq!(bare(&mut repeats, "Nov 23 17:47:45", 7, LOGGED), Judged::New);
        assert_eq!(bare(&mut repeats, "yesterday", 7, LOGGED), Judged::New);
    }

    #[test]
    fn as_many_are_left_as_of_the_more_frequent_form() {
        let mut repeats = Repeats::default();
        let new = (0..5).filter(|_| bare(&mut repeats, "Nov 23 17:47:44", 7, LOGGED) == Judged::New).count();
        let more = (0..7).filter(|n| stamped(&mut repeats, (AT, 2 + n), 7, LOGGED) == Judged::New).count();
        assert_eq!((new, more), (5, 2));
        let killed = (0..5).filter(|_| bare(&mut repeats, "Nov 23 17:47:44", 9, KILLED) == Judged::New).count();
        assert_eq!(killed, 1, "nobody dies twice");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut repeats = Repeats::default();
        let all = 3 * MOST as u64;
        for serial in 1..all {
            assert_eq!(stamped(&mut repeats, (AT, serial), 7, LOGGED), Judged::New);
        }
        assert_eq!(stamped(&mut repeats, (AT, all - MOST as u64), 7, LOGGED), Judged::Repeat);
        for pid in 0..u32::try_from(all).unwrap() {
            let _ = bare(&mut repeats, "Nov 23 17:47:44", pid, LOGGED);
            // Long before.
            let _ = stamped(&mut repeats, (5000, u64::from(pid) + 1), pid, LOGGED);
        }
        let pairs = repeats.pairs.as_ref().unwrap();
        for (new, old) in [(pairs.new.len(), pairs.old.len()), (repeats.strays.new.len(), repeats.strays.old.len())] {
            assert!(new <= MOST / 2 && old <= MOST / 2, "{new} {old}");
        }
        assert!(repeats.ordered.len() <= MOST && repeats.ordered.capacity() <= MOST);
    }

    proptest! {
        #[test]
        fn of_few_records_none_is_missed(records in prop::collection::vec((0_i64..20, 1_u64..9), 0..300)) {
            let (mut repeats, mut seen) = (Repeats::default(), HashSet::new());
            for (at, serial) in records {
                let judged = stamped(&mut repeats, (AT + at, serial), 7, LOGGED);
                prop_assert_eq!(judged == Judged::New, seen.insert((at, serial)));
            }
        }
    }
}
