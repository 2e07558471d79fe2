//! The unit that a process belongs to: unit names, cgroup paths, and evidence weighed into an attribution.

#![forbid(unsafe_code)]

pub(crate) mod attribution;
pub mod cgroup;
pub(crate) mod cgroup_name;
pub(crate) mod login;
pub(crate) mod name;
pub(crate) mod rung;

pub use attribution::{Attribution, Evidence, weigh};
pub use cgroup::{Placement, Unplaced};
pub use name::{BadManager, BadUnitName, Manager, Unit, UnitName};
pub use rung::{Confidence, Rung};
