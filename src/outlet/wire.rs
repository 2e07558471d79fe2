//! The data of `org.hardenwhy1`, for the server and its clients.
//!
//! Dictionaries can get further keys without breaking clients. Bytes that a process or a log chose are `ay`, because a
//! D-Bus string cannot hold them.

use serde::de::{Deserialize, Deserializer, SeqAccess, Visitor};
use std::fmt;
use std::time::Duration;
use zbus::{DBusError, DeserializeDict, SerializeDict, Type};

use crate::incidents::{
    Access, AccessDenial, CallSite, CodePlace, Denial, Evicted, Incident, IncidentEvent, IncidentKey, Moment, Parent,
    Sample, SightingSource, Stored, UnitSummary,
};
use crate::syscalls::{Arch, Call, CallId};
use crate::units::{Manager, Unit};

/// The well-known name.
pub const NAME: &str = "org.hardenwhy1";
/// The only object.
pub const PATH: &str = "/org/hardenwhy1";
/// The word in place of a manager for processes whose unit is unknown.
pub const NO_MANAGER: &str = "none";
/// The most incidents in one answer.
pub const MAX_INCIDENTS: u32 = 500;
/// The most units in one answer.
pub const MAX_UNITS: u32 = 5_000;
/// The longest lag of the daemon's stored counts, for incidents whose unit is known. The daemon stores first sightings
/// at once.
pub const MAX_COUNT_LAG: Duration = Duration::from_secs(1);

/// An incident. An absent key means "none" or "unknown".
#[derive(Debug, Clone, Default, PartialEq, Eq, SerializeDict, DeserializeDict, Type)]
#[zbus(signature = "a{sv}", rename_all = "PascalCase")]
pub struct IncidentDict {
    /// Its number in the daemon's store.
    pub id: i64,
    /// Unit name.
    pub unit: Option<String>,
    /// `system` or `user:UID`.
    pub manager: Option<String>,
    /// The evidence for the unit, e.g. `own-cgroup`.
    pub evidence: Option<String>,
    /// Executable path.
    pub exe: Vec<u8>,
    /// `AUDIT_ARCH_*` of a denial; absent for a death without a record.
    pub arch: Option<u32>,
    /// The call's number.
    pub call_number: Option<u32>,
    /// The call's name, if a log had no number.
    pub call_name: Option<Vec<u8>>,
    /// The filter's decision, e.g. `kill_process`.
    pub action: Option<String>,
    /// The number of sightings.
    pub count: u64,
    /// First sighting, in milliseconds since the epoch.
    pub first: Option<i64>,
    /// First sighting in the words of a log.
    pub first_text: Option<Vec<u8>>,
    /// Latest sighting, in milliseconds since the epoch.
    pub last: Option<i64>,
    /// Latest sighting in the words of a log.
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
    /// Its parent, if the unit is unknown.
    pub parent_pid: Option<u32>,
    /// The parent's name.
    pub parent_comm: Option<Vec<u8>>,
    /// The source of the sightings: `rehearsal` or `tap`; absent for records, deaths and failed calls that the kernel
    /// reported.
    pub source: Option<String>,
    /// The error that the process got, if a tap saw it or an access failed.
    pub errno: Option<i32>,
    /// The kind of access that failed, e.g. `read-only-path`; absent for other events.
    pub access: Option<String>,
    /// The path of the access.
    pub path: Option<Vec<u8>>,
    /// What the kind and the path of the access do not tell, e.g. `char 10:229 rw`.
    pub detail: Option<String>,
    /// The place in its code where the process made the call, in words.
    pub call_code: Option<Vec<u8>>,
    /// The place that called the function with the call, in words.
    pub caller_code: Option<Vec<u8>>,
}

/// Incidents that a client sends. `None` if there are more than [`MAX_INCIDENTS`]; reading stops there.
#[derive(Debug, Type)]
#[zbus(signature = "aa{sv}")]
pub(crate) struct Reported(pub(crate) Option<Vec<IncidentDict>>);

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
    /// The number of incidents.
    pub incidents: u64,
    /// The number of sightings.
    pub count: u64,
    /// The latest sighting, in milliseconds since the epoch.
    pub last: Option<i64>,
}

