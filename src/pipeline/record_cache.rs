//! A cache of records that differ only in time, pid and instruction pointer.
//!
//! Most records repeat an earlier one. The cache finds their incident without an allocation or a look at `/proc`.

use crate::audit::{ArchField, CallField, IdField, Record, UntrustedText};
use crate::incidents::{Moment, RepeatSighting, Slot};
use crate::syscalls::{Arch, Call};
use crate::units::login::Login;
use crate::units::{Manager, Unit};
use std::collections::HashMap;

/// Recent records, by the fields that repetitions share.
#[derive(Debug)]
pub(super) struct RecordCache {
    records: HashMap<Box<[u8]>, CachedRecord>,
    /// The key of the record that [`find`](Self::find) last looked up.
    key: Vec<u8>,
    /// The total length of the keys of `records`.
    key_bytes: usize,
    /// How many insertions into a full cache remain before the next sweep.
    until_sweep: usize,
    /// A direct-mapped cache of the latest counted hits. Comparing one key is faster than the map's hash, which resists
    /// attackers that choose keys.
    latest: Box<[(Vec<u8>, Option<Slot>); PLACES]>,
}

/// How many entries the cache holds, and how many bytes their keys take. At either bound a sweep drops counted entries.
const MAX_RECORDS: usize = 4 << 10;
const MAX_KEY_BYTES: usize = 1 << 20;

const PLACES: usize = 256;

/// Most calls have smaller numbers.
const SMALL_NUMBERS: u32 = 512;

impl Default for RecordCache {
    fn default() -> Self {
        let latest = Box::new(std::array::from_fn(|_| (Vec::new(), None)));
        Self { records: HashMap::new(), key: Vec::new(), key_bytes: 0, until_sweep: 0, latest }
    }
}

