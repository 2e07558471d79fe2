//! harden-why: why did systemd's hardening kill my service, and what to change.

pub mod audit;
pub mod cli;
pub mod daemon;
pub mod diagnosis;
pub mod host;
pub mod incidents;
pub mod intake;
pub mod outlet;
pub mod pipeline;
pub mod policy;
pub mod syscalls;
pub mod units;
