//! An incident: what was seen, folded. Never why, never what to do: those are computed when asked.

use crate::audit::Action;
use crate::syscalls::Call;
use crate::units::{Rung, Unit};
use std::collections::BTreeMap;
use std::fmt;

/// Sightings that are one fact: the same event of the same executable in the same unit.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IncidentKey {
    /// Whose process; `None` where nothing said.
    pub unit: Option<Unit>,
    /// What happened.
    pub event: IncidentEvent,
    /// The executable as the kernel gave it; empty where it gave none.
    pub exe: Vec<u8>,
    /// Which way it was seen.
    pub source: SightingSource,
}

/// Which way something was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum SightingSource {
    /// The kernel sent a record of it, or announced the death.
    #[default]
    Audit,
    /// The kernel sent a record of a call that was let through, since its unit was rehearsed: under the unit's own
    /// settings it would have been denied, or may have been.
    Rehearsal,
    /// A tap saw the call return without having been made.
    Tap {
        /// The error that the caller got; 0 looks like success.
        errno: i32,
    },
}

impl SightingSource {
    /// Its word in the store, on D-Bus and in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Audit => "audit",
            Self::Rehearsal => "rehearsal",
            Self::Tap { .. } => "tap",
        }
    }

    /// The error that the caller got, where that was seen.
    #[must_use]
    pub fn errno(self) -> Option<i32> {
        match self {
            Self::Tap { errno } => Some(errno),
            Self::Audit | Self::Rehearsal => None,
        }
    }

    /// The source of a word, and the error that goes with it; `None` where they do not go together.
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
    /// It died of SIGSYS and the kernel sent no record of it.
    UnrecordedDeath,
}

/// A filter's decision on a call.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Denial {
    /// The call, in the ABI it was made in.
    pub call: Call,
    /// What the filter decided.
    pub action: Action,
}

/// When something was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Moment {
    /// Milliseconds since the epoch.
    At(i64),
    /// A date as a log wrote it in the locale of its machine.
    Text(Box<str>),
    /// Nothing said.
    Unknown,
}

/// What the latest sighting looked like.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sample {
    /// Thread group id in the initial PID namespace.
    pub pid: u32,
    /// Thread name, as the process chose it.
    pub comm: Vec<u8>,
    /// Real uid, as a number or as the log wrote it; empty where nothing said.
    pub uid: Box<str>,
    /// Instruction pointer of the call.
    pub ip: u64,
    /// LSM label, empty where there is none.
    pub subject: Vec<u8>,
    /// What started it, where its unit is not known: the next thing to go by.
    pub parent: Option<Parent>,
}

/// A process's parent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parent {
    /// Thread group id in the initial PID namespace.
    pub pid: u32,
    /// The name of its main thread, as it chose it.
    pub comm: Vec<u8>,
}

/// One fact about a unit, with its count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incident {
    /// What was seen.
    pub key: IncidentKey,
    /// What the attribution to the unit stands on; `None` where there is no unit.
    pub rung: Option<Rung>,
    /// How often.
    pub count: u64,
    /// The first time.
    pub first: Moment,
    /// The latest time.
    pub last: Moment,
    /// What the latest looked like.
    pub sample: Sample,
}

impl Incident {
    /// Returns the denial; `None` for a silent death.
    #[must_use]
    pub fn denial(&self) -> Option<&Denial> {
        match &self.key.event {
            IncidentEvent::Denial(denial) => Some(denial),
            IncidentEvent::UnrecordedDeath => None,
        }
    }
}

impl Moment {
    /// Makes it another that is earlier: clocks are set back.
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

/// Incidents by unit, the one with the newest first, and newest first in each.
#[must_use]
pub(crate) fn by_unit(mut incidents: Vec<Incident>) -> Vec<(Option<Unit>, Vec<Incident>)> {
    // The key settles what was seen at the same moment, or at none that can be compared.
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
