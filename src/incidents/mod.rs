//! What happened so far: sightings folded into bounded incidents, and their store.

pub mod fold;
pub mod incident;

pub use fold::{Fold, Folded, Sighting};
pub use incident::{Denial, Event, Incident, Key, Moment, Sample};
