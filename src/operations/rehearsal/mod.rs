//! A rehearsal: one run of a unit in which nothing is blocked and every denied call is recorded.

pub(crate) mod daemon_feed;
pub(crate) mod marker;
pub(crate) mod preflight;
pub(crate) mod recover;
pub(crate) mod session;
pub(crate) mod watch;
