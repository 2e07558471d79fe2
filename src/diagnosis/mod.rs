//! Finds why a call was denied, and what to change. It computes each answer on request, from the incidents and the
//! current policy, and never stores it.

#![forbid(unsafe_code)]

mod access_default;
mod access_needs;
mod access_paths;
mod access_remedy;
mod attempt_causes;
pub(crate) mod before_exec;
pub(crate) mod bisection;
pub(crate) mod cause;
pub(crate) mod default_scope;
mod denied_call;
mod device_nodes;
mod drop_in_lines;
mod drop_in_place;
pub(crate) mod errno_fallback;
mod exit_steps;
mod expected_denials;
mod failure_causes;
mod finding;
pub(crate) mod fixed;
pub(crate) mod foreseen_calls;
mod group_cover;
mod library_probes;
mod line_to_try;
pub(crate) mod portability;
mod possible_cause;
mod possible_intrusion;
pub mod privileged_calls;
mod program_calls;
mod proof;
mod rehearsal_drop_in;
pub mod relatives;
mod relax_directive;
pub(crate) mod remedy;
pub(crate) mod runtime;
mod search;
mod situation;
mod step_causes;
mod unit_diagnosis;
mod unresolved_calls;

pub(crate) use access_needs::{find_undecided, find_withholding};
pub(crate) use attempt_causes::{find_needed_capability, gives_error};
pub(crate) use before_exec::is_before_exec;
pub use cause::{DenialCause, Elsewhere};
pub use default_scope::DefaultScope;
pub use drop_in_place::find_instance_of;
pub use failure_causes::{FailureDiagnosis, FailureKind, diagnose_failure};
pub use finding::Finding;
pub use fixed::{FileChange, Fixed, History, LaterChange, TakesEffect};
pub use foreseen_calls::{DenialForecast, ForeseenCall, Likelihood, foresee_denials};
pub use possible_cause::PossibleCause;
pub use program_calls::ProgramCalls;
pub use rehearsal_drop_in::RehearsalDropIn;
pub use remedy::{OpenedCall, Remedy, RemedyKind, Reservation};
pub use runtime::Runtime;
pub use situation::Situation;
pub use unit_diagnosis::{Diagnosis, diagnose, diagnose_causes, diagnose_one};
