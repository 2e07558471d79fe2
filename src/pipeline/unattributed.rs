//! A sighting whose unit is not known yet, with the evidence so far.

use crate::audit::text::escape;
use crate::audit::{ArchField, CallField, IdField, Record, Stamp};
use crate::host::live_host::DeathEvidence;
use crate::incidents::{Denial, IncidentEvent, IncidentKey, Moment, Owner, Sample, Sighting, SightingSource};
use crate::syscalls::{Arch, Call};
use crate::units::login::Login;
use crate::units::{Attribution, Confidence, Evidence, Rung, attribution};
use std::borrow::Cow;

/// The longest path the kernel writes into `exe=` (`PATH_MAX`). Every LSM label fits, too.
const MAX_TEXT: usize = 4096;

/// A sighting whose unit is not known yet, with the evidence so far.
#[derive(Debug, Clone)]
pub struct UnattributedSighting {
    sighting: Sighting,
    evidence: Vec<Evidence>,
    login: Option<Login>,
    /// The key under which [`RecordCache`](super::record_cache::RecordCache) holds the records that repeat this one.
    key: Option<Box<[u8]>>,
}

impl UnattributedSighting {
    /// The sighting of a record, without evidence.
    pub(super) fn from_record(record: &Record<'_>) -> Self {
        Self {
            sighting: sighting_of_record(record),
            evidence: Vec::new(),
            login: Login::from_record(record),
            key: None,
        }
    }

    /// The death of a process by SIGSYS that left no record.
    #[must_use]
    pub(super) fn from_unrecorded_death(pid: u32, at: Moment) -> Self {
        let key = IncidentKey {
            unit: None,
            event: IncidentEvent::UnrecordedDeath,
            exe: Vec::new(),
            source: SightingSource::Audit,
        };
        Self {
            sighting: Sighting { key, rung: None, at, sample: Sample { pid, ..Sample::default() } },
            evidence: Vec::new(),
            login: None,
            key: None,
        }
    }

    /// A death by SIGSYS that a log reports without its record. `program` is its path, or else its name.
    #[must_use]
    pub(crate) fn from_logged_death(pid: u32, at: Moment, program: &str) -> Self {
        let mut death = Self::from_unrecorded_death(pid, at);
        death.sighting.key.source = SightingSource::Log;
        let text = shortened(program.as_bytes().into());
        if program.starts_with('/') {
            death.sighting.key.exe = text;
        } else {
            death.sighting.sample.comm = text;
        }
        death
    }

    /// A denial that a log reports without its record. `program` is its path, or else its name.
    #[must_use]
    pub(crate) fn from_logged_denial(pid: u32, program: &str, event: IncidentEvent, source: SightingSource) -> Self {
        let mut sighting = Self::from_logged_death(pid, Moment::Unknown, program);
        sighting.sighting.key.event = event;
        sighting.sighting.key.source = source;
        sighting
    }

    /// Sets the time, where another line of a log tells it more precisely.
    pub(crate) fn set_time(&mut self, at: Moment) {
        self.sighting.at = at;
    }

    /// The sighting, without a unit.
    #[must_use]
    pub(crate) fn sighting(&self) -> &Sighting {
        &self.sighting
    }

    /// The sighting, to complete its sample.
    pub(super) fn sighting_mut(&mut self) -> &mut Sighting {
        &mut self.sighting
    }

    /// The pid of the sighting's process.
    pub(crate) fn pid(&self) -> u32 {
        self.sighting.sample.pid
    }

    /// The key of the records that repeat this one.
    pub(super) fn key(&self) -> Option<&[u8]> {
        self.key.as_deref()
    }

    pub(super) fn set_key(&mut self, key: Option<Box<[u8]>>) {
        self.key = key;
    }

    /// Adds evidence. Drops an executable guess that contradicts the login of the process.
    pub(crate) fn add_evidence(&mut self, evidence: impl IntoIterator<Item = Evidence>) {
        let login = self.login;
        let is_possible = |one: &Evidence| match (login, one) {
            (Some(login), Evidence::Named(Rung::Executable, unit)) => login.can_belong_to(unit.manager),
            _ => true,
        };
        self.evidence.extend(evidence.into_iter().filter(is_possible));
    }

