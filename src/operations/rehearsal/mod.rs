//! A rehearsal: one run of a unit in which nothing is blocked and every denied call is recorded.
//!
//! [`plan`] checks everything that can fail. [`session`] writes a drop-in below `/run` that lifts what denies calls and
//! logs them instead. [`watch`] follows the unit until the rehearsal ends, and [`run`] restores the unit's own settings
//! in every case. If this process is killed, the next one restores them ([`recover`]).

pub(crate) mod daemon_feed;
pub(crate) mod feed;
pub(crate) mod marker;
pub(crate) mod plan;
pub(crate) mod recover;
pub(crate) mod run;
pub(crate) mod session;
pub(crate) mod watch;
