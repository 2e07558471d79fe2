//! A tap: watches running units and processes for calls that seccomp refuses without a record.

pub(crate) mod refusals;
pub(crate) mod report;
pub(crate) mod session;
pub(crate) mod targets;