    /// Adds the evidence from the process's death notice.
    pub(super) fn add_death(&mut self, death: &DeathEvidence) {
        self.evidence.extend(death.evidence.iter().cloned());
        if let Some(parent) = &death.parent {
            self.sighting.sample.parent = Some(parent.clone());
        }
    }

    /// Drops the evidence of one kind.
    pub(super) fn drop_evidence(&mut self, rung: Rung) {
        self.evidence.retain(|one| one.rung() != rung);
    }

    /// Whether later evidence cannot change the verdict. The verdict may be that no unit owns the process.
    #[must_use]
    pub(crate) fn is_settled(&self) -> bool {
        attribution::is_settled(&self.evidence)
    }

    /// Whether later evidence may name a unit, or replace a guess.
    #[must_use]
    pub(super) fn is_inconclusive(&self) -> bool {
        let is_guess = |found: Attribution| found.confidence() == Confidence::Guess;
        !self.is_settled() && self.attribution().is_none_or(is_guess)
    }

    /// The unit that the evidence names, if it names one.
    #[must_use]
    pub(crate) fn attribution(&self) -> Option<Attribution> {
        attribution::weigh(&self.evidence)
    }

    /// The owner that the evidence shows so far.
    #[must_use]
    pub(super) fn owner(&self) -> Owner {
        Owner::from_unit_or_sample(self.attribution().map(|found| found.unit).as_ref(), &self.sighting.sample)
    }

    /// The sighting, with the unit that the evidence names, if it names one.
    #[must_use]
    pub fn into_sighting(self) -> Sighting {
        let found = self.attribution();
        let mut sighting = self.sighting;
        if let Some(found) = found {
            sighting.key.unit = Some(found.unit);
            sighting.rung = Some(found.rung);
            sighting.sample.parent = None;
        }
        sighting
    }
}

fn sighting_of_record(record: &Record<'_>) -> Sighting {
    let exe = record.exe.map_or(Vec::new(), |exe| shortened(exe.decode()));
    let event = IncidentEvent::Denial(Denial { call: call_of_record(record), action: record.action });
    Sighting {
        key: IncidentKey { unit: None, event, exe, source: SightingSource::Audit },
        rung: None,
        at: moment_of_stamp(record.stamp),
        sample: Sample {
            pid: record.pid,
            comm: shortened(record.comm.decode()),
            uid: word_of_uid(record.uid),
            login: number_of_login(record),
            ip: record.ip,
            call_site: None,
            subject: record.subject.map_or(Vec::new(), |label| shortened(label.into())),
            parent: None,
        },
    }
}

/// Returns the user to whom a record's process belongs.
pub(super) fn user_of_record(record: &Record<'_>) -> Owner {
    Owner::User(number_of_login(record).map_or_else(|| word_of_uid(record.uid), |login| login.to_string().into()))
}

fn number_of_login(record: &Record<'_>) -> Option<u32> {
    if let IdField::Number(login) = record.auid { Some(login) } else { None }
}

/// Returns a uid as an incident holds it.
fn word_of_uid(uid: IdField<'_>) -> Box<str> {
    match uid {
        IdField::Number(uid) => uid.to_string().into(),
        IdField::Name(name) => escape(name).into(),
        IdField::Unset => "".into(),
    }
}

pub(super) fn moment_of_stamp(stamp: Stamp<'_>) -> Moment {
    match stamp {
        Stamp::Millis(millis) => Moment::At(millis),
        Stamp::Printed(text) => Moment::Text(escape(text).into()),
        Stamp::Unknown => Moment::Unknown,
    }
}

/// Returns the call of a record, by number if its architecture has a number for the name.
pub(super) fn call_of_record(record: &Record<'_>) -> Call {
    match (record.arch, record.call) {
        (ArchField::Token(token), CallField::Number(number)) => Call::numbered(Arch(token), number),
        (ArchField::Token(token), CallField::Name(name)) => Call::named(Arch(token), &String::from_utf8_lossy(name)),
        (ArchField::Name(arch), CallField::Number(number)) => {
            Call::numbered(Arch::from_name(arch).unwrap_or(Arch(0)), number)
        }
        (ArchField::Name(arch), CallField::Name(name)) => Call::interpreted(arch, name),
    }
}

fn shortened(text: Cow<'_, [u8]>) -> Vec<u8> {
    let mut text = text.into_owned();
    text.truncate(MAX_TEXT);
    text
}
