//! Whose process it was: the identity of a unit, cgroup paths, evidence weighed into a verdict.

#![forbid(unsafe_code)]

pub mod attribution;
pub mod cgroup;
pub mod login;
pub mod name;

pub use attribution::{Attribution, Confidence, Evidence, Rung, weigh};
pub use cgroup::{Placement, Unplaced};
pub use name::{BadManager, BadUnitName, Manager, Unit, UnitName};
