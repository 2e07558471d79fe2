//! harden-why: why did systemd's hardening kill my service, and what to change.

pub mod audit;
pub mod incidents;
pub mod outlet;
pub mod syscalls;
pub mod units;
