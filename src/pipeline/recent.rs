//! Records that are like one before but for time and process: most are, and then nothing has to be worked out, looked
//! up or allocated anew.

use crate::audit::{ArchField, CallField, IdField, Record, UntrustedText};
use crate::incidents::{Moment, RepeatSighting, Slot};
use crate::units::process_ancestry::Login;
use crate::units::{Manager, Unit};
use std::collections::HashMap;

/// Where lately seen records are counted.
#[derive(Debug)]
pub(super) struct Recent {
    known: HashMap<Box<[u8]>, Known>,
    /// What the latest record is known by.
    asked: Vec<u8>,
    /// How long the keys of `known` are together.
    text: usize,
    /// How many more are to come before those that are counted make room again.
    until_sweep: usize,
    /// The latest that were found counted, each in a place of its own, if no other took that since. Comparing a key
    /// is quicker than hashing it, which has to withstand those who choose what is hashed.
    latest: Box<[(Vec<u8>, Option<Slot>); PLACES]>,
}

/// How many kinds of records are recent, and how many bytes their keys may take; then it starts over.
const MOST_RECENT: usize = 4 << 10;
const MOST_TEXT: usize = 1 << 20;

const PLACES: usize = 256;

impl Default for Recent {
    fn default() -> Self {
        let latest = Box::new(std::array::from_fn(|_| (Vec::new(), None)));
        Self { known: HashMap::new(), asked: Vec::new(), text: 0, until_sweep: 0, latest }
    }
}

impl Recent {
    /// Where a record is counted that has everything in common with an earlier one but stamp, pid and instruction
    /// pointer.
    pub(super) fn find(&mut self, record: &Record<'_>, named: Option<&Unit>, context: u64) -> Option<Found<'_>> {
        let key = &mut self.asked;
        key.clear();
        key.extend_from_slice(&context.to_ne_bytes());
        // What a guess may not contradict.
        key.push(match Login::of(record) {
            None => b'-',
            Some(Login { own: true }) => b'o',
            Some(Login { own: false }) => b'l',
        });
        match record.uid {
            IdField::Number(uid) => number(key, b'u', uid),
            IdField::Name(name) => text(key, b'U', name),
            IdField::Unset => key.push(b'-'),
        }
        match record.arch {
            ArchField::Token(token) => number(key, b'a', token),
            ArchField::Name(name) => text(key, b'A', name),
        }
        match record.call {
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
            return Some(Found::Counted(slot));
        }
        match self.known.get_mut(key.as_slice())? {
            Known::Counted(counted) => {
                latest.clone_from(key);
                *slot = Some(*counted);
                Some(Found::Counted(*counted))
            }
            Known::Pending(others) => Some(Found::Pending(others)),
        }
    }

    fn forget_latest(&mut self, key: &[u8]) {
        self.latest[place_of(key)].1 = None;
    }

    /// Says where records of a kind are counted from now on, if that `lasts`, and gives what waited until it was known.
    pub(super) fn settle(&mut self, key: Box<[u8]>, slot: Slot, lasts: bool) -> Option<Others> {
        self.forget_latest(&key);
        let length = key.len();
        let known = if lasts { self.known.insert(key, Known::Counted(slot)) } else { self.known.remove(&key) };
        if !lasts && known.is_some() {
            self.text -= length;
        }
        match known {
            Some(Known::Pending(others)) => Some(others),
            _ => None,
        }
    }

    /// Forgets where records are counted; those that wait still do.
    pub(super) fn forget_counted(&mut self) {
        self.known.retain(|_, known| matches!(known, Known::Pending(_)));
        self.text = self.known.keys().map(|key| key.len()).sum();
        for (_, slot) in &mut *self.latest {
            *slot = None;
        }
    }

    /// Where the record that was asked about last is counted. Gives what it is known by.
    pub(super) fn remember(&mut self, known: Known) -> Box<[u8]> {
        let key: Box<[u8]> = self.asked.as_slice().into();
        self.forget_latest(&key);
        let is_full = |recent: &Self| recent.known.len() >= MOST_RECENT || recent.text >= MOST_TEXT;
        self.until_sweep = self.until_sweep.saturating_sub(1);
        if is_full(self) && self.until_sweep == 0 {
            self.until_sweep = MOST_RECENT / 4;
            self.forget_counted();
        }
        if is_full(self) && !self.known.contains_key(&key) {
            // So many wait that there is no room: this one is looked at each time.
            return key;
        }
        if self.known.insert(key.clone(), known).is_none() {
            self.text += key.len();
        }
        key
    }
}

/// Where a key is looked for among the latest.
fn place_of(key: &[u8]) -> usize {
    // What tells most of those that come one after the other apart: the process, the call, the end of the path.
    let mix = |sum: usize, byte: &u8| sum.wrapping_mul(31).wrapping_add((*byte).into());
    let (front, back) = (key.len().min(24), key.len().saturating_sub(12));
    key[back..].iter().fold(key[..front].iter().fold(key.len(), mix), mix) % PLACES
}

/// What is known of a record.
pub(super) enum Found<'a> {
    /// It is counted here.
    Counted(Slot),
    /// It waits until the unit of the first is known.
    Pending(&'a mut Others),
}

/// What is known of records of a kind.
#[derive(Debug)]
pub(super) enum Known {
    /// They are counted here.
    Counted(Slot),
    /// They wait until the unit of the first is known.
    Pending(Others),
}

/// Sightings that wait.
#[derive(Debug, Default)]
pub(super) struct Others {
    /// How many.
    pub(super) count: u64,
    at: Option<Moment>,
    pid: u32,
    comm: Vec<u8>,
    ip: u64,
}

impl Others {
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

/// A number, behind what it is.
fn number(key: &mut Vec<u8>, tag: u8, value: u32) {
    key.push(tag);
    key.extend_from_slice(&value.to_ne_bytes());
}

/// Text of any bytes, behind what it is and its length, so that none can pose as two.
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
    use crate::pipeline;

