//! Record → attribution → fold: the same way live and offline, generic over who can be asked.
//!
//! Evidence that vanishes is grabbed when the record arrives ([`Host::glance`]); what has to be
//! asked for comes later ([`Host::ask`]), and only for what a glance did not settle.

use crate::audit::text::escape;
use crate::audit::{ArchField, CallField, Id, Record, Stamp, Text};
use crate::host::Host;
use crate::incidents::{Denial, Event, Fold, Folded, Glimpse, Key, Moment, Sample, Sighting, Slot};
use crate::syscalls::{Arch, Call};
use crate::units::{Evidence, Manager, Rung, Unit, attribution};
use std::borrow::Cow;
use std::collections::HashMap;

/// The longest path the kernel writes into `exe=` (`PATH_MAX`), and room for any LSM label.
const LONGEST_TEXT: usize = 4096;

/// What became of a record.
#[derive(Debug)]
#[must_use]
pub enum Sighted {
    /// It is counted.
    Folded(Folded),
    /// Its unit is not known yet.
    Open(Box<Open>),
}

/// A sighting whose unit is not known yet, with the evidence so far.
#[derive(Debug, Clone)]
pub struct Open {
    sighting: Sighting,
    evidence: Vec<Evidence>,
}

/// Where records become incidents.
#[derive(Debug)]
pub struct Pipeline<H> {
    host: H,
    /// The incidents so far.
    pub fold: Fold,
    recent: Recent,
}

impl<H: Host> Pipeline<H> {
    /// With a host to ask, and room for so many incidents.
    #[must_use]
    pub fn new(host: H, most_incidents: usize) -> Self {
        Self { host, fold: Fold::new(most_incidents), recent: Recent::default() }
    }

    /// Takes one record, and the unit that its source names for the process, if it does.
    pub fn sight(&mut self, record: &Record<'_>, named: Option<&Unit>) -> Sighted {
        let context = self.host.context(record);
        if let Some(context) = context
            && let Some(slot) = self.recent.slot(record, named, context)
        {
            let (comm, at) = (record.comm.decode(), moment(record.stamp));
            if self.fold.count(slot, Glimpse { at, pid: record.pid, comm: &comm, ip: record.ip }) {
                return Sighted::Folded(Folded::Again(slot));
            }
        }
        let mut evidence = self.host.glance(record);
        evidence.extend(named.map(|unit| Evidence::Named(Rung::JournalEntry, unit.clone())));
        let open = Open { sighting: sighting(record), evidence };
        let sighting = match open.close() {
            Ok(sighting) => sighting,
            Err(open) if H::ANSWERS && !open.is_settled() => return Sighted::Open(Box::new(open)),
            Err(open) => open.sighting,
        };
        let folded = self.fold.add(sighting);
        if context.is_some() {
            self.recent.remember(folded.slot());
        }
        Sighted::Folded(folded)
    }

    /// The host, to ask it about what is open.
    #[must_use]
    pub fn host(&self) -> &H {
        &self.host
    }
}

/// Where lately seen records are counted. Most records are like one before but for time and process, and then nothing
/// has to be worked out, looked up or allocated anew.
#[derive(Debug, Default)]
struct Recent {
    slots: HashMap<Box<[u8]>, Slot>,
    /// What the latest record is known by.
    asked: Vec<u8>,
}

/// How many kinds of records are recent; then it starts over.
const MOST_RECENT: usize = 16 << 10;

