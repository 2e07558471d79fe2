//! What goes over D-Bus, the same for the server and its clients: dictionaries, so that a key more
//! breaks nobody. Bytes that a process or a log chose are `ay`: a D-Bus string cannot hold them.

use serde::de::{Deserialize, Deserializer, SeqAccess, Visitor};
use std::fmt;
use std::time::Duration;
use zbus::{DBusError, DeserializeDict, SerializeDict, Type};

use crate::incidents::{
    Denial, Evicted, Incident, IncidentEvent, IncidentKey, Moment, Parent, Sample, SightingSource, Stored, UnitSummary,
};
use crate::syscalls::{Arch, Call, CallId};
use crate::units::{Manager, Unit};

/// The well-known name.
pub const NAME: &str = "org.hardenwhy1";
/// The only object.
pub const PATH: &str = "/org/hardenwhy1";
/// What stands in a manager's place for processes whose unit is not known.
pub const NO_MANAGER: &str = "none";
/// Most incidents in one answer.
pub const MAX_INCIDENTS: u32 = 500;
/// Most units in one answer.
pub const MAX_UNITS: u32 = 5_000;
/// How far the daemon's stored counts lag at most, for incidents whose unit is known. It stores first sightings at once.
pub const MAX_COUNT_LAG: Duration = Duration::from_secs(1);

/// An incident. Absent keys say "none" or "unknown".
#[derive(Debug, Clone, Default, PartialEq, Eq, SerializeDict, DeserializeDict, Type)]
#[zbus(signature = "a{sv}", rename_all = "PascalCase")]
pub struct IncidentDict {
    /// Number in the daemon's store.
    pub id: i64,
    /// Unit name.
    pub unit: Option<String>,
    /// `system` or `user:UID`.
    pub manager: Option<String>,
    /// What the attribution stands on, e.g. `own-cgroup`.
    pub evidence: Option<String>,
    /// Executable path.
    pub exe: Vec<u8>,
    /// `AUDIT_ARCH_*` of a denial; absent for a death without a record.
    pub arch: Option<u32>,
    /// The call's number.
    pub call_number: Option<u32>,
    /// The call's name, where a log had no number.
    pub call_name: Option<Vec<u8>>,
    /// The filter's decision, e.g. `kill_process`.
    pub action: Option<String>,
    /// Sightings.
    pub count: u64,
    /// First sighting, in milliseconds since the epoch.
    pub first: Option<i64>,
    /// First sighting as a log said it.
    pub first_text: Option<Vec<u8>>,
    /// Latest sighting, in milliseconds since the epoch.
    pub last: Option<i64>,
    /// Latest sighting as a log said it.
    pub last_text: Option<Vec<u8>>,
    /// Process of the latest sighting.
    pub pid: u32,
    /// Its thread's name.
    pub comm: Vec<u8>,
    /// Its real uid as the record or log wrote it.
    pub uid: Vec<u8>,
    /// Its instruction pointer.
    pub ip: u64,
    /// Its LSM label.
    pub subject: Vec<u8>,
    /// Its parent, where the unit is not known.
    pub parent_pid: Option<u32>,
    /// The parent's name.
    pub parent_comm: Option<Vec<u8>>,
    /// Which way it was seen, `rehearsal` or `tap`; absent for what the kernel told.
    pub source: Option<String>,
    /// The error that a tap saw the caller get.
    pub errno: Option<i32>,
}

/// Incidents that a client sends: `None` where they are more than [`MAX_INCIDENTS`], of which no more are read.
#[derive(Debug, Type)]
#[zbus(signature = "aa{sv}")]
pub(super) struct Reported(pub(super) Option<Vec<IncidentDict>>);

impl<'de> Deserialize<'de> for Reported {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Few;
        impl<'de> Visitor<'de> for Few {
            type Value = Option<Vec<IncidentDict>>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("incidents")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Self::Value, A::Error> {
                let mut read = Vec::new();
                while let Some(dict) = sequence.next_element()? {
                    if read.len() == MAX_INCIDENTS as usize {
                        return Ok(None);
                    }
                    read.push(dict);
                }
                Ok(Some(read))
            }
        }
        deserializer.deserialize_seq(Few).map(Self)
    }
}