/// What the daemon receives, and what it has lost.
#[derive(Debug, Clone, Default, PartialEq, Eq, SerializeDict, DeserializeDict, Type)]
#[zbus(signature = "a{sv}", rename_all = "PascalCase")]
pub struct Status {
    /// Whether the daemon receives records.
    pub listening: bool,
    /// Why it does not, as a sentence.
    pub not_listening: Option<String>,
    /// Since when, in milliseconds since the epoch.
    pub since: i64,
    /// The only manager whose incidents the caller may read, `user:UID`; absent if the caller may read all.
    pub only_manager: Option<String>,
    /// The number of records.
    pub records: u64,
    /// The number of audit events that were lost, by the gaps in their serial numbers.
    pub lost: u64,
    /// How often the receive buffer overran.
    pub overruns: u64,
    /// The number of sightings that were lost because memory was full before they were stored.
    pub dropped: u64,
    /// The number of incidents that the store has evicted to make room for others.
    pub evicted: u64,
    /// The latest sighting of any evicted incident, in milliseconds since the epoch.
    pub evicted_last: Option<i64>,
    /// The number of messages of other types or senders.
    pub ignored: u64,
    /// The number of records that could not be parsed.
    pub malformed: u64,
    /// Size of the receive buffer, in bytes.
    pub receive_buffer: u64,
    /// Why the store cannot be written, as long as it cannot.
    pub store_error: Option<String>,
    /// Why alerts do not reach the journal, as long as they do not.
    pub journal_error: Option<String>,
    /// The end of the verifier's log, if the kernel refused the BPF program that notes the cgroups of dying processes.
    pub verifier_log: Option<String>,
    /// Whether the daemon watches for capabilities and read-only paths that units are denied.
    pub watches_calls: bool,
    /// Why it does not.
    pub calls_not_watched: Option<String>,
    /// Whether the reason is a fault, and not a setting or an older kernel.
    pub watch_refused: bool,
    /// How many failed calls it did not look at, because there were too many of one owner.
    pub calls_skipped: u64,
    /// What the daemon cannot see or do, one sentence each.
    pub limitations: Vec<String>,
}

/// Why the daemon does not watch failed calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallsNotWatched {
    /// It is switched off or not ready, or the kernel is too old.
    NotNow(String),
    /// The kernel refuses the programs, or they cannot be loaded.
    Refused(String),
}

impl Status {
    /// Sets whether the daemon watches failed calls; `why_not` if it does not.
    pub fn set_calls_watched(&mut self, why_not: Option<CallsNotWatched>) {
        self.watches_calls = why_not.is_none();
        self.watch_refused = matches!(why_not, Some(CallsNotWatched::Refused(_)));
        self.calls_not_watched = why_not.map(|(CallsNotWatched::NotNow(why) | CallsNotWatched::Refused(why))| why);
    }

    /// Sets the counts of evicted incidents.
    pub fn set_evicted(&mut self, evicted: Evicted) {
        self.evicted = evicted.incidents;
        self.evicted_last = (evicted.incidents > 0).then_some(evicted.last);
    }
}

/// Why a call failed.
#[derive(Debug, DBusError)]
#[zbus(prefix = "org.hardenwhy1.Error")]
pub enum BusError {
    /// An error of the connection.
    #[zbus(error)]
    ZBus(zbus::Error),
    /// The caller may not read that.
    AccessDenied(String),
    /// An argument is not valid.
    InvalidArgument(String),
    /// The store could not be read.
    Store(String),
    /// There is no store yet: the daemon has stored nothing.
    NoStore(String),
    /// There are too many calls, subscribers or rehearsals.
    Busy(String),
}

