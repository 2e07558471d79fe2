//! A rehearsal: one run of a unit that blocks no call and records every call that the unit's settings deny.
//!
//! [`plan`] checks the conditions in advance. [`session`] writes a drop-in below `/run`: it lifts the directives that
//! deny calls and logs the calls instead. [`watch`] follows the unit until the rehearsal ends. [`run`] then restores
//! the unit's own settings, even after a failure, and [`last_calls`] reads the calls. [`follow_up`] adds work before
//! the unit runs again. If this process is killed, the next harden-why restores the unit's own settings ([`recover`]).

pub(crate) mod daemon_feed;
#[cfg(test)]
mod fake_rehearsal;
pub(crate) mod feed;
pub(crate) mod follow_up;
mod last_calls;
pub(crate) mod marker;
pub(crate) mod plan;
pub(crate) mod recover;
pub(crate) mod run;
pub(crate) mod session;
pub(crate) mod target;
pub(crate) mod watch;