impl RecordCache {
    /// Finds the entry of an earlier record that differs only in stamp, pid and instruction pointer.
    pub(super) fn find(
        &mut self,
        record: &Record<'_>,
        named: Option<&Unit>,
        context: u64,
        numbers: SeparateNumbers,
    ) -> Option<CacheHit<'_>> {
        let key = &mut self.key;
        key.clear();
        key.extend_from_slice(&context.to_ne_bytes());
        // The login decides whether an executable guess is possible.
        key.push(match Login::from_record(record) {
            None => b'-',
            Some(Login { own: true }) => b'o',
            Some(Login { own: false }) => b'l',
        });
        for id in [record.uid, record.auid] {
            match id {
                IdField::Number(uid) => number(key, b'u', uid),
                IdField::Name(name) => text(key, b'U', name),
                IdField::Unset => key.push(b'-'),
            }
        }
        match record.arch {
            ArchField::Token(token) => number(key, b'a', token),
            ArchField::Name(name) => text(key, b'A', name),
        }
        match record.call {
            CallField::Number(call) if numbers == SeparateNumbers::Named && is_made_up(record.arch, call) => {
                key.push(b'?');
            }
            CallField::Number(call) => number(key, b'c', call),
            CallField::Name(name) => text(key, b'C', name),
        }
        match record.action.code() {
            Some(code) => number(key, b'd', code),
            None => key.push(b'-'),
        }
        for name in [Some(record.comm), record.exe] {
            match name {
                Some(UntrustedText::Plain(bytes)) => text(key, b'p', bytes),
                Some(UntrustedText::Hex(digits)) => text(key, b'h', digits),
                None => key.push(b'-'),
            }
        }
        text(key, b's', record.subject.unwrap_or_default());
        if let Some(unit) = named {
            text(key, b'n', unit.name.as_str().as_bytes());
            if let Manager::User(uid) = unit.manager {
                number(key, b'm', uid);
            }
        }
        let place = place_of(key);
        let (latest, slot) = &mut self.latest[place];
        if let Some(slot) = slot.filter(|_| latest == key) {
            return Some(CacheHit::Counted(slot));
        }
        match self.records.get_mut(key.as_slice())? {
            CachedRecord::Counted(counted) => {
                latest.clone_from(key);
                *slot = Some(*counted);
                Some(CacheHit::Counted(*counted))
            }
            CachedRecord::Waiting(repetitions) => Some(CacheHit::Waiting(repetitions)),
        }
    }

    fn forget_latest(&mut self, key: &[u8]) {
        self.latest[place_of(key)].1 = None;
    }

    /// Sets the slot of a waiting record and returns its repetitions. Later repetitions hit the slot if `is_lasting`.
    pub(super) fn resolve(&mut self, key: Box<[u8]>, slot: Slot, is_lasting: bool) -> Option<Repetitions> {
        self.forget_latest(&key);
        let length = key.len();
        let before = if is_lasting {
            self.records.insert(key, CachedRecord::Counted(slot))
        } else {
            let removed = self.records.remove(&key);
            self.key_bytes -= removed.as_ref().map_or(0, |_| length);
            removed
        };
        match before {
            Some(CachedRecord::Waiting(repetitions)) => Some(repetitions),
            _ => None,
        }
    }

    /// Drops the counted records and keeps the waiting ones.
    pub(super) fn forget_counted(&mut self) {
        self.records.retain(|_, record| matches!(record, CachedRecord::Waiting(_)));
        self.key_bytes = self.records.keys().map(|key| key.len()).sum();
        for (_, slot) in &mut *self.latest {
            *slot = None;
        }
    }

    /// Stores the record that [`find`](Self::find) last looked up, unless waiting records fill the cache. Returns its
    /// key.
    pub(super) fn remember(&mut self, record: CachedRecord) -> Box<[u8]> {
        let key: Box<[u8]> = self.key.as_slice().into();
        self.forget_latest(&key);
        let is_full = |cache: &Self| cache.records.len() >= MAX_RECORDS || cache.key_bytes >= MAX_KEY_BYTES;
        self.until_sweep = self.until_sweep.saturating_sub(1);
        if is_full(self) && self.until_sweep == 0 {
            self.until_sweep = MAX_RECORDS / 4;
            self.forget_counted();
        }
        if is_full(self) && !self.records.contains_key(&key) {
            return key;
        }
        if self.records.insert(key.clone(), record).is_none() {
            self.key_bytes += key.len();
        }
        key
    }
}

/// Returns the only place in `latest` that can hold a key.
fn place_of(key: &[u8]) -> usize {
    // Successive records mostly differ in the process, the call or the end of the path.
    let mix = |sum: usize, byte: &u8| sum.wrapping_mul(31).wrapping_add((*byte).into());
    let (front, back) = (key.len().min(24), key.len().saturating_sub(12));
    key[back..].iter().fold(key[..front].iter().fold(key.len(), mix), mix) % PLACES
}

/// Whether a call has no name. It is faster to keep the few small numbers without a name separate.
fn is_made_up(arch: ArchField<'_>, call: u32) -> bool {
    let ArchField::Token(token) = arch else { return false };
    call >= SMALL_NUMBERS && Call::numbered(Arch(token), call).name().is_none()
}

/// The call numbers that the records of one entry can differ in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SeparateNumbers {
    /// Each number has its own entry.
    All,
    /// Each number with a name has its own entry, and all others share one.
    Named,
}

/// The entry that [`RecordCache::find`] returns.
pub(super) enum CacheHit<'a> {
    /// The slot of the record's incident.
    Counted(Slot),
    /// The record waits for its unit. These records repeated it since.
    Waiting(&'a mut Repetitions),
}

/// A cached record.
#[derive(Debug)]
pub(super) enum CachedRecord {
    /// The slot of the record's incident.
    Counted(Slot),
    /// The record waits for its unit. These records repeated it since.
    Waiting(Repetitions),
}

/// The records that repeat a waiting one: their number, and the latest.
#[derive(Debug, Default)]
pub(super) struct Repetitions {
    /// The number of records.
    pub(super) count: u64,
    at: Option<Moment>,
    pid: u32,
    comm: Vec<u8>,
    ip: u64,
}

