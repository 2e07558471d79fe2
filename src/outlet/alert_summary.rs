//! The entry that counts the incidents of a storm that got no alert of their own.

use super::alert_fields::{Priority, push_unit, start_entry};
use super::alert_message::{MAX_MESSAGE, shorten};
use super::journal::AlertEntry;
use super::message_ids::SUMMARY;
use crate::incidents::Incident;
use crate::units::Unit;
use std::collections::BTreeSet;

/// Incidents that are too many for separate alerts: new ones, and ones whose last alert is old.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// The number of incidents.
    pub incidents: u64,
    /// The first few of their units.
    pub units: BTreeSet<Unit>,
    /// Whether there are more units.
    pub more_units: bool,
}

impl Summary {
    /// The most units that the message names.
    pub const MOST_UNITS: usize = 3;

    /// Adds an incident.
    pub fn add(&mut self, incident: &Incident) {
        self.incidents += 1;
        let Some(unit) = &incident.key.unit else { return };
        if self.units.len() < Self::MOST_UNITS {
            self.units.insert(unit.clone());
        } else {
            self.more_units |= !self.units.contains(unit);
        }
    }

    /// Returns the journal entry.
    #[must_use]
    pub fn entry(&self) -> AlertEntry {
        let names: Vec<String> = self.units.iter().map(|unit| shorten(unit.name.as_str(), 40)).collect();
        let whose = match (names.is_empty(), self.more_units) {
            (true, _) => String::new(),
            (false, false) => format!(" of {}", names.join(", ")),
            (false, true) => format!(" of {} and other units", names.join(", ")),
        };
        let message = format!("{} more denials{whose} without an alert of their own; see 'harden-why'", self.incidents);
        let mut entry = start_entry(shorten(&message, MAX_MESSAGE), SUMMARY, Priority::Warning);
        entry.push("HARDEN_WHY_INCIDENTS", self.incidents.to_string());
        if let (Some(only), 1, false) = (self.units.first(), self.units.len(), self.more_units) {
            push_unit(&mut entry, only);
        }
        entry
    }
}