/// A unit with incidents.
#[derive(Debug, Clone, Default, PartialEq, Eq, SerializeDict, DeserializeDict, Type)]
#[zbus(signature = "a{sv}", rename_all = "PascalCase")]
pub struct UnitDict {
    /// Unit name; absent for processes of no known unit.
    pub unit: Option<String>,
    /// `system` or `user:UID`.
    pub manager: Option<String>,
    /// How many incidents.
    pub incidents: u64,
    /// How many sightings.
    pub count: u64,
    /// The latest, in milliseconds since the epoch.
    pub last: Option<i64>,
}

/// How well the daemon hears.
#[derive(Debug, Clone, Default, PartialEq, Eq, SerializeDict, DeserializeDict, Type)]
#[zbus(signature = "a{sv}", rename_all = "PascalCase")]
pub struct Status {
    /// Whether records can arrive.
    pub listening: bool,
    /// Since when, in milliseconds since the epoch.
    pub since: i64,
    /// Records understood.
    pub records: u64,
    /// Audit events that never arrived, by the gaps in their serial numbers.
    pub lost: u64,
    /// How often the receive buffer overran.
    pub overruns: u64,
    /// Sightings that were lost because memory for incidents was full before the store had them.
    pub dropped: u64,
    /// Incidents that had to give way to others in the store, since it was begun.
    pub evicted: u64,
    /// The latest sighting of any of them, in milliseconds since the epoch.
    pub evicted_last: Option<i64>,
    /// Messages of other types or senders.
    pub ignored: u64,
    /// Records not understood.
    pub malformed: u64,
    /// Size of the receive buffer, in bytes.
    pub receive_buffer: u64,
    /// Why the store cannot be written, while it cannot.
    pub store_error: Option<String>,
    /// Why alerts do not reach the journal, while they do not.
    pub journal_error: Option<String>,
    /// The end of the verifier's log, if the kernel refused the BPF program that notes the cgroups of dying processes.
    pub verifier_log: Option<String>,
    /// What the daemon cannot see or do, a sentence each.
    pub limitations: Vec<String>,
}

impl Status {
    /// Takes note of what had to give way.
    pub fn set_evicted(&mut self, evicted: Evicted) {
        self.evicted = evicted.incidents;
        self.evicted_last = (evicted.incidents > 0).then_some(evicted.last);
    }
}

/// Why a question was not answered.
#[derive(Debug, DBusError)]
#[zbus(prefix = "org.hardenwhy1.Error")]
pub enum BusError {
    /// The connection's own errors.
    #[zbus(error)]
    ZBus(zbus::Error),
    /// The caller may not read that.
    AccessDenied(String),
    /// An argument means nothing.
    InvalidArgument(String),
    /// The store could not be read.
    Store(String),
    /// Too many questions at once, or subscribers.
    Busy(String),
}