/// A value that this version does not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid {0}")]
pub struct UnexpectedValue(&'static str);

impl From<&Stored> for IncidentDict {
    fn from(Stored { id, incident }: &Stored) -> Self {
        let Incident { key, rung, count, first, last, sample } = incident;
        let (unit, manager) = unit_words(key.unit.as_ref());
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
            call_code: sample.call_site.as_ref().map(|site| site.code.to_words()),
            caller_code: sample.call_site.as_ref().and_then(|site| site.caller.as_ref()).map(CodePlace::to_words),
            ..Self::default()
        };
        (dict.first, dict.first_text) = moment_values(first);
        (dict.last, dict.last_text) = moment_values(last);
        match &key.event {
            IncidentEvent::Denial(Denial { action, .. }) => dict.action = Some(action.to_string()),
            IncidentEvent::Access(AccessDenial { errno, access, .. }) => {
                dict.errno = Some(*errno);
                dict.access = Some(access.kind().to_owned());
                dict.path = access.path().map(|path| path.as_bytes().to_vec());
                dict.detail = Some(access.detail()).filter(|detail| !detail.is_empty());
            }
            IncidentEvent::UnrecordedDeath => {}
        }
        if let Some(Call { arch, id }) = incident.call() {
            dict.arch = Some(arch.0);
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

    fn try_from(mut dict: IncidentDict) -> Result<Self, UnexpectedValue> {
        let event = parse_event(&mut dict)?;
        let call_site = parse_call_site(&dict)?;
        let rung = dict.evidence.map(|rung| rung.parse().map_err(|_| UnexpectedValue("evidence"))).transpose()?;
        let source = dict.source.as_deref().unwrap_or(SightingSource::Audit.as_str());
        let source = SightingSource::parse(source, dict.errno, &event).ok_or(UnexpectedValue("source"))?;
        let incident = Incident {
            key: IncidentKey { unit: parse_unit(dict.unit, dict.manager)?, event, exe: dict.exe, source },
            rung,
            count: dict.count,
            first: parse_moment(dict.first, dict.first_text)?,
            last: parse_moment(dict.last, dict.last_text)?,
            sample: Sample {
                pid: dict.pid,
                comm: dict.comm,
                uid: parse_text(dict.uid, "uid")?,
                login: None,
                ip: dict.ip,
                call_site,
                subject: dict.subject,
                parent: dict.parent_pid.zip(dict.parent_comm).map(|(pid, comm)| Parent { pid, comm }),
            },
        };
        Ok(Self { id: dict.id, incident })
    }
}

impl From<&UnitSummary> for UnitDict {
    fn from(summary: &UnitSummary) -> Self {
        let (unit, manager) = unit_words(summary.unit.as_ref());
        Self { unit, manager, incidents: summary.incidents, count: summary.count, last: moment_values(&summary.last).0 }
    }
}

impl TryFrom<UnitDict> for UnitSummary {
    type Error = UnexpectedValue;

    fn try_from(dict: UnitDict) -> Result<Self, UnexpectedValue> {
        let unit = parse_unit(dict.unit, dict.manager)?;
        Ok(Self { unit, incidents: dict.incidents, count: dict.count, last: parse_moment(dict.last, None)? })
    }
}

/// Takes the event out of a dictionary.
fn parse_event(dict: &mut IncidentDict) -> Result<IncidentEvent, UnexpectedValue> {
    let (action, access) = (dict.action.take(), dict.access.take());
    if action.is_none() && access.is_none() {
        return Ok(IncidentEvent::UnrecordedDeath);
    }
    let arch = Arch(dict.arch.ok_or(UnexpectedValue("architecture"))?);
    let id = match (dict.call_number, dict.call_name.take()) {
        (Some(number), _) => CallId::Number(number),
        (None, Some(name)) => CallId::Name(parse_text(name, "call")?),
        (None, None) => return Err(UnexpectedValue("call")),
    };
    let call = Call { arch, id };
    if let Some(action) = action {
        let action = action.parse().map_err(|_| UnexpectedValue("action"))?;
        return Ok(IncidentEvent::Denial(Denial { call, action }));
    }
    let (path, detail) = (dict.path.take().unwrap_or_default(), dict.detail.take().unwrap_or_default());
    let access = Access::from_parts(&access.unwrap_or_default(), &path, &detail).ok_or(UnexpectedValue("access"))?;
    let errno = dict.errno.ok_or(UnexpectedValue("error"))?;
    Ok(IncidentEvent::Access(AccessDenial { call, errno, access }))
}

/// Reads the call site of a dictionary.
fn parse_call_site(dict: &IncidentDict) -> Result<Option<Box<CallSite>>, UnexpectedValue> {
    let place = |words: Option<&[u8]>| {
        words.map(|words| CodePlace::parse(words).ok_or(UnexpectedValue("call site"))).transpose()
    };
    let (code, caller) = (place(dict.call_code.as_deref())?, place(dict.caller_code.as_deref())?);
    Ok(code.map(|code| Box::new(CallSite { code, caller, ..CallSite::default() })))
}

fn unit_words(unit: Option<&Unit>) -> (Option<String>, Option<String>) {
    unit.map(|unit| (unit.name.to_string(), unit.manager.to_string())).unzip()
}

fn parse_unit(name: Option<String>, manager: Option<String>) -> Result<Option<Unit>, UnexpectedValue> {
    let (name, manager) = match (name, manager) {
        (None, None) => return Ok(None),
        (Some(name), Some(manager)) => (name, manager),
        _ => return Err(UnexpectedValue("unit")),
    };
    let manager: Manager = manager.parse().map_err(|_| UnexpectedValue("manager"))?;
    Ok(Some(Unit { manager, name: name.parse().map_err(|_| UnexpectedValue("unit"))? }))
}

fn moment_values(moment: &Moment) -> (Option<i64>, Option<Vec<u8>>) {
    match moment {
        Moment::At(millis) => (Some(*millis), None),
        Moment::Text(text) => (None, Some(text.as_bytes().to_vec())),
        Moment::Unknown => (None, None),
    }
}

fn parse_moment(at: Option<i64>, in_words: Option<Vec<u8>>) -> Result<Moment, UnexpectedValue> {
    match (at, in_words) {
        (Some(millis), _) => Ok(Moment::At(millis)),
        (None, Some(words)) => parse_text(words, "date").map(Moment::Text),
        (None, None) => Ok(Moment::Unknown),
    }
}

fn parse_text(bytes: Vec<u8>, what: &'static str) -> Result<Box<str>, UnexpectedValue> {
    String::from_utf8(bytes).map(Into::into).map_err(|_| UnexpectedValue(what))
}
