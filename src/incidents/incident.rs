//! An incident: sightings of one event. It holds no cause and no remedy: the diagnosis computes these on request.

use super::access::AccessDenial;
use super::call_site::CallSite;
use crate::audit::Action;
use crate::syscalls::Call;
use crate::units::{Rung, Unit};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
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
    /// The kernel sent a record, announced the death, or reported the failed call as it happened.
    #[default]
    Audit,
    /// The kernel sent a record of a call that passed because the unit was rehearsed. The unit's own settings would have
    /// denied it, or may have.
    Rehearsal,
    /// A tap saw the call return although the kernel did not execute it, or saw an access fail.
    Tap {
        /// The error that the process got; 0 looks like success.
        errno: i32,
    },
    /// A log reports it in other words than the kernel's record.
    Log,
    /// strace showed that the call failed.
    Strace {
        /// The error that the process got.
        errno: i32,
        /// Whether it showed the argument by which filters judge the call. Another sighting then holds what it asked for,
        /// if a filter can deny that.
        knows_argument: bool,
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
            Self::Log => "log",
            Self::Strace { .. } => "strace",
        }
    }

    /// Returns the error that the process got, if a tap saw it.
    #[must_use]
    pub fn errno(self) -> Option<i32> {
        match self {
            Self::Tap { errno } | Self::Strace { errno, .. } => Some(errno),
            Self::Audit | Self::Rehearsal | Self::Log => None,
        }
    }

    /// Parses its word and the error that the process got; `None` if the two do not belong together. An access has an
    /// error whatever its source.
    #[must_use]
    pub fn parse(word: &str, errno: Option<i32>, event: &IncidentEvent) -> Option<Self> {
        let may_have_error = matches!(event, IncidentEvent::Access(_));
        match (word, errno) {
            ("strace", Some(errno)) => Some(Self::Strace { errno, knows_argument: false }),
            ("tap", Some(errno)) => Some(Self::Tap { errno }),
            (_, Some(_)) if !may_have_error => None,
            ("audit", _) => Some(Self::Audit),
            ("rehearsal", _) => Some(Self::Rehearsal),
            ("log", _) => Some(Self::Log),
            _ => None,
        }
    }
}

/// What happened to a process.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum IncidentEvent {
    /// A filter decided on a call.
    Denial(Denial),
    /// The kernel executed a call, and the unit's sandbox made it fail.
    Access(AccessDenial),
    /// The process died of SIGSYS and the kernel sent no record.
    UnrecordedDeath,
}

impl IncidentEvent {
    /// Returns its word in the store and in JSON.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Denial(_) => "denial",
            Self::Access(_) => "access-denial",
            Self::UnrecordedDeath => "unrecorded-death",
        }
    }
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
    /// The uid of the login from which the process descends (`auid=`). A process cannot change it.
    pub login: Option<u32>,
    /// Instruction pointer of the call.
    pub ip: u64,
    /// Where in its code the process made the call, if the kernel noted it. Of an earlier sighting if it noted nothing of the
    /// latest.
    pub call_site: Option<Box<CallSite>>,
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
    /// Returns a filter's decision; `None` for an access that failed and for a death without a record.
    #[must_use]
    pub fn denial(&self) -> Option<&Denial> {
        match &self.key.event {
            IncidentEvent::Denial(denial) => Some(denial),
            IncidentEvent::Access(_) | IncidentEvent::UnrecordedDeath => None,
        }
    }

    /// Returns the access that failed; `None` for a filter's decision and for a death without a record.
    #[must_use]
    pub fn access(&self) -> Option<&AccessDenial> {
        match &self.key.event {
            IncidentEvent::Access(denial) => Some(denial),
            IncidentEvent::Denial(_) | IncidentEvent::UnrecordedDeath => None,
        }
    }

    /// Returns the denied call; `None` for a death without a record.
    #[must_use]
    pub fn call(&self) -> Option<&Call> {
        match &self.key.event {
            IncidentEvent::Denial(Denial { call, .. }) | IncidentEvent::Access(AccessDenial { call, .. }) => Some(call),
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

/// Joins the incidents of several units that differ only in the unit. Each keeps the unit of its latest sighting.
#[must_use]
pub(crate) fn merge_units(incidents: impl IntoIterator<Item = Incident>) -> Vec<Incident> {
    let mut merged: BTreeMap<IncidentKey, Incident> = BTreeMap::new();
    for incident in incidents {
        match merged.entry(IncidentKey { unit: None, ..incident.key.clone() }) {
            Entry::Vacant(place) => _ = place.insert(incident),
            Entry::Occupied(mut place) => place.get_mut().join(incident),
        }
    }
    merged.into_values().collect()
}

impl Incident {
    /// Adds the sightings of an incident of another unit.
    fn join(&mut self, mut other: Self) {
        if newest(&other) > newest(self) {
            std::mem::swap(self, &mut other);
        }
        self.count = self.count.saturating_add(other.count);
        self.first.lower_to(&other.first);
    }
}

pub(crate) fn newest(incident: &Incident) -> Option<i64> {
    match incident.last {
        Moment::At(millis) => Some(millis),
        Moment::Text(_) | Moment::Unknown => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::syscalls::Arch;
    use crate::units::Manager;

    fn incident(unit: &str, number: u32, (first, last): (i64, i64)) -> Incident {
        let call = Call::numbered(Arch::X86_64, number);
        Incident {
            key: IncidentKey {
                unit: Some(Unit { manager: Manager::System, name: unit.parse().unwrap() }),
                event: IncidentEvent::Denial(Denial { call, action: Action::KillProcess }),
                exe: b"/bin/echo".to_vec(),
                source: SightingSource::Audit,
            },
            rung: None,
            count: 2,
            first: Moment::At(first),
            last: Moment::At(last),
            sample: Sample::default(),
        }
    }

    #[test]
    fn denials_of_several_units_that_differ_only_in_the_unit_become_one() {
        let merged = merge_units([
            incident("a@1.service", 63, (5, 10)),
            incident("a@2.service", 63, (20, 30)),
            incident("a@3.service", 63, (1, 2)),
            incident("a@3.service", 41, (1, 2)),
        ]);
        let facts: Vec<_> = merged.iter().map(|one| (one.count, one.first.clone(), one.last.clone())).collect();
        assert_eq!(facts, [(2, Moment::At(1), Moment::At(2)), (6, Moment::At(1), Moment::At(30))]);
        assert_eq!(merged[1].key.unit.as_ref().unwrap().name.as_str(), "a@2.service", "the latest");
    }
}
