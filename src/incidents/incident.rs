//! An incident: sightings of one event. It holds no cause and no remedy: the diagnosis computes these on request.

use crate::audit::Action;
use crate::syscalls::Call;
use crate::units::{Rung, Unit};
use std::collections::BTreeMap;
use std::fmt;

/// The facts that all sightings of an incident share.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IncidentKey {
    /// The unit of the process; `None` if it is unknown.
    pub unit: Option<Unit>,
    /// What happened.
    pub event: IncidentEvent,
    /// The executable as the kernel reports it; empty if the kernel reports none.
    pub exe: Vec<u8>,
    /// The source of the sightings.
    pub source: SightingSource,
}

/// The source of a sighting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum SightingSource {
    /// The kernel sent a record, or announced the death.
    #[default]
    Audit,
    /// The kernel sent a record of a call that passed because the unit was rehearsed. The unit's own settings would have
    /// denied it, or may have.
    Rehearsal,
    /// A tap saw the call return although the kernel did not execute it.
    Tap {
        /// The error that the process got; 0 looks like success.
        errno: i32,
    },
}

impl SightingSource {
    /// Returns its word in the store, on D-Bus and in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Audit => "audit",
            Self::Rehearsal => "rehearsal",
            Self::Tap { .. } => "tap",
        }
    }

    /// Returns the error that the process got, if a tap saw it.
    #[must_use]
    pub fn errno(self) -> Option<i32> {
        match self {
            Self::Tap { errno } => Some(errno),
            Self::Audit | Self::Rehearsal => None,
        }
    }

    /// Returns the source for a word and an error; `None` if the two do not belong together.
    #[must_use]
    pub fn from_word(word: &str, errno: Option<i32>) -> Option<Self> {
        match (word, errno) {
            ("audit", None) => Some(Self::Audit),
            ("rehearsal", None) => Some(Self::Rehearsal),
            ("tap", Some(errno)) => Some(Self::Tap { errno }),
            _ => None,
        }
    }
}

/// What happened to a process.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum IncidentEvent {
    /// A filter decided on a call.
    Denial(Denial),
    /// The process died of SIGSYS and the kernel sent no record.
    UnrecordedDeath,
}

/// A filter's decision on a call.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Denial {
    /// The call, in the ABI that the process used.
    pub call: Call,
    /// What the filter decided.
    pub action: Action,
}

/// The time of a sighting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Moment {
    /// Milliseconds since the epoch.
    At(i64),
    /// A date in the words of a log, in the locale of its machine.
    Text(Box<str>),
    /// No time is known.
    Unknown,
}

/// The process and the call of the latest sighting.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sample {
    /// Thread group id in the initial PID namespace.
    pub pid: u32,
    /// Thread name, which the process can choose.
    pub comm: Vec<u8>,
    /// Real uid, as a number or as the log wrote it; empty if unknown.
    pub uid: Box<str>,
    /// Instruction pointer of the call.
    pub ip: u64,
    /// LSM label; empty if there is none.
    pub subject: Vec<u8>,
    /// The parent, if the unit is unknown: the best remaining hint.
    pub parent: Option<Parent>,
}

/// A process's parent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parent {
    /// Thread group id in the initial PID namespace.
    pub pid: u32,
    /// The name of its main thread, which the process can choose.
    pub comm: Vec<u8>,
}

/// Sightings of one event, counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incident {
    /// What all sightings share.
    pub key: IncidentKey,
    /// The evidence for the unit; `None` if there is no unit.
    pub rung: Option<Rung>,
    /// The number of sightings.
    pub count: u64,
    /// The first sighting.
    pub first: Moment,
    /// The latest sighting.
    pub last: Moment,
    /// The process and the call of the latest sighting.
    pub sample: Sample,
}

impl Incident {
    /// Returns the denial; `None` for a death without a record.
    #[must_use]
    pub fn denial(&self) -> Option<&Denial> {
        match &self.key.event {
            IncidentEvent::Denial(denial) => Some(denial),
            IncidentEvent::UnrecordedDeath => None,
        }
    }
}

impl Moment {
    /// Replaces the time by an earlier time, as after a clock was set back.
    pub(super) fn lower_to(&mut self, other: &Self) {
        if let (Self::At(own), Self::At(other)) = (self, other) {
            *own = (*own).min(*other);
        }
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(millis) => write!(f, "{millis}"),
            Self::Text(text) => f.write_str(text),
            Self::Unknown => f.write_str("unknown"),
        }
    }
}

/// Groups incidents by unit: the unit with the newest incident first, and in each unit the newest incident first.
#[must_use]
pub(crate) fn by_unit(mut incidents: Vec<Incident>) -> Vec<(Option<Unit>, Vec<Incident>)> {
    // The key orders incidents that have the same time, or no time that can be compared.
    incidents.sort_by(|one, other| newest(other).cmp(&newest(one)).then_with(|| one.key.cmp(&other.key)));
    let mut order: Vec<Option<Unit>> = Vec::new();
    let mut units: BTreeMap<Option<Unit>, Vec<Incident>> = BTreeMap::new();
    for incident in incidents {
        let unit = incident.key.unit.clone();
        if !units.contains_key(&unit) {
            order.push(unit.clone());
        }
        units.entry(unit).or_default().push(incident);
    }
    order.into_iter().filter_map(|unit| units.remove_entry(&unit)).collect()
}

pub(crate) fn newest(incident: &Incident) -> Option<i64> {
    match incident.last {
        Moment::At(millis) => Some(millis),
        Moment::Text(_) | Moment::Unknown => None,
    }
}
