//! operations.

pub(super) mod confirm;
pub mod drop_in;
pub(crate) mod interruption;
pub mod refusal_logging;
pub mod rehearsal;