/// An answer that this version does not understand.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("harden-whyd's answer has a strange {0}")]
pub struct UnexpectedValue(&'static str);

impl From<&Stored> for IncidentDict {
    fn from(Stored { id, incident }: &Stored) -> Self {
        let Incident { key, rung, count, first, last, sample } = incident;
        let (unit, manager) = names(key.unit.as_ref());
        let mut dict = Self {
            id: *id,
            unit,
            manager,
            evidence: rung.map(|rung| rung.to_string()),
            exe: key.exe.clone(),
            count: *count,
            pid: sample.pid,
            comm: sample.comm.clone(),
            uid: sample.uid.as_bytes().to_vec(),
            ip: sample.ip,
            subject: sample.subject.clone(),
            parent_pid: sample.parent.as_ref().map(|parent| parent.pid),
            parent_comm: sample.parent.as_ref().map(|parent| parent.comm.clone()),
            source: (key.source != SightingSource::Audit).then(|| key.source.as_str().to_owned()),
            errno: key.source.errno(),
            ..Self::default()
        };
        (dict.first, dict.first_text) = said(first);
        (dict.last, dict.last_text) = said(last);
        if let IncidentEvent::Denial(Denial { call: Call { arch, id }, action }) = &key.event {
            dict.arch = Some(arch.0);
            dict.action = Some(action.to_string());
            match id {
                CallId::Number(number) => dict.call_number = Some(*number),
                CallId::Name(name) => dict.call_name = Some(name.as_bytes().to_vec()),
            }
        }
        dict
    }
}

impl TryFrom<IncidentDict> for Stored {
    type Error = UnexpectedValue;

    fn try_from(dict: IncidentDict) -> Result<Self, UnexpectedValue> {
        let event = match (dict.action, dict.arch) {
            (None, _) => IncidentEvent::UnrecordedDeath,
            (Some(action), Some(arch)) => {
                let action = action.parse().map_err(|_| UnexpectedValue("action"))?;
                let id = match (dict.call_number, dict.call_name) {
                    (Some(number), _) => CallId::Number(number),
                    (None, Some(name)) => CallId::Name(text(name, "call")?),
                    (None, None) => return Err(UnexpectedValue("call")),
                };
                IncidentEvent::Denial(Denial { call: Call { arch: Arch(arch), id }, action })
            }
            (Some(_), None) => return Err(UnexpectedValue("architecture")),
        };
        let rung = dict.evidence.map(|rung| rung.parse().map_err(|_| UnexpectedValue("evidence"))).transpose()?;
        let source = dict.source.as_deref().unwrap_or(SightingSource::Audit.as_str());
        let source = SightingSource::from_word(source, dict.errno).ok_or(UnexpectedValue("source"))?;
        let incident = Incident {
            key: IncidentKey { unit: unit(dict.unit, dict.manager)?, event, exe: dict.exe, source },
            rung,
            count: dict.count,
            first: moment(dict.first, dict.first_text)?,
            last: moment(dict.last, dict.last_text)?,
            sample: Sample {
                pid: dict.pid,
                comm: dict.comm,
                uid: text(dict.uid, "uid")?,
                ip: dict.ip,
                subject: dict.subject,
                parent: dict.parent_pid.zip(dict.parent_comm).map(|(pid, comm)| Parent { pid, comm }),
            },
        };
        Ok(Self { id: dict.id, incident })
    }
}

impl From<&UnitSummary> for UnitDict {
    fn from(summary: &UnitSummary) -> Self {
        let (unit, manager) = names(summary.unit.as_ref());
        Self { unit, manager, incidents: summary.incidents, count: summary.count, last: said(&summary.last).0 }
    }
}

impl TryFrom<UnitDict> for UnitSummary {
    type Error = UnexpectedValue;

    fn try_from(dict: UnitDict) -> Result<Self, UnexpectedValue> {
        let unit = unit(dict.unit, dict.manager)?;
        Ok(Self { unit, incidents: dict.incidents, count: dict.count, last: moment(dict.last, None)? })
    }
}

fn names(unit: Option<&Unit>) -> (Option<String>, Option<String>) {
    unit.map(|unit| (unit.name.to_string(), unit.manager.to_string())).unzip()
}

fn unit(name: Option<String>, manager: Option<String>) -> Result<Option<Unit>, UnexpectedValue> {
    let (name, manager) = match (name, manager) {
        (None, None) => return Ok(None),
        (Some(name), Some(manager)) => (name, manager),
        _ => return Err(UnexpectedValue("unit")),
    };
    let manager: Manager = manager.parse().map_err(|_| UnexpectedValue("manager"))?;
    Ok(Some(Unit { manager, name: name.parse().map_err(|_| UnexpectedValue("unit"))? }))
}

fn said(moment: &Moment) -> (Option<i64>, Option<Vec<u8>>) {
    match moment {
        Moment::At(millis) => (Some(*millis), None),
        Moment::Text(text) => (None, Some(text.as_bytes().to_vec())),
        Moment::Unknown => (None, None),
    }
}

fn moment(at: Option<i64>, said: Option<Vec<u8>>) -> Result<Moment, UnexpectedValue> {
    match (at, said) {
        (Some(millis), _) => Ok(Moment::At(millis)),
        (None, Some(words)) => text(words, "date").map(Moment::Text),
        (None, None) => Ok(Moment::Unknown),
    }
}

fn text(bytes: Vec<u8>, what: &'static str) -> Result<Box<str>, UnexpectedValue> {
    String::from_utf8(bytes).map(Into::into).map_err(|_| UnexpectedValue(what))
}
