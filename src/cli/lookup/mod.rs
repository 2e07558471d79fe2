//! lookup.

pub(crate) mod incident_source;
pub(crate) mod silent_refusals;
pub(crate) mod unit_names;
