//! Arguments of D-Bus methods, and the dictionaries that a client receives.

use crate::incidents::Stored;
use crate::outlet::wire::{IncidentDict, MAX_INCIDENTS, Reported, UnitDict};
use crate::units::{Manager, UnitName};
use zbus::wire::LE;
use zbus::wire::serialized::{Context, Data};

/// Reads the body of a message as each type that a caller can send.
pub(super) fn check(input: &[u8]) {
    let body = Data::new(input, Context::new(LE, 0));
    if let Ok((Reported(incidents), _)) = body.deserialize() {
        assert!(incidents.as_ref().is_none_or(|incidents: &Vec<_>| incidents.len() <= MAX_INCIDENTS as usize));
        incidents.into_iter().flatten().for_each(check_incident);
    }
    if let Ok((incident, _)) = body.deserialize::<IncidentDict>() {
        check_incident(incident);
    }
    if let Ok((unit, _)) = body.deserialize::<UnitDict>() {
        let _ = crate::incidents::UnitSummary::try_from(unit);
    }
    if let Ok(((unit, manager), _)) = body.deserialize::<(&str, &str)>() {
        check_words(unit, manager);
    }
    if let Some((unit, manager)) = str::from_utf8(input).ok().and_then(|text| text.split_once('\n')) {
        check_words(unit, manager);
    }
}

fn check_incident(incident: IncidentDict) {
    let Ok(stored) = Stored::try_from(incident) else { return };
    let again = Stored::try_from(IncidentDict::from(&stored));
    assert_eq!(again.as_ref(), Ok(&stored), "an incident is the same after both conversions");
}

fn check_words(unit: &str, manager: &str) {
    if let Ok(name) = unit.parse::<UnitName>() {
        assert_eq!(name.as_str(), unit);
        assert!(!unit.contains('/') && !unit.chars().any(char::is_control), "{unit:?} is safe as a file's name");
    }
    if let Ok(manager) = manager.parse::<Manager>() {
        assert_eq!(manager.to_string().parse(), Ok(manager));
    }
}
