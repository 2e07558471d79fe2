//! Record → attribution → fold: the same way live and offline, generic over who can be asked.
//!
//! Evidence that vanishes is grabbed when the record arrives ([`Host::glance`]); what has to be
//! asked for comes later ([`Host::ask`]), and only for what a glance did not settle.

use crate::audit::text::escape;
use crate::audit::{ArchField, CallField, Id, Record, Stamp, Text};
use crate::host::Host;
use crate::incidents::{Denial, Event, Fold, Folded, Glimpse, Key, Moment, Sample, Sighting, Slot};
use crate::syscalls::{Arch, Call};
use crate::units::{Attribution, Evidence, Manager, Rung, Unit, attribution};
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
    /// It is like one whose unit is not known yet, and will be counted with that.
    Pending,
}

/// A sighting whose unit is not known yet, with the evidence so far.
#[derive(Debug, Clone)]
pub struct Open {
    sighting: Sighting,
    evidence: Vec<Evidence>,
    /// What others like it wait under.
    key: Option<Box<[u8]>>,
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
        if let Some(context) = context {
            let comm = record.comm.decode();
            let glimpse = Glimpse { at: moment(record.stamp), pid: record.pid, comm: &comm, ip: record.ip };
            match self.recent.find(record, named, context) {
                Some(Known::Counted(slot)) => {
                    let slot = *slot;
                    if self.fold.count(slot, 1, glimpse) {
                        return Sighted::Folded(Folded::Again(slot));
                    }
                }
                Some(Known::Pending(others)) => {
                    others.add(&glimpse);
                    return Sighted::Pending;
                }
                None => {}
            }
        }
        let mut evidence = self.host.glance(record);
        evidence.extend(named.map(|unit| Evidence::Named(Rung::JournalEntry, unit.clone())));
        let mut open = Open { sighting: sighting(record), evidence, key: None };
        let is_known = open.attribution().is_some() || open.is_settled();
        if is_known || !H::ANSWERS {
            let folded = self.fold.add(open.close_anyway());
            if context.is_some() {
                self.recent.remember(Known::Counted(folded.slot()));
            }
            return Sighted::Folded(folded);
        }
        open.key = context.map(|_| self.recent.remember(Known::Pending(Others::default())));
        Sighted::Open(Box::new(open))
    }

    /// Counts a sighting that was open, and those like it that came meanwhile, with or without a unit.
    pub fn settle(&mut self, open: Open) -> Folded {
        let key = open.key.clone();
        let folded = self.fold.add(open.close_anyway());
        if let Some(key) = key
            && let Some(Known::Pending(others)) = self.recent.known.insert(key, Known::Counted(folded.slot()))
            && let Some(glimpse) = others.latest()
        {
            // The slot was made just now.
            let _ = self.fold.count(folded.slot(), others.count, glimpse);
        }
        folded
    }

    /// The host, to tell it what goes on.
    pub fn host_mut(&mut self) -> &mut H {
        &mut self.host
    }

    /// The host, to ask it.
    #[must_use]
    pub fn host(&self) -> &H {
        &self.host
    }
}

/// Where lately seen records are counted. Most records are like one before but for time and process, and then nothing
/// has to be worked out, looked up or allocated anew.
#[derive(Debug, Default)]
struct Recent {
    known: HashMap<Box<[u8]>, Known>,
    /// What the latest record is known by.
    asked: Vec<u8>,
}

/// How many kinds of records are recent; then it starts over.
const MOST_RECENT: usize = 16 << 10;

impl Recent {
    /// Where a record is counted that has everything in common with an earlier one but stamp, pid and instruction
    /// pointer.
    fn find(&mut self, record: &Record<'_>, named: Option<&Unit>, context: u64) -> Option<&mut Known> {
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
        self.known.get_mut(key.as_slice())
    }

    /// Where the record that was asked about last is counted. Gives what it is known by.
    fn remember(&mut self, known: Known) -> Box<[u8]> {
        if self.known.len() >= MOST_RECENT {
            self.known.retain(|_, known| matches!(known, Known::Pending(_)));
        }
        let key: Box<[u8]> = self.asked.as_slice().into();
        self.known.insert(key.clone(), known);
        key
    }
}

/// What is known of records of a kind.
#[derive(Debug)]
enum Known {
    /// They are counted here.
    Counted(Slot),
    /// They wait until the unit of the first is known.
    Pending(Others),
}

/// Sightings that wait.
#[derive(Debug, Default)]
struct Others {
    count: u64,
    at: Option<Moment>,
    pid: u32,
    comm: Vec<u8>,
    ip: u64,
}

