//! harden-why: why did systemd's hardening kill my service, and what to change.

pub mod audit;
pub mod host;
pub mod incidents;
pub mod policy;
pub mod syscalls;
pub mod units;