impl Recent {
    /// The slot of a record that has everything in common with an earlier one but stamp, pid and instruction pointer.
    fn slot(&mut self, record: &Record<'_>, named: Option<&Unit>, context: u64) -> Option<Slot> {
        let key = &mut self.asked;
        key.clear();
        key.extend_from_slice(&context.to_ne_bytes());
        match record.uid {
            Id::Number(uid) => number(key, b'u', uid),
            Id::Name(name) => text(key, b'U', name),
            Id::Unset => key.push(b'-'),
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
                Some(Text::Plain(bytes)) => text(key, b'p', bytes),
                Some(Text::Hex(digits)) => text(key, b'h', digits),
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
        self.slots.get(key.as_slice()).copied()
    }

    /// Where the record that was asked about last is counted.
    fn remember(&mut self, slot: Slot) {
        if self.slots.len() >= MOST_RECENT {
            self.slots.clear();
        }
        self.slots.insert(self.asked.as_slice().into(), slot);
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

impl Open {
    /// What is known of a process that died without a record.
    #[must_use]
    pub fn silent_death(pid: u32, at: Moment, evidence: Vec<Evidence>) -> Self {
        let key = Key { unit: None, event: Event::SilentDeath, exe: Vec::new() };
        Self { sighting: Sighting { key, rung: None, at, sample: Sample { pid, ..Sample::default() } }, evidence }
    }

    /// What is open.
    #[must_use]
    pub fn sighting(&self) -> &Sighting {
        &self.sighting
    }

    /// Adds what was learned meanwhile.
    pub fn learn(&mut self, evidence: impl IntoIterator<Item = Evidence>) {
        self.evidence.extend(evidence);
    }

    /// Whether it is known for certain that no unit can be named.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        attribution::is_settled(&self.evidence)
    }

    /// The sighting with its unit, if the evidence names one.
    ///
    /// # Errors
    /// Gives itself back where it does not.
    #[expect(clippy::result_large_err, reason = "the error is the value itself, moved on by every caller")]
    pub fn close(self) -> Result<Sighting, Self> {
        match attribution::weigh(&self.evidence) {
            Some(found) => {
                let mut sighting = self.sighting;
                sighting.key.unit = Some(found.unit);
                sighting.rung = Some(found.rung);
                Ok(sighting)
            }
            None => Err(self),
        }
    }

    /// The sighting, with or without a unit: nothing more can be learned.
    #[must_use]
    pub fn close_anyway(self) -> Sighting {
        self.close().unwrap_or_else(|open| open.sighting)
    }
}

/// A record as a sighting whose unit is not known.
fn sighting(record: &Record<'_>) -> Sighting {
    let exe = record.exe.map_or(Vec::new(), |exe| bounded(exe.decode()));
    let event = Event::Denial(Denial { call: call(record), action: record.action });
    Sighting {
        key: Key { unit: None, event, exe },
        rung: None,
        at: moment(record.stamp),
        sample: Sample {
            pid: record.pid,
            comm: bounded(record.comm.decode()),
            uid: match record.uid {
                Id::Number(uid) => uid.to_string().into(),
                Id::Name(name) => escape(name).into(),
                Id::Unset => "".into(),
            },
            ip: record.ip,
            subject: record.subject.map_or(Vec::new(), |label| bounded(label.into())),
        },
    }
}

fn moment(stamp: Stamp<'_>) -> Moment {
    match stamp {
        Stamp::Millis(millis) => Moment::At(millis),
        Stamp::Said(text) => Moment::Said(escape(text).into()),
        Stamp::Unknown => Moment::Unknown,
    }
}

/// The call of a record, by number wherever its architecture has one for the name.
#[must_use]
pub fn call(record: &Record<'_>) -> Call {
    match (record.arch, record.call) {
        (ArchField::Token(token), CallField::Number(number)) => Call::numbered(Arch(token), number),
        (ArchField::Token(token), CallField::Name(name)) => Call::named(Arch(token), &String::from_utf8_lossy(name)),
        (ArchField::Name(arch), CallField::Number(number)) => {
            Call::numbered(Arch::from_name(arch).unwrap_or(Arch(0)), number)
        }
        (ArchField::Name(arch), CallField::Name(name)) => Call::interpreted(arch, name),
    }
}

fn bounded(text: Cow<'_, [u8]>) -> Vec<u8> {
    let mut text = text.into_owned();
    text.truncate(LONGEST_TEXT);
    text
}
