//! What happened so far: sightings folded into bounded incidents, and their store.

pub mod fold;
pub mod incident;
pub mod store;

pub use fold::{Change, Fold, Folded, Glimpse, Sighting, Slot};
pub use incident::{Denial, Event, Incident, Key, Moment, Parent, Sample, Source};
pub use store::{Forgotten, Query, Recorded, RowId, SetAside, Store, StoreError, Stored, UnitSummary};
