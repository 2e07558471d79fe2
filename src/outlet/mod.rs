//! What we tell others: alerts in the journal, and `org.hardenwhy1` on D-Bus.

pub mod access;
pub mod address;
pub mod alert;
pub mod bus;
pub mod client;
mod explanation;
mod gate;
mod guarded;
pub mod journal;
pub mod orders;
mod rehearsals;
pub mod wire;

pub use explanation::Explanation;
