//! A tap: watches running units and processes for calls that seccomp refuses without a record.

pub(crate) mod access_evidence;
pub(crate) mod access_tally;
pub(crate) mod background;
pub(crate) mod refusals;
pub(crate) mod report;
pub(crate) mod running;
pub(crate) mod session;
mod set_id_programs;
mod sightings;
pub(crate) mod start;
pub(crate) mod targets;
