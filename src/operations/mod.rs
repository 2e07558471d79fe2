//! Operations on units: drop-ins, confirmation, rehearsals, bisections, the logging of refusals, taps, and recovery after a kill.
//!
//! Operations take plain requests, report progress to an observer, and never print. They reach systemd only
//! through [`service_manager`], so tests can run them against a fake.

pub(crate) mod apply;
pub(crate) mod bisection;
pub(crate) mod change_error;
pub(crate) mod confirm;
pub(crate) mod drop_in;
#[cfg(test)]
pub(crate) mod fake_manager;
pub(crate) mod instances;
pub(crate) mod interruption;
pub(crate) mod local_machine;
pub(crate) mod outcome;
pub(crate) mod own_unit;
pub(crate) mod owner_marker;
pub(crate) mod permission;
pub(crate) mod recovery;
pub(crate) mod refusal_logging;
pub(crate) mod rehearsal;
pub(crate) mod remedy_choice;
pub(crate) mod remedy_file;
pub(crate) mod requested_start;
pub(crate) mod reread;
pub(crate) mod restart;
pub(crate) mod revert;
pub(crate) mod same_file;
pub(crate) mod service_manager;
pub(crate) mod tap;
mod unfinished_files;
pub(crate) mod whole_file;
