//! The daemon's outputs: alerts in the journal, and `org.hardenwhy1` on D-Bus.

pub(crate) mod access;
mod admission;
mod admitted_interface;
pub mod alert;
pub mod bus;
pub(crate) mod caveats;
pub mod client;
pub mod client_requests;
pub mod correction;
mod explanation;
pub mod journal;
mod rehearsals;
mod service;
mod subscribers;
pub mod wire;

pub use explanation::{Explanation, NoDirective};
pub use service::StatusSource;