    /// A record of a call, and where its incident is counted.
    fn counted(fold: &mut Fold, line: &str) -> Slot {
        let record = parse_record(line.as_bytes()).unwrap();
        let event = IncidentEvent::Denial(Denial { call: pipeline::call(&record), action: record.action });
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

    fn found(recent: &mut Recent, line: &str) -> Option<Slot> {
        match recent.find(&parse_record(line.as_bytes()).unwrap(), None, 1)? {
            Found::Counted(slot) => Some(slot),
            Found::Pending(_) => None,
        }
    }

    #[test]
    fn none_is_taken_for_another_that_has_the_same_place() {
        let (mut recent, mut fold) = (Recent::default(), Fold::new(10_000));
        let lines: Vec<String> = (0..40).flat_map(|call| (0..40).map(move |exe| line(call, exe))).collect();
        assert!(lines.len() > 4 * PLACES);
        let slots: Vec<Slot> = lines.iter().map(|line| counted(&mut fold, line)).collect();
        for (line, slot) in lines.iter().zip(&slots) {
            assert_eq!(found(&mut recent, line), None);
            recent.remember(Known::Counted(*slot));
        }
        for _ in 0..2 {
            for (line, slot) in lines.iter().zip(&slots) {
                assert_eq!((found(&mut recent, line), found(&mut recent, line)), (Some(*slot), Some(*slot)));
            }
        }
    }

    #[test]
    fn the_latest_word_on_a_record_counts() {
        let (mut recent, mut fold) = (Recent::default(), Fold::new(10));
        let (first, second) = (counted(&mut fold, &line(1, 1)), counted(&mut fold, &line(2, 2)));
        let asked = line(1, 1);
        assert_eq!(found(&mut recent, &asked), None);
        recent.remember(Known::Counted(first));
        assert_eq!(found(&mut recent, &asked), Some(first));
        let key = recent.remember(Known::Pending(Others::default()));
        assert_eq!(found(&mut recent, &asked), None);
        assert!(recent.settle(key, second, true).is_some());
        assert_eq!(found(&mut recent, &asked), Some(second));
    }
}