impl Repetitions {
    pub(super) fn add(&mut self, glimpse: &RepeatSighting<'_>) {
        self.count += 1;
        self.at = Some(glimpse.at.clone());
        (self.pid, self.ip) = (glimpse.pid, glimpse.ip);
        if self.comm != glimpse.comm {
            self.comm = glimpse.comm.to_vec();
        }
    }

    pub(super) fn latest(&self) -> Option<RepeatSighting<'_>> {
        Some(RepeatSighting { at: self.at.clone()?, pid: self.pid, comm: &self.comm, ip: self.ip })
    }
}

/// Appends a number behind a tag.
fn number(key: &mut Vec<u8>, tag: u8, value: u32) {
    key.push(tag);
    key.extend_from_slice(&value.to_ne_bytes());
}

/// Appends text behind a tag and its length, so that no text can look like two fields.
fn text(key: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    key.push(tag);
    key.extend_from_slice(&bytes.len().to_ne_bytes());
    key.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::parse_record;
    use crate::incidents::{Denial, Fold, IncidentEvent, IncidentKey, Sample, Sighting, SightingSource};
    use crate::pipeline::unattributed::call_of_record;

    /// Counts the record of a line and returns the slot of its incident.
    fn counted(fold: &mut Fold, line: &str) -> Slot {
        let record = parse_record(line.as_bytes()).unwrap();
        let event = IncidentEvent::Denial(Denial { call: call_of_record(&record), action: record.action });
        let key = IncidentKey {
            unit: None,
            event,
            exe: record.exe.unwrap().decode().into_owned(),
            source: SightingSource::Audit,
        };
        fold.add(Sighting { key, rung: None, at: Moment::Unknown, sample: Sample::default() }).slot()
    }

    fn line(call: u32, exe: u32) -> String {
        format!(
            "audit(1.000:7): auid=0 uid=0 gid=0 ses=1 pid=7 comm=\"c\" exe=\"/{exe}\" sig=0 arch=c000003e syscall={call} \
             compat=0 ip=0x7 code=0x50000"
        )
    }

    fn found(cache: &mut RecordCache, line: &str) -> Option<Slot> {
        match cache.find(&parse_record(line.as_bytes()).unwrap(), None, 1, SeparateNumbers::All)? {
            CacheHit::Counted(slot) => Some(slot),
            CacheHit::Waiting(_) => None,
        }
    }

    #[test]
    fn records_sharing_a_place_are_distinguished() {
        let (mut cache, mut fold) = (RecordCache::default(), Fold::new(10_000));
        let lines: Vec<String> = (0..40).flat_map(|call| (0..40).map(move |exe| line(call, exe))).collect();
        assert!(lines.len() > 4 * PLACES);
        let slots: Vec<Slot> = lines.iter().map(|line| counted(&mut fold, line)).collect();
        for (line, slot) in lines.iter().zip(&slots) {
            assert_eq!(found(&mut cache, line), None);
            cache.remember(CachedRecord::Counted(*slot));
        }
        for _ in 0..2 {
            for (line, slot) in lines.iter().zip(&slots) {
                assert_eq!((found(&mut cache, line), found(&mut cache, line)), (Some(*slot), Some(*slot)));
            }
        }
    }

    #[test]
    fn record_remembered_twice_has_latest_slot() {
        let (mut cache, mut fold) = (RecordCache::default(), Fold::new(10));
        let (first, second) = (counted(&mut fold, &line(1, 1)), counted(&mut fold, &line(2, 2)));
        let first_line = line(1, 1);
        assert_eq!(found(&mut cache, &first_line), None);
        cache.remember(CachedRecord::Counted(first));
        assert_eq!(found(&mut cache, &first_line), Some(first));
        let key = cache.remember(CachedRecord::Waiting(Repetitions::default()));
        assert_eq!(found(&mut cache, &first_line), None);
        assert!(cache.resolve(key, second, true).is_some());
        assert_eq!(found(&mut cache, &first_line), Some(second));
    }
}
