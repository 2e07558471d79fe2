//! What we tell others: alerts in the journal, and `org.hardenwhy1` on D-Bus.

pub mod alert;
pub mod journal;
