//! What the fold takes and gives: a sighting, and the sightings of an incident since they were last taken.

use crate::incidents::incident::{Incident, IncidentKey, Moment, Sample};
use crate::units::Rung;

/// One record, or one death without a record, with its unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// The key of its incident.
    pub key: IncidentKey,
    /// The evidence for the unit.
    pub rung: Option<Rung>,
    /// The time.
    pub at: Moment,
    /// The process and the call.
    pub sample: Sample,
}

/// A sighting of an incident whose slot is known: the facts that differ between sightings.
#[derive(Debug, Clone)]
pub struct RepeatSighting<'a> {
    /// The time.
    pub at: Moment,
    /// The process.
    pub pid: u32,
    /// Its thread's name.
    pub comm: &'a [u8],
    /// Instruction pointer of the call.
    pub ip: u64,
}

/// The sightings of an incident since its last change was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IncidentChange {
    /// The incident, counting only these sightings.
    pub incident: Incident,
    /// Whether the incident is new.
    pub first: bool,
}
