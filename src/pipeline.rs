//! Record → attribution → fold: the same way live and offline, generic over who can be asked.
//!
//! Evidence that vanishes is grabbed when the record arrives ([`Host::glance`]); what has to be
//! asked for comes later ([`Host::ask`]), and only for what a glance did not settle.

use crate::audit::{ArchField, CallField, Id, Record, Stamp};
use crate::host::Host;
use crate::incidents::{Denial, Event, Fold, Folded, Key, Moment, Sample, Sighting};
use crate::syscalls::{Arch, Call};
use crate::units::{Evidence, Rung, Unit, attribution};
use std::borrow::Cow;

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
}

impl<H: Host> Pipeline<H> {
    /// With a host to ask, and room for so many incidents.
    #[must_use]
    pub fn new(host: H, most_incidents: usize) -> Self {
        Self { host, fold: Fold::new(most_incidents) }
    }

    /// Takes one record, and the unit that its source names for the process, if it does.
    pub fn sight(&mut self, record: &Record<'_>, named: Option<&Unit>) -> Sighted {
        let mut evidence = self.host.glance(record);
        evidence.extend(named.map(|unit| Evidence::Named(Rung::JournalEntry, unit.clone())));
        let open = Open { sighting: sighting(record), evidence };
        match open.close() {
            Ok(sighting) => Sighted::Folded(self.fold.add(sighting)),
            Err(open) if open.is_settled() => Sighted::Folded(self.fold.add(open.sighting)),
            Err(open) => Sighted::Open(Box::new(open)),
        }
    }

    /// The host, to ask it about what is open.
    #[must_use]
    pub fn host(&self) -> &H {
        &self.host
    }
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
        at: match record.stamp {
            Stamp::Millis(millis) => Moment::At(millis),
            Stamp::Said(text) => Moment::Said(crate::audit::text::escape(text).into()),
            Stamp::Unknown => Moment::Unknown,
        },
        sample: Sample {
            pid: record.pid,
            comm: bounded(record.comm.decode()),
            uid: match record.uid {
                Id::Number(uid) => uid.to_string().into(),
                Id::Name(name) => crate::audit::text::escape(name).into(),
                Id::Unset => "".into(),
            },
            ip: record.ip,
            subject: record.subject.map_or(Vec::new(), |label| bounded(label.into())),
        },
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
