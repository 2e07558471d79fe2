//! rehearsal.

pub(crate) mod daemon_feed;
pub(crate) mod marker;
pub(crate) mod preflight;
pub(crate) mod recover;
pub(crate) mod session;
pub(crate) mod watch;
