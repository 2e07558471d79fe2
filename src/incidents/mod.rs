//! What happened so far: sightings folded into bounded incidents, and their store.

pub mod incident;

pub use incident::{Denial, Event, Incident, Key, Moment, Sample};
