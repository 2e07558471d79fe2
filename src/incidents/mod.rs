//! What happened so far: sightings folded into bounded incidents, and their store.

pub mod fold;
pub mod incident;
pub(crate) mod local_time;
pub mod store;

pub use fold::{Fold, Folded, IncidentChange, RepeatSighting, Sighting, Slot};
pub use incident::{Denial, Incident, IncidentEvent, IncidentKey, Moment, Parent, Sample, SightingSource};
pub use store::{Evicted, Query, Recorded, ReplacedFile, RowId, Store, StoreError, Stored, UnitSummary};
