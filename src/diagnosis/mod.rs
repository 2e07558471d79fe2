//! Finds why a call was denied, and what to change. It computes each answer on request, from the incidents and the
//! current policy, and never stores it.

#![forbid(unsafe_code)]

pub mod before_exec;
pub mod call_profiles;
pub mod cause;
mod denied_call;
mod drop_in_lines;
pub mod equivalent_calls;
pub mod errno_fallback;
mod finding;
pub mod fixed;
mod group_cover;
mod predicted_calls;
pub mod privileged_calls;
mod proof;
mod rehearsal_drop_in;
mod relax_directive;
pub mod remedy;
pub mod runtime;
mod search;
mod situation;
mod unit_diagnosis;

pub use cause::{DenialCause, Elsewhere};
pub use finding::Finding;
pub use fixed::{FileChange, Fixed, History, TakesEffect};
pub use rehearsal_drop_in::RehearsalDropIn;
pub use remedy::{OpenedCall, Remedy, RemedyKind};
pub use runtime::Runtime;
pub use situation::Situation;
pub use unit_diagnosis::{Diagnosis, diagnose, diagnose_one};
