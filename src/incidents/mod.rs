//! Incidents: sightings counted in bounded memory, and their store.

mod access;
mod access_words;
mod call_site;
pub mod failure;
pub(crate) mod fair_share;
pub(crate) mod fold;
pub(crate) mod incident;
pub(crate) mod local_time;
mod outcome_words;
mod owner;
mod refused_argument;
pub mod store;

pub use access::{Access, AccessDenial, AccessPath, CapabilityLack, DeviceAccess, DeviceNode};
pub(crate) use access_words::{describe_access, name_access};
pub use call_site::{CallSite, CodePlace};
pub use failure::{AddressRole, FailedAttempt, FailedStep, UnitFailure};
pub(crate) use fair_share::{FairQueue, FairWindow};
pub use fold::{Fold, Folded, IncidentChange, RepeatSighting, Sighting, Slot};
pub use incident::{Denial, Incident, IncidentEvent, IncidentKey, Moment, Parent, Sample, SightingSource};
pub use outcome_words::describe_outcome;
pub(crate) use outcome_words::{describe_briefly, describe_event, describe_headline};
pub(crate) use owner::Owner;
pub(crate) use refused_argument::ArgumentPlace;
pub use refused_argument::KnownArgument;
pub use store::{Evicted, Query, Recorded, RehearsalSpan, ReplacedFile, RowId, Store, StoreError, Stored, UnitSummary};
