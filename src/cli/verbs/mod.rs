//! The verbs, one file or folder each. A verb parses its arguments, does its work, and returns a view.

pub(crate) mod apply;
pub(crate) mod bisect;
pub(crate) mod check;
pub(crate) mod demo;
pub(crate) mod each_unit;
pub(crate) mod explain;
pub(crate) mod fleet;
pub(crate) mod follow;
pub(crate) mod forget;
pub(crate) mod log_refusals;
pub(crate) mod metrics;
pub(crate) mod overview;
pub(crate) mod rehearse;
pub(crate) mod restore;
pub(crate) mod revert;
pub(crate) mod status;
pub(crate) mod syscall;
pub(crate) mod tap;
pub(crate) mod units;
