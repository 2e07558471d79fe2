//! What changes a unit: drop-ins, confirmation, rehearsals, the logging of refusals, and recovery after a kill.
//!
//! Operations take plain requests, report progress to an observer, and never print.

pub(crate) mod confirm;
pub mod drop_in;
pub(crate) mod interruption;
pub(crate) mod leftover;
pub(crate) mod outcome;
pub(crate) mod permission;
pub mod refusal_logging;
pub mod rehearsal;
