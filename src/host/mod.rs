//! What one can ask this machine.

pub mod groups;