impl Others {
    fn add(&mut self, glimpse: &Glimpse<'_>) {
        self.count += 1;
        self.at = Some(glimpse.at.clone());
        (self.pid, self.ip) = (glimpse.pid, glimpse.ip);
        if self.comm != glimpse.comm {
            self.comm = glimpse.comm.to_vec();
        }
    }

    fn latest(&self) -> Option<Glimpse<'_>> {
        Some(Glimpse { at: self.at.clone()?, pid: self.pid, comm: &self.comm, ip: self.ip })
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
        Self {
            sighting: Sighting { key, rung: None, at, sample: Sample { pid, ..Sample::default() } },
            evidence,
            key: None,
        }
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

    /// The unit that the evidence names, if it does.
    #[must_use]
    pub fn attribution(&self) -> Option<Attribution> {
        attribution::weigh(&self.evidence)
    }

    /// The sighting, with or without a unit.
    #[must_use]
    pub fn close_anyway(self) -> Sighting {
        let found = self.attribution();
        let mut sighting = self.sighting;
        if let Some(found) = found {
            sighting.key.unit = Some(found.unit);
            sighting.rung = Some(found.rung);
        }
        sighting
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::parse;

    /// A machine on which one process lives, of a unit that is told late or never.
    struct Machine {
        context: Option<u64>,
        evidence: Vec<Evidence>,
        glances: u32,
    }

    impl Host for Machine {
        const ANSWERS: bool = true;

        fn glance(&mut self, _: &Record<'_>) -> Vec<Evidence> {
            self.glances += 1;
            self.evidence.clone()
        }

        fn context(&mut self, _: &Record<'_>) -> Option<u64> {
            self.context
        }
    }

    fn unit() -> Unit {
        Unit { manager: Manager::System, name: "a.service".parse().unwrap() }
    }

    fn sight(pipeline: &mut Pipeline<Machine>, second: u32, call: u32) -> Sighted {
        let line = format!(
            "audit({second}.000:{second}): auid=0 uid=0 gid=0 ses=1 pid={second} comm=\"c{second}\" exe=\"/a\" sig=0 \
             arch=c000003e syscall={call} compat=0 ip=0x7 code=0x50000"
        );
        // The thread's name is the one thing that differs, besides what always does.
        let line = line.replace(&format!("\"c{second}\""), "\"c\"");
        pipeline.sight(&parse::event(line.as_bytes()).unwrap(), None)
    }

    fn machine(context: Option<u64>, evidence: Vec<Evidence>) -> Pipeline<Machine> {
        Pipeline::new(Machine { context, evidence, glances: 0 }, 8)
    }

    #[test]
    fn a_process_is_looked_at_once_as_long_as_it_is_the_same() {
        let mut pipeline = machine(Some(1), vec![Evidence::Named(Rung::MainProcess, unit())]);
        for second in 1..=5 {
            assert!(matches!(sight(&mut pipeline, second, 41), Sighted::Folded(_)));
        }
        assert_eq!(pipeline.host.glances, 1);
        assert!(matches!(sight(&mut pipeline, 6, 42), Sighted::Folded(Folded::First(_))), "another call");
        pipeline.host.context = Some(2);
        assert!(matches!(sight(&mut pipeline, 7, 41), Sighted::Folded(Folded::Again(_))), "another process");
        assert_eq!(pipeline.host.glances, 3);
        let changes = pipeline.fold.take_changes();
        let socket = changes.iter().find(|change| change.incident.count == 6).unwrap();
        assert_eq!((&socket.incident.first, &socket.incident.last), (&Moment::At(1_000), &Moment::At(7_000)));
        assert_eq!(socket.incident.sample.pid, 7);
    }

    #[test]
    fn without_a_context_each_is_looked_at() {
        let mut pipeline = machine(None, vec![Evidence::Named(Rung::MainProcess, unit())]);
        for second in 1..=3 {
            assert!(matches!(sight(&mut pipeline, second, 41), Sighted::Folded(_)));
        }
        assert_eq!(pipeline.host.glances, 3);
    }

    #[test]
    fn what_is_like_an_open_one_is_counted_with_it() {
        let mut pipeline = machine(Some(1), Vec::new());
        let Sighted::Open(mut open) = sight(&mut pipeline, 1, 41) else { panic!("nothing is known") };
        for second in 2..=9 {
            assert!(matches!(sight(&mut pipeline, second, 41), Sighted::Pending));
        }
        open.learn([Evidence::Named(Rung::MainProcess, unit())]);
        let _ = pipeline.settle(*open);
        assert!(matches!(sight(&mut pipeline, 10, 41), Sighted::Folded(Folded::Again(_))));
        let incident = pipeline.fold.take_changes().remove(0).incident;
        assert_eq!((incident.key.unit, incident.count, incident.last), (Some(unit()), 10, Moment::At(10_000)));
    }
}
