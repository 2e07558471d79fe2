//! What others read: alerts in the journal, `org.hardenwhy1` on D-Bus, and metrics.

pub(crate) mod access;
mod admission;
mod admitted_interface;
pub mod alert;
mod alert_fields;
pub mod alert_message;
pub mod alert_summary;
pub mod bus;
pub(crate) mod caveats;
pub mod client;
pub mod client_requests;
pub mod correction;
mod explanation;
pub mod journal;
pub mod message_ids;
pub(crate) mod metrics;
mod rehearsals;
mod service;
mod subscribers;
mod user_room;
pub mod wire;

pub use explanation::{Explanation, NoDirective};
pub use service::StatusSource;
